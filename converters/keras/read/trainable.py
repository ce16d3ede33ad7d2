"""What trains, as the configs of Keras say it; imports no framework."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xlstm.ir.graph import Spec

from .context import Config, registered_name
from .layers.config import cells_of


def trainable_of(layer: Config, specs: Sequence[Spec]) -> list[bool]:
    """Whether each of a layer's specs trains: the layer, and all that it wraps."""
    config = layer.get("config", {})
    own = bool(config.get("trainable", True))
    if registered_name(layer):
        return [own]
    if "cell" in config:
        stack = bool(config["cell"].get("config", {}).get("trainable", True))
        return [own and stack and trainable_of(cell, specs[:1])[0] for cell in cells_of(layer)]
    below = halves_train(layer)
    return [own and (not below or any(below))] * len(specs)


def halves_train(layer: Config) -> list[bool]:
    """Whether each layer inside another trains."""
    config = layer.get("config", {})
    below = [] if registered_name(layer) else [config.get(k) for k in ("layer", "backward_layer")]
    return [trainable_of(item, [Spec()])[0] for item in below if isinstance(item, Mapping)]
