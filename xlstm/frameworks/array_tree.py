"""Arrays of nested mappings and lists by name, for counting: shapes alone, no number is read.

In: a state dict, a training checkpoint, a tree of JAX, a mapping of variables. Out: the arrays, the
shapes of an optimizer's arrays, and the names of other values.

    leaves({"epoch": 7, "model": module.state_dict(), "optimizer": adam.state_dict()})
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Container, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlstm.errors import UsageError
from xlstm.ir.types import Shape

DEEPEST = 100
"""Most mappings in mappings: a deeper mapping contains itself."""

WHOLE = re.compile(r"(?<![a-z])(u?int|bool)")
REAL = re.compile(r"float|complex|double|half")

OPTIMIZER = re.compile(r"(.*_)?(optim(izer)?s?(_.*|states?)?|opt_?states?)", re.IGNORECASE)
"""Part of a name that means an optimizer: opt_state, optimizer_state_dict, d_optimizer, optim."""

UPPER = 12
"""Parts of a name that are searched for an optimizer: a name in a file may have millions."""

STEPS = ("step", "iteration")
"""Last parts of names of the number that counts the steps of an optimizer."""


@dataclass(frozen=True)
class Leaf:
    """One array without its numbers.

    Attributes:
        shape: its shape.
        whole: True if its elements are whole numbers, which no framework trains.
        trainable: True if training changes it; None if unknown.
        other: True if the framework's one-liner leaves it out; None if unknown.
        collection: the framework's name of its group, "" if unknown.
        memory: equal for two names of one tensor, None if unknown.
        array: a reference that keeps the memory in use, so that no other array gets it.
    """

    shape: tuple[int, ...]
    whole: bool = False
    trainable: bool | None = None
    other: bool | None = None
    collection: str = ""
    memory: Hashable = None
    array: object = field(default=None, repr=False, compare=False)


def leaf_of(array: Any, **known: Any) -> Leaf | None:
    """An array as a leaf, None for other objects; `known` are fields of Leaf."""
    found: Any = array if hasattr(array, "shape") else getattr(array, "value", None)
    kind = str(getattr(found, "dtype", "")) if hasattr(found, "shape") else ""
    whole = bool(WHOLE.search(kind))
    if isinstance(found, np.generic) or not (whole or REAL.search(kind)):
        return None
    shape = tuple(int(size) for size in found.shape)
    return Leaf(shape, whole, memory=_memory(found), array=array, **known)


def _memory(array: Any) -> Hashable:
    """The memory of an array's elements; None where two names do not mean one tensor.

    Arrays of JAX never change, so two parameters that start from one of them still train apart.
    """
    if not math.prod(array.shape):
        return None
    if isinstance(array, np.ndarray):
        dense = array.flags.c_contiguous or array.flags.f_contiguous
        return ("", array.__array_interface__["data"][0], array.nbytes) if dense else id(array)
    if hasattr(array, "data_ptr"):
        return _of_torch(array)
    return id(array) if hasattr(type(array), "value") else None


def _of_torch(tensor: Any) -> Hashable:
    """As `_memory`, for a tensor of PyTorch."""
    try:
        place, strides = tensor.data_ptr(), tensor.stride()
    except (
        RuntimeError,
        NotImplementedError,
    ):  # sparse tensors and those without numbers have no address
        return id(tensor)
    pairs = zip(tensor.shape, strides, strict=True)
    dense = 1 + sum((size - 1) * stride for size, stride in pairs) == tensor.numel()
    device = "" if str(tensor.device) == "cpu" else str(tensor.device)
    return (device, place, tensor.nbytes) if place and dense else id(tensor)


@dataclass(frozen=True)
class Leaves:
    """The arrays and other values of a nested mapping.

    Attributes:
        arrays: name -> array, names of nested mappings joined with dots.
        optimizer: shapes of an optimizer's arrays.
        plain: names of other values: an epoch, a learning rate, a text.
    """

    arrays: Mapping[str, Leaf]
    optimizer: tuple[Shape, ...] = ()
    plain: tuple[str, ...] = ()

    def types(self) -> set[type]:
        """The classes of the arrays."""
        return {type(leaf.array) for leaf in self.arrays.values()}


def leaves(source: Mapping[Any, Any]) -> Leaves:
    """The arrays of a nested mapping; lists of numbers are arrays only where nothing else is.

    Raises:
        UsageError: mappings nested too deep.

    >>> found = leaves({"epoch": 7, "model": {"weight": np.ones((2, 3))}})
    >>> list(found.arrays), found.plain
    (['model.weight'], ('epoch',))
    """
    items = [*_items(source, ())]
    if twice := [name for name, n in Counter(item.name for item in items).items() if n > 1]:
        raise UsageError("arrays", "names that differ", f"{twice[0]} twice", "rename one of them")
    arrays = {item.name: item.leaf for item in items if item.leaf}
    if not arrays:
        arrays = {item.name: made for item in items if (made := leaf_of(_array(item.value)))}
    known = {item.name for item in items if item.optimizer}
    model, beside = split(arrays, known)
    kept = {*arrays, *known}
    plain = tuple(item.name for item in items if item.name not in kept)
    return Leaves(model, beside, plain)


def split(
    arrays: Mapping[str, Leaf], known: Container[str] = ()
) -> tuple[dict[str, Leaf], tuple[Shape, ...]]:
    """The arrays of a model, and the shapes of those of an optimizer.

    Args:
        arrays: by name.
        known: names that are an optimizer's by other evidence.
    """
    roots, slots = _roots(arrays), _slots(arrays)
    own = {name for name in arrays if name in known or name in slots or _below(name, roots)}
    own = set() if len(own) == len(arrays) else own  # all arrays: a model that has such a name
    model = {name: leaf for name, leaf in arrays.items() if name not in own}
    return model, tuple(leaf.shape for name, leaf in arrays.items() if name in own)


@dataclass(frozen=True)
class _Item:
    """One leaf of a tree: an array, or another value."""

    name: str
    value: Any
    leaf: Leaf | None
    optimizer: bool


def _items(value: Any, path: tuple[str, ...], optimizer: bool = False) -> Iterator[_Item]:
    if len(path) > DEEPEST:
        want, do = f"at most {DEEPEST} mappings in each other", "pass the mapping of arrays inside"
        raise UsageError("arrays", want, "more", do)
    below = _inside(value)
    if below is None:
        yield _Item(".".join(path), value, leaf_of(value), optimizer)
        return
    optimizer = optimizer or _is_optimizer(value)
    for key, item in below:
        yield from _items(item, (*path, str(key)), optimizer)


def _inside(value: Any) -> Iterator[tuple[Any, Any]] | None:
    """The items of a mapping, list or named tuple; None for others, and for lists of numbers."""
    if isinstance(value, Mapping):
        return iter(value.items())
    if isinstance(value, (list, tuple)) and not _numbers(value):
        return zip(getattr(value, "_fields", range(len(value))), value, strict=True)
    return None


def _numbers(value: Sequence[Any]) -> bool:
    """True for a list of plain numbers, or of lists of them."""
    return bool(value) and all(
        _numbers(item) if isinstance(item, (list, tuple)) else isinstance(item, (int, float))
        for item in value
    )


def _is_optimizer(value: Any) -> bool:
    """True for the `state_dict()` of an optimizer of PyTorch."""
    groups = value.get("param_groups") if isinstance(value, Mapping) else None
    return (
        isinstance(groups, (list, tuple))
        and isinstance(value.get("state"), Mapping)
        and all(isinstance(group, Mapping) and "params" in group for group in groups)
    )


def _array(value: Any) -> Any:
    """A list of numbers, or a number, as an array."""
    numbers = isinstance(value, (list, tuple)) and _numbers(value)
    return np.asarray(value) if numbers else None


def _roots(arrays: Mapping[str, Leaf]) -> set[str]:
    """Paths below which every array is an optimizer's."""
    found = set()
    for name, leaf in arrays.items():
        paths = _paths(name)
        parts = [path.rpartition(".")[2] for path in paths]
        found |= {
            path for path, part in zip(paths, parts, strict=True) if OPTIMIZER.fullmatch(part)
        }
        root, _, last = name.replace("/", ".").removesuffix(":0").rpartition(".")
        if root and last == "iteration" and leaf.whole and not leaf.shape:
            found.add(root)  # every optimizer of Keras has it
    beside = {f"{root.rpartition('.')[0]}.{step}".strip(".") for root in found for step in STEPS}
    return found | beside | {"step"}


POWERS = re.compile(r"(.*/)?beta[12]_power(:0)?")
"""Names of numbers of Adam in TensorFlow 1."""


def _slots(arrays: Mapping[str, Leaf]) -> set[str]:
    """Names below the name of an array: an optimizer of TensorFlow 1 stores kernel/Adam."""
    shapes = {name.removesuffix(":0"): leaf.shape for name, leaf in arrays.items()}
    found = {
        name for name, leaf in arrays.items() if shapes.get(name.rpartition("/")[0]) == leaf.shape
    }
    return found | {name for name in arrays if found and POWERS.fullmatch(name)}


def _paths(name: str) -> list[str]:
    """A name, and the paths that it lies below.

    >>> _paths("adam/iteration")
    ['adam', 'adam.iteration']
    """
    return [*itertools.accumulate(name.replace("/", ".").split(".", UPPER), "{}.{}".format)]


def _below(name: str, roots: Container[str]) -> bool:
    """True if a name is one of these paths, or lies below one."""
    return any(path in roots for path in _paths(name))
