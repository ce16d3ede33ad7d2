"""Common writer functions of Linen and NNX: each node as source; imports no framework.

In: a dialect. Out: a function that writes each node of a model.
"""

from __future__ import annotations

from dataclasses import replace

from xlstm.frameworks import adapter
from xlstm.ir import layers as L
from xlstm.ir.graph import Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers.custom import unwrap_time_distributed

from ...codegen import custom_layers
from ...codegen.source import ModuleSource, call, shape_comment
from ...codegen.variables import NodeVariables
from . import attention, convolution, elementwise, operations, shape  # noqa: F401  they register their writers
from .dialect import OWN, WRITERS, Dialect, FlaxLayerWriter
from .recurrent import cell_name


def bare(spec: L.LayerSpec) -> bool:
    """True if the native layer alone returns the layer's output.

    False for recurrent layers: the default carry is float32 for any input.
    """
    return isinstance(spec, L.Dense) and spec.activation == "linear"


@WRITERS.of(L.TimeDistributed)
def _time_distributed(spec: L.TimeDistributed, at: FlaxLayerWriter) -> None:
    inner, at = spec.layer, replace(at, shapes=(at.shapes[0][1:],))
    if not _is_flat(inner):
        WRITERS[type(inner)](inner, replace(at, lead=2))
        return
    site, forward = at.site, at.parts.forward
    batch, steps = site.free("batch"), site.free("steps")
    busy = {*site.inputs[1:], site.mask, *site.states, *site.outputs[1:]}
    flat = site.free("every") if not site.read(0) or site.y in busy else site.y
    forward.append(f"        {batch}, {steps} = {at.x}.shape[:2]")
    at.assign(flat, call(f"{at.x}.reshape", f"{batch} * {steps}", f"*{at.x}.shape[2:]"))
    mask = f"{site.mask}.reshape({batch} * {steps}, -1)" if site.mask else ""
    outputs = (flat if site.read(0) else "_", *site.outputs[1:])
    below = replace(site, inputs=(flat,), mask=mask, outputs=outputs)
    WRITERS[type(inner)](inner, replace(at, site=below))
    for name, own in zip(site.outputs, outputs, strict=True):
        if name != "_":
            at.assign(name, call(f"{own}.reshape", batch, steps, f"*{own}.shape[1:]"))


TRAINING = {
    name: name not in ("GaussianNoise", "GaussianDropout", "AlphaDropout")
    for name in adapter.TRAINING
}
"""Layers that act in training -> True if Flax has them."""


@WRITERS.of(L.Custom)
def _custom(spec: L.Custom, at: FlaxLayerWriter) -> None:
    framework = at.dialect.framework
    at.set_attribute(custom_layers.made(spec, framework, at.parts))
    arguments = custom_layers.arguments(spec, framework, at.site.inputs, at.site.mask)
    at.parts.forward += custom_layers.assigned(at.site.outputs, at.call(*arguments))


def halves(_node: Node) -> tuple[str, str]:
    """Returns names of the weights of a Bidirectional layer's halves."""
    return "forward_rnn.{}", "backward_rnn.{}"


def own(dialect: Dialect, node: Node) -> str:
    """Returns the reasons for our own classes in the source of a layer, "" for native ones."""
    spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
    halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
    names = [cell_name(half, dialect) for half in halves]
    recurrent = any(isinstance(half, L.Recurrent) for half in halves)
    names += ["MaskedRNN"] if node.mask and recurrent else []
    cells = [name for name in dict.fromkeys(names) if name in OWN]
    return "; ".join(map(dialect.why, cells or _own(node, spec, dialect)))


def _own(node: Node, spec: L.LayerSpec, dialect: Dialect) -> list[str]:
    """Returns our own classes and functions of a layer that is not recurrent."""
    match spec:
        case L.MultiHeadAttention(scores=True):
            return ["WeighingAttention"]
        case L.MultiHeadAttention():
            own_class = [] if attention.even(spec, (node.inputs,)) else ["UnevenAttention"]
            return [*own_class, *filter(None, [attention.attend(spec, dialect)])]
        case L.Attention():
            return [attention.ATTENTIONS[spec.score]]
        case L.PRelu():
            return ["PReLU"]
        case L.Normalization():
            return ["Normalization"]
    return []


def draws(model: Model) -> bool:
    """True if the emitted module draws random numbers in training."""
    return any(_draws(node.spec) for node in model.layers)


def _draws(spec: L.LayerSpec) -> bool:
    if isinstance(spec, L.TimeDistributed):
        return _draws(spec.layer)
    if isinstance(spec, L.TrainingOnly):
        return spec.layer in elementwise.SPATIAL
    return isinstance(spec, L.Dropout) or (
        isinstance(spec, L.MultiHeadAttention) and spec.dropout > 0
    )


def refuse(node: Node) -> str:
    """Returns the reason why Flax source cannot express a layer, "" if it can."""
    spec = node.spec
    if node.layer and getattr(spec, "stateful", False):
        return f"a stateful {spec.kind} called a second time, whose states would be two"
    spec = spec.layer if isinstance(spec, L.TimeDistributed) else spec
    if isinstance(spec, L.MultiHeadAttention) and spec.scores and spec.dropout:
        return "attention whose weights are returned, with dropout, which Flax would leave out"
    return "" if type(spec) in WRITERS else f"{spec.kind}, which has no Flax form here"


def _called(model: Model, site: NodeVariables) -> NodeVariables:
    """Returns the place with the name of the layer that it calls; masked if any call has a mask."""
    owner = site.node.owner
    timed = isinstance(site.node.spec, L.TimeDistributed)
    recurrent_layer = isinstance(
        unwrap_time_distributed(site.node.spec), (L.Recurrent, L.Bidirectional)
    )
    masked = recurrent_layer and model.mask_of(owner) is not None
    everywhere = f"jnp.ones({site.x}.shape[:{3 if timed else 2}], bool)"
    mask = site.mask or (everywhere if masked else "")
    return replace(site, name=identifiers(model)[owner], mask=mask)


def write_node(dialect: Dialect, parts: ModuleSource, model: Model, site: NodeVariables) -> None:
    """Writes one layer, for `xlstm.converters.codegen.source.write_layers`."""
    before = len(parts.init)
    shapes = tuple(map(model.shape, site.node.inputs))
    at = FlaxLayerWriter(dialect, parts, _called(model, site), shapes, model)
    WRITERS[type(site.node.spec)](site.node.spec, at)
    if site.node.layer:
        del parts.init[before:]
    elif len(parts.init) > before:
        parts.init.insert(before, f"        {_shapes(model, site.node)}")


def _shapes(model: Model, node: Node) -> str:
    """Returns a comment with the shapes before and after the module of a layer.

    The module of a recurrent layer gives every step; the last one is taken afterwards.
    """
    spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
    flat = spec is not node.spec and _is_flat(spec)
    if isinstance(spec, L.Recurrent) and not spec.return_sequences:
        before, place = model.shape(node.inputs[0]), int(flat)
        steps = before[place : place + 1]
        node = replace(node, shapes=((*node.shape[:place], *steps, *node.shape[place:]),))
    return shape_comment(model, node, flat=(flat, flat))


def _is_flat(spec: L.LayerSpec) -> bool:
    """True for a layer that must not see the time axis next to the batch."""
    grouped = isinstance(spec, L.LayerNorm) and bool(spec.groups)
    return grouped or isinstance(spec, (L.Custom, L.Recurrent, L.Bidirectional))
