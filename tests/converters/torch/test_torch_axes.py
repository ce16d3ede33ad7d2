"""Channels of emitted PyTorch stay first between layers that want them so, and nowhere else."""

import numpy as np
import pytest
from cases import built, model

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import (
    LSTM,
    Activation,
    BatchNorm,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Flatten,
    GlobalPool,
    Input,
    LayerNorm,
    Merge,
    Permute,
    Pool,
    Relu,
    TimeDistributed,
    TrainingOnly,
)


def conv(features, units, window, **options):
    ones = (1,) * len(window)
    return Conv(features, units, window, strides=ones, dilation=ones, **options)


SAME = {"padding": "same", "activation": "relu"}
TURN, BACK = Permute((2, 3, 1)), Permute((3, 1, 2))
FLAT = (conv(2, 4, (3,)), conv(4, 3, (2,)))
FRAMES = (
    conv(2, 4, (3, 3), **SAME),
    Pool("max", (2, 2), (2, 2), "same"),
    BatchNorm(4),
    Dropout(0.5),
    conv(4, 3, (2, 2)),
    GlobalPool("average"),
)
CHAINS = {
    "conv, pool, LSTM": ([FLAT[0], Pool("max", (2,), (2,)), LSTM(4, 3)], (9, 2), 2),
    "norms": ([FLAT[0], BatchNorm(4), LayerNorm(4, groups=2), FLAT[1]], (None, 2), 2),
    "number by number": ([FLAT[0], Relu(top=6.0), Dropout(0.5), FLAT[1]], (8, 2), 2),
    "dropped channels": ([FLAT[0], TrainingOnly("SpatialDropout1D", 0.5), FLAT[1]], (8, 2), 2),
    "nothing after": ([FLAT[0], Activation("tanh")], (8, 2), 2),
    "softmax within": ([conv(2, 4, (3,), activation="softmax"), FLAT[1]], (8, 2), 4),
    "softmax between": ([FLAT[0], Activation("softmax"), FLAT[1]], (8, 2), 4),
    "a mean at the end": ([FLAT[0], FLAT[1], GlobalPool("average")], (8, 2), 1),
    "a mean that keeps its axes": ([FLAT[0], GlobalPool("max", keep=True)], (8, 2), 2),
    "flat, channels last": ([FLAT[0], FLAT[1], Flatten()], (8, 2), 2),
    "channels first": (
        [TURN, conv(3, 4, (2, 2)), BACK, Relu(), TURN, Pool("max", (2, 2), (2, 2)), BACK],
        (3, 7, 6),
        0,
    ),
    "two axes that change places": ([FLAT[0], Permute((2, 1)), conv(7, 3, (2,))], (9, 2), 3),
    "at every step": ([TimeDistributed(layer) for layer in FLAT], (3, 8, 2), 2),
    "at every step, with others": ([*map(TimeDistributed, FRAMES), LSTM(3, 2)], (None, 8, 6, 2), 1),
    "at every step, flat": (
        [*map(TimeDistributed, (*FRAMES[:2], Flatten(), Dense(48, 3))), LSTM(3, 2)],
        (3, 8, 6, 2),
        2,
    ),
    "at every step, an own order": (
        [*map(TimeDistributed, (TURN, *FRAMES[:1], BACK, Relu(), TURN, FRAMES[1], BACK))],
        (3, 2, 8, 6),
        0,
    ),
    "at every step, softmax within": (
        [TimeDistributed(conv(2, 4, (3,), activation="softmax")), TimeDistributed(FLAT[1])],
        (3, 8, 2),
        4,
    ),
    "moves alone at every step": ([*map(TimeDistributed, (TURN, Flatten()))], (3, 2, 8, 6), 1),
    "alone at every step": ([TimeDistributed(FLAT[0])], (3, 8, 2), 2),
}
"""Layers, shape of a sample, and how many moves of axes the text has."""


def moves(source):
    text = registry.adapter("torch").emit(source).split("class Model(")[1]
    return sum(text.count(f".{name}(") for name in ("transpose", "movedim", "permute"))


def proven(source, wanted):
    xlstm.reconcile(source, ["torch"]).check()
    assert moves(source) == wanted


@pytest.mark.parametrize("name", CHAINS)
def test_chains(name):
    specs, shape, wanted = CHAINS[name]
    proven(model(specs, shape), wanted)


def graph_of(*ends):
    """A convolution whose output goes to several readers."""
    graph = Builder()
    x = graph.add("conv", conv(2, 4, (3,), **SAME), [graph.add("x", Input((8, 2)))])
    return built(graph, [end(graph, x) for end in ends])


def second(graph, x):
    return graph.add("second", conv(4, 3, (3,), **SAME), [x])


def pooled(graph, x):
    return graph.add("pool", GlobalPool("max"), [x])


def read(graph, x):
    return graph.add("lstm", LSTM(4, 3), [x])


def residual(graph, x):
    y = graph.add("second", conv(4, 4, (3,), **SAME), [x])
    return graph.add("add", Merge("add"), [x, y])


def joined(graph, x):
    y = graph.add("second", conv(4, 4, (3,), **SAME), [x])
    y = graph.add("join", Concatenate(), [y, x])
    return graph.add("third", conv(8, 2, (3,)), [y])


GRAPHS = {
    "readers that agree": ((second, pooled), 2),
    "readers that do not": ((second, read), 4),
    "an output": ((second, lambda graph, x: x), 4),
    "a sum": ((residual,), 4),
    "joined": ((joined,), 6),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graphs(name):
    ends, wanted = GRAPHS[name]
    proven(graph_of(*ends), wanted)


def test_comments_give_the_shapes_as_they_are():
    text = registry.adapter("torch").emit(model([*FLAT, LSTM(3, 2)], (8, 2)))
    comments = [line.strip() for line in text.splitlines() if line.strip().startswith("# (batch")]
    assert comments == [
        "# (batch, 2, 8) -> (batch, 4, 6)",
        "# (batch, 4, 6) -> (batch, 3, 5)",
        "# (batch, 5, 3) -> (batch, 2)",
    ]


def test_a_convolution_that_is_called_twice():
    graph = Builder()
    x = graph.add("x", Input((8, 2)))
    once = graph.add("conv", conv(2, 2, (3,)), [x])
    twice = graph.add("again", conv(2, 2, (3,)), [once], layer="conv")
    source = built(graph, [twice, graph.add("pool", Pool("max", (2,), (2,)), [once])])
    proven(source, 3)
    x = np.random.default_rng(0).normal(size=(2, 8, 2)).astype(np.float32)
    assert [y.shape for y in xlstm.port(source, "numpy")(x)] == [(2, 4, 2), (2, 3, 2)]
    assert source.shape(Edge("again")) == (4, 2)


def at_every_step():
    """Two readers of what is laid end to end, one of which wants it so; a batch norm beside."""
    graph = Builder()
    x, y = graph.add("x", Input((None, 8, 2))), graph.add("y", Input((None, 7, 2)))
    layers = {"a": x, "b": y}
    for name, edge in layers.items():
        first = graph.add(f"{name}_conv", TimeDistributed(FLAT[0]), [edge])
        edge = graph.add(f"{name}_relu", Activation("relu"), [first])
        layers[name] = graph.add(f"{name}_second", TimeDistributed(FLAT[1]), [edge])
    seen = graph.add("seen", TimeDistributed(BatchNorm(2)), [x])
    again = graph.add("again", TimeDistributed(BatchNorm(2)), [y], layer="seen")
    pools = [
        graph.add(f"{name}_pool", TimeDistributed(GlobalPool("max")), [edge])
        for name, edge in layers.items()
    ]
    return built(graph, [*pools, layers["b"], seen, again])


def test_steps_are_laid_end_to_end_once():
    source = at_every_step()
    xlstm.reconcile(source, ["torch"]).check()
    text = registry.adapter("torch").emit(source).split("class Model(")[1]
    assert (text.count(".flatten(0, 1)"), text.count(".unflatten(0, ")) == (2, 2)
    assert "steps_shape_2 = " in text
    frames = model([*map(TimeDistributed, FRAMES), LSTM(3, 2)], (None, 8, 6, 2))
    text = registry.adapter("torch").emit(frames)
    assert (text.count(".flatten(0, 1)"), text.count(".unflatten(0, ")) == (1, 1)
    assert "# (batch * time, 4, 4, 3) -> (batch * time, 3, 3, 2)" in text


def test_gradients_of_steps_that_are_laid_end_to_end():
    frames = model([*map(TimeDistributed, FRAMES), LSTM(3, 2)], (3, 8, 6, 2))
    xlstm.reconcile(frames, ["torch"], gradients=True).check()
