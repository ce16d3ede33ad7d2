"""How Linen and NNX write the same thing; imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.literals import literal
from xlstm.ir.types import Shape

from ...codegen.source import Argument, CallExpr, ModuleSource, assigned, call, statement
from ...codegen.variables import NodeVariables
from .. import activations as flax_activations

WRITERS = L.LayerFunctions()
"""Layer -> the function that writes it."""

CELLS = "flax/templates/common.py"


OWN = {
    "PReLU": "{m}.PReLU has one slope for all",
    "Normalization": "{m} has no layer of fixed statistics",
    "Denormalization": "{m} has no layer of fixed statistics",
    **dict.fromkeys(
        ("DotAttention", "ConcatAttention", "AdditiveAttention"),
        "{m} has no attention of one head with these scores",
    ),
    "UnevenAttention": "{m}.MultiHeadAttention has keys and values of one size",
    "WeighingAttention": "{m}.MultiHeadAttention gives no weights",
    "attend": "{m}.dot_product_attention has its softmax in float32 only",
    "attend_or_zeros": "{m}.dot_product_attention gives a query that sees nothing a mean",
    "attend_lowered": "{m}.dot_product_attention gives a query that sees nothing a mean",
}
"""Our own layers and functions, and why each is needed."""


@dataclass(frozen=True)
class Dialect:
    """How Linen and NNX write the same thing.

    Attributes:
        module: the module alias, "nn" or "nnx".
        file: our own cells.
        layers: our own layers around them.
        cells: hub form of a recurrent layer -> the cell that computes it.
        dense: name of the dense layer.
        sized: whether constructors take the input size first.
        param_dtype: expression for the dtype of the parameters inside the constructor.
        tail: arguments every layer with parameters ends with.
        rnn_tail: arguments of the RNN and Bidirectional wrappers after what they wrap.
        dropout: constructor of a dropout layer for a rate, and perhaps more options.
        conv_lstm: whether there is a native ConvLSTMCell; it adds 1 to the forget gate.
        attend: our own function for the native attention of heads, "" where that is exact.
        weights: the native function for the weights of heads.
        training: keyword for "not in training" -> the argument that a layer which acts otherwise in
            training is called with, None where the module itself knows.
    """

    module: str
    file: str
    layers: str
    cells: Mapping[str, str]
    dense: str
    sized: bool
    param_dtype: str
    tail: tuple[Argument, ...]
    rnn_tail: tuple[Argument, ...]
    dropout: Callable[..., CallExpr]
    conv_lstm: bool
    attend: str
    weights: str
    training: Callable[[str], Argument | None]

    def made(self, name: str, *args: Argument | None) -> CallExpr:
        """Constructor of a native layer with parameters."""
        dtype = ("param_dtype", self.param_dtype)
        return call(f"{self.module}.{name}", *args, dtype, *self.tail)


@dataclass(frozen=True)
class FlaxLayerWriter:
    """Where a layer is written.

    Attributes:
        dialect: Linen or NNX.
        parts: what the module is made of.
        site: variables and names.
        shapes: of a sample of each input.
        model: the graph.
        lead: how many axes stand before a sample's: 2 at every time step, else 1.
    """

    dialect: Dialect
    parts: ModuleSource
    site: NodeVariables
    shapes: tuple[Shape, ...]
    model: Model
    lead: int = 1

    @property
    def calls(self) -> tuple[tuple[Edge, ...], ...]:
        """What every call of the layer reads; the first is the one that makes it."""
        return tuple(node.inputs for node in self.model.calls(self.site.node.owner))

    @property
    def x(self) -> str:
        """Variable of the first input."""
        return self.site.x

    @property
    def ranks(self) -> tuple[int, ...]:
        """How many axes a sample of each input has."""
        return tuple(map(len, self.shapes))

    def axis(self, axis: int) -> int:
        """An axis of a sample as one of the batch; from the end it is the same."""
        return axis if axis < 0 else axis + self.lead

    def set_output(self, value: Argument) -> None:
        """Writes the first output, if anything reads it."""
        if self.site.read(0) and value != self.site.y:
            self.parts.forward += assigned(self.site.y, value)

    def assign(self, name: str, value: Argument) -> None:
        """Writes a variable."""
        self.parts.forward += assigned(name, value)

    def set_attribute(self, value: Argument) -> None:
        """Writes the attribute that holds the layer."""
        self.parts.init += statement(f"self.{self.site.name} = ", value, 8)

    def layer(self, name: str, *args: Argument | None) -> None:
        """Writes the attribute that holds a native layer with parameters."""
        self.set_attribute(self.dialect.made(name, *args))

    def use_template(self, name: str, *args: Argument | None) -> None:
        """Writes the attribute that holds a layer of our own, and why there is one."""
        self.parts.use_template(self.dialect.layers, name)
        self.parts.init.append(f"        # {OWN[name].format(m=self.dialect.module)}")
        dtype = ("param_dtype", self.dialect.param_dtype)
        self.set_attribute(call(name, *args, dtype, *self.dialect.tail))

    def sized(self, size: int) -> str | None:
        """The size of the input, where constructors take it."""
        return literal(size) if self.dialect.sized else None

    def call(self, *args: Argument | None) -> CallExpr:
        """The call of the layer, of its input alone unless told otherwise."""
        return call(f"self.{self.site.name}", *(args or (self.x,)))

    def part(self, *places: str, of: str = "") -> str:
        """A part of the input, after the axes that stand before a sample's."""
        return f"{self.x}{of}[{', '.join([':'] * self.lead + [*places])}]"

    def activated(self, value: Argument, activation: str) -> Argument:
        """A value after an activation."""
        if activation == "linear":
            return value
        return call(function(self.dialect, self.parts, activation), value)


def function(dialect: Dialect, parts: ModuleSource, activation: str) -> str:
    """Expression for an activation; a helper it needs is added to `parts`."""
    expression, helper = flax_activations.FUNCTIONS[activation]
    if helper:
        parts.use_template(flax_activations.CELLS, helper)
    return expression.format(m=dialect.module)
