"""The framework-neutral model: a graph of named nodes, each a layer spec, plus hub weights.

Hub weights carry their axes by name, whatever framework they came from:

    LSTM       kernel[gate, input, hidden]  recurrent[gate, hidden_in, hidden_out]
               bias[side, gate, hidden]     gates in the order i f g o
    GRU        kernel[gate, input, hidden]  recurrent[gate, hidden_in, hidden_out]
               bias[side, gate, hidden]     gates in the order r z n (weights only, so far)
    SimpleRNN  kernel[input, hidden]        recurrent[hidden_in, hidden_out]  bias[side, hidden]
    Dense      kernel[input, output]        bias[output]

`side` is 0 for the bias added to the input product and 1 for the one added to the recurrent
product; frameworks with a single bias have one side.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np

from xlstm.errors import UnsupportedError, UsageError

Array = np.ndarray[Any, np.dtype[Any]]
Shape = tuple[int | None, ...]
"""Shape of one sample, without the batch axis; None is any length."""

ACTIVATIONS = (
    "linear",
    "tanh",
    "sigmoid",
    "relu",
    "softmax",
    "hard_sigmoid",
    "hard_sigmoid_keras2",
)
"""Activations of the hub. `hard_sigmoid` is clip(x/6 + 1/2, 0, 1), as in Keras 3, PyTorch and JAX;
`hard_sigmoid_keras2` is clip(x/5 + 1/2, 0, 1), what Keras 1 and 2 mean by "hard_sigmoid"."""

MAX_SIZE = 2**31 - 1


def _check_size(where: str, **sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool) or not 0 < size <= MAX_SIZE:
            raise UsageError(
                f"{where}.{name}", "a whole number from 1 on", repr(size), "give the layer's size"
            )


def _check_activation(where: str, *names: str) -> None:
    for name in names:
        if name not in ACTIVATIONS:
            raise UnsupportedError(
                where,
                "one of " + ", ".join(ACTIVATIONS),
                repr(name),
                "use one of these activations",
            )


def _check_rate(where: str, *rates: float) -> None:
    for rate in rates:
        if not isinstance(rate, (int, float)) or not 0 <= rate < 1:
            raise UsageError(where, "a dropout rate from 0 to below 1", repr(rate), "mend the rate")


@dataclass(frozen=True)
class Spec:
    """One layer's options: everything that decides its function, checked on construction."""

    kind: ClassVar[str] = ""

    @property
    def core(self) -> Spec:
        """The spec that owns the weights: the layer itself, or what a wrapper wraps."""
        return self

    def sizes(self) -> dict[str, int]:
        """Sizes of the hub axes of the weights, by axis letter; empty without weights."""
        return {}

    def absent(self) -> frozenset[str]:
        """Hub tensors that this layer could have and does not."""
        return frozenset()

    def output_shape(self, shape: Shape) -> Shape:
        """Shape of one output sample for one input sample of `shape`."""
        return shape


def _check_last(spec: Spec, shape: Shape, rank: int, features: int) -> None:
    if len(shape) < rank or shape[-1] != features:
        want = f"an input of rank {rank + 1} or more with {features} features last"
        raise UsageError(spec.kind, want, f"(batch, {str(shape)[1:]}", "mend the layers' sizes")


@dataclass(frozen=True)
class Input(Spec):
    """A model input of samples of `shape`."""

    kind: ClassVar[str] = "Input"
    shape: Shape
    dtype: str = "float32"


class Recurrent(Spec):
    """What recurrent layers share: they walk along axis 1, and keep `units` numbers of state."""

    features: int
    units: int
    use_bias: bool
    return_sequences: bool

    def sizes(self) -> dict[str, int]:
        return {"i": self.features, "j": self.units, "h": self.units}

    def absent(self) -> frozenset[str]:
        return frozenset() if self.use_bias else frozenset({"bias"})

    def output_shape(self, shape: Shape) -> Shape:
        _check_last(self, shape, 2, self.features)
        return (*shape[:-1], self.units) if self.return_sequences else (self.units,)


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000).

    With x_t the input, h and c the states (zero at the start), `*` elementwise:

        i, f, o = gate_activation(x_t W + h U + b)   one W, U, b for each
        g       = activation(x_t W_g + h U_g + b_g)
        c       = f * c + i * g
        h       = o * activation(c)

    `dropout` and `recurrent_dropout` act in training only.
    """

    kind: ClassVar[str] = "LSTM"
    features: int
    units: int
    activation: str = "tanh"
    gate_activation: str = "sigmoid"
    use_bias: bool = True
    return_sequences: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_size("LSTM", features=self.features, units=self.units)
        _check_activation("LSTM", self.activation, self.gate_activation)
        _check_rate("LSTM", self.dropout, self.recurrent_dropout)


@dataclass(frozen=True)
class SimpleRNN(Recurrent):
    """The plain recurrent layer of Elman (1990): h = activation(x_t W + h U + b), h 0 at the start.

    `dropout` and `recurrent_dropout` act in training only.
    """

    kind: ClassVar[str] = "SimpleRNN"
    features: int
    units: int
    activation: str = "tanh"
    use_bias: bool = True
    return_sequences: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    def __post_init__(self) -> None:
        _check_size("SimpleRNN", features=self.features, units=self.units)
        _check_activation("SimpleRNN", self.activation)
        _check_rate("SimpleRNN", self.dropout, self.recurrent_dropout)


@dataclass(frozen=True)
class Dense(Spec):
    """`activation(x W + b)` over the last axis."""

    kind: ClassVar[str] = "Dense"
    features: int
    units: int
    activation: str = "linear"
    use_bias: bool = True

    def __post_init__(self) -> None:
        _check_size("Dense", features=self.features, units=self.units)
        _check_activation("Dense", self.activation)

    def sizes(self) -> dict[str, int]:
        return {"i": self.features, "o": self.units}

    def absent(self) -> frozenset[str]:
        return frozenset() if self.use_bias else frozenset({"bias"})

    def output_shape(self, shape: Shape) -> Shape:
        _check_last(self, shape, 1, self.features)
        return (*shape[:-1], self.units)


@dataclass(frozen=True)
class TimeDistributed(Spec):
    """`layer` applied to every time step (axis 1) by itself."""

    kind: ClassVar[str] = "TimeDistributed"
    layer: Spec

    @property
    def core(self) -> Spec:
        return self.layer.core

    def sizes(self) -> dict[str, int]:
        return self.layer.sizes()

    def absent(self) -> frozenset[str]:
        return self.layer.absent()

    def output_shape(self, shape: Shape) -> Shape:
        if len(shape) < 2:
            want = "an input with a time axis, (batch, time, ...)"
            raise UsageError(self.kind, want, f"(batch, {str(shape)[1:]}", "mend the layers' order")
        return (shape[0], *self.layer.output_shape(shape[1:]))


@dataclass(frozen=True)
class Dropout(Spec):
    """Zeroes a share `rate` of its input in training; does nothing in evaluation."""

    kind: ClassVar[str] = "Dropout"
    rate: float

    def __post_init__(self) -> None:
        _check_rate("Dropout", self.rate)


@dataclass(frozen=True)
class Activation(Spec):
    """An activation as a layer of its own."""

    kind: ClassVar[str] = "Activation"
    activation: str

    def __post_init__(self) -> None:
        _check_activation("Activation", self.activation)


SPECS: dict[str, type[Spec]] = {
    spec.kind: spec
    for spec in (Input, LSTM, SimpleRNN, Dense, TimeDistributed, Dropout, Activation)
}


@dataclass(frozen=True)
class Node:
    """One place in the graph: a spec, the nodes it reads, and the shape of its output sample."""

    name: str
    spec: Spec
    inputs: tuple[str, ...] = ()
    shape: Shape = ()
    trainable: bool = True


@dataclass(frozen=True)
class Source:
    """Where a model came from, and what reading it found.

    Attributes:
        framework: "keras", "torch", "nnx" or "linen".
        version: version of the framework that wrote it, "" if unknown.
        container: what held it ("HDF5 whole model", "live nn.LSTM", ...).
        file: the file's name without its folder, "" for a live object.
        sha256: of the file's bytes, "" for a live object.
        notes: rules applied and options that act only in training.
        warnings: what the user should look at.
    """

    framework: str
    version: str = ""
    container: str = ""
    file: str = ""
    sha256: str = ""
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Model:
    """A graph of layers in topological order with hub weights, as any framework's model is read.

    Attributes:
        name: the model's own name.
        nodes: in an order in which every node follows the nodes it reads.
        inputs: names of the Input nodes, in calling order.
        outputs: names of the nodes whose outputs the model returns.
        weights: node name -> hub tensor name -> array, in the stored dtype.
        source: where it came from.
        lone: True for a bare layer, which ports to the target's bare native layer.
    """

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: Mapping[str, Mapping[str, Array]] = field(repr=False)
    source: Source
    lone: bool = False

    @property
    def layers(self) -> tuple[Node, ...]:
        """The nodes that are layers: all but the inputs."""
        return tuple(node for node in self.nodes if node.name not in self.inputs)

    def node(self, name: str) -> Node:
        """The node called `name`."""
        return next(node for node in self.nodes if node.name == name)

    def compute_dtype(self) -> np.dtype[Any]:
        """The widest stored dtype, at least float32: what ports compute in."""
        stored = [array.dtype for layer in self.weights.values() for array in layer.values()]
        return np.result_type(np.float32, *stored)

    def astype(self, dtype: Any) -> Model:
        """The same model with every weight cast to `dtype`, before any table is applied."""
        weights = {
            name: {tensor: array.astype(dtype) for tensor, array in layer.items()}
            for name, layer in self.weights.items()
        }
        return replace(self, weights=weights)


def chain(
    name: str,
    layers: list[tuple[str, Spec, bool]],
    shape: Shape,
    weights: Mapping[str, Mapping[str, Array]],
    source: Source,
    *,
    lone: bool = False,
    input_dtype: str = "float32",
) -> Model:
    """A Model of one input of `shape` and `layers` (name, spec, trainable), one after the other.

    Raises:
        UsageError: sizes that do not chain, or two layers of one name.
    """
    taken = {layer_name for layer_name, _, _ in layers}
    if len(taken) != len(layers):
        raise UsageError(name, "layer names that differ", "two equal ones", "rename the layers")
    first = "input"
    while first in taken:
        first += "_"
    nodes = [Node(first, Input(shape, input_dtype), (), shape)]
    for layer_name, spec, trainable in layers:
        before = nodes[-1]
        after = spec.output_shape(before.shape)
        nodes.append(Node(layer_name, spec, (before.name,), after, trainable))
    return Model(name, tuple(nodes), (first,), (nodes[-1].name,), weights, source, lone)
