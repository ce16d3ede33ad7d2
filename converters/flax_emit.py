"""What the Linen and NNX emitters share; imports no framework."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xlstm.converters.source import Argument, Call, Parts, call, shape_comment, statement

from xlstm.model import (
    LSTM,
    Activation,
    Dense,
    Dropout,
    Model,
    Node,
    SimpleRNN,
    Spec,
    TimeDistributed,
)

CELLS = "flax_cells.py"

HELPERS = ("linear", "hard_sigmoid_keras2")
"""Activations that Flax has not, and that are copied from our own file."""


@dataclass(frozen=True)
class Dialect:
    """How Linen and NNX write the same thing.

    Attributes:
        module: the module alias, "nn" or "nnx".
        dense: name of the dense layer.
        sized: whether constructors take the input size first.
        param_dtype: expression for the dtype of the parameters inside the constructor.
        tail: arguments every layer with parameters ends with.
        rnn_tail: arguments of the RNN wrapper after its cell.
        dropout: constructor of a dropout layer for a rate.
        drop: call of a dropout layer by its name.
    """

    module: str
    dense: str
    sized: bool
    param_dtype: str
    tail: tuple[Argument, ...]
    rnn_tail: tuple[Argument, ...]
    dropout: Callable[[float], Call]
    drop: Callable[[str], str]


def function(dialect: Dialect, parts: Parts, activation: str) -> str:
    """Expression for an activation; a helper it needs is added to `parts`."""
    if activation in HELPERS:
        parts.need(CELLS, activation)
        return activation
    return f"{dialect.module}.{activation}"


def bare(spec: Spec) -> bool:
    """Whether the native layer alone returns what the layer returns.

    An LSTM is not: its default carry is float32 whatever the input is.
    """
    return isinstance(spec, Dense) and spec.activation == "linear"


def dense(spec: Dense, dialect: Dialect) -> Call:
    """Constructor of a dense layer."""
    return call(
        f"{dialect.module}.{dialect.dense}",
        f"{spec.features}" if dialect.sized else None,
        f"{spec.units}",
        None if spec.use_bias else ("use_bias", "False"),
        ("param_dtype", dialect.param_dtype),
        *dialect.tail,
    )


CELL = {"LSTM": "OptimizedLSTMCell", "SimpleRNN": "SimpleCell"}
"""Kind of layer -> the native cell that computes it."""


def _rnn(spec: LSTM | SimpleRNN, dialect: Dialect, parts: Parts) -> Call:
    activation = function(dialect, parts, spec.activation)
    gate = spec.gate_activation if isinstance(spec, LSTM) else None
    cell = call(
        f"{dialect.module}.{CELL[spec.kind]}",
        f"{spec.features}" if dialect.sized else None,
        f"{spec.units}",
        ("gate_fn", function(dialect, parts, gate)) if gate not in (None, "sigmoid") else None,
        None if spec.activation == "tanh" else ("activation_fn", activation),
        # SimpleCell of NNX computes in float32 unless told otherwise
        ("dtype", dialect.param_dtype) if dialect.sized and gate is None else None,
        ("param_dtype", dialect.param_dtype),
        *dialect.tail,
    )
    return call(f"{dialect.module}.RNN", cell, *dialect.rnn_tail)


def _recurrent(spec: LSTM | SimpleRNN, dialect: Dialect, parts: Parts, name: str) -> None:
    parts.need(CELLS, "zeros")
    parts.init += statement(f"self.{name} = ", _rnn(spec, dialect, parts), 8)
    state = f"zeros(x, {spec.units})"
    carry = f"({state}, {state})" if isinstance(spec, LSTM) else state
    value = call(f"self.{name}", "x", ("initial_carry", carry))
    parts.forward += statement("x = ", value, 8)
    if not spec.return_sequences:
        parts.forward.append("        x = x[:, -1]")


def _dense(spec: Dense, dialect: Dialect, parts: Parts, name: str) -> None:
    parts.init += statement(f"self.{name} = ", dense(spec, dialect), 8)
    value = f"self.{name}(x)"
    if spec.activation != "linear":
        value = f"{function(dialect, parts, spec.activation)}({value})"
    parts.forward.append(f"        x = {value}")


def _time_distributed(spec: TimeDistributed, dialect: Dialect, parts: Parts, name: str) -> None:
    # dense layers and activations work on the last axis, whatever stands before it
    LAYERS[type(spec.layer)](spec.layer, dialect, parts, name)


def _dropout(spec: Dropout, dialect: Dialect, parts: Parts, name: str) -> None:
    parts.init += statement(f"self.{name} = ", dialect.dropout(spec.rate), 8)
    parts.forward.append(f"        x = {dialect.drop(name)}")


def _activation(spec: Activation, dialect: Dialect, parts: Parts, _name: str) -> None:
    if spec.activation != "linear":
        parts.forward.append(f"        x = {function(dialect, parts, spec.activation)}(x)")


LAYERS: dict[type[Spec], Callable[..., None]] = {
    LSTM: _recurrent,
    SimpleRNN: _recurrent,
    Dense: _dense,
    TimeDistributed: _time_distributed,
    Dropout: _dropout,
    Activation: _activation,
}


def emit_node(dialect: Dialect) -> Callable[[Parts, Model, Node, str], None]:
    """An emitter of single layers for `xlstm.converters.source.collect`."""

    def emit(parts: Parts, model: Model, node: Node, name: str) -> None:
        before = len(parts.init)
        LAYERS[type(node.spec)](node.spec, dialect, parts, name)
        if len(parts.init) > before:
            parts.init.insert(before, f"        {shape_comment(model, node)}")

    return emit
