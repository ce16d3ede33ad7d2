"""Writes a graph with Keras's functional API; imports no framework."""

from __future__ import annotations

from collections.abc import Sequence

from xlstm.converters.keras_layers import CELLS, DTYPE, Around, layer, number
from xlstm.converters.keras_plan import Plan, given
from xlstm.converters.places import Site
from xlstm.converters.source import (
    WIDTH,
    Argument,
    Call,
    Parts,
    call,
    collect,
    listed,
    shape_comment,
    statement,
)

from xlstm.identifiers import identifier, identifiers
from xlstm.model import Bidirectional, Edge, Input, Masking, Model, Node, Reverse, Spec

MERGES = {
    "concat": "lambda a, b: [keras.ops.concatenate([a, b], axis=-1)]",
    "sum": "lambda a, b: [a + b]",
    "mul": "lambda a, b: [a * b]",
    "ave": "lambda a, b: [(a + b) / 2]",
    "none": "lambda a, b: [a, b]",
}
"""How two layers that stand for a bidirectional one are merged."""


def model_input(model: Model, name: str, plan: Plan) -> Call:
    """`keras.Input` of one input."""
    spec = model.node(name).spec
    assert isinstance(spec, Input)
    batch = plan.batch or spec.batch
    sizes = repr(spec.shape)
    shape: Argument = sizes if batch is None else ("batch_shape", f"{(batch, *spec.shape)}")
    dtype: Argument = ("dtype", '"bool"') if spec.dtype == "bool" else DTYPE
    return call("keras.Input", shape, dtype, ("name", f'"{identifiers(model)[name]}"'))


def around(model: Model, node: Node, parts: Parts) -> Around:
    """What the constructor of a node's layer depends on."""
    calls = [other for other in model.layers if other.owner == node.owner]
    masked = any(other.mask is not None for other in calls)
    return Around(parts, len(model.shape(node.inputs[0])) + 1, masked, node.trainable)


def functional(model: Model, plan: Plan) -> tuple[Parts, list[str]]:
    """`make` of any graph."""
    parts = collect(model, lambda parts, model, site: _emit(parts, model, site, plan))
    made = [model_input(model, name, plan) for name in model.inputs]
    lines = [
        "def make(dtype: str) -> keras.Model:",
        '    """The layers, not yet trained."""',
    ]
    if len(made) == 1:
        lines += statement(f"inputs = {parts.inputs[0]} = ", made[0], 4)
    else:
        for variable, value in zip(parts.inputs, made, strict=True):
            lines += statement(f"{variable} = ", value, 4)
        lines += statement("inputs = ", listed(parts.inputs), 4)
    outputs = parts.outputs[0] if len(parts.outputs) == 1 else listed(parts.outputs)
    named = ("name", f'"{identifier(model.name)}"')
    done = statement("return ", call("keras.Model", "inputs", outputs, named), 4)
    return parts, [*lines, *parts.forward, *done]


def _emit(parts: Parts, model: Model, site: Site, plan: Plan) -> None:
    """Lines that make one layer and call it."""
    node, x = site.node, site.x
    parts.forward.append(f"    {shape_comment(model, node)}")
    if node.name in plan.masks.cut:
        parts.forward.append("    # a copy has no mask")
        x = f"keras.ops.copy({x})"
    if isinstance(node.spec, Masking) and Edge(node.name, 1) in plan.masks.wanted(model):
        kept = call("keras.ops.not_equal", x, number(node.spec.value))
        parts.forward += _assign(site.outputs[1:], call("keras.ops.any", kept, ("axis", "-1")))
    if isinstance(node.spec, Reverse):
        parts.forward += _assign(site.outputs, call("keras.ops.flip", x, ("axis", "1")))
    elif node.name in plan.apart:
        parts.forward += _two_layers(parts, model, site, plan, x)
    else:
        made = _made(parts, model, site, plan, node.spec)
        targets = site.outputs[: len(given(node))]
        parts.forward += _assign(targets, made, (x, *_options(site, plan)))


def _options(site: Site, plan: Plan) -> list[Argument]:
    """What a call says besides its input."""
    told: list[Argument] = [("mask", site.mask)] if site.node.name in plan.masks.explicit else []
    return [*told, ("initial_state", listed(site.states))] if site.states else told


def _made(
    parts: Parts, model: Model, site: Site, plan: Plan, spec: Spec, half: str = ""
) -> str | Call:
    """Constructor of a layer, or the variable that keeps it where it is called more than once."""
    node, name = site.node, f"{site.name}-{half}" if half else site.name
    made = layer(spec, around(model, node, parts), name)
    if node.owner not in plan.shared:
        return made
    variable = "_".join(filter(None, (plan.shared[node.owner], half)))
    if not node.layer:
        parts.forward += statement(f"{variable} = ", made, 4)
    return variable


def _two_layers(parts: Parts, model: Model, site: Site, plan: Plan, x: str) -> list[str]:
    """Lines of a bidirectional layer that `keras.layers.Bidirectional` cannot be."""
    spec = site.node.spec
    assert isinstance(spec, Bidirectional)
    parts.need(CELLS, "both_ways")
    halves = zip(spec.halves, ("forward_layer", "backward_layer"), strict=True)
    first, second = (_made(parts, model, site, plan, own, name) for own, name in halves)
    merge = ("merge", MERGES[spec.merge])
    value = call("both_ways", x, first, second, merge, *_options(site, plan))
    targets = site.outputs if len(site.outputs) > 1 else (f"[{site.y}]",)
    return [f"    # {plan.apart[site.node.name]}", *_assign(targets, value)]


def _assign(
    targets: Sequence[str], made: str | Call, args: Sequence[Argument] | None = None
) -> list[str]:
    """Lines of `targets = made`, or of `targets = made(args)`, broken where they are too long."""
    if args is not None and isinstance(made, str):
        return _assign(targets, call(made, *args))
    assert isinstance(made, Call)
    start, lines = f"{', '.join(targets)} = ", list[str]()
    if len(f"    {start}{made.name}(") > WIDTH and len(targets) > 1:
        lines = ["    (", *(f"        {target}," for target in targets)]
        start = ") = "
    if args is None:
        return [*lines, *statement(start, made, 4)]
    if len(f"    {start}{made}(") <= WIDTH:
        return [*lines, *statement(start, call(str(made), *args), 4)]
    *broken, _ = statement(start, made, 4, "(")
    return [*lines, *broken, *statement("", call(")", *args), 4)]
