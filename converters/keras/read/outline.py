"""Lists the layers of any Keras file, portable or not; imports no framework.

No layer is run or decoded: a Lambda's code is shown as its size, never read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.errors import WeightsError, XlstmError
from xlstm.files.description import Description, LayerOutline, Outline, Stored
from xlstm.slots import check, sizes_of

from ..slots import FORMS, TABLES
from ..versions import Era, version_of, weights_era
from .context import Config, Paths, dtype_policy, is_operation
from .graph import Groups, layers_of, name_of
from .inbound_nodes import KerasTensor, mentioned
from .layers.config import COMMON
from .layers.options import RULES
from .model import in_order

CODE = frozenset("function function_type module output_shape output_shape_type arguments".split())

QUIET = COMMON | CODE
"""Options that are not shown: no effect on a trained layer, or code."""

INSIDE = ("layer", "backward_layer", "cell")
"""Options that are layers or cells, with options of their own."""

LONGEST = 60
"""Most characters of an option's value."""


def outline(description: Description) -> Outline:
    """Lists layers with options and weights, and notes about the file.

    Raises:
        FileError: arrays that cannot be read.
    """
    with contextlib.suppress(XlstmError):  # models that are no chain or graph are listed as well
        description, _ = in_order(description, layers_of(description.config, description.file))
    version = _version(description)
    description, major = replace(description, version=version), version.split(".")[0]
    left = dict(description.weights)
    layers = list(_layers(description.config, description, left, major))
    layers += [
        LayerOutline(key, "", "", _arrays(stored), proven(stored)) for key, stored in left.items()
    ]
    return Outline(
        file=description.file,
        container=description.container,
        writer=_writer(description),
        backend=description.backend,
        layers=tuple(layers),
        ignored=description.ignored,
        warnings=tuple(_warnings(description, layers)),
        nonfinite=tuple(_nonfinite(description)),
    )


def _writer(description: Description) -> str:
    """Returns the Keras that wrote the weights, and for whole models the config."""
    found = Era(description.version)
    with contextlib.suppress(XlstmError):
        found = weights_era(description, found, description.file) or Era("")
    return f"Keras {found.version or '(version unknown)'}"


def _version(description: Description) -> str:
    """Returns the version that the files name or prove, "" for neither."""
    try:
        return version_of(description, {*RULES, "InputLayer"}, description.file)
    except XlstmError:
        return description.version


def _arrays(stored: tuple[Stored, ...]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    return tuple((s.name, s.shape, s.dtype) for s in stored)


def _configs(config: Config) -> list[Config]:
    inner = config.get("config")
    found = inner.get("layers", []) if isinstance(inner, Mapping) else inner
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _layers(
    config: Config, description: Description, left: dict[str, tuple[Stored, ...]], major: str
) -> Iterator[LayerOutline]:
    paths = Paths(left)
    groups = Groups(description.step, paths)
    functional = config.get("class_name") != "Sequential"
    for layer in _configs(config):
        name, options = name_of(layer), _mapping(layer.get("config"))
        reads = f"reads {', '.join(found)}" if (found := _reads(layer)) else ""
        if is_operation(layer):
            yield LayerOutline(name, f"{layer.get('class_name')} (operation)", reads, (), "")
            continue
        stored: tuple[Stored, ...] = ()
        if description.by_name:
            stored = left.pop(name, ())
        elif functional or layer.get("class_name") != "InputLayer":
            stored = _below(groups.of(layer), left, paths)
        shown = [*_options(str(layer.get("class_name")), options, major), reads]
        text = ", ".join(part for part in shown if part)
        yield LayerOutline(name, _kind(layer), text, _arrays(stored), "")


def _mapping(value: Any) -> Config:
    return value if isinstance(value, Mapping) else {}


def _reads(layer: Config) -> list[str]:
    """Returns the inputs of a layer of a functional model, as "lstm" or "lstm[1]"."""
    found = dict.fromkeys(mentioned(layer.get("inbound_nodes")))
    return [_tensor(tensor) for tensor in found]


def _tensor(tensor: KerasTensor) -> str:
    return f"{tensor.layer}[{tensor.output}]" if tensor.output else tensor.layer


def _below(group: str, left: dict[str, tuple[Stored, ...]], paths: Paths) -> tuple[Stored, ...]:
    """Returns all arrays below a layer's group, named by their path."""
    found: list[Stored] = []
    # the layer's own variables come first, then those of layers inside it, sorted by name
    keys = [key for key in paths.below(group) if key in left]
    for key in sorted(keys, key=lambda key: (key.count("/"), key)):
        path = key.removeprefix(group).strip("/")
        found += [
            Stored(f"{path}/{s.name}".strip("/"), s.shape, s.dtype, s.load) for s in left.pop(key)
        ]
    return tuple(found)


def _inside(options: Config) -> list[Config]:
    """Returns the layers or cells inside a layer; two equal halves only once."""
    found = [options[key] for key in INSIDE if isinstance(options.get(key), Mapping)]
    cells = _mapping(found[0].get("config")).get("cells") if len(found) == 1 else None
    return [c for c in cells if isinstance(c, Mapping)] if isinstance(cells, list) else found


def _kind(layer: Config) -> str:
    """Returns the class of a layer, with those inside it."""
    name = str(layer.get("class_name"))
    inside = [_kind(item) for item in _inside(_mapping(layer.get("config")))]
    if name == "Bidirectional":
        inside = list(dict.fromkeys(inside))
    return f"{name}({', '.join(inside)})" if inside else name


def _options(class_name: str, options: Config, major: str) -> list[str]:
    if class_name == "InputLayer":
        shape = options.get("batch_shape", options.get("batch_input_shape"))
        dtype = dtype_policy(options.get("dtype"))
        return [f"shape {shape}", *([] if dtype == "float32" else [dtype])]
    shown = {
        key: value
        for key, value in options.items()
        if key not in (*QUIET, *INSIDE, "layers") and value not in (None, False, 0.0, [], "")
    }
    parts = [f"{key}={_short(value, key, major)}" for key, value in shown.items()]
    if options.get("merge_mode", "") is None:
        parts.append("merge_mode=None")
    inside = [
        (str(item.get("class_name")), _mapping(item.get("config"))) for item in _inside(options)
    ]
    own = [_options(kind, below, major) for kind, below in inside]
    if len({kind for kind, _ in inside}) == 1:
        parts += dict.fromkeys(part for below in own for part in below)
    else:
        parts += [f"{kind}({', '.join(own)})" for (kind, _), own in zip(inside, own, strict=True)]
    if isinstance(options.get("layers"), list):
        parts.append(f"{len(options['layers'])} layers of its own")
    if "function" in options:
        parts.append("code, never read")
    if not options.get("trainable", True):
        parts.append("not trainable")
    return parts


def _short(value: Any, key: str, major: str) -> str:
    if isinstance(value, Mapping):
        return dtype_policy(value) if key == "dtype" else str(value.get("class_name", "{...}"))
    old = "activation" in key and value == "hard_sigmoid" and major in ("1", "2")
    text = f"{value}" + (" (0.2 x + 0.5)" if old else "")
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def _warnings(description: Description, layers: list[LayerOutline]) -> Iterator[str]:
    major = description.version.split(".")[0]
    old = [layer.name for layer in layers if "hard_sigmoid (0.2" in layer.options]
    if old:
        names, then = ", ".join(old), "clip(0.2 x + 0.5, 0, 1), as Keras 1 and 2 compute it"
        yield f"hard_sigmoid of {names} is {then}; Keras 3 computes clip(x/6 + 0.5, 0, 1)"
    convolutions = [layer.name for layer in layers if "Conv" in layer.kind]
    if major == "1" and convolutions and not description.backend:
        yield (
            f"kernels of {', '.join(convolutions)}: the file does not say if they are in the "
            "order of TensorFlow or of Theano (flipped); pass kernel_layout="
        )
    if major not in ("", "1", "2", "3"):
        yield f"written by an unknown Keras: {description.version}"


def _nonfinite(description: Description) -> Iterator[str]:
    for key, stored in description.weights.items():
        for array in stored:
            if "float" in array.dtype and not _finite(array):
                yield f"{key}: {array.name} holds NaN or infinity"


def _finite(stored: Stored) -> bool:
    return bool(np.isfinite(stored.load()).all())


PROVEN = ("LSTM", "GRU", "GRU, reset_after=False", "SimpleRNN", "Dense")
"""Forms of weights that shapes alone identify."""


def proven(stored: tuple[Stored, ...]) -> str:
    """Returns the form of a layer that the shapes of its arrays prove, without any names."""
    found = []
    for kind in PROVEN:
        for form in FORMS[kind]:
            slots = TABLES[form].slots
            shapes = {slot.name: s for slot, s in zip(slots, stored, strict=False)}
            with contextlib.suppress(WeightsError):
                if len(stored) == len(slots) and _consistent(form, shapes):
                    sizes = sizes_of(TABLES[form], shapes)
                    units = sizes.get("h", sizes.get("o"))
                    name = form.split(" of ")[0]
                    found.append(f"{name} of {units} units on {sizes['i']} features")
    return f"shapes fit {' or '.join(dict.fromkeys(found))}" if found else ""


def _consistent(form: str, shapes: Mapping[str, Stored]) -> bool:
    table = TABLES[form]
    check(table, shapes, sizes_of(table, shapes), frozenset(), form)
    return True
