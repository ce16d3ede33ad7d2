"""The layers that the user registered in this process, by name.

All threads share the table, and it is not written to disk. `xlstm.custom_layers.register` fills it;
specs, readers, writers and the reference look layers up in it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlstm.errors import UnsupportedError, UsageError, XlstmError
from xlstm.ir.layer_code import LayerCode
from xlstm.ir.types import Array, Shape

Config = Mapping[str, Any]
"""Options of a layer as its file has them, without name, dtype and trainable."""

MASKS = ("stops", "passes", "uses", "uses and passes")
"""Rules for the mask of a layer's input.

    stops            the layer is called without it; the output has no mask
    passes           the layer is called without it; the output has the same mask
    uses             the layer is called with it; the output has no mask
    uses and passes  the layer is called with it; the output has the same mask
"""

NAME = re.compile(r"(?:[^\s>:]+>)?[^\W\d]\w*(?::[^\n]+)?")
"""Class, package>Class, or either followed by :layer."""


@dataclass(frozen=True)
class Registered:
    """A layer that the user registered, with the arguments of `register_layer`."""

    name: str
    reference: Callable[..., Any]
    output_shape: Callable[..., Any]
    weights: Sequence[str] | Callable[[Config], Sequence[str]]
    mask: str
    code: Mapping[str, LayerCode] = field(default_factory=dict)

    def names(self, config: Config) -> tuple[str, ...]:
        """Names of its tensors, in the order of files.

        Raises:
            UsageError: no names, or equal ones.
        """
        with self._calling("weights"):
            found = self.weights(config) if callable(self.weights) else self.weights
            return tensor_names(found, self.name)

    def shapes(self, config: Config, *inputs: Shape) -> tuple[Shape, ...]:
        """Shape of one sample of each output.

        Raises:
            UsageError: the function fails, or returns no shapes.
        """
        with self._calling("output_shape"):
            found = self.output_shape(config, *inputs)
        one = isinstance(found, (list, tuple)) and all(map(_is_size, found))
        shapes = [found] if one else found
        right = isinstance(shapes, (list, tuple)) and all(
            isinstance(shape, (list, tuple)) and all(map(_is_size, shape)) for shape in shapes
        )
        if not right:
            want = "one sample's shape, such as (None, 8), or several"
            raise self._wrong("output_shape", want, repr(found))
        return tuple(tuple(None if n is None else int(n) for n in shape) for shape in shapes)

    def run(
        self,
        config: Config,
        weights: Mapping[str, Array],
        inputs: Sequence[Array],
        mask: Array | None = None,
    ) -> list[Array]:
        """The outputs for inputs (batch, ...), computed in the dtype of inputs and weights.

        Raises:
            UsageError: the function fails, or returns a wrong shape or dtype.
        """
        tensors = [_locked(x) for x in inputs]
        locked = {name: _locked(array) for name, array in weights.items()}
        seen = {"mask": None if mask is None else _locked(mask)} if self.sees_mask else {}
        with self._calling("reference"):
            found = self.reference(config, locked, *tensors, **seen)
            outputs = [np.asarray(y) for y in (found if isinstance(found, tuple) else (found,))]
        batch = len(inputs[0])
        wanted = [(batch, *s) for s in self.shapes(config, *(x.shape[1:] for x in inputs))]
        if len(outputs) != len(wanted) or not all(map(_fits, outputs, wanted)):
            got = ", ".join(str(y.shape) for y in outputs)
            raise self._wrong("reference", f"as output_shape says: {_listed(wanted)}", got)
        for dtype in {x.dtype for x in (*tensors, *locked.values()) if x.dtype.kind == "f"}:
            if any(y.dtype.kind == "f" and y.dtype != dtype for y in outputs):
                got = ", ".join(y.dtype.name for y in outputs)
                want = f"outputs of the inputs' dtype, {dtype} (floats of Python keep it)"
                raise self._wrong("reference", want, got)
        return outputs

    @property
    def sees_mask(self) -> bool:
        """True if it is called with the mask of its input."""
        return self.mask.startswith("uses")

    def _wrong(self, part: str, want: str, got: str) -> UsageError:
        return UsageError(f"register_layer {self.name}, {part}", want, got, f"change its {part}")

    @contextlib.contextmanager
    def _calling(self, part: str) -> Iterator[None]:
        """Turns any exception of a user's function into one clear error."""
        try:
            yield
        except XlstmError:
            raise
        except Exception as error:
            got = f"{type(error).__name__}: {error}"
            raise self._wrong(part, "a function that works on this layer", got) from error


def _is_size(size: object) -> bool:
    whole = isinstance(size, (int, np.integer)) and not isinstance(size, bool)
    return size is None or (whole and size > 0)  # type: ignore[operator]


def _locked(array: Array) -> Array:
    """A view that cannot be written to."""
    view = np.asarray(array).view()  # a product of single numbers is no array
    view.flags.writeable = False
    return view


def _fits(y: Array, wanted: Shape) -> bool:
    pairs = zip(y.shape, wanted, strict=False)
    return y.ndim == len(wanted) and all(size in (None, got) for got, size in pairs)


def _listed(shapes: Sequence[Shape]) -> str:
    return ", ".join(map(str, shapes))


def tensor_names(found: object, layer: str) -> tuple[str, ...]:
    """Checked names of tensors."""
    listed = tuple(found) if isinstance(found, (list, tuple)) else ("",)
    right = all(isinstance(name, str) and name.isidentifier() for name in listed)
    if not right or len(set(listed)) != len(listed):
        want, do = "names of its tensors, identifiers that differ, () for none", "change them"
        raise UsageError(f"register_layer {layer}, weights", want, repr(found), do)
    return listed


LAYERS: dict[str, Registered] = {}
"""Name -> the layer."""


def any_registered() -> bool:
    """True if any layer is registered in this process."""
    return bool(LAYERS)


def find(*names: str) -> str:
    """The first of `names` that is registered, "" if none is."""
    return next((name for name in names if name in LAYERS), "")


def lookup(name: str) -> Registered:
    """Returns a registered layer.

    Raises:
        UnsupportedError: it is not registered in this process.
    """
    found = LAYERS.get(name)
    if found is None:
        where, want = f"layer {name}", "a layer that is registered in this process"
        do = f"call xlstm.register_layer({name!r}, ...) first"
        raise UnsupportedError(where, want, "none of this name", do)
    return found
