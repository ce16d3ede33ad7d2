"""What a Keras file holds, layer by layer, whether or not xlstm can port it; imports no framework.

Nothing of a layer is run or decoded: a Lambda's code is shown as its size, never read.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from xlstm.converters.keras_reader import snake
from xlstm.converters.keras_rules import COMMON, ERA_ACTIVATIONS, Config, dtype_policy
from xlstm.converters.keras_tables import FORMS, TABLES

from xlstm.errors import WeightsError
from xlstm.files.description import Description, Stored
from xlstm.layout import check, sizes_of
from xlstm.outline import LayerOutline, Outline

CODE = frozenset("function function_type module output_shape output_shape_type arguments".split())

QUIET = COMMON | CODE
"""Options that are not shown: no effect on a trained layer, or code."""

LONGEST = 60
"""Characters of an option's value."""


def outline(description: Description) -> Outline:
    """Layers with options and weights, and what to know about the file.

    Raises:
        FileError: arrays that cannot be read.
    """
    major = description.version.split(".")[0]
    left = dict(description.weights)
    layers = list(_layers(description.config, description, left, major))
    layers += [
        LayerOutline(key, "", "", _arrays(stored), proven(stored)) for key, stored in left.items()
    ]
    return Outline(
        file=description.file,
        container=description.container,
        writer=f"Keras {description.version or '(version unknown)'}",
        backend=description.backend,
        layers=tuple(layers),
        ignored=description.ignored,
        warnings=tuple(_warnings(description, layers)),
        nonfinite=tuple(_nonfinite(description)),
    )


def _arrays(stored: tuple[Stored, ...]) -> tuple[tuple[str, tuple[int, ...], str], ...]:
    return tuple((s.name, s.shape, s.dtype) for s in stored)


def _configs(config: Config) -> list[Config]:
    inner = config.get("config")
    found = inner.get("layers", []) if isinstance(inner, Mapping) else inner
    return [item for item in found if isinstance(item, Mapping)] if isinstance(found, list) else []


def _layers(
    config: Config, description: Description, left: dict[str, tuple[Stored, ...]], major: str
) -> Iterator[LayerOutline]:
    counts: dict[str, int] = {}
    functional = config.get("class_name") != "Sequential"
    for layer in _configs(config):
        class_name, options = str(layer.get("class_name")), layer.get("config") or {}
        name = str(options.get("name", layer.get("name", class_name)))
        if str(layer.get("module", "")).startswith("keras.src.ops"):
            yield LayerOutline(name, f"{class_name} (operation)", "", (), "")
            continue
        stored: tuple[Stored, ...] = ()
        if description.by_name:
            stored = left.pop(name, ())
        elif functional or class_name != "InputLayer":
            stored = _below(_group(class_name, counts, left, description.step), left)
        shown = _options(class_name, options, major)
        yield LayerOutline(name, _kind(class_name, options), shown, _arrays(stored), "")


def _group(class_name: str, counts: dict[str, int], left: Mapping[str, Any], step: int) -> str:
    number = counts.get(class_name, 0)
    group = snake(class_name) + (f"_{number}" if number else "")
    heavy = any(key == group or key.startswith(f"{group}/") for key in left)
    counts[class_name] = number + (step if heavy else 1)
    return group


def _below(group: str, left: dict[str, tuple[Stored, ...]]) -> tuple[Stored, ...]:
    """All arrays below a layer's group, named by their path."""
    found: list[Stored] = []
    for key in [k for k in left if k == group or k.startswith(f"{group}/")]:
        path = key.removeprefix(group).strip("/")
        found += [
            Stored(f"{path}/{s.name}".strip("/"), s.shape, s.dtype, s.load) for s in left.pop(key)
        ]
    return tuple(found)


def _kind(class_name: str, options: Config) -> str:
    inner = options.get("layer")
    if isinstance(inner, Mapping):
        return f"{class_name}({_kind(str(inner.get('class_name')), inner.get('config') or {})})"
    return class_name


def _options(class_name: str, options: Config, major: str) -> str:
    if class_name in ("InputLayer",):
        shape = options.get("batch_shape", options.get("batch_input_shape"))
        return f"shape {shape}"
    inner = options.get("layer")
    if isinstance(inner, Mapping):
        return _options(str(inner.get("class_name")), inner.get("config") or {}, major)
    shown = {
        key: value
        for key, value in options.items()
        if key not in QUIET and key != "layers" and value not in (None, False, 0.0, [], "")
    }
    parts = [f"{key}={_short(value, key, major)}" for key, value in shown.items()]
    if isinstance(options.get("layers"), list):
        parts.append(f"{len(options['layers'])} layers of its own")
    if "function" in options:
        parts.append("code, never read")
    if not options.get("trainable", True):
        parts.append("not trainable")
    return ", ".join(parts)


def _short(value: Any, key: str, major: str) -> str:
    if isinstance(value, Mapping):
        return dtype_policy(value) if key == "dtype" else str(value.get("class_name", "{...}"))
    old = "activation" in key and value in ERA_ACTIVATIONS and major in ("1", "2")
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
            f"kernels of {', '.join(convolutions)}: the file does not say whether TensorFlow or "
            "Theano (flipped) laid them out; kernel_layout= does"
        )
    if description.backend not in ("", "tensorflow", "jax", "torch", "theano", "cntk"):
        yield f"written on an unknown backend: {description.backend}"
    if major not in ("", "1", "2", "3"):
        yield f"written by an unknown Keras: {description.version}"


def _nonfinite(description: Description) -> Iterator[str]:
    for key, stored in description.weights.items():
        for array in stored:
            if "float" in array.dtype and not _finite(array):
                yield f"{key}: {array.name} holds NaN or infinity"


def _finite(stored: Stored) -> bool:
    return bool(np.isfinite(stored.load()).all())


def proven(stored: tuple[Stored, ...]) -> str:
    """What the shapes of one group of arrays prove about its layer, without any names."""
    found = []
    for forms in FORMS.values():
        for form in forms:
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
