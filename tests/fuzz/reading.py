"""The readers under test: descriptions with all their arrays, whole models, and named arrays."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import xlstm
from fuzz.bases import ARCHITECTURE, UNCHECKED
from xlstm.errors import XlstmError
from xlstm.files import describe
from xlstm.files.arrays.named_arrays import read_arrays
from xlstm.files.tensorflow import checkpoint


class Equal(int):
    """Equals every number: what a checksum is taken for, so that mutations get past it."""

    __hash__ = int.__hash__

    def __eq__(self, _other: object) -> bool:
        return True

    def __ne__(self, _other: object) -> bool:
        return False


def _described(path: Path) -> None:
    """Reads every array that a description names, and looks at its shape."""
    with contextlib.closing(describe(path)) as description:
        for stored in (item for found in description.weights.values() for item in found):
            array = stored.load()
            assert array.shape == stored.shape, f"{stored.name}: {array.shape}, {stored.shape}"


def _loaded(path: Path) -> None:
    other = path.parent / ARCHITECTURE
    xlstm.load(path, architecture=other if other.is_file() else None)


def _refusal(call: Callable[[Path], object], path: Path) -> XlstmError | None:
    try:
        call(path)
    except XlstmError as error:
        return error
    return None


def everything(path: Path) -> None:
    """Reads a file in all ways; anything but a refusal goes on to the caller.

    Raises:
        XlstmError: none gave anything: the refusal of the whole model.
    """
    if path.name == UNCHECKED:
        checkpoint.masked = lambda _data: Equal()  # only ever in a child of the fuzzer
    refused = [_refusal(call, path) for call in (_loaded, _described, read_arrays)]
    if all(refused):
        raise next(error for error in refused if error)
