"""Builds the canonical graph from the calls of a Keras model; imports no framework.

In: LayerCalls, one by one. Out: nodes, canonical weights and masks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from xlstm.errors import FileError, UnsupportedError, UsageError
from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers.custom import same_layer, unwrap_time_distributed
from xlstm.ir.permutes import order_of, time_distributed
from xlstm.ir.types import Array, Shape

from .context import LIMITS, CallContext, Config, ReadContext
from .custom_layers import check_told, sized, taken
from .graph import JOINT, MARK, Graph, bare
from .inbound_nodes import ANEW, KerasTensor, LayerCall
from .layers.config import halves_of, operation_of, read_input, read_layer
from .layers.options import to_first, to_last
from .masks import MOVED_MASKS, Mask, MaskPropagation, check_shapes, is_changed, masked_merge
from .ops.call import Operation, OperationInserter, fixed, is_alike
from .ops.elementwise import BY_NUMBER
from .ops.registry import MASKS, read_operation
from .weights import halves_train, read_weights, trainable_of

REDUCED = "a tensor reduced over all samples of a batch"

MOVES = (L.Permute, L.Flatten, L.Reshape)
"""Specs that move the axes around the main spec of a layer."""


class KerasGraphBuilder:
    """Builds the canonical graph from the calls of a Keras model.

    Attributes:
        nodes: the canonical graph so far.
        weights: node -> canonical tensors.
        carried: masks of the tensors.
        moves: names of nodes that only move the axes of one layer.
        rows: batch sizes of constants in the graph.
    """

    def __init__(self, reader: ReadContext, graph: Graph) -> None:
        self.reader = reader
        self.nodes = Builder()
        self.weights: dict[str, Mapping[str, Array]] = {}
        self.moves: set[str] = set()
        self.rows: set[int] = set()
        self.carried = MaskPropagation(reader, self.nodes, self.edge)
        data = {t.layer for call in graph.calls for t in (*call.inputs, *call.states)}
        data |= {tensor.layer for tensor in graph.outputs}
        masks = {mask.layer for call in graph.calls for mask in call.masks if mask}
        self._masks_alone = masks & set(graph.inputs) - data
        read = (*graph.outputs, *(tensor for call in graph.calls for tensor in call.reads))
        self._read = {(tensor.layer, tensor.output) for tensor in read}
        self._edges: dict[KerasTensor, Edge] = {}
        self._placed: set[tuple[str, int]] = set()
        self._owners: dict[str, list[tuple[str, L.LayerSpec]]] = {}
        self._shared = SharedLayers(reader)
        self._names: set[str] = {call.name for call in graph.calls}

    def edge(self, tensor: KerasTensor, where: str) -> Edge:
        """Returns the edge of an output of a layer.

        Raises:
            FileError: the layer has no such output.
            UnsupportedError: a mask that an operation computes, where it has no numbers.
        """
        todo = [tensor] if self._waits(tensor) else []
        while todo:  # first the inputs of an operation; a loop, as chains may be long
            name, call = self.carried.operations[todo[-1][:2]]
            if waiting := [read for read in call.inputs if self._waits(read)]:
                todo += waiting
            elif self._waits(todo.pop()):
                self._place(call, name, self.reader.where(call.name))
        if tensor not in self._edges:
            got = f"output {tensor.output} of {tensor.layer}"
            raise FileError(where, "an output of a layer", got, ANEW)
        return self._edges[tensor]

    def _waits(self, tensor: KerasTensor) -> bool:
        """True for a mask that an operation computes and that is not in the graph yet."""
        return self.carried.is_mask(tensor) and tensor[:2] not in self._placed

    def output(self, tensor: KerasTensor, where: str) -> Edge:
        """Returns the edge of an input of a layer, or of an output of the model.

        Raises:
            UnsupportedError: a tensor that was reduced over all samples.
        """
        edge = self.edge(tensor, where)
        if edge in self.carried.alike:
            got = f"{edge.node}, {REDUCED}"
            raise UnsupportedError(where, "a tensor of samples", got, LIMITS)
        return edge

    def add(self, call: LayerCall) -> None:
        """Adds a call with its weights."""
        where, before = self.reader.where(call.name), len(self.nodes)
        if call.kind == "InputLayer":
            self._add_input(call, where)
        elif call.kind == JOINT:
            self._add_joint(call, where)
        elif operation := operation_of(call.layer):
            self._add_operation(call, operation, where)
        else:
            self._add_layer(call, where)
        # one node was counted before
        self.reader.budget.spend("expanded nodes", max(len(self.nodes) - before - 1, 0), where)

    def _add_joint(self, call: LayerCall, where: str) -> None:
        """Assigns to a tensor the mask that a call names, or that another tensor carries."""
        self._edges[call.output()] = self.edge(call.inputs[0], where)
        carrier = call.options.get("carrier")
        mask = self.carried.of.get(carrier) if carrier else self.carried.masks(call, where)[0]
        if mask is None and carrier and self.reader.major < 3:
            mask = self.carried.of.get(call.inputs[0])
        self.carried.of[call.output()] = mask

    def _add_input(self, call: LayerCall, where: str) -> None:
        try:
            spec = read_input(call.layer.get("config", {}), where)
        except UsageError as error:
            raise FileError(where, error.expected, error.got, error.do) from None
        spec = replace(spec, dtype="bool") if call.name in self._masks_alone else spec
        edge = self._edges[call.output()] = self._add(where, call.name, spec)
        self.carried.booleans |= {edge} if spec.dtype == "bool" else set()

    def _add_operation(self, call: LayerCall, name: str, where: str) -> None:
        """Adds an operation; one on masks is added when a layer names its result."""
        on_mask = call.inputs and (
            self.carried.is_mask(call.inputs[0])
            or self._edges.get(call.inputs[0]) in self.carried.booleans
        )
        if name in MASKS or (on_mask and name in (*MOVED_MASKS, "concatenate")):
            self.carried.operations[call.name, call.number] = name, call
            return
        self._place(call, name, where)

    def _place(self, call: LayerCall, name: str, where: str) -> None:
        """Adds the nodes of an operation."""
        read = {tensor: self.edge(tensor, where) for tensor in call.inputs}
        shapes = {t: self.nodes.shape(edge)[call.wraps :] for t, edge in read.items()}
        flags = frozenset(tensor for tensor in call.inputs if read[tensor] in self.carried.flags)
        alike = frozenset(tensor for tensor in call.inputs if read[tensor] in self.carried.alike)
        operation = Operation(call, name, shapes, where, flags, alike)
        if alike and name not in BY_NUMBER:
            raise operation.refused("a tensor of samples", f"{read[min(alike)].node}, {REDUCED}")

        def add(node: str, spec: L.LayerSpec, edges: list[Edge]) -> Edge:
            return self._add(where, node, self._wrapped(spec, edges, call), edges)

        own = self._name(call)
        placing = OperationInserter(
            operation, read.__getitem__, add, self._free, own, self.carried.booleans
        )
        try:
            made = read_operation(operation)
        except UsageError as error:
            raise FileError(where, error.expected, error.got, error.do) from None
        edges = placing.outputs(made)
        self._edges |= {call.output(n): edge for n, edge in enumerate(edges)}
        self.rows |= operation.rows
        self.carried.note_flags(name, edges, made, flags)
        pairs = zip(edges, made, strict=True)
        self.carried.alike |= {edge for edge, own in pairs if is_alike(own, alike)}
        self._placed.add((call.name, call.number))

    def _add_layer(self, call: LayerCall, where: str) -> None:
        inputs = [self.output(tensor, where) for tensor in call.inputs]
        masks = self.carried.masks(call, where)
        shapes = [self.nodes.shape(x) for x in inputs]
        if call.wraps and any(len(shape) < call.wraps + 1 for shape in shapes):
            raise FileError(where, "an input with a time axis", f"{shapes[0]}", ANEW)
        context = CallContext(
            tuple(shape[call.wraps :] for shape in shapes),
            tuple(mask is not None for mask in masks),
            call.options,
            (call.name, 1) in self._read,
        )
        check_unmasked(self.reader, call.name, call.layer, masks[0])
        specs = read_layer(self.reader, call.layer, context)
        if call.name not in self._owners:
            heavy = any(spec.weighted_parts for spec in specs)
            if first := self._shared.owner(call) if heavy else "":
                self._owners[call.name] = self._owners[first]
        if isinstance(unwrap_time_distributed(specs[0]), L.Custom):
            check_told(specs[0], call.masks, where)
            specs = (self._sized(call, specs[0]),)
        changed = is_changed(self.reader, specs, masks)
        add = self._add_masked if changed else self._add_specs
        outputs = add(call, specs, inputs, masks)
        self._name_outputs(call, specs, outputs, masks)
        self.carried.after_heads(call, specs[-1])
        if call.name not in self._owners:
            self._owners[call.name] = [(own[0].node, self._spec(own[0])) for own in outputs]
            self._shared.note(call)
            name = "/".join(call.home)
            weights = read_weights(self.reader, name, call.layer, specs, call.group)
            self.weights |= {own[0].node: w for own, w in zip(outputs, weights, strict=True) if w}

    def _sized(self, call: LayerCall, spec: L.LayerSpec) -> L.LayerSpec:
        """Returns a registered layer with the shapes of its tensors: the file's, or its owner's."""
        if call.name in self._owners:
            own, first = (
                unwrap_time_distributed(spec),
                unwrap_time_distributed(self._owners[call.name][0][1]),
            )
            assert isinstance(own, L.Custom)
            assert isinstance(first, L.Custom)
            done = replace(own, shapes=first.shapes)
            return replace(spec, layer=done) if isinstance(spec, L.TimeDistributed) else done
        name = "/".join(call.home)
        stored = taken(self.reader, name, call.group)
        self.reader.give(name if self.reader.description.by_name else call.group, stored)
        return sized(self.reader, spec, stored, self.reader.where(call.name))

    def _spec(self, edge: Edge) -> L.LayerSpec:
        return self.nodes.node(edge.node).spec

    def _wrapped(self, spec: L.LayerSpec, inputs: Sequence[Edge], call: LayerCall) -> L.LayerSpec:
        """Returns a spec for every time step, for a layer of a model inside TimeDistributed."""
        for _ in range(call.wraps):
            ranks = {len(self.nodes.shape(x)) for x in inputs}
            if isinstance(spec, (L.Merge, L.Compare, L.Where)) and len(ranks) == 1:
                continue
            if isinstance(spec, L.Concatenate):
                spec = replace(spec, axis=spec.axis + (spec.axis >= 0))
                continue
            spec = time_distributed(spec)
        return spec

    def _add_masked(
        self,
        call: LayerCall,
        specs: Sequence[L.LayerSpec],
        inputs: list[Edge],
        masks: Sequence[Mask],
    ) -> list[list[Edge]]:
        """Adds a merge whose values depend on the masks of its inputs."""
        (spec,), where = specs, self.reader.where(call.name)
        assert isinstance(spec, L.Merge)
        kept = [None if mask is None else self.carried.sure(mask, where) for mask in masks]
        shapes = [self.nodes.shape(x) for x in inputs]
        check_shapes(shapes, [mask and self.nodes.shape(mask) for mask in kept], where)
        if call.wraps:
            raise UnsupportedError(where, "inputs without masks at every step", "masks", LIMITS)
        # maximum and minimum read every mask once for every input
        self.reader.budget.spend("expanded nodes", len(inputs) * len({*kept}), where)
        made: list[Edge] = []
        found, name = masked_merge(spec, inputs, kept, len(shapes[0])).found, self._name(call)
        for number, (own, reads) in enumerate(found, 1):
            here = name if number == len(found) else self._free(f"{name}/{number}")
            edges = [made[read] if isinstance(read, int) else read for read in reads]
            made.append(self._add(where, here, own, edges))
        return [made[-1:]]

    def _add_specs(
        self,
        call: LayerCall,
        specs: Sequence[L.LayerSpec],
        inputs: list[Edge],
        masks: Sequence[Mask],
    ) -> list[list[Edge]]:
        """Adds the nodes of a layer, one after the other; returns their outputs."""
        where = self.reader.where(call.name)
        channels = channels_of(specs)
        starts = self._starts(call, inputs[0], where, channels)
        states = shared_out(starts, specs, where)
        check_stack(self.reader, call.name, specs, bool(starts))
        if call.zeros and any(
            getattr(unwrap_time_distributed(spec), "stateful", False) for spec in specs
        ):
            want = "a stateful layer that starts where it ended"
            raise UnsupportedError(where, want, "initial_state=zeros at every call", LIMITS)
        names = self._stages(call, specs)
        trainable = trainable_of(call.layer, specs)
        if len(set(halves_train(call.layer))) > 1:
            self.reader.note(f"{where}: one half is not trainable; ports train both")
        found: list[list[Edge]] = []
        last = max((n for n, spec in enumerate(specs) if isinstance(spec, L.Recurrent)), default=-1)
        owners = self._owners.get(call.name, [])
        mask: Mask = masks[0] if masks else None
        for number, (name, spec, own) in enumerate(zip(names, specs, states, strict=True)):
            spec = self._wrapped(spec, inputs, call)
            shapes = [self.nodes.shape(x) for x in inputs]
            obeyed = self._obeyed(call, spec, shapes[0], mask, specs)
            reads = [*inputs, *self._attended(spec, masks, where)]
            layer = self._again(owners[number], spec, where) if owners else ""
            more: dict[str, Any] = {"mask": obeyed, "states": own, "layer": layer}
            x = self._add(where, name, spec, reads, trainable=trainable[number], **more)
            found.append([Edge(name, n) for n in range(len(self.nodes.node(name).shapes))])
            inputs = [x]
            if channels and channels.joined and number == channels.core:
                inputs = found[-1][:2]
            if obeyed and number < last and getattr(spec, "go_backwards", False):
                # later cells get the steps in the order of the first one
                mask = self._add(where, self._free(f"{name}/mask"), L.Reverse(), [obeyed])
        if channels:
            found[channels.core] = self._moved_back(call, channels, found[channels.core])
        return found

    def _moved_back(self, call: LayerCall, channels: Channels, found: list[Edge]) -> list[Edge]:
        """Returns the outputs of a layer with channels first; the last node moves the first one."""
        rest, spec = found[1 + channels.joined :], self._spec(found[0])
        twice = isinstance(spec, L.Bidirectional) and spec.merge == "none" and not channels.joined
        moved = found[:1]
        for number, edge in enumerate(rest, 1):
            move = channels.sequence if twice and number == 1 else channels.state
            if (call.name, number) in self._read:
                edge = self._move(call, move, edge, f"state/{number}")
            moved.append(edge)
        return moved

    def _move(self, call: LayerCall, move: L.LayerSpec, edge: Edge, part: str) -> Edge:
        """Adds a node that moves the channels of a tensor of a layer."""
        name, where = self._free(f"{call.name}/{part}"), self.reader.where(call.name)
        self.moves.add(name)
        return self._add(where, name, self._wrapped(move, [edge], call), [edge])

    def _starts(
        self, call: LayerCall, x: Edge, where: str, channels: Channels | None = None
    ) -> list[Edge]:
        """Returns the initial states that a call names; constants are repeated for every sample."""
        found = [self.output(tensor, where) for tensor in call.states]
        if channels:
            pairs = enumerate(found)
            found = [self._move(call, channels.start, edge, f"start/{n}") for n, edge in pairs]
        for place, (numbers, rows) in sorted(call.fixed.items()):
            self.rows |= {rows} - {1}
            rank, edge = len(self.nodes.shape(x)) - call.wraps, x
            for number, spec in enumerate(fixed(rank, numbers, (len(numbers),))):
                name = self._free(f"{self._name(call)}/state{place}/{number}")
                edge = self._add(where, name, self._wrapped(spec, [edge], call), [edge])
            found.insert(place, edge)
        return found

    def _again(self, owner: tuple[str, L.LayerSpec], spec: L.LayerSpec, where: str) -> str:
        """Returns the node whose layer is called again.

        Raises:
            UnsupportedError: a stateful layer, or calls that differ.
        """
        name, first = owner
        if getattr(spec, "stateful", False):
            raise UnsupportedError(where, "a stateful layer called once", "two calls", LIMITS)
        if same_layer(first, spec):
            return name
        if spec.weighted_parts:
            got = "calls on inputs, or with masks, that make other layers of it"
            raise UnsupportedError(where, "calls that are alike", got, LIMITS)
        return ""

    def _attended(self, spec: L.LayerSpec, masks: Sequence[Mask], where: str) -> list[Edge]:
        """Returns the masks that are inputs of attention."""
        if not isinstance(spec, (L.Attention, L.MultiHeadAttention)):
            return []
        return [self.carried.sure(masks["qvk".index(name)], where) for name in spec.masks]

    def _obeyed(
        self, call: LayerCall, spec: L.LayerSpec, x: Shape, mask: Mask, specs: Sequence[L.LayerSpec]
    ) -> Edge | None:
        """Returns the mask edge of a node.

        Raises:
            UnsupportedError: a mask that the layer would use and that has no exact form.
        """
        wanted = spec.mask_shape(x)
        if mask is None or wanted is None:
            return None
        where = self.reader.where(call.name)
        edge = self.carried.sure(mask, where)
        timed = isinstance(spec, L.TimeDistributed)
        if timed and len(self.nodes.shape(edge)) != len(wanted):
            want = f"a mask of rank {len(wanted) + 1} for the layer inside TimeDistributed"
            raise UnsupportedError(where, want, "a mask of the time steps alone", LIMITS)
        if len(specs) > 1 and not isinstance(
            unwrap_time_distributed(spec), (L.Recurrent, L.Bidirectional)
        ):
            want = "a layer with channels_last where a mask counts"
            raise UnsupportedError(where, want, "channels_first", LIMITS)
        if isinstance(spec, (L.Recurrent, L.Bidirectional)):
            check_masked(self.reader, call.name, call.layer, specs, call.started)
        return edge

    def _name(self, call: LayerCall) -> str:
        """Returns the name of a call's node: its layer's, with the number of later calls."""
        taken = call.name in self.nodes
        return self._free(f"{call.name}/{call.number or 1}") if taken else call.name

    def _stages(self, call: LayerCall, specs: Sequence[L.LayerSpec]) -> list[str]:
        """Returns names of a layer's nodes: the layer's for the main one, else numbers."""
        name = self._name(call)
        heavy = [n for n, spec in enumerate(specs) if spec.weighted_parts]
        main = heavy or [
            n for n, s in enumerate(specs) if not isinstance(unwrap_time_distributed(s), MOVES)
        ]
        single = len(specs) == 1 or len(main) == 1
        chosen = main[0] if main else 0
        names = [
            name if single and n == chosen else self._free(f"{name}/{n}") for n in range(len(specs))
        ]
        stages = zip(names, specs, strict=True)
        self.moves |= {stage for stage, spec in stages if stage != name and order_of(spec)}
        return names

    def _free(self, name: str) -> str:
        """Returns a name that no other node has."""
        while name in self._names:
            name += "_"
        self._names.add(name)
        return name

    def _name_outputs(
        self,
        call: LayerCall,
        specs: Sequence[L.LayerSpec],
        found: list[list[Edge]],
        masks: Sequence[Mask],
    ) -> None:
        """Records the edge of each output of a layer, and the mask that it carries."""
        (y, *rest), last = found[-1], main_of(specs)
        edges = [y, *(edge for own in found[:-1] for edge in own[1:]), *rest]
        inner = unwrap_time_distributed(last)
        carried = self.carried.after(call, last, masks)
        if isinstance(inner, L.Masking) or (isinstance(inner, L.Embedding) and inner.mask_zero):
            own = edges.pop()
            self.carried.booleans.add(own)
            lost = inner is not last and isinstance(inner, L.Masking)  # inside TimeDistributed
            carried = carried if lost else own
        self._edges |= {call.output(n): edge for n, edge in enumerate(edges)}
        joined = any(isinstance(spec, L.Concatenate) for spec in specs)
        two = isinstance(last, L.Bidirectional) and last.merge == "none" and not joined
        self.carried.of |= {call.output(n): carried for n in range(1 + two) if carried}

    def _add(self, where: str, *args: object, **options: object) -> Edge:
        """Adds a node; invalid options are an error of the file here, not of the caller."""
        try:
            edge = self.nodes.add(*args, **options)  # type: ignore[arg-type]
        except UsageError as error:
            raise FileError(where, error.expected, error.got, error.do) from None
        node = self.nodes.node(edge.node)
        self.carried.note_mask(node.name, node.spec, node.inputs)
        return edge


def _name(layer: Config) -> str:
    options = layer.get("config")
    return str(options.get("name")) if isinstance(options, Mapping) else ""


def _plain(value: Any) -> Any:
    """Returns a config without the marks of shared objects."""
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items() if key != MARK}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _alike(first: Config, second: Config) -> bool:
    one, other = bare(first), bare(second)
    kinds = one.get("class_name") == other.get("class_name")
    return kinds and _plain(one.get("config")) == _plain(other.get("config"))


class SharedLayers:
    """Finds the layer of a call, also if it has another name there."""

    def __init__(self, reader: ReadContext) -> None:
        self.reader = reader
        self._marked: dict[str, LayerCall] = {}
        self._named: dict[str, LayerCall] = {}

    def note(self, call: LayerCall) -> None:
        """Records the first call of a layer that owns its weights."""
        self._marked |= dict.fromkeys(call.same, call)
        self._named[_name(bare(call.layer))] = call

    def owner(self, call: LayerCall) -> str:
        """Returns the name of the layer that owns a layer's weights, "" if it has its own.

        Files store the arrays of such a layer once, or as copies under each of its names.
        """
        by_name = self.reader.description.by_name
        key = "/".join(call.home) if by_name else call.group
        first = next((self._marked[mark] for mark in call.same if mark in self._marked), None)
        if first is None and not by_name and not self.reader.below(call.group):
            first = self._named.get(_name(bare(call.layer)))
        if first is None or not _alike(first.layer, call.layer):
            return ""
        self.reader.leave([key])
        return first.name


def shared_out(states: list[Edge], specs: Sequence[L.LayerSpec], where: str) -> list[list[Edge]]:
    """Splits the initial states among the specs; empty for all if there are none."""
    counts = [
        len(spec.state_shapes()) if isinstance(spec, (L.Recurrent, L.Bidirectional)) else 0
        for spec in specs
    ]
    if states and len(states) != sum(counts):
        want = f"{sum(counts)} initial states, or none"
        raise FileError(where, want, f"{len(states)}", "save the model again")
    left = iter(states)
    return [[next(left) for _ in range(count if states else 0)] for count in counts]


class Channels(NamedTuple):
    """A ConvLSTM, or two in both directions, whose channels come first in Keras.

    Attributes:
        core: index of the layer among the specs of the config.
        joined: True if Keras joins its two outputs along an axis of space.
        sequence: the permutation of its outputs.
        state: the same permutation of its last states.
        start: the permutation of its initial states.
    """

    core: int
    joined: bool
    sequence: L.LayerSpec
    state: L.Permute
    start: L.Permute


def channels_of(specs: Sequence[L.LayerSpec]) -> Channels | None:
    """Returns the permutations of the channels of a layer's states; None if there are none.

    >>> spec = L.ConvLSTM(2, 3, space=(5,), window=(2,), strides=(1,), dilation=(1,))
    >>> channels_of([L.Permute((1, 3, 2)), spec, L.Permute((2, 1))]).core
    1
    """
    if not isinstance(unwrap_time_distributed(specs[-1]), L.Permute):
        return None
    for place, spec in enumerate(specs):
        own = unwrap_time_distributed(spec)
        core = own.forward if isinstance(own, L.Bidirectional) else own
        if isinstance(core, L.ConvLSTM):
            rank = len(core.space)
            joined = any(isinstance(spec, L.Concatenate) for spec in specs)
            return Channels(place, joined, specs[-1], to_first(rank), to_last(rank))
    return None


def main_of(specs: Sequence[L.LayerSpec]) -> L.LayerSpec:
    """Returns the spec that decides the mask of the output: the last that is no move of axes."""
    found = channels_of(specs)
    return specs[found.core] if found else specs[-1]


def check_masked(
    reader: ReadContext, name: str, layer: Config, specs: Sequence[L.LayerSpec], states: bool
) -> None:
    """Raises UnsupportedError where Keras computes something else with a mask than our layers.

    Args:
        reader: the context of reading.
        name: of a recurrent layer that uses a mask.
        layer: its config.
        specs: its specs.
        states: True if the call names initial states.
    """
    where = reader.where(name)
    for spec, config in _parts(layer, specs):
        if config.get("unroll") and _zeros(spec) and spec.go_backwards:
            want = "a loop where the masked outputs of a layer that goes backwards are zeros"
            got = "unroll=True, where Keras puts the zeros at the steps of the mask turned round"
            raise UnsupportedError(where, want, got, "build the layer with unroll=False")
        stateful = states or spec.stateful
        if stateful and reader.era.starts_from_state and not config.get("unroll"):
            want = "zeros at masked steps before the first valid one"
            got = f"Keras {reader.era.version}, which gives the initial state there"
            raise UnsupportedError(where, want, got, "save the model with a newer Keras")
    both = any(isinstance(spec, L.Bidirectional) and spec.return_sequences for spec in specs)
    if both and reader.era.repeated_both_ways:
        reader.warn(
            f"masked steps of {name}: standalone Keras before 2.4 (this file: "
            f"{reader.era.version}) repeated the last output there; ports give zeros, as tf.keras "
            "and Keras 3 do"
        )
    if both and not reader.era.zeros_in_both_ways:
        reader.warn(
            f"masked steps of {name} repeat the last output, as Keras {reader.era.version} "
            "computes them; tf.keras and Keras 3 give zeros there"
        )


def check_stack(reader: ReadContext, name: str, specs: Sequence[L.LayerSpec], states: bool) -> None:
    """Raises UnsupportedError if the states of stacked cells have another order."""
    cells = [spec for spec in specs if isinstance(spec, L.Recurrent)]
    returned = any(spec.return_state for spec in cells)
    if len(cells) > 1 and (states or returned) and reader.era.stacks_states_backwards:
        where, want = reader.where(name), "states in the order of the cells"
        got = f"Keras {reader.era.version}, which turns it round"
        raise UnsupportedError(where, want, got, "save the model with a newer Keras")


def _parts(layer: Config, specs: Sequence[L.LayerSpec]) -> Iterator[tuple[L.Recurrent, Config]]:
    """Yields the recurrent layers in a layer, each with its options."""
    options = layer.get("config", {})
    halves = halves_of(options) if layer.get("class_name") == "Bidirectional" else ()
    for spec in specs:
        if isinstance(spec, L.Bidirectional):
            for half, config in zip(spec.halves, halves, strict=True):
                yield half, config.get("config", {})
        elif isinstance(spec, L.Recurrent):
            yield spec, options


def _zeros(spec: L.Recurrent) -> bool:
    return spec.zero_output_for_mask and spec.return_sequences


def check_unmasked(reader: ReadContext, name: str, layer: Config, mask: object) -> None:
    """Raises UnsupportedError for a layer that uses a mask in another way than ours."""
    if mask is not None and layer.get("class_name") == "Softmax":
        where, want = reader.where(name), "a Softmax without a mask, which hides numbers from it"
        raise UnsupportedError(where, want, "a masked input", "build it without the mask")
