"""A Flax NNX module ported from Keras 3.15.1.

Needs flax and safetensors. `model = load()` gives the model with its trained weights.
An eager call traces every recurrent layer again, and `nnx.jit` takes the model apart
at every call. To take it apart once:

    graphdef, params = nnx.split(model)
    run = jax.jit(lambda params, *inputs: nnx.merge(graphdef, params)(*inputs))
    run(params, *inputs)
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import ArrayLike, DTypeLike
from safetensors.flax import load_file


def concatenate(forward: jax.Array, backward: jax.Array) -> jax.Array:
    """Both halves side by side."""
    return jnp.concatenate([forward, backward], axis=-1)


def last(forward: jax.Array, backward: jax.Array, merge: Callable[..., Any]) -> Any:
    """Merges what the halves end with; the backward half ends at the first step."""
    return merge(forward[:, -1], backward[:, 0])


class MaskedRNN(nnx.Module):
    """`nnx.RNN` over (x, mask); its own `seq_lengths` can only mask the end.

    A step whose mask (batch, time) is False keeps the carry and repeats the output of
    the step before, zeros at first; with `zero_output` its output is zeros.
    """

    def __init__(
        self, cell: nnx.Module, *, reverse: bool = False, zero_output: bool = False
    ) -> None:
        self.cell = cell
        self.reverse = reverse
        self.zero_output = zero_output

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
        """As `nnx.RNN`, whose initial carry must be given here."""
        x, mask = inputs
        if mask.shape != x.shape[:2]:
            wanted, given = x.shape[:2], mask.shape
            raise ValueError(f"a mask of shape {wanted} was expected, not {given}")
        reverse = self.reverse if reverse is None else reverse
        # the output is shaped like h, the last of an LSTM's carry
        zero = jnp.zeros_like(jax.tree.leaves(initial_carry)[-1])

        def step(before: Any, now: Any) -> Any:
            x, keep = now
            after = self.cell(before[0], x)
            held = jax.tree.map(partial(jax.vmap(jnp.where), keep), after, before)
            carry, y = held
            return (carry, zero if self.zero_output else y), y

        # time first, and from its end where reversed
        steps = x.swapaxes(0, 1), mask.swapaxes(0, 1)
        start = initial_carry, zero
        (carry, _), y = jax.lax.scan(step, start, steps, reverse=reverse)
        y = y.swapaxes(0, 1)
        if reverse and not keep_order:
            y = jnp.flip(y, 1)
        return (carry, y) if return_carry else y


def zeros(x: jax.Array, *size: int) -> jax.Array:
    """A state of zeros for a batch like x."""
    return jnp.zeros((x.shape[0], *size), x.dtype)


class Model(nnx.Module):
    """Embedding, 2 bidirectional LSTM, Conv1D, LSTM, Dense.

    (batch, 40), (batch, 128, 2) -> (batch, 1)
    """

    def __init__(self, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:
        self.param_dtype = param_dtype
        options: Any = {"param_dtype": param_dtype, "rngs": rngs}
        # (batch, 40) -> (batch, 40, 16)
        self.embedding = nnx.Embed(500, 16, **options)
        # (batch, 40, 16) -> (batch, 48)
        # nnx.RNN can mask the end of a sequence only
        # Any: the declared result of an RNN is a union, with and without its carry
        self.reader: Any = nnx.Bidirectional(
            MaskedRNN(nnx.OptimizedLSTMCell(16, 24, **options)),
            MaskedRNN(nnx.OptimizedLSTMCell(16, 24, **options)),
            merge_fn=partial(last, merge=concatenate),
            rngs=False,
        )
        # (batch, 128, 2) -> (batch, 128, 32)
        self.conv = nnx.Conv(2, 32, (5,), **options)
        # (batch, 32, 32) -> (batch, 32, 48)
        self.bilstm: Any = nnx.Bidirectional(
            nnx.RNN(nnx.OptimizedLSTMCell(32, 24, **options), rngs=False),
            nnx.RNN(nnx.OptimizedLSTMCell(32, 24, **options), rngs=False),
            rngs=False,
        )
        # (batch, 32, 48) -> (batch, 32, 48)
        self.dropout = nnx.Dropout(0.3, rngs=rngs)
        # (batch, 32, 48) -> (batch, 32, 12)
        self.last: Any = nnx.RNN(nnx.OptimizedLSTMCell(48, 12, **options), rngs=False)
        # (batch, 60) -> (batch, 1)
        self.label = nnx.Linear(60, 1, **options)

    def __call__(self, words: jax.Array, curve: jax.Array) -> jax.Array:
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
        conv = nnx.relu(self.conv(curve))
        pool = nnx.max_pool(conv, (4,), strides=(4,))
        bilstm = self.bilstm(
            pool,
            initial_carry=(
                (zeros(pool, 24), zeros(pool, 24)),
                (zeros(pool, 24), zeros(pool, 24)),
            ),
        )
        dropout = self.dropout(bilstm)
        last = self.last(
            dropout, initial_carry=(zeros(dropout, 12), zeros(dropout, 12))
        )
        last = last[:, -1]
        x = jnp.concatenate([x, last], axis=-1)
        x = nnx.sigmoid(self.label(x))
        return x


def build(weights: Mapping[str, ArrayLike], dtype: DTypeLike = jnp.float32) -> Model:
    """The model with these weights, by dotted name, in evaluation mode."""
    # eval_shape: shapes only, no time spent on random weights
    model = nnx.eval_shape(
        lambda: Model(param_dtype=dtype, rngs=nnx.Rngs(params=0, dropout=0))
    )
    params = nnx.to_flat_state(nnx.state(model, nnx.Param))
    names = {".".join(map(str, path)) for path, _ in params}
    # the state of random numbers is saved too: below it starts again
    drawn = nnx.to_flat_state(nnx.state(model, nnx.RngState))
    found = set(weights) - {".".join(map(str, path)) for path, _ in drawn}
    if names != found:
        raise ValueError(f"weights that do not fit: {sorted(names ^ found)}")
    filled = [
        (path, param.replace(jnp.asarray(weights[".".join(map(str, path))], dtype)))
        for path, param in params
    ]
    nnx.update(model, nnx.from_flat_state(filled))
    nnx.reseed(model, dropout=0)
    model.eval()
    return model


def load(
    folder: str | Path = Path(__file__).parent, dtype: DTypeLike = jnp.float32
) -> Model:
    """The model with the trained weights that lie in `folder`."""
    return build(load_file(Path(folder) / "weights.safetensors"), dtype)
