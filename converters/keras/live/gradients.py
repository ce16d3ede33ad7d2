"""Gradients of a Keras model on each of its backends."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from xlstm.ir.types import Array

from ..templates.layers import variables

Factors = Sequence[Array | None]

Found = tuple[list[Any], list[Any]]
"""Gradients of the variables, and of the inputs that are moved; None for no gradient."""


def named_gradients(
    ported: Any,
    tensors: list[Any],
    factors: Factors,
    moved: Sequence[bool],
    to_numpy: Callable[[Any], Array],
) -> tuple[dict[str, Array], list[Array | None]]:
    """Returns gradients of the sum of all outputs times `factors`: of weights by name, of inputs.

    Args:
        ported: the model.
        tensors: the inputs, as tensors of the backend.
        factors: one per output; None ignores the output.
        moved: one per input.
        to_numpy: converts a tensor to numpy.
    """
    parameters = variables(ported)
    of_held, of_inputs = BACKENDS[keras.backend.backend()](ported, tensors, factors, moved)

    def filled(gradient: Any, like: Any) -> Array:
        return np.zeros(tuple(like.shape)) if gradient is None else to_numpy(gradient)

    pairs = zip(parameters.items(), of_held, strict=True)
    by_name = {name: filled(gradient, variable) for (name, variable), gradient in pairs}
    found = iter(of_inputs)
    every = zip(tensors, moved, strict=True)
    return by_name, [filled(next(found), x) if moves else None for x, moves in every]


def take_step(ported: Any, tensors: list[Any], factors: Factors, rate: float) -> None:
    """Moves a model by one step of `keras.optimizers.SGD` on the sum of outputs times `factors`."""
    parameters = variables(ported)
    found, _ = BACKENDS[keras.backend.backend()](ported, tensors, factors, [False] * len(tensors))
    trained = {id(variable) for variable in ported.trainable_variables}
    every = zip(found, parameters.values(), strict=True)
    pairs = [(g, v) for g, v in every if g is not None and id(v) in trained]
    if pairs:
        gradients, moving = zip(*pairs, strict=True)
        keras.optimizers.SGD(rate).apply(list(gradients), list(moving))


def as_built(ported: Any, tensors: list[Any]) -> Any:
    """Returns the inputs as the model takes them: one, a list, or a dict where it was built so."""
    if isinstance(ported, keras.Sequential):
        return tensors[0]
    return keras.tree.pack_sequence_as(ported.input, tensors)


def _outputs(ported: Any, tensors: list[Any]) -> list[Any]:
    return list(keras.tree.flatten(ported(as_built(ported, tensors), training=False)))


def _total(outputs: list[Any], factors: Factors) -> Any:
    pairs = [(y, c) for y, c in zip(outputs, factors, strict=False) if c is not None]
    parts = [keras.ops.sum(y * keras.ops.convert_to_tensor(c, y.dtype)) for y, c in pairs]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def compiled_only(ported: Any) -> bool:
    """True if TensorFlow runs a layer of the model on a CPU in compiled code only."""
    found = [getattr(layer, "layer", layer) for layer in ported.layers]
    only = [layer for layer in found if isinstance(layer, keras.layers.AveragePooling3D)]
    turned = [layer for layer in found if isinstance(layer, TRANSPOSED)]
    only += [layer for layer in turned if any(rate > 1 for rate in layer.dilation_rate)]
    return any(layer.compute_dtype == "float64" for layer in only)


TRANSPOSED = (
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
)


def _tensorflow(ported: Any, tensors: list[Any], factors: Factors, moved: Sequence[bool]) -> Found:
    tf = importlib.import_module("tensorflow")
    parameters = [variable.value for variable in variables(ported).values()]
    moving = [x for x, moves in zip(tensors, moved, strict=True) if moves]

    def slopes(moving: list[Any]) -> list[Any]:
        left = iter(moving)
        every = [next(left) if m else x for x, m in zip(tensors, moved, strict=True)]
        with tf.GradientTape() as tape:
            for tensor in (*parameters, *moving):
                if tensor.dtype.is_floating:
                    tape.watch(tensor)
            total = _total(_outputs(ported, every), factors)
        found = tape.gradient(total, [*parameters, *moving])
        # gradients of embeddings are sparse: rows one by one
        return [None if g is None else tf.convert_to_tensor(g) for g in found]

    compiled = tf.function(slopes, jit_compile=True) if compiled_only(ported) else slopes
    dense = compiled(moving)
    return dense[: len(parameters)], dense[len(parameters) :]


def _torch(ported: Any, tensors: list[Any], factors: Factors, moved: Sequence[bool]) -> Found:
    torch = importlib.import_module("torch")
    parameters = [variable.value for variable in variables(ported).values()]
    trained = [tensor.requires_grad for tensor in parameters]
    pairs = zip(tensors, moved, strict=True)
    tensors = [x.detach().requires_grad_(True) if moves else x for x, moves in pairs]
    moving = [x for x, moves in zip(tensors, moved, strict=True) if moves]
    for tensor in parameters:
        tensor.requires_grad_(tensor.is_floating_point())
    wanted = [tensor for tensor in (*parameters, *moving) if tensor.requires_grad]
    total = _total(_outputs(ported, tensors), factors)
    some = iter(torch.autograd.grad(total, wanted, allow_unused=True))
    found = [next(some) if tensor.requires_grad else None for tensor in (*parameters, *moving)]
    for tensor, before in zip(parameters, trained, strict=True):
        tensor.requires_grad_(before)
    return found[: len(parameters)], found[len(parameters) :]


def _jax(ported: Any, tensors: list[Any], factors: Factors, moved: Sequence[bool]) -> Found:
    jax = importlib.import_module("jax")
    own = list(variables(ported).values())
    groups = ported.trainable_variables, ported.non_trainable_variables
    # integer counters have no gradient
    floats = [v for v in own if "float" in str(v.dtype)]

    def loss(parameters: dict[int, Any], moving: list[Any]) -> Any:
        left = iter(moving)
        every = [next(left) if m else x for x, m in zip(tensors, moved, strict=True)]
        values = [[parameters.get(id(v), v.value) for v in group] for group in groups]
        outputs, _ = ported.stateless_call(*values, as_built(ported, every), training=False)
        return _total(list(keras.tree.flatten(outputs)), factors)

    parameters = {id(v): v.value for v in floats}
    moving = [x for x, moves in zip(tensors, moved, strict=True) if moves]
    of_held, of_inputs = jax.grad(loss, (0, 1))(parameters, moving)
    return [of_held.get(id(v)) for v in own], of_inputs


BACKENDS = {"tensorflow": _tensorflow, "torch": _torch, "jax": _jax}
