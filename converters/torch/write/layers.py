"""The writer of each kind of layer as PyTorch source; imports no framework.

In: a model. Out: a function that writes each of its nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.identifiers import identifiers
from xlstm.ir.permutes import SPATIAL

from ...codegen import custom_layers
from ...codegen.source import CallExpr, ModuleSource, call, shape_comment
from ...codegen.variables import AnyOf, NodeVariables
from . import attention, convolution, elementwise, normalization, operations, shape  # noqa: F401  they register their writers
from .recurrent import emit_bidirectional, emit_recurrent
from .tensor_layouts import Edges, channels_first, end_to_end
from .writer import WRITERS as WRITERS
from .writer import TorchLayerWriter, method


@WRITERS.of(L.LSTM, L.GRU, L.SimpleRNN, L.ConvLSTM)
def _recurrent(spec: L.Recurrent, at: TorchLayerWriter) -> None:
    emit_recurrent(spec, at.parts, at.site)


@WRITERS.of(L.Bidirectional)
def _bidirectional(spec: L.Bidirectional, at: TorchLayerWriter) -> None:
    emit_bidirectional(spec, at.parts, at.site)


@WRITERS.of(L.Custom)
def _custom(spec: L.Custom, at: TorchLayerWriter) -> None:
    at.set_attribute(custom_layers.made(spec, "torch", at.parts))
    given = custom_layers.arguments(spec, "torch", at.site.inputs, at.site.mask)
    at.parts.forward += custom_layers.assigned(at.site.outputs, call(at.module, *given))


def _anywhere(spec: L.LayerSpec) -> bool:
    """True if a layer can be written with a time axis between batch and sample."""
    if isinstance(spec, L.LayerNorm):
        return not spec.groups
    if isinstance(spec, L.TrainingOnly):
        return spec.layer not in SPATIAL
    if isinstance(spec, L.PRelu):
        return len(spec.shape) > 1
    windows = (L.Conv, L.ConvTranspose, L.DepthwiseConv, L.Pool)
    return not isinstance(spec, (L.Recurrent, L.Bidirectional, L.Custom, *windows))


@WRITERS.of(L.TimeDistributed)
def _time_distributed(spec: L.TimeDistributed, at: TorchLayerWriter) -> None:
    """A layer at every time step; steps and batch are joined where the layer needs that."""
    layer, shapes = spec.layer, tuple(sample[1:] for sample in at.shapes)
    if at.given_flat or at.left_flat:
        _among_steps(layer, replace(at, shapes=shapes))
        return
    if _anywhere(layer):
        WRITERS[type(layer)](layer, replace(at, shapes=shapes, lead=2))
        return
    inner = _end_to_end(layer, at)
    WRITERS[type(layer)](layer, replace(at, site=inner, shapes=shapes))
    pairs = zip(at.site.outputs, inner.outputs, strict=True)
    # the input, whose shape is asked for, is overwritten last
    for y, value in sorted(pairs, key=lambda pair: pair[0] == at.x):
        if y != "_":
            at.apply_steps(
                method("unflatten", "0", CallExpr(f"{at.x}.shape", (":2",), "[]")), x=value, y=y
            )


def _among_steps(layer: L.LayerSpec, at: TorchLayerWriter) -> None:
    """Writes a layer whose input or output keeps time steps joined with the batch."""
    site, x = at.site, at.x
    if not at.given_flat:
        at.assign(at.sizes, f"{x}.shape[:2]")
        x = site.y if site.read(0) else site.free("steps")
        at.apply_steps(method("flatten", "0", "1"), y=x)
    node = replace(site.node, spec=layer)
    WRITERS[type(layer)](layer, replace(at, site=replace(site, node=node, inputs=(x,))))
    if not at.left_flat:
        at.apply_steps(method("unflatten", "0", at.sizes), x=site.y)


def _end_to_end(layer: L.LayerSpec, at: TorchLayerWriter) -> NodeVariables:
    """Returns variables for inputs and outputs of a layer that sees all steps as one batch."""
    site, flat = at.site, method("flatten", "0", "1")
    steps = site.free("steps")
    at.apply_steps(flat, x=at.x, y=steps)
    mask = site.free("steps_mask") if site.mask else ""
    if mask:
        at.apply_steps(flat, x=site.mask, y=mask)
    names = [steps, *(site.free(f"steps_{n}") for n in range(1, len(site.outputs)))]
    outputs = [n if y != "_" else "_" for n, y in zip(names, site.outputs, strict=True)]
    return replace(
        site,
        node=replace(site.node, spec=layer),
        inputs=(steps,),
        mask=mask,
        outputs=tuple(outputs),
        busy=AnyOf((site.busy, {at.x, site.mask, *site.outputs})),
    )


def _called(parts: ModuleSource, model: Model, site: NodeVariables) -> NodeVariables:
    """Returns the place with the name of the layer that it calls; masked if any call has a mask."""
    node, mask = site.node, site.mask
    obeyed = model.mask_of(node.owner)
    timed = isinstance(node.spec, L.TimeDistributed)
    spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
    recurrent = isinstance(spec, (L.Recurrent, L.Bidirectional))
    if recurrent and not mask and obeyed:
        mask = site.free("mask")
        sizes = f"{site.x}.shape[:{3 if timed else 2}]"
        ones = call(f"{site.x}.new_ones", sizes, ("dtype", "torch.bool"))
        TorchLayerWriter(parts, site, ()).assign(mask, ones)
        node = replace(node, mask=obeyed)
    return replace(site, node=node, name=identifiers(model)[node.owner], mask=mask)


@dataclass(frozen=True)
class _Forms:
    """Edges of a model whose tensors have another form.

    Attributes:
        flat: those with all time steps as one batch.
        first: those with channels first.
        sizes: edge -> variable of the sizes of batch and time, where these are or were joined.
    """

    flat: Edges
    first: Edges
    sizes: dict[Edge, str]

    @classmethod
    def of(cls, model: Model) -> _Forms:
        """Finds the edges of a model."""
        flat, sizes, number = end_to_end(model), dict[Edge, str](), 0
        base = "steps_shape"
        while any(name.startswith(base) for name in identifiers(model).values()):
            base += "_"
        for node in model.layers:
            before, after = node.inputs[0], Edge(node.name)
            if before in flat:
                sizes[after] = sizes[before]
            elif after in flat:
                sizes[after] = f"{base}_{number + 1}" if number else base
                number += 1
        return cls(flat, channels_first(model, flat), sizes)


def emit_nodes(model: Model) -> Callable[[ModuleSource, Model, NodeVariables], None]:
    """Returns the function that writes each layer of a model."""
    return partial(_emit_node, _Forms.of(model))


def _emit_node(forms: _Forms, parts: ModuleSource, model: Model, site: NodeVariables) -> None:
    """Writes one layer; a layer with several calls is written once."""
    before, lines, node = len(parts.init), len(parts.forward), site.node
    shapes = tuple(model.shape(edge) for edge in node.inputs)
    ends = (node.inputs[0], Edge(node.name))
    first, flat = ([edge in some for edge in ends] for some in (forms.first, forms.flat))
    at = TorchLayerWriter(
        parts,
        _called(parts, model, site),
        shapes,
        given_first=first[0],
        left_first=first[1],
        given_flat=flat[0],
        left_flat=flat[1],
        sizes=forms.sizes.get(ends[1], ""),
    )
    WRITERS[type(node.spec)](node.spec, at)
    if {*site.outputs} == {"_"} and not node.stateful:
        del parts.forward[lines:]
    if node.layer:
        del parts.init[before:]
        return
    if len(parts.init) > before:
        parts.init.insert(before, f"        {shape_comment(model, node, first, flat)}")
    if node.spec.weighted_parts and not node.trainable:
        parts.init.append(f"        {at.module}.requires_grad_(False)")
