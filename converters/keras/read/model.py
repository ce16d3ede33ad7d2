"""Converts the neutral description of a Keras file or live model to a Model; no framework.

Weights may be joined with the architecture of another Keras: a note says both versions, and a
warning says every option with another default or meaning. The port follows the config. Keras does
not warn: weights that were trained with hard_sigmoid fit a layer with sigmoid.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xlstm.errors import FileError, NoArchitectureError, UnsupportedError, UsageError
from xlstm.files.description import Description
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Input
from xlstm.ir.permutes import settled
from xlstm.ir.source import NOT_READ, Source

from ..versions import ERA_CLASSES, Era, layers_inside, modern_options
from .builder import KerasGraphBuilder
from .context import NESTED, Config, Paths, ReadContext, is_custom, is_operation, registered_name
from .graph import (
    Groups,
    SubmodelFlattener,
    all_layers,
    layers_of,
    name_of,
    until_layer,
    written_out,
)
from .keras1 import sort_parts
from .layers.config import check_classes
from .layers.options import RULES
from .ops.call import OPERATIONS
from .ops.registry import MASKS
from .weights import sort_nested


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
    sort_nested(reader, graph.homes)
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
    description = reader.description
    ignored = [f"{NOT_READ}{', '.join(description.ignored)}"] if description.ignored else []
    return Source(
        "keras",
        reader.era.version,
        description.container,
        description.file,
        description.sha256,
        (*reader.notes, *ignored),
        reader.all_warnings(),
        description.optimizer,
    )


Numbers = tuple[int, ...]

GATED = frozenset({"LSTM", "GRU", "LSTMCell", "GRUCell"})
WINDOWED = frozenset(f"ConvLSTM{rank}D" for rank in (1, 2, 3))
ANY_GATE = ("hard_sigmoid", "sigmoid")
EITHER = (False, True)


@dataclass(frozen=True)
class Default:
    """Default value of an option of some classes, by version.

    Attributes:
        option: its name today.
        classes: today's names of the classes.
        standalone: (first version, defaults) of the Keras beside TensorFlow, oldest first.
        tensorflow: the same of TensorFlow's copy, and of Keras since 2.4. Two defaults where one
            version number stands for two: 2.2.4-tf is in TensorFlow 1 and 2.
        proven: True where the shapes of the weights prove the option, for a layer's options.
    """

    option: str
    classes: frozenset[str]
    standalone: tuple[tuple[Numbers, tuple[Any, ...]], ...]
    tensorflow: tuple[tuple[Numbers, tuple[Any, ...]], ...]
    proven: Callable[[Config], bool] = lambda options: False

    def of(self, era: Era) -> tuple[Any, ...]:
        """Returns the defaults of a version; those of all possible versions for "1" alone."""
        found = []
        for rows, since_2_4 in ((self.standalone, False), (self.tensorflow, True)):
            if since_2_4 in _lines(era):
                found += [values for since, values in rows if since <= era.numbers][-1:]
                found += [values for since, values in rows if _may_be(era, since)]
        return tuple(dict.fromkeys(value for values in found for value in values))


def _lines(era: Era) -> tuple[bool, ...]:
    """True for TensorFlow's Keras, False for the package; both if the version is unclear."""
    try:
        return (era.follows_tensorflow,)
    except UsageError:
        return (False, True)


def _may_be(era: Era, since: Numbers) -> bool:
    """True if a version such as "1" may be a newer one that `since` starts."""
    return len(era.numbers) < len(since) and since[: len(era.numbers)] == era.numbers


DEFAULTS = (
    Default(
        "recurrent_activation",
        GATED,
        (((1,), ("hard_sigmoid",)), ((2, 3), ("sigmoid",))),
        (((1,), ("hard_sigmoid",)), ((2, 2, 4), ANY_GATE), ((2, 3), ("sigmoid",))),
    ),
    Default(
        "recurrent_activation",
        WINDOWED,
        (((1,), ("hard_sigmoid",)),),
        (((1,), ("hard_sigmoid",)), ((3,), ("sigmoid",))),
    ),
    Default(
        "reset_after",
        frozenset({"GRU", "GRUCell"}),
        (((1,), (False,)),),
        (((1,), (False,)), ((2, 2, 4), EITHER), ((2, 3), (True,))),
        # the bias has two rows then
        proven=lambda options: options.get("use_bias", True) is not False,
    ),
    Default(
        "epsilon",
        frozenset({"BatchNormalization"}),
        (((1,), (1e-6,)), ((1, 1), (1e-5,)), ((1, 2), (1e-3,))),
        (((1,), (1e-3,)),),
    ),
)
"""Options with another default in another version."""


@dataclass(frozen=True)
class Meaning:
    """A computation that differs between versions with the same options.

    Attributes:
        what: its description.
        properties: names of the properties of Era that decide it.
        value: the value in a version.
        classes: today's names of the classes that compute it; empty for all.
        where: True for layers whose options use it.
        masked: True if only masked models use it.
    """

    what: str
    properties: tuple[str, ...]
    value: Callable[[Era], Any]
    classes: frozenset[str] = frozenset()
    where: Callable[[Config], bool] = lambda options: True
    masked: bool = False


def _is_hard(options: Config) -> bool:
    return "hard_sigmoid" in map(str, (options.get(k) for k in ("activation", GATE)))


def _keeps_states(options: Config) -> bool:
    return bool(options.get("stateful") or options.get("return_state"))


def _stacks(options: Config) -> bool:
    cell = options.get("cell")
    inside = cell.get("config") if isinstance(cell, Mapping) else None
    cells = inside.get("cells") if isinstance(inside, Mapping) else None
    return isinstance(cells, list) and len(cells) > 1 and _keeps_states(options)


GATE = "recurrent_activation"
MERGING = frozenset("Add Average Concatenate Maximum Minimum Multiply Subtract Merge".split())
KEPT = {True: "kept where one input keeps them", False: "kept where all inputs keep them"}

MEANINGS = (
    Meaning(
        "hard_sigmoid",
        (),
        lambda era: "clip(0.2 x + 0.5, 0, 1)" if era.major < 3 else "clip(x/6 + 0.5, 0, 1)",
        where=_is_hard,
    ),
    Meaning(
        "masked steps of a sequence that goes both ways",
        ("zeros_in_both_ways", "repeated_both_ways"),
        lambda era: "the last output again" if era.repeats_both_ways else "zeros",
        frozenset({"Bidirectional"}),
        masked=True,
    ),
    Meaning(
        "masked steps before the first valid one",
        ("starts_from_state",),
        lambda era: "the initial state" if era.starts_from_state else "zeros",
        frozenset({"LSTM", "GRU", "SimpleRNN", "RNN"}),
        masked=True,
    ),
    Meaning(
        "steps of several inputs with masks",
        ("joins_masks_by_or",),
        lambda era: KEPT[era.joins_masks_by_or],
        MERGING,
        masked=True,
    ),
    Meaning(
        "the least length that normalize=True divides by",
        ("cosine_floor",),
        lambda era: f"{era.cosine_floor:.0e}",
        frozenset({"Dot"}),
        lambda options: bool(options.get("normalize")),
    ),
    Meaning(
        "the least length that is divided by",
        ("length_floor",),
        lambda era: f"{era.length_floor:.0e}",
        frozenset({"UnitNormalization"}),
    ),
    Meaning(
        "the axis of a bias as long as the last axis, in channels_first",
        ("adds_bias_last",),
        lambda era: "the last one" if era.adds_bias_last else "the channels",
        frozenset(f"{kind}{n}D" for n in (1, 2, 3) for kind in ("Conv", "SeparableConv")),
        lambda options: options.get("data_format") == "channels_first",
    ),
    Meaning(
        "masks of its inputs",
        ("masks_attention",),
        lambda era: "obeyed" if era.masks_attention else "not obeyed",
        frozenset({"MultiHeadAttention"}),
        masked=True,
    ),
    Meaning(
        "the output for a query that sees no value",
        ("blind",),
        lambda era: era.blind(False),
        frozenset({"MultiHeadAttention"}),
        masked=True,
    ),
    Meaning(
        "the states of stacked cells",
        ("stacks_states_backwards",),
        lambda era: "last cell first" if era.stacks_states_backwards else "first cell first",
        frozenset({"RNN"}),
        _stacks,
    ),
)
"""All properties of Era, and the formula of hard_sigmoid."""


def in_order(description: Description, layers: Sequence[Config]) -> tuple[Description, str]:
    """Returns bare weights under the names of the architecture's layers, and a note of new names.

    Keras's load_weights uses the order of the layers, not their names: a model that is
    built again has dense_3 for dense_1. Old HDF5 files list all layers in that order. If all names
    fit, they stay.

    Args:
        description: weights and architecture.
        layers: of the architecture.
    """
    weights = description.weights
    if description.architecture is None or not description.by_name:
        return description, ""
    own = [name_of(layer) for layer in layers if not is_operation(layer)]
    every = {*own, *map(name_of, all_layers(list(layers), description.file))}
    named = all(name in every for name, stored in weights.items() if stored)
    if named:
        return description, ""
    inner = [
        name_of(layer)
        for layer in layers
        if not is_operation(layer) and layer.get("class_name") != "InputLayer"
    ]
    names = next((names for names in (own, inner) if len(names) == len(weights)), None)
    if names is None:
        return description, ""
    pairs = list(zip(weights, names, strict=True))
    changed = [f"{old} is {new}" for old, new in pairs if weights[old] and old != new]
    note = f"weights joined by the order of the layers, as Keras does: {', '.join(changed)}"
    return replace(description, weights={new: weights[old] for old, new in pairs}), note


def say_joined(reader: ReadContext, layers: Sequence[Config], masked: bool) -> None:
    """Notes the source of the architecture of bare weights, and warns of another version.

    Args:
        reader: the context of reading.
        layers: the model's, those of nested models in their place.
        masked: True if a tensor of the model has a mask.
    """
    found, description = reader.description.architecture, reader.description
    if found is None:
        return
    then, now = reader.weights_era, reader.era
    by = f"weights by {_title(then)}" if then else "weights that do not say their Keras"
    left = "" if found.container in ("JSON", "YAML") else "; its own weights are not read"
    other = f"architecture by {_title(now)} ({found.file}, {found.container}{left})"
    reader.note(f"{description.file}: {by}, {other}")
    if then is None or then == now:
        return
    lines = list(_differences(reader, then, layers, masked))
    if lines:
        reader.warn(
            f"weights by {_title(then)}, architecture by {_title(now)}: what the architecture says "
            "is ported; check it against what trained the weights"
        )
    for line in lines:
        reader.warn(line)


def _title(era: Era) -> str:
    return f"Keras {era.version}"


def _differences(
    reader: ReadContext, then: Era, layers: Sequence[Config], masked: bool
) -> Iterator[str]:
    """Yields a line, with its layers, for each difference to the version of the weights."""
    found: dict[str, list[str]] = {}
    for layer in layers:
        for inner in layers_inside(layer):
            if is_custom(inner) or registered_name(inner) or inner.get("class_name") in NESTED:
                continue
            for line in _of_layer(reader, then, inner, masked, name_of(layer)):
                found.setdefault(line, []).append(name_of(layer))
    for line, names in found.items():
        yield f"{', '.join(dict.fromkeys(names))}: {line}"


def _value(meaning: Meaning, era: Era) -> Any:
    try:
        return meaning.value(era)
    except UsageError:
        return "one of several"


def _of_layer(
    reader: ReadContext, then: Era, layer: Config, masked: bool, name: str
) -> Iterator[str]:
    now = reader.era
    kind, options = modern_options(layer, now.major)
    _, fixed = ERA_CLASSES.get(str(layer.get("class_name")), (kind, {}))
    for row in DEFAULTS:
        value = options.get(row.option)
        if kind not in row.classes or row.option in fixed:
            continue
        if row.option == GATE and reader.where(name) in reader.from_cudnn:
            continue
        old = row.of(then)
        if value in row.of(now) and value not in old and not row.proven(options):
            yield (
                f"{row.option}={value} is the default of {_title(now)}; that of {_title(then)} is "
                f"{' or '.join(map(str, old))}"
            )
    for meaning in MEANINGS:
        concerned = (not meaning.classes or kind in meaning.classes) and meaning.where(options)
        before, after = _value(meaning, then), _value(meaning, now)
        if concerned and before != after and masked >= meaning.masked:
            yield (f"{meaning.what}: {after} in {_title(now)}; {before} in {_title(then)}")
