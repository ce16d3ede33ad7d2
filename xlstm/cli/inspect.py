"""`xlstm inspect`: describes the content of a file, and if it can be ported.

In: a path, and options of the user. Out: a text. No framework is imported.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from xlstm.cli.texts import render_model, render_outline
from xlstm.counting.support import verdicts
from xlstm.errors import UsageError, XlstmError, printable
from xlstm.files import describe
from xlstm.files.keras.architecture import ReadOptions, join
from xlstm.files.port_folder import has_port
from xlstm.frameworks import registry
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Model
from xlstm.porting.save import nonfinite
from xlstm.reading.ports import check_plain, read_folder

NOTHING = ReadOptions()


def inspect(path: Path, options: ReadOptions = NOTHING, to: str = "") -> str:
    """The text about the content of a file: container, writer, layers, weights, warnings.

    Args:
        path: any file or folder that `load` takes.
        options: options of the user for weights alone.
        to: a target, to add its support for every layer: native, an own cell, or refused.

    Raises:
        FileError: a file that is unreadable, damaged, hostile, or of an unknown kind.
        UsageError: an unknown target, or no layer called `options.until`.
    """
    if has_port(path):
        check_plain(path, options.names())
        model = read_folder(path)
        warnings = [f"warning: {printable(line)}" for line in nonfinite(model)]
        return "\n".join([render_model(model), *warnings, *_targeted(model, to)])
    with contextlib.closing(describe(path)) as description:
        # the text has no SHA-256, so the whole file need not be read
        joined = replace(join(description, options), digest=str)
        adapter = registry.adapter(joined.framework)
        outline = adapter.outline_file(joined)
        kept = [joined.optimizer.line()] if joined.optimizer else []
        # the outline has read every number, array by array: only names are needed from here on
        joined = joined if outline.nonfinite else joined.without_numbers()
        try:
            model = adapter.read_file(joined, until=options.until or "")
        except XlstmError as error:
            if options.until and type(error) is UsageError:
                raise  # no layer of that name: an error of the user, not of the file
            return render_outline(outline, kept, f"cannot be ported yet: {error}")
    shape = model.node(model.inputs[0]).shape
    sample = f"({', '.join('any' if size is None else str(size) for size in shape)}) a sample"
    notes = [line for line in model.source.notes if not line.startswith("members not read")] + kept
    loud, wrong = tuple(warnings_of(model)), tuple(nonfinite(model))
    outline = replace(outline, warnings=loud, nonfinite=wrong)
    text = render_outline(outline, notes, f"input: {sample}; can be ported")
    return "\n".join([text, *_targeted(model, to)])


def _targeted(model: Model, to: str) -> list[str]:
    """A line for each layer about the support of a target."""
    if not to:
        return []
    adapter = registry.adapter(to)
    return [
        printable(f"to {adapter.title}, {name}: {found}")
        for name, found in verdicts(model, adapter)
    ]
