"""Inputs for a comparison, made from the model: trained-scale, rows of several scales."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xlstm.model import Array, Input, Model
from xlstm.reference import Coverage, run

BATCH = 6
STEPS = 16
SEED = 20
SCALES = (1.0, 4.0, 16.0, 64.0)
"""Tried in this order until every piece of every activation was reached."""


def _sample_shape(shape: tuple[int | None, ...], steps: int) -> tuple[int, ...]:
    return tuple(steps if size is None else size for size in shape)


def make(model: Model, steps: int = STEPS, scale: float = 1.0, seed: int = SEED) -> list[Array]:
    """One float32 array per model input, (BATCH, ...); rows grow from scale/4 to 2 scale.

    Axes of any length get `steps`. The values are float32 so that every framework gets the same;
    inputs of integers get whole numbers.
    """
    rng = np.random.default_rng(seed)
    rows = scale * np.geomspace(0.25, 2.0, BATCH)
    made = []
    for name in model.inputs:
        shape = _sample_shape(model.node(name).shape, steps)
        x = rng.standard_normal((BATCH, *shape)) * rows.reshape(-1, *(1,) * len(shape))
        spec = model.node(name).spec
        whole = isinstance(spec, Input) and "float" not in spec.dtype
        made.append((np.rint(x) if whole else x).astype(np.float32))
    return made


def chosen(model: Model, steps: int = STEPS) -> tuple[list[Array], list[str]]:
    """Inputs that reach the most pieces of the model's activations, and the pieces left out."""
    best: tuple[list[Array], list[str]] | None = None
    for scale in SCALES:
        inputs, coverage = make(model, steps, scale), Coverage()
        run(model, inputs, coverage=coverage)
        left = coverage.unexercised()
        if best is None or len(left) < len(best[1]):
            best = inputs, left
        if not left:
            break
    assert best is not None
    return best


def shorter(steps: int) -> Iterator[int]:
    """Ever fewer time steps, down to one."""
    while steps > 1:
        steps //= 2
        yield steps


def has_free_axis(model: Model) -> bool:
    """Whether some input axis may have any length."""
    return any(None in model.node(name).shape for name in model.inputs)
