"""The suspect: whatever the user has, as far as it can be read, run and watched.

A suspect that does not return runs in the caller's own process, so a line on stderr says so. No
limit ends it: a slow suspect may be a right one. Only a process of its own could be ended, and most
live models cannot be sent to one.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.errors import FileError, UsageError, XlstmError
from xlstm.files.arrays.named_arrays import read_arrays
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.recording import RunRecord, form_of
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.reading.load import load

PATIENCE = 30.0
"""Seconds of one call of a suspect until a line is written."""


def tell(line: str) -> None:
    """Writes a line where the user sees it, whatever the suspect does."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


@contextlib.contextmanager
def waited(what: str) -> Iterator[None]:
    """Says on stderr that `what` has not returned yet, and notes it on the user's interrupt.

    >>> with waited("b"):
    ...     pass
    """
    message = f"{what} has not returned"
    line = f"xlstm: {message} for {PATIENCE:g} s. No cause is looked for before it does. "
    timer = threading.Timer(PATIENCE, lambda: tell(f"{line}Interrupt it (Ctrl-C) if it hangs."))
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt as stopped:
        stopped.add_note(f"{message}: it was interrupted. Look in it for a loop that does not end.")
        raise
    finally:
        timer.cancel()


Run = Callable[..., RunRecord]
"""(inputs, dtype, quiet=..., seed=...) -> what came out."""


@dataclass(frozen=True)
class Suspect:
    """A suspect: its model, its object, and how to run it.

    Attributes:
        title: what it is, in words.
        adapter: its framework, None if it is not known.
        model: as it is read, None where it cannot be.
        arrays: its tensors by its own names, empty where they are not known.
        run: runs it, None for weights alone and for files (whose graph the reference runs).
        why: why it cannot be read as a graph, "" where it can.
    """

    title: str
    adapter: Adapter | None = None
    model: Model | None = None
    arrays: Mapping[str, Array] | None = None
    run: Run | None = None
    why: str = ""


def suspect(b: Any, a: Any = None) -> Suspect:
    """The suspect `b` with all that can be known of it, where the truth is `a`.

    Raises:
        FileError: an unreadable file.
        UsageError: an object that is nothing of a model's, or that holds no arrays.
    """
    if isinstance(b, Model):
        return _of_model(b, f"model {b.name}")
    if isinstance(b, (str, os.PathLike)):
        return _of_path(Path(b))
    if isinstance(b, Mapping):
        return Suspect("arrays by name", arrays=_some(plain_arrays(b), "b"))
    owner = registry.owner(b)
    if owner is not None and not is_compiled(b, owner):
        return _of_object(b, owner, "time first" in _axes(a))
    if callable(b):
        return of_function(b, owner)
    want = "a model, a file, named arrays or a function of numpy arrays"
    raise UsageError("diagnose", want, type(b).__name__, "pass one of these")


def is_compiled(thing: Any, owner: Adapter) -> bool:
    """True for a function in a framework's wrapper, such as that of `nnx.jit`: it is no model."""
    live: Any = owner.live()
    return callable(thing) and hasattr(live, "is_module") and not live.is_module(thing)


def _of_model(model: Model, title: str) -> Suspect:
    known = model.source.framework in registry.names()
    return Suspect(title, registry.adapter(model.source.framework) if known else None, model)


def _of_path(path: Path) -> Suspect:
    if path.suffix == ".py" and path.is_file():
        want, fix = "a model file, a ported folder or named arrays", "no code of a file is run"
        fix = f"{fix}; in Python, import it and call xlstm.diagnose(a, your_module)"
        raise FileError(path.name, want, "Python source", fix)
    try:
        return _of_model(load(path), path.name)
    except XlstmError as error:
        try:
            arrays = plain_arrays(read_arrays(path))
        except XlstmError:
            if _is_empty(path):
                _some({}, path.name)
            raise error from None
        return Suspect(f"{path.name}, arrays by name", arrays=_some(arrays, path.name))


def _is_empty(path: Path) -> bool:
    """True if a file is an archive without members, as `np.savez` makes it of nothing."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"PK\5\6"


def _some(arrays: dict[str, Array], where: str) -> dict[str, Array]:
    """The arrays, of which there is one at least."""
    if not arrays:
        want, fix = "named arrays", "pass the state dict of a model with its weights, or the model"
        raise UsageError(where, want, "none: it is empty", fix)
    return arrays


def plain_arrays(named: Mapping[Any, Any], before: str = "") -> dict[str, Array]:
    """Named arrays, of nested mappings too, their names joined with dots.

    Raises:
        UsageError: what is no array of numbers.
    """
    found: dict[str, Array] = {}
    # the state dict in a checkpoint; else what is passed
    inner = (named[name] for name in STATE_DICTS if isinstance(named.get(name), Mapping))
    for name, item in next(inner, named).items():
        path = f"{before}{name}"
        if isinstance(item, Mapping):
            found |= plain_arrays(item, f"{path}.")
            continue
        array = _as_array(item)
        if array.dtype.kind not in "fiubV":
            raise UsageError(f"b, {path}", "an array of numbers", f"{array.dtype}", "remove it")
        found[path] = array.astype(np.float32) if array.dtype.kind == "V" else array
    return found


STATE_DICTS = ("state_dict", "model_state_dict", "model")
"""Names in checkpoints of the weights, beside epochs and optimizers."""


def _as_array(item: Any) -> Array:
    """Any framework's array, PyTorch's tensors with their gradients left out."""
    for method in ("detach", "cpu"):
        item = getattr(item, method, lambda item=item: item)()
    return np.asarray(item.float() if str(getattr(item, "dtype", "")) == "torch.bfloat16" else item)


def _axes(b: Any) -> frozenset[str]:
    """Words for the ways in which an object's arguments differ from a port's."""
    owner = registry.owner(b)
    live: Any = owner.live() if owner is not None else None
    try:
        found: frozenset[str] = live.axes_of(b) if hasattr(live, "axes_of") else frozenset()
    except XlstmError:
        return frozenset()
    return found


def _of_object(b: Any, owner: Adapter, late: bool) -> Suspect:
    """Any framework's object; `late` where the truth is a module that takes time first."""
    live: Any = owner.live()
    title = f"{owner.title} {type(b[0] if isinstance(b, tuple) else b).__name__}"
    model, why = None, ""
    try:
        with waited("b, while its code is read,"):
            model = load(b)
    except XlstmError as error:
        why = str(error)
    arrays = None
    try:
        arrays = dict(live.weights(b)) if hasattr(live, "weights") else None
    except Exception:  # a framework may refuse in any way: the names are then not known
        arrays = None
    axes = _axes(b) if model is not None else frozenset()
    # time first is a mistake where the truth has the batch first
    own = {"own": True} if axes and (late or "time first" not in axes) else {}
    return Suspect(title, owner, model, arrays, _runner(b, live, own), why)


def _runner(b: Any, live: Any, own: Mapping[str, Any]) -> Run:
    if hasattr(live, "watch"):
        return lambda inputs, dtype, **options: live.watch(b, inputs, dtype, **own, **options)

    def run(inputs: Sequence[Array], dtype: str, **_options: Any) -> RunRecord:
        made = live.in_dtype(b, dtype) if hasattr(live, "in_dtype") else b
        # of the user's own code: unlike a port it does not cast row numbers
        call = live.run_own if hasattr(live, "run_own") else live.run
        return RunRecord(call(made, inputs, dtype), [])

    return run


def of_function(b: Callable[..., Any], owner: Adapter | None = None) -> Suspect:
    """A function of numpy arrays, or of a framework's where it is one of its compiled functions."""
    live: Any = owner.live() if owner is not None else None
    to_own = getattr(live, "to_own", lambda x: x)

    def run(inputs: Sequence[Array], dtype: str, **_options: Any) -> RunRecord:
        # copies: a suspect may write into what it is called with
        copies = (x.astype(dtype if x.dtype.kind == "f" else x.dtype) for x in inputs)
        found = b(*map(to_own, copies))
        if _numbers(found):
            return RunRecord([np.asarray(found)], [], form="")
        form = form_of(found)
        if isinstance(found, Mapping):
            found = [found[key] for key in sorted(found, key=str)]
        parts = [y for y in found if y is not None] if _nested(found) else [found]
        outer = [y for y in parts if not _nested(y)] or [*_leaves(parts)]
        return RunRecord([_as_array(y) for y in outer], [], form=form)

    return Suspect("a function of numpy arrays", run=run, why="it is a function")


def _numbers(found: Any) -> bool:
    """True if lists within lists, as of `tolist`, hold nothing but numbers: they are one array."""
    if isinstance(found, list):
        return all(_numbers(item) for item in found)
    return isinstance(found, (bool, int, float))


def _leaves(found: Any) -> Iterator[Any]:
    """The items nested in tuples, lists and mappings, in order; a mapping by its sorted keys."""
    if isinstance(found, Mapping):
        found = [found[key] for key in sorted(found, key=str)]
    if _nested(found):
        for part in found:
            yield from _leaves(part)
    elif found is not None:
        yield found


def _nested(item: Any) -> bool:
    return isinstance(item, (tuple, list, Mapping))
