"""SHA-256 of files and of arrays, beside other work.

In: a path, an open file, or arrays. Out: 64 hexadecimal digits.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

import numpy as np

from xlstm.files.guards import open_regular
from xlstm.ir.types import Array


def of_file(path: Path) -> str:
    """SHA-256 of a file's bytes.

    Raises:
        FileError: no regular file, or unreadable.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


PIECE = 2**18
"""Bytes of one read."""


def of_open_files(files: Iterable[BinaryIO]) -> str:
    """SHA-256 of open files one after the other; on POSIX, their positions do not move."""
    total = hashlib.sha256()
    for file in files:
        if hasattr(os, "pread"):
            at = 0
            while piece := os.pread(file.fileno(), PIECE, at):
                total.update(piece)
                at += len(piece)
        else:
            file.seek(0)
            hashlib.file_digest(cast(Any, file), lambda: total)
    return total.hexdigest()


Result = TypeVar("Result")


def in_background(work: Callable[[], Result]) -> Callable[[], Result]:
    """Starts a function in a thread; returns the function that waits for its result.

    Hashes, reads and writes of many bytes run beside each other, as they release Python's lock. If
    the system gives no thread, or little memory, the work is done before this function returns. An
    error of the work is raised by the function that waits.

    >>> in_background(lambda: 2 * 3)()
    6
    """
    found: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    try:
        if _little_memory():
            run()
        else:
            thread.start()
    except (RuntimeError, MemoryError):  # the system gives none
        run()

    def result() -> Result:
        if thread.ident is not None:
            thread.join()
        if errors:
            raise errors[0]
        return found[0]

    return result


def _little_memory() -> bool:
    """True under `ulimit -v`: each thread may reserve 136 MiB of addresses (glibc)."""
    try:
        import resource
    except ImportError:  # Windows
        return False
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def of_arrays(arrays: Iterable[Array]) -> str:
    """SHA-256 of arrays in order: dtype, shape and numbers, for any byte order.

    >>> of_arrays([np.zeros(2, ">f4")]) == of_arrays([np.zeros(2, "<f4")])
    True
    """
    total = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        total.update(f"{array.dtype.name} {array.shape} ".encode())
        total.update(little.tobytes())
    return total.hexdigest()
