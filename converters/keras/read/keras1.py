"""Layers of Keras 1 that are several of today's: Highway and MaxoutDense; imports no framework.

Highway      t = sigmoid(x W_carry + b_carry);  y = activation(x W + b) t + (1 - t) x
MaxoutDense  y = max over k of x W[k] + b[k]

A layer `highway_1` becomes the nodes `highway_1/dense`, `highway_1/carry` and so on; the last one
has its name. Its parts have all its weights, so Keras's count is the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xlstm.errors import FileError, UnsupportedError, WeightsError
from xlstm.files.description import Description, Stored
from xlstm.ir.types import Array

from .context import LIMITS, Config, ReadContext, registered_name
from .inbound_nodes import KerasTensor, LayerCall
from .weights import leaf

PART = "part"
"""Key of a part's config: the class of the whole, and True if the part has its own name."""

HARMLESS = frozenset(
    "name trainable init transform_bias W_regularizer b_regularizer activity_regularizer "
    "W_constraint b_constraint input_dim batch_input_shape input_dtype bias".split()
)
"""Options that never change the trained function; the arrays show the bias."""

MOST = 1024
"""Most pieces of a MaxoutDense."""


@dataclass(frozen=True)
class SplitLayer:
    """One call of a layer that becomes several.

    Attributes:
        call: the call.
        kind: its class.
        options: its config.
        wraps: number of TimeDistributed around it.
        arrays: its stored arrays, by Keras's names.
    """

    call: LayerCall
    kind: str
    options: Config
    wraps: int
    arrays: Mapping[str, Stored]

    def part(
        self, name: str, kind: str, inputs: Sequence[KerasTensor], *given: Any, **options: Any
    ) -> LayerCall:
        """Returns a call of one part; the last part has no own name."""
        home = (*self.call.home, name) if name else self.call.home
        full = f"{self.call.name}/{name}" if name else self.call.name
        own = {"name": full, "trainable": self.options.get("trainable", True), **options}
        layer = {"class_name": kind, "config": own, PART: (self.kind, bool(name))}
        return LayerCall(
            full,
            layer,
            tuple(inputs),
            arguments=given,
            number=self.call.number,
            group=self.call.group,
            home=home,
            wraps=self.wraps,
        )

    def dense(self, name: str, units: int, activation: object = "linear") -> LayerCall:
        """Returns a call of a Dense part on the layer's input."""
        bias = "b" in self.arrays
        options = {"output_dim": units, "activation": activation, "bias": bias}
        return self.part(name, "Dense", self.call.inputs, **options)


def _highway(whole: SplitLayer, where: str) -> Iterator[LayerCall]:
    kernel = whole.arrays["W"].shape
    if len(kernel) != 2:
        raise WeightsError(where, "W of two axes", f"{kernel}", "check the file")
    dense = whole.dense("dense", kernel[1], whole.options.get("activation", "linear"))
    carry = whole.dense("carry", kernel[1], "sigmoid")
    t, x = carry.output(), whole.call.inputs[0]
    rest = whole.part("rest", "TFOpLambda", [t], 1.0, t, function="math.subtract")
    new = whole.part("new", "Merge", [dense.output(), t], mode="mul")
    kept = whole.part("kept", "Merge", [rest.output(), x], mode="mul")
    last = whole.part("", "Merge", [new.output(), kept.output()], mode="sum")
    yield from (dense, carry, rest, new, kept, last)


def _maxout(whole: SplitLayer, where: str) -> Iterator[LayerCall]:
    kernel, pieces = whole.arrays["W"].shape, whole.options.get("nb_feature")
    if len(kernel) != 3 or kernel[0] != pieces or kernel[2] != whole.options.get("output_dim"):
        want = f"W of nb_feature={pieces}, output_dim={whole.options.get('output_dim')}"
        raise WeightsError(where, want, f"{kernel}", "check the layer's options and weights")
    if kernel[0] > MOST:
        raise UnsupportedError(where, f"at most {MOST} pieces", f"{kernel[0]}", LIMITS)
    parts = [whole.dense(f"piece_{number}", kernel[2]) for number in range(kernel[0])]
    yield from parts
    outputs = [part.output() for part in parts]
    # the maximum of one piece is that piece
    yield whole.part("", "Merge", outputs if len(outputs) > 1 else outputs * 2, mode="max")


def _of_highway(arrays: Mapping[str, Stored]) -> Iterator[tuple[str, Stored]]:
    for name, array in arrays.items():
        yield "carry" if name.endswith("_carry") else "dense", _called(array, name[0])


def _of_maxout(arrays: Mapping[str, Stored]) -> Iterator[tuple[str, Stored]]:
    for name, array in arrays.items():
        for number in range(array.shape[0] if array.shape else 0):
            yield f"piece_{number}", _called(_piece(array, number), name)


def _piece(array: Stored, number: int) -> Stored:
    def load() -> Array:
        part: Array = array.load()[number]
        return part

    return replace(array, shape=array.shape[1:], load=load)


def _called(array: Stored, name: str) -> Stored:
    return replace(array, name=f"part_{name}")


@dataclass(frozen=True)
class Composite:
    """Rule that splits a class: its calls, the owners of its arrays, and other options."""

    calls: Callable[[SplitLayer, str], Iterator[LayerCall]]
    sort: Callable[[Mapping[str, Stored]], Iterator[tuple[str, Stored]]]
    reads: frozenset[str]


COMPOSITES = {
    "Highway": Composite(_highway, _of_highway, frozenset({"activation"})),
    "MaxoutDense": Composite(_maxout, _of_maxout, frozenset({"output_dim", "nb_feature"})),
}
"""Class of Keras 1 -> the rule that splits it."""


def is_composite(layer: Config) -> bool:
    """True for such a layer; not for one that the user registered."""
    return layer.get("class_name") in COMPOSITES and not registered_name(layer)


def taken_apart(call: LayerCall, description: Description, where: str) -> list[LayerCall]:
    """Returns the calls of the parts of such a layer, the last with its name; empty for others.

    Raises:
        UnsupportedError: an unknown option.
        FileError: a config that is incomplete.
        WeightsError: arrays that are missing, or of a wrong shape.
    """
    layer, timed = call.layer, False
    if layer.get("class_name") == "TimeDistributed":
        layer, timed = layer.get("config", {}).get("layer", {}), True
    if not isinstance(layer, Mapping) or not is_composite(layer):
        return []
    own, kind, options = f"{where}, layer {call.name}", layer["class_name"], layer.get("config")
    if not isinstance(options, Mapping) or len(call.inputs) != 1:
        raise FileError(own, "a layer with options and one input", f"{kind}", "save it again")
    unknown = sorted(set(options) - HARMLESS - COMPOSITES[kind].reads)
    if unknown:
        raise UnsupportedError(own, f"options of a {kind}", f"{unknown[0]}", LIMITS)
    arrays = {leaf(array.name, 1): array for array in _stored(description, call.name)}
    if "W" not in arrays:
        raise WeightsError(own, "an array W", ", ".join(arrays) or "none", "check the file")
    wraps = call.wraps + timed
    return list(COMPOSITES[kind].calls(SplitLayer(call, kind, options, wraps, arrays), own))


def _stored(description: Description, name: str) -> Iterable[Stored]:
    """Yields the arrays of a layer: under its name, or under that of a model around it."""
    if found := description.weights.get(name):
        return found
    every = (array for arrays in description.weights.values() for array in arrays)
    return [array for array in every if array.name == f"{name}_{leaf(array.name, 1)}"]


def sort_parts(reader: ReadContext, calls: Sequence[LayerCall]) -> None:
    """Assigns the arrays of split layers to their parts."""
    for call in calls:
        kind, named = call.layer.get(PART, ("", True))
        if named:
            continue
        home = "/".join(call.home)
        arrays = {leaf(array.name, 1): array for array in reader.take(home)}
        for part, array in COMPOSITES[kind].sort(arrays):
            path = f"{home}/{part}"
            reader.give(path, (*reader.take(path), array))
