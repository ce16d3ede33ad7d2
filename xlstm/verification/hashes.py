"""What a recorded proof rests on, as SHA-256: files, and arrays with the way to make them again."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from xlstm.files.guards import open_regular
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.verification.inputs import Recipe


def of_file(path: Path) -> str:
    """Of a file's bytes.

    Raises:
        FileError: no regular file, or unreadable.
    """
    with open_regular(path) as file:
        return hashlib.file_digest(cast(Any, file), "sha256").hexdigest()


def of_arrays(arrays: Iterable[Array]) -> str:
    """Of arrays one after the other: dtype, shape and numbers, whatever the order of their bytes.

    >>> of_arrays([np.zeros(2, ">f4")]) == of_arrays([np.zeros(2, "<f4")])
    True
    """
    total = hashlib.sha256()
    for array in arrays:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        total.update(f"{array.dtype.name} {array.shape} ".encode())
        total.update(little.tobytes())
    return total.hexdigest()


def recipe_of(
    model: Model, trials: Sequence[Sequence[Array]], made: Recipe | None
) -> dict[str, Any]:
    """The inputs of a comparison as plain data, with all that is needed to make them again.

    Args:
        model: what they are for.
        trials: the inputs, and those of further shapes.
        made: what `xlstm.verification.inputs.cooked` made the first ones with; None where the user
            passed them.

    Returns:
        `cooked`: the recipe's fields, null for arrays that were given; `inputs`: name, shape and
        dtype of the first ones; `sha256` of all.
    """
    first = zip(model.inputs, trials[0], strict=True)
    return {
        "cooked": None if made is None else _plain(made._asdict()),
        "inputs": [
            {"name": name, "shape": list(array.shape), "dtype": array.dtype.name}
            for name, array in first
        ],
        "sha256": of_arrays(array for arrays in trials for array in arrays),
    }


def _plain(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in fields.items()}
