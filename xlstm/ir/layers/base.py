"""The base class of layer specs, and the checks that specs share.

In: the options of a layer. Out: a checked spec, with shapes of outputs and sizes of weights.

>>> Input((None, 3)).output_shape((None, 3))
(None, 3)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, TypeVar

from xlstm.errors import UsageError
from xlstm.ir.activation_names import ACTIVATIONS
from xlstm.ir.layers.fields import OneOf, check_fields
from xlstm.ir.types import Shape

__all__ = ["MAX_SIZE", "SPECS", "Functions", "Input", "LayerFunctions", "LayerSpec"]

ActivationName = Annotated[str, OneOf(ACTIVATIONS)]

MAX_SIZE = 2**31 - 1


def check_size(where: str, **sizes: int) -> None:
    """Raises UsageError for a size that is not a whole number from 1 on."""
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_SIZE:
            want = "a whole number from 1 on"
            raise UsageError(f"{where}.{name}", want, repr(size), f"give {_nearest(size)}")


def _nearest(size: object) -> str:
    """The valid size that is nearest to an invalid one, in words."""
    if not isinstance(size, (int, float)) or isinstance(size, bool) or size != size:
        return "the layer's size"
    if size > MAX_SIZE:
        return f"{MAX_SIZE} or less"
    return "1 or more" if size < 1 else str(round(size))


def check_rate(where: str, *rates: float) -> None:
    """Raises UsageError for a number that is no dropout rate."""
    for rate in rates:
        if not 0 <= rate < 1:
            raise UsageError(where, "a dropout rate from 0 to below 1", repr(rate), "change it")


Key = TypeVar("Key")

Function = TypeVar("Function", bound=Callable[..., Any])

SPECS: dict[str, type[LayerSpec]] = {}
"""Every spec by its kind; a spec adds itself when its class is defined."""

SWITCHES = {"bias": "use_bias", "gamma": "scale", "beta": "center"}
"""Optional canonical tensor -> the field of a spec that switches it on."""


@dataclass(frozen=True)
class LayerSpec:
    """One layer's options: all that define its function, checked on construction.

    Each field is checked against its type and rule (`xlstm.ir.layers.fields`), then `check` is
    called.
    """

    kind: ClassVar[str] = ""
    arity: ClassVar[tuple[int, int]] = (1, 1)
    """Fewest and most inputs."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        if "__post_init__" in vars(cls):
            # it would take the place of the check of the fields
            raise TypeError(f"{cls.__name__}: write check() instead of __post_init__()")
        # files name kinds: specs that others define for their own use are not among them
        if "kind" in vars(cls) and cls.__module__.startswith("xlstm.ir.layers."):
            SPECS[cls.kind] = cls

    def __post_init__(self) -> None:
        check_fields(self)
        self.check()

    def check(self) -> None:
        """Raises UsageError or UnsupportedError for options that make no sense.

        The type of each field and the rule of each text are checked before.
        """

    @property
    def title(self) -> str:
        """The name of the layer in texts for people."""
        return self.kind

    @property
    def weight_kind(self) -> str:
        """Name of the canonical form of its weights (`xlstm.ir.kinds.KINDS`)."""
        return self.kind

    @property
    def weighted_parts(self) -> tuple[tuple[str, LayerSpec], ...]:
        """The specs that own weights, each with the prefix of its canonical tensors' names."""
        return (("", self),) if self.sizes() else ()

    def sizes(self) -> dict[str, int]:
        """Sizes of the canonical axes of the weights, by axis letter; empty without weights."""
        return {}

    def missing_tensors(self) -> frozenset[str]:
        """Optional canonical tensors that this layer does not have."""
        off = (name for name, field in SWITCHES.items() if getattr(self, field, True) is False)
        return frozenset(off)

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one sample of the first output for one input sample of `shape`."""
        return shape

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        """Shape of one sample of every output, for one input sample of each of `shapes`."""
        return (self.output_shape(shapes[0]),)

    def mask_shape(self, _x: Shape) -> Shape | None:
        """Shape of one sample of its mask, for one input sample of a shape; None for no mask."""
        return None

    def state_shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample of each initial state; empty for layers without states."""
        return ()


def check_last(spec: LayerSpec, shape: Shape, rank: int, features: int) -> None:
    """Raises UsageError for a sample that has too few axes or another number of features."""
    if len(shape) < rank or shape[-1] != features:
        want = f"an input of rank {rank + 1} or more with {features} features last"
        raise UsageError(spec.kind, want, f"(batch, {str(shape)[1:]}", "change its features")


DTYPES = (
    *("float16", "bfloat16", "float32", "float64", "mixed_float16", "mixed_bfloat16"),
    *("int8", "int16", "int32", "int64", "uint8", "bool"),
)
"""Dtypes of inputs: names and policies of Keras."""


@dataclass(frozen=True)
class Input(LayerSpec):
    """A model input of samples of `shape`; `batch` where the model was built for one batch size."""

    kind: ClassVar[str] = "Input"
    arity: ClassVar[tuple[int, int]] = (0, 0)
    shape: Shape
    dtype: Annotated[str, OneOf(DTYPES)] = "float32"
    batch: int | None = None

    def check(self) -> None:
        # no upper limit: large numbers stand for any size while a module of PyTorch is read
        if any(size is not None and size < 1 for size in self.shape):
            want = "sizes from 1 on, None for any"
            raise UsageError("Input.shape", want, f"{self.shape}", "give the sizes of a sample")
        if self.batch is not None:
            check_size("Input", batch=self.batch)


def windows(size: int | None, window: int, stride: int, spread: int, how: str) -> int | None:
    """Windows that fit along an axis; None where its length is not known."""
    if size is None:
        return None
    reach = (window - 1) * spread + 1
    return -(-size // stride) if how in ("same", "causal") else (size - reach) // stride + 1


class Functions(dict[Key, Callable[..., Any]]):
    """Functions by a name or a class; each registers itself where it is defined.

    >>> WRITERS = Functions()
    >>> @WRITERS.of(Input)
    ... def write_input(spec):
    ...     return f"input {spec.shape}"
    >>> WRITERS[Input](Input((3,)))
    'input (3,)'
    """

    def of(self, *keys: Key) -> Callable[[Function], Function]:
        """Returns the decorator that registers a function for these keys."""

        def register(function: Function) -> Function:
            self.update(dict.fromkeys(keys, function))
            return function

        return register


LayerFunctions = Functions[type[LayerSpec]]
"""Functions by layer."""
