"""Own functions for Keras 3, copied as text into emitted modules."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable by its name: layer.variable, or layer.part.variable."""
    found: dict[str, keras.Variable] = {}
    for layer in model.layers:
        # halves that stand by themselves are called layer-half
        name = layer.name.replace("-", ".")
        layer = layer.layer if isinstance(layer, keras.layers.Wrapper) else layer
        owners = {name: layer}
        if isinstance(layer, keras.layers.Bidirectional):
            owners = {
                f"{name}.forward_layer": layer.forward_layer,
                f"{name}.backward_layer": layer.backward_layer,
            }
        # the variables of attention lie in layers of its own: query/kernel
        depth = 2 if isinstance(layer, keras.layers.MultiHeadAttention) else 1
        for owner, held in owners.items():
            for variable in held.weights:
                end = "/".join(variable.path.split("/")[-depth:])
                found[f"{owner}.{end}"] = variable
    return found


def bidirectional(forward: keras.layers.RNN, **options: Any) -> keras.Layer:
    """A Bidirectional layer whose forward half keeps its activations.

    Keras makes that half again from its config, in which stock layers lose float64.
    """
    both = keras.layers.Bidirectional(forward, **options)
    for name in {"activation", "recurrent_activation"} & vars(forward.cell).keys():
        setattr(both.forward_layer.cell, name, getattr(forward.cell, name))
    return both


def both_ways(
    x: keras.KerasTensor,
    forward: keras.layers.RNN,
    backward: keras.layers.RNN,
    merge: Callable[..., list[Any]],
    mask: keras.KerasTensor | None = None,
    initial_state: list[keras.KerasTensor] | None = None,
) -> list[keras.KerasTensor]:
    """Both layers' outputs, the second's turned round in time, merged; then their states."""
    starts: list[Any] = [None, None]
    if initial_state is not None:
        count = len(forward.state_size)
        starts = [initial_state[:count], initial_state[count:]]
    a, *states = keras.tree.flatten(forward(x, mask=mask, initial_state=starts[0]))
    b, *others = keras.tree.flatten(backward(x, mask=mask, initial_state=starts[1]))
    if backward.return_sequences:
        b = keras.ops.flip(b, axis=1)
    return [*merge(a, b), *states, *others]


def seen_or_all(
    query: Any = None,
    value: Any = None,
    key: Any = None,
    causal: tuple[int, int] | None = None,
) -> Any:
    """Mask of the values that each query sees; a query that sees none sees all of them.

    So it is in Keras before 3.7; this one gives such a query the mean of all values, or zeros.
    """
    rows = [] if query is None else [keras.ops.expand_dims(query, 2)]
    columns = [keras.ops.expand_dims(m, 1) for m in (value, key) if m is not None]
    past = [] if causal is None else [np.tri(*causal, dtype=bool)[None]]
    masks: list[Any] = [*rows, *columns, *past]
    seen = masks[0]
    for other in masks[1:]:
        seen = keras.ops.logical_and(seen, other)
    some = keras.ops.any(seen, axis=-1, keepdims=True)
    return keras.ops.logical_or(seen, keras.ops.logical_not(some))
