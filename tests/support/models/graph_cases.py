"""Graphs in which masks, states, halves and shared layers meet in the ways that frameworks mind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cases import built, model

from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Dropout,
    Input,
    Masking,
    Recurrent,
    Reverse,
    SimpleRNN,
    TimeDistributed,
)
from xlstm.verification.inputs import BATCH

SEQUENCE: dict[str, Any] = {"return_sequences": True}
OLD = "hard_sigmoid_keras2"


def graph(wire: Callable[[Builder], Edge | list[Edge]]) -> Model:
    """A graph with random weights."""
    builder = Builder()
    outputs = wire(builder)
    return built(builder, outputs if isinstance(outputs, list) else [outputs])


def masked_with_states(b: Builder) -> Edge:
    """Keras hands a mask on by itself only where there are no states."""
    x, h, c = b.add("x", Input((None, 3))), b.add("h", Input((5,))), b.add("c", Input((5,)))
    x, mask = b.add("masking", Masking(), [x]), Edge("masking", 1)
    x = b.add("layer", LSTM(3, 5, **SEQUENCE), [x], mask=mask, states=[h, c])
    return b.add("next", LSTM(5, 2), [x], mask=mask)


def mask_not_obeyed(b: Builder) -> Edge:
    """A recurrent layer that does not see the mask that its input has."""
    x = b.add("masking", Masking(), [b.add("x", Input((None, 3)))])
    x = b.add("dense", Dense(3, 4, "relu"), [x])
    x = b.add("first", LSTM(4, 5, **SEQUENCE), [x])
    return b.add("second", GRU(5, 2), [x])


def mask_now_and_then(b: Builder) -> Edge:
    """A mask that some of the layers in a row obey."""
    x, keep = b.add("x", Input((None, 3))), b.add("keep", Input((None,), "bool"))
    x = b.add("a", LSTM(3, 5, **SEQUENCE), [x], mask=keep)
    x = b.add("dropout", Dropout(0.2), [x])
    x = b.add("b", GRU(5, 4, **SEQUENCE), [x], mask=keep)
    x = b.add("c", SimpleRNN(4, 4, **SEQUENCE), [x])
    return b.add("d", SimpleRNN(4, 4, **SEQUENCE), [x], mask=keep)


def mask_returned(b: Builder) -> list[Edge]:
    """The mask is an output."""
    x = b.add("masking", Masking(1.0), [b.add("x", Input((None, 3)))])
    return [b.add("a", LSTM(3, 5), [x], mask=Edge("masking", 1)), Edge("masking", 1)]


def two_masks(b: Builder) -> list[Edge]:
    """Encoder and decoder with a mask each, and a layer with the other one's."""
    x, y = b.add("x", Input((None, 3))), b.add("y", Input((None, 3)))
    x, y = b.add("m1", Masking(), [x]), b.add("m2", Masking(2.0), [y])
    encoder = b.add("encoder", LSTM(3, 4, return_state=True), [x], mask=Edge("m1", 1))
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    y = b.add("decoder", LSTM(3, 4, **SEQUENCE), [y], mask=Edge("m2", 1), states=states)
    return [b.add("last", GRU(4, 4, **SEQUENCE), [y], mask=Edge("m1", 1)), encoder]


def turned(b: Builder) -> Edge:
    """A sequence turned round, whose mask is not."""
    x = b.add("masking", Masking(), [b.add("x", Input((None, 3)))])
    x = b.add("reverse", Reverse(), [x])
    x = b.add("a", GRU(3, 5, **SEQUENCE), [x], mask=Edge("masking", 1))
    return b.add("each", TimeDistributed(Dense(5, 2)), [x])


def unmerged(b: Builder) -> list[Edge]:
    """What follows two halves that were not merged: neither sees their mask."""
    x = b.add("masking", Masking(), [b.add("x", Input((None, 3)))])
    second = SimpleRNN(3, 4, go_backwards=True, **SEQUENCE)
    spec = Bidirectional(LSTM(3, 5, **SEQUENCE), second, "none")
    b.add("both", spec, [x], mask=Edge("masking", 1))
    inputs = [Edge("both", 0), Edge("both", 1)]
    return [b.add("a", GRU(5, 2), inputs[:1]), b.add("b", GRU(4, 2), inputs[1:])]


def called_twice(b: Builder) -> list[Edge]:
    """Shared layers, with a mask at one of their places."""
    both = Bidirectional(LSTM(4, 3, **SEQUENCE), SimpleRNN(4, 2, go_backwards=True, **SEQUENCE))
    x, y = b.add("x", Input((None, 3))), b.add("y", Input((None, 3)))
    keep = b.add("keep", Input((None,), "bool"))
    x, y = (
        b.add("a", LSTM(3, 4, **SEQUENCE), [x]),
        b.add("a2", LSTM(3, 4, **SEQUENCE), [y], mask=keep, layer="a"),
    )
    x, y = b.add("bi", both, [x]), b.add("bi2", both, [y], layer="bi")
    dense = Dense(5, 2)
    return [b.add("dense", dense, [x]), b.add("dense2", dense, [y], layer="dense")]


def stateful_branches(b: Builder) -> list[Edge]:
    """Two branches of unlike depth with stateful layers, the shorter one first."""
    x = b.add("x", Input((None, 3), batch=BATCH))
    short = b.add("short", LSTM(3, 2, stateful=True), [x])
    x = b.add("long", GRU(3, 4, stateful=True, **SEQUENCE), [x])
    x = b.add("between", Dense(4, 4), [x])
    return [b.add("longer", SimpleRNN(4, 3, stateful=True), [x]), short]


def halves(
    second: Recurrent, merge: str = "concat", *more: str, zeros: bool = False, **options: Any
) -> Model:
    """An LSTM and another layer as halves; `more`: "mask", "states", "dense" after it."""
    first = LSTM(3, 5, zero_output_for_mask=zeros, **options)
    spec = Bidirectional(first, second, merge)

    def wire(b: Builder) -> list[Edge]:
        x = b.add("x", Input((None, 3), batch=BATCH if spec.stateful else None))
        x = b.add("masking", Masking(), [x]) if "mask" in more else x
        shapes = spec.state_shapes() if "states" in more else ()
        starts = [b.add(f"start_{n}", Input(shape)) for n, shape in enumerate(shapes)]
        mask = Edge("masking", 1) if "mask" in more else None
        b.add("both", spec, [x], mask=mask, states=starts)
        found = b.nodes[-1].shapes
        outputs = [Edge("both", n) for n in range(len(found))]
        if "dense" in more:
            outputs[0] = b.add("dense", Dense(found[0][-1] or 0, 2), outputs[:1])
        return outputs

    return graph(wire)


def unlike(merge: str, *more: str, units: int = 4, **options: Any) -> Model:
    """An LSTM of 5 units and a SimpleRNN as halves."""
    zeros = options.pop("zeros", False)
    options = {**SEQUENCE, **options}
    second = SimpleRNN(3, units, go_backwards=True, **options)
    return halves(second, merge, *more, zeros=zeros, **options)


def mirrored(forward: Recurrent, merge: str = "concat") -> Model:
    """A layer and its mirror image as halves."""
    return model([Bidirectional(forward, replace(forward, go_backwards=True), merge)], (None, 3))


MERGES = ("concat", "sum", "mul", "ave", "none")

GRAPHS: dict[str, Model] = {
    "masked-states": graph(masked_with_states),
    "mask-not_obeyed": graph(mask_not_obeyed),
    "mask-now_and_then": graph(mask_now_and_then),
    "mask-returned": graph(mask_returned),
    "mask-two": graph(two_masks),
    "mask-turned": graph(turned),
    "mask-fraction": model([Masking(0.1), LSTM(3, 4)], (None, 3)),
    "mask-time_distributed": model(
        [Masking(), TimeDistributed(Dense(3, 4, "tanh")), Activation("relu"), LSTM(4, 2)],
        (None, 3),
    ),
    "reverse": model([Reverse(), GRU(3, 5)], (None, 3)),
    "mask-unmerged": graph(unmerged),
    "shared": graph(called_twice),
    "stateful-branches": graph(stateful_branches),
    "unlike-end": unlike("concat"),
    "unlike-dense": unlike("concat", "dense"),
    "unlike-last-dense": unlike("concat", "dense", return_sequences=False),
    "unlike-none-dense": unlike("none", "dense"),
    "unlike-states": unlike("concat", "states"),
    "unlike-returned": unlike("concat", return_state=True),
    "unlike-stateful": unlike("concat", stateful=True),
    "unlike-stateful-dense": unlike("concat", "dense", stateful=True),
    **{f"unlike-masked-{merge}": unlike(merge, "mask", units=5) for merge in MERGES},
    **{
        f"unlike-returned-{merge}": unlike(merge, "states", units=5, return_state=True)
        for merge in MERGES
    },
    "zeros-one_half": unlike("concat", "mask", zeros=True),
    "zeros-last": unlike("concat", "mask", zeros=True, return_sequences=False),
    "stateful-returned": halves(
        LSTM(3, 5, go_backwards=True, stateful=True, return_state=True),
        stateful=True,
        return_state=True,
    ),
    "swapped": model(
        [Bidirectional(GRU(3, 4, go_backwards=True, **SEQUENCE), GRU(3, 4, **SEQUENCE))],
        (None, 3),
    ),
    "old-lstm": mirrored(LSTM(3, 4, "tanh", OLD, **SEQUENCE)),
    "old-gru": mirrored(GRU(3, 4, "tanh", OLD, **SEQUENCE), "ave"),
    "old-simple_rnn": mirrored(SimpleRNN(3, 4, OLD, **SEQUENCE)),
    "gelu_tanh": mirrored(GRU(3, 4, "gelu_tanh", "sigmoid", **SEQUENCE), "sum"),
    "no_bias-gru": model([GRU(3, 4, use_bias=False)], (None, 3)),
    "no_bias-gru_before": model([GRU(3, 4, use_bias=False, reset_after=False)], (None, 3)),
    "dropout": model(
        [
            LSTM(3, 4, dropout=0.2, recurrent_dropout=0.3, **SEQUENCE),
            Bidirectional(GRU(4, 3, dropout=0.2), GRU(4, 3, dropout=0.2, go_backwards=True)),
        ],
        (None, 3),
    ),
    "time_distributed-lstm": model(
        [TimeDistributed(LSTM(3, 4, **SEQUENCE)), TimeDistributed(Dense(4, 2))], (None, None, 3)
    ),
    "fixed_steps-masked": model([Masking(), LSTM(3, 4, **SEQUENCE), GRU(4, 3)], (9, 3)),
}
"""Readable id -> model."""
