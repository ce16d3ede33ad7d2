"""Bytes of weights that a layer reads, and bytes of its states.

>>> weight_bytes(L.LSTM(16, 32)), recurrent_bytes(L.LSTM(16, 32)), state_bytes(L.LSTM(16, 32))
(25088, 16384, 256)
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from xlstm.counting.operations.polynomial import ZERO, Polynomial, Sizes, polynomial
from xlstm.counting.operations.recurrent import kind_of_equations
from xlstm.counting.operations.symbolic_shapes import symbolic_shapes
from xlstm.errors import UnsupportedError
from xlstm.frameworks.adapter import Adapter
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers.custom import kind_of, unwrap_time_distributed
from xlstm.slots import shape

FLOAT32 = 4
"""Bytes of a number."""


def weight_bytes(spec: L.LayerSpec, itemsize: int = FLOAT32) -> int:
    """Bytes of weights that a layer reads at one step, by its equations; 0 without weights.

    A recurrent layer reads all of them at every step. Other layers read them once a call, and an
    Embedding reads one row. Biases that are only added to each other count as one.

    Args:
        spec: the layer.
        itemsize: bytes of one number.

    >>> weight_bytes(L.Dense(3, 4), itemsize=8)
    128
    """
    return itemsize * sum(map(_numbers, _parts(spec)))


def recurrent_bytes(spec: L.LayerSpec, itemsize: int = FLOAT32) -> int:
    """Bytes of the weights that the state is multiplied with; 0 for a layer without states.

    No product over the whole sequence takes their place: each step has to read them.

    >>> recurrent_bytes(L.LSTM(16, 32)) == 16 * 32 ** 2
    True
    """
    halves = [part for part in _parts(spec) if isinstance(part, L.Recurrent)]
    names = ("recurrent", "projection", "peephole")
    return itemsize * sum(_tensors(half).get(name, 0) for half in halves for name in names)


def state_bytes(spec: L.LayerSpec, itemsize: int = FLOAT32) -> int:
    """Bytes of the states of one sequence; 0 for a layer without states.

    Raises:
        UnsupportedError: the states of a ConvLSTM on images of unknown size.
    """
    shapes = unwrap_time_distributed(spec).state_shapes()
    if any(size is None for state in shapes for size in state):
        want, do = "images of known size", "count a model that was built for one size"
        raise UnsupportedError("operations", want, "an open axis", do)
    return itemsize * sum(math.prod(size or 0 for size in state) for state in shapes)


def sequence_bytes(model: Model, itemsize: int = FLOAT32) -> Polynomial:
    """Bytes of weights that a model reads for sequences of T steps, whatever the batch.

    A recurrent layer reads its weights at every step, another layer once.

    Raises:
        UnsupportedError: a recurrent layer that has an unknown number of steps.

    >>> from xlstm.ir.graph import chain
    >>> from xlstm.ir.source import Source
    >>> sequence_bytes(chain("m", [("a", L.LSTM(16, 32), True)], (None, 16), {}, Source("keras")))
    25,088 x steps
    """
    shapes = symbolic_shapes(model)
    sizes = (weight_bytes(node.spec, itemsize) * steps_of(node, shapes) for node in model.layers)
    return sum(sizes, ZERO)


def steps_of(node: Node, shapes: Mapping[Edge, Sizes]) -> Polynomial:
    """Number of times that a call reads the weights: the steps of a recurrent layer, else 1.

    Raises:
        UnsupportedError: a recurrent layer that has an unknown number of steps.
    """
    core = unwrap_time_distributed(node.spec)
    if not isinstance(core, (L.Recurrent, L.Bidirectional)):
        return polynomial(1)
    steps = shapes.get(node.inputs[0], (None,) * 3)[1 if core is node.spec else 2]
    if steps is None:
        want, do = "a known number of steps, or T", "count a model without strides"
        raise UnsupportedError(f"layer {node.name}", want, "another one", do)
    return steps


def placed_numbers(node: Node, adapter: Adapter) -> Iterator[tuple[str, str, int]]:
    """Prefix of its part, canonical tensor and size of every tensor of a layer in a framework.

    Raises:
        UnsupportedError: the framework has no form of the layer.
    """
    for place in adapter.weight_placements(node):
        for slot in place.table.present_slots(place.part.missing_tensors()):
            size = math.prod(shape(slot, place.table.kind, place.part.sizes()))
            yield place.before, slot.tensor, size


def read_bytes(node: Node, adapter: Adapter, itemsize: int = FLOAT32) -> int:
    """As `weight_bytes`, for the tensors that a framework stores.

    Raises:
        UnsupportedError: the framework has no form of the layer.
    """
    core = unwrap_time_distributed(node.spec)
    if isinstance(core, L.Embedding):
        return weight_bytes(core, itemsize)
    return itemsize * sum(size for _, _, size in placed_numbers(node, adapter))


def bias_numbers(part: L.LayerSpec) -> int:
    """Numbers of a recurrent layer's biases by its equations, those that add up counted once."""
    return _tensors(part).get("bias", 0)


def _parts(spec: L.LayerSpec) -> list[L.LayerSpec]:
    return [part for _, part in spec.weighted_parts]


def _numbers(part: L.LayerSpec) -> int:
    if isinstance(part, L.Embedding):
        return part.units
    return sum(_tensors(part).values())


def _tensors(part: L.LayerSpec) -> dict[str, int]:
    """Numbers of each canonical tensor of a part."""
    missing = part.missing_tensors()
    if not isinstance(part, L.Recurrent):
        kind = kind_of(part)
        sizes = part.sizes()
        axes = {name: axes for name, axes in kind.tensors.items() if name not in missing}
        return {name: math.prod(sizes[axis] for axis in own) for name, own in axes.items()}
    kind = kind_of_equations(part)
    sizes = {**kind.axis_sizes(part.sizes()), "s": 1}
    names = [name for name in kind.tensors if name not in missing and name != "projection"]
    found = {name: math.prod(sizes[axis] for axis in kind.tensors[name]) for name in names}
    if "bias" in found and getattr(part, "hidden_bias", True):
        found["bias"] += len(kind.apart) * part.units
    if isinstance(part, L.LSTM):
        found |= {"projection": part.units * part.projection}
        found |= {"peephole": 3 * part.units * int(part.peepholes)}
    return found
