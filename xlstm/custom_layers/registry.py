"""Layers that xlstm does not know, told by the user: the registry behind `xlstm.register_layer`.

It belongs to the process, as a table of classes does: what one thread registers all of them see,
and nothing of it is written to disk. Nothing out of a model file is ever run: only the functions
and the source texts that were handed to `register_layer` are.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from xlstm.custom_layers.source_text import LayerCode
from xlstm.errors import UnsupportedError, UsageError, XlstmError

if TYPE_CHECKING:
    from xlstm.ir.graph import Array, Model, Shape

Config = Mapping[str, Any]
"""Options of a layer as its file has them, without its name, dtype and whether it trains."""

MASKS = ("stops", "passes", "uses", "uses and passes")
"""What a layer does with the mask of its input: neither sees it nor hands it on; hands it on
without a look; is called with it and gives an output without one; is called with it and hands it
on."""

NAME = re.compile(r"(?:[^\s>:]+>)?[^\W\d]\w*(?::[^\n]+)?")
"""Class, package>Class, or either followed by :layer."""


@dataclass(frozen=True)
class Registered:
    """A layer that the user has told; as `register_layer` takes it."""

    name: str
    reference: Callable[..., Any]
    output_shape: Callable[..., Any]
    weights: Sequence[str] | Callable[[Config], Sequence[str]]
    mask: str
    code: Mapping[str, LayerCode] = field(default_factory=dict)

    def names(self, config: Config) -> tuple[str, ...]:
        """Names of its tensors, in the order in which files keep them.

        Raises:
            UsageError: no names, or equal ones.
        """
        with self._calling("weights"):
            found = self.weights(config) if callable(self.weights) else self.weights
            return _names(found, self.name)

    def shapes(self, config: Config, *inputs: Shape) -> tuple[Shape, ...]:
        """Shape of one sample of each output.

        Raises:
            UsageError: the function fails, or gives no shapes.
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
            UsageError: the function fails, or gives other shapes or another dtype than it has to.
        """
        given = [_locked(x) for x in inputs]
        held = {name: _locked(array) for name, array in weights.items()}
        seen = {"mask": None if mask is None else _locked(mask)} if self.sees_mask else {}
        with self._calling("reference"):
            found = self.reference(config, held, *given, **seen)
            outputs = [np.asarray(y) for y in (found if isinstance(found, tuple) else (found,))]
        batch = len(inputs[0])
        wanted = [(batch, *s) for s in self.shapes(config, *(x.shape[1:] for x in inputs))]
        if len(outputs) != len(wanted) or not all(map(_fits, outputs, wanted)):
            got = ", ".join(str(y.shape) for y in outputs)
            raise self._wrong("reference", f"as output_shape says: {_listed(wanted)}", got)
        for dtype in {x.dtype for x in (*given, *held.values()) if x.dtype.kind == "f"}:
            if any(y.dtype.kind == "f" and y.dtype != dtype for y in outputs):
                got = ", ".join(y.dtype.name for y in outputs)
                want = f"outputs of the inputs' dtype, {dtype} (floats of Python keep it)"
                raise self._wrong("reference", want, got)
        return outputs

    @property
    def sees_mask(self) -> bool:
        """Whether it is called with the mask of its input."""
        return self.mask.startswith("uses")

    def _wrong(self, part: str, want: str, got: str) -> UsageError:
        return UsageError(f"register_layer {self.name}, {part}", want, got, f"mend its {part}")

    @contextlib.contextmanager
    def _calling(self, part: str) -> Iterator[None]:
        """Turns whatever goes wrong in a function of the user into one clear error."""
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


def _names(found: object, layer: str) -> tuple[str, ...]:
    """Checked names of tensors."""
    listed = tuple(found) if isinstance(found, (list, tuple)) else ("",)
    right = all(isinstance(name, str) and name.isidentifier() for name in listed)
    if not right or len(set(listed)) != len(listed):
        want, do = "names of its tensors, identifiers that differ, () for none", "mend its weights"
        raise UsageError(f"register_layer {layer}, weights", want, repr(found), do)
    return listed


_LAYERS: dict[str, Registered] = {}
"""Name -> what this process knows of the layer."""


def register_layer(
    name: str,
    *,
    reference: Callable[..., Any],
    output_shape: Callable[..., Any],
    weights: Sequence[str] | Callable[[Config], Sequence[str]],
    mask: str,
    overwrite: bool = False,
    **code: LayerCode,
) -> None:
    """Tells xlstm a layer that it does not know: a class of your own, or one Lambda layer.

    Files that hold such a layer are then loaded, counted, ported and verified as all others. The
    registry belongs to the process: call this before `load`, in every process that needs it.

    Args:
        name: the class as the file names it, "AttentionWithContext" or "package>Class", for all
            layers of it; "Lambda:lambda_1", class and layer, for one layer by its name, which is
            the only way to name a Lambda, or a class of your own that is called as one of Keras's.
        reference: `(config, weights, *inputs) -> array`, or a tuple of arrays: the layer in numpy.
            `config` has the layer's options as the file has them, `weights` its tensors by name,
            inputs are (batch, ...) and may not be written to. What it computes is what every
            framework is judged against. It has to keep the inputs' dtype: it is run in float32,
            float64 and longdouble. With `mask="uses"` it takes `mask=` as well: bools (batch,
            time), True where a step counts, or None. Branches inside it are not watched: whether
            the inputs of a comparison reach them all is for you to say (`inputs=`).
        output_shape: `(config, *shapes) -> shape`, or a tuple of shapes: what one sample becomes,
            without the batch; None is any length.
        weights: names of its tensors in the order in which files keep them (`xlstm inspect` shows
            it), or a function `config -> names`; () for none. Every framework keeps them in the
            same shapes, under these names.
        mask: what becomes of a mask of its first input: "stops" (it neither sees it nor hands it
            on), "passes" (hands it on), "uses" (is called with `mask=`), "uses and passes".
        overwrite: replaces a layer of this name.
        code: torch=, nnx=, linen=, keras=: the layer in each framework. One that is left out
            refuses models with this layer.

    Raises:
        UsageError: arguments that make no sense, a name that is taken, or one of Keras's own.
    """
    where = f"register_layer {name}"
    _check_name(name)
    for part, function in (("reference", reference), ("output_shape", output_shape)):
        if not callable(function):
            raise UsageError(f"{where}, {part}", "a function", repr(function), f"mend its {part}")
    if mask not in MASKS:
        want = " or ".join(f'"{word}"' for word in MASKS)
        raise UsageError(f"{where}, mask", want, repr(mask), "say what becomes of masks")
    _check_code(where, code)
    names = weights if callable(weights) else _names(weights, name)
    found = Registered(name, reference, output_shape, names, mask, dict(code))
    if overwrite:
        _LAYERS[name] = found
    elif _LAYERS.setdefault(name, found) is not found:  # in one step, whatever other threads do
        raise UsageError(where, "a name that is free", "one that is taken", "say overwrite=True")


def unregister_layer(name: str) -> None:
    """Forgets a layer that `register_layer` told.

    Raises:
        UsageError: there is none of this name.
    """
    if _LAYERS.pop(name, None) is None:
        got = ", ".join([*_LAYERS]) or "none"
        raise UsageError(f"unregister_layer {name}", "a layer that is there", got, "name another")


def _check_name(name: object) -> None:
    """Raises UsageError for what is no name, or one of a class that xlstm reads itself."""
    from xlstm.frameworks import registry

    where = f"register_layer {name}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        want = '"Class", "package>Class", or "Class:layer" for one layer'
        raise UsageError(where, want, repr(name), "mend the name")
    if name == "Lambda":
        want, got = 'the name of one Lambda layer, as "Lambda:lambda_1"', "all of them"
        raise UsageError(where, want, got, "register each by its name")
    if name in registry.resolve(registry.KERAS_CLASSES):
        want, got = "a layer that xlstm does not know", "one of Keras's own"
        do = f'write "{name}:NAME" for the one layer NAME of a class of yours'
        raise UsageError(where, want, got, do)


def _check_code(where: str, code: Mapping[str, object]) -> None:
    from xlstm.frameworks import registry

    known = [name for name in registry.names() if registry.adapter(name).emit is not None]
    for framework, half in code.items():
        if framework not in known:
            want = ", ".join(f"{name}=" for name in known)
            raise UsageError(where, want, f"{framework}=", "use one of these")
        if not isinstance(half, LayerCode):
            got = type(half).__name__
            raise UsageError(f"{where}, {framework}", "an xlstm.LayerCode", got, "wrap it in one")


def any_registered() -> bool:
    """True if any layer is registered in this process."""
    return bool(_LAYERS)


def find(*names: str) -> str:
    """The first of `names` that is registered, "" if none is."""
    return next((name for name in names if name in _LAYERS), "")


def lookup(name: str) -> Registered:
    """What is known of a layer.

    Raises:
        UnsupportedError: it is not registered in this process.
    """
    found = _LAYERS.get(name)
    if found is None:
        where, want = f"layer {name}", "a layer that is registered in this process"
        do = f"call xlstm.register_layer({name!r}, ...) first"
        raise UnsupportedError(where, want, "none of this name", do)
    return found


@contextlib.contextmanager
def registered_code(model: Model, framework: str) -> Iterator[None]:
    """Turns whatever goes wrong in the registered source of a model's layers into one clear error.

    Errors of models without such layers stay what they are.
    """
    try:
        yield
    except XlstmError:
        raise
    except Exception as error:
        from xlstm.ir.layers.custom import Custom, inside

        specs = (inside(node.spec) for node in model.layers)
        names = {spec.layer for spec in specs if isinstance(spec, Custom)}
        if not names:
            raise
        want = "source that makes them with their tensors"
        got = f"{type(error).__name__}: {error}"
        where = f"register_layer {', '.join(sorted(names))}, {framework}"
        raise UsageError(where, want, got, "mend their LayerCode") from error
