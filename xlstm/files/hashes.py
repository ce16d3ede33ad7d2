"""SHA-256 of files and of arrays.

In: a path, or arrays. Out: 64 hexadecimal digits.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, cast

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
