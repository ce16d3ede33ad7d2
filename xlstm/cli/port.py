"""`xlstm port`: writes a port, runs it, and keeps it out of its place if it is not equal.

In: a file, a target and a folder. Out: a `PortResult`, and the folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlstm.errors import printable
from xlstm.files.keras.architecture import ReadOptions
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.imports import require
from xlstm.handover.files import check_tests, write_tests
from xlstm.ir.graph import Model
from xlstm.porting.save import atomic_folder, check_target, check_written, write, write_report
from xlstm.reading.load import opened
from xlstm.reading.record import origin_hash, origin_of
from xlstm.rendering.lines import alike_joined
from xlstm.rendering.tables import amount, to_text


@dataclass(frozen=True)
class PortResult:
    """A port that was written.

    Attributes:
        source: the framework of the model that was ported.
        adapter: the target.
        folder: the folder that has the files now.
        wanted: the folder that the user named.
        report: the content of report.json.
    """

    source: str
    adapter: Adapter
    folder: Path
    wanted: Path
    report: Mapping[str, Any]

    @property
    def verified(self) -> Mapping[str, Any] | None:
        """The comparison with the reference, None if there was none."""
        found = self.report["verification"]
        return None if isinstance(found, str) else found

    @property
    def ok(self) -> bool:
        """True if the port is equal up to rounding, or was not verified."""
        return self.verified is None or bool(self.verified["ok"])

    def summary(self) -> str:
        """Returns one line: the target, the verdict, and the folder."""
        title = self.adapter.title
        if self.verified is None:
            why = f"{self.report['verification']}"
            if not self.adapter.installed:
                why += f" ({title} is not installed: {self.adapter.install_command})"
            return f"Ported to {title}, {why}: {self.folder}"
        if self.ok:
            return f"Ported to {title}, equal up to rounding: {self.folder}"
        if self.folder == self.wanted:
            return f"Ported to {title}, but {verdict(self.report)}: {self.folder}"
        return (
            f"Not equal: the port to {title} {_is(verdict(self.report))}. "
            f"It is in {self.folder}, to look at; {self.wanted} was not written."
        )

    @property
    def files(self) -> list[str]:
        """The names of the files in the folder."""
        return sorted(item.name for item in self.folder.iterdir())

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, with the names of the files."""
        return {**self.report, "files": self.files}

    def text(self, details: bool) -> str:
        """Returns the text for a terminal; with `details`, every note."""
        lines = [self.summary(), f"files: {', '.join(self.files)}", f"parameters: {self._counts()}"]
        report = self.report
        lines += note_lines(alike_joined(report["notes"]), None if details else NOTES)
        lines += [f"warning: {line}" for line in alike_joined(report["warnings"])]
        lines += _verdict_lines(self.adapter, self.verified) if self.verified else []
        return to_text(*map(printable, lines))

    def _counts(self) -> str:
        """Returns the number of parameters in the source and in the target."""
        totals = self.report["counts"]["totals"]
        names = dict.fromkeys((self.source, self.adapter.name))
        return " and ".join(
            f"{amount(totals[n]['total'])} in {registry.adapter(n).title}"
            for n in names
            if n in totals
        )


NOTES = 3
"""Notes that are shown without --details."""


def note_lines(notes: Sequence[str], most: int | None) -> list[str]:
    """Returns a line for each note, and one for the number of those beyond `most`.

    >>> note_lines(["a", "b"], 1)
    ['note: a', '1 more note (--details)']
    """
    lines = [f"note: {line}" for line in notes[:most]]
    left = len(notes) - len(lines)
    return [*lines, f"{left} more note{'s' * (left > 1)} (--details)"] if left else lines


def _is(word: str) -> str:
    return word if word == "failed" else f"is {word}"


def _verdict_lines(adapter: Adapter, verified: Mapping[str, Any]) -> list[str]:
    """Returns a line for each precision, and those about parts that no input reached."""
    from xlstm.verification.bounds import FAILED, OUTCOMES

    lines = []
    for dtype in ("float32", "float64"):
        v = verified["frameworks"][adapter.name][dtype]
        figures = f"largest difference {v['max_abs']:.2e}, allowed {v['bound']:.2e}"
        detail = figures if OUTCOMES[v["verdict"]] != FAILED and not v["detail"] else v["detail"]
        lines.append(f"{dtype}: {OUTCOMES[v['verdict']]} ({detail})")
    left = verified["unexercised"]
    if left:
        more = f", and {len(left) - 1} more" if left[1:] else ""
        lines.append(f"{left[0]}{more}. To test more: xlstm verify FOLDER --thorough")
    return lines


def verdict(report: Mapping[str, Any]) -> str:
    """Returns the worst verdict of a report.json of a port that is not equal."""
    from xlstm.verification.reconcile import unequal_verdict

    return unequal_verdict(report["verification"], registry.adapter(report["to"]))


ASIDE = ("different", "failed")
"""Verdicts of ports that are put aside."""


def _beside(folder: Path, word: str) -> Path:
    """Returns the folder for a port with a verdict, beside the one that the user names."""
    return folder.with_name(f"{folder.name}-{word}")


class NotKeptError(Exception):
    """Ends the writing of a folder whose port is not equal."""


def port_file(
    file: str,
    to: str,
    folder: Path,
    *,
    read: Mapping[str, Any],
    overwrite: bool,
    verified: bool,
    options: Mapping[str, Any],
    with_tests: bool = False,
) -> PortResult:
    """Writes a port, verifies it, and puts it in its place if it is not different.

    A port that is different or fails goes to FOLDER-different or FOLDER-failed. What was in
    `folder` before stays.

    Args:
        file: the model.
        to: the target.
        folder: the new folder; its parents are made.
        read: options of `load`.
        overwrite: True to replace an earlier port.
        verified: False to write without running the port.
        options: of `reconcile`.
        with_tests: True to write tests and golden numbers beside a port that is not different.

    Raises:
        XlstmError: as `load` and `save` raise.
    """
    adapter = registry.adapter(to)
    check_target(folder, overwrite)
    if with_tests:
        check_tests(adapter)
    verified = verified and adapter.installed
    for word in ASIDE if verified else ():
        beside = _beside(folder, word)
        check_target(beside, overwrite=os.path.lexists(beside))  # before the work, not after it
    tell = options["progress"]
    aside = None
    with opened(file, ReadOptions(**read)) as model:
        if verified or (adapter.extra_files and adapter.installed):
            tell(f"importing {adapter.title}")
            require(adapter.name)
        tell(f"writing for {adapter.title}")
        source = model.source.framework
        with contextlib.suppress(NotKeptError), atomic_folder(folder, overwrite) as work:
            report = write(model, work, adapter, (origin_of(file, folder), origin_hash(file)))
            if verified:
                aside = _verify(model, work, adapter, report, folder, options)
            if aside:
                raise NotKeptError
            if with_tests:
                _add_tests(work, adapter, report, options)
    return PortResult(source, adapter, aside or folder, folder, report)


def _add_tests(
    work: Path, adapter: Adapter, report: dict[str, Any], options: Mapping[str, Any]
) -> None:
    """Writes tests beside a port; a note says why there are none for an undecided one."""
    found = report["verification"]
    if not isinstance(found, str) and not found["ok"]:
        report["notes"].append("no tests were written: the comparison is undecided")
        write_report(work, report)
        return
    options["progress"]("writing tests")
    memory = {"memory": options["memory"]} if "memory" in options else {}
    write_tests(work, adapter, report, **memory)


def _verify(
    model: Model,
    work: Path,
    adapter: Adapter,
    report: dict[str, Any],
    folder: Path,
    options: Mapping[str, Any],
) -> Path | None:
    """Adds the comparison to a report; copies a port that is not equal, and returns the copy."""
    # a port without verification does without these modules
    from xlstm.verification.bounds import UNDECIDED
    from xlstm.verification.reconcile import of_folder

    check_written(model, work, adapter)
    report["verification"] = of_folder(work, adapter, **options)
    write_report(work, report)
    found = report["verification"]
    if isinstance(found, str) or found["ok"] or verdict(report) == UNDECIDED:
        return None
    aside = _beside(folder, verdict(report))
    with atomic_folder(aside, overwrite=True) as copy:
        shutil.copytree(work, copy, dirs_exist_ok=True)
    return aside
