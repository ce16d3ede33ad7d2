"""The points at which a suspect can be compared: what its layers gave, and its outputs.

One model may have an activation inside a layer where the other has it as a layer of its own: then
the layer is compared together with the layer after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from xlstm.diagnosis.hypothesis import first_spec
from xlstm.diagnosis.pairing.tensors import Paired
from xlstm.diagnosis.search.search import Checkpoint
from xlstm.frameworks.recording import LayerRecord
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.types import Array
from xlstm.reference import run


def of_graph(
    a: Model,
    b: Model,
    pairs: Mapping[str, str],
    inputs: Sequence[Array],
    known: Mapping[str, Array],
) -> list[Checkpoint]:
    """Outputs of layers of a suspect's own graph that are paired with the truth's.

    Args:
        a: the truth.
        b: the suspect, as it is read.
        pairs: owner in a -> owner in b.
        inputs: of both.
        known: shapes of the truth's outputs, by node.
    """
    calls = [*_calls(a, b, pairs)]
    places = [compared(a, mine, b, other) for mine, other in calls]
    edges = tuple(Edge(other) for _, other, _ in places)
    values = run(replace(b, outputs=edges, keys=()), inputs) if edges else []
    found = []
    for (mine, _, form), (_, name), y in zip(places, calls, values, strict=False):
        point = _point(a.node(mine), name, y, known[mine])
        found += [replace(point, form=form or point.form)] if point else []
    return found


def _calls(a: Model, b: Model, pairs: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Nodes that call layers that stand for each other, call by call, in a's order."""
    left = {other: [n.name for n in b.layers if n.owner == other] for other in pairs.values()}
    for node in a.layers:
        calls = left.get(pairs.get(node.owner, ""), [])
        if calls:
            yield node.name, calls.pop(0)


def _point(node: Node, name: str, y: Array, own: Array) -> Checkpoint | None:
    """A point at a node, None where what the suspect gave is no form of what the truth gives."""
    if y.shape == own.shape:
        return Checkpoint((Edge(node.name),), (y,), "", name)
    spec = first_spec(node.spec)
    several = isinstance(node.spec, (L.Recurrent, L.Bidirectional)) and isinstance(
        spec, L.Recurrent
    )
    last = isinstance(spec, L.Recurrent) and not spec.return_sequences
    fits = y.ndim == own.ndim + 1 and y.shape[-1] == own.shape[-1] and len(y) == len(own)
    if several and last and fits:
        return Checkpoint((Edge(node.name),), (y,), "sequence", name)
    # a sequence that is one step shorter than the truth's
    lacks_step = y.ndim == own.ndim > 2 and y.shape == (
        *own.shape[:1],
        own.shape[1] - 1,
        *own.shape[2:],
    )
    if several and not last and lacks_step:
        return Checkpoint((Edge(node.name),), (y,), "", name)
    return None


NATIVE = ("Linear", *(f"Conv{t}{rank}d" for t in ("", "Transpose") for rank in (1, 2, 3)))
"""Modules of PyTorch without an activation that may stand for a layer with one."""


def watched(
    a: Model, paired: Paired, gave: Sequence[LayerRecord], known: Mapping[str, Array]
) -> list[Checkpoint]:
    """Outputs of submodules of a suspect, by the paths of their weights."""
    by_name = {one.name: one for one in gave}
    owners: dict[str, str] = {}
    for owner, path in paired.paths.items():
        owners[path] = owner  # of several layers of one module the last one counts
    found: dict[str, Checkpoint] = {}
    for path, owner in owners.items():
        one, node = by_name.get(path), a.node(owner)
        if one is None or len([n for n in a.layers if n.owner == owner]) > 1:
            continue
        point = _watched(node, one, known[owner])
        if point is not None:
            found[owner] = point
    return [found[node.name] for node in a.layers if node.name in found]


def _watched(node: Node, one: LayerRecord, own: Array) -> Checkpoint | None:
    y = one.output
    if y.ndim == own.ndim >= 3 and one.kind.startswith(("Conv", "BatchNorm", "PReLU")):
        y = np.moveaxis(y, 1, -1)
    elif y.ndim >= 3 and own.ndim >= 2 and y.shape[:2] != own.shape[:2]:
        # the batch is the second axis
        y = y.swapaxes(0, 1) if len(y) != len(own) == int(y.shape[1]) else y
    spec = first_spec(node.spec)
    point = _point(node, one.name, y, own)
    layers = (L.Dense, L.Conv, L.ConvTranspose, L.DepthwiseConv)
    bare = isinstance(spec, layers) and spec.activation != "linear"
    native = one.kind in NATIVE
    if point is not None and bare and native:
        return Checkpoint(point.edges, point.values, "linear", one.name)
    return point


ELSEWHERE = (L.Recurrent, L.Bidirectional, L.Activation)
"""Layers whose activation acts in every step, or is all that they are."""


def inside(node: Node) -> str | None:
    """The activation of a layer's output; None where it has no such option."""
    spec = first_spec(node.spec)
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
    spec = first_spec(reader.spec)
    return reader if isinstance(spec, (L.Activation, L.Relu, L.Elu, L.Softmax)) else None


def whole(model: Model, name: str) -> tuple[str | None, str]:
    """The activation of a layer, its own or the one after it, and the node that gives its output.

    None for an activation after it that no layer has as an option.
    """
    own, reader = inside(model.node(name)), after(model, name)
    if own != "linear" or reader is None:
        return own, name
    spec = first_spec(reader.spec)
    return _option(spec), reader.name


def _option(spec: object) -> str | None:
    """The activation that a layer is, as an option of another layer."""
    if isinstance(spec, L.Activation):
        return spec.activation
    if isinstance(spec, L.Softmax):
        return "softmax" if spec.axis == -1 else None
    return "relu" if spec == L.Relu() else "elu" if spec == L.Elu() else None


def compared(a: Model, mine: str, b: Model, other: str) -> tuple[str, str, str]:
    """The nodes at which two paired layers can be compared: node of a, node of b, form.

    A layer that has its activation inside is compared with one and the activation after it.
    """
    own, theirs = inside(a.node(mine)), inside(b.node(other))
    if own is None or theirs is None or (own == "linear") == (theirs == "linear"):
        return mine, other, ""
    if theirs == "linear":
        last = whole(b, other)[1]
        return (mine, last, "") if last != other else (mine, other, "linear")
    return whole(a, mine)[1], other, ""
