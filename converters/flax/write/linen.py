"""Writes a model as Flax Linen source; imports no framework.

In: a model. Out: source text. `Dense(3, 2)`, named a, becomes

    self.a = nn.Dense(2, param_dtype=self.param_dtype)
    x = self.a(x)
"""

from __future__ import annotations

from xlstm.ir.graph import Model
from xlstm.ir.layers import Dense
from xlstm.ir.literals import literal

from ...codegen.custom_layers import checked, merged
from ...codegen.source import (
    FOLDER,
    ModuleSource,
    axes_words,
    call,
    class_doc,
    docstring,
    join,
    origin,
    returned,
    signature,
    write_layers,
)
from ..slots import LINEN_DEFAULT
from .dialect import Dialect
from .elementwise import dense_made
from .layers import bare, emit_node
from .module import STATE_OPTION, call_signature, import_lines, need_states, state_blocks, stream

LINEN = Dialect(
    module="nn",
    file="flax/templates/linen_recurrent.py",
    layers="flax/templates/linen_layers.py",
    cells=LINEN_DEFAULT,
    dense="Dense",
    sized=False,
    param_dtype="self.param_dtype",
    tail=(),
    rnn_tail=(),
    dropout=lambda rate, *more: call("nn.Dropout", literal(rate), *more),
    conv_lstm=True,
    attend="",
    weights="nn.dot_product_attention_weights",
    training=lambda keyword: (keyword, "not train"),
)


def _class(model: Model, parts: ModuleSource) -> list[str]:
    options = ["*", *([STATE_OPTION] if model.stateful else []), "train: bool = False"]
    return [
        "class Model(nn.Module):",
        *class_doc(model),
        "",
        f"    param_dtype: DTypeLike = jnp.{model.compute_dtype().name}",
        "",
        "    def setup(self) -> None:",
        *(parts.init or ["        pass"]),
        "",
        *call_signature(model, parts, options),
        *parts.forward,
        *returned(model, parts),
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


HELD = {"module": "Model", "variables": "dict[str, Any]"}


def emit(model: Model) -> str:
    """Returns the source text of `model.py` for Flax Linen."""
    node = model.layers[0]
    lone = model.lone and bare(node.spec)
    parts = ModuleSource() if lone else write_layers(model, emit_node(LINEN))
    if model.stateful:
        need_states(parts)
    made, make = "Model", "Model(param_dtype=dtype)"
    if lone and isinstance(node.spec, Dense):
        layer = str(dense_made(node.spec, LINEN))
        made, make = layer.split("(")[0], layer.replace("self.param_dtype", "dtype")
    inputs = "*inputs" if len(model.inputs) > 1 else "x"
    state = ", state=state" if model.stateful else ""
    head = docstring(
        f"A Flax Linen module ported from {origin(model)}.",
        "Needs flax and safetensors. `module, variables = load()` gives the module and its trained",
        f"weights; `module.apply(variables, {inputs}{state})` runs it.",
        *axes_words(model),
    )
    blocks = [
        *([text] for text in parts.helpers),
        *state_blocks(model),
        [] if lone else _class(model, parts),
        *_functions(model, made, make),
        stream(model, parts, "jax.jit(module.apply)", HELD),
    ]
    head += merged(import_lines(join(blocks)), parts)
    return checked(join([head, *blocks]), parts)
