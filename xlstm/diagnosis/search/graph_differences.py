"""Hypotheses that a suspect's own graph suggests: options of its layers that differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from xlstm.diagnosis.altered_model import Layer
from xlstm.diagnosis.hypothesis import Hypothesis, SuspectLayer, first_spec
from xlstm.diagnosis.mistakes.layers.activations import cause_of, optioned
from xlstm.diagnosis.pairing.names import Naming
from xlstm.diagnosis.search.checkpoints import inside, whole
from xlstm.frameworks.recording import LayerRecord
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Bidirectional, LayerSpec, Softmax

BY_FIELD = {
    "epsilon": "epsilon",
    "momentum": "momentum",
    "slope": "slope",
    "reset_after": "reset-after",
    "go_backwards": "go-backwards",
    "zero_output_for_mask": "mask-zeroed",
    "alpha": "slope",
}
"""Option -> the cause that another value of it is; others are "option"."""

IDLE: tuple[str, ...] = (
    "return_sequences",
    "return_state",
    "dropout",
    "recurrent_dropout",
    "stateful",
    "rate",
)
IDLE += ("hidden_bias", "use_bias")
"""Options that change no number, or whose effect is seen in the graph."""

TRAINING = ("momentum",)
"""Options that act in training only: they are compared and cannot be run."""


def _fields(node: Node, other: Node) -> Iterator[tuple[str, Any]]:
    """Options of the truth's layer that the suspect's has another value of."""
    mine, theirs = _first(node.spec), _first(other.spec)
    if type(mine) is not type(theirs):
        return
    for own in fields(mine):
        value = getattr(theirs, own.name)
        if own.name not in IDLE and getattr(mine, own.name) != value:
            yield own.name, value


def _first(spec: LayerSpec) -> LayerSpec:
    return first_spec(spec)


def cause(name: str, old: Any, new: Any) -> str:
    """The id of another value of an option."""
    if name in ("activation", "gate_activation"):
        return cause_of(old, new, name == "gate_activation")
    return BY_FIELD.get(name, "option")


def suggested(
    a: Model, b: Model, pairs: Mapping[str, str], layers: Mapping[str, Layer], naming: Naming
) -> list[Hypothesis]:
    """A hypothesis for each option that differs between layers that stand for each other."""
    found = []
    for mine, other in pairs.items():
        node, theirs = a.node(mine), b.node(other)
        site = SuspectLayer(a, node, layers[mine], naming)
        for name, value in _fields(node, theirs):
            # a softmax's axis has a row of its own
            if name in TRAINING or (name == "axis" and isinstance(_first(node.spec), Softmax)):
                continue
            if name == "activation" and (value := _other(a, mine, b, other)) is None:
                continue
            why = cause(name, getattr(_first(node.spec), name), value)
            text, fix = f"Your {name} is {value}; a's is {{was_{name}}}", f"Set {{was_{name}}}."
            for altered in optioned(site, text, fix, **{name: value}):
                found.append(Hypothesis(why, {mine: altered.layer}, altered.say, altered.rule))
        found += _merge(site, theirs)
    return found


def _other(a: Model, mine: str, b: Model, other: str) -> str | None:
    """Another activation of a suspect's layer, its own or the one after it; None for the same."""
    own, theirs = whole(a, mine)[0], whole(b, other)[0]
    if inside(a.node(mine)) is None:
        return str(_first(b.node(other).spec).activation)  # type: ignore[attr-defined]
    return theirs if own != theirs and inside(a.node(mine)) == own else None


def _merge(site: SuspectLayer, other: Node) -> Iterator[Hypothesis]:
    mine, theirs = site.spec, other.spec
    if not isinstance(mine, Bidirectional) or not isinstance(theirs, Bidirectional):
        return
    if mine.merge != theirs.merge and "none" not in (mine.merge, theirs.merge):
        text = f"Your halves are joined by {theirs.merge}; a joins them by {mine.merge}."
        layer = replace(site.layer, spec=replace(mine, merge=theirs.merge))
        say = site.said(text, f"Join them by {mine.merge}.")
        yield Hypothesis("merge-mode", {site.node.name: layer}, say, "merge")


def idle(a: Model, b: Model, pairs: Mapping[str, str]) -> Iterator[tuple[str, str, Any, Any]]:
    """Options that act in training only and differ: layer, option, a's value, b's value."""
    for mine, other in pairs.items():
        node, theirs = a.node(mine), b.node(other)
        for name, value in _fields(node, theirs):
            if name in TRAINING:
                yield mine, name, getattr(_first(node.spec), name), value


def idle_of(
    a: Model, gave: Sequence[LayerRecord], modules: Mapping[str, str]
) -> Iterator[tuple[str, str, Any, Any]]:
    """As `idle`, from what the suspect's modules were made with."""
    made = {one.name: one.options for one in gave}
    for mine, path in modules.items():
        for name in TRAINING:
            own = getattr(_first(a.node(mine).spec), name, None)
            value = made.get(path, {}).get(name)
            if own is not None and value is not None and not math.isclose(own, value):
                yield mine, name, own, value
