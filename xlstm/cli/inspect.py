"""`xlstm inspect`: describes the content of a file, and if it can be ported.

In: a path, and options of the user. Out: an `Inspection`. No framework is imported.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from xlstm.cli.texts import model_rows, outline_rows
from xlstm.counting.support import verdicts
from xlstm.errors import UsageError, XlstmError, printable
from xlstm.files import describe
from xlstm.files.description import Outline
from xlstm.files.keras.architecture import ReadOptions, join
from xlstm.files.port_folder import has_port
from xlstm.frameworks import registry
from xlstm.ir.batch_axes import warnings_of
from xlstm.ir.graph import Model
from xlstm.ir.source import NOT_READ
from xlstm.porting.save import nonfinite
from xlstm.reading.folder_code import with_code_warning
from xlstm.reading.ports import check_plain, read_folder, target_of
from xlstm.rendering.lines import alike_joined
from xlstm.rendering.tables import add, grid, shape_text, to_text

NOTHING = ReadOptions()


@dataclass(frozen=True)
class Inspection:
    """The content of a file, and if it can be ported.

    Attributes:
        head: one line: container and writer of the file.
        verdict: "can be ported", or the reason why not.
        portable: True if it can be ported.
        layers: a mapping for each layer, with the same keys in all.
        lines: notes and warnings.
        sample: shape of a sample of the first input, "" if unknown.
    """

    head: str
    verdict: str
    portable: bool
    layers: tuple[Mapping[str, str], ...]
    lines: tuple[str, ...] = ()
    sample: str = ""

    def text(self) -> str:
        """Returns the text for a terminal; its first line has the verdict."""
        table = grid(list(self.layers[0]) if self.layers else ["layer"], left=9)
        for layer in self.layers:
            add(table, *layer.values())
        sample = [f"input: {self.sample} a sample"] if self.sample else []
        lines = map(printable, [*sample, *alike_joined(self.lines)])
        if self.portable:
            return to_text(printable(f"{self.head}; {self.verdict}"), table, *lines)
        return to_text(*map(printable, (self.head, self.verdict)), table, *lines)

    def to_json(self) -> dict[str, Any]:
        """Returns the inspection as plain data."""
        return {**asdict(self), "layers": [*self.layers], "lines": [*self.lines]}

    def __str__(self) -> str:
        return self.text()


def inspect(path: Path, options: ReadOptions = NOTHING, to: str = "") -> str:
    """Returns the text of `examine`."""
    return examine(path, options, to).text()


def examine(path: Path, options: ReadOptions = NOTHING, to: str = "") -> Inspection:
    """Reads container, writer, layers, weights and warnings of a file.

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
        model = with_code_warning(path, read_folder(path), target_of(path))
        return _of_model(model, to)
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
            return _of_outline(outline, kept, f"cannot be ported yet: {error}", portable=False)
    notes = [line for line in model.source.notes if not line.startswith(NOT_READ)] + kept
    loud, wrong = tuple(warnings_of(model)), tuple(nonfinite(model))
    outline = replace(outline, warnings=loud, nonfinite=wrong)
    found = _of_outline(outline, notes, "can be ported", portable=True)
    lines = (*found.lines, *_targeted(model, to))
    return replace(found, lines=lines, sample=shape_text(model.node(model.inputs[0]).shape))


def _of_model(model: Model, to: str) -> Inspection:
    """The inspection of a ported folder."""
    lines = [f"note: {line}" for line in model.source.notes]
    lines += [f"warning: {line}" for line in (*warnings_of(model), *nonfinite(model))]
    source = model.source
    head = f"{source.file or model.name}: {source.container}, {source.framework} {source.version}"
    sample = shape_text(model.node(model.inputs[0]).shape)
    lines += _targeted(model, to)
    return Inspection(head, "can be ported", True, model_rows(model), tuple(lines), sample)


def _of_outline(
    outline: Outline, notes: Iterable[str], verdict: str, *, portable: bool
) -> Inspection:
    """The inspection of a file from its outline."""
    backend = f" on {outline.backend}" if outline.backend else ""
    head = f"{outline.file}: {outline.container}, written by {outline.writer}{backend}"
    lines = [f"not read: {', '.join(outline.ignored)}"] if outline.ignored else []
    lines += [f"note: {line}" for line in notes]
    lines += [f"warning: {line}" for line in (*outline.warnings, *outline.nonfinite)]
    return Inspection(head, verdict, portable, outline_rows(outline), tuple(lines))


def _targeted(model: Model, to: str) -> list[str]:
    """A line for each layer about the support of a target."""
    if not to:
        return []
    adapter = registry.adapter(to)
    return [f"to {adapter.title}, {name}: {found}" for name, found in verdicts(model, adapter)]
