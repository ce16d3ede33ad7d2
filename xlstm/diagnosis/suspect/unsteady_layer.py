"""The first layer of a suspect that gives another output when it is run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.pairing.tensors import pair_arrays
from xlstm.diagnosis.state import DiagnosisState
from xlstm.frameworks.recording import LayerRecord, RunRecord
from xlstm.ir.graph import Model
from xlstm.ir.layers import Dropout
from xlstm.ir.types import Array


class Unsteady(NamedTuple):
    """The truth's layer that stands for the first one to differ, and a sentence about it."""

    layer: str = ""
    text: str = ""


Look = Callable[[RunRecord, RunRecord], Unsteady]
"""Compares two runs of the same suspect on the same inputs."""


def nowhere(_one: RunRecord, _other: RunRecord) -> Unsteady:
    """No layer: nothing is known of a suspect but its outputs."""
    return Unsteady()


def by_weights(case: DiagnosisState) -> Look:
    """A comparison that knows the truth's layers by the paths of their weights."""

    def look(one: RunRecord, other: RunRecord) -> Unsteady:
        arrays = case.b.arrays
        if not arrays or not one.gave:
            return Unsteady()
        paired = pair_arrays(case.a, arrays, [case.b.adapter] if case.b.adapter else None)
        owners = {path: owner for owner, path in {**paired.paths, **paired.modules}.items()}
        second = {gave.name: gave for gave in other.gave}
        for gave in one.gave:
            again = second.get(gave.name)
            if gave.name in owners and again is not None and _differ(gave, again):
                layer = _after_dropout(case.a, owners[gave.name], gave, again)
                return Unsteady(layer, _said(gave, again))
        return Unsteady()

    return look


def _after_dropout(model: Model, owner: str, one: LayerRecord, other: LayerRecord) -> str:
    """A layer, or the truth's own Dropout right before it where what it reads differs."""
    edges = model.node(owner).inputs
    before = model.node(edges[0].node) if edges else None
    x, y = one.read, other.read
    same = x is not None and y is not None and np.array_equal(x, y, equal_nan=True)
    return owner if same or not before or not isinstance(before.spec, Dropout) else before.name


def _differ(one: LayerRecord, other: LayerRecord) -> bool:
    return not np.array_equal(one.output, other.output, equal_nan=True)


def _said(one: LayerRecord, other: LayerRecord) -> str:
    """The layer from which on runs differ, and the look of dropout where it has that."""
    x, y = one.read, other.read
    if x is None or y is None or x.shape != y.shape:
        return f"They differ from {one.name} on."
    if np.array_equal(x, y, equal_nan=True):
        return f"They differ from {one.name} on, though it is given the same numbers."
    if not _dropped(x, y):
        return f"They differ before {one.name}: it is given other numbers in each run."
    share = float((x == 0).mean())
    text = f"They differ before {one.name}: {share:.0%} of the numbers that it is given are zeros,"
    return f"{text} others in each run, as dropout makes them."


def _dropped(x: Array, y: Array) -> bool:
    """True where two arrays are equal but for numbers that are zeros in one of them."""
    apart = x != y
    return bool((np.minimum(np.abs(x), np.abs(y))[apart] == 0).all())
