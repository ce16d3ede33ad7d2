"""Writes a port as files: readable source, weights and a report; all of them or none.

In: a model, a folder and a target. Out: the folder. `save` of `xlstm.handover.files` is for users.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xlstm._version import VERSION
from xlstm.counting.count import count
from xlstm.errors import UsageError, WeightsError
from xlstm.files.arrays.safe_tensors_writer import blocks, write_safetensors
from xlstm.files.atomic import written_folder
from xlstm.files.port_folder import CONFIG, KEY, REPORT, SOURCE, STATEMENT, WEIGHTS, is_ours
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
from xlstm.reading.record import record


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


def report_of(model: Model, adapter: Adapter) -> dict[str, Any]:
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
        "counts": count(model).to_json(),
        "notes": notes(model, adapter),
        "warnings": [*warnings_of(model), *nonfinite(model)],
        "verification": "not verified",
    }


def check_target(folder: Path, overwrite: bool) -> None:
    """Raises UsageError if `folder` must not be written."""
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
    if folder.is_symlink() or not is_ours(folder) or not _only_ours(folder):
        got = "a folder or file that xlstm did not write, or files of others in it"
        raise UsageError(folder, "a ported folder to overwrite", got, "name another")


OURS = {SOURCE, *WEIGHTS, REPORT, CONFIG, STATEMENT, TESTS, GOLDEN, "model.keras"}
CACHES = {"__pycache__", ".pytest_cache"}
"""All names that a ported folder may contain to be replaced; Python and pytest make the caches."""


def _only_ours(folder: Path) -> bool:
    return {item.name for item in folder.iterdir()} <= OURS | CACHES


@contextlib.contextmanager
def atomic_folder(folder: Path, overwrite: bool) -> Iterator[Path]:
    """A folder to write into that becomes `folder` at the end, or is removed after any error."""
    check_target(folder, overwrite)
    with (
        _parents(folder),
        written_folder(folder, lambda old: check_target(old, overwrite)) as work,
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
    model: Model, folder: Path, adapter: Adapter, origin: tuple[str, str] = ("", "")
) -> dict[str, Any]:
    """Writes source, weights and report into an existing empty folder; returns the report.

    `origin` is the path of the file or folder that was ported, relative to the final folder, and
    the SHA-256 of the weights of such a folder (`origin_hash`).
    """
    if adapter.emit is None:
        targets = [n for n in registry.names() if registry.adapter(n).emit]
        raise UsageError("save", "one of " + ", ".join(targets), adapter.name, "use port for it")
    check_model(model, adapter)
    metadata = {KEY: graph_entry(model, adapter)}
    report, config = report_of(model, adapter), config_of(model, adapter)
    (folder / SOURCE).write_text(adapter.emit(model), "utf-8", newline="\n")
    weights = adapter.weights_file
    digest = write_safetensors(folder / weights, packed_tensors(model, adapter), metadata)
    if config:
        _write_json(folder / CONFIG, config)
    if adapter.extra_files:
        if adapter.installed:
            live: Any = adapter.live()
            report["notes"] += live.save_extra(build(model, adapter), folder)
        else:
            report["notes"].append(f"model.keras needs {adapter.title}, which is not installed")
    report[KEPT] = record(folder, adapter, origin[0], {weights: digest}, origin[1])
    write_report(folder, report)
    return report


def check_written(model: Model, folder: Path, adapter: Adapter) -> None:
    """Raises WeightsError unless the folder reads back bit for bit as the model."""
    wanted, found = (pack_model(m, adapter) for m in (model, read_folder(folder)))
    wrong = [name for name, array in wanted.items() if array.tobytes() != found[name].tobytes()]
    if wrong:
        got = f"others in {', '.join(wrong)}"
        raise WeightsError(folder, "the weights that were written", got, "check the disk")


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """Writes report.json."""
    _write_json(folder / REPORT, report)


def _write_json(file: Path, data: dict[str, Any]) -> None:
    file.write_text(json.dumps(data, indent=1) + "\n", "utf-8", newline="\n")
