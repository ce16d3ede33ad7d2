"""Writes a port as files: readable source, weights and a report; all of them or none.

In: a model, a folder and a target. Out: the folder. `save` of `xlstm.handover.files` is for users.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from xlstm._version import VERSION
from xlstm.counting.count import count
from xlstm.counting.ledger import Ledger
from xlstm.errors import UsageError, WeightsError
from xlstm.files.arrays.safe_tensors_writer import blocks, write_safetensors
from xlstm.files.atomic import written_folder
from xlstm.files.description import Stored
from xlstm.files.port_folder import (
    CONFIG,
    KEY,
    REPORT,
    SOURCE,
    STACKED,
    STATEMENT,
    WEIGHTS,
    is_ours,
)
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import (
    check_model,
    fold_notes,
    pack_model,
    packed_tensors,
    training_notes,
)
from xlstm.frameworks.port_tests import GOLDEN, TESTS
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Model
from xlstm.porting.config_file import config_of, graph_entry
from xlstm.porting.port import build
from xlstm.reading.ports import read_folder
from xlstm.reading.record import KEY as KEPT
from xlstm.reading.record import record, versions


def nonfinite(model: Model) -> list[str]:
    """A warning for each layer whose weights have NaN or infinity."""
    return [
        f"layer {name}: {tensor} holds NaN or infinity"
        for name, layer in model.weights.items()
        for tensor, array in layer.items()
        if not all(np.isfinite(part).all() for part in blocks(array))
    ]


def notes(model: Model, adapter: Adapter) -> list[str]:
    """Notes about one port for the user: rules applied, folds, options left behind."""
    frozen = [node.name for node in model.layers if not node.trainable and node.spec.sizes()]
    lines = [*model.source.notes, *fold_notes(model, adapter), *training_notes(model, adapter)]
    if frozen and not adapter.keeps_frozen:
        lines.append(
            f"not trainable in the source: {', '.join(frozen)}; freeze them in the optimizer"
        )
    return lines


@dataclass(frozen=True)
class Counts:
    """The counts of a model as plain data, and as they are written in report.json."""

    data: Mapping[str, Any]

    @functools.cached_property
    def text(self) -> str:
        """The entry of report.json: most of its text."""
        return _entry("counts", self.data)


@dataclass(frozen=True)
class PortParts:
    """The parts of a port that models of one graph share, names included.

    Attributes:
        text: of model.py.
        ledger: the counts in every framework.
        versions: of installed packages, as `xlstm.reading.record` stores them.
    """

    text: str
    ledger: Ledger
    versions: Mapping[str, str]
    _counts: dict[Any, Counts] = field(default_factory=dict)

    def counts(self, model: Model) -> Counts:
        """The counts of a model, with the optimizer and the warning of its own file."""
        key = model.source.optimizer, model.source.code_warning
        if key not in self._counts:
            said = tuple(filter(None, key[1:]))
            ledger = replace(self.ledger, optimizer=key[0], warnings=said)
            self._counts.clear()  # files of one graph hardly ever differ in this
            self._counts[key] = Counts(ledger.to_json())
        return self._counts[key]


def parts_of(model: Model, adapter: Adapter) -> PortParts:
    """The parts of the port of a model that its weights do not change.

    Raises:
        UsageError: the target is never saved.
        UnsupportedError: it has no exact form of a layer.
    """
    if adapter.emit is None:
        targets = [n for n in registry.names() if registry.adapter(n).emit]
        raise UsageError("save", "one of " + ", ".join(targets), adapter.name, "use port for it")
    check_model(model, adapter)
    return PortParts(adapter.emit(model), count(model), versions([adapter]))


def report_of(
    model: Model, adapter: Adapter, counts: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The content of report.json before any verification."""
    source = model.source
    return {
        "xlstm": VERSION,
        "to": adapter.name,
        "source": {
            "framework": source.framework,
            "version": source.version,
            "container": source.container,
            "file": source.file,
            "sha256": source.sha256,
        },
        "counts": count(model).to_json() if counts is None else counts,
        "notes": notes(model, adapter),
        "warnings": [*warnings_of(model), *nonfinite(model)],
        "verification": "not verified",
    }


def check_target(folder: Path, overwrite: bool, ours: Callable[[Path], bool] | None = None) -> None:
    """Raises UsageError if `folder` must not be written.

    Args:
        folder: where to write.
        overwrite: True to replace a folder of ours.
        ours: tells such a folder; None for that of one port.
    """
    there = True
    try:
        os.lstat(folder)
    except (FileNotFoundError, NotADirectoryError):
        there = False
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or error
        raise UsageError(folder, "a folder's name", got, "name another") from None
    if not there:
        return
    if not overwrite:
        want, do = "a new folder", "choose another name, or pass overwrite=True"
        raise UsageError(folder, want, "one that already exists", do)
    if folder.is_symlink() or not (ours or is_ours)(folder) or not only_ours(folder):
        got = "a folder or file that xlstm did not write, or files of others in it"
        raise UsageError(folder, "a ported folder to overwrite", got, "name another")


OURS = {SOURCE, *WEIGHTS, STACKED, REPORT, CONFIG, STATEMENT, TESTS, GOLDEN, "model.keras"}
CACHES = {"__pycache__", ".pytest_cache"}
"""All names that a ported folder may contain to be replaced; Python and pytest make the caches."""


def only_ours(folder: Path) -> bool:
    """True if a folder has no files but those of a port."""
    return {item.name for item in folder.iterdir()} <= OURS | CACHES


@contextlib.contextmanager
def atomic_folder(
    folder: Path, overwrite: bool, ours: Callable[[Path], bool] | None = None
) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end, or is removed after any error.

    Its arguments are those of `check_target`.
    """
    check_target(folder, overwrite, ours)
    with (
        _parents(folder),
        written_folder(folder, lambda old: check_target(old, overwrite, ours)) as work,
    ):
        yield work


@contextlib.contextmanager
def _parents(folder: Path) -> Iterator[None]:
    """Makes the folders around a folder, and removes them again after any error.

    Raises:
        UsageError: they cannot be made.
    """
    new = [parent for parent in folder.parents if not parent.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        got = error.strerror or str(error)
        raise UsageError(folder, "a folder that can be made", got, "name another") from None
    try:
        yield
    except BaseException:
        for parent in new:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


def write(
    model: Model,
    folder: Path,
    adapter: Adapter,
    origin: tuple[str, str] = ("", ""),
    parts: PortParts | None = None,
) -> dict[str, Any]:
    """Writes source, weights and report into an existing empty folder; returns the report.

    Args:
        model: the model to port.
        folder: the folder to write into.
        adapter: the target.
        origin: the path of the file or folder that was ported, relative to the final folder, and
            the SHA-256 of the weights of such a folder (`origin_hash`).
        parts: what `parts_of` returns for a model of the same graph, None to compute it.

    Raises:
        XlstmError: as `parts_of` raises, or weights that the file cannot have.
    """
    parts = parts or parts_of(model, adapter)
    report = written(model, folder, adapter, parts, packed_tensors(model, adapter), origin)
    write_report(folder, report)
    return report


def written(
    model: Model,
    folder: Path,
    adapter: Adapter,
    parts: PortParts,
    tensors: Sequence[Stored],
    origin: tuple[str, str] = ("", ""),
) -> dict[str, Any]:
    """As `write`, with the target's tensors, but without report.json; returns its content."""
    entry = graph_entry(model, adapter)
    report = report_of(model, adapter, parts.counts(model).data)
    config = config_of(model, adapter, entry=entry)
    (folder / SOURCE).write_text(parts.text, "utf-8", newline="\n")
    weights = adapter.weights_file
    digest = write_safetensors(folder / weights, tensors, {KEY: entry})
    if config:
        _write_json(folder / CONFIG, config)
    if adapter.extra_files:
        if adapter.installed:
            live: Any = adapter.live()
            report["notes"] += live.save_extra(build(model, adapter), folder)
        else:
            report["notes"].append(f"model.keras needs {adapter.title}, which is not installed")
    hashes = {weights: digest}
    report[KEPT] = record(folder, adapter, origin[0], hashes, origin[1], parts.versions)
    return report


def check_written(model: Model, folder: Path, adapter: Adapter) -> None:
    """Raises WeightsError unless the folder reads back bit for bit as the model."""
    wanted, found = (pack_model(m, adapter) for m in (model, read_folder(folder)))
    wrong = [name for name, array in wanted.items() if array.tobytes() != found[name].tobytes()]
    if wrong:
        got = f"others in {', '.join(wrong)}"
        raise WeightsError(folder, "the weights that were written", got, "check the disk")


def write_report(folder: Path, report: dict[str, Any], counts: Counts | None = None) -> None:
    """Writes report.json; `counts` are its counts, if their text is known."""
    _write_json(folder / REPORT, report, {} if counts is None else {"counts": counts.text})


def _write_json(
    file: Path, data: Mapping[str, Any], known: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Writes plain data; the texts of some entries may be known."""
    entries = ",\n".join(known.get(key) or _entry(key, value) for key, value in data.items())
    file.write_text(f"{{\n{entries}\n}}\n", "utf-8", newline="\n")


def _entry(key: str, value: Any) -> str:
    """The text of one entry of a JSON object, without the braces around it."""
    return json.dumps({key: value}, indent=1)[2:-2]
