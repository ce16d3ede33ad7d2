"""Activations that one model has inside a layer and another one as a layer of its own."""

from __future__ import annotations

from xlstm.diagnosis.hypothesis.hypothesis import pieces
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers import Activation, Bidirectional, Elu, Recurrent, Relu, Softmax

ELSEWHERE = (Recurrent, Bidirectional, Activation)
"""Layers whose activation acts in every step, or is all that they are."""


def inside(node: Node) -> str | None:
    """The activation of a layer's output; None where it has no such option."""
    spec = pieces(node.spec)[0].specs[0]
    if isinstance(spec, ELSEWHERE):
        return None
    found: str | None = getattr(spec, "activation", None)
    return found


def after(model: Model, name: str) -> Node | None:
    """The activation that alone reads what a node gives, None if there is none."""
    edge = Edge(name)
    if edge in model.returned or len(model.readers(edge)) != 1:
        return None
    (reader,) = model.readers(edge)
    spec = pieces(reader.spec)[0].specs[0]
    return reader if isinstance(spec, (Activation, Relu, Elu, Softmax)) else None


def whole(model: Model, name: str) -> tuple[str | None, str]:
    """The activation of a layer, its own or the one after it, and the node that gives its output.

    None for an activation after it that no layer has as an option.
    """
    own, reader = inside(model.node(name)), after(model, name)
    if own != "linear" or reader is None:
        return own, name
    spec = pieces(reader.spec)[0].specs[0]
    return _option(spec), reader.name


def _option(spec: object) -> str | None:
    """The activation that a layer is, as an option of another layer."""
    if isinstance(spec, Activation):
        return spec.activation
    if isinstance(spec, Softmax):
        return "softmax" if spec.axis == -1 else None
    return "relu" if spec == Relu() else "elu" if spec == Elu() else None


def compared(a: Model, mine: str, b: Model, other: str) -> tuple[str, str, str]:
    """The nodes at which two paired layers can be compared: node of a, node of b, form.

    A layer that has its activation inside is held against one and the activation after it.
    """
    own, theirs = inside(a.node(mine)), inside(b.node(other))
    if own is None or theirs is None or (own == "linear") == (theirs == "linear"):
        return mine, other, ""
    if theirs == "linear":
        last = whole(b, other)[1]
        return (mine, last, "") if last != other else (mine, other, "linear")
    return whole(a, mine)[1], other, ""
