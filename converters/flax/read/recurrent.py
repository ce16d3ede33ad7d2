"""Converts live Linen and NNX cells and wrappers to canonical specs.

In: a cell or a wrapper. Out: a FlaxCell.

    nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs))    LSTM(3, 4, return_sequences=True)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import flax

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.batch_axes import on_axes
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.source import Source
from xlstm.ir.types import Array

from ..live.common import activation, check_dtype

CARRY_FIRST = "the source returns (carry, output), an LSTM's carry as (c, h); here: output, h, c"


def cell_spec(cell: Any, name: str, features: int, units: int, where: str) -> L.Recurrent:
    """Returns the spec of a live cell, which returns sequences.

    Args:
        cell: a Linen or an NNX cell.
        name: the class of the cell.
        features: size of its input.
        units: size of its state.
        where: its name in errors.

    Raises:
        UnsupportedError: an option that no spec has.
    """
    check_dtype(cell, where)
    fn = activation(cell.activation_fn, where)
    if name == "SimpleCell":
        # it would add its state to its output
        if cell.residual:
            do = "use a cell without residual"
            raise UnsupportedError(where, "residual=False", "residual=True", do)
        return L.SimpleRNN(features, units, fn, return_sequences=True)
    gate = activation(cell.gate_fn, where)
    if name == "GRUCell":
        # NNX's has no bias on the recurrent product
        own = type(cell).__module__.startswith("flax.linen")
        return L.GRU(features, units, fn, gate, hidden_bias=own, return_sequences=True)
    return L.LSTM(features, units, fn, gate, return_sequences=True)


def check_start(default: bool, where: str) -> None:
    """Raises UnsupportedError for a cell that may have initial states other than zeros."""
    if not default:
        do = "pass a cell that starts from zeros"
        raise UnsupportedError(where, "a carry of zeros", "carry_init of its own", do)


@dataclass(frozen=True)
class FlaxCell:
    """A live module in canonical form.

    Attributes:
        spec: its layer.
        hub: its canonical weights.
        turned: True if the output is reversed in time after the layer.
        notes: differences to the calling convention of the original.
        time_major: True if the original has time before the batch.
    """

    spec: L.LayerSpec
    hub: Mapping[str, Array]
    turned: bool = False
    notes: tuple[str, ...] = ()
    time_major: bool = False


def walked(cell: FlaxCell, wrapper: Any) -> FlaxCell:
    """Returns a cell in an RNN wrapper with its options."""
    spec: Any = cell.spec
    spec = replace(spec, go_backwards=wrapper.reverse, return_state=wrapper.return_carry)
    turned = wrapper.reverse and wrapper.keep_order
    return FlaxCell(spec, cell.hub, turned, _notes(wrapper), wrapper.time_major)


def check_halves(wrapper: Any, rnn: type, where: str) -> None:
    """Raises UnsupportedError unless a Bidirectional joins two RNNs as it does by default."""
    do = "pass the layers one by one"
    for half in (wrapper.forward_rnn, wrapper.backward_rnn):
        if type(half) is not rnn:
            raise UnsupportedError(where, "two RNNs of cells", type(half).__name__, do)
    if wrapper.forward_rnn is wrapper.backward_rnn:
        do = "give each half a cell of its own"
        raise UnsupportedError(where, "two RNNs", "one RNN as both halves", do)
    merge = wrapper.merge_fn
    if merge is not type(wrapper).merge_fn:
        got, do = getattr(merge, "__name__", repr(merge)), "merge after the layer"
        raise UnsupportedError(where, "the default merge_fn, which concatenates", got, do)


def joined(forward: FlaxCell, backward: FlaxCell, wrapper: Any) -> FlaxCell:
    """Returns two cells in a Bidirectional wrapper, which overrides the options of its RNNs."""
    first: Any = forward.spec
    second: Any = backward.spec
    spec = L.Bidirectional(
        replace(first, return_state=wrapper.return_carry),
        replace(second, return_state=wrapper.return_carry, go_backwards=True),
    )
    weights = {f"forward_{name}": array for name, array in forward.hub.items()}
    weights |= {f"backward_{name}": array for name, array in backward.hub.items()}
    return FlaxCell(spec, weights, notes=_notes(wrapper), time_major=wrapper.time_major)


def _notes(wrapper: Any) -> tuple[str, ...]:
    return (CARRY_FIRST,) if wrapper.return_carry else ()


def origin(framework: str, container: str, notes: tuple[str, ...] = ()) -> Source:
    """Returns the source of a live module."""
    return Source(framework, flax.__version__, container, notes=notes)


def as_model(found: FlaxCell, framework: str, container: str) -> Model:
    """Returns a live module as a Model of one layer, and of a Reverse layer if reversed."""
    spec, graph = found.spec, Builder()
    part = spec.weighted_parts[0][1]
    features = part.sizes()["i"]
    steps = (None,) if isinstance(spec, (L.Recurrent, L.Bidirectional)) else ()
    space = part.space if isinstance(part, L.ConvLSTM) else ()
    name = spec.kind.lower()
    x = graph.add("input", L.Input((*steps, *space, features)))
    y = graph.add(name, spec, [x])
    states = [Edge(name, number) for number in range(1, len(graph.nodes[-1].shapes))]
    if found.turned:
        y = graph.add("reverse", L.Reverse(), [y])
    source = origin(framework, container, found.notes)
    outputs = (y, *states)
    weights = {name: found.hub}
    lone, late = not found.turned, int(found.time_major)
    model = Model(name, graph.nodes, ("input",), outputs, weights, source, lone=lone)
    return on_axes(model, [late], [late, *(0 for _ in states)])
