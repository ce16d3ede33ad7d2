"""The writer of each node as PyTorch source, and the layouts of tensors; imports no framework.

In: a model. Out: a function that writes each of its nodes.

PyTorch's convolutions, pools and batch norms need channels before the axes of space; canonical
tensors have them last. They take no time axis: batch and steps are joined for them. Between two
such layers nothing is moved: `channels_first` and `end_to_end` find those edges.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.permutes import OVER_LAST_AXIS, SPATIAL, is_elementwise
from xlstm.ir.types import Shape

from ...codegen import custom_layers
from ...codegen.source import CallExpr, ModuleSource, call, shape_comment
from ...codegen.variables import AnyOf, NodeVariables
from . import attention, convolution, elementwise, normalization, recurrent  # noqa: F401  they register their writers
from . import shape as _shape  # noqa: F401  the same
from .writer import WRITERS as WRITERS
from .writer import TorchLayerWriter, method

Edges = frozenset[Edge]


def moves_first(spec: L.LayerSpec) -> bool:
    """True for a layer that only moves the last axis to the front."""
    rank = len(spec.order) if isinstance(spec, L.Permute) else 0
    return rank > 1 and spec == L.Permute((rank, *range(1, rank)))


def moves_last(spec: L.LayerSpec) -> bool:
    """True for a layer that only moves the first axis to the end."""
    rank = len(spec.order) if isinstance(spec, L.Permute) else 0
    return rank > 1 and spec == L.Permute((*range(2, rank + 1), 1))


def _turns(spec: L.LayerSpec, shape: Shape) -> bool:
    """True if PyTorch's layer needs channels first, for samples of this shape."""
    if len(shape) < 2:
        return False
    if isinstance(spec, L.BatchNorm):
        return len(shape) < 5
    if isinstance(spec, L.LayerNorm):
        return bool(spec.groups)
    if isinstance(spec, L.TrainingOnly):
        return spec.layer in SPATIAL
    return isinstance(spec, (L.Conv, L.ConvTranspose, L.DepthwiseConv, L.Pool))


Rule = Callable[[Node], bool]


def _settled(model: Model, takes: Rule, passes: Rule, gives: Callable[[Node, bool], bool]) -> Edges:
    """Returns edges with another layout: every reader wants it, and the writer can produce it.

    Args:
        model: the graph.
        takes: True if a layer needs its first input so, whatever follows it.
        passes: True if a layer's output has the layout of its first input.
        gives: True if a layer can leave its output so; the second argument is the input's layout.
    """
    readers: dict[Edge, list[tuple[Node, bool]]] = defaultdict(list)
    for node in model.layers:
        for edge in node.reads:
            readers[edge].append((node, edge in node.inputs[:1]))
    wanted: set[Edge] = set()
    for node in reversed(model.layers):
        edge = Edge(node.name)
        own = (
            first and (takes(reader) or (passes(reader) and Edge(reader.name) in wanted))
            for reader, first in readers[edge]
        )
        if readers[edge] and edge not in model.returned and all(own):
            wanted.add(edge)
    found: set[Edge] = set()
    for node in model.layers:
        comes_first = node.inputs[0] in found
        if Edge(node.name) in wanted and (
            comes_first if passes(node) else gives(node, comes_first)
        ):
            found.add(Edge(node.name))
    return frozenset(found)


def end_to_end(model: Model) -> Edges:
    """Returns edges between layers at every time step whose tensors join steps and batch."""

    def turns(node: Node) -> bool:
        spec = node.spec
        if not isinstance(spec, L.TimeDistributed) or node.mask is not None:
            return False
        # alone it is a layer over one axis more: its other calls would not fit
        alone = not isinstance(spec.layer, L.BatchNorm) or len(model.calls(node.owner)) == 1
        return alone and _turns(spec.layer, model.shape(node.inputs[0])[1:])

    def moves(node: Node) -> bool:
        if not isinstance(node.spec, L.TimeDistributed):
            return False
        return moves_first(node.spec.layer) or moves_last(node.spec.layer)

    def takes(node: Node) -> bool:
        at_steps = isinstance(node.spec, L.TimeDistributed) and node.mask is None
        ends = at_steps and isinstance(
            unwrap_time_distributed(node.spec), (L.Flatten, L.GlobalPool)
        )
        return ends or turns(node) or moves(node)

    found = _settled(
        model,
        takes,
        lambda node: is_elementwise(node.spec),
        lambda node, _given: turns(node) or moves(node),
    )
    return _runs_with(model, turns, found)


def _runs_with(model: Model, needed: Rule, edges: Edges) -> Edges:
    """Returns the edges that lead, from one to the next, past a layer that needs them."""
    start: dict[Edge, Edge] = {}
    wanted: set[Edge] = set()
    for node in model.layers:
        before, after = node.inputs[0], Edge(node.name)
        if after in edges:
            start[after] = start.get(before, after)
        if needed(node):
            wanted |= {start[edge] for edge in (before, after) if edge in start}
    return frozenset(edge for edge in edges if start[edge] in wanted)


def channels_first(model: Model, flat: Edges) -> Edges:
    """Returns the edges whose tensors have channels first.

    Args:
        model: the graph.
        flat: edges whose tensors have all time steps as one batch.
    """

    def seen(node: Node, edge: Edge) -> tuple[L.LayerSpec, Shape]:
        """Returns a layer and its input shape; joined steps count as a batch."""
        spec, shape = node.spec, model.shape(node.inputs[0])
        at_steps = edge in flat and isinstance(spec, L.TimeDistributed)
        return (unwrap_time_distributed(spec), shape[1:]) if at_steps else (spec, shape)

    def takes(node: Node) -> bool:
        spec, shape = seen(node, node.inputs[0])
        if isinstance(spec, L.GlobalPool):
            return node.mask is None and not spec.keep and len(shape) > 1
        return moves_first(spec) or _turns(spec, shape)

    def gives(node: Node, comes_first: bool) -> bool:
        spec, shape = seen(node, Edge(node.name))
        if moves_last(spec):
            # a swap of two axes is its own inverse: only one of its two sides may be skipped
            return not comes_first
        return _turns(spec, shape) and getattr(spec, "activation", "") not in OVER_LAST_AXIS

    return _settled(model, takes, lambda node: is_elementwise(node.spec), gives)


@WRITERS.of(L.Custom)
def _custom(spec: L.Custom, at: TorchLayerWriter) -> None:
    at.set_attribute(custom_layers.made(spec, "torch", at.parts))
    arguments = custom_layers.arguments(spec, "torch", at.site.inputs, at.site.mask)
    at.parts.forward += custom_layers.assigned(at.site.outputs, call(at.module, *arguments))


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
        x = at.y if at.read(0) else site.free("steps")
        at.apply_steps(method("flatten", "0", "1"), y=x)
    node = replace(site.node, spec=layer)
    WRITERS[type(layer)](layer, replace(at, site=replace(site, node=node, inputs=(x,))))
    if not at.left_flat:
        at.apply_steps(method("unflatten", "0", at.sizes), x=at.y)


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
    node, mask, obeyed = site.node, site.mask, model.mask_of(site.node.owner)
    spec = unwrap_time_distributed(node.spec)
    if isinstance(spec, (L.Recurrent, L.Bidirectional)) and not mask and obeyed:
        mask = site.free("mask")
        sizes = f"{site.x}.shape[:{2 if spec is node.spec else 3}]"
        ones = call(f"{site.x}.new_ones", sizes, ("dtype", "torch.bool"))
        TorchLayerWriter(parts, site, ()).assign(mask, ones)
        node = replace(node, mask=obeyed)
    return replace(site, node=node, name=identifiers(model)[node.owner], mask=mask)


def _variables_of_sizes(model: Model, flat: Edges) -> dict[Edge, str]:
    """Returns variables of the sizes of batch and time, by edge where these are or were joined."""
    found, number, base = dict[Edge, str](), 0, "steps_shape"
    while any(name.startswith(base) for name in identifiers(model).values()):
        base += "_"
    for node in model.layers:
        before, after = node.inputs[0], Edge(node.name)
        if before in flat:
            found[after] = found[before]
        elif after in flat:
            found[after] = f"{base}_{number + 1}" if number else base
            number += 1
    return found


def _shapes_seen(model: Model, node: Node, first: Sequence[bool], flat: Sequence[bool]) -> str:
    """Returns a comment with the shapes before and after a module, in the axes that it sees.

    Args:
        model: the graph.
        node: the layer.
        first: True for channels first, before and after, where no line moves them.
        flat: True for time steps joined with the batch, before and after, in the same way.
    """
    spec, shape = node.spec, model.shape(node.inputs[0])
    inner = unwrap_time_distributed(spec)
    joins = any(flat) or (spec is not inner and not _anywhere(inner))
    turns = _turns(inner, shape[1:] if joins else shape)
    return shape_comment(model, node, [own or turns for own in first], [joins, joins])


def emit_nodes(model: Model) -> Callable[[ModuleSource, Model, NodeVariables], None]:
    """Returns the function that writes each layer of a model."""
    all_flat = end_to_end(model)
    all_first, sizes = channels_first(model, all_flat), _variables_of_sizes(model, all_flat)

    def emit(parts: ModuleSource, model: Model, site: NodeVariables) -> None:
        """Writes one layer; a layer with several calls is written once."""
        before, lines, node = len(parts.init), len(parts.forward), site.node
        ends = (node.inputs[0], Edge(node.name))
        first, flat = ([edge in some for edge in ends] for some in (all_first, all_flat))
        at = TorchLayerWriter(
            parts,
            _called(parts, model, site),
            tuple(model.shape(edge) for edge in node.inputs),
            given_first=first[0],
            left_first=first[1],
            given_flat=flat[0],
            left_flat=flat[1],
            sizes=sizes.get(ends[1], ""),
        )
        WRITERS[type(node.spec)](node.spec, at)
        if {*site.outputs} == {"_"} and not node.stateful:
            del parts.forward[lines:]
        if node.layer:
            del parts.init[before:]
            return
        if len(parts.init) > before:
            parts.init.insert(before, f"        {_shapes_seen(model, node, first, flat)}")
        if node.spec.weighted_parts and not node.trainable:
            parts.init.append(f"        {at.module}.requires_grad_(False)")

    return emit
