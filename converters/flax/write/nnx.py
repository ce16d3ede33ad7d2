"""Writes a model as Flax NNX source; imports no framework.

In: a model. Out: source text. `Dense(3, 2)`, named a, becomes

    self.a = nnx.Linear(3, 2, param_dtype=param_dtype, rngs=rngs)
    x = self.a(x)
"""

from __future__ import annotations

from xlstm.ir.graph import Model
from xlstm.ir.layers import Dense, LayerSpec
from xlstm.ir.layers.custom import kind_of
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
    statement,
    write_layers,
)
from ..slots import NNX_DEFAULT
from .dialect import Dialect
from .elementwise import dense_made
from .layers import bare, draws, emit_node
from .module import STATE_OPTION, call_signature, import_lines, need_states, state_blocks, stream

NNX = Dialect(
    module="nnx",
    file="flax/templates/nnx_recurrent.py",
    layers="flax/templates/nnx_layers.py",
    cells=NNX_DEFAULT,
    dense="Linear",
    sized=True,
    param_dtype="param_dtype",
    tail=(("rngs", "rngs"),),
    # without rngs=False the wrappers have a counter that changes at every call
    rnn_tail=(("rngs", "False"),),
    dropout=lambda rate, *more: call("nnx.Dropout", literal(rate), *more, ("rngs", "rngs")),
    conv_lstm=False,
    attend="attend",
    weights="dot_product_attention_weights",
    training=lambda _keyword: None,
)


def _class(model: Model, parts: ModuleSource) -> list[str]:
    return [
        "class Model(nnx.Module):",
        *class_doc(model),
        "",
        "    def __init__(self, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:",
        "        self.param_dtype = param_dtype",
        *parts.init,
        "",
        *call_signature(model, parts, [STATE_OPTION] if model.stateful else []),
        *parts.forward,
        *returned(model, parts),
    ]


def _default(model: Model) -> str:
    return f"dtype: DTypeLike = jnp.{model.compute_dtype().name}"


def _statistics(spec: LayerSpec) -> bool:
    """True if a layer has statistics, which training does not change by gradients."""
    return any(kind_of(part).statistics for _, part in spec.weighted_parts)


def _build(model: Model, made: str, make: list[str]) -> list[str]:
    statistics = any(_statistics(node.spec) for node in model.layers)
    kinds = "(nnx.Param, nnx.BatchStat)" if statistics else "nnx.Param"
    drawing = draws(model)
    found = "found" if drawing else "set(weights)"
    return [
        *signature("build", made, "weights: Mapping[str, ArrayLike]", _default(model)),
        '    """The model with these weights, by dotted name, in evaluation mode."""',
        *make,
        f"    params = nnx.to_flat_state(nnx.state(model, {kinds}))",
        '    names = {".".join(map(str, path)) for path, _ in params}',
        *(_without_draws() if drawing else []),
        f"    if names != {found}:",
        f'        raise ValueError(f"weights that do not fit: {{sorted(names ^ {found})}}")',
        "    filled = [",
        '        (path, param.replace(jnp.asarray(weights[".".join(map(str, path))], dtype)))',
        "        for path, param in params",
        "    ]",
        "    nnx.update(model, nnx.from_flat_state(filled))",
        *(["    nnx.reseed(model, dropout=0)"] if drawing else []),
        "    model.eval()",  # evaluation mode, no code is evaluated
        "    return model",
    ]


def _without_draws() -> list[str]:
    """Returns lines that drop the state of random numbers in a file of a trained module."""
    return [
        "    # a trained model saves the state of its random numbers too: below it starts anew",
        "    drawn = nnx.to_flat_state(nnx.state(model, nnx.RngState))",
        '    found = set(weights) - {".".join(map(str, path)) for path, _ in drawn}',
    ]


def _load(model: Model, made: str) -> list[str]:
    return [
        *signature("load", made, FOLDER, _default(model)),
        '    """The model with the trained weights that lie in `folder`."""',
        '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)',
    ]


MANY = 64
"""Number of layers from which a build spends most time on traced counters of random numbers."""


def _make(model: Model) -> tuple[str, list[str]]:
    """Returns the type of build's result, and the lines that make it without random numbers."""
    node = model.layers[0]
    if model.lone and isinstance(node.spec, Dense) and bare(node.spec):
        layer = dense_made(node.spec, NNX)
        given = {("param_dtype", "param_dtype"): "dtype", ("rngs", "rngs"): "nnx.Rngs(0)"}
        args = [(arg[0], given[arg]) if arg in given else arg for arg in layer.args]
        made = call("nnx.eval_shape", f"lambda: {call(layer.name, *args)}")
        return layer.name, statement("model = ", made, 4)
    rngs = "untraced_rngs()" if _many(model) else "nnx.Rngs(params=0, dropout=0)"
    made = call("Model", ("param_dtype", "dtype"), ("rngs", rngs))
    return "Model", [
        "    # eval_shape: shapes only, no time spent on random weights",
        *statement("model = ", call("nnx.eval_shape", f"lambda: {made}"), 4),
    ]


def _many(model: Model) -> bool:
    return len(model.layers) >= MANY


RUN = "nnx.jit(lambda model, *inputs, state: model(*inputs, state=state))"


def emit(model: Model) -> str:
    """Returns the source text of `model.py` for Flax NNX."""
    lone = model.lone and bare(model.layers[0].spec)
    parts = ModuleSource() if lone else write_layers(model, emit_node(NNX))
    if model.stateful:
        need_states(parts)
    if _many(model):
        parts.use_template(NNX.layers, "untraced_rngs")
    head = docstring(
        f"A Flax NNX module ported from {origin(model)}.",
        "Needs flax and safetensors. `load()` gives the model with its trained weights. Call it",
        "through `nnx.jit`: an eager call traces every recurrent layer anew.",
        *axes_words(model),
    )
    blocks = [
        *([text] for text in parts.helpers),
        *state_blocks(model),
        [] if lone else _class(model, parts),
        _build(model, *_make(model)),
        _load(model, _make(model)[0]),
        stream(model, parts, RUN, {"model": "Model"}),
    ]
    head += merged(import_lines(join(blocks)), parts)
    return checked(join([head, *blocks]), parts)
