"""Converts the neutral description of a Keras file or live model to a Model; no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from xlstm.errors import FileError, NoArchitectureError, UnsupportedError
from xlstm.files.description import Description
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Input
from xlstm.ir.permutes import settled
from xlstm.ir.source import Source

from .builder import KerasGraphBuilder
from .context import Paths, ReadContext
from .graph import layers_of, name_of, until_layer
from .joined_files import in_order, say_joined
from .keras1 import homes_of, sort_parts
from .layers.config import check_classes
from .layers.options import RULES
from .ops.call import OPERATIONS
from .ops.registry import MASKS
from .submodels import SubmodelFlattener, all_layers, written_out
from .weights import Groups, sort_nested


def _no_architecture(description: Description) -> NoArchitectureError:
    return NoArchitectureError(
        description.file,
        "an architecture for these weights",
        description.container,
        "pass architecture=FILE (JSON, YAML, or a whole model of the same layers), or build the "
        "model and give its arrays with layers=",
    )


def read_description(description: Description, *, lone: bool = False, until: str = "") -> Model:
    """Reads a Keras model from its description.

    Args:
        description: description of a file or a live model.
        lone: True for a single layer.
        until: the layer whose output is the model's output; later layers are not read.

    Raises:
        UnsupportedError: a layer or option without an exact form.
        FileError: a config that is incomplete.
        WeightsError: weights that do not fit the layers, or that no layer uses.
        UsageError: no layer has the name `until`.
    """
    if not description.config:
        raise _no_architecture(description)
    whole = layers_of(description.config, description.file or "keras")
    description, note = in_order(description, whole)
    reader = ReadContext(description, RULES, {*OPERATIONS, *MASKS})
    if note:
        reader.note(note)
    config = until_layer(description.config, until, reader.file) if until else description.config
    layers = layers_of(config, reader.file)
    every = list(all_layers(layers, reader.file))
    check_classes(reader, every)
    number, characters = written_out(config, reader.file)
    reader.budget.spend("expanded nodes", number, reader.file)
    reader.budget.spend("characters", characters, reader.file)
    graph = SubmodelFlattener(description, reader.file).flat(config, layers=whole)
    if graph.deep:
        want, do = "outputs as a list or a dict of tensors", "return them side by side"
        raise UnsupportedError(f"{reader.file}, outputs", want, graph.deep, do)
    _cut(reader, whole, layers)
    sort_nested(reader, homes_of(graph.calls))
    sort_parts(reader, graph.calls)
    assembly = KerasGraphBuilder(reader, graph)
    for call in graph.calls:
        assembly.add(call)
    outputs = tuple(assembly.output(tensor, f"{reader.file}, outputs") for tensor in graph.outputs)
    reader.check_used()
    nodes, outputs = settled(assembly.nodes.nodes, outputs, assembly.moves)
    nodes = _of_batch(reader, nodes, assembly.rows)
    say_joined(reader, every, any(node.mask for node in nodes))
    model = Model(
        graph.name,
        nodes,
        graph.inputs,
        outputs,
        assembly.weights,
        _source(reader),
        keys=graph.keys,
    )
    _check_stateful(reader, model)
    return replace(model, lone=lone and len(model.layers) == 1)


def _cut(
    reader: ReadContext, whole: Sequence[Mapping[str, object]], left: Sequence[object]
) -> None:
    """Drops the weights of layers that are not read."""
    if len(left) == len(whole):
        return
    groups = Groups(reader.description.step, Paths(reader.description.weights))
    kept = {name_of(layer) for layer in left}  # type: ignore[arg-type]
    paths = {name_of(layer): groups.of(layer) for layer in whole}
    cut = [name for name in paths if name not in kept]
    reader.leave(cut if reader.description.by_name else [paths[name] for name in cut])
    reader.note(f"read up to one layer: {len(cut)} layers left out")


def _of_batch(reader: ReadContext, nodes: tuple[Node, ...], rows: set[int]) -> tuple[Node, ...]:
    """Returns nodes whose inputs have the batch size of constants; Keras accepts no other then."""
    if not rows:
        return nodes
    specs = {node.name: node.spec for node in nodes if isinstance(node.spec, Input)}
    found = sorted(rows | {spec.batch for spec in specs.values() if spec.batch is not None})
    if len(found) > 1:
        where, want, do = reader.file, "constants and inputs of one batch size", "use one size"
        raise FileError(where, want, " and ".join(map(str, found)), do)
    batch = {name: replace(spec, batch=found[0]) for name, spec in specs.items()}
    return tuple(replace(node, spec=batch.get(node.name, node.spec)) for node in nodes)


def _check_stateful(reader: ReadContext, model: Model) -> None:
    """Raises FileError for stateful layers without a batch size."""
    sizes = {getattr(model.node(name).spec, "batch", None) for name in model.inputs}
    if model.stateful and sizes == {None}:
        where = reader.where(model.stateful[0].name)
        want, do = "a batch size for stateful=True", "build the model with batch_shape=(size, ...)"
        raise FileError(where, want, "none", do)


def _source(reader: ReadContext) -> Source:
    said = reader.description
    ignored = [f"members not read: {', '.join(said.ignored)}"] if said.ignored else []
    return Source(
        "keras",
        reader.era.version,
        said.container,
        said.file,
        said.sha256,
        (*reader.notes, *ignored),
        reader.all_warnings(),
        said.optimizer,
    )
