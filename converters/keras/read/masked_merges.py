"""Multiply, Maximum and Minimum of masked inputs as Keras computes them from 3.4 on; no framework.

Before that, and for the other merges, masks change no numbers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from xlstm.errors import UnsupportedError
from xlstm.ir.graph import Edge, ExpandDims, Merge, Spec
from xlstm.ir.layers import Where
from xlstm.ir.types import Shape

from .context import LIMITS, Reader

CHANGED = ("multiply", "maximum", "minimum")
"""Merges that look at masks."""


Read = Edge | int
"""An edge, or the number of a step before."""


@dataclass
class Steps:
    """Specs and what each reads, in order; the last one gives what is wanted."""

    found: list[tuple[Spec, tuple[Read, ...]]] = field(default_factory=list)

    def add(self, spec: Spec, *reads: Read) -> int:
        """The number of a new step."""
        self.found.append((spec, reads))
        return len(self.found) - 1

    def chosen(self, masks: Sequence[int], yes: Read, no: Read) -> Read:
        """One thing where one of the masks keeps a step, another elsewhere."""
        for mask in masks:
            no = self.add(Where(), mask, yes, no)
        return no


def is_changed(reader: Reader, specs: Sequence[Spec], masks: Sequence[object]) -> bool:
    """Whether the masks of a layer's inputs change its numbers."""
    (spec, *_) = specs
    merges = isinstance(spec, Merge) and spec.how in CHANGED
    return merges and any(mask is not None for mask in masks) and reader.era.joins_masks_by_or


def check_shapes(shapes: Sequence[Shape], masks: Sequence[Shape | None], where: str) -> None:
    """Raises UnsupportedError for masks that Keras hands on, or broadcasts, in ways of its own."""
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        want = "masked inputs of one rank, where their numbers depend on the masks"
        raise UnsupportedError(where, want, f"ranks {sorted(rank + 1 for rank in ranks)}", LIMITS)
    wrong = [mask for mask in masks if mask is not None and len(mask) + 1 not in ranks]
    if wrong:
        want = f"masks of rank {min(ranks)}, one number for each step"
        raise UnsupportedError(where, want, f"{len(wrong[0]) + 1}", LIMITS)


def masked_merge(
    spec: Merge, inputs: Sequence[Edge], masks: Sequence[Edge | None], rank: int
) -> Steps:
    """What computes a merge of inputs of which some are masked; `rank` is that of a sample."""
    steps = Steps()
    every = [mask for mask in dict.fromkeys(masks) if mask is not None]
    wide = {mask: steps.add(ExpandDims(rank - 1), mask) for mask in every}
    kept = [None if mask is None else wide[mask] for mask in masks]
    if spec.how == "multiply":
        _product(steps, inputs, kept)
    else:
        _extreme(steps, spec, inputs, kept)
    return steps


def _product(steps: Steps, inputs: Sequence[Edge], masks: Sequence[int | None]) -> None:
    """Masked steps count as 1; where all inputs are masked, steps that none keeps are 0."""
    every = list(dict.fromkeys(masks))
    read: list[Read] = list(inputs)
    if len(every) > 1:  # what one mask leaves out is 0 at last
        pairs = zip(inputs, masks, strict=True)
        read = [x if m is None else steps.add(Where(no=1.0), m, x) for x, m in pairs]
    y = steps.add(Merge("multiply"), *read)
    known = [mask for mask in every if mask is not None]
    if len(known) == len(every):
        steps.chosen(known[1:], y, steps.add(Where(no=0.0), known[0], y))


def _extreme(
    steps: Steps, spec: Merge, inputs: Sequence[Edge], masks: Sequence[int | None]
) -> None:
    """One input after the other: a masked step of one of two is the other's."""
    y: Read = inputs[0]
    kept = [mask for mask in masks[:1] if mask is not None]
    for x, mask in zip(inputs[1:], masks[1:], strict=True):
        other = x if mask is None else steps.add(Where(), mask, x, y)
        y = steps.add(spec, steps.chosen(kept, y, other) if kept else y, other)
        kept = list(dict.fromkeys([*kept, mask])) if kept and mask is not None else []
