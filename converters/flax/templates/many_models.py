"""Many models of one architecture in one call, copied as text into emitted modules.

`make_one` builds a single model from its weights, which may be traced: so `jax.lax.map` runs it
for every model, in chunks inside which `vmap` adds the axis of models.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike
from safetensors.flax import load_file

RANKS: tuple[int, ...] = ()


def make_one(weights: Mapping[str, Any], dtype: DTypeLike) -> Any:
    """The model of one."""
    raise NotImplementedError


def call_one(made: Any, *inputs: ArrayLike) -> Any:
    """The outputs of one model."""
    return made(*inputs)


def call_one_pair(made: Any, *inputs: ArrayLike) -> Any:
    """The outputs of one model."""
    module, variables = made
    return module.apply(variables, *inputs)


@partial(jax.jit, static_argnames=("axes", "dtype", "chunk"))
def run(
    weights: dict[str, jax.Array],
    inputs: tuple[ArrayLike, ...],
    axes: tuple[bool, ...],
    dtype: DTypeLike,
    chunk: int,
) -> Any:
    """The outputs of all models, (models, batch, ...).

    Args:
        weights: by dotted name, the axis of models first.
        inputs: of all models, or one for each.
        axes: True for each input that has an axis of models.
        dtype: of the computation.
        chunk: the number of models that are run side by side.
    """

    def of_one(parts: tuple[dict[str, jax.Array], list[jax.Array]]) -> Any:
        own, rows = parts
        left = iter(rows)
        pairs = zip(inputs, axes, strict=True)
        given = [next(left) if has else x for x, has in pairs]
        return call_one(make_one(own, dtype), *given)

    pairs = zip(inputs, axes, strict=True)
    rows = [jnp.asarray(x) for x, has in pairs if has]
    return jax.lax.map(of_one, (weights, rows), batch_size=chunk)


class Stack:
    """Many models of one architecture, called as one; `weights` are (models, ...)."""

    def __init__(
        self,
        weights: Mapping[str, ArrayLike],
        dtype: DTypeLike = jnp.float32,
        chunk: int | None = None,
    ) -> None:
        self.dtype = jnp.dtype(dtype)
        self.weights = {n: jnp.asarray(w, dtype) for n, w in weights.items()}
        self.count = len(next(iter(self.weights.values())))
        size = sum(w.nbytes for w in self.weights.values()) // self.count
        self.chunk = min(self.count, chunk or chunk_for(size))

    def __call__(self, *inputs: ArrayLike) -> Any:
        """The outputs of all models, (models, batch, ...).

        An input is (batch, ...) for all models, or (models, batch, ...), one for each.
        """
        pairs = zip(inputs, RANKS, strict=True)
        axes = tuple(self.is_for_each(jnp.shape(x), rank) for x, rank in pairs)
        return run(self.weights, inputs, axes, self.dtype, self.chunk)

    def is_for_each(self, shape: tuple[int, ...], rank: int) -> bool:
        """True for an input of each model, False for one input of all."""
        if len(shape) == rank:
            return False
        if len(shape) != rank + 1 or shape[0] != self.count:
            wanted = f"{rank} axes, or {rank + 1} with {self.count} models first"
            raise ValueError(f"input: expected {wanted}, got {list(shape)}")
        return True


def chunk_for(size: int) -> int:
    """Models of `size` bytes that two thirds of a second cache hold, at least 1."""
    cache = 2**20  # bytes, on systems that do not say
    file = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    if file.exists():
        cache = int(file.read_text().strip().removesuffix("K")) * 1024
    return max(1, 2 * cache // 3 // max(1, size))


def build(
    weights: Mapping[str, ArrayLike],
    dtype: DTypeLike = jnp.float32,
    chunk: int | None = None,
) -> Stack:
    """All models with these weights, by dotted name."""
    return Stack(weights, dtype, chunk)


def load(
    folder: str | Path = Path(__file__).parent,
    dtype: DTypeLike = jnp.float32,
    chunk: int | None = None,
) -> Stack:
    """All models with the trained weights that lie in `folder`."""
    return build(load_file(Path(folder) / "stacked.safetensors"), dtype, chunk)
