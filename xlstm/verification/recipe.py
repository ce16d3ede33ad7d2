"""The recipe of a comparison's inputs as plain data, with their SHA-256.

In: the inputs and their recipe. Out: a dict for `report.json`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from xlstm.files.hashes import of_arrays
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.verification.inputs import Recipe


def recipe_of(
    model: Model, trials: Sequence[Sequence[Array]], made: Recipe | None
) -> dict[str, Any]:
    """The inputs of a comparison as plain data, from which they can be generated again.

    Args:
        model: the model of the inputs.
        trials: the inputs, and those of further shapes.
        made: the recipe of the first ones (`xlstm.verification.inputs.make_inputs`); None for
            inputs of the user.

    Returns:
        `cooked`: the recipe's fields, null for inputs of the user; `inputs`: name, shape and dtype
        of the first ones; `sha256` of all.
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
