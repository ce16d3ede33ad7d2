"""Functions for live Linen and NNX modules: precision, arrays and activations."""

from __future__ import annotations

import contextlib
import functools
import operator
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from xlstm.errors import UnsupportedError
from xlstm.ir.layers import LayerSpec, MultiHeadAttention
from xlstm.ir.precision import HALF
from xlstm.ir.types import Array

from ..activations import LIVE, LIVE_OPTIONS


def precision(dtype: str) -> AbstractContextManager[Any]:
    """Allows 64-bit arrays inside the context only, where `dtype` needs them."""
    context: AbstractContextManager[Any] = jax.enable_x64(np.dtype(dtype).itemsize == 8)
    return context


QUICK = {"xla_cpu_use_fusion_emitters": False, "xla_backend_optimization_level": 0}
"""Options of XLA for a program that runs once: most of the time of a comparison is compilation.

They change the machine code, not the program: the same operations in the same precision."""

LONG = 4096
"""Length of an axis of inputs above which faster machine code saves more than it costs."""


def runs_quickly(weights: Any, inputs: Sequence[Array]) -> bool:
    """True if one run takes `quick_options()`: a short one, on a CPU.

    Convolutions do not: those in float64 are loops, which slow machine code makes far slower.
    """
    longest = max((size for x in inputs for size in np.shape(x)), default=0)
    matrices = all(np.ndim(leaf) <= 2 for leaf in jax.tree.leaves(weights))
    return longest <= LONG and matrices and bool(quick_options())


@functools.cache
def quick_options() -> dict[str, bool | int]:
    """Returns the options of `QUICK` that this XLA knows; none on other processors."""
    if jax.default_backend() != "cpu":
        return {}
    return {name: value for name, value in QUICK.items() if _knows(name, value)}


def _knows(option: str, value: bool | int) -> bool:
    """True if XLA has an option: that of JAX 0.12 lost xla_cpu_use_fusion_emitters."""
    try:
        jax.jit(lambda: 0, compiler_options={option: value})()
    except jax.errors.JaxRuntimeError:
        return False
    return True


def to_numpy(array: Any) -> Array:
    """Returns values as numpy; bfloat16, which numpy lacks, becomes float32 exactly."""
    if array.dtype == jnp.bfloat16:
        array = array.astype(jnp.float32)
    return np.array(array)


def arrays(inputs: Sequence[Array], dtype: str, whole: bool = False) -> list[Any]:
    """Converts numpy inputs to JAX arrays of `dtype`; masks stay bool.

    Whole numbers become int32 if `whole`: Flax's Embed takes no others.
    """
    # numpy casts: JAX would compile a program for that
    tensors: Any = map(np.asarray, inputs)
    if whole:
        tensors = [x.astype(np.int32) if x.dtype.kind in "iu" else x for x in tensors]
    with np.errstate(over="ignore"):  # the largest float16 is 65504
        return [jax.device_put(x if _stays(x, dtype, whole) else x.astype(dtype)) for x in tensors]


def _stays(x: Array, dtype: str, whole: bool) -> bool:
    """True if an input is not cast: masks, and row numbers that half precision cannot store."""
    return x.dtype == bool or ((whole or dtype in HALF) and x.dtype.kind in "iu")


def lowers(spec: LayerSpec) -> bool:
    """True if the port of an attention layer lowers scores; Flax's own uses the dtype's minimum."""
    return not isinstance(spec, MultiHeadAttention) or spec.blind == "lowered"


def listed(module: Any, outputs: Any) -> list[Any]:
    """Returns the outputs of a ported module as a list; states of stateful layers come last."""
    sizes = getattr(sys.modules[type(module).__module__], "SIZES", None)
    if sizes is None:
        leaves: list[Any] = jax.tree.leaves(outputs)
        return leaves
    outputs, state = outputs
    # JAX sorts the keys of dicts; the module has the layers in order
    return [*jax.tree.leaves(outputs), *(h for name in sizes for h in state[name])]


def flat(module: Any, outputs: Any) -> list[Array]:
    """Returns the same as `listed`, as numpy arrays."""
    return [to_numpy(y) for y in listed(module, outputs)]


def build_stack(
    code: ModuleType, weights: Mapping[str, Array], dtype: str, chunk: int | None
) -> Any:
    """Builds the function of many models; weights are (models, ...)."""
    with precision(dtype):
        return code.build(weights, np.dtype(dtype), chunk)


def stack_weights(stack: Any) -> dict[str, Array]:
    """Returns the arrays of many models by the names of one model's, (models, ...)."""
    return {name: to_numpy(array) for name, array in stack.weights.items()}


def run_stack(stack: Any, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Returns the outputs of many models for numpy inputs, (models, ...)."""
    with precision(dtype):
        return [to_numpy(y) for y in jax.tree.leaves(stack(*arrays(inputs, dtype)))]


Factors = Sequence[Array | None]


@dataclass(frozen=True)
class Parameters:
    """Parameters of a port, apart from the rest of it.

    Attributes:
        held: a tree of them.
        call: (tree, inputs) -> outputs of the port.
        named: tree -> its arrays by dotted name.
    """

    held: Any
    call: Callable[[Any, list[Any]], list[Any]]
    named: Callable[[Any], dict[str, Array]]

    def gradients(
        self, inputs: Sequence[Array], factors: Factors, moved: Sequence[bool], dtype: str
    ) -> tuple[Any, list[Any]]:
        """Returns gradients as a tree, and those of the `moved` inputs alone."""
        tensors = arrays(inputs, dtype)

        def loss(params: Any, moving: list[Any]) -> Any:
            left = iter(moving)
            every = [next(left) if m else x for x, m in zip(tensors, moved, strict=True)]
            pairs = zip(self.call(params, every), factors, strict=False)
            return sum((y * c.astype(dtype)).sum() for y, c in pairs if c is not None)

        moving = [x for x, m in zip(tensors, moved, strict=True) if m]
        of_held, of_inputs = jax.jit(jax.grad(loss, (0, 1)))(self.held, moving)
        return of_held, of_inputs


def gradients(
    parameters: Callable[[Any], Parameters],
    ported: Any,
    inputs: Sequence[Array],
    factors: Factors,
    moved: Sequence[bool],
    dtype: str,
) -> tuple[dict[str, Array], list[Array | None]]:
    """Returns gradients of the sum of all outputs times `factors`: of weights by name, of inputs.

    Outputs with factor None are ignored. Inputs that are not `moved` get no gradient.

    Args:
        parameters: gives the parameters of a port.
        ported: the port.
        inputs: numpy arrays.
        factors: one per output.
        moved: one per input.
        dtype: dtype of the computation.
    """
    with precision(dtype):
        own = parameters(ported)
        of_held, of_inputs = own.gradients(inputs, factors, moved, dtype)
        found = iter(of_inputs)
        return own.named(of_held), [to_numpy(next(found)) if m else None for m in moved]


def step(
    parameters: Callable[[Any], Parameters],
    weights: Callable[[Any], dict[str, Array]],
    ported: Any,
    inputs: Sequence[Array],
    factors: Factors,
    rate: float,
    dtype: str,
) -> dict[str, Array]:
    """Returns `weights` after one step of plain SGD, w - rate * g; arguments as in `gradients`."""
    with precision(dtype):
        own = parameters(ported)
        of_held, _ = own.gradients(inputs, factors, [False] * len(inputs), dtype)
        moved = jax.tree.map(lambda w, g: w - rate * g, own.held, of_held)
        return {**weights(ported), **own.named(moved)}


@functools.cache
def _known() -> tuple[tuple[Any, dict[str, object], str], ...]:
    """Returns functions of both tables that this JAX has: (function, options, canonical name)."""
    rows: list[tuple[str, dict[str, object], str]] = [(path, {}, name) for path, name in LIVE]
    rows += [(path, {keyword: value}, name) for path, keyword, value, name in LIVE_OPTIONS]
    found = []
    for path, options, name in rows:
        with contextlib.suppress(AttributeError):
            found.append((operator.attrgetter(path.removeprefix("jax."))(jax), options, name))
    return tuple(found)


def activation(fn: Callable[..., Any], where: str) -> str:
    """Returns the canonical name of a function in a live cell.

    Raises:
        UnsupportedError: an unknown function.
    """
    function: Any = fn
    given: dict[str, object] = {}
    if isinstance(fn, functools.partial) and not fn.args:
        function, given = fn.func, fn.keywords
    for known, options, name in _known():
        if function is known and given == options:
            return name
    got = getattr(fn, "__name__", repr(fn))
    known_names = ", ".join(dict.fromkeys(path.rpartition(".")[2] for path, _ in LIVE))
    raise UnsupportedError(where, f"jax.nn's {known_names}", got, "use one of these functions")


def check_dtype(layer: Any, where: str) -> None:
    """Raises UnsupportedError for a layer that computes in less than float32."""
    if layer.dtype is not None and np.dtype(layer.dtype).itemsize < 4:
        got, do = f"dtype={np.dtype(layer.dtype).name}", "set dtype=None"
        raise UnsupportedError(where, "computation in the parameters' dtype", got, do)
