"""Checks of untrusted files that all readers share: size, depth, names, numbers.

In: paths and texts. Out: open files and plain data, or a FileError.
"""

from __future__ import annotations

import io
import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from xlstm.budget import Budget
from xlstm.errors import FileError, kind_in_words, no_such_file

MAX_TEXT = 16 * 2**20
"""Largest config text that is parsed, in bytes; real ones are below one MiB."""

MAX_DIGITS = 40
"""Most digits of a whole number; real ones have 64 bits, or 20 digits."""

LONGEST_NAME = 4_096
"""Most characters of a name in a config."""

NAMES = frozenset(("name", "class_name", "registered_name", "module", "package"))
"""Keys whose values are names."""

MAX_NESTING = 200
"""Deepest nesting of a config; real ones are below 40."""


def open_regular(path: Path) -> BinaryIO:
    """Opens a regular file for reading; never blocks on a FIFO and never opens a device.

    Raises:
        FileError: missing, unreadable, or not a regular file.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))
    except (OSError, ValueError) as error:
        if isinstance(error, FileNotFoundError):
            raise no_such_file(path) from None
        got = getattr(error, "strerror", None) or str(error)
        raise FileError(path, "a readable model file", got, "check the path") from None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileError(path, "a regular file", "a device, pipe or folder", "give a model file")
    return os.fdopen(descriptor, "rb")


def parse_json(text: bytes | str, where: str, budget: Budget) -> Any:
    """JSON as data: bounded in size and depth, no duplicate keys, finite numbers only.

    Args:
        text: of the document.
        where: file or part of it, for messages.
        budget: limit of the cost.

    Raises:
        FileError: too large, too deep, or not such JSON.
    """
    if len(text) > MAX_TEXT:
        raise FileError(where, f"at most {MAX_TEXT} bytes", f"{len(text)}", "check the file")
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    budget.spend("characters", len(text), where)
    budget.spend("values", sum(raw.count(mark) for mark in (b"{", b"[", b",")), where)
    try:
        data = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=finite,
            parse_int=whole,
        )
    except RecursionError:
        raise FileError(
            where, f"JSON of at most {MAX_NESTING} levels", "more", "check the file"
        ) from None
    except UnicodeDecodeError:  # its text would quote the byte
        raise FileError(where, "JSON", "bytes that are no UTF-8", "save the model again") from None
    except ValueError as error:
        raise FileError(
            where, "JSON", f"{type(error).__name__} ({error})", "save the model again"
        ) from None
    check_data(data, where)
    return data


def check_data(data: Any, where: str) -> None:
    """Raises FileError for parsed data that is nested too deeply, or has very long names."""
    level, todo = 1, [data]
    while todo:  # one level after the other
        if level > MAX_NESTING:
            want = f"JSON of at most {MAX_NESTING} levels"
            raise FileError(where, want, "more", "check the file")
        below: list[Any] = []
        for item in todo:
            if isinstance(item, dict):
                _check_names(item, where)
                below += item.values()
            elif isinstance(item, list):
                below += item
        level, todo = level + 1, below


def _check_names(item: dict[Any, Any], where: str) -> None:
    """Raises FileError for a long key, or a long value of one of `NAMES`."""
    for key, value in item.items():
        for text in (key, value if key in NAMES else ""):
            if isinstance(text, str) and len(text) > LONGEST_NAME:
                want = f"names of at most {LONGEST_NAME:,} characters"
                raise FileError(where, want, f"{len(text):,}", "check the file")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice")
    return found


def finite(text: str) -> float:
    """A number with a fraction or an exponent.

    Raises:
        ValueError: it is infinite as float64.
    """
    number = float(text)
    if math.isinf(number):
        raise ValueError(f"{text[:20]} is too large a number")
    return number


def whole(text: str) -> int:
    """A whole number in decimal digits.

    Raises:
        ValueError: it has more digits than any size, seed or index of a model.

    >>> whole("-12")
    -12
    """
    if len(text) > MAX_DIGITS + 1:
        raise ValueError(f"a whole number of {len(text):,} digits, more than {MAX_DIGITS}")
    return int(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON")


def as_object(value: Any, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FileError: another value.
    """
    if not isinstance(value, dict):
        raise FileError(where, "a JSON object", kind_in_words(value), "save the model again")
    return value


def as_text(value: Any, where: str) -> str:
    """A string from HDF5, which may be bytes, numpy bytes or str."""
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise FileError(where, "UTF-8 text", "other bytes", "save the model again") from None
    if isinstance(value, str):
        return value
    raise FileError(where, "text", kind_in_words(value), "save the model again")


def as_stream(data: bytes) -> BinaryIO:
    """Bytes as a file."""
    return io.BytesIO(data)


def is_folder(path: Path) -> bool:
    """True if a path is a folder; False for names that no file system takes."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False
