"""Inputs for a comparison, made from the model: trained-scale, rows of several scales."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from xlstm.model import (
    Array,
    Embedding,
    ExpandDims,
    Flatten,
    Input,
    Masking,
    Model,
    Node,
    Permute,
    RepeatVector,
    Reshape,
    Slice,
    Squeeze,
    TimeDistributed,
)
from xlstm.reference import Coverage, run

BATCH = 6
STEPS = 16
SEED = 20
SCALES = (1.0, 4.0, 16.0, 64.0)
"""Tried in this order until every piece of every activation was reached."""


def _sample_shape(shape: tuple[int | None, ...], steps: int) -> tuple[int, ...]:
    return tuple(steps if size is None else size for size in shape)


MASKS = ("none", "right", "left", "middle", "all", "none")
"""What is masked in each row of a batch, where the model has masks."""


def batch_of(model: Model) -> int:
    """The batch size that a model was built for, or BATCH."""
    specs = [node.spec for node in model.nodes if isinstance(node.spec, Input)]
    return next((spec.batch for spec in specs if spec.batch), BATCH)


def _counts(batch: int, *axes: int) -> Array:
    """(batch, ..., steps): True where a step counts, by the kinds of MASKS."""
    steps = axes[-1]
    t = np.arange(steps)
    third = -(-steps // 3)
    masked = {
        "none": t < 0,
        "right": t >= steps - third,
        "left": t < third,
        "middle": (t >= third) & (t < 2 * third),
        "all": t >= 0,
    }
    counts = ~np.array([masked[MASKS[row % len(MASKS)]] for row in range(batch)])
    counts = np.expand_dims(counts, tuple(range(1, len(axes))))
    return np.broadcast_to(counts, (batch, *axes)).copy()


def _marks(model: Model) -> dict[str, float]:
    """Inputs whose steps a Masking layer marks, and the value that it looks for."""
    found = {}
    for node in model.nodes:
        before = node.inputs[0].node if node.inputs else ""
        if isinstance(node.spec, Masking) and before in model.inputs:
            found[before] = node.spec.value
    return found


def row_numbers(model: Model) -> dict[str, int]:
    """Inputs that hold row numbers of embeddings, and how many rows there are at least."""
    found: dict[str, int] = {}
    for node in model.nodes:
        spec = node.spec.layer if isinstance(node.spec, TimeDistributed) else node.spec
        if isinstance(spec, Embedding):
            start = _start(model, node)
            found[start.name] = min(found.get(start.name, spec.rows), spec.rows)
    return found


def _start(model: Model, node: Node) -> Node:
    """The input that a node's numbers come from, unchanged."""
    while node.inputs:
        node = model.node(node.inputs[0].node)
        if not isinstance(node.spec, MOVES):
            break
    return node


MOVES = (Reshape, Permute, Slice, ExpandDims, Squeeze, Flatten, RepeatVector)
"""Specs that hand numbers on as they are."""


def make(model: Model, steps: int = STEPS, scale: float = 1.0, seed: int = SEED) -> list[Array]:
    """One array per model input, (batch, ...); rows grow from scale/4 to 2 scale.

    Axes of any length get `steps`. The values are float32 so that every framework gets the same;
    inputs of integers get whole numbers, and those of embeddings row numbers. Where the model has
    masks, the rows are masked in turn nowhere, at the end, at the start, in the middle, everywhere.
    """
    rng = np.random.default_rng(seed)
    marks, tables = _marks(model), row_numbers(model)
    made = []
    for name in model.inputs:
        shape = _sample_shape(model.node(name).shape, steps)
        size = (batch_of(model), *shape)
        spec = model.node(name).spec
        dtype = spec.dtype if isinstance(spec, Input) else "float32"
        if dtype == "bool":
            made.append(_counts(*size))
        elif name in tables:
            made.append(_ids(rng, size, tables[name]))
        else:
            made.append(_numbers(rng, size, scale, dtype, marks.get(name)))
    return made


def _ids(rng: np.random.Generator, size: tuple[int, ...], rows: int) -> Array:
    """Row numbers from 1 on, and 0 where a mask of zeros would be."""
    ids = rng.integers(min(1, rows - 1), rows, size)
    if len(size) > 1:
        ids = np.where(_counts(*size), ids, 0)
    return ids.astype(np.float32)


def _numbers(
    rng: np.random.Generator, size: tuple[int, ...], scale: float, dtype: str, mark: float | None
) -> Array:
    """Normal numbers whose scale grows from row to row; `mark` fills the masked steps."""
    batch = size[0]
    rows = scale * (np.geomspace(0.25, 2.0, batch) if batch > 1 else np.ones(1))
    x = rng.standard_normal(size) * rows.reshape(-1, *(1,) * (len(size) - 1))
    if mark is not None:
        x = np.where(_counts(batch, size[1])[..., None], x, mark)
    return (x if "float" in dtype else np.rint(x)).astype(np.float32)


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
