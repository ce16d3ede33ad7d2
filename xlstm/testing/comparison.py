"""One comparison of a test: opens files and names, compares, and puts the result in words.

In: a truth and a suspect. Out: a `ParityResult`.

>>> import xlstm
>>> Comparison(xlstm.demo.path(), xlstm.demo.path()).run().outcome
'equal'
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlstm.diagnosis import Diagnosis, diagnose
from xlstm.errors import UsageError, printable
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import resolve
from xlstm.ir.graph import Model
from xlstm.testing.loaded_files import LoadedFiles
from xlstm.testing.results import (
    DIFFERENT,
    EQUAL,
    FAILED,
    UNDECIDED,
    ParityResult,
)
from xlstm.verification.inputs import MEMORY
from xlstm.verification.progress import Tell, silent
from xlstm.verification.reconcile import reconcile
from xlstm.verification.report import Report

FILES = LoadedFiles()
"""Files that this process has read; the plugin clears it at the end of a session."""

IMPORTABLE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
"""The name of an object in a module, as "package.module:name"."""

ORDER = (FAILED, DIFFERENT, UNDECIDED, EQUAL)
"""Outcomes, the worst one first."""


@dataclass(frozen=True)
class Comparison:
    """One comparison as a test asks for it; the arguments of `assert_parity`."""

    truth: Any
    suspect: Any
    inputs: Any = None
    memory: float = MEMORY
    effort: float = 1.0

    def run(self, tell: Tell = silent) -> ParityResult:
        """Compares in this process; `tell` gets a line for each step.

        Raises:
            XlstmError: as `assert_parity` raises.
        """
        start = time.perf_counter()
        framework = named_framework(self.suspect)
        made = self._port(framework, tell) if framework else self._diagnosis(tell)
        names: Any = {"truth": in_words(self.truth), "suspect": in_words(self.suspect)}
        return replace(made, **names, seconds=time.perf_counter() - start)

    def read_files(self) -> Comparison:
        """Returns the comparison with the models of its files, read in this process."""
        return replace(self, truth=_opened(self.truth), suspect=_opened(self.suspect))

    def _diagnosis(self, tell: Tell) -> ParityResult:
        read = self.read_files()
        limits: Any = {"memory": self.memory, "effort": self.effort}
        return of_diagnosis(
            diagnose(read.truth, read.suspect, self.inputs, progress=tell, **limits)
        )

    def _port(self, framework: str, tell: Tell) -> ParityResult:
        source = _opened(self.truth)
        if isinstance(source, Model) and source.source.framework == framework:
            source = self.truth  # the file itself: the framework opens it and runs the original
        limits: Any = {"memory": self.memory, "progress": tell}
        return of_report(reconcile(source, [framework], self.inputs, **limits))


def of_diagnosis(found: Diagnosis) -> ParityResult:
    """Returns the result of a diagnosis; its text has the first element that differs."""
    lines = str(found).split("\n")
    if found.first:
        lines.insert(3, f"first difference: {printable(found.first)}")
    ran = "failed" not in found.causes
    outcome = EQUAL if found.ok else (DIFFERENT if ran else FAILED)
    if found.undecided and not found.findings:
        outcome = UNDECIDED
        lines[0] = "Undecided: rounding alone may make the difference."
    text, causes = "\n".join(lines), found.causes
    ratio = None if found.ratio is None else float(found.ratio)
    return ParityResult(outcome, found.a, found.b, text, ratio, causes, report=found)


def of_report(found: Report) -> ParityResult:
    """Returns the result of a report on the ports of frameworks."""
    verdicts = [v for part in found.frameworks.values() for _, v in part.every()]
    outcomes = [v.outcome for v in verdicts] + ([] if found.ok else [""])
    known = [one for one in ORDER if one in outcomes]
    outcome = DIFFERENT if not found.ok and known == [EQUAL] else known[0]
    names = ", ".join(found.frameworks)
    ratio = max((float(v.ratio) for v in verdicts if v.verdict != "failed"), default=None)
    return ParityResult(outcome, found.model.name, names, str(found), ratio, report=found)


def is_importable(thing: Any) -> bool:
    """True for the name of an object in a module, where no file is called so.

    >>> is_importable("package.ports:build"), is_importable("model.keras")
    (True, False)
    """
    if not isinstance(thing, str) or not IMPORTABLE.fullmatch(thing):
        return False
    return not Path(thing).exists()


def named_framework(thing: Any) -> str:
    """Returns the framework that a suspect names, "" where it is anything else."""
    if not isinstance(thing, str) or not thing.isidentifier() or Path(thing).exists():
        return ""
    try:
        return registry.canonical(thing)
    except UsageError:
        return ""


def in_words(thing: Any) -> str:
    """Returns a truth or a suspect in a few words: a path, or the name of a class or function.

    >>> in_words("model.keras"), in_words(print), in_words({})
    ('model.keras', 'print', 'arrays by name')
    """
    if isinstance(thing, (str, os.PathLike)):
        return printable(os.fspath(thing))
    if isinstance(thing, Model):
        return printable(f"model {thing.name}")
    if isinstance(thing, Mapping):
        return "arrays by name"
    first = thing[0] if isinstance(thing, tuple) and thing else thing
    return printable(getattr(first, "__name__", "") or type(first).__name__)


def imported(name: str) -> Any:
    """Returns the object "package.module:name"; a class is called without arguments.

    Raises:
        UsageError: the module cannot be imported, has no such name, or the class needs arguments.
    """
    try:
        found = resolve(name)
        return found() if isinstance(found, type) else found
    except Exception as error:  # of somebody's module
        got, do = f"{type(error).__name__}: {error}", "check the name, and that Python finds it"
        raise UsageError(name, "an object that can be imported", got, do) from error


def _opened(thing: Any) -> Any:
    """The model of a file, the object of a name, or the thing itself."""
    if is_importable(thing):
        return imported(thing)
    path = Path(thing) if isinstance(thing, (str, os.PathLike)) else None
    # diagnose says why no code of a Python file is run
    return thing if path is None or path.suffix == ".py" else FILES.get(path)
