"""Wrong code: a port written by hand for another layer than the one that is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any

from mutators.hand import is_native
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import LayerSpec

OTHER_ACTIVATIONS = {
    "tanh": ("sigmoid", "relu", "linear"),
    "relu": ("tanh", "leaky_relu", "linear"),
    "sigmoid": ("tanh", "hard_sigmoid"),
    "softmax": ("sigmoid", "linear"),
    "elu": ("relu", "leaky_relu_01"),
    "gelu": ("gelu_tanh", "relu"),
    "linear": ("relu",),
}
"""Activation -> what is written in its place."""

OTHER_GATES = {
    "sigmoid": ("hard_sigmoid", "hard_sigmoid_keras2", "tanh"),
    "hard_sigmoid": ("hard_sigmoid_keras2", "sigmoid", "hard_sigmoid_unclipped"),
    "hard_sigmoid_keras2": ("hard_sigmoid", "sigmoid", "hard_sigmoid_keras2_unclipped"),
}


def loose(spec: LayerSpec, **changed: Any) -> Any:
    """A spec with some attributes changed to what no spec may have, such as a sigmoid unclipped.

    Attributes of a class of its own stand for them: those of a spec are checked.
    """
    kind = type(type(spec).__name__, (type(spec),), changed)
    made = object.__new__(kind)
    for field in fields(spec):
        if field.name not in changed:
            object.__setattr__(made, field.name, getattr(spec, field.name))
    return made


@dataclass(frozen=True)
class Slip:
    """A wrong description or a wrong line: the kind of error, which, where, and what is built."""

    kind: str
    name: str
    layer: str
    model: Model
    wrong: dict[str, str]
    training: bool = False


def _other(model: Model, node: Node, spec: Any, **more: Any) -> Model:
    nodes = [
        replace(node, spec=spec, **more) if old.name == node.name else old for old in model.nodes
    ]
    return replace(model, nodes=tuple(nodes))


def _gate_kind(was: str, now: str) -> str:
    if "unclipped" in now:
        return "hard_sigmoid without its clip"
    return "hard_sigmoid" if "hard" in was or "hard" in now else "gate activation"


def activations(model: Model, node: Node) -> Iterator[Slip]:
    """Another activation of a layer, of its gates, or of either half."""
    spec: Any = node.spec
    if spec.kind == "Bidirectional":
        for side in ("forward", "backward"):
            half = getattr(spec, side)
            for other in OTHER_ACTIVATIONS.get(half.activation, ())[:1]:
                wrong = replace(spec, **{side: replace(half, activation=other)})
                yield Slip("activation", side, node.name, _other(model, node, wrong), {})
        return
    if spec.kind == "TimeDistributed":
        for other in OTHER_ACTIVATIONS.get(spec.layer.activation, ()):
            wrong = replace(spec, layer=replace(spec.layer, activation=other))
            yield Slip("activation", other, node.name, _other(model, node, wrong), {})
        return
    for other in OTHER_ACTIVATIONS.get(getattr(spec, "activation", ""), ()):
        wrong = replace(spec, activation=other)
        kind = "hard_sigmoid" if "hard" in other else "activation"
        yield Slip(kind, other, node.name, _other(model, node, wrong), {})
    gate = getattr(spec, "gate_activation", "")
    for other in OTHER_GATES.get(gate, ()):
        unclipped = loose(spec, gate_activation=other)
        kind = _gate_kind(gate, other)
        yield Slip(kind, other, node.name, _other(model, node, unclipped), {})


def outside(model: Model, node: Node) -> Iterator[Slip]:
    """Softmax over another axis, an activation after a recurrent layer, one more after a layer."""
    spec: Any = node.spec
    inner = getattr(spec, "layer", spec)
    here, act = node.name, getattr(inner, "activation", "")
    if act == "softmax":
        for axis in range(len(node.shape)):
            wrong = {here: f"softmax over axis {axis}"}
            yield Slip("softmax axis", f"axis {axis}", here, model, wrong)
    if spec.kind in ("LSTM", "GRU", "SimpleRNN") and act not in ("tanh", "linear"):
        gates = {"gate_activation": "sigmoid"} if hasattr(spec, "gate_activation") else {}
        for more in (
            ({}, gates) if getattr(spec, "gate_activation", "sigmoid") != "sigmoid" else ({},)
        ):
            other = _other(model, node, replace(spec, activation="tanh", **more))
            yield Slip("activation outside", f"{act} {more}", here, other, {here: f"then {act}"})
    around = spec.kind in ("LSTM", "GRU", "SimpleRNN", "Bidirectional")
    if around or act not in ("", "linear"):
        for extra in ("relu", "sigmoid") if around else ("softmax",):
            yield Slip("extra activation", extra, here, model, {here: f"then {extra}"})


def loops(model: Model, node: Node) -> Iterator[Slip]:
    """Errors of a loop over time."""
    spec: Any = node.spec
    half = spec.forward if spec.kind == "Bidirectional" else spec
    if half.kind not in ("LSTM", "GRU", "SimpleRNN"):
        return
    here = node.name
    for slip in ("no state", "h alone", "c alone")[: 3 if half.kind == "LSTM" else 1]:
        yield Slip("state lost", slip, here, model, {here: slip})
    yield Slip("output late", "", here, model, {here: "output late"})


def recurrent(model: Model, node: Node) -> Iterator[Slip]:
    """Errors of recurrent layers and of their halves."""
    spec: Any = node.spec
    if spec.kind not in ("LSTM", "GRU", "SimpleRNN"):
        return
    if spec.kind == "GRU":
        wrong = replace(spec, reset_after=not spec.reset_after)
        yield Slip("reset_after", "", node.name, _other(model, node, wrong), {})
    if spec.kind == "LSTM":
        yield Slip(
            "forget bias added twice", "code", node.name, model, {node.name: "forget bias twice"}
        )
    turned = replace(spec, go_backwards=not spec.go_backwards)
    yield Slip("direction", "", node.name, _other(model, node, turned), {})
    if is_native(spec, node.mask):
        yield Slip("batch_first", "", node.name, model, {node.name: "batch first"})


def masks(model: Model, node: Node) -> Iterator[Slip]:
    """A mask that is not obeyed, and masked steps that give zeros."""
    if node.mask is None:
        return
    yield Slip("mask ignored", "", node.name, _other(model, node, node.spec, mask=None), {})
    spec: Any = node.spec
    if spec.kind == "Bidirectional":
        for side in ("forward", "backward"):
            wrong_half = {node.name: f"mask of {side} alone"}
            yield Slip("mask of one half ignored", side, node.name, model, wrong_half)
        halves = [replace(h, zero_output_for_mask=not h.zero_output_for_mask) for h in spec.halves]
        wrong: LayerSpec = replace(spec, forward=halves[0], backward=halves[1])
    else:
        wrong = replace(spec, zero_output_for_mask=not spec.zero_output_for_mask)
    yield Slip("mask zeroed", "", node.name, _other(model, node, wrong), {})


def both(model: Model, node: Node) -> Iterator[Slip]:
    """Errors of layers in both directions."""
    spec: Any = node.spec
    if spec.kind != "Bidirectional":
        return
    here = node.name
    if spec.return_sequences:
        slip = "backward half not turned"
        yield Slip("half reversed", "output", here, model, {here: slip})
    else:
        slip = "last index of both"
        yield Slip("out[:, -1] of the backward half", "", here, model, {here: slip})
    if spec.merge == "concat":
        yield Slip("halves swapped", "outputs", here, model, {here: "halves swapped"})
    else:
        for merge in {"sum", "mul", "ave"} - {spec.merge}:
            yield Slip(
                "merge mode", merge, here, _other(model, node, replace(spec, merge=merge)), {}
            )
    for side, half in zip(("forward", "backward"), spec.halves, strict=True):
        if is_native(half, node.mask):
            slip = f"batch first of {side} half"
            yield Slip("batch_first of one half", side, here, model, {here: slip})
    ahead = loose(spec, halves=(spec.forward, replace(spec.backward, go_backwards=False)))
    yield Slip("half reversed", "input", here, _other(model, node, ahead), {})


def around(model: Model, node: Node) -> Iterator[Slip]:
    """Errors of the layers around recurrent ones."""
    spec: Any = node.spec
    here = node.name
    if spec.kind in ("BatchNorm", "LayerNorm"):
        for eps in (1e-5, 1e-6):
            wrong = _other(model, node, replace(spec, epsilon=eps))
            yield Slip("BatchNorm or LayerNorm eps", f"{eps:g}", here, wrong, {})
    if spec.kind == "BatchNorm":
        wrong = _other(model, node, replace(spec, momentum=1 - spec.momentum))
        yield Slip("BatchNorm momentum", "", here, wrong, {})
        yield Slip("BatchNorm mode", "", here, model, {}, training=True)
    if spec.kind == "Dropout":
        yield Slip("dropout left on", "", here, model, {}, training=True)
    if spec.kind == "Relu":
        for slope in (0.01, 0.2):
            wrong = _other(model, node, replace(spec, slope=slope))
            yield Slip("LeakyReLU slope", f"{slope:g}", here, wrong, {})
    if spec.kind in ("Flatten", "Conv"):
        yield Slip("channels order", spec.kind, here, model, {here: "channels first"})


def slips(model: Model) -> Iterator[Slip]:
    """Every wrong description of a model, and every slip that its code may have."""
    for node in model.layers:
        for find in (activations, outside, loops, recurrent, masks, both, around):
            yield from find(model, node)
