"""Layers of Keras that occur more than once, also inside TimeDistributed; no framework."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from .context import Config, ReadContext
from .inbound_nodes import LayerCall

MARK = "shared_object_id"
"""Key in configs of Keras that identifies one object in several places."""


def bare(layer: Config) -> Config:
    """Returns the layer inside TimeDistributed, or the layer itself."""
    while layer.get("class_name") == "TimeDistributed":
        options = layer.get("config")
        below = options.get("layer") if isinstance(options, Mapping) else None
        if not isinstance(below, Mapping):
            break
        layer = below
    return layer


def told(layer: Config) -> tuple[str, ...]:
    """Returns the marks by which a layer is the same as another; empty if there are none."""
    mark = bare(layer).get(MARK)
    return (str(mark),) if type(mark) is int else ()


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


def marked(config: dict[str, Any], model: Any) -> dict[str, Any]:
    """Marks layers that occur twice in the config of a live model; changes the config."""
    pairs = list(_pairs(config, model))
    counts = Counter(id(layer) for _, layer in pairs)
    numbers = {own: number for number, own in enumerate(counts, 1)}
    for entry, layer in pairs:
        if counts[id(layer)] > 1:
            entry[MARK] = numbers[id(layer)]
    return config


def held_by(config: dict[str, Any], model: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields the configs of a live model's own layers, and the layers; both of TimeDistributed."""
    held = {layer.name: layer for layer in model.layers}
    for entry in config["config"].get("layers", ()):
        name = entry.get("name") or entry.get("config", {}).get("name")
        if name in held:
            yield from _at_steps(entry, held[name])


def _at_steps(entry: dict[str, Any], layer: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    yield entry, layer
    below = entry["config"].get("layer") if isinstance(entry.get("config"), dict) else None
    if entry.get("class_name") == "TimeDistributed" and isinstance(below, dict):
        yield from _at_steps(below, layer.layer)


def _pairs(config: dict[str, Any], model: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields the configs of a live model's layers, at any depth, and the layers."""
    for entry, layer in held_by(config, model):
        yield entry, layer
        if entry.get("class_name") in ("Functional", "Sequential", "Model"):
            yield from _pairs(entry, layer)
