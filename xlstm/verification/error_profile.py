"""The errors of one output: by time step, as a histogram in ULP, and its worst element.

In: the differences of an output, and its bounds. Out: an `ErrorProfile`, a few numbers a step.

An ULP is eps times the largest number of the step, as in the tables of a report.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xlstm.ir.types import Array

LOWEST, HIGHEST = -3, 12
"""Powers of two between the bins of a histogram: from 1/8 to 4096 ULP."""

BINS = HIGHEST - LOWEST + 3
"""Number of bins: exact, one below each power of two, and one from the last power on."""


@dataclass(frozen=True)
class ErrorProfile:
    """The errors of one framework's output in one precision.

    Attributes:
        errors: (T,) float64, largest difference of each time step; one step without a time axis.
        limits: (T,) float64, largest allowed difference of each.
        decided: (T,) bool, True for each step that has a verdict.
        ulps: number of elements of the decided steps in each bin: exact, below 2^LOWEST ULP, then
            below the next power of two each, and from 2^HIGHEST on.
        place: index of the worst element in the output, in the step that the verdict is about.
        wanted: the reference's number there.
        got: the framework's number there.
    """

    errors: Array
    limits: Array
    decided: Array
    ulps: tuple[int, ...]
    place: tuple[int, ...]
    wanted: float
    got: float


def profile_of(
    pair: tuple[Array, Array], limits: Array, decided: Array, units: Array, step: int
) -> ErrorProfile | None:
    """The errors of an output; None if no step can be compared.

    Args:
        pair: float64 output and reference, steps first: (T, everything else).
        limits: (T,), as in the result; steps after these are not compared.
        decided: (T,), as in the result.
        units: (T,), one ULP of each step.
        step: the step of the worst element.
    """
    count = len(limits)
    output, reference = (array[:count] for array in pair)
    if not output.size:
        return None
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        gaps = np.abs(output - reference)
        rows = decided if decided.any() else np.ones(count, bool)
        ulps = np.where(gaps[rows] == 0, 0, gaps[rows] / units[rows, None])
    at = int(np.argmax(gaps[step]))
    worst = float(reference[step, at]), float(output[step, at])
    return ErrorProfile(gaps.max(axis=1), limits, decided, _binned(ulps), (step, at), *worst)


def _binned(ulps: Array) -> tuple[int, ...]:
    """The number of elements in each bin."""
    _, powers = np.frexp(np.where(np.isfinite(ulps), ulps, 2.0**HIGHEST))
    bins = np.where(ulps == 0, 0, np.clip(powers, LOWEST, HIGHEST + 1) - LOWEST + 1)
    return tuple(np.bincount(bins.reshape(-1), minlength=BINS).tolist())


def bin_names() -> list[str]:
    """The bins of a histogram, in words.

    >>> bin_names()[0], bin_names()[1], bin_names()[-1]
    ('exact', '< 1/8', '>= 4096')
    """
    powers = range(LOWEST, HIGHEST + 1)
    names = [f"< 1/{2**-power}" if power < 0 else f"< {2**power}" for power in powers]
    return ["exact", *names, f">= {2**HIGHEST}"]


def element_of(place: tuple[int, ...], shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index in an output (B, T, ...) or (B, ...) of a place (step, number in the step).

    >>> element_of((2, 5), (2, 4, 3))
    (1, 2, 2)
    >>> element_of((0, 5), (2, 3))
    (1, 2)
    """
    step, at = place
    if len(shape) < 3:
        return _index(at, shape)
    sample, *rest = _index(at, (shape[0], *shape[2:]))
    return (sample, step, *rest)


def _index(at: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The index of an element of an array, from its number in the order of rows.

    >>> _index(5, (2, 3))
    (1, 2)
    """
    found = []
    for size in reversed(shape):
        at, place = divmod(at, size)
        found.append(place)
    return tuple(reversed(found))
