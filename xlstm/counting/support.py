"""The support of every target for every layer and option: native, an exact own cell, or refused.

The table is computed from the adapters' own tables: `python -m xlstm.counting.support` prints it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import check_supported
from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge, Model, Node
from xlstm.ir.layers.custom import unwrap_time_distributed

NATIVE, OWN, REFUSED = "native", "own cell", "refused"
REGISTERED = "the code that you registered"


@dataclass(frozen=True)
class Support:
    """Support of one target for one layer: "native", "own cell" or "refused", and the reason."""

    word: str
    why: str = ""

    def __str__(self) -> str:
        return f"{self.word}: {self.why}" if self.why else self.word


def verdict(node: Node, adapter: Adapter) -> Support:
    """The support of a target for a layer of a model."""
    try:
        check_supported(node, adapter)
    except UnsupportedError as error:
        return Support(REFUSED, error.got)
    if isinstance(unwrap_time_distributed(node.spec), L.Custom):
        return Support(REGISTERED)
    why = adapter.own_cell_reason(node)
    return Support(OWN, why) if why else Support(NATIVE)


def verdicts(model: Model, adapter: Adapter) -> Iterator[tuple[str, Support]]:
    """Name of each layer of a model, and the support of a target for it."""
    for node in model.layers:
        if not node.layer:
            yield node.name, verdict(node, adapter)


SEQUENCE: dict[str, Any] = {"return_sequences": True}

LAYERS: dict[str, L.Recurrent] = {
    "LSTM": L.LSTM(3, 4, **SEQUENCE),
    "GRU": L.GRU(3, 4, **SEQUENCE),
    "GRU, reset_after=False": L.GRU(3, 4, reset_after=False, **SEQUENCE),
    "SimpleRNN": L.SimpleRNN(3, 4, **SEQUENCE),
    "ConvLSTM2D": L.ConvLSTM(
        3, 4, space=(6, 5), window=(3, 3), strides=(1, 1), dilation=(1, 1), **SEQUENCE
    ),
}
"""One layer of each kind; ConvLSTM1D and ConvLSTM3D are like ConvLSTM2D."""

SHARED: dict[str, dict[str, Any]] = {
    "as it is": {},
    "last output only": {"return_sequences": False},
    "use_bias=False": {"use_bias": False},
    "activation relu": {"activation": "relu"},
    "any other activation": {"activation": "softsign"},
    "go_backwards": {"go_backwards": True},
    "return_state": {"return_state": True},
    "stateful": {"stateful": True},
    "dropout, recurrent_dropout": {"dropout": 0.1, "recurrent_dropout": 0.1},
}
"""Options that every recurrent layer has."""

GATED: dict[str, dict[str, Any]] = {
    "hard_sigmoid of Keras 3": {"gate_activation": "hard_sigmoid"},
    "hard_sigmoid of Keras 1 and 2": {"gate_activation": "hard_sigmoid_keras2"},
    "any other recurrent activation": {"gate_activation": "softsign"},
}

OWN_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "LSTM": {"projection": {"projection": 2}, "peepholes": {"peepholes": True}},
    "GRU": {"no bias in the candidate's recurrent product": {"hidden_bias": False}},
}


KERAS, KERAS_2, TORCH, NNX, NOTHING = (
    "Keras",
    "Keras 1 and 2",
    "PyTorch",
    "Flax NNX",
    "no framework",
)
"""Sources of layers; tests build each row's layer in its source, and read it."""

SOURCES = {
    "hard_sigmoid of Keras 1 and 2": KERAS_2,
    "projection": TORCH,
    "peepholes": NOTHING,
    "no bias in the candidate's recurrent product": NNX,
}
"""Option -> its source, if that is not Keras 3."""


class SupportRow(NamedTuple):
    """A layer with an option, as a node, and its source."""

    layer: str
    option: str
    node: Node

    @property
    def source(self) -> str:
        """The framework whose layer this is."""
        return SOURCES.get(self.option, KERAS)


def _options(name: str, spec: L.Recurrent) -> Iterator[tuple[str, L.LayerSpec]]:
    found = {**SHARED, **(GATED if hasattr(spec, "gate_activation") else {})}
    for option, values in {**found, **OWN_OPTIONS.get(name, {})}.items():
        yield option, replace(spec, **values)


def _bidirectional(spec: L.Recurrent) -> Iterator[tuple[str, L.Bidirectional]]:
    """Both directions with Keras's options: masked steps of a sequence are zeros."""
    spec = replace(spec, zero_output_for_mask=True)
    back = replace(spec, go_backwards=True)
    for merge in ("concat", "sum", "mul", "ave", "none"):
        yield f"Bidirectional, merge {merge}", L.Bidirectional(spec, back, merge)
    last = replace(spec, return_sequences=False, zero_output_for_mask=False)
    yield "Bidirectional, last output", L.Bidirectional(last, replace(last, go_backwards=True))
    if not isinstance(spec, L.ConvLSTM):
        other = L.SimpleRNN if isinstance(spec, L.LSTM) else L.LSTM
        unlike = other(spec.features, 5, **SEQUENCE, go_backwards=True, zero_output_for_mask=True)
        yield "Bidirectional, unlike halves", L.Bidirectional(spec, unlike)
    stateful = replace(spec, stateful=True), replace(back, stateful=True)
    yield "Bidirectional, stateful", L.Bidirectional(*stateful)
    yield "Bidirectional, mask", L.Bidirectional(spec, back)


def node_of(spec: L.LayerSpec, *, mask: bool = False, states: bool = False) -> Node:
    """A layer with its edges."""
    return graph_of(spec, mask=mask, states=states)[-1]


def graph_of(spec: L.LayerSpec, *, mask: bool = False, states: bool = False) -> tuple[Node, ...]:
    """A layer in the smallest graph around it: the inputs that it reads, then the layer."""
    graph, core = Builder(), spec.forward if isinstance(spec, L.Bidirectional) else spec
    assert isinstance(core, L.Recurrent)
    space = core.space if isinstance(core, L.ConvLSTM) else ()
    x = graph.add("x", L.Input((None, *space, core.features), batch=8))
    keep = graph.add("keep", L.Input((None,), "bool")) if mask else None
    starts: list[Edge] = []
    if states:
        shapes = spec.state_shapes()  # type: ignore[attr-defined]
        starts = [graph.add(f"start_{n}", L.Input(shape)) for n, shape in enumerate(shapes)]
    graph.add("layer", spec, [x], mask=keep, states=starts)
    return graph.nodes


def rows() -> Iterator[SupportRow]:
    """The whole product of layers and options."""
    for name, spec in LAYERS.items():
        for option, found in _options(name, spec):
            yield SupportRow(name, option, node_of(found))
        yield SupportRow(name, "initial_state", node_of(spec, states=True))
        yield SupportRow(name, "mask", node_of(spec, mask=True))
        states = replace(spec, return_state=True)
        yield SupportRow(name, "mask, return_state", node_of(states, mask=True))
        zeros = replace(spec, zero_output_for_mask=True)
        yield SupportRow(name, "mask, zero_output_for_mask", node_of(zeros, mask=True))
        for option, both in _bidirectional(spec):
            yield SupportRow(name, option, node_of(both, mask=option.endswith(", mask")))


def _joined(options: Iterable[str]) -> str:
    """Options of one row; those of Bidirectional are joined under one name."""
    both = "Bidirectional, "
    plain = [name for name in options if not name.startswith(both)]
    of_both = [name.removeprefix(both) for name in options if name.startswith(both)]
    return "; ".join([*plain, f"Bidirectional ({'; '.join(of_both)})"] if of_both else plain)


def table() -> str:
    """The layers, options and targets as Markdown; options with the same cells share a row.

    Each reason stands once, below the table.
    """
    adapters = [registry.adapter(name) for name in registry.frameworks()]
    heads = ["layer", "options", *(f"to {adapter.title}" for adapter in adapters)]
    whys, groups = dict[str, int](), dict[tuple[str, ...], list[str]]()
    for row in rows():
        found = [verdict(row.node, adapter) for adapter in adapters]
        cells = [
            f"{v.word} [{whys.setdefault(v.why, len(whys) + 1)}]" if v.why else v.word
            for v in found
        ]
        source = "" if row.source in (KERAS, KERAS_2) else f" (from {row.source})"
        groups.setdefault((row.layer, *cells), []).append(row.option + source)
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for (layer, *cells), options in groups.items():
        lines.append("| " + " | ".join([layer, _joined(options), *cells]) + " |")
    return "\n".join([*lines, "", *(f"{number}. {why}" for why, number in whys.items())])


if __name__ == "__main__":
    sys.stdout.write(f"{table()}\n")
