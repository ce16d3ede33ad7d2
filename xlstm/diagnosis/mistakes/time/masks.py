"""Rows of the table of mistakes: masks.

Ignored, zeroed, turned or obeyed by half; one step off, or made of another id or number.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import Call, masked, with_mask
from xlstm.diagnosis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called, pieces
from xlstm.diagnosis.mistakes.layers.activations import optioned
from xlstm.diagnosis.mistakes.time.bidirectional import turned
from xlstm.ir.layers import Bidirectional, Embedding, LayerSpec, Masking, NotEqual, Recurrent
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
    """A mask that is not obeyed by the one layer that has it: there it is to be corrected."""
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
    (_running_on(False), "Your state runs on over masked steps; only those at the start give "
     "zeros."),
)  # fmt: skip


PACKED = "You take as many steps from the start as are not masked, as packed sequences do"
READ = "padding at the start or in the middle is read."
PACK = "Pack only what is padded at its end."


def as_packed(mask: Array) -> Array:
    """As many steps as are not masked, taken from the start; one where all are masked."""
    counts = np.maximum(mask.sum(axis=1, keepdims=True), 1)
    kept: Array = np.arange(mask.shape[1]) < counts
    return kept


def _packed_steps(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    if isinstance(spec, Recurrent) and spec.return_sequences:
        spec = replace(spec, zero_output_for_mask=True)
    return forward(spec, inputs, masked(context, as_packed))


def masks_half_obeyed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask that the output obeys and the state does not; a mask from the other end."""
    if site.node.mask is None or not isinstance(site.spec, (Recurrent, Bidirectional)):
        return
    for call, text in RUNNING_ON:
        yield called(site, call, text, "Hold the state at masked steps.")
    yield called(site, _packed_steps, f"{PACKED}: {READ}", PACK)
    text = "Your layer reads the mask from its other end."
    yield called(site, with_mask(turned), text, "Turn the mask round in time.")


def one_turned(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A sequence read in the other direction, and its mask in the right one."""
    if site.node.mask is not None and isinstance(site.spec, Recurrent):
        spec = replace(site.spec, go_backwards=not site.spec.go_backwards)
        text = "Your layer reads the sequence, but not the mask, in the other direction."
        yield site.altered(text, "Turn both or neither.", spec=spec, call=with_mask(turned))


def masks_zeroed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Zeros at masked steps where the output of the step before is kept, and the reverse."""
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
    yield called(site, with_mask(np.logical_not), text, "Negate it.")


def maskings(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """No Masking at all, so that the padding's own numbers are read; packed sequences for it."""
    if isinstance(site.spec, Masking):
        text = f"Your model does not mask: steps of {site.spec.value:g} count, as such numbers."
        every = _marked(lambda x: np.ones(x.shape[:-1], bool))
        yield called(site, every, text, "Hold the state and the output at those steps.")
        packed = _marked(_then(_unlike(site.spec.value, np.any), as_packed))
        yield called(site, packed, f"{PACKED}: {READ}", PACK)


ROWS = (
    Mistake("mask-ignored", alone),
    Mistake("mask-ignored", maskings),
    Mistake("mask-ignored", masks_ignored),
    Mistake("mask-ignored", masks_half_obeyed),
    Mistake("mask-zeroed", masks_zeroed),
    Mistake("go-backwards", one_turned),
)


MOVES = tuple(
    (by, fill, f"Your mask is one step {words}.")
    for by, words in ((1, "late: step t obeys that of step t - 1"), (-1, "early"))
    for fill in (True, False, "again", "wrapped")
)
"""Steps that a mask is moved by, what its end then has, and the sentence."""


def _moved(by: int, fill: bool | str) -> Callable[[Array], Array]:
    def change(mask: Array) -> Array:
        found = np.roll(mask, by, axis=1)
        at = 0 if by > 0 else -1
        if fill != "wrapped":
            found[:, at] = mask[:, at] if fill == "again" else fill
        return found

    return change


def moved(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask that is one step late or early."""
    if site.node.mask is None or not isinstance(site.spec, (Recurrent, Bidirectional)):
        return
    for by, fill, text in MOVES:
        call = with_mask(_moved(by, fill))
        yield called(site, call, text, "Do not shift it.", rule=f"{by} {fill}")


Made = Callable[[Array], Array]
"""(B, T, F) or (B, T) -> mask."""


def _marked(make: Made) -> Call:
    """A layer that gives another mask beside its output."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        y = inputs[0] if isinstance(spec, Masking) else forward(spec, inputs, context)[0]
        return [y, make(inputs[0])]

    return call


def _unlike(value: float, how: Callable[..., Array], features: slice = slice(None)) -> Made:
    return lambda x: np.asarray(how(x[..., features] != x.dtype.type(value), axis=-1))


def _unlike_ids(*numbers: int) -> Made:
    return lambda x: np.isin(np.trunc(x), numbers, invert=True)


def _above(limit: float, how: Callable[..., Array]) -> Made:
    return lambda x: np.asarray(how(x > x.dtype.type(limit), axis=-1))


def _then(make: Made, change: Callable[[Array], Array]) -> Made:
    return lambda x: change(make(x))


def _made(value: float) -> Iterator[tuple[Made, str, str]]:
    """Masks of other numbers or features: how it is made, the sentence, the way to correct it."""
    for other in (v for v in (0.0, -1.0, 1.0, -10.0, -999.0) if v != value):
        text = f"Your mask is made of {other:g}; a's of {value:g}."
        yield _unlike(other, np.any), text, f"Compare with {value:g}."
    fix = f"Use (x != {value:g}).any(-1)."
    text = f"Your mask leaves out steps where any feature is {value:g}; a's where all are."
    yield _unlike(value, np.all), text, fix
    for feature, words in ((slice(0, 1), "first"), (slice(-1, None), "last")):
        text = f"Your mask looks at the {words} feature alone; a's at all of them."
        yield _unlike(value, np.any, feature), text, fix
    for how, words in ((np.any, "any feature is"), (np.all, "all features are")):
        for limit in (value, value + 0.5):
            text = f"Your mask keeps steps where {words} above {limit:g}; a's where any feature is "
            yield _above(limit, how), f"{text}not {value:g}.", fix


def _turned(value: float) -> Iterator[tuple[Made, str, str]]:
    """Masks of the other sense, or a step off, of input that keeps its padding's numbers."""
    own = _unlike(value, np.any)
    text = "Your mask has the other sense: it is negated, True where a step is padding."
    yield _then(own, np.logical_not), text, "Do not negate it."
    for by, fill, said in MOVES:
        yield _then(own, _moved(by, fill)), said, "Do not shift it."


COUNTED = " You count the steps that it keeps, and take as many from the start."
"""A sentence on what packing a sequence does with a mask."""


def _both_ways(site: SuspectLayer, make: Made, text: str, fix: str) -> Iterator[AlteredLayer]:
    """A mask that is obeyed, and one whose steps are counted for a packed sequence."""
    yield called(site, _marked(make), text, fix)
    yield called(site, _marked(_then(make, as_packed)), text + COUNTED, fix)


def numbers(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask of another number, or of features that are looked at otherwise."""
    spec = site.spec
    if not isinstance(spec, Masking):
        return
    for make, text, fix in _made(spec.value):
        yield from _both_ways(site, make, text, fix)
    for make, text, fix in _turned(spec.value):
        yield called(site, _marked(make), text, fix)


def ids(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A mask of another id than 0; an id that is not masked."""
    spec = site.spec
    if isinstance(spec, Embedding) and spec.mask_zero:
        for number in dict.fromkeys((1, 2, 3, spec.rows - 1)):
            text = f"Your mask leaves out id {number}; a's leaves out id 0."
            yield from _both_ways(site, _unlike_ids(number), text, "Mask id 0.")
            text = f"Your mask leaves out ids 0 and {number}; a's leaves out id 0 alone."
            yield from _both_ways(site, _unlike_ids(0, number), text, "Mask id 0 alone.")
        text = "Your model has no mask; a's leaves out id 0."
        every = _marked(lambda x: np.ones(x.shape, bool))
        yield called(site, every, text, "Hold the state and the output at steps of id 0.")
    elif isinstance(spec, NotEqual):
        for value in (v for v in (0.0, 1.0, 2.0, -1.0) if v != spec.value):
            text = f"Your mask leaves out {value:g}; a's leaves out {spec.value:g}."
            own, fix = replace(spec, value=value), f"Compare with {spec.value:g}."
            yield site.altered(text, fix, f"{value:g}", spec=own)


SHIFTED = (
    Mistake("other-mask", moved),
    Mistake("other-mask", numbers),
    Mistake("other-mask", ids),
)
