"""Differences between Linen and NNX source, and the context of a layer; imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.literals import literal
from xlstm.ir.types import Shape

from ...codegen.source import Argument, CallExpr, ModuleSource, assigned, call, statement
from ...codegen.variables import NodeVariables
from .. import activations
from ..slots import LINEN_DEFAULT, NNX_DEFAULT

WRITERS = L.LayerFunctions()
"""Layer -> the function that writes it."""

CELLS = "flax/templates/common.py"

OWN = {
    "BiasedGRUCell": "{m}.GRUCell lacks the bias of the candidate's recurrent product",
    "ResetFirstGRUCell": "{m}.GRUCell's reset gate acts after the recurrent product",
    "ProjectedLSTMCell": "{m}.LSTMCell's h is as wide as its c",
    "PlainConvLSTMCell": "{m} has no ConvLSTMCell that adds nothing to the forget gate",
    "MaskedRNN": "{m}.RNN can mask the end of a sequence only",
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
"""Our own layers and functions -> the reason for each."""


OPTIONS = "**options"
"""Argument of NNX's layers for the dtype of the parameters and the random streams."""


@dataclass(frozen=True)
class Dialect:
    """Differences between Linen and NNX source.

    Attributes:
        framework: the adapter's name.
        title: the framework's own spelling.
        module: the module alias, "nn" or "nnx".
        file: our own cells.
        layers: our own layers around them.
        cells: canonical form of a recurrent layer -> the cell that computes it.
        dense: name of the dense layer.
        functional: True if variables lie beside the module, which then knows no input sizes; False
            if the module has them, and its constructors take the input size first.
        param_dtype: expression for the dtype of the parameters inside the constructor.
        options: last arguments of every layer with parameters.
        rnn_tail: last arguments of the RNN and Bidirectional wrappers.
        dropout: constructor of a dropout layer for a rate, and perhaps more options.
        conv_lstm: True for a native ConvLSTMCell; it adds 1 to the forget gate.
        attend: our own function for the native attention of heads, "" where that is exact.
        weights: the native function for the weights of heads.
        training: keyword for "not in training" -> the argument that a layer which acts otherwise in
            training gets; None if the module stores its mode.
    """

    framework: str
    title: str
    module: str
    file: str
    layers: str
    cells: Mapping[str, str]
    dense: str
    functional: bool
    param_dtype: str
    options: tuple[Argument, ...]
    rnn_tail: tuple[Argument, ...]
    dropout: Callable[..., CallExpr]
    conv_lstm: bool
    attend: str
    weights: str
    training: Callable[[str], Argument | None]

    def made(self, name: str, *args: Argument | None) -> CallExpr:
        """Returns the constructor of a native layer with parameters."""
        return call(f"{self.module}.{name}", *args, *self.options)

    def why(self, name: str) -> str:
        """Returns the reason for a class or function of our own."""
        return OWN[name].format(m=self.module)


LINEN = Dialect(
    framework="linen",
    title="Flax Linen",
    module="nn",
    file="flax/templates/linen_recurrent.py",
    layers="flax/templates/linen_layers.py",
    cells=LINEN_DEFAULT,
    dense="Dense",
    functional=True,
    param_dtype="self.param_dtype",
    options=(("param_dtype", "self.param_dtype"),),
    rnn_tail=(),
    dropout=lambda rate, *more: call("nn.Dropout", literal(rate), *more),
    conv_lstm=True,
    attend="",
    weights="nn.dot_product_attention_weights",
    training=lambda keyword: (keyword, "not train"),
)

NNX = Dialect(
    framework="nnx",
    title="Flax NNX",
    module="nnx",
    file="flax/templates/nnx_recurrent.py",
    layers="flax/templates/nnx_layers.py",
    cells=NNX_DEFAULT,
    dense="Linear",
    functional=False,
    param_dtype="param_dtype",
    options=(OPTIONS,),
    # without rngs=False the wrappers have a counter that changes at every call
    rnn_tail=(("rngs", "False"),),
    dropout=lambda rate, *more: call("nnx.Dropout", literal(rate), *more, ("rngs", "rngs")),
    conv_lstm=False,
    attend="attend",
    weights="dot_product_attention_weights",
    training=lambda _keyword: None,
)


@dataclass(frozen=True)
class FlaxLayerWriter:
    """Context in which a layer is written.

    Attributes:
        dialect: Linen or NNX.
        parts: source of the module so far.
        site: variables and names.
        shapes: of a sample of each input.
        model: the graph.
        lead: number of axes before a sample's: 2 at every time step, else 1.
    """

    dialect: Dialect
    parts: ModuleSource
    site: NodeVariables
    shapes: tuple[Shape, ...]
    model: Model
    lead: int = 1

    @property
    def calls(self) -> tuple[tuple[Edge, ...], ...]:
        """Inputs of every call of the layer; the first call makes it."""
        return tuple(node.inputs for node in self.model.calls(self.site.node.owner))

    @property
    def x(self) -> str:
        """Variable of the first input."""
        return self.site.x

    @property
    def ranks(self) -> tuple[int, ...]:
        """Number of axes of a sample of each input."""
        return tuple(map(len, self.shapes))

    def axis(self, axis: int) -> int:
        """Returns the axis of a batch for an axis of a sample; the same if counted from the end."""
        return axis if axis < 0 else axis + self.lead

    def set_output(self, value: Argument) -> None:
        """Writes the first output, if something reads it."""
        if self.site.read(0) and value != self.site.y:
            self.parts.forward += assigned(self.site.y, value)

    def assign(self, name: str, value: Argument) -> None:
        """Writes a variable."""
        self.parts.forward += assigned(name, value)

    def set_attribute(self, value: Argument) -> None:
        """Writes the attribute of the layer."""
        self.parts.init += statement(f"self.{self.site.name} = ", value, 8)

    def layer(self, name: str, *args: Argument | None) -> None:
        """Writes the attribute of a native layer with parameters."""
        self.set_attribute(self.dialect.made(name, *args))

    def use_template(self, name: str, *args: Argument | None) -> None:
        """Writes the attribute of a layer of our own, and the reason for it."""
        self.parts.use_template(self.dialect.layers, name)
        self.parts.init.append(f"        # {self.dialect.why(name)}")
        self.set_attribute(call(name, *args, *self.dialect.options))

    def sized(self, size: int) -> str | None:
        """Returns the size of the input, if constructors take it."""
        return None if self.dialect.functional else literal(size)

    def call(self, *args: Argument | None) -> CallExpr:
        """Returns the call of the layer, by default with its input alone."""
        return call(f"self.{self.site.name}", *(args or (self.x,)))

    def part(self, *places: str, of: str = "") -> str:
        """Returns a part of the input, after the axes before a sample's."""
        return f"{self.x}{of}[{', '.join([':'] * self.lead + [*places])}]"

    def activated(self, value: Argument, activation: str) -> Argument:
        """Returns a value after an activation."""
        if activation == "linear":
            return value
        return call(self.function(activation), value)

    def function(self, activation: str) -> str:
        """Returns the expression for an activation; adds its helper to the module."""
        expression, helper = activations.FUNCTIONS[activation]
        if helper:
            self.parts.use_template(activations.CELLS, helper)
        return expression.format(m=self.dialect.module)
