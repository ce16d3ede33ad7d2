"""Lines of a fleet's journal: the beginnings and the rows of models.

Each worker has a file of its own, to which it only appends. A line is one write, so that a killed
worker leaves at most one part of a line, at the end. Lines that are no JSON of this version are
left out, alone.

    append(file, row_line(row))
    [at[0] for at in last_rows([file]).values()]

In: rows and names. Out: lines; the place of the last row of each name.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from xlstm.errors import UsageError
from xlstm.fleets.entry import OUTCOMES, FleetRow

FORMAT = 1
"""Version of the lines."""

MAX_LINE = 2**24
"""Longest line in bytes; a row of a model with 10,000 layers has half a MiB."""

TEXTS = tuple(
    "name path stamp job outcome sha256 weights architecture framework version container "
    "worker".split()
)
NUMBERS = ("seconds", "cpu_seconds", "peak_memory", "attempt")
LARGEST = 2**63
"""Numbers of a row are below it, also in sums and in columns of 64 bits."""

OBJECTS = ("counts", "verdicts")
LISTS = ("layers", "unexercised")


class Place(NamedTuple):
    """Place of a line: its time, file, first byte and length."""

    at: int
    file: Path
    start: int
    size: int


def row_line(row: FleetRow) -> bytes:
    """Returns the line of a row, with its time."""
    return _line("row", row.to_json())


def begun_line(name: str) -> bytes:
    """Returns the line that a model's work begins, with its time."""
    return _line("began", name)


def _line(key: str, value: Any) -> bytes:
    data = {"fleet": FORMAT, "at": time.time_ns(), key: value}
    return json.dumps(data, separators=(",", ":")).encode() + b"\n"


def append(file: Path, line: bytes) -> None:
    """Adds a line to a file in one write; a part of a line before it becomes a line of its own.

    Raises:
        OSError: the disk is full, or the file cannot be written.
    """
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0))
    try:
        end = os.lseek(descriptor, 0, os.SEEK_END)
        if end:
            os.lseek(descriptor, end - 1, os.SEEK_SET)
            line = line if os.read(descriptor, 1) == b"\n" else b"\n" + line
        rest = memoryview(line)
        while rest:  # a disk that becomes full takes a part, and raises at the next write
            rest = rest[os.write(descriptor, rest) :]
    finally:
        os.close(descriptor)


def parse(line: bytes) -> tuple[int, str, FleetRow | None] | None:
    r"""Returns time, name and row (None for a beginning) of a line; None for any other line.

    >>> parse(begun_line("a"))[1:], parse(b'{"fleet":1,"at":7,"ro\n')
    (('a', None), None)
    """
    try:
        data = json.loads(line)
        if type(data) is not dict or data.get("fleet") != FORMAT or type(data["at"]) is not int:
            return None
        if "began" in data:
            return (data["at"], data["began"], None) if isinstance(data["began"], str) else None
        row = checked_row(data["row"])
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return data["at"], row.name, row


def checked_row(data: Mapping[str, Any]) -> FleetRow:
    """Returns the row of plain data whose values have the right types.

    Raises:
        TypeError: another type, or a value that is missing.
        ValueError: an outcome of another version.
    """
    row = FleetRow.from_json(data)
    kinds: list[tuple[Sequence[str], type | tuple[type, ...]]] = [
        (TEXTS, str),
        (OBJECTS, dict),
        (LISTS, tuple),
        (("error",), (dict, type(None))),
    ]
    wrong = [n for names, kind in kinds for n in names if not isinstance(getattr(row, n), kind)]
    inner = [*row.layers, *row.unexercised, *(row.error or {}).values()]
    numbers = [*row.counts.values(), *(getattr(row, name) for name in NUMBERS)]
    fits = (
        all(isinstance(n, int) for n in row.counts.values())
        and all(isinstance(n, (int, float)) and 0 <= n < LARGEST for n in numbers)
        and all(isinstance(text, str) for text in inner)
        and all(isinstance(verdict, dict) for verdict in row.verdicts.values())
    )
    if wrong or not fits:
        raise TypeError(f"{row.name}: {wrong}")
    if row.outcome not in OUTCOMES:
        raise ValueError(row.outcome)
    return row


def lines_of(file: Path) -> Iterator[tuple[int, bytes]]:
    """First byte and text of each whole line; a last one without its end is left out."""
    start = 0
    with open(file, "rb") as stream:
        while line := stream.readline(MAX_LINE):
            if line.endswith(b"\n"):
                yield start, line
            start += len(line)


def last_lines(files: Sequence[Path]) -> tuple[dict[str, Place], dict[str, int]]:
    """The place of the last row of each name, and the time of its last beginning.

    The memory is a few hundred bytes a model: rows are read again where they are needed.
    """
    rows: dict[str, Place] = {}
    begun: dict[str, int] = {}
    for file in files:
        for start, line in lines_of(file):
            found = parse(line)
            if found is None:
                continue
            at, name, row = found
            if row is None:
                begun[name] = max(at, begun.get(name, 0))
            elif name not in rows or at >= rows[name].at:
                rows[name] = Place(at, file, start, len(line))
    return rows, begun


def read_rows(places: Mapping[str, Place]) -> Iterator[FleetRow]:
    """The rows at their places, sorted by name.

    Raises:
        UsageError: the journal was changed meanwhile.
    """
    streams: dict[Path, Any] = {}
    try:
        for name in sorted(places):
            place = places[name]
            if place.file not in streams:
                if len(streams) > 100:  # systems limit the files that are open
                    streams.pop(next(iter(streams))).close()
                streams[place.file] = open(place.file, "rb")  # noqa: SIM115  closed below
            streams[place.file].seek(place.start)
            found = parse(streams[place.file].read(place.size))
            if found is None or found[2] is None:
                do = "read it again, and leave its files as they are"
                raise UsageError(place.file, "the journal of a fleet", "another text", do)
            yield found[2]
    finally:
        for stream in streams.values():
            stream.close()
