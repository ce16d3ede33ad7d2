"""Writes a model as Flax NNX source; imports no framework."""

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
    statement,
)

from xlstm.model import Dense, Dropout, Model

NNX = Dialect(
    module="nnx",
    dense="Linear",
    sized=True,
    param_dtype="param_dtype",
    tail=(("rngs", "rngs"),),
    # without rngs=False the wrapper keeps a counter that changes at every call
    rnn_tail=(("rngs", "False"),),
    dropout=lambda rate: call("nnx.Dropout", repr(rate), ("rngs", "rngs")),
    drop=lambda name: f"self.{name}(x)",
)


def _class(model: Model, parts: Parts) -> list[str]:
    before, after = model.node(model.inputs[0]), model.node(model.outputs[0])
    return [
        "class Model(nnx.Module):",
        f'    """{shape_text(before.shape)} -> {shape_text(after.shape)}."""',
        "",
        "    def __init__(self, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:",
        "        self.param_dtype = param_dtype",
        *parts.init,
        "",
        "    def __call__(self, x: jax.Array) -> jax.Array:",
        f'        """One output for a batch of inputs {shape_text(before.shape)}."""',
        "        x = jnp.asarray(x, self.param_dtype)",
        *parts.forward,
        "        return x",
    ]


def _default(model: Model) -> str:
    return f"dtype: DTypeLike = jnp.{model.compute_dtype().name}"


def _build(model: Model, made: str, make: list[str]) -> list[str]:
    dropout = any(isinstance(node.spec, Dropout) for node in model.layers)
    return [
        *signature("build", made, "weights: Mapping[str, ArrayLike]", _default(model)),
        '    """The model with these weights, by dotted name, in evaluation mode."""',
        *make,
        "    params = nnx.to_flat_state(nnx.state(model, nnx.Param))",
        '    names = {".".join(map(str, path)) for path, _ in params}',
        "    if names != set(weights):",
        '        raise ValueError(f"weights that do not fit: {sorted(names ^ set(weights))}")',
        "    filled = [",
        '        (path, param.replace(jnp.asarray(weights[".".join(map(str, path))], dtype)))',
        "        for path, param in params",
        "    ]",
        "    nnx.update(model, nnx.from_flat_state(filled))",
        *(["    nnx.reseed(model, dropout=0)"] if dropout else []),
        "    model.eval()",
        "    return model",
    ]


def _load(model: Model, made: str) -> list[str]:
    return [
        *signature("load", made, FOLDER, _default(model)),
        '    """The model with the trained weights that lie in `folder`."""',
        '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)',
    ]


def _make(model: Model) -> tuple[str, list[str]]:
    """Type of what build returns, and the lines that make it without random numbers."""
    node = model.layers[0]
    if model.lone and isinstance(node.spec, Dense) and bare(node.spec):
        layer = dense(node.spec, NNX)
        given = {("param_dtype", "param_dtype"): "dtype", ("rngs", "rngs"): "nnx.Rngs(0)"}
        args = [(arg[0], given[arg]) if arg in given else arg for arg in layer.args]
        made = call("nnx.eval_shape", f"lambda: {call(layer.name, *args)}")
        return layer.name, statement("model = ", made, 4)
    made = call("Model", ("param_dtype", "dtype"), ("rngs", "nnx.Rngs(params=0, dropout=0)"))
    return "Model", [
        "    # eval_shape: shapes only, no time spent on random weights",
        *statement("model = ", call("nnx.eval_shape", f"lambda: {made}"), 4),
    ]


def emit(model: Model) -> str:
    """Source text of `model.py` for Flax NNX."""
    made, make = _make(model)
    lone = made != "Model"
    parts = Parts() if lone else collect(model, emit_node(NNX))
    head = docstring(
        f"A Flax NNX module ported from {origin(model)}.",
        "Needs flax and safetensors. `load()` gives the model with its trained weights. Call it",
        "through `nnx.jit`: an eager call traces every recurrent layer anew.",
    )
    third = [
        "import jax.numpy as jnp",
        "from flax import nnx",
        "from jax.typing import ArrayLike, DTypeLike",
    ]
    third += ["from safetensors.flax import load_file", *([] if lone else ["import jax"])]
    head += imports(["from collections.abc import Mapping", "from pathlib import Path"], third)
    helpers = [[text] for text in parts.helpers]
    body = [] if lone else _class(model, parts)
    return join([head, *helpers, body, _build(model, made, make), _load(model, made)])
