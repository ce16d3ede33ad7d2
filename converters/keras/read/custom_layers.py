"""Reads layers that the user registered; imports no framework."""

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
"""Keys of a Lambda's config that are no code; code is never decoded."""


def custom_spec(reader: ReadContext, layer: Config, name: str, context: CallContext) -> Custom:
    """Returns the spec of a registered layer; the shapes of its tensors are not known yet.

    Raises:
        UnsupportedError: masks on other inputs than the only one of a layer that uses masks.
    """
    config = dict(layer.get("config", {}))
    options = {key: value for key, value in config.items() if key not in NOT_OPTIONS}
    if layer.get("class_name") == "Lambda":
        options = {key: options[key] for key in LAMBDA_OPTIONS if options.get(key)}
    registered, where = lookup(name), reader.where(config.get("name", layer.get("name")))
    spec = Custom(
        name, json.dumps(options, sort_keys=True), registered.mask, registered.names(options)
    )
    if spec.sees_mask and len(context.shapes) > 1 and any(context.masked):
        want = "a registered layer of one input, where it uses a mask"
        raise UnsupportedError(where, want, f"{len(context.shapes)}, some masked", LIMITS)
    return spec


def taken(reader: ReadContext, name: str, group: str) -> tuple[Stored, ...]:
    """Returns the tensors of a registered layer in file order, those of inner layers too.

    Args:
        reader: the context of reading.
        name: of the layer, after the names of the layers around it.
        group: its path in new weights files.
    """
    if reader.description.by_name:
        return reader.take(name)
    # states of random generators are no weights
    paths = [key for key in reader.below(group) if key.split("/")[-1] != "seed_generator"]
    # the layer's own come first, then those of layers inside it, sorted by name
    paths.sort(key=lambda path: (path.count("/"), path))
    return tuple(
        replace(stored, name=f"{path.removeprefix(group)}/{stored.name}".strip("/"))
        for path in paths
        for stored in reader.take(path)
    )


def sized(reader: ReadContext, spec: LayerSpec, stored: Sequence[Stored], where: str) -> LayerSpec:
    """Returns the spec with the shapes of its tensors from the file; notes the name of each.

    Raises:
        WeightsError: the numbers of names and of tensors differ.
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
    label = f"{where}: as registered for {own.layer}"
    reader.note(f"{label}: {listed}" if listed else label)
    try:
        done = replace(own, shapes=tuple(array.shape for array in stored))
    except UsageError as error:
        raise WeightsError(where, error.expected, error.got, "check the file") from None
    return replace(spec, layer=done) if isinstance(spec, TimeDistributed) else done


def check_told(spec: LayerSpec, masks: Sequence[object], where: str) -> None:
    """Raises UnsupportedError for a call that passes a mask to a layer registered without masks."""
    own = unwrap_time_distributed(spec)
    if isinstance(own, Custom) and not own.sees_mask and any(mask is not None for mask in masks):
        want = f'mask="uses" or "uses and passes" of {own.layer}, which is called with a mask'
        raise UnsupportedError(where, want, f'"{own.mask}"', "register it with that mask=")
