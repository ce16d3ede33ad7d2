"""Counts any source in every framework: a model, a file, arrays, a live object.

>>> import xlstm
>>> count(xlstm.demo.path()).total("torch")
2260
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from xlstm.counting.ledger import Ledger, count_model
from xlstm.counting.named_arrays import count_leaves, count_weights
from xlstm.errors import NoArchitectureError, UnsupportedError, UsageError
from xlstm.files.arrays.named_arrays import is_arrays, read_shapes
from xlstm.frameworks import registry
from xlstm.frameworks.array_tree import Leaves, leaves
from xlstm.frameworks.random_state import unmoved
from xlstm.reading.load import load_shapes


@unmoved
def count(
    source: Any, frameworks: str | Iterable[str] | None = None, *, operations: bool = False
) -> Ledger:
    """Counts every parameter of `source` in each framework and explains every difference.

    The column of a framework counts the module that `port` builds. No framework is imported.

    Args:
        source: anything that `load` takes; a file or a Model needs no framework. Named arrays (a
            state dict, safetensors, `.npz`, Flax msgpack) need no `layers` here: names and shapes
            show the layers. Arrays that fit several layers are counted in their own framework
            alone. The same holds for Keras weights without architecture, and for a live model that
            cannot be ported. An architecture of Keras without weights (JSON, YAML) is counted
            layer by layer. Arrays of an optimizer in a training checkpoint are counted apart. A
            tensor with two names counts once.
        frameworks: names of the frameworks to count in, None for all, those of other distributions
            included; adapters without tables are left out.
        operations: True to count operations and bytes too, in `Ledger.operations`.

    Raises:
        UsageError: an unknown framework; operations of a source without an architecture.
        XlstmError: as `load` raises.

    >>> import xlstm
    >>> found = count(xlstm.demo.path(), operations=True).operations
    >>> print(found.layers[0].work["keras"].products)
    33,600 x batch
    """
    wanted = [frameworks] if isinstance(frameworks, str) else frameworks
    names = registry.frameworks() if wanted is None else registry.canonicals(wanted)
    found = _bare(source)
    if found is not None:
        _check_architecture(operations)
        return count_leaves(found, names)
    try:
        model = load_shapes(source)
    except NoArchitectureError:
        _check_architecture(operations)
        return count_weights(Path(source), names)
    except UnsupportedError as error:
        if operations:
            raise
        return _as_it_is(source, names, error)
    return count_model(model, names, operations=operations)


def _check_architecture(operations: bool) -> None:
    """Raises UsageError if operations are asked of arrays, which do not say how layers connect."""
    if operations:
        want, do = "a model with an architecture", "count the model's own file"
        raise UsageError("operations (--flops)", want, "arrays alone", do)


def _bare(source: Any) -> Leaves | None:
    """The arrays of a source that has nothing but arrays, None for every other."""
    if isinstance(source, Mapping):
        return leaves(source)
    if isinstance(source, (str, os.PathLike)) and is_arrays(Path(source)):
        return leaves(read_shapes(Path(source)))
    return None


def _as_it_is(source: Any, frameworks: list[str], error: UnsupportedError) -> Ledger:
    """The ledger of a live model that cannot be read as layers: of its tensors by name.

    Raises:
        UnsupportedError: `error`, for a source without visible tensors.
    """
    owner = None if isinstance(source, (str, os.PathLike)) else registry.owner(source)
    live: Any = owner.live() if owner else None
    found = live.leaves(source) if hasattr(live, "leaves") else {}
    if not found:
        raise error
    why = f"counted by the names and shapes of its tensors: it cannot be read ({error.got})"
    return count_leaves(Leaves(found), frameworks, owner, [why])
