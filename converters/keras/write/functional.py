"""Writes a graph with Keras's functional API; imports no framework.

In: a model and its plan. Out: lines of `make`. Self-attention, named a, becomes

    x = keras.layers.Attention(dtype=dtype, name="a")([x, x])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifier, identifiers
from xlstm.ir.literals import literal

from ...codegen import custom_layers
from ...codegen.source import (
    WIDTH,
    Argument,
    CallExpr,
    ModuleSource,
    by_key,
    call,
    class_doc,
    listed,
    shape_comment,
    statement,
    write_layers,
)
from ...codegen.variables import NodeVariables
from .constructors import UNLIKE, inside, layer, two_layers
from .layer_arguments import CELLS, DOT_FLOOR, DTYPE, Around, number, own_blind
from .masks import ATTENDS, has_mask_output
from .operations import is_operation, operation, unit
from .plan import ModelPlan, given

MERGES = {
    "concat": "lambda a, b: [keras.ops.concatenate([a, b], axis=-1)]",
    "sum": "lambda a, b: [a + b]",
    "mul": "lambda a, b: [a * b]",
    "ave": "lambda a, b: [(a + b) / 2]",
    "none": "lambda a, b: [a, b]",
}
"""Functions that merge the two layers of a split bidirectional one."""


def model_input(model: Model, name: str, plan: ModelPlan) -> CallExpr:
    """Returns `keras.Input` of one input."""
    spec = model.node(name).spec
    assert isinstance(spec, L.Input)
    batch = plan.batch or spec.batch
    sizes = literal(spec.shape)
    shape: Argument = sizes if batch is None else ("batch_shape", literal((batch, *spec.shape)))
    own = spec.dtype == "bool" or ("int" in spec.dtype and _ids_only(model, name))
    dtype: Argument = ("dtype", literal(spec.dtype)) if own else DTYPE
    return call("keras.Input", shape, dtype, ("name", f'"{identifiers(model)[name]}"'))


def _ids_only(model: Model, name: str) -> bool:
    """True if an input is read by embeddings only."""
    readers = [node.spec for node in model.readers(Edge(name))]
    found = [spec.layer if isinstance(spec, L.TimeDistributed) else spec for spec in readers]
    return bool(found) and all(isinstance(spec, L.Embedding) for spec in found)


def around(model: Model, node: Node, parts: ModuleSource) -> Around:
    """Returns the context of the constructor of a node's layer."""
    masked = model.mask_of(node.owner) is not None
    return Around(parts, len(model.shape(node.inputs[0])) + 1, masked, node.trainable)


CUDNN = "# cuDNN's masks are for the end of a sequence only"


def explained(lines: list[str], indent: int) -> list[str]:
    """Returns lines that make a layer, after a comment where they avoid cuDNN."""
    away = any("use_cudnn=False" in line for line in lines)
    return [" " * indent + CUDNN, *lines] if away else lines


def functional(model: Model, plan: ModelPlan) -> tuple[ModuleSource, list[str]]:
    """Returns `make` of any graph."""
    parts = write_layers(model, lambda parts, model, site: _emit(parts, model, site, plan))
    made = [model_input(model, name, plan) for name in model.inputs]
    lines = [
        "def make(dtype: str) -> keras.Model:",
        *class_doc(model, "; not yet trained"),
    ]
    if len(made) == 1:
        lines += statement(f"inputs = {parts.inputs[0]} = ", made[0], 4)
    else:
        for variable, value in zip(parts.inputs, made, strict=True):
            lines += statement(f"{variable} = ", value, 4)
        lines += statement("inputs = ", listed(parts.inputs), 4)
    outputs = parts.outputs[0] if len(parts.outputs) == 1 else listed(parts.outputs)
    outputs = by_key(model, parts) if model.keys else outputs
    named = ("name", f'"{identifier(model.name)}"')
    done = statement("return ", call("keras.Model", "inputs", outputs, named), 4)
    return parts, [*lines, *parts.forward, *done]


def _emit(parts: ModuleSource, model: Model, site: NodeVariables, plan: ModelPlan) -> None:
    """Writes lines that make one layer and call it."""
    node = site.node
    before, parts.forward = parts.forward, []
    _write(parts, model, site, plan)
    before.append(f"    {shape_comment(model, node)}")
    before += explained(parts.forward, 4)
    parts.forward = before


def _write(parts: ModuleSource, model: Model, site: NodeVariables, plan: ModelPlan) -> None:
    """Writes lines that make one layer and call it, without its comment."""
    node = site.node
    if any((node.name, n) in plan.masks.cut for n in range(len(node.inputs))):
        parts.forward.append("    # a copy has no mask")
    if has_mask_output(node.spec) and Edge(node.name, 1) in plan.wanted:
        parts.forward += _assign(site.outputs[1:], _mask(node.spec, site.x))
    if is_operation(node.spec):
        parts.forward += _assign(site.outputs, operation(node.spec, *site.inputs))
    elif node.name in plan.apart:
        parts.forward += _two_layers(parts, model, site, plan)
    elif node.name in plan.folded:
        _rows(parts, model, site, plan)
    else:
        made = _made(parts, model, site, plan, node.spec)
        targets = site.outputs[: len(given(node))]
        parts.forward += _assign(
            targets, made, (*_inputs(site, plan), *_options(parts, model, site, plan))
        )


def _mask(spec: L.LayerSpec, x: str) -> CallExpr:
    """Returns the mask that Masking, or an embedding, attaches to its output."""
    spec = spec.layer if isinstance(spec, L.TimeDistributed) else spec
    if isinstance(spec, L.Masking):
        kept = call("keras.ops.not_equal", x, number(spec.value))
        return call("keras.ops.any", kept, ("axis", "-1"))
    return call("keras.ops.not_equal", x, "0")


def _rows(parts: ModuleSource, model: Model, site: NodeVariables, plan: ModelPlan) -> None:
    """Writes lines that apply a layer to all time steps as one batch."""
    node = inside(site.node)
    if isinstance(node.spec, L.Dense):
        _every_step(parts, model, replace(site, node=node), plan)
        return
    before, steps = model.shape(site.node.inputs[0]), site.node.shape[0]
    x, mask = site.free("rows"), site.free("row_mask") if site.mask else ""
    parts.forward += _assign((x,), _reshaped(site.x, *before[1:]))
    if mask:
        parts.forward += _assign((mask,), _reshaped(site.mask, before[1]))
    inner = replace(site, node=node, inputs=(x,), mask=mask)
    if isinstance(node.spec, L.Bidirectional):
        parts.forward += _two_layers(parts, model, inner, plan)
    else:
        made = _made(parts, model, inner, plan, node.spec)
        parts.forward += _assign(site.outputs, made, (x, *_options(parts, model, inner, plan)))
    for name, shape in zip(site.outputs, node.shapes, strict=True):
        if name != "_":
            parts.forward += _assign((name,), _reshaped(name, steps, *shape))


def _every_step(parts: ModuleSource, model: Model, site: NodeVariables, plan: ModelPlan) -> None:
    """Writes lines that apply a layer to the last axis, whatever axes are before it."""
    x: str | CallExpr = site.x
    if plan.masks.carried.get(site.node.inputs[0]):
        x = call("keras.ops.copy", x)  # drops the mask of the input
    made = _made(parts, model, site, plan, site.node.spec)
    parts.forward += _assign(site.outputs, made, (x,))


def _reshaped(x: str, *shape: int | None) -> CallExpr:
    return call("keras.ops.reshape", x, literal((-1, *shape)))


def _inputs(site: NodeVariables, plan: ModelPlan) -> tuple[Argument, ...]:
    """Returns the tensors with which a layer is called."""
    spec, name = site.node.spec, site.node.name
    named = enumerate(site.inputs)
    found = [
        call("keras.ops.copy", x) if (name, number) in plan.masks.cut else x for number, x in named
    ]
    if isinstance(spec, L.Dot) and spec.normalize and spec.floor != DOT_FLOOR:
        pairs = zip(site.inputs, spec.axes, strict=True)
        found = [unit(x, axis, spec.floor) for x, axis in pairs]
    if isinstance(spec, ATTENDS):
        found = found[: len(found) - len(spec.masks)]
    if isinstance(spec, L.Custom):
        return custom_layers.arguments(spec, "keras", found)
    joins = isinstance(spec, (L.Merge, L.Concatenate, L.Dot, L.Attention))
    return (listed(found),) if joins else tuple(found)


def _options(
    parts: ModuleSource, model: Model, site: NodeVariables, plan: ModelPlan
) -> list[Argument]:
    """Returns the arguments of a call besides its inputs."""
    spec = site.node.spec
    if isinstance(spec, ATTENDS):
        scores: list[Argument] = [("return_attention_scores", "True")] if spec.scores else []
        if isinstance(spec, L.MultiHeadAttention) and not own_blind(spec):
            return [_seen_or_all(parts, model, spec, site), *scores]
        return [*_attention_options(spec, site, plan.masks.told[site.node.name]), *scores]
    told: list[Argument] = [("mask", site.mask)] if site.node.name in plan.masks.explicit else []
    return [*told, ("initial_state", listed(site.states))] if site.states else told


def _seen_or_all(
    parts: ModuleSource, model: Model, spec: L.MultiHeadAttention, site: NodeVariables
) -> tuple[str, CallExpr]:
    parts.use_template(CELLS, "seen_or_all")
    count = len(site.inputs) - len(spec.masks)
    words = {"q": "query", "v": "value", "k": "key"}
    named = zip(spec.masks, site.inputs[count:], strict=True)
    masks = [(words[name], mask) for name, mask in named]
    steps = tuple(model.shape(edge)[0] for edge in site.node.inputs[:2])
    causal = ("causal", literal(steps)) if spec.causal else None
    return "attention_mask", call("seen_or_all", *masks, causal)


def _attention_options(
    spec: L.Attention | L.MultiHeadAttention, site: NodeVariables, told: str
) -> list[Argument]:
    count = len(site.inputs) - len(spec.masks)
    named = dict(zip(spec.masks, site.inputs[count:], strict=True))
    causal: list[Argument] = [("use_causal_mask", "True")] if spec.causal else []
    if isinstance(spec, L.Attention):
        both = listed(named.get(name, "None") for name in "qv")
        return [("mask", both), *causal] if told else causal
    found: list[Argument] = []
    words = {"v": "value_mask", "k": "key_mask"}
    found += [(words[name], named[name]) for name in told if name in words]
    if "q" in told:
        # Keras overwrites query_mask with the mask that the query carries
        rows = call("keras.ops.expand_dims", named["q"], ("axis", "2"))
        found.append(("attention_mask", rows))
    return [*found, *causal]


def _made(
    parts: ModuleSource,
    model: Model,
    site: NodeVariables,
    plan: ModelPlan,
    spec: L.LayerSpec,
    half: str = "",
) -> str | CallExpr:
    """Returns a layer's constructor, or its variable if it is called more than once."""
    node, name = site.node, f"{site.name}-{half}" if half else site.name
    made = layer(spec, around(model, node, parts), name)
    if node.owner not in plan.shared:
        return made
    variable = "_".join(filter(None, (plan.shared[node.owner], half)))
    if not node.layer:
        parts.forward += statement(f"{variable} = ", made, 4)
    return variable


def _two_layers(
    parts: ModuleSource, model: Model, site: NodeVariables, plan: ModelPlan
) -> list[str]:
    """Returns lines of a bidirectional layer that `keras.layers.Bidirectional` cannot compute."""
    spec = site.node.spec
    assert isinstance(spec, L.Bidirectional)
    parts.use_template(CELLS, "both_ways")
    halves = zip(spec.halves, ("forward_layer", "backward_layer"), strict=True)
    first, second = (_made(parts, model, site, plan, own, name) for own, name in halves)
    merge = ("merge", MERGES[spec.merge])
    value = call(
        "both_ways", *_inputs(site, plan), first, second, merge, *_options(parts, model, site, plan)
    )
    targets = site.outputs if len(site.outputs) > 1 else (f"[{site.y}]",)
    why = plan.apart.get(site.node.name) or two_layers(site.node) or UNLIKE
    return [f"    # {why}", *_assign(targets, value)]


def _assign(
    targets: Sequence[str], made: str | CallExpr, args: Sequence[Argument] | None = None
) -> list[str]:
    """Returns lines of `targets = made`, or `targets = made(args)`, broken if too long."""
    if args is not None and isinstance(made, str):
        return _assign(targets, call(made, *args))
    assert isinstance(made, CallExpr)
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
