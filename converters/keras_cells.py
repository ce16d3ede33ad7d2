"""Own functions for Keras 3, copied as text into emitted modules."""

from collections.abc import Callable
from typing import Any

import keras


def variables(model: keras.Model) -> dict[str, keras.Variable]:
    """Every variable by its name: layer.variable, or layer.half.variable."""
    found: dict[str, keras.Variable] = {}
    for layer in model.layers:
        # halves that stand by themselves are called layer-half
        owners = {layer.name.replace("-", "."): layer}
        if isinstance(layer, keras.layers.Bidirectional):
            owners = {
                f"{layer.name}.forward_layer": layer.forward_layer,
                f"{layer.name}.backward_layer": layer.backward_layer,
            }
        for name, owner in owners.items():
            found |= {f"{name}.{v.name}": v for v in owner.weights}
    return found


def bidirectional(forward: keras.layers.RNN, **options: Any) -> keras.Layer:
    """A Bidirectional layer whose forward half keeps its activations.

    Keras makes that half anew from its config, in which stock layers lose float64.
    """
    both = keras.layers.Bidirectional(forward, **options)
    for name in {"activation", "recurrent_activation"} & vars(forward.cell).keys():
        setattr(both.forward_layer.cell, name, getattr(forward.cell, name))
    return both


def both_ways(
    x: keras.KerasTensor,
    forward: keras.layers.RNN,
    backward: keras.layers.RNN,
    merge: Callable[..., list[keras.KerasTensor]],
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
