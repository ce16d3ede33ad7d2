"""Arrays of the caller for a model's inputs: from memory, or from untrusted files.

In: a path, a list, a mapping or an array. Out: one checked array per input.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.errors import FileError, UsageError
from xlstm.files.arrays.named_arrays import NPY, npy_header, read_arrays
from xlstm.files.guards import open_regular
from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.layers import Input
from xlstm.ir.types import Array
from xlstm.reference.run import check_inputs

KINDS = "an .npy, .npz or safetensors file of plain numbers"

Named = dict[str, Array]
Held = Array | Named
"""The content of one file: one array without a name, or several by name."""


def arrays_for(model: Model, inputs: Any) -> list[Array]:
    """One array per input of a model, in its order, batch first; the arguments are not changed.

    Args:
        model: the model to run.
        inputs: a path to an `.npy`, `.npz` or safetensors file; a mapping of arrays, or of paths to
            files of one array, by input name; a list of arrays or paths, one per input in the
            model's order (several files of named arrays may each have some inputs); or the one
            array of a model with one input. Arrays may be anything that numpy takes.

    Returns:
        The arrays, as bool for inputs that are masks, and as float32 if they are bool for others.

    Raises:
        FileError: a file that is unreadable, damaged, or has anything but plain numbers.
        UsageError: names, a number of arrays, dtypes, shapes, batch sizes or values that do not fit
            the model.
    """
    named = _named(model, inputs)
    arrays = [_typed(model, name, named[name]) for name in model.inputs]
    check_inputs(model, arrays)
    check_batch(model, arrays)
    return arrays


def loose_arrays(inputs: Any) -> list[Array]:
    """One array per argument of a function, whose names and number are unknown.

    Args:
        inputs: a list or tuple of arrays or paths, one per argument; a mapping of them, in its
            order; or the one array, or a path to a file of them.

    Raises:
        FileError: as `arrays_for` raises.
        UsageError: arrays of anything but numbers.

    >>> [x.shape for x in loose_arrays([np.zeros((2, 3)), [[1.0], [2.0]]])]
    [(2, 3), (2, 1)]
    >>> [x.shape for x in loose_arrays([[1.0], [2.0]])]
    [(2, 1)]
    """
    if isinstance(inputs, Mapping):
        inputs = [*inputs.values()]
    several = isinstance(inputs, (list, tuple)) and any(
        _is_path(x) or hasattr(x, "shape") for x in inputs
    )
    found: list[Array] = []
    for number, item in enumerate(inputs if several else [inputs]):
        value = _read(Path(item)) if _is_path(item) else _array(f"input {number}", item)
        found += value.values() if isinstance(value, dict) else [value]
    for number, array in enumerate(found):
        _check_numbers(f"input {number}", array)
    return found


def _named(model: Model, inputs: Any) -> Named:
    """Input name -> array."""
    if isinstance(inputs, Mapping):
        return _by_name(model, {str(n): _one(f"input {n}", x) for n, x in inputs.items()})
    if _is_path(inputs) or not _one_per_input(model, inputs):
        inputs = [inputs]
    found = [_read(Path(x)) if _is_path(x) else _array("inputs", x) for x in inputs]
    if not any(isinstance(value, dict) for value in found):
        return _in_order(model, [value for value in found if not isinstance(value, dict)])
    every: Named = {}
    for number, value in enumerate(found):
        if not isinstance(value, dict):
            want, got = "files that all name their arrays, or none", "one of each kind"
            raise UsageError("inputs", want, got, "save all of them by name")
        if twice := sorted(every.keys() & value.keys()):
            do = f"remove one from file {number + 1}"
            raise UsageError("inputs", "each input once", f"{', '.join(twice)} twice", do)
        every |= value
    return _by_name(model, every)


def _is_path(item: Any) -> bool:
    return isinstance(item, (str, os.PathLike))


def _one_per_input(model: Model, inputs: Any) -> bool:
    """True if `inputs` is a list with one item per input, not the one array as nested lists."""
    if not isinstance(inputs, (list, tuple)):
        return False
    if any(_is_path(x) for x in inputs) or len(inputs) == len(model.inputs) != 1:
        return True
    nested = len(inputs) == 1 and isinstance(inputs[0], (list, tuple))
    if nested and np.ndim(_array("inputs", inputs)) == len(model.node(model.inputs[0]).shape) + 1:
        return False
    return len(inputs) == len(model.inputs) or any(hasattr(x, "shape") for x in inputs)


def _array(where: str, item: Any) -> Array:
    """Anything that numpy takes, as a plain array.

    Raises:
        UsageError: ragged lists, objects, tensors that numpy cannot take.
    """
    try:
        return np.asarray(item)
    except Exception as error:  # arrays of other libraries raise their own errors
        message = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(where, "an array of numbers", message, "pass a numpy array") from None


def _one(where: str, item: Any) -> Array:
    if not _is_path(item):
        return _array(where, item)
    value = _read(Path(item))
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        return next(iter(value.values()))
    want, got = f"a file of one array for {where}", f"{len(value)} arrays"
    raise UsageError(item, want, got, "pass the file itself as inputs, its arrays named as inputs")


def _in_order(model: Model, arrays: Sequence[Array]) -> Named:
    if len(arrays) != len(model.inputs):
        want = f"{len(model.inputs)} arrays, for {', '.join(model.inputs)}"
        raise UsageError("inputs", want, f"{len(arrays)}", "pass one array per model input")
    return dict(zip(model.inputs, arrays, strict=True))


def _by_name(model: Model, named: Named) -> Named:
    """Arrays by input name; numpy's default names (arr_0) stand for the order."""
    numbered = [f"arr_{n}" for n in range(len(named))]
    if set(named) == set(numbered) != set(model.inputs):
        return _in_order(model, [named[name] for name in numbered])
    if len(model.inputs) == len(named) == 1:
        return _in_order(model, list(named.values()))
    missing = [name for name in model.inputs if name not in named]
    left = [name for name in named if name not in model.inputs]
    if missing or left:
        got = f"no {', '.join(missing)}" if missing else "all of them"
        got += f"; left over: {', '.join(left)}" if left else ""
        want = f"one array for each of {', '.join(model.inputs)}"
        raise UsageError("inputs", want, got, "name the arrays as the model's inputs")
    return named


def _typed(model: Model, name: str, array: Array) -> Array:
    """An array of numbers in the dtype of an input.

    Raises:
        UsageError: an array that is empty, or has NaN, infinity, or anything but numbers.
    """
    spec = model.node(name).spec
    _check_numbers(f"input {name}", array)
    if isinstance(spec, Input) and spec.dtype == "bool":
        return np.asarray(array != 0)
    return array.astype(np.float32) if array.dtype == bool else array


def _check_numbers(where: str, array: Array) -> None:
    """Raises UsageError for arrays without numbers, for empty ones, and for NaN and infinity."""
    if array.dtype.kind not in "fiub":
        raise UsageError(where, "an array of numbers", f"dtype {array.dtype}", "pass numbers")
    if not array.size or not array.ndim:
        raise UsageError(where, "an array with elements", f"shape {array.shape}", "pass some")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        do = "pass numbers; masked steps may hold any of them"
        raise UsageError(where, "finite numbers", "NaN or infinity", do)


def check_batch(model: Model, arrays: Sequence[Array]) -> None:
    """Raises UsageError unless all arrays have one batch size, the model's own where it has one."""
    sizes = [len(array) for array in arrays]
    if len(set(sizes)) > 1:
        got = ", ".join(f"{n} for {name}" for n, name in zip(sizes, model.inputs, strict=True))
        raise UsageError("inputs", "one batch size (axis 0)", got, "pass as many samples of each")
    for name, size in zip(model.inputs, sizes, strict=True):
        spec = model.node(name).spec
        if isinstance(spec, Input) and spec.batch not in (None, size):
            want = f"the batch of {spec.batch} that the model was built for"
            raise UsageError(f"input {name}", want, f"{size}", "pass that many samples")


def out_of_range_id(model: Model, arrays: Sequence[Array]) -> str:
    """Numbers among the inputs that are no row of an embedding, in words; "" if none."""
    rows = row_numbers(model)
    for name, array in zip(model.inputs, arrays, strict=True):
        wrong = array[(array <= -1) | (array >= rows[name])] if name in rows else array[:0]
        if wrong.size:
            have = f"the embedding has rows 0 to {rows[name] - 1}"
            return f"input {name} holds {wrong.flat[0]:g}, {have}"
    return ""


def _read(path: Path) -> Held:
    """The array of an `.npy` file, or the named arrays of the other kinds.

    Raises:
        FileError: a file that is unreadable, damaged, of another kind, or has anything but numbers.
    """
    with open_regular(path) as file:
        start = file.read(16)
        if start.startswith(NPY):
            file.seek(0)
            size = os.fstat(file.fileno()).st_size
            return npy_header(file, size, str(path)).numbers(file, str(path))
    if not start.startswith(b"PK\x03\x04") and start[8:9] != b"{":
        raise FileError(path, KINDS, "another kind of file", "save the arrays with numpy.save")
    return read_arrays(path)
