"""Equinox for xlstm, the half that does not import it: slots, refusals, source text.

xlstm.port("model.h5", "equinox")       an equinox.Module, called with one sample
"""

from dataclasses import fields

from xlstm.errors import UnsupportedError
from xlstm.frameworks.adapter import Adapter
from xlstm.ir import kinds
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.slots import FOLD, Slot, Table

TABLES = {
    # equinox/nn/_rnn.py: the rows of the weights are the gates i f g o; there is one bias
    "LSTMCell": Table(
        kinds.LSTM,
        (
            Slot("weight_ih", "kernel", "(gh)i", "ifgo"),
            Slot("weight_hh", "recurrent", "(gh)j", "ifgo"),
            Slot("bias", "bias", "(gh)", "ifgo", {"s": FOLD}),
        ),
    ),
    # the reset gate multiplies bias_n, which is therefore not added to the first bias
    "GRUCell": Table(
        kinds.GRU,
        (
            Slot("weight_ih", "kernel", "(gh)i", "rzn"),
            Slot("weight_hh", "recurrent", "(gh)j", "rzn"),
            Slot("bias", "bias", "(gh)", "rzn", {"s": FOLD}, unfolded_gates="n"),
            Slot("bias_n", "bias", "h", fixed={"g": "n", "s": 1}),
        ),
    ),
    "Linear": Table(kinds.DENSE, (Slot("weight", "kernel", "oi"), Slot("bias", "bias", "o"))),
    "Embedding": Table(kinds.EMBEDDING, (Slot("weight", "table", "vo"),)),
}
"""Class of equinox.nn -> its table."""

ACTIVATIONS = {
    "linear": "",
    "relu": "jax.nn.relu",
    "sigmoid": "jax.nn.sigmoid",
    "softmax": "jax.nn.softmax",
    "tanh": "jnp.tanh",
}

OPTIONS = {
    L.LSTM: "features units use_bias return_sequences dropout recurrent_dropout",
    L.GRU: "features units use_bias hidden_bias return_sequences dropout recurrent_dropout",
    L.Dense: "features units use_bias activation",
    L.Embedding: "rows units mask_zero",
    L.Dropout: "rate",
}
"""Layer -> its options that may have any value; all others must have their default."""


UNSUPPORTED = {
    **{
        f"layer/{kind}": f"this adapter has no {kind}"
        for kind in L.SPECS
        if kind not in ("LSTM GRU Dense Embedding Dropout TimeDistributed Input Custom").split()
    },
    **{
        f"option/{names}": "the cells of Equinox have no such option"
        for names in ("LSTM-relu", "LSTM-hard*", "LSTM-back*", "GRU-reset*", "SimpleRNN*")
    },
    **{f"option/{name}-*": f"no {name}" for name in ("Bidirectional", "Conv", "LayerNorm")},
    **{f"{group}/*": "layers follow one another" for group in ("mask", "state", "shared")},
    **{f"training/{names}": "Dropout only" for names in ("Spatial*", "Gauss*", "Alpha*", "Batch*")},
}
"""Cases of `xlstm.testing.conformance` that this adapter refuses, and the reason."""


def layer_of(node: Node) -> L.LayerSpec:
    """The layer of a node, without a TimeDistributed around it."""
    return node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec


def unsupported_reason(node: Node) -> str:
    """The reason why there is no exact form of a layer here, "" if there is one."""
    spec = layer_of(node)
    if type(spec) not in OPTIONS:
        return f"{spec.kind}; this adapter has {', '.join(cls.kind for cls in OPTIONS)}"
    if spec is not node.spec and isinstance(spec, L.Recurrent):
        return f"TimeDistributed({spec.kind})"
    if node.mask or node.states or node.layer:
        return f"{spec.kind} with a mask, an initial state, or called twice"
    if getattr(spec, "activation", "tanh") not in ACTIVATIONS:
        return f"activation {spec.activation}"
    free = OPTIONS[type(spec)].split()
    other = [f.name for f in fields(spec) if getattr(spec, f.name) != f.default]
    other = [name for name in other if name not in free]
    return f"{spec.kind} with {', '.join(other)}" if other else ""


HEAD = '''"""A port of a trained model, written by xlstm-equinox. `load()` gives the trained model.

It takes one sample, as Equinox does; use `jax.vmap(model)` for a batch.
For training, use `equinox.nn.inference_mode(model, False)` and pass `key=`.
"""

from operator import attrgetter
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
from equinox import nn
from safetensors.numpy import load_file


def over_steps(cell, x_TI, every):
    """The output of a cell after every step, or after the last one."""
    h = jnp.zeros(cell.hidden_size, x_TI.dtype)
    pair = isinstance(cell, nn.LSTMCell)

    def step(state, x_I):
        state = cell(x_I, state)
        return state, state[0] if pair else state

    last, h_TH = jax.lax.scan(step, (h, h) if pair else h, x_TI)
    return h_TH if every else last[0] if pair else last


class Model(eqx.Module):
    """{layers}."""

'''

TAIL = '''

NAMES = {names}


def build(weights, dtype="float32"):
    """The model with these weights by name; dropout does nothing until training is switched on."""
    made = Model(jax.random.key(0), dtype)
    arrays = [jnp.asarray(weights[name], dtype) for name in NAMES]
    made = eqx.tree_at(lambda m: [attrgetter(name)(m) for name in NAMES], made, arrays)
    return nn.inference_mode(made)


def load(file=None):
    """The model with the weights of a file, by default the one beside this module."""
    return build(load_file(file or Path(__file__).with_name("weights.safetensors")))
'''


def _constructor(spec: L.LayerSpec) -> str:
    if isinstance(spec, L.Dropout):
        return f"nn.Dropout({spec.rate!r})"
    if isinstance(spec, L.Embedding):
        return f"nn.Embedding({spec.rows}, {spec.units}, dtype=dtype, key=key)"
    name = "Linear" if isinstance(spec, L.Dense) else f"{spec.kind}Cell"
    more = "" if spec.use_bias else "use_bias=False, "
    return f"nn.{name}({spec.features}, {spec.units}, {more}dtype=dtype, key=key)"


def _lines(spec: L.LayerSpec, module: str, rank: int, number: int) -> list[str]:
    """Lines of `__call__` for one layer, whose input x has `rank` axes, without the batch."""
    if isinstance(spec, L.Recurrent):
        return [f"x = over_steps({module}, x, {spec.return_sequences})"]
    if isinstance(spec, L.Dropout):
        return [f"x = {module}(x, key=None if key is None else jax.random.fold_in(key, {number}))"]
    seen = rank if isinstance(spec, L.Embedding) else rank - 1
    given = "x.astype(jnp.int32)" if isinstance(spec, L.Embedding) else "x"
    found = [f"x = {'jax.vmap(' * seen}{module}{')' * seen}({given})"]
    function = ACTIVATIONS[getattr(spec, "activation", "linear")]
    return [*found, f"x = {function}(x)"] if function else found


def emit(model: Model) -> str:
    """Source text of `model.py`: a chain of layers."""
    edges = [Edge(name) for name in (*model.inputs, *(node.name for node in model.layers))]
    read = [*(edge for node in model.layers for edge in node.inputs), *model.outputs]
    if read != edges:
        want, do = "layers one after the other, with one input and one output", "port elsewhere"
        raise UnsupportedError("port to Equinox", want, "another graph", do)
    names = identifiers(model)
    declared, made, called, tensors = [], [], [], []
    for number, node in enumerate(model.layers):
        spec, name = layer_of(node), names[node.name]
        made.append(f"        self.{name} = {_constructor(spec)}")
        declared.append(f"    {name}: {made[-1].partition(' = ')[2].partition('(')[0]}")
        rank = len(model.shape(node.inputs[0]))
        called += [f"        {line}" for line in _lines(spec, f"self.{name}", rank, number)]
        for place in ADAPTER.weight_placements(node):
            slots = place.table.present_slots(place.part.missing_tensors())
            tensors += [f"{name}.{slot.name}" for slot in slots]
    listed = ", ".join(node.spec.kind for node in model.layers)
    init = ["", "    def __init__(self, key, dtype):", *made]
    call = ["", "    def __call__(self, x, *, key=None):", *called, "        return x", ""]
    named = "".join(f'    "{name}",\n' for name in tensors)
    body = "\n".join([*declared, *init, *call])
    return HEAD.format(layers=listed) + body + TAIL.format(names=f"(\n{named})")


ADAPTER = Adapter(
    name="equinox",
    title="Equinox",
    package="equinox",
    extra="",
    live_module="xlstm_equinox.live",
    runtime_packages=("jax", "jaxlib"),
    tables=TABLES,
    default={
        "LSTM": "LSTMCell",
        "GRU": "GRUCell",
        "Dense": "Linear",
        "Embedding": "Embedding",
    },
    unsupported_reason=unsupported_reason,
    root_modules=("equinox.",),
    training={"Dropout": True},
    unsupported_cases=UNSUPPORTED,
    emit=emit,
)
