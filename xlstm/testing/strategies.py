"""Strategies of hypothesis: layer specs, models, weights, masks and inputs.

    @given(strategies.models())
    def test_my_exporter(model):
        xlstm.testing.assert_parity(model, my_exporter(model))

In: options of each function. Out: a strategy. Arrays are drawn as one seed each, so that a failing
example shrinks to few layers and small sizes in seconds. All weights are of trained size.

`pip install xlstm-converter[testing]` installs hypothesis. Only this module imports it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from hypothesis import strategies as st

from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.source import Source
from xlstm.ir.types import Array
from xlstm.testing.trained_weights import trained_weights
from xlstm.verification.inputs import MASKS, SEEN, Recipe, make_inputs

RECURRENT = ("LSTM", "GRU", "SimpleRNN", "Bidirectional")
OTHERS = ("Dense", "LayerNorm", "RMSNorm", "BatchNorm", "Activation", "Dropout")
KINDS = (*RECURRENT, *OTHERS)
"""Kinds of layers that `specs` draws."""

ACTIVATIONS = ("tanh", "relu", "sigmoid", "linear", "softmax", "elu")
"""Activations that Keras, PyTorch and Flax all have."""

MOST_UNITS = 5
"""Largest number of units and features: the order of axes shows at small sizes too."""

SEEDS = st.integers(0, 2**32 - 1)
NORMAL = st.just(1.0)
BATCHES = st.integers(1, 4)


def sizes(most: int = MOST_UNITS) -> st.SearchStrategy[int]:
    """Draws numbers of units, from 1 to `most`.

    >>> sizes(3).validate()
    """
    return st.integers(1, most)


@st.composite
def recurrent_specs(
    draw: st.DrawFn,
    features: int | None = None,
    kinds: Sequence[str] = RECURRENT[:3],
    return_sequences: bool | None = None,
) -> L.Recurrent:
    """Draws a recurrent layer with any of its options that all frameworks have.

    Args:
        draw: given by hypothesis.
        features: size of its input; drawn if None.
        kinds: names among "LSTM", "GRU" and "SimpleRNN".
        return_sequences: drawn if None.
    """
    kind, width = draw(st.sampled_from(kinds)), features or draw(sizes())
    sequences = draw(st.booleans()) if return_sequences is None else return_sequences
    options: dict[str, Any] = {
        "use_bias": draw(st.booleans()),
        "return_sequences": sequences,
        "go_backwards": draw(st.booleans()),
    }
    activation = draw(st.sampled_from(("tanh", "relu", "sigmoid")))
    units = draw(sizes())
    if kind == "LSTM":
        return L.LSTM(width, units, activation, **options)
    if kind == "GRU":
        return L.GRU(width, units, activation, reset_after=draw(st.booleans()), **options)
    return L.SimpleRNN(width, units, activation, **options)


@st.composite
def _bidirectional(draw: st.DrawFn, features: int | None, sequences: bool | None) -> L.LayerSpec:
    half = draw(recurrent_specs(features, return_sequences=sequences))
    half = replace(half, go_backwards=False)
    merge = draw(st.sampled_from(("concat", "sum", "mul", "ave")))
    return L.Bidirectional(half, replace(half, go_backwards=True), merge)


@st.composite
def specs(
    draw: st.DrawFn,
    features: int | None = None,
    kinds: Sequence[str] = KINDS,
    return_sequences: bool | None = None,
) -> L.LayerSpec:
    """Draws one layer.

    Args:
        draw: given by hypothesis.
        features: size of the last axis of its input; drawn if None.
        kinds: names among `KINDS`.
        return_sequences: of a recurrent layer; drawn if None.
    """
    kind, width = draw(st.sampled_from(kinds)), features or draw(sizes())
    if kind == "Bidirectional":
        return draw(_bidirectional(width, return_sequences))
    if kind in RECURRENT:
        return draw(recurrent_specs(width, (kind,), return_sequences))
    if kind == "Dense":
        activation = draw(st.sampled_from(ACTIVATIONS))
        return L.Dense(width, draw(sizes()), activation, use_bias=draw(st.booleans()))
    if kind == "Activation":
        return L.Activation(draw(st.sampled_from(ACTIVATIONS)))
    if kind == "Dropout":
        return L.Dropout(0.25)
    norm: Any = {"LayerNorm": L.LayerNorm, "RMSNorm": L.RMSNorm, "BatchNorm": L.BatchNorm}[kind]
    return norm(width, draw(st.sampled_from((1e-3, 1e-5))))  # type: ignore[no-any-return]


def weights(
    spec: L.LayerSpec, gains: st.SearchStrategy[float] = NORMAL
) -> st.SearchStrategy[dict[str, Array]]:
    """Draws weights of trained size for a layer, as `trained_weights` makes them.

    Args:
        spec: the layer.
        gains: factors of its kernels; above 1 more activations saturate.

    Returns:
        Strategy of canonical tensor name -> float32 array.
    """
    return st.builds(
        lambda seed, gain: trained_weights(spec, np.random.default_rng(seed), gain), SEEDS, gains
    )


@st.composite
def models(
    draw: st.DrawFn,
    most_layers: int = 4,
    kinds: Sequence[str] = KINDS,
    masked: bool | None = None,
    branched: bool | None = None,
) -> Model:
    """Draws a graph with weights: sequences (batch, time, features) in, one output.

    Args:
        draw: given by hypothesis.
        most_layers: of the chain; a mask, a branch and a head may be added to it.
        kinds: kinds of its layers, among `KINDS`.
        masked: True for a Masking layer at the start, which all recurrent layers obey; drawn if
            None.
        branched: True for a second recurrent layer on the same input, joined at the end; drawn if
            None.
    """
    graph, width = Builder(), draw(sizes())
    x = first = graph.add("input", L.Input((None, width)))
    mask = None
    if draw(st.booleans()) if masked is None else masked:
        x = first = graph.add("masking", L.Masking(0.0), [x])
        mask = Edge("masking", 1)
    number = draw(st.integers(1, most_layers))
    for place in range(number):
        last = place == number - 1
        features = graph.shape(x)[-1]
        spec = draw(specs(features, kinds, None if last else True))
        recurrent = isinstance(spec, (L.Recurrent, L.Bidirectional))
        name = f"{spec.kind.lower()}_{place}"
        x = graph.add(name, spec, [x], mask=mask if recurrent else None)
    if draw(st.booleans()) if branched is None else branched:
        x = _joined(draw, graph, first, x, mask)
    owners = [node for node in graph.nodes if node.spec.weighted_parts]
    drawn = {node.name: draw(weights(node.spec)) for node in owners}
    return Model("drawn", graph.nodes, ("input",), (x,), drawn, Source("drawn"))


def _joined(draw: st.DrawFn, graph: Builder, first: Edge, x: Edge, mask: Edge | None) -> Edge:
    """A second layer on the first edge, concatenated with the end of the chain."""
    sequences = len(graph.shape(x)) == 2
    features = graph.shape(first)[-1]
    beside = draw(recurrent_specs(features, return_sequences=sequences))
    edge = graph.add("beside", beside, [first], mask=mask)
    return graph.add("joined", L.Concatenate(-1), [x, edge])


def masks(batch: int = 4, steps: int = 6) -> st.SearchStrategy[Array]:
    """Draws masks (batch, steps), True where a step counts; at least one step of a row counts.

    Rows count all steps, lack the last or first ones, or lack any.

    >>> masks(2, 3).validate()
    """

    def row(kind: str, length: int, seed: int) -> Array:
        t = np.arange(steps)
        if kind == "any":
            found = np.random.default_rng(seed).random(steps) < 0.5
            found[length - 1] = True
            return found
        return t >= steps - length if kind == "left" else t < length

    rows = st.builds(row, st.sampled_from(("right", "left", "any")), st.integers(1, steps), SEEDS)
    return st.lists(rows, min_size=batch, max_size=batch).map(np.stack)


def inputs(
    model: Model, batches: st.SearchStrategy[int] = BATCHES
) -> st.SearchStrategy[list[Array]]:
    """Draws inputs of a model: one float32 array per input, (batch, ...), as `make_inputs` makes.

    Lengths, scales and masked steps are drawn too. Models of a fixed batch size get that size.

    Args:
        model: the model.
        batches: numbers of rows.
    """
    recipes = st.builds(
        Recipe,
        steps=st.integers(1, 6),
        scale=st.sampled_from((0.25, 1.0, 4.0)),
        seed=SEEDS,
        batch=batches,
        masks=st.sampled_from((MASKS, SEEN)),
        first=st.integers(0, 5),
    )
    return recipes.map(lambda recipe: make_inputs(model, recipe))
