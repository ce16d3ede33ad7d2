"""Rows of the table of causes: masks ignored, zeroed, turned, or obeyed by half."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Mistake,
    SuspectLayer,
    called,
    pieces,
)
from xlstm.diagnosis.mistakes.layers.activations import optioned
from xlstm.diagnosis.mistakes.time.bidirectional import mask_turned
from xlstm.ir.layers import Bidirectional, LayerSpec, Masking, Recurrent
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context


def masks_ignored(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask that is not obeyed."""
    if site.node.mask is not None and site.layer.masked:
        layer = replace(site.layer, masked=False)
        text = "Your layer does not obey the mask: padded steps count."
        fix = "Hold the state and the output at masked steps."
        yield AlteredLayer(layer, site.said(text, fix), "mask-ignored")


def alone(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask that is not obeyed by the one layer that has it: there it is to be mended."""
    if sum(node.mask == site.node.mask for node in site.model.layers) == 1:
        yield from masks_ignored(site)


def _running_on(whole: bool) -> Call:
    """States run on at masked steps; zeros there, or only before the first step that counts."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        found = forward(spec, inputs, replace(context, mask=None))
        if context.mask is None:
            return found
        if not own.return_sequences:
            some = context.mask.any(axis=1).reshape(-1, *(1,) * (found[0].ndim - 1))
            return [np.where(some, found[0], 0), *found[1:]]
        backwards = isinstance(spec, Recurrent) and spec.go_backwards
        mask = context.mask[:, ::-1] if backwards else context.mask
        mask = mask if whole else np.logical_or.accumulate(mask, axis=1)
        keep = mask.reshape(*mask.shape, *(1,) * (found[0].ndim - 2))
        return [np.where(keep, found[0], 0), *found[1:]]

    return call


RUNNING_ON = (
    (_running_on(True), "Your masked steps give zeros, but the state runs on over them."),
    (
        _running_on(False),
        "Your state runs on over masked steps; only those at the start give zeros.",
    ),
)


def _other_end(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    return forward(spec, inputs, mask_turned(context))


PACKED = "You take as many steps from the start as are not masked, as packed sequences do"
READ = "padding at the start or in the middle is read."
PACK = "Pack only what is padded at its end."


def as_packed(mask: Array) -> Array:
    """As many steps as are not masked, taken from the start; one where all are masked."""
    counts = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    kept: Array = np.arange(mask.shape[1]) < counts
    return kept


def _packed_steps(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    mask = None if context.mask is None else as_packed(context.mask)
    if isinstance(spec, Recurrent) and spec.return_sequences:
        spec = replace(spec, zero_output_for_mask=True)
    return forward(spec, inputs, replace(context, mask=mask))


def masks_half_obeyed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask that the output obeys and the state does not; a mask from the other end."""
    if site.node.mask is None or not isinstance(site.spec, (Recurrent, Bidirectional)):
        return
    for call, text in RUNNING_ON:
        yield called(site, call, text, "Hold the state at masked steps.")
    yield called(site, _packed_steps, f"{PACKED}: {READ}", PACK)
    text = "Your layer reads the mask from its other end."
    yield called(site, _other_end, text, "Turn the mask round in time.")


def one_turned(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sequence read in the other direction, and its mask in the right one."""
    if site.node.mask is not None and isinstance(site.spec, Recurrent):
        spec = replace(site.spec, go_backwards=not site.spec.go_backwards)
        text = "Your layer reads the sequence, but not the mask, in the other direction."
        layer = replace(site.layer, spec=spec, call=_other_end)
        yield AlteredLayer(layer, site.said(text, "Turn both or neither."), text)


def _turned_mask(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    mask = None if context.mask is None else ~context.mask
    return forward(spec, inputs, replace(context, mask=mask))


def masks_zeroed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Zeros at masked steps where the output is held, and the reverse."""
    if site.node.mask is None or not site.layer.masked:
        return
    specs = [s for s in pieces(site.spec)[0].specs if isinstance(s, Recurrent)]
    if specs:
        zero = not specs[0].zero_output_for_mask
        gives = "zeros (as packed sequences do)" if zero else "the output before them"
        wants = "the output before them" if zero else "zeros"
        text = f"Your masked steps give {gives}; a's give {wants}"
        yield from optioned(site, text, f"Let them give {wants}.", zero_output_for_mask=zero)
    text = "Your mask has the other sense: True where a step is padding."
    turned = replace(site.layer, call=_turned_mask)
    yield AlteredLayer(turned, site.said(text, "Negate it."), "mask-turned")


def _unmasked(_spec: LayerSpec, inputs: list[Array], _context: Context) -> list[Array]:
    return [inputs[0], np.ones(inputs[0].shape[:-1], bool)]


def _packed(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    return [inputs[0], as_packed(forward(spec, inputs, context)[1])]


def maskings(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """No Masking at all, so that the padding's own numbers are read; packed sequences for it."""
    if isinstance(site.spec, Masking):
        text = f"Your model does not mask: steps of {site.spec.value:g} count, as such numbers."
        yield called(site, _unmasked, text, "Hold the state and the output at those steps.")
        yield called(site, _packed, f"{PACKED}: {READ}", PACK)


ROWS = (
    Mistake("mask-ignored", alone),
    Mistake("mask-ignored", maskings),
    Mistake("mask-ignored", masks_ignored),
    Mistake("mask-ignored", masks_half_obeyed),
    Mistake("mask-zeroed", masks_zeroed),
    Mistake("go-backwards", one_turned),
)
