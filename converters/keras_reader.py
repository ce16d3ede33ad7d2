"""From the neutral description of a Keras file or live model to a Model; imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from xlstm.converters.keras_calls import ANEW, MASK, Call, Tensor
from xlstm.converters.keras_configs import cells_of, check_classes, read_layer
from xlstm.converters.keras_context import (
    DTYPES,
    LIMITS,
    Config,
    Reader,
    dtype_policy,
    is_operation,
)
from xlstm.converters.keras_graph import Graph, layers_of, name_of, read_graph
from xlstm.converters.keras_quirks import check_masked, check_stack
from xlstm.converters.keras_rules import RULES
from xlstm.converters.keras_weights import Groups, read_weights

from xlstm.errors import FileError, UnsupportedError, UsageError
from xlstm.files.description import Description
from xlstm.model import (
    Array,
    Bidirectional,
    Builder,
    Edge,
    Input,
    Masking,
    Model,
    Recurrent,
    Reverse,
    Source,
    Spec,
)

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "bool")
"""Dtypes of inputs that hold whole numbers."""

INPUT_ONLY = {"sparse": False, "ragged": False, "optional": False}
"""Options of input layers of which one value is supported."""


def _input(config: Config, where: str) -> Input:
    """An input layer, whichever era's words its options are in."""
    for key, value in INPUT_ONLY.items():
        if config.get(key) not in (None, value):
            got = f"{key}={config[key]!r}"
            raise UnsupportedError(where, f"{key}={value!r}", got, LIMITS)
    shape = config.get("batch_shape", config.get("batch_input_shape"))
    if not isinstance(shape, (list, tuple)) or not all(
        size is None or (type(size) is int and size > 0) for size in shape
    ):
        got = "none in the config" if shape is None else shape
        raise FileError(where, "an input shape", got, "build the model first")
    dtype = dtype_policy(config.get("dtype") or config.get("input_dtype"))
    dtype = dtype if dtype in (*DTYPES, *WHOLE) else "float32"
    return Input(tuple(shape[1:]), dtype, shape[0] if shape else None)


class Assembly:
    """Puts the hub's graph together from the calls of a Keras model.

    Attributes:
        nodes: the hub's graph so far.
        weights: node -> hub tensors.
    """

    def __init__(self, reader: Reader, graph: Graph) -> None:
        self.reader = reader
        self.nodes = Builder()
        self.weights: dict[str, dict[str, Array]] = {}
        self._masks_alone = graph.masks_alone()
        self._edges: dict[Tensor, Edge] = {}
        self._carried: dict[Tensor, Edge] = {}
        self._booleans: set[Edge] = set()

    def edge(self, tensor: Tensor, where: str) -> Edge:
        """The hub's edge of an output of a layer.

        Raises:
            FileError: the layer has no such output.
        """
        if tensor not in self._edges:
            got = f"output {tensor.output} of {tensor.layer}"
            raise FileError(where, "an output of a layer", got, ANEW)
        return self._edges[tensor]

    def add(self, call: Call, group: str) -> None:
        """Adds a call with its weights; `group` is its path in new weights files."""
        where = self.reader.where(call.name)
        if call.kind == "InputLayer":
            spec = _input(call.layer.get("config", {}), where)
            spec = replace(spec, dtype="bool") if call.name in self._masks_alone else spec
            edge = self._edges[Tensor(call.name, 0, 0)] = self._add(where, call.name, spec)
            self._booleans |= {edge} if spec.dtype == "bool" else set()
            return
        x = self.edge(call.inputs[0], where)
        if len(call.inputs) > 1:
            raise UnsupportedError(where, "a layer of one input", f"{len(call.inputs)}", LIMITS)
        specs = read_layer(self.reader, call.layer, self.nodes.shape(x))
        mask, carried = self._mask(call, where)
        outputs = self._add_specs(call, specs, x, mask)
        self._name_outputs(call, specs[-1], outputs, carried)
        hub = read_weights(self.reader, call.name, call.layer, specs, group)
        self.weights |= {own[0].node: w for own, w in zip(outputs, hub, strict=True) if w}

    def _mask(self, call: Call, where: str) -> tuple[Edge | None, Edge | None]:
        """The mask that a layer obeys, and the one that goes on from it."""
        if call.mask is not None:
            named = self.edge(call.mask, where)
            if named not in self._booleans:
                want = "a mask that is an input of its own, or a Masking layer's"
                raise UnsupportedError(where, want, f"one computed by {named.node}", LIMITS)
            return named, named
        carried = self._carried.get(call.inputs[0])
        # Keras 3 hands a carried mask on only where a call has no other tensors
        obeyed = None if call.states and self.reader.major > 2 else carried
        return obeyed, carried

    def _add_specs(
        self, call: Call, specs: Sequence[Spec], x: Edge, mask: Edge | None
    ) -> list[list[Edge]]:
        """Adds a node, or those of stacked cells one after the other; gives their outputs."""
        where = self.reader.where(call.name)
        states = _shared_out([self.edge(t, where) for t in call.states], specs, where)
        obeyed = mask if isinstance(specs[0], (Recurrent, Bidirectional)) else None
        if obeyed:
            check_masked(self.reader, call.name, call.layer, specs, bool(call.states))
        check_stack(self.reader, call.name, specs, bool(call.states))
        names = [f"{call.name}/{n}" for n in range(len(specs))] if len(specs) > 1 else [call.name]
        trainable = _trainable(call.layer, len(specs))
        if len(set(_halves_train(call.layer))) > 1:
            self.reader.note(f"{where}: one half is not trainable; ports train both")
        found: list[list[Edge]] = []
        for name, spec, own, trains in zip(names, specs, states, trainable, strict=True):
            shape = self.nodes.shape(x)
            x = self._add(where, name, spec, [x], mask=obeyed, states=own, trainable=trains)
            found.append([Edge(name, n) for n in range(len(spec.output_shapes(shape)))])
            if obeyed and name != names[-1] and getattr(spec, "go_backwards", False):
                # the cells after the first see its order of the steps
                obeyed = self._add(where, f"{call.name}/mask", Reverse(), [obeyed])
        return found

    def _name_outputs(
        self, call: Call, last: Spec, found: list[list[Edge]], carried: Edge | None
    ) -> None:
        """Notes which edge each output of a layer is, and which mask it carries."""
        (y, *rest) = found[-1]
        edges = [y, *(edge for own in found[:-1] for edge in own[1:]), *rest]
        if isinstance(last, Masking):
            self._edges[Tensor(call.name, 0, MASK)] = carried = edges.pop()
            self._booleans.add(carried)
        self._edges |= {Tensor(call.name, 0, n): edge for n, edge in enumerate(edges)}
        if carried:
            sequences = range(_sequences(last))
            self._carried |= {Tensor(call.name, 0, n): carried for n in sequences}

    def _add(self, where: str, *args: object, **options: object) -> Edge:
        """Adds a node; what makes no sense is the file's fault here, not the caller's."""
        try:
            return self.nodes.add(*args, **options)  # type: ignore[arg-type]
        except UsageError as error:
            raise FileError(where, error.expected, error.got, error.do) from None


def _shared_out(states: list[Edge], specs: Sequence[Spec], where: str) -> list[list[Edge]]:
    """The initial states of each spec; none for all where none are given."""
    counts = [
        len(spec.state_shapes()) if isinstance(spec, (Recurrent, Bidirectional)) else 0
        for spec in specs
    ]
    if states and len(states) != sum(counts):
        want = f"{sum(counts)} initial states, or none"
        raise FileError(where, want, f"{len(states)}", ANEW)
    left = iter(states)
    return [[next(left) for _ in range(count if states else 0)] for count in counts]


def _sequences(spec: Spec) -> int:
    """How many outputs of a layer carry on the mask of its input."""
    if isinstance(spec, (Recurrent, Bidirectional)) and not spec.return_sequences:
        return 0
    return 2 if isinstance(spec, Bidirectional) and spec.merge == "none" else 1


def _trainable(layer: Config, count: int) -> list[bool]:
    """Whether each of a layer's specs trains: the layer, and all that it wraps."""
    config = layer.get("config", {})
    own = bool(config.get("trainable", True))
    if "cell" in config:
        stack = bool(config["cell"].get("config", {}).get("trainable", True))
        return [own and stack and _trainable(cell, 1)[0] for cell in cells_of(layer)]
    below = _halves_train(layer)
    return [own and (not below or any(below))] * count


def _halves_train(layer: Config) -> list[bool]:
    """Whether each layer inside another trains."""
    config = layer.get("config", {})
    inside = [config.get(key) for key in ("layer", "backward_layer")]
    return [_trainable(item, 1)[0] for item in inside if isinstance(item, Mapping)]


def _no_architecture(description: Description) -> UsageError:
    missing = ["architecture=FILE (the model's JSON or YAML)"]
    missing += [] if description.version else ['keras_version="2.1", say']
    return UsageError(
        description.file,
        "an architecture for these weights",
        description.container,
        f"pass {' and '.join(missing)}, or build the model and give its arrays with layers=",
    )


def read_description(description: Description, *, lone: bool = False) -> Model:
    """A Keras model from its description.

    Raises:
        UnsupportedError: a layer or option without an exact form here.
        FileError: a config that is incomplete.
        WeightsError: weights that do not fit the layers, or are left over.
    """
    if not description.config:
        raise _no_architecture(description)
    reader = Reader(description, RULES)
    layers = layers_of(description.config, reader.file)
    check_classes(reader, layers)
    graph = read_graph(description.config, reader.file)
    groups = Groups(description)
    paths = {name_of(layer): groups.of(layer) for layer in layers if not is_operation(layer)}
    assembly = Assembly(reader, graph)
    for call in graph.calls:
        assembly.add(call, paths.get(call.name, ""))
    outputs = tuple(assembly.edge(tensor, reader.file) for tensor in graph.outputs)
    reader.check_used()
    nodes = assembly.nodes.nodes
    model = Model(graph.name, nodes, graph.inputs, outputs, assembly.weights, _source(reader))
    _check_stateful(reader, model)
    return replace(model, lone=lone and len(model.layers) == 1)


def _check_stateful(reader: Reader, model: Model) -> None:
    """Raises FileError for layers that keep states of a batch whose size nothing says."""
    sizes = {getattr(model.node(name).spec, "batch", None) for name in model.inputs}
    if model.stateful and sizes == {None}:
        where = reader.where(model.stateful[0].name)
        want, do = "a batch size for stateful=True", "build the model with batch_shape=(size, ...)"
        raise FileError(where, want, "none", do)


def _source(reader: Reader) -> Source:
    said = reader.description
    ignored = [f"members not read: {', '.join(said.ignored)}"] if said.ignored else []
    return Source(
        "keras",
        said.version,
        said.container,
        said.file,
        said.sha256,
        (*reader.notes, *ignored),
        reader.all_warnings(),
    )
