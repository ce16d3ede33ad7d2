"""Layers that the user registered, as files of Keras hold them; imports no framework."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from xlstm.errors import UnsupportedError, UsageError, WeightsError
from xlstm.files.description import Stored
from xlstm.ir.layer_registry import lookup
from xlstm.ir.layers import Custom, LayerSpec, TimeDistributed
from xlstm.ir.layers.custom import unwrap_time_distributed

from .context import LIMITS, CallContext, Config, ReadContext

NOT_OPTIONS = frozenset("name trainable dtype batch_input_shape batch_shape input_dtype".split())
"""Keys of a config that are no options of the layer."""

LAMBDA_OPTIONS = ("arguments",)
"""Keys of the config of a Lambda that are no code, which nobody decodes."""


def custom_spec(reader: ReadContext, layer: Config, name: str, given: CallContext) -> Custom:
    """The spec of a registered layer; the shapes of its tensors are not known yet.

    Raises:
        UnsupportedError: masks on other inputs than the only one of a layer that uses masks.
    """
    config = dict(layer.get("config", {}))
    options = {key: value for key, value in config.items() if key not in NOT_OPTIONS}
    if layer.get("class_name") == "Lambda":
        options = {key: options[key] for key in LAMBDA_OPTIONS if options.get(key)}
    told, where = lookup(name), reader.where(config.get("name", layer.get("name")))
    spec = Custom(name, json.dumps(options, sort_keys=True), told.mask, told.names(options))
    if spec.sees_mask and len(given.shapes) > 1 and any(given.masked):
        want = "a registered layer of one input, where it uses a mask"
        raise UnsupportedError(where, want, f"{len(given.shapes)}, some masked", LIMITS)
    return spec


def is_registered(spec: LayerSpec) -> bool:
    """Whether a layer, or the one at every time step, is one that the user registered."""
    return isinstance(unwrap_time_distributed(spec), Custom)


def taken(reader: ReadContext, name: str, group: str) -> tuple[Stored, ...]:
    """The tensors of a registered layer in the order of the file, those of layers inside it too.

    Args:
        reader: what is read.
        name: of the layer, those around it before it.
        group: its path in new weights files.
    """
    if reader.description.by_name:
        return reader.take(name)
    # states of random generators are no tensors of it
    paths = [key for key in reader.below(group) if key.split("/")[-1] != "seed_generator"]
    # its own before those of layers inside it, which come by their names
    paths.sort(key=lambda path: (path.count("/"), path))
    return tuple(
        replace(stored, name=f"{path.removeprefix(group)}/{stored.name}".strip("/"))
        for path in paths
        for stored in reader.take(path)
    )


def sized(reader: ReadContext, spec: LayerSpec, stored: Sequence[Stored], where: str) -> LayerSpec:
    """The spec with the shapes of its tensors, which files alone tell; notes which is which.

    Raises:
        WeightsError: as many names as tensors were not registered.
    """
    own = unwrap_time_distributed(spec)
    assert isinstance(own, Custom)
    if len(stored) != len(own.names):
        want = f"{len(own.names)} tensors of {own.layer}: {', '.join(own.names) or 'none'}"
        got = ", ".join(f"{array.name} {array.shape}" for array in stored) or "none"
        do = "register its weights in the order of the file"
        raise WeightsError(where, want, f"{len(stored)}: {got}" if stored else got, do)
    pairs = zip(own.names, stored, strict=True)
    listed = ", ".join(f"{name} is {array.name} {array.shape}" for name, array in pairs)
    told = f"{where}: as xlstm.register_layer was told of {own.layer}"
    reader.note(f"{told}: {listed}" if listed else told)
    try:
        done = replace(own, shapes=tuple(array.shape for array in stored))
    except UsageError as error:
        raise WeightsError(where, error.expected, error.got, "check the file") from None
    return replace(spec, layer=done) if isinstance(spec, TimeDistributed) else done


def check_told(spec: LayerSpec, masks: Sequence[object], where: str) -> None:
    """Raises UnsupportedError for a call that hands a mask to a layer that was told to use none."""
    own = unwrap_time_distributed(spec)
    if isinstance(own, Custom) and not own.sees_mask and any(mask is not None for mask in masks):
        want = f'mask="uses" or "uses and passes" of {own.layer}, which is called with a mask'
        raise UnsupportedError(where, want, f'"{own.mask}"', "register it so")
