"""Compares every model of a stack with the float64 reference, within the bounds of `reconcile`.

    report = reconcile(many)
    report.check()

In: a stack, or the folder of one. Out: a `StackReport` with a verdict for each model.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm.errors import NotEqualError, printable
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.graph import Model
from xlstm.ir.precision import DTYPES
from xlstm.ir.types import Array
from xlstm.rendering.tables import add, grid, to_text
from xlstm.stacking.folder import facts_for, unstack
from xlstm.stacking.stack import StackedModels, made_of
from xlstm.verification.bounds import EPS, ROUNDING, Verdict, bounds_in, worst_of
from xlstm.verification.inputs import MEMORY, Limits, Recipe, check_memory, fitted
from xlstm.verification.progress import Tell, silent
from xlstm.verification.reconcile import decidable_inputs
from xlstm.verification.report import Compared
from xlstm.verification.run import failed, judged, trial

SHOWN = 20
"""Models that are not equal and that a text names."""


@dataclass(frozen=True, repr=False)
class StackReport(Compared):
    """The verdicts on the models of a stack.

    Attributes:
        title: the framework that ran the stack.
        verdicts: name of each model -> precision -> its verdict.
    """

    title: str
    verdicts: Mapping[str, Mapping[str, Verdict]]

    @property
    def ok(self) -> bool:
        """True if every model is equal to the reference up to rounding, in every precision."""
        return not self.unequal()

    def unequal(self) -> list[str]:
        """Names of the models that are not equal in every precision."""
        return [
            name
            for name, found in self.verdicts.items()
            if any(verdict.verdict != ROUNDING for verdict in found.values())
        ]

    def summary(self) -> str:
        """Returns one line: the number of models that are equal."""
        wrong, count = len(self.unequal()), len(self.verdicts)
        equal = f"{count - wrong} of {count} models" if wrong else f"All {count} models"
        return f"{equal} in {self.title} equal the reference up to rounding."

    def check(self) -> None:
        """Raises NotEqualError with the names of unequal models."""
        wrong = self.unequal()
        if wrong:
            names = ", ".join(map(printable, wrong[:SHOWN]))
            got = f"{len(wrong)} unequal: {names}{', ...' * (len(wrong) > SHOWN)}"
            raise NotEqualError("stack", "models equal up to rounding", got, "see the report")

    def __str__(self) -> str:
        table = grid(["model", "precision", "verdict", "largest difference", "of the limit"], 3)
        for name in self.unequal()[:SHOWN] or [*self.verdicts][:SHOWN]:
            for dtype, v in self.verdicts[name].items():
                figures = f"{v.max_abs:.2e}", f"{100 * v.ratio:.0f} %"
                add(table, printable(name), dtype, v.outcome, *figures)
        return f"{to_text(table)}\n{self.summary()}"

    def to_json(self) -> dict[str, Any]:
        """Returns the verdicts as plain data."""
        found = {
            name: {dtype: v.to_json() for dtype, v in own.items()}
            for name, own in self.verdicts.items()
        }
        return {"equal": self.ok, "framework": self.title, "models": found}


@unmoved
def reconcile(
    stacked: Any,
    names: Iterable[str] | None = None,
    *,
    memory: float = MEMORY,
    progress: Tell = silent,
) -> StackReport:
    """Compares the models of a stack with the float64 reference, in float32 and float64.

    The stack runs all models in one call, each with inputs of its own. The reference runs them one
    by one; the bounds are those that `xlstm.reconcile` has for single ports. In the dtype of the
    stack the object itself runs, in the other one a stack of the same weights and code.

    Args:
        stacked: what `xlstm.stack` returned, or the folder of a stack.
        names: of the models to compare; None for all.
        memory: limit in bytes for each run of the reference, as in `xlstm.reconcile`.
        progress: is called with a line of text for each activity.

    Raises:
        UsageError: unknown names, or a comparison that would need more than `memory`.
        XlstmError: as `unstack` raises.
    """
    facts, models = facts_for(stacked), unstack(stacked)
    wanted = list(models) if names is None else list(unstack(stacked, names))
    first, limits = next(iter(models.values())), Limits(check_memory(memory))
    start = fitted(first, Recipe(), limits)
    (arrays, _, _), _ = decidable_inputs(first, start, DTYPES, limits.room)
    every = {name: _rolled(arrays, number) for number, name in enumerate(models)}
    outputs = {dtype: _outputs(stacked, facts, models, every, dtype) for dtype in DTYPES}
    places = {name: number for number, name in enumerate(models)}
    found = {}
    for name in wanted:
        progress(f"model {printable(name)}")
        own = _verdicts(models[name], every[name], places[name], outputs, limits)
        found[name] = own
    return StackReport(facts.adapter.title, found)


def _rolled(arrays: Iterable[Array], number: int) -> list[Array]:
    """Inputs of one model: the samples in another order, so that no two models are mixed up."""
    return [np.roll(x, number, axis=0) for x in arrays]


def _outputs(
    stacked: Any,
    facts: StackedModels,
    models: Mapping[str, Model],
    every: Mapping[str, list[Array]],
    dtype: str,
) -> list[Array] | Verdict:
    """The outputs of all models, (models, batch, ...), or the failure of the framework."""
    inputs = [np.stack(parts) for parts in zip(*every.values(), strict=True)]
    try:
        is_object = not isinstance(stacked, (str, os.PathLike))
        own = is_object and dtype == facts.dtype
        made = stacked if own else made_of(models, facts.adapter, dtype, facts.chunk)
        live: Any = facts.adapter.live()
        found: list[Array] = live.run_stack(made, inputs, dtype)
        return found
    except Exception as error:  # noqa: BLE001  a framework may raise anything; the report shows it
        return failed(error)


def _verdicts(
    model: Model,
    arrays: list[Array],
    number: int,
    outputs: Mapping[str, list[Array] | Verdict],
    limits: Limits,
) -> dict[str, Verdict]:
    """The verdict on one model in each precision."""
    allowed = bounds_in(model, arrays, {dtype: EPS[dtype] for dtype in DTYPES}, limits.room)
    own, found = trial(model, arrays, allowed=allowed), {}
    for dtype, ys in outputs.items():
        if isinstance(ys, Verdict):
            found[dtype] = ys
        else:
            found[dtype] = worst_of(judged([y[number] for y in ys], allowed[dtype], own, dtype))
    return found
