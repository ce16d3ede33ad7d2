"""A Flax Linen module ported from Keras 3.15.1.

Needs flax and safetensors. `module, variables = load()` gives the module and its trained
weights; `module.apply(variables, *inputs)` runs it.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import traverse_util
from jax.typing import ArrayLike, DTypeLike
from safetensors.flax import load_file


def concatenate(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Both halves side by side."""
    return jnp.concatenate([forward, backward], axis=-1)


def last(forward: jax.Array, backward: jax.Array, merge: Callable[..., Any]) -> Any:
    """Merges what the halves end with; the backward half ends at the first step."""
    return merge(forward[:, -1], backward[:, 0])


class MaskedRNN(nn.Module):
    """`nn.RNN` over (x, mask); its own `seq_lengths` can only mask the end.

    A step whose mask (batch, time) is False keeps the carry and repeats the output of
    the step before, zeros at first; with `zero_output` its output is zeros.
    """

    cell: nn.RNNCellBase
    reverse: bool = False
    zero_output: bool = False

    def __call__(
        self,
        inputs: Any,
        *,
        initial_carry: Any = None,
        return_carry: bool | None = None,
        reverse: bool | None = None,
        keep_order: bool | None = None,
        **_unused: Any,
    ) -> Any:
        """As `nn.RNN`, whose initial carry must be given here."""
        x, mask = inputs
        if mask.shape != x.shape[:2]:
            wanted, given = x.shape[:2], mask.shape
            raise ValueError(f"a mask of shape {wanted} was expected, not {given}")
        reverse = self.reverse if reverse is None else reverse
        # the output is shaped like h, the last of an LSTM's carry
        zero = jnp.zeros_like(jax.tree.leaves(initial_carry)[-1])

        def step(cell: nn.RNNCellBase, before: Any, now: Any) -> Any:
            x, keep = now
            after = cell(before[0], x)
            held = jax.tree.map(partial(jax.vmap(jnp.where), keep), after, before)
            carry, y = held
            return (carry, zero if self.zero_output else y), y

        scan = nn.scan(
            step,
            variable_broadcast="params",
            split_rngs={"params": False},
            in_axes=1,
            out_axes=1,
            reverse=reverse,
        )
        (carry, _), y = scan(self.cell, (initial_carry, zero), (x, mask))
        if reverse and not keep_order:
            y = jnp.flip(y, 1)
        return (carry, y) if return_carry else y


def zeros(x: jax.Array, *size: int) -> jax.Array:
    """A state of zeros for a batch like x."""
    return jnp.zeros((x.shape[0], *size), x.dtype)


class Model(nn.Module):
    """Embedding, 2 bidirectional LSTM, Conv1D, LSTM, Dense.

    (batch, 40), (batch, 128, 2) -> (batch, 1)
    """

    param_dtype: DTypeLike = jnp.float32

    def setup(self) -> None:
        # (batch, 40) -> (batch, 40, 16)
        self.embedding = nn.Embed(500, 16, param_dtype=self.param_dtype)
        # (batch, 40, 16) -> (batch, 48)
        # nn.RNN can mask the end of a sequence only
        # Any: the declared result of an RNN is a union, with and without its carry
        self.reader: Any = nn.Bidirectional(
            MaskedRNN(nn.OptimizedLSTMCell(24, param_dtype=self.param_dtype)),
            MaskedRNN(nn.OptimizedLSTMCell(24, param_dtype=self.param_dtype)),
            merge_fn=partial(last, merge=concatenate),
        )
        # (batch, 128, 2) -> (batch, 128, 32)
        self.conv = nn.Conv(32, (5,), param_dtype=self.param_dtype)
        # (batch, 32, 32) -> (batch, 32, 48)
        self.bilstm: Any = nn.Bidirectional(
            nn.RNN(nn.OptimizedLSTMCell(24, param_dtype=self.param_dtype)),
            nn.RNN(nn.OptimizedLSTMCell(24, param_dtype=self.param_dtype)),
        )
        # (batch, 32, 48) -> (batch, 32, 48)
        self.dropout = nn.Dropout(0.3)
        # (batch, 32, 48) -> (batch, 32, 12)
        self.last: Any = nn.RNN(nn.OptimizedLSTMCell(12, param_dtype=self.param_dtype))
        # (batch, 60) -> (batch, 1)
        self.label = nn.Dense(1, param_dtype=self.param_dtype)

    def __call__(
        self, words: jax.Array, curve: jax.Array, *, train: bool = False
    ) -> jax.Array:
        """One output for a batch of inputs."""
        words = jnp.asarray(words)
        if words.ndim != 2:
            raise ValueError(
                f"words of shape (batch, 40) was expected, not {words.shape}"
            )
        curve = jnp.asarray(curve, self.param_dtype)
        if curve.ndim != 3:
            raise ValueError(
                f"curve of shape (batch, 128, 2) was expected, not {curve.shape}"
            )
        mask = words != 0
        x = self.embedding(words.astype(jnp.int32))
        x = self.reader(
            (x, mask),
            initial_carry=((zeros(x, 24), zeros(x, 24)), (zeros(x, 24), zeros(x, 24))),
        )
        conv = nn.relu(self.conv(curve))
        pool = nn.max_pool(conv, (4,), strides=(4,))
        bilstm = self.bilstm(
            pool,
            initial_carry=(
                (zeros(pool, 24), zeros(pool, 24)),
                (zeros(pool, 24), zeros(pool, 24)),
            ),
        )
        dropout = self.dropout(bilstm, deterministic=not train)
        last = self.last(
            dropout, initial_carry=(zeros(dropout, 12), zeros(dropout, 12))
        )
        last = last[:, -1]
        x = jnp.concatenate([x, last], axis=-1)
        x = nn.sigmoid(self.label(x))
        return x


def build(
    weights: Mapping[str, ArrayLike], dtype: DTypeLike = jnp.float32
) -> tuple[Model, dict[str, Any]]:
    """The module and its variables with these weights, by dotted name."""
    flat = {
        tuple(name.split(".")): jnp.asarray(array, dtype)
        for name, array in weights.items()
    }
    return Model(param_dtype=dtype), traverse_util.unflatten_dict(flat)


def load(
    folder: str | Path = Path(__file__).parent, dtype: DTypeLike = jnp.float32
) -> tuple[Model, dict[str, Any]]:
    """The module and the trained variables that lie in `folder`."""
    return build(load_file(Path(folder) / "weights.safetensors"), dtype)
