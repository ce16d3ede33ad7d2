"""Specs of the recurrent layers, with their equations.

>>> LSTM(3, 4, return_sequences=True).output_shape((None, 3))
(None, 4)
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, ClassVar

from xlstm.errors import UsageError
from xlstm.ir.layers.base import (
    ActivationName,
    LayerSpec,
    check_last,
    check_rate,
    check_size,
    windows,
)
from xlstm.ir.layers.fields import OneOf
from xlstm.ir.types import Shape

__all__ = ["GRU", "LSTM", "MERGES", "Bidirectional", "ConvLSTM", "Recurrent", "SimpleRNN"]


@dataclass(frozen=True)
class Recurrent(LayerSpec):
    """The base of recurrent layers: they step along axis 1, with a state of `units` numbers.

    Outputs: the sequence (B, T, H) or its last step (B, H); with `return_state` then each state.
    A node of it may have a mask edge (B, T): a masked step keeps the states and repeats the last
    output (zeros if there is none yet), or returns zeros with `zero_output_for_mask`.

    Attributes:
        features: size of the input.
        units: size of the output and of each state.
        activation: of the candidate (and of an LSTM's cell state).
        use_bias: True for a layer with a bias.
        return_sequences: True if every step's output is returned, False for the last one's only.
        return_state: True if the last states are outputs as well.
        go_backwards: the input is read from its end; the output stays in that order.
        stateful: the states outlive the call: an input and an output of the whole model.
        zero_output_for_mask: True if the output of a masked step is zeros.
        dropout: acts in training only.
        recurrent_dropout: acts in training only.
    """

    features: int
    units: int
    activation: ActivationName = "tanh"
    _: KW_ONLY
    use_bias: bool = True
    return_sequences: bool = False
    return_state: bool = False
    go_backwards: bool = False
    stateful: bool = False
    zero_output_for_mask: bool = False
    dropout: float = 0.0
    recurrent_dropout: float = 0.0

    states: ClassVar[int] = 1

    def check(self) -> None:
        check_size(self.kind, features=self.features, units=self.units)
        check_rate(self.kind, self.dropout, self.recurrent_dropout)

    def sizes(self) -> dict[str, int]:
        return {"i": self.features, "j": self.units, "h": self.units}

    @property
    def width(self) -> int:
        """Size of the output."""
        return self.units

    def mask_shape(self, x: Shape) -> Shape | None:
        return x[:1]

    def state_shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample of each state: h first, an LSTM's c after it."""
        return ((self.width,), (self.units,))[: self.states]

    def output_shape(self, shape: Shape) -> Shape:
        check_last(self, shape, 2, self.features)
        return (*shape[:-1], self.width) if self.return_sequences else (self.width,)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        states = self.state_shapes() if self.return_state else ()
        return (self.output_shape(shapes[0]), *states)


@dataclass(frozen=True)
class LSTM(Recurrent):
    """Long short-term memory (Hochreiter & Schmidhuber 1997, forget gate of Gers et al. 2000).

    With x_t the input, h and c the states (zero at the start), `*` elementwise:

        i, f, o = gate_activation(x_t W + h U + b)   one W, U, b for each
        g       = activation(x_t W_g + h U_g + b_g)
        c       = f * c + i * g
        h       = o * activation(c)

    `projection` p > 0 makes h smaller: h = (o * activation(c)) P with P (units, p), as in
    `torch.nn.LSTM(proj_size=p)` (Sak et al. 2014). With `peepholes` the gates read c (Gers &
    Schmidhuber 2000): i and f the c before the step, o the c after it, each times a vector.
    """

    kind: ClassVar[str] = "LSTM"
    gate_activation: ActivationName = "sigmoid"
    _: KW_ONLY
    projection: int = 0
    peepholes: bool = False

    states: ClassVar[int] = 2

    def check(self) -> None:
        super().check()
        if self.projection:
            check_size("LSTM", projection=self.projection)
        if self.projection >= self.units:
            want = f"a projection smaller than the {self.units} units"
            raise UsageError("LSTM", want, f"{self.projection}", "use a smaller one, or 0 for none")

    @property
    def weight_kind(self) -> str:
        names = (["projection"] if self.projection else []) + ["peepholes"] * self.peepholes
        return "LSTM" + (f" with {' and '.join(names)}" if names else "")

    @property
    def width(self) -> int:
        return self.projection or self.units

    def sizes(self) -> dict[str, int]:
        return {"i": self.features, "j": self.width, "h": self.units}


@dataclass(frozen=True)
class GRU(Recurrent):
    """Gated recurrent unit (Cho et al. 2014), in both forms.

        r, z = gate_activation(x_t W + b + h U + c)   one W, U, b, c for each
        n    = activation(x_t W_n + b_n + r * (h U_n + c_n))   reset_after (cuDNN, PyTorch, Flax)
        n    = activation(x_t W_n + b_n + (r * h) U_n)         not reset_after (the paper, Keras 1)
        h    = (1 - z) * n + z * h

    `hidden_bias` is False for a layer without c_n, as Flax NNX's GRUCell: no other bias can replace
    c_n. Without `reset_after` it has no meaning.
    """

    kind: ClassVar[str] = "GRU"
    gate_activation: ActivationName = "sigmoid"
    _: KW_ONLY
    reset_after: bool = True
    hidden_bias: bool = True

    @property
    def weight_kind(self) -> str:
        if not self.reset_after:
            return "GRU, reset_after=False"
        return "GRU" if self.use_bias and self.hidden_bias else "GRU without hidden bias"


@dataclass(frozen=True)
class SimpleRNN(Recurrent):
    """The plain recurrent layer of Elman (1990): h = activation(x_t W + h U + b)."""

    kind: ClassVar[str] = "SimpleRNN"


@dataclass(frozen=True)
class ConvLSTM(Recurrent):
    """An LSTM whose products are convolutions over 1, 2 or 3 axes (Shi et al. 2015).

    Inputs (B, T, *space, features), channels last; the states are (B, *space', units). The input's
    convolution has `strides`, `padding` ("valid" or "same") and `dilation`; the state's has stride
    1 and "same" padding. `forget_offset` is added to the forget gate before its activation (Flax
    Linen's ConvLSTMCell adds 1).

    Attributes:
        space: size of every axis of one step of the input, None for any.
        window: size of the kernels.
    """

    kind: ClassVar[str] = "ConvLSTM"
    gate_activation: ActivationName = "sigmoid"
    _: KW_ONLY
    space: Shape = ()
    window: Shape = ()
    strides: Shape = ()
    padding: Annotated[str, OneOf(("valid", "same"))] = "valid"
    dilation: Shape = ()
    forget_offset: float = 0.0

    states: ClassVar[int] = 2

    def check(self) -> None:
        super().check()
        rank = len(self.space)
        for name in ("window", "strides", "dilation"):
            sizes = getattr(self, name)
            if len(sizes) != rank or not 1 <= rank <= 3 or None in sizes:
                want = f"{name} of as many sizes as the {rank} axes of the input (1 to 3)"
                raise UsageError("ConvLSTM", want, f"{sizes}", "pass one size per axis")
            check_size("ConvLSTM", **{f"{name}[{n}]": size for n, size in enumerate(sizes)})
        if any(size is not None and size < 1 for size in self.state_space):
            want = "an input as large as the window"
            raise UsageError("ConvLSTM", want, f"{self.space}", "shrink the window")

    @property
    def weight_kind(self) -> str:
        return f"ConvLSTM{len(self.space)}D"

    @property
    def state_space(self) -> Shape:
        """Size of every axis of a state."""
        axes = zip(self.space, self.window, self.strides, self.dilation, strict=True)
        return tuple(windows(n, w or 1, s or 1, d or 1, self.padding) for n, w, s, d in axes)

    def sizes(self) -> dict[str, int]:
        windows = {axis: size or 1 for axis, size in zip("abc", self.window, strict=False)}
        return {**super().sizes(), **windows}

    def state_shapes(self) -> tuple[Shape, ...]:
        return ((*self.state_space, self.units),) * 2

    def output_shape(self, shape: Shape) -> Shape:
        check_last(self, shape, len(self.space) + 2, self.features)
        if len(shape) != len(self.space) + 2 or shape[1:-1] != self.space:
            want = f"an input (batch, time, {str((*self.space, self.features))[1:]}"
            raise UsageError(self.kind, want, f"(batch, {str(shape)[1:]}", "reshape its input")
        steps = (shape[0],) if self.return_sequences else ()
        return (*steps, *self.state_space, self.units)


MERGES = ("concat", "sum", "mul", "ave", "none")
"""Ways in which Bidirectional joins its halves; "none" returns two outputs."""


@dataclass(frozen=True)
class Bidirectional(LayerSpec):
    """Two recurrent layers over the same input; the output of the second is reversed in time.

    The halves may differ, but one reads forwards and the other backwards, and both return
    sequences or neither. With `return_state` the halves' states follow, the forward half's first.
    """

    kind: ClassVar[str] = "Bidirectional"
    forward: Recurrent
    backward: Recurrent
    merge: Annotated[str, OneOf(MERGES)] = "concat"

    def check(self) -> None:
        where, do = "Bidirectional", "change one of the halves"
        a, b = self.forward, self.backward
        if a.go_backwards == b.go_backwards:
            got = f"go_backwards={a.go_backwards} in both"
            raise UsageError(where, "one half that goes backwards", got, do)
        alike = ("features", "return_sequences", "return_state", "stateful")
        for option in alike:
            if getattr(a, option) != getattr(b, option):
                got = f"{getattr(a, option)} and {getattr(b, option)}"
                raise UsageError(where, f"halves of one {option}", got, do)
        if self.merge not in ("concat", "none") and a.width != b.width:
            want = f"halves of one width to {self.merge}"
            raise UsageError(where, want, f"{a.width} and {b.width}", do)

    @property
    def halves(self) -> tuple[Recurrent, Recurrent]:
        """The forward and the backward layer."""
        return self.forward, self.backward

    @property
    def weighted_parts(self) -> tuple[tuple[str, LayerSpec], ...]:
        return (("forward_", self.forward), ("backward_", self.backward))

    @property
    def stateful(self) -> bool:
        """True if the states outlive the call."""
        return self.forward.stateful

    @property
    def return_sequences(self) -> bool:
        """True if every step's output is returned."""
        return self.forward.return_sequences

    def mask_shape(self, x: Shape) -> Shape | None:
        return x[:1]

    def state_shapes(self) -> tuple[Shape, ...]:
        """Shape of one sample of each state, the forward half's first."""
        return (*self.forward.state_shapes(), *self.backward.state_shapes())

    def output_shape(self, shape: Shape) -> Shape:
        *before, a = self.forward.output_shape(shape)
        *_, b = self.backward.output_shape(shape)
        width = a + b if self.merge == "concat" and a and b else a
        return (*before, width)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        second = (self.backward.output_shape(shapes[0]),) if self.merge == "none" else ()
        states = self.state_shapes() if self.forward.return_state else ()
        return (self.output_shape(shapes[0]), *second, *states)
