"""Writes a model as Flax Linen source; imports no framework."""

from __future__ import annotations

from xlstm.converters.flax_emit import Dialect, bare, dense, emit_node
from xlstm.converters.source import (
    FOLDER,
    Parts,
    call,
    collect,
    docstring,
    imports,
    join,
    origin,
    shape_text,
    signature,
)

from xlstm.model import Dense, Model

LINEN = Dialect(
    module="nn",
    dense="Dense",
    sized=False,
    param_dtype="self.param_dtype",
    tail=(),
    rnn_tail=(),
    dropout=lambda rate: call("nn.Dropout", repr(rate)),
    drop=lambda name: f"self.{name}(x, deterministic=not train)",
)


def _class(model: Model, parts: Parts) -> list[str]:
    before, after = model.node(model.inputs[0]), model.node(model.outputs[0])
    return [
        "class Model(nn.Module):",
        f'    """{shape_text(before.shape)} -> {shape_text(after.shape)}."""',
        "",
        f"    param_dtype: DTypeLike = jnp.{model.compute_dtype().name}",
        "",
        "    def setup(self) -> None:",
        *(parts.init or ["        pass"]),
        "",
        "    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:",
        f'        """One output for a batch of inputs {shape_text(before.shape)}."""',
        "        x = jnp.asarray(x, self.param_dtype)",
        *parts.forward,
        "        return x",
    ]


def _functions(model: Model, made: str, make: str) -> list[list[str]]:
    default = f"dtype: DTypeLike = jnp.{model.compute_dtype().name}"
    pair = f"tuple[{made}, dict[str, Any]]"
    return [
        [
            *signature("build", pair, "weights: Mapping[str, ArrayLike]", default),
            '    """The module and its variables with these weights, by dotted name."""',
            "    flat = {",
            '        tuple(name.split(".")): jnp.asarray(array, dtype)',
            "        for name, array in weights.items()",
            "    }",
            f"    return {make}, traverse_util.unflatten_dict(flat)",
        ],
        [
            *signature("load", pair, FOLDER, default),
            '    """The module and the trained variables that lie in `folder`."""',
            '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)',
        ],
    ]


def emit(model: Model) -> str:
    """Source text of `model.py` for Flax Linen."""
    node = model.layers[0]
    lone = model.lone and bare(node.spec)
    parts = Parts() if lone else collect(model, emit_node(LINEN))
    made, make = "Model", "Model(param_dtype=dtype)"
    if lone and isinstance(node.spec, Dense):
        layer = str(dense(node.spec, LINEN))
        made, make = layer.split("(")[0], layer.replace("self.param_dtype", "dtype")
    head = docstring(
        f"A Flax Linen module ported from {origin(model)}.",
        "Needs flax and safetensors. `module, variables = load()` gives the module and its trained",
        "weights; `module.apply(variables, x)` runs it.",
    )
    third = ["import flax.linen as nn", "import jax.numpy as jnp", "from flax import traverse_util"]
    third += [
        "from jax.typing import ArrayLike, DTypeLike",
        "from safetensors.flax import load_file",
    ]
    third += [] if lone else ["import jax"]
    standard = [
        "from collections.abc import Mapping",
        "from pathlib import Path",
        "from typing import Any",
    ]
    head += imports(standard, third)
    helpers = [[text] for text in parts.helpers]
    body = [] if lone else _class(model, parts)
    return join([head, *helpers, body, *_functions(model, made, make)])
