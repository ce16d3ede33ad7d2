"""Calls of live Linen and NNX modules with little overhead; imports Flax.

An LSTM's cell has two products a step: of the input, and of h. While a fast call is traced, it has
one: of both side by side, [x, h]. That is faster at every size that was measured.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax import nnx

from . import common

Place = tuple[Mapping[str, Any], str, Any]
"""Attributes of a node, a name, and the part of a module that it had there."""


def compiled_nnx(model: nnx.Module, examples: Sequence[Any]) -> Callable[..., Any]:
    """Returns a function of a module's inputs; the module's present weights are read at each call.

    `nnx.jit` takes the whole module apart at each call, and puts it together. This takes it apart
    once, and passes the values of its variables.
    """
    run, places = _prepared(model)

    def call(*inputs: Any, **options: Any) -> Any:
        nonlocal run, places
        if any(table.get(name) is not part for table, name, part in places):
            run, places = _prepared(model)
        return run(inputs, options)

    return _warm(call, jax.tree.leaves(nnx.state(model)), examples)


def _prepared(model: nnx.Module) -> tuple[Callable[..., Any], list[Place]]:
    """Returns the fast call of a module as it is, and where each of its parts lies.

    A new variable, layer or activation in the place of another has to be taken apart again.
    """
    graph, state = nnx.split(model)
    flat = nnx.to_flat_state(state)
    nodes: dict[tuple[Any, ...], Any] = dict(nnx.iter_graph(model))
    variables = [nodes[path] for path, _ in flat]

    def pure(values: list[Any], inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        filled = [(path, like.replace(v)) for (path, like), v in zip(flat, values, strict=True)]
        module = nnx.merge(graph, nnx.from_flat_state(filled))
        module.eval()  # evaluation mode of Flax: no dropout, stored statistics
        _join_cells(module)
        return module(*inputs, **options)

    jitted = jax.jit(pure)

    def run(inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        return jitted([variable.get_value() for variable in variables], inputs, options)

    return run, _places(nodes)


def _places(nodes: Mapping[tuple[Any, ...], Any]) -> list[Place]:
    """Returns the attributes of a node, a name and the part there, for every part of a module."""
    found = []
    for path, part in nodes.items():
        table: Mapping[str, Any] = getattr(nodes.get(path[:-1]), "__dict__", {})
        name = str(path[-1]) if path else ""
        if name[:1] != "_" and table.get(name) is part:
            found.append((table, name, part))
    return found


class JoinedLSTMCell(nnx.Module):
    """An `nnx.OptimizedLSTMCell` with one product a step."""

    def __init__(self, cell: nnx.OptimizedLSTMCell) -> None:
        self.cell = cell
        kernels = [cell.dense_i.kernel[...], cell.dense_h.kernel[...]]
        self.kernel = nnx.Param(jnp.concatenate(kernels))

    def __call__(self, carry: Any, x: jax.Array) -> tuple[Any, jax.Array]:
        """One step: (c, h) and x -> (c, h) and h."""
        cell, (c, h) = self.cell, carry
        bias = 0 if cell.dense_h.bias is None else cell.dense_h.bias[...]
        y = jnp.concatenate([x, h], axis=-1) @ self.kernel[...] + bias
        c, h = _after_step(y, c, cell)
        return (c, h), h

    def initialize_carry(self, *args: Any, **options: Any) -> Any:
        """As the cell."""
        return self.cell.initialize_carry(*args, **options)

    @property
    def num_feature_axes(self) -> int:
        """Number of axes of one sample."""
        return 1


def _after_step(y: jax.Array, c: jax.Array, cell: Any) -> tuple[jax.Array, jax.Array]:
    """Returns c and h of an LSTM after a step, from its gates before their activations."""
    i, f, g, o = jnp.split(y, 4, axis=-1)
    c = cell.gate_fn(f) * c + cell.gate_fn(i) * cell.activation_fn(g)
    return c, cell.gate_fn(o) * cell.activation_fn(c)


def _join_cells(module: nnx.Module) -> None:
    """Replaces the LSTM cells of a module, in place."""
    nodes = [node for _, node in nnx.iter_graph(module) if hasattr(node, "cell")]
    for node in nodes:
        cell: Any = node.cell
        if type(cell) is nnx.OptimizedLSTMCell and cell.dtype is None:
            node.cell = JoinedLSTMCell(cell)


def compiled_linen(
    pair: tuple[nn.Module, Mapping[str, Any]], examples: Sequence[Any]
) -> Callable[..., Any]:
    """Returns a function of a module's inputs, with the arrays that its variables have by then."""
    module, variables = pair

    def pure(variables: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with nn.intercept_methods(_joined):
            return module.apply(variables, *inputs, **options)

    run = jax.jit(pure)

    def call(*inputs: Any, **options: Any) -> Any:
        return run(variables, inputs, options)

    return _warm(call, jax.tree.leaves(variables), examples)


def _joined(following: Any, args: Any, kwargs: Any, context: Any) -> Any:
    """Computes the call of an `nn.OptimizedLSTMCell` with one product a step."""
    cell = context.module
    if type(cell) is not nn.OptimizedLSTMCell or context.method_name != "__call__":
        return following(*args, **kwargs)
    params = cell.variables["params"]
    if cell.dtype is not None or kwargs or len(args) != 2 or len(params) != 8:
        return following(*args, **kwargs)
    (c, h), x = args
    kernels = [[params[side + gate]["kernel"] for gate in "ifgo"] for side in "ih"]
    kernel = jnp.concatenate([jnp.concatenate(row, axis=-1) for row in kernels])
    bias = jnp.concatenate([params["h" + gate]["bias"] for gate in "ifgo"])
    c, h = _after_step(jnp.concatenate([x, h], axis=-1) @ kernel + bias, c, cell)
    return (c, h), h


def _warm(
    call: Callable[..., Any], weights: Sequence[Any], examples: Sequence[Any]
) -> Callable[..., Any]:
    """Returns `call`, which may compute in float64 if weights do; compiles it for examples."""
    floats = [w for w in weights if jnp.issubdtype(w.dtype, jnp.floating)]
    wide = any(w.dtype.itemsize == 8 for w in floats)

    def precise(*inputs: Any, **options: Any) -> Any:
        with common.precision("float64"):
            return call(*inputs, **options)

    made = precise if wide else call
    if examples:
        made(*examples)
    return made
