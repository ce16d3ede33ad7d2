"""Own cells for Flax Linen, copied as text into emitted modules; plain as a textbook.

Each stands where a native cell stands, in `nn.RNN` too, and has that cell's parameters.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp


class ResetFirstGRUCell(nn.GRUCell):
    """`nn.GRUCell` whose reset gate acts on the state, before the recurrent product."""

    @nn.compact
    def __call__(self, h: jax.Array, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """One step: h and x -> h twice, as carry and as output."""
        dense_i = partial(nn.Dense, self.features, param_dtype=self.param_dtype)
        dense_h = partial(dense_i, use_bias=False)
        r = self.gate_fn(dense_i(name="ir")(x) + dense_h(name="hr")(h))
        z = self.gate_fn(dense_i(name="iz")(x) + dense_h(name="hz")(h))
        n = dense_i(name="in")(x) + dense_h(name="hn")(r * h)
        h = (1 - z) * self.activation_fn(n) + z * h
        return h, h


class ProjectedLSTMCell(nn.LSTMCell):
    """`nn.LSTMCell` whose h is projected to fewer numbers than c has."""

    projection: int = 1

    @nn.compact
    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        """One step: (c, h) and x -> (c, h) and h."""
        c, h = carry
        dense = partial(nn.Dense, param_dtype=self.param_dtype)
        dense_i = partial(dense, self.features, use_bias=False)
        dense_h = partial(dense, self.features)

        def both(gate: str) -> jax.Array:
            return dense_i(name=f"i{gate}")(x) + dense_h(name=f"h{gate}")(h)

        i, f, g, o = map(both, "ifgo")
        c = self.gate_fn(f) * c + self.gate_fn(i) * self.activation_fn(g)
        h = self.gate_fn(o) * self.activation_fn(c)
        h = dense(self.projection, use_bias=False, name="proj")(h)
        return (c, h), h


class PlainConvLSTMCell(nn.ConvLSTMCell):
    """`nn.ConvLSTMCell` with options, which adds nothing to the forget gate."""

    kernel_dilation: int | tuple[int, ...] = 1
    forget_offset: float = 0.0
    gate_fn: Callable[[jax.Array], jax.Array] = nn.sigmoid
    activation_fn: Callable[[jax.Array], jax.Array] = nn.tanh

    @nn.compact
    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        """One step: (c, h) and x -> (c, h) and h."""
        c, h = carry
        conv = partial(
            nn.Conv,
            4 * self.features,
            self.kernel_size,
            use_bias=self.use_bias,
            param_dtype=self.param_dtype,
        )
        conv_i = partial(
            conv,
            strides=self.strides,
            padding=self.padding,
            kernel_dilation=self.kernel_dilation,
        )
        y = conv_i(name="ih")(x) + conv(name="hh")(h)
        i, g, f, o = jnp.split(y, 4, axis=-1)
        f = self.gate_fn(f + self.forget_offset)
        c = f * c + self.gate_fn(i) * self.activation_fn(g)
        h = self.gate_fn(o) * self.activation_fn(c)
        return (c, h), h


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
