"""Calls of Keras models with little overhead, on each backend; imports Keras."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import keras

from .gradients import compiled_only

Computing = Callable[[], AbstractContextManager[Any]]
"""Gives the context in which this process's Keras may compute."""


def compiled(ported: Any, examples: Sequence[Any], computing: Computing) -> Callable[..., Any]:
    """Returns a function of a model's inputs that computes in evaluation."""
    make = BACKENDS.get(keras.backend.backend(), _plain)
    call = make(ported, examples)

    def safe(*inputs: Any) -> Any:
        with computing():
            return call(*inputs)

    if examples:
        with computing():
            states = [(state, keras.ops.copy(state)) for state in _states(ported)]
            call(*examples)
            for state, before in states:
                state.assign(before)
    return safe


def _states(ported: Any) -> list[Any]:
    """Returns the states that stateful layers keep between calls."""
    layers = [layer for layer in ported.layers if getattr(layer, "stateful", False)]
    return [state for layer in layers for state in layer.states]


def _plain(ported: Any, _examples: Sequence[Any]) -> Callable[..., Any]:
    return lambda *inputs: ported(*inputs, training=False)


def _tensorflow(ported: Any, examples: Sequence[Any]) -> Callable[..., Any]:
    """Returns a `tf.function` for all shapes; that of the examples is compiled by XLA."""
    tensorflow = importlib.import_module("tensorflow")
    run = _plain(ported, examples)
    usual = tensorflow.function(run, reduce_retracing=True)
    fixed = tensorflow.function(run, jit_compile=True)
    if compiled_only(ported):
        usual = fixed
    wanted = _signature(examples)

    def call(*inputs: Any) -> Any:
        return (fixed if examples and _signature(inputs) == wanted else usual)(*inputs)

    return call


def _signature(inputs: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Returns shapes and dtypes of inputs, and the structure that they are in."""
    paths = keras.tree.flatten_with_path(list(inputs))
    return [(path, tuple(x.shape), keras.backend.standardize_dtype(x.dtype)) for path, x in paths]


def _torch(ported: Any, _examples: Sequence[Any]) -> Callable[..., Any]:
    torch = importlib.import_module("torch")

    def call(*inputs: Any) -> Any:
        with torch.no_grad():  # tensors of inference mode could not be states later
            return ported(*inputs, training=False)

    return call


def _jax(ported: Any, examples: Sequence[Any]) -> Callable[..., Any]:
    """Returns a call through `jax.jit`; it would lose the states of stateful layers."""
    if _states(ported):
        return _plain(ported, examples)
    jax = importlib.import_module("jax")

    @jax.jit
    def run(trained: Any, others: Any, inputs: Any) -> Any:
        return ported.stateless_call(trained, others, *inputs, training=False)

    def call(*inputs: Any) -> Any:
        trained = [variable.value for variable in ported.trainable_variables]
        others = [variable.value for variable in ported.non_trainable_variables]
        outputs, _ = run(trained, others, inputs)
        return outputs

    return call


BACKENDS: dict[str, Callable[[Any, Sequence[Any]], Callable[..., Any]]] = {
    "tensorflow": _tensorflow,
    "torch": _torch,
    "jax": _jax,
}
"""Backend -> function that makes the call; other backends have no graphs."""
