"""From the neutral description of a Keras file or live model to a Model; imports no framework."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from typing import Any

from xlstm.converters.keras_rules import DTYPES, RULES, Config, Reader, dtype_policy
from xlstm.converters.keras_tables import DEFAULT, FORMS, TABLES

from xlstm.errors import FileError, UnsupportedError, UsageError, WeightsError
from xlstm.files.description import UNMARKED, Description, Stored
from xlstm.layout import Table, check, unpack
from xlstm.model import Array, Model, Shape, Source, Spec, chain


def snake(name: str) -> str:
    """Keras's to_snake_case of a class name: the stem of its group in new weights files."""
    name = re.sub(r"(.)([A-Z][a-z]+)", r"\1_\2", name)
    return re.sub(r"([a-z])([A-Z])", r"\1_\2", name).lower()


def _entries(layers: list[Any], where: str) -> list[Config]:
    for layer in layers:
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config", {}), Mapping):
            got = type(layer).__name__
            raise FileError(where, "a layer as a mapping of options", got, "save the model anew")
    return layers


def _layer_list(description: Description) -> tuple[str, list[Config]]:
    """Name and layer configs of a Sequential model, in either form of its config."""
    if description.config.get("class_name") != "Sequential":
        raise UnsupportedError(
            description.file or "keras",
            "a Sequential model",
            description.config.get("class_name"),
            "see the README's limits",
        )
    where = description.file or "keras"
    config = description.config.get("config")
    if isinstance(config, list):  # Keras 2.0 to 2.2.2
        return "sequential", _entries(config, where)
    if isinstance(config, Mapping) and isinstance(config.get("layers"), list):
        return str(config.get("name", "sequential")), _entries(config["layers"], where)
    raise FileError(where, "a config with layers", type(config).__name__, "save the model anew")


def _input_shape(description: Description, layers: list[Config]) -> tuple[Shape, str]:
    """Shape and dtype of one input sample, from wherever this era keeps it."""
    first = layers[0].get("config", {}) if layers else {}
    model = description.config.get("config")
    built = layers[0].get("build_config", {}) if layers else {}
    places = [first.get("batch_shape"), first.get("batch_input_shape")]
    places += [model.get("build_input_shape")] if isinstance(model, Mapping) else []
    places += [built.get("input_shape")] if isinstance(built, Mapping) else []
    for place in places:
        if isinstance(place, (list, tuple)) and all(
            n is None or (type(n) is int and n > 0) for n in place
        ):
            dtype = dtype_policy(first.get("dtype"))
            return tuple(place[1:]), dtype if dtype in (*DTYPES, *WHOLE) else "float32"
    raise FileError(
        description.file or "keras", "an input shape", "none in the config", "build the model first"
    )


WHOLE = ("int8", "int16", "int32", "int64", "uint8", "bool")
"""Dtypes of inputs that hold whole numbers."""

KERAS1_NAME = re.compile(r"(?:^|_)([WUb](?:_[a-z])?)$")
"""End of an array's name in Keras 1: lstm_1_W_i."""


def _leaf(name: str, major: int) -> str:
    """The variable that an array in HDF5 is named for: "lstm/lstm_cell/kernel:0" is the kernel."""
    last = name.rsplit("/", 1)[-1].split(":")[0]
    found = KERAS1_NAME.search(last) if major == 1 else None
    return found[1] if found else last


def _arrays(reader: Reader, name: str, group: str, spec: Spec) -> dict[str, Stored]:
    """The stored arrays of one layer by slot name."""
    if reader.description.by_name:
        stored = reader.take(name)
        found = {_leaf(s.name, reader.major): s for s in stored}
        if len(found) != len(stored):
            got = "left over: " + ", ".join(s.name for s in stored if s not in found.values())
            where = reader.where(name)
            do = "save the model as .keras; Keras 3.0 wrote such .h5 arrays over one another"
            raise WeightsError(where, "arrays of different names", got, do)
        return found
    stored = reader.take(group)
    core = spec.core
    slots = TABLES[DEFAULT[core.kind]].active(core.absent()) if core.sizes() else ()
    names = [slot.name for slot in slots]
    names += [f"variable {n}" for n in range(len(names), len(stored))]
    return dict(zip(names, stored, strict=False))


def _form(spec: Spec, arrays: Mapping[str, Stored], where: str) -> Table:
    """The one table of a layer's forms in all eras that these arrays fit by name and shape."""
    forms = [TABLES[name] for name in FORMS[spec.kind]]
    for table in forms:
        with contextlib.suppress(WeightsError):
            check(table, arrays, spec.sizes(), spec.absent(), where)
            return table
    # none fits: the error of the form that has these names tells most
    named = [t for t in forms if {slot.name for slot in t.active(spec.absent())} == set(arrays)]
    check((named or forms)[0], arrays, spec.sizes(), spec.absent(), where)
    return forms[0]


def _weights(
    reader: Reader, spec: Spec, arrays: Mapping[str, Stored], config: Config
) -> dict[str, Array]:
    core, where = spec.core, reader.where(config.get("name"))
    if not core.sizes():
        if arrays:
            raise FileError(where, "no weights", ", ".join(arrays), "check the file")
        return {}
    policy = dtype_policy(config.get("dtype"))
    if any(s.dtype == UNMARKED for s in arrays.values()) and "bfloat16" not in policy:
        raise FileError(where, f"numbers of {policy}", "opaque pairs of bytes", "check the file")
    table = _form(core, arrays, where)
    if table is not TABLES[DEFAULT[core.kind]]:
        form = next(key for key, found in TABLES.items() if found is table)
        reader.note(f"{where}: weights in the form {form}")
    read = {key: stored.load() for key, stored in arrays.items()}
    return unpack(table, read, core.sizes(), core.absent(), where)


def _output_shape(spec: Spec, shape: Shape, where: str) -> Shape:
    try:
        return spec.output_shape(shape)
    except UsageError as error:
        raise FileError(where, error.expected, error.got, error.do) from None


def _group(layer: Config, spec: Spec, counts: dict[str, int], step: int) -> str:
    """Path of a layer's variables in new weights files; counts the layers of each class."""
    class_name = str(layer.get("class_name"))
    number = counts.get(class_name, 0)
    counts[class_name] = number + (step if spec.core.sizes() else 1)
    stem = snake(class_name) + (f"_{number}" if number else "")
    below = RULES[class_name].below if class_name in RULES else ""
    return f"{stem}/{below}".rstrip("/")


def _trainable(layer: Config) -> bool:
    """Whether a layer trains: it and what it wraps."""
    config = layer.get("config", {})
    inner = config.get("layer")
    below = _trainable(inner) if isinstance(inner, Mapping) else True
    return bool(config.get("trainable", True)) and below


def _read_layers(
    reader: Reader, configs: list[Config], shape: Shape
) -> tuple[list[tuple[str, Spec, bool]], dict[str, dict[str, Array]]]:
    """Specs and hub weights of the layers of a Sequential model."""
    layers, weights = [], {}
    counts: dict[str, int] = {}
    for layer in configs:
        config = layer.get("config", {})
        if layer.get("class_name") == "InputLayer":
            continue
        name = str(config.get("name", layer.get("class_name")))
        spec = reader.spec(layer, shape)
        shape = _output_shape(spec, shape, reader.where(name))
        group = _group(layer, spec, counts, reader.description.step)
        arrays = _arrays(reader, name, group, spec)
        if stored := _weights(reader, spec, arrays, config):
            weights[name] = stored
        layers.append((name, spec, _trainable(layer)))
    reader.check_used()
    names = [name for name, _, _ in layers]
    if not names or len(set(names)) != len(names):
        where, got = reader.description.file or "keras", ", ".join(names) or "none"
        raise FileError(where, "layers with names that differ", got, "save the model anew")
    return layers, weights


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
    reader = Reader(description)
    name, configs = _layer_list(description)
    reader.check_classes(configs)
    shape, dtype = _input_shape(description, configs)
    layers, weights = _read_layers(reader, configs, shape)
    if description.ignored:
        reader.notes.append(f"members not read: {', '.join(description.ignored)}")
    source = Source(
        "keras",
        description.version,
        description.container,
        description.file,
        description.sha256,
        tuple(reader.notes),
        reader.all_warnings(),
    )
    return chain(name, layers, shape, weights, source, lone=lone, input_dtype=dtype)
