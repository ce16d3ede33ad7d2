"""Rows of the table of causes: a mask that is a step off, or made of another id or number."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import Altered, Row, Site, called
from xlstm.ir.layers import Bidirectional, Embedding, LayerSpec, Masking, NotEqual, Recurrent
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context


def _obeying(change: Callable[[Array], Array]) -> Call:
    """A layer that obeys a changed mask."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        mask = None if context.mask is None else change(context.mask)
        return forward(spec, inputs, replace(context, mask=mask))

    return call


def _moved(by: int, fill: bool | None) -> Callable[[Array], Array]:
    def change(mask: Array) -> Array:
        found = np.roll(mask, by, axis=1)
        at = 0 if by > 0 else -1
        found[:, at] = mask[:, at] if fill is None else fill
        return found

    return change


def moved(site: Site) -> Iterator[Altered]:
    """A mask that is one step late or early."""
    if site.node.mask is None or not isinstance(site.spec, (Recurrent, Bidirectional)):
        return
    for by, words in ((1, "late: step t obeys that of step t - 1"), (-1, "early")):
        for fill in (True, False, None):
            text = f"Your mask is one step {words}."
            yield called(site, _obeying(_moved(by, fill)), text, "Do not shift it.")._replace(
                rule=f"mask moved {by} {fill}"
            )


Made = Callable[[Array], Array]
"""(B, T, F) or (B, T) -> mask."""


def _marked(make: Made) -> Call:
    """A layer that gives another mask beside its output."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        y = inputs[0] if isinstance(spec, Masking) else forward(spec, inputs, context)[0]
        return [y, make(inputs[0])]

    return call


def _unlike(value: float, how: Callable[..., Array]) -> Made:
    return lambda x: np.asarray(how(x != x.dtype.type(value), axis=-1))


def _of_feature(at: int, value: float) -> Made:
    return lambda x: np.asarray(x[..., at] != x.dtype.type(value))


def _unlike_id(number: int) -> Made:
    return lambda x: np.asarray(np.trunc(x) != number)


def numbers(site: Site) -> Iterator[Altered]:
    """A mask of another number, or of features that are looked at otherwise."""
    spec = site.spec
    if not isinstance(spec, Masking):
        return
    for value in (v for v in (0.0, -1.0, 1.0, -10.0, -999.0) if v != spec.value):
        text = f"Your mask is made of {value:g}; a's of {spec.value:g}."
        yield called(site, _marked(_unlike(value, np.any)), text, f"Compare with {spec.value:g}.")
    text = f"Your mask leaves out steps where any feature is {spec.value:g}; a's where all are."
    fix = f"Use (x != {spec.value:g}).any(-1)."
    yield called(site, _marked(_unlike(spec.value, np.all)), text, fix)
    for at, words in ((0, "first"), (-1, "last")):
        text = f"Your mask looks at the {words} feature alone; a's at all of them."
        yield called(site, _marked(_of_feature(at, spec.value)), text, fix)


def ids(site: Site) -> Iterator[Altered]:
    """A mask of another id than 0; an id that is not masked."""
    spec = site.spec
    if isinstance(spec, Embedding) and spec.mask_zero:
        for number in dict.fromkeys((1, 2, 3, spec.rows - 1)):
            text = f"Your mask leaves out id {number}; a's leaves out id 0."
            yield called(site, _marked(_unlike_id(number)), text, "Mask id 0.")
        text = "Your mask leaves out ids 0 and 1; a's leaves out id 0."
        yield called(site, _marked(lambda x: x > 1), text, "Mask id 0 alone.")
        text = "Your model has no mask; a's leaves out id 0."
        every = _marked(lambda x: np.ones(x.shape, bool))
        yield called(site, every, text, "Hold the state and the output at steps of id 0.")
    elif isinstance(spec, NotEqual):
        for value in (v for v in (0.0, 1.0, 2.0, -1.0) if v != spec.value):
            text = f"Your mask leaves out {value:g}; a's leaves out {spec.value:g}."
            layer = replace(site.layer, spec=replace(spec, value=value))
            yield Altered(layer, site.said(text, f"Compare with {spec.value:g}."), f"{value:g}")


ROWS = (
    Row("other-mask", moved),
    Row("other-mask", numbers),
    Row("other-mask", ids),
)
