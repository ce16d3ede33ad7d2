"""Verifies a ported folder against its record (`xlstm.reading.record`).

In: a folder that `save` wrote; its `report.json` has hashes, versions, the recipe of the inputs and
the verdicts. Out: a `Proof`. `verify_folder` compares the record with the folder as it is now, and
runs the folder's own `model.py`. A folder of `save_pretrained` has no record.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from xlstm._version import VERSION
from xlstm.budget import Budget
from xlstm.errors import FileError, NotEqualError, UsageError, XlstmError, printable
from xlstm.files import describe
from xlstm.files.atomic import write_file
from xlstm.files.guards import MAX_TEXT, open_regular
from xlstm.files.hashes import of_file
from xlstm.files.port_folder import (
    CONFIG,
    REPORT,
    SOURCE,
    STATEMENT,
    config_graph,
    graph_data,
    half_port,
    has_port,
    weights_of,
)
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import pack_model
from xlstm.frameworks.port_tests import TESTS
from xlstm.frameworks.random_state import unmoved
from xlstm.html_report.page import BAD, Advice, page
from xlstm.ir.graph import Model
from xlstm.ir.literals import in_words
from xlstm.ir.source import followed
from xlstm.porting.port import build
from xlstm.reading.load import load
from xlstm.reading.ports import emitted_for, read_folder, target_of
from xlstm.reading.record import ANEW, KEY, NONE, Record, figures_of, read_record, versions
from xlstm.reading.statement import unlike_statement
from xlstm.rendering.tables import to_text
from xlstm.verification.bounds import OUTCOMES
from xlstm.verification.reconcile import reconcile
from xlstm.verification.report import Compared, Report, content_of


@dataclass(frozen=True, repr=False)
class Proof(Compared):
    """The comparison of a ported folder with the reference and with its record.

    Attributes:
        report: the new comparison.
        changed: files that have changed; with any of them nothing is proven.
        since: other differences from the port: versions, machine, inputs, verdicts, figures.
    """

    report: Report
    changed: tuple[str, ...]
    since: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """True if all frameworks are equal up to rounding, and the files are those of the port."""
        return self.report.ok and not self.changed

    @property
    def missing(self) -> list[str]:
        """A line for each framework that the user names and that is not installed."""
        return self.report.missing

    @property
    def ran(self) -> bool:
        """True if a framework ran, or files were compared and are not those of the port."""
        return self.report.ran or bool(self.changed)

    def check(self) -> None:
        """Raises NotEqualError if a file has changed or a framework is not equal."""
        if self.changed:
            got = "; ".join(self.changed)
            error = NotEqualError(self.report.model.name, "the files of the port", got, ANEW)
            error.add_note(str(self))
            raise error
        self.report.check()

    def to_json(self) -> dict[str, Any]:
        """As `Report.to_json`, with the changes."""
        kept = {"ok": not self.changed, "changed": list(self.changed), "since": list(self.since)}
        return {**self.report.to_json(), "ok": self.ok, KEY: kept}

    def summary(self) -> str:
        """Returns one line: the files that have changed, or as `Report.summary`."""
        if self.changed:
            return f"Not the port that was written: {'; '.join(self.changed)}."
        return self.report.summary()

    def to_html(self, path: str = "", command: str = "") -> str:
        """Returns the page of `Report.to_html`, with the changes since the port.

        Args:
            path: the folder, for the commands on the page.
            command: repeats the comparison, as in `Report.to_html`.
        """
        found = content_of(self.report, path, command)
        steps = found.steps
        if self.changed:
            steps = (Advice("Do not use this folder: its files are not those of the port."), *steps)
        elif self.ok:  # it is a port already
            use = "Use the port: model.py has the function load()."
            steps = (Advice(use), *(step for step in steps if "xlstm port" not in step.command))
        state = BAD if self.changed else found.state
        notes = (*self._lines(), *found.notes)
        return page(replace(found, state=state, summary=self.summary(), steps=steps, notes=notes))

    def save_html(self, file: str | os.PathLike[str], path: str = "", command: str = "") -> None:
        """Writes the page of `to_html` to a file, in one step.

        Raises:
            OSError: the file cannot be written.
        """
        write_file(Path(file), self.to_html(path, command).encode())

    def _lines(self) -> list[str]:
        """A line for each change since the port, or one if there is none."""
        lines = [f"changed since the port: {line}" for line in self.changed]
        lines += [
            line if line.startswith(UNCOMPARED) else f"since the port: {line}"
            for line in self.since
        ]
        return lines or ["Files, versions, inputs and verdicts are those of the port."]

    def text(self, details: bool = True) -> str:
        """Returns the text for a terminal, as `Report.text`."""
        lines = self._lines()
        text = self.report.text(details, printable(self.summary()))
        return to_text(text, *map(printable, lines))

    def __str__(self) -> str:
        return self.text()


@unmoved
def verify_folder(
    folder: str | os.PathLike[str],
    frameworks: Iterable[str] = (),
    inputs: Any = None,
    *,
    trust: bool = False,
    origin: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Proof:
    """Compares a ported folder with the reference again, and with the record of the port.

    The folder's target runs the folder's own `model.py` if its text is exactly the one that xlstm
    writes for the graph; else it is not run. Other frameworks run a port of the graph.

    The file that was ported is read at the path in `report.json`, if that is below the parent of
    the folder: the report is not trusted, and could name any file.

    A folder of `save_pretrained` has no report: it is compared with the reference alone.

    Args:
        folder: written by `save` or by `save_pretrained` of a port; it may have been moved.
        frameworks: more frameworks to compare.
        inputs: as in `reconcile`.
        trust: True to run a `model.py` that is not the one that xlstm writes, such as one of
            another version, or an edited one of a folder without a record. If there is a record,
            it must be the recorded one; `diagnose` runs any other. The record is no protection:
            the author of a changed file may have changed the record too.
        origin: the file or ported folder that was ported, at its path of today.
        options: as in `reconcile`.

    Raises:
        FileError: weights, a report or a statement that are damaged, or an `origin` that cannot be
            read.
        UsageError: an `origin` for a folder without a record of its source.
        XlstmError: as `reconcile` raises.
    """
    folder = Path(folder)
    if missing := half_port(folder):
        got = f"no {', '.join(missing)}"
        raise FileError(folder, "a folder as xlstm save writes it", got, ANEW)
    model, adapter = read_folder(folder), target_of(folder)
    record = read_record(folder) if (folder / REPORT).is_file() else NONE
    changed, stated = _changed(folder, record), unlike_statement(folder)
    source = _own_source(folder, record, model, adapter, trust)
    first = _origin(folder, record, model, adapter, None if origin is None else Path(origin))

    def own(_live: Any, dtype: str) -> tuple[Any, str]:
        if source.changed:
            want, got = f"what xlstm {VERSION} writes for the graph", "another text, not run"
            raise FileError(folder / SOURCE, want, got, source.do)
        return build(model, adapter, dtype, source.text), f"our port, {SOURCE} of the folder"

    names = dict.fromkeys([adapter.name, *frameworks])
    report = reconcile(model, names, inputs, makers={adapter.name: own}, **options)
    unlike = _unlike(stated, record, [*changed, *source.changed])
    files = (*changed, *unlike.changed, *source.changed, *first.changed)
    since = (
        *first.since,
        *unlike.since,
        *source.since,
        *_since(record, report, adapter, str(folder / REPORT)),
    )
    return Proof(report, files, since)


def _changed(folder: Path, record: Record) -> list[str]:
    """Files other than model.py that have changed since the port."""
    found = []
    for name in record.hashes.keys() - {SOURCE}:
        try:
            same = of_file(folder / name) == record.hashes[name]
        except FileError as error:
            found.append(f"{name} ({error.got})")
        else:
            found += [] if same else [name]
    return sorted([*found, *_other_config(folder)])


def _unlike(stated: Sequence[str], record: Record, changed: Sequence[str]) -> FolderPart:
    """Files that are not those of port.intoto.json, without those that are `changed` anyway.

    A folder that was saved again, without a record, has other weights: the statement is of the old.
    """
    if record is NONE and stated:
        names = in_words([name.split()[0] for name in stated])
        since = f"{STATEMENT} is about other files ({names}): those were saved again"
        return FolderPart(since=(f"{since}, and so {TESTS} fails",))
    known = {line.split()[0].rstrip(":") for line in changed}
    left = [name for name in stated if name.split()[0] not in known]
    return FolderPart(changed=tuple(f"{name}, by {STATEMENT}" for name in left))


def _other_config(folder: Path) -> list[str]:
    """config.json, if its graph is not that of the weights."""
    try:
        beside = config_graph(folder, Budget())
    except FileError as error:
        return [f"{CONFIG} ({error.got})"]
    other = beside and beside != graph_data(folder, Budget())
    return [f"{CONFIG}: its graph is not that of the weights"] if other else []


@dataclass(frozen=True)
class FolderPart:
    """Results about one part of a port: `changed` and `since` as in a Proof; `do` is advice."""

    changed: tuple[str, ...] = ()
    since: tuple[str, ...] = ()
    text: str = ""
    do: str = ANEW


def _own_source(
    folder: Path, record: Record, model: Model, adapter: Adapter, trust: bool
) -> FolderPart:
    """The text of model.py, if it may be run; of a port of the graph, if there is no model.py."""
    if not (folder / SOURCE).is_file():
        if record is not NONE:
            return FolderPart(changed=(f"{SOURCE} (no such file)",))
        since = f"{SOURCE} is not there; a port of the graph was run"
        return FolderPart(since=(since,), text=adapter.emit(model) if adapter.emit else "")
    with open_regular(folder / SOURCE) as file:
        data = file.read(MAX_TEXT + 1)
    known = record is NONE or hashlib.sha256(data).hexdigest() == record.hashes[SOURCE]
    ours, here = emitted_for(data, model, adapter), f"what xlstm {VERSION} writes"
    if ours or (known and trust):
        was = "" if record is NONE else "what was recorded, "
        others = () if known else (f"{SOURCE} is {here}, not what was recorded",)
        run = () if ours else (f"{SOURCE} is {was}not {here}; run with --trust",)
        return FolderPart(since=(*others, *run), text=data.decode("utf-8", "replace"))
    if known:
        do = "look at it, then run it with --trust"
        return FolderPart(changed=(f"{SOURCE} is not {here}; not run without --trust",), do=do)
    do = f"verify never runs it; look at it, then: xlstm diagnose {folder} {folder} --trust"
    return FolderPart(
        changed=(f"{SOURCE} is neither {here} nor what was recorded; not run",), do=do
    )


def _origin(
    folder: Path, record: Record, model: Model, adapter: Adapter, asked: Path | None
) -> FolderPart:
    """Compares the file that was ported with its record, and the folder's weights with that file.

    Raises:
        FileError: the file that the user names cannot be read.
        UsageError: the user names one, and none is recorded.
    """
    if asked is not None:
        if not has_port(asked) and not model.source.sha256:
            want, do = "a port of a file, which records its SHA-256", "remove --origin"
            raise UsageError(folder, want, "a port of something else", do)
        return _compared(folder, record, model, adapter, asked, str(asked), named=True)
    if record is NONE:
        return FolderPart()  # `_since` says that there is no report
    if not record.origin or not (model.source.sha256 or record.origin_sha256):
        return FolderPart(since=(f"{NO_SOURCE}; {ALONE}",))
    place = (
        record.origin
        if len(record.origin) <= LONGEST_PATH
        else f"{record.origin[:LONGEST_PATH]}..."
    )
    path, why = followed(folder, record.origin, weights_of(folder).stat().st_size)
    try:
        if path is not None:
            return _compared(folder, record, model, adapter, path, place)
    except XlstmError:
        why = "no model that can be read"
    file = _file_of(record, model)
    return FolderPart(since=(f"{UNREAD}: {NAME_IT} ({file}, at {place}: {why}); {ALONE}",))


def _file_of(record: Record, model: Model) -> str:
    """The name of the file or of the ported folder that was ported."""
    return Path(record.origin).name if record.origin_sha256 else model.source.file


UNREAD, NAME_IT = "source not compared", "pass --origin PATH"


def _compared(
    folder: Path,
    record: Record,
    model: Model,
    adapter: Adapter,
    path: Path,
    place: str,
    named: bool = False,
) -> FolderPart:
    """Compares the file that was ported, and its weights, with the folder's.

    The text of an error may quote the file: it is repeated only if the user `named` the file.

    Raises:
        FileError: a file that cannot be read.
    """
    file, ported = model.source.file, has_port(path)
    if ported:  # without a record of it, as after save_pretrained, its weights alone are compared
        file, then = path.resolve().name, record.origin_sha256
        if not (then or named) or path.resolve() == folder.resolve():
            raise FileError(path, "the source of the port", "another folder", NAME_IT)
        now = of_file(weights_of(path)) if then else ""
    else:
        then = model.source.sha256
        with contextlib.closing(describe(path)) as found:
            now = found.sha256
    if now != then:
        return FolderPart(changed=(f"source {file} at {place}",))
    try:
        source = read_folder(path) if ported else load(path)
        gap = _weights_gap(source, model, adapter, folder)
    except XlstmError as error:
        why = error.got if named else f"they are read otherwise; {NAME_IT}"
        return FolderPart(since=(f"weights not compared with {file}: {why}; {ALONE}",))
    return FolderPart(
        changed=(f"{weights_of(folder).name}: {gap} is not that of {file} at {place}",)
        if gap
        else ()
    )


NO_SOURCE = "no source is recorded"
UNVERIFIED = "the port was not verified when it was written"
RECORDLESS = f"saved again, without {REPORT}"
UNCOMPARED = (UNREAD, NO_SOURCE, UNVERIFIED, RECORDLESS, "weights not compared")
"""Starts of lines about what was not compared, where nothing has changed since the port."""

ALONE = "the files were compared with the record alone"

LONGEST_PATH = 200
"""Most characters of a report's path that are shown."""


def _weights_gap(source: Model, model: Model, adapter: Adapter, folder: Path) -> str:
    """The name of the first tensor of the folder that differs from the source's, "" for none.

    Raises:
        XlstmError: the source has other layers, for example if a port ends at one of its layers.
    """
    mine, theirs = _sizes(model), _sizes(source)
    if other := [name for name in model.weights if mine.get(name) != theirs.get(name)]:
        raise FileError(folder, "the source's layers", f"others: {', '.join(sorted(other))}", ANEW)
    own = {name: source.weights[name] for name in model.weights}
    wanted = pack_model(replace(model, weights=own), adapter)
    found = pack_model(model, adapter)
    differs = (n for n, array in wanted.items() if array.tobytes() != found[n].tobytes())
    return next(differs, "")


def _sizes(model: Model) -> dict[str, list[tuple[str, str, Mapping[str, int]]]]:
    """Layer -> the kind and the sizes of each part of it that owns weights."""
    return {
        node.name: [
            (before, part.weight_kind, part.sizes()) for before, part in node.spec.weighted_parts
        ]
        for node in model.layers
        if node.name in model.weights
    }


def _since(record: Record, report: Report, adapter: Adapter, where: str) -> list[str]:
    """Differences from the time of the port that are no change of its files."""
    if record is NONE:
        return [f"{RECORDLESS}; the files were compared with the reference alone"]
    now = versions([adapter])
    lines = [
        f"{name} {now.get(name, 'not installed')}, {record.versions.get(name, 'none')} at the port"
        for name in dict.fromkeys([*record.versions, *now])
        if now.get(name) != record.versions.get(name)
    ]
    if platform.platform() != record.platform:
        lines.append(f"platform {platform.platform()}, {record.platform} at the port")
    if not record.verification:
        again = f"xlstm port SOURCE --to {adapter.name} -o {Path(where).parent} --overwrite"
        return [*lines, f"{UNVERIFIED}: there is no verdict to compare with; for one, {again}"]
    then, today = record.verification, report.to_json()
    if then.get("recipe") != today["recipe"]:
        lines.append(f"inputs: {report.inputs}, others than at the port")
    return [*lines, *_moved(figures_of(then, where), figures_of(today, where))]


Figures = Mapping[tuple[str, str], Mapping[str, Any]]


def _moved(then: Figures, today: Figures) -> Iterator[str]:
    """Changes of verdicts and figures between the comparison at the port and the new one."""
    for key, figures in then.items():
        changed = [name for name in SHOWN if today.get(key, figures).get(name) != figures.get(name)]
        for name in changed[:1] if changed[:1] == ["verdict"] else changed:
            now, before = (_figure(found.get(name)) for found in (today[key], figures))
            now, before = OUTCOMES.get(now, now), OUTCOMES.get(before, before)
            yield f"{key[0]} {key[1]}: {SHOWN[name]}{now}, {before} at the port"


SHOWN = {"verdict": "", "max_abs": "largest difference ", "bound": "limit "}
"""Figures that are compared with the record, and their names."""


LONGEST = 40
"""Most characters of a value in a record that should be a figure."""


def _figure(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)[:LONGEST]
