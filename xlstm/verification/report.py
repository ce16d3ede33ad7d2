"""The results of a comparison: for programs, for a terminal, and for a notebook.

`reconcile` returns a `Report` with a `FrameworkReport` for each framework; `str(report)` is its
text, `report.to_json()` its data. A result is true if all is equal; `check()` raises if not.
"""

from __future__ import annotations

import abc
import os
import platform
import shlex
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xlstm._version import VERSION
from xlstm.counting.ledger import Ledger, render_counts
from xlstm.errors import NotEqualError, printable
from xlstm.files.atomic import write_file
from xlstm.frameworks import registry
from xlstm.html_report.page import BAD, GOOD, UNSURE, Advice, Content, page
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Model
from xlstm.ir.literals import in_words
from xlstm.ir.precision import DTYPES
from xlstm.reading.record import versions
from xlstm.rendering.lines import alike_joined
from xlstm.rendering.notebook import markup
from xlstm.rendering.tables import Grid, add, grid, to_text
from xlstm.verification.bounds import DIFFERENT, FAILED, ROUNDING, UNDECIDED, Verdict, worst_of
from xlstm.verification.error_charts import ComparedOutput, curves, histograms, worst_elements


class Compared(abc.ABC):
    """The base of results: true if the comparison found all equal, and displayed as its text.

    >>> class Never(Compared):
    ...     ok = False
    ...     def summary(self):
    ...         return "Not equal."
    >>> bool(Never()), Never()
    (False, <Never: Not equal.>)
    """

    @property
    @abc.abstractmethod
    def ok(self) -> bool:
        """True if all comparisons are equal up to rounding."""

    def __bool__(self) -> bool:
        """The same as `ok`."""
        return self.ok

    @abc.abstractmethod
    def summary(self) -> str:
        """Returns one line: equal, or what is not."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {printable(self.summary())}>"

    def _repr_html_(self) -> str:
        return markup(str(self))


@dataclass(frozen=True, repr=False)
class FrameworkReport(Compared):
    """One framework's part of a comparison.

    Attributes:
        name: the name that users write.
        title: the framework's own spelling.
        version: installed version.
        what: the object that ran: the original, or our port.
        verdicts: dtype -> verdict.
        parameters: number of parameters in the framework's own count, None if it has none.
        weights: "" if the port's weights are bit for bit the source's, else the first difference;
            None if they were not compared: those of the original, or without a run.
        missing: the reason why it did not run, if it is not installed.
        shapes: shape of the inputs -> dtype -> verdict, if several were compared.
        layers: dtype -> output of a recurrent layer -> verdict, if hidden states were compared.
        gradients: dtype -> tensor or input -> verdict, if gradients were compared.
        steps: dtype -> tensor -> verdict, if one step of SGD was compared.
        step_notes: differences of such a step from the source's, with advice.
    """

    name: str
    title: str
    version: str
    what: str
    verdicts: dict[str, Verdict]
    parameters: int | None
    weights: str | None = None
    missing: str = ""
    shapes: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    layers: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    gradients: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    steps: Mapping[str, Mapping[str, Verdict]] = field(default_factory=dict)
    step_notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if every precision is equal up to rounding, and every weight is the source's."""
        return not self.weights and all(v.verdict == ROUNDING for _, v in self.every())

    def summary(self) -> str:
        """Returns one line: the framework, and equal or what is not."""
        wrong = in_words(_outcomes(self)) or self.weights
        return f"{self.title} {'is equal up to rounding' if self.ok else wrong}."

    def every(self) -> Iterator[tuple[str, Verdict]]:
        """Each verdict with its precision, and with its layer, tensor or shape if it has one."""
        yield from self.verdicts.items()
        more = ("", self.layers), ("gradient of ", self.gradients), ("one step of ", self.steps)
        for what, found in more:
            for dtype, verdicts in found.items():
                yield from ((f"{dtype}, {what}{name}", v) for name, v in verdicts.items())

    def to_json(self) -> dict[str, Any]:
        """This framework's part as plain data."""
        found: dict[str, Any] = {dtype: v.to_json() for dtype, v in self.verdicts.items()}
        nothing = "not installed" if self.missing else "nothing ran"
        found |= {"version": self.version, "what": self.what or nothing}
        weights = "not compared" if self.weights is None else self.weights or "bit-equal"
        found["weights"] = weights
        found |= {"step_notes": list(self.step_notes)} if self.steps else {}
        for key in ("shapes", "layers", "gradients", "steps"):
            if every := getattr(self, key):
                found[key] = {
                    a: {b: v.to_json() for b, v in verdicts.items()}
                    for a, verdicts in every.items()
                }
        return found


def render_verdicts(frameworks: Collection[FrameworkReport]) -> Grid:
    """A table with a row for each framework and precision."""
    headers = ["framework", "precision", "verdict", "largest difference", "of the limit", "ULP"]
    table = grid(headers, left=3)
    for found in frameworks:
        for dtype, v in found.verdicts.items():
            name = f"{found.title} {found.version.partition('+')[0]}"  # 2.13.0, of 2.13.0+cpu
            add(table, name, dtype, _word(v), *_figures(v))
    return table


def _word(v: Verdict) -> str:
    return v.outcome if v.ran else "not run"


def _figures(v: Verdict) -> tuple[str, str, str]:
    if v.verdict == "failed" or not v.ran:
        return "-", "-", "-"
    return f"{v.max_abs:.2e}", f"{100 * v.ratio:.0f} %", f"{v.max_ulp:.1f}"


def _every_detail(frameworks: Collection[FrameworkReport], several: bool) -> Iterator[str]:
    """Lines that do not fit in a row; with `several` outputs, the worst one is named."""
    for found in frameworks:
        if same := _same_failure(found):
            yield f"{found.title}: {same}"
        else:
            for dtype, v in found.verdicts.items():
                yield from _details(f"{found.title} {dtype}", v, several)
        besides = {"hidden states": found.layers, "gradients": found.gradients}
        for part, every in {**besides, "one step of SGD": found.steps}.items():
            for dtype, verdicts in every.items():
                worst = worst_of([*verdicts.values()])
                yield from _details(f"{found.title} {dtype}, {part}", worst, True)
        yield from ([f"{found.title}: {found.weights}"] if found.weights else [])
        yield from (f"{found.title}, {line}" for line in found.step_notes)


def _same_failure(found: FrameworkReport) -> str:
    """The failure that all precisions of a framework have alike, "" if there is none."""
    failures = {v.detail for v in found.verdicts.values() if v.verdict == "failed"}
    every = len(failures) == 1 and all(v.verdict == "failed" for v in found.verdicts.values())
    return failures.pop() if every else ""


def _details(where: str, v: Verdict, several: bool) -> list[str]:
    """The failure of a comparison, and its worst output."""
    step = "" if v.step is None else f", time step {v.step}"
    lines = []
    if v.ran and v.output and (several or v.verdict not in ("rounding", "failed")):
        worst = "the worst" if v.verdict != "rounding" else "closest to its limit"
        of_input = f'that of the input "{v.output.removeprefix("input ")}"'
        name = (
            of_input if where.endswith("gradients") and v.output.startswith("input ") else v.output
        )
        lines.append(f"{where}: {worst} is {name}{step}")
    return [*lines, f"{where}: {v.detail}"] if v.detail else lines


def _parts(frameworks: Collection[FrameworkReport]) -> list[Grid | str]:
    """A table for each kind of comparison other than outputs."""
    titles = {"shapes": "inputs", "layers": "hidden states", "gradients": "gradients"}
    titles["steps"] = "one step of SGD"
    parts: list[Grid | str] = []
    for key, title in titles.items():
        table = grid([title, "framework", "precision", "verdict", "of the limit"], left=4)
        for found in frameworks:
            for a, verdicts in getattr(found, key).items():
                for b, v in verdicts.items():
                    name, dtype = (a, b) if key == "shapes" else (b, a)
                    add(table, name, found.title, dtype, _word(v), _figures(v)[1])
        parts += [table] if len(table.rows) > 1 else []
    return parts


BLURRED = (
    "cannot be decided: rounding alone may move them by more than their digits, and an error there "
    "would not be seen; differences and ULP are those of the other steps"
)
"""The text for time steps without a verdict."""

MORE = "To test more, pass your own data (--inputs), or --thorough."

REFERENCE = "Reference: float64 numpy, independent of all tables."

BUG = "The counts above differ from the frameworks' own: this is a bug, report it."


@dataclass(frozen=True, repr=False)
class Report(Compared):
    """Counts and outputs of several frameworks against the float64 reference.

    Attributes:
        model: the model of the comparison.
        ledger: the counts.
        frameworks: name -> that framework's part.
        unexercised: pieces of activations that the inputs did not reach.
        inputs: description of the inputs.
        counts_ok: True if the tables' counts equal the frameworks' own.
        recipe: options that generate the same inputs again, and their hash.
    """

    model: Model
    ledger: Ledger
    frameworks: dict[str, FrameworkReport]
    unexercised: tuple[str, ...]
    inputs: str
    counts_ok: bool
    recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """True if all frameworks are equal up to rounding and all counts agree."""
        return self.counts_ok and all(f.ok for f in self.frameworks.values())

    @property
    def missing(self) -> list[str]:
        """A line for each framework that the user names and that is not installed."""
        return [found.missing for found in self.frameworks.values() if found.missing]

    @property
    def ran(self) -> bool:
        """True if a framework ran: else nothing was compared."""
        return any(found.what for found in self.frameworks.values())

    def check(self) -> None:
        """Raises NotEqualError with the names of unequal frameworks; its note is the text.

        Warns (UserWarning) if all are equal and some time steps cannot be decided.
        """
        wrong = [text for f in self.frameworks.values() for text in _wrong(f)]
        wrong += [f"{f.title}: {f.weights}" for f in self.frameworks.values() if f.weights]
        if not self.counts_ok:
            wrong.append("parameter counts differ from the frameworks' own")
        if wrong:
            do = "see the report for the figures"
            error = NotEqualError(self.model.name, "equal up to rounding", "; ".join(wrong), do)
            error.add_note(str(self))
            raise error
        for line in self.undecidable():
            warnings.warn(f"{self.model.name}: {line}", stacklevel=2)

    def undecidable(self) -> list[str]:
        """A line for each set of time steps that cannot be decided for any framework."""
        where: dict[str, list[str]] = {}
        for found in self.frameworks.values():
            for dtype, v in found.every():
                if v.undecidable and v.ran:
                    where.setdefault(v.undecidable, []).append(f"{found.title} {dtype}")
        return [f"{steps} {BLURRED} ({', '.join(who)})" for steps, who in where.items()]

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, in the form that `xlstm verify --json` prints."""
        return {
            "ok": self.ok,
            "frameworks": {name: found.to_json() for name, found in self.frameworks.items()},
            "counts": {
                "ok": self.counts_ok,
                "own": {name: found.parameters for name, found in self.frameworks.items()},
                "totals": self.ledger.totals(),
            },
            "unexercised": list(self.unexercised),
            "undecidable_from": self._undecidable_from(),
            "inputs": self.inputs,
            "recipe": dict(self.recipe),
            "warnings": warnings_of(self.model),
        }

    def _undecidable_from(self) -> int | None:
        found = [
            v.undecidable_from
            for f in self.frameworks.values()
            for v in f.verdicts.values()
            if v.undecidable_from is not None
        ]
        return min(found, default=None)

    def summary(self) -> str:
        """Returns one line: the frameworks that are equal, or those that are not."""
        parts = self.frameworks.values()
        if self.ok:
            return f"Equal up to rounding: {in_words([f.title for f in parts])}."
        if not self.counts_ok:
            return "Not equal: the parameter counts differ from the frameworks' own."
        if wrong := [f"{f.title} {in_words(words)}" for f in parts if (words := _outcomes(f))]:
            return f"Not equal: {'; '.join(wrong)}."
        return f"Not equal: {'; '.join(f'{f.title}: {f.weights}' for f in parts if f.weights)}."

    def to_html(self, path: str = "", command: str = "") -> str:
        """Returns the report as one HTML page, which has no script and loads nothing.

        Args:
            path: the file or folder of the model, for the commands on the page; "" for the name of
                the file that was read.
            command: repeats the comparison; "" for one made from the report, which knows no options
                of `load`.

        Example:
            html = xlstm.reconcile("model.h5", ["keras", "torch"], states=True).to_html()
        """
        return page(content_of(self, path, command))

    def save_html(self, file: str | os.PathLike[str], path: str = "", command: str = "") -> None:
        """Writes the page of `to_html` to a file, in one step.

        Raises:
            OSError: the file cannot be written.
        """
        write_file(Path(file), self.to_html(path, command).encode())

    def text(self, details: bool = True, head: str = "") -> str:
        """Returns the report for a terminal.

        Args:
            head: the first line, the summary if "".
            details: False leaves out the counts, the tables of single comparisons, and how the
                inputs were made.
        """
        return to_text(*self._shown(details, head))

    def _shown(self, details: bool, head: str) -> list[Grid | str]:
        """The tables and lines of a report."""
        frameworks = self.frameworks.values()
        several = len(self.model.outputs) > 1
        lines = alike_joined(_every_detail(frameworks, several))
        lines += [*self.undecidable(), *warnings_of(self.model)]
        lines += [] if self.counts_ok else [BUG]
        parts: list[Grid | str] = [head or self.summary(), render_verdicts(frameworks)]
        lines += dict.fromkeys(f"{f.title} ran {f.what}." for f in frameworks if f.what)
        if details:
            lines += alike_joined(self.unexercised)
            lines += [MORE] if self.unexercised else []
            lines.append(f"Inputs: {self.inputs}. {REFERENCE}")
            parts += [*_parts(frameworks), render_counts(self.ledger)]
        elif self.unexercised:
            lines.append(_untested(self.unexercised))
        return [*parts, *map(printable, lines)]

    def __str__(self) -> str:
        return self.text()

    def _repr_html_(self) -> str:
        return markup(*self._shown(details=False, head=""))


def content_of(report: Report, path: str = "", command: str = "") -> Content:
    """Returns the parts of the page of a report, with the arguments of `Report.to_html`."""
    parts = [*_outputs(report.frameworks.values())]
    inner = [*_layers(report.frameworks.values())]
    found = report.frameworks.values()
    worst, line = worst_elements(parts)
    more = {f"Verdicts on {g.rows[0][0]}": g for g in _parts(found) if isinstance(g, Grid)}
    if inner:
        more["Worst elements of hidden states"] = worst_elements(inner)[0]
    lines = alike_joined(_every_detail(found, len(report.model.outputs) > 1))
    lines += [*report.undecidable(), *warnings_of(report.model), *report.missing]
    lines += dict.fromkeys(f"{f.title} ran {f.what}." for f in found if f.what)
    path = path or report.model.source.file
    return Content(
        model=report.model,
        ledger=report.ledger,
        state=_state(report),
        summary=report.summary(),
        steps=tuple(_steps(report, path)),
        notes=(*lines, *alike_joined(report.unexercised), REFERENCE),
        verdicts=render_verdicts(found),
        shares=tuple(_share(v) for f in found for v in f.verdicts.values()),
        parts=more,
        curves=curves([*parts, *inner]),
        histograms=histograms(parts),
        worst=worst,
        worst_line=line,
        inputs=report.inputs,
        recipe=report.recipe,
        versions=versions([registry.adapter(name) for name in report.frameworks]),
        platform=platform.platform(),
        commands=tuple(_commands(report, path, command)),
    )


def _state(report: Report) -> str:
    """The colour of the verdict."""
    words = {v.verdict for f in report.frameworks.values() for _, v in f.every()}
    wrong = not report.counts_ok or any(f.weights for f in report.frameworks.values())
    if wrong or words & {DIFFERENT, FAILED}:
        return BAD
    return UNSURE if UNDECIDED in words else GOOD


def _steps(report: Report, path: str) -> Iterator[Advice]:
    """Advice that follows from the verdicts."""
    words = {v.verdict for f in report.frameworks.values() for _, v in f.every()}
    file = shlex.quote(path)
    if not report.counts_ok:
        yield Advice(BUG)
    if FAILED in words:
        yield Advice("Read the failures in the notes below, and correct their causes.")
    if DIFFERENT in words or any(f.weights for f in report.frameworks.values()):
        yield Advice("Do not use the ports that are not equal.")
        find = f"xlstm diagnose {file} PORT" if path else ""
        yield Advice("Find the first difference and its cause. PORT is the wrong one.", find)
    if UNDECIDED in words:
        yield Advice("Pass shorter inputs, or your own data, for a verdict on what is undecided.")
    if report.ok and path:
        yield Advice("Write a port; names are torch, nnx, linen and keras.", _port(file))
    if report.unexercised:
        more = f"xlstm verify {file} --thorough" if path else ""
        yield Advice("Test more: the inputs did not reach every piece of an activation.", more)


def _commands(report: Report, path: str, command: str) -> Iterator[str]:
    """Commands that repeat the comparison."""
    # no package index has this distribution: a clone does
    yield f"pip install -c constraints.txt '.[all]'  # in a clone of xlstm {VERSION}"
    if command:
        yield command
        return
    names = ",".join(report.frameworks)
    found = report.frameworks.values()
    had = {name: any(getattr(f, name) for f in found) for name in ("layers", "gradients")}
    had |= {"thorough": any(f.shapes for f in found), "step": any(f.steps for f in found)}
    had["half"] = any(d not in DTYPES for f in found for d in f.verdicts)
    had["states"] = had.pop("layers")
    options = "".join(f" --{name}" for name, on in had.items() if on)
    options += "" if report.recipe.get("cooked") else " --inputs YOUR_INPUTS"
    if path:
        yield f"xlstm verify {shlex.quote(path)} --frameworks {names}{options}"
        return
    flags = "".join(f", {name}=True" for name, on in had.items() if on)
    flags += "" if report.recipe.get("cooked") else ", inputs=YOUR_INPUTS"
    yield f"xlstm.reconcile(model, {[*report.frameworks]}{flags})  # in Python"


def _port(file: str) -> str:
    return f"xlstm port {file} --to torch -o ported"


def _outputs(frameworks: Collection[FrameworkReport]) -> Iterator[ComparedOutput]:
    """The worst output of every framework and precision."""
    for number, found in enumerate(frameworks):
        for dtype, v in found.verdicts.items():
            yield ComparedOutput(found.title, number, dtype, v)


def _layers(frameworks: Collection[FrameworkReport]) -> Iterator[ComparedOutput]:
    """The hidden states of every framework and precision."""
    for number, found in enumerate(frameworks):
        for dtype, verdicts in found.layers.items():
            yield from (ComparedOutput(found.title, number, dtype, v) for v in verdicts.values())


def _share(v: Verdict) -> float | None:
    """The part of its limit that an error reaches; None if nothing ran."""
    return None if v.verdict == FAILED or not v.ran else v.ratio


def _wrong(found: FrameworkReport) -> list[str]:
    """Returns a text for each verdict of a framework that is not "equal"."""
    if same := _same_failure(found):
        return [f"{found.title} failed ({same})"]
    every = found.every()
    return [_unequal(f"{found.title} {what}", v) for what, v in every if v.verdict != ROUNDING]


def _unequal(where: str, v: Verdict) -> str:
    """Returns a verdict that is not "equal", with its figures or the failure."""
    if v.verdict == "failed":
        return f"{where} failed ({v.detail})" if v.detail else f"{where} failed"
    more = f", {v.detail}" if v.detail else ""
    figures = f"largest difference {v.max_abs:.3g}, allowed {v.bound:.3g}"
    return f"{where} is {v.outcome} ({figures}{more})"


def _outcomes(found: FrameworkReport) -> list[str]:
    """Returns the precisions and parts of a framework that are not equal, by outcome."""
    words: dict[str, list[str]] = {}
    for where, v in found.every():
        if v.verdict != ROUNDING:
            words.setdefault(v.outcome, []).append(where)
    return [
        f"{'' if word == 'failed' else 'is '}{word} in {in_words(places[:3])}"
        + (f" and {len(places) - 3} more" if len(places) > 3 else "")
        for word, places in words.items()
    ]


def _untested(lines: Sequence[str]) -> str:
    """Returns one line for all that the inputs did not reach."""
    more = f", and {len(lines) - 1} more (--details)" if len(lines) > 1 else ""
    return f"{lines[0]}{more}. {MORE}"
