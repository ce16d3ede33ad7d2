"""Writes tests, golden numbers and a statement into the folder of a port.

In: a folder that `write` of `xlstm.porting.save` has filled. Out: test_port.py, golden.safetensors
and port.intoto.json beside its files.

    save("model.keras", "ported", "torch", with_tests=True)
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from xlstm.errors import UsageError
from xlstm.files.arrays.safe_tensors_writer import write_safetensors
from xlstm.files.description import Stored
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.port_tests import GOLDEN, TESTS, PortTests
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.batch_axes import warn_of_axes
from xlstm.ir.types import Array
from xlstm.porting.save import atomic_folder, write, write_report
from xlstm.reading.load import opened
from xlstm.reading.ports import read_folder
from xlstm.reading.record import origin_hash, origin_of
from xlstm.reading.statement import write_statement


def check_tests(adapter: Adapter) -> None:
    """Raises UsageError for a target without tests of its ports."""
    if adapter.emit is not None and adapter.emit_tests is None:  # `write` refuses the others
        known = [n for n in registry.names() if registry.adapter(n).emit_tests]
        want, do = f"one of {', '.join(known)}", "port without with_tests="
        raise UsageError("with_tests", want, adapter.name, do)


def write_tests(folder: Path, adapter: Adapter, report: dict[str, Any], **options: Any) -> None:
    """Writes test_port.py, golden.safetensors and port.intoto.json beside the files of a port.

    The weights are read from the folder, as `verify` reads them: a target with one bias for two of
    the source has their rounded sum.

    Args:
        folder: of the port, not yet in its place.
        adapter: the target.
        report: the content of report.json, to which notes are added.
        options: `memory`, as in `reconcile`.

    Raises:
        UsageError: a target without tests, or a model that cannot be compared.
    """
    from xlstm.handover.golden import golden_of  # a port without tests does without it

    check_tests(adapter)
    assert adapter.emit_tests is not None
    model = read_folder(folder)
    golden = golden_of(model, adapter, **options)
    tests = PortTests(model, golden.outputs, golden.dtypes, golden.alone, golden.parts)
    text = adapter.emit_tests(tests)
    (folder / TESTS).write_text(text, "utf-8", newline="\n")
    stored = [_stored(name, array) for name, array in golden.tensors.items()]
    write_safetensors(folder / GOLDEN, stored, {})
    report["notes"] += [f"{GOLDEN}: {line}" for line in golden.parts]
    write_report(folder, report)
    write_statement(folder, report, golden.bounds_to_json(), golden.recipe)


def _stored(name: str, array: Array) -> Stored:
    return Stored(name, array.shape, array.dtype.name, lambda: array)


@unmoved
def save(
    source: Any,
    folder: str | os.PathLike[str],
    to: str,
    *,
    overwrite: bool = False,
    with_tests: bool = False,
) -> Path:
    """Writes a port as `model.py`, weights and `report.json`; does not verify it.

    For PyTorch the weights are `model.safetensors`, with a `config.json`, as on the Hugging Face
    hub; for others they are `weights.safetensors`. Warns (AxesWarning) as `port` does.

    `model.py` needs the target framework and safetensors only, and has `load()`. The target itself
    need not be installed. For `to="keras"` there is a `model.keras` as well, if Keras is.

    Args:
        source: anything that `load` takes.
        folder: where to write; its parent must exist.
        to: "torch", "nnx", "linen" or "keras".
        overwrite: True to replace a folder of `save`; no other folder is ever replaced.
        with_tests: True to write `test_port.py`, `golden.safetensors` and `port.intoto.json` too,
            which a receiver can run and check without xlstm. The numbers are those of the float64
            reference, which runs the model here; the target does not run.

    Returns:
        The folder's path.

    Raises:
        UsageError: an unknown target, or a folder that must not be written or cannot be replaced;
            with tests, a model of which no output can be compared.
        XlstmError: as `load` raises; no partial folder is left.
    """
    adapter = registry.adapter(to)
    if with_tests:
        check_tests(adapter)
    target = Path(os.fspath(folder))
    with opened(source) as model:
        warn_of_axes(model)
        with atomic_folder(target, overwrite) as work:
            report = write(model, work, adapter, (origin_of(source, target), origin_hash(source)))
            if with_tests:
                write_tests(work, adapter, report)
    return target
