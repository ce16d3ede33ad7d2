"""Own cells for Flax NNX, copied as text into emitted modules; plain as a textbook.

Each stands where a native cell stands, in `nnx.RNN` too, and has that cell's parameters.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx


class BiasedGRUCell(nnx.GRUCell):
    """`nnx.GRUCell` and the bias it lacks: the candidate's, on its recurrent product."""

    def __init__(self, in_features: int, hidden_features: int, **options: Any) -> None:
        super().__init__(in_features, hidden_features, **options)
        self.bias_hn = nnx.Param(jnp.zeros(hidden_features, self.param_dtype))

    def __call__(self, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step: h and x -> h twice, as carry and as output."""
        x_r, x_z, x_n = jnp.split(self.dense_i(x), 3, axis=-1)
        h_r, h_z, h_n = jnp.split(self.dense_h(h), 3, axis=-1)
        r = self.gate_fn(x_r + h_r)
        z = self.gate_fn(x_z + h_z)
        n = self.activation_fn(x_n + r * (h_n + self.bias_hn[...]))
        h = (1 - z) * n + z * h
        return h, h


class ResetFirstGRUCell(nnx.GRUCell):
    """`nnx.GRUCell` whose reset gate acts on the state, before the recurrent product.

    Input and state lie side by side, and the kernels of both one below the other. XLA joins
    the kernels once a sequence; it would copy a part of a kernel at every step.
    """

    def __call__(self, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step: h and x -> h twice, as carry and as output."""
        middle = [2 * self.hidden_features]
        w_rz, w_n = jnp.split(self.dense_i.kernel[...], middle, axis=-1)
        u_rz, u_n = jnp.split(self.dense_h.kernel[...], middle, axis=-1)
        b = self.dense_i.bias[...]  # pyright: ignore[reportOptionalSubscript]
        b_rz, b_n = jnp.split(b, middle)
        rz = jnp.concatenate([x, h], axis=-1) @ jnp.concatenate([w_rz, u_rz])
        r, z = map(self.gate_fn, jnp.split(rz + b_rz, 2, axis=-1))
        n = jnp.concatenate([x, r * h], axis=-1) @ jnp.concatenate([w_n, u_n])
        n = self.activation_fn(n + b_n)
        h = (1 - z) * n + z * h
        return h, h


class ProjectedLSTMCell(nnx.OptimizedLSTMCell):
    """`nnx.OptimizedLSTMCell` whose h is projected to fewer numbers than c has."""

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        *,
        projection: int,
        rngs: nnx.Rngs,
        **options: Any,
    ) -> None:
        super().__init__(in_features, hidden_features, rngs=rngs, **options)
        linear = partial(nnx.Linear, param_dtype=self.param_dtype, rngs=rngs)
        self.dense_h = linear(projection, 4 * hidden_features)
        self.proj = linear(hidden_features, projection, use_bias=False)

    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        """One step: (c, h) and x -> (c, h) and h."""
        (c, full), _ = super().__call__(carry, x)
        h = self.proj(full)
        return (c, h), h


class PlainConvLSTMCell(nnx.RNNCellBase):
    """An LSTM whose products are convolutions."""

    def __init__(
        self,
        in_features: int,
        features: int,
        kernel_size: tuple[int, ...],
        *,
        strides: int | tuple[int, ...] = 1,
        padding: str = "SAME",
        kernel_dilation: int | tuple[int, ...] = 1,
        use_bias: bool = True,
        forget_offset: float = 0.0,
        gate_fn: Callable[[jax.Array], jax.Array] = nnx.sigmoid,
        activation_fn: Callable[[jax.Array], jax.Array] = nnx.tanh,
        param_dtype: Any,
        rngs: nnx.Rngs,
    ) -> None:
        self.forget_offset = forget_offset
        self.gate_fn = gate_fn
        self.activation_fn = activation_fn
        self.num_axes = len(kernel_size) + 1
        conv = partial(
            nnx.Conv,
            out_features=4 * features,
            kernel_size=kernel_size,
            param_dtype=param_dtype,
            rngs=rngs,
        )
        self.ih = conv(
            in_features,
            use_bias=use_bias,
            strides=strides,
            padding=padding,
            kernel_dilation=kernel_dilation,
        )
        self.hh = conv(features, use_bias=False)

    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        """One step: (c, h) and x -> (c, h) and h."""
        c, h = carry
        i, g, f, o = jnp.split(self.ih(x) + self.hh(h), 4, axis=-1)
        f = self.gate_fn(f + self.forget_offset)
        c = f * c + self.gate_fn(i) * self.activation_fn(g)
        h = self.gate_fn(o) * self.activation_fn(c)
        return (c, h), h

    @property
    def num_feature_axes(self) -> int:
        """Number of axes of one sample."""
        return self.num_axes


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
