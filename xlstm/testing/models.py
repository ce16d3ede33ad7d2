"""Builds small models with random weights of the size of trained ones, biases included.

In: specs of layers, shapes, and how they are connected. Out: a `Model`. A bias of zero hides a
mistake in its place, and kernels near zero hide all others.

>>> from xlstm.model import LSTM
>>> chained([LSTM(3, 5)], (None, 3)).weights["lstm_0"]["kernel"].shape
(4, 3, 5)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xlstm.ir.graph import Builder, Edge, Model, chain
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Attention,
    BatchNorm,
    Bidirectional,
    Concatenate,
    Conv,
    Dense,
    Elu,
    Embedding,
    Flatten,
    Input,
    LayerSpec,
    Masking,
    Merge,
    MultiHeadAttention,
    Relu,
    TimeDistributed,
)
from xlstm.ir.source import Source
from xlstm.ir.types import Shape
from xlstm.testing.trained_weights import trained_weights
from xlstm.verification.inputs import BATCH


def chained(
    specs: list[LayerSpec], shape: Shape, *, gain: float = 1.0, seed: int = 7, lone: bool = False
) -> Model:
    """Returns a chain of layers with random weights; its steps may have any number."""
    rng = np.random.default_rng(seed)
    names = [f"{spec.kind.lower()}_{number}" for number, spec in enumerate(specs)]
    weights = {
        n: w for n, s in zip(names, specs, strict=True) if (w := trained_weights(s, rng, gain))
    }
    layers = [(name, spec, True) for name, spec in zip(names, specs, strict=True)]
    batch = BATCH if any(getattr(spec, "stateful", False) for spec in specs) else None
    return chain("case", layers, shape, weights, Source("case"), lone=lone, batch=batch)


def built(graph: Builder, outputs: list[Edge], seed: int = 7) -> Model:
    """A graph with random weights."""
    rng = np.random.default_rng(seed)
    owners = [node for node in graph.nodes if not node.layer]
    weights = {n.name: w for n in owners if (w := trained_weights(n.spec, rng))}
    inputs = tuple(node.name for node in graph.nodes if isinstance(node.spec, Input))
    return Model("case", graph.nodes, inputs, tuple(outputs), weights, Source("case"))


def masked(spec: LayerSpec, value: float = 0.0) -> Model:
    """A Masking layer and a recurrent one."""
    return chained([Masking(value), spec], (None, 3))


def explicit_mask(spec: LayerSpec) -> Model:
    """A recurrent layer with a mask of its own input."""
    graph = Builder()
    x, mask = graph.add("x", Input((None, 3))), graph.add("keep", Input((None,), "bool"))
    return built(graph, [graph.add("layer", spec, [x], mask=mask)])


def with_states(spec: LayerSpec) -> Model:
    """A recurrent layer whose states are inputs, and whose states are outputs."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    shapes = spec.state_shapes()
    starts = [graph.add(f"start_{n}", Input(shape)) for n, shape in enumerate(shapes)]
    graph.add("layer", spec, [x], states=starts)
    return built(graph, [Edge("layer", n) for n in range(len(graph.nodes[-1].shapes))])


def encoder_decoder() -> Model:
    """A decoder whose states start where the encoder's end."""
    graph = Builder()
    x, y = graph.add("source", Input((None, 3))), graph.add("target", Input((None, 2)))
    graph.add("encoder", LSTM(3, 4, return_state=True), [x])
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    decoded = graph.add("decoder", LSTM(2, 4, return_sequences=True), [y], states=states)
    return built(graph, [graph.add("dense", Dense(4, 2, "softmax"), [decoded])])


def one(spec: LayerSpec, *shape: int | None) -> Model:
    """One layer."""
    return chained([spec], shape)


def mask_given(spec: LayerSpec, shape: Shape, mask: Shape) -> Model:
    """A layer whose mask is an input."""
    graph = Builder()
    x, keep = graph.add("x", Input(shape)), graph.add("keep", Input(mask, "bool"))
    return built(graph, [graph.add("layer", spec, [x], mask=keep)])


def sliding(kind: Any, *sizes: Any, **options: Any) -> Any:
    """A Conv or DepthwiseConv; strides and dilation are 1 unless told otherwise."""
    ones = (1,) * len(sizes[2])
    return kind(*sizes, **{"strides": ones, "dilation": ones, **options})


def joined(spec: LayerSpec, *shapes: Shape, masks: int = 0) -> Model:
    """A layer of several inputs, the last `masks` of which are masks."""
    graph = Builder()
    first = len(shapes) - masks
    kinds = ["float32" if n < first else "bool" for n in range(len(shapes))]
    pairs = enumerate(zip(shapes, kinds, strict=True))
    edges = [graph.add(f"input_{n}", Input(*pair)) for n, pair in pairs]
    graph.add("layer", spec, edges)
    return built(graph, [Edge("layer", n) for n in range(len(graph.node("layer").shapes))])


def ids_masked() -> Model:
    """Words, whose zeros mask a Bidirectional layer."""
    graph = Builder()
    x = graph.add("words", Input((None,), "int32"))
    x = graph.add("embedding", Embedding(9, 4, mask_zero=True), [x])
    half: dict[str, Any] = {"return_sequences": True}
    both = Bidirectional(LSTM(4, 3, **half), GRU(4, 3, go_backwards=True, **half))
    y = graph.add("both", both, [x], mask=Edge("embedding", 1))
    return built(graph, [graph.add("dense", Dense(6, 2), [y]), Edge("embedding", 1)])


def shared() -> Model:
    """Two inputs through the same embedding and the same LSTM, one of them masked."""
    graph = Builder()
    a, b = (graph.add(name, Input((None,), "int32")) for name in ("left", "right"))
    spec, lstm = Embedding(9, 4, mask_zero=True), LSTM(4, 3)
    first = graph.add("words", spec, [a])
    second = graph.add("words_again", spec, [b], layer="words")
    y = graph.add("reader", lstm, [first])
    z = graph.add("reader_again", lstm, [second], mask=Edge("words_again", 1), layer="reader")
    both = graph.add("both", Concatenate(), [y, z])
    norm = graph.add("norm", BatchNorm(6), [both])
    dense = Dense(6, 6, "tanh")
    x = graph.add("dense", dense, [norm])
    x = graph.add("dense_again", dense, [x], layer="dense")
    return built(graph, [x, both])


def residual() -> Model:
    """A convolutional branch beside a recurrent one, and a sum of many."""
    graph = Builder()
    x = graph.add("x", Input((8, 3)))
    conv = sliding(Conv, 3, 3, (3,), "relu", padding="causal")
    a = graph.add("conv", conv, [x])
    b = graph.add("gru", GRU(3, 3, return_sequences=True), [x])
    c = graph.add("a_layer_with_a_long_name_indeed", Relu(), [b])
    d = graph.add("another_layer_with_a_long_name", Elu(), [a])
    summed = graph.add("sum", Merge("add"), [x, a, b, c, d])
    mean = graph.add("mean", Merge("average"), [summed, c, d, a])
    flat = graph.add("flat", Flatten(), [mean])
    return built(graph, [graph.add("dense", Dense(24, 2), [flat]), summed])


def timed(spec: LayerSpec, *shape: int | None) -> Model:
    """A layer at every time step."""
    return one(TimeDistributed(spec), *shape)


def heads(masks: str = "", key: bool = False, **options: Any) -> Model:
    """Two heads; a key has features of its own."""
    key_dim, units = options.pop("key_dim", 4), 5
    value_dim = options.pop("value_dim", key_dim)
    spec = MultiHeadAttention(
        2, key_dim, value_dim, 5, 6 if key else 4, 4, units, masks=masks, **options
    )
    shapes: tuple[Shape, ...] = ((4, 5), (7, 4), (7, 6)) if key else ((4, 5), (7, 4))
    sizes = {"q": (4,), "v": (7,), "k": (7,)}
    return joined(spec, *shapes, *(sizes[mask] for mask in masks), masks=len(masks))


def attention(score: str, scaled: bool, masks: str, key: bool, *more: bool) -> Model:
    """Attention over seven values."""
    shapes: tuple[Shape, ...] = ((4, 3), (7, 2), (7, 3)) if key else ((4, 3), (7, 3))
    sizes = {"q": (4,), "v": (7,)}
    spec = Attention(3, score, scaled, masks, more[0], 0.0, *more[1:])
    return joined(spec, *shapes, *(sizes[mask] for mask in masks), masks=len(masks))
