"""Formulas of operations against a run of the reference that counts its own."""

from collections import Counter

import numpy as np
import pytest
from cases import CASES, trained_weights
from cases_layers import CASES_LAYERS
from counted_array import counted_activation, counted_run

from xlstm.counting.operations.activations import activation
from xlstm.counting.operations.model_operations import EQUATIONS, count_operations
from xlstm.counting.operations.polynomial import polynomial
from xlstm.counting.support import KERAS, KERAS_2, graph_of, rows
from xlstm.ir import layers as L
from xlstm.ir.activation_names import ACTIVATIONS
from xlstm.ir.graph import Edge, Model
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.source import Source

ROWS = list(rows())
STEPS, BATCH = 5, 8


def model_of(node):
    """The smallest model with a row's layer."""
    nodes = graph_of(node.spec, mask=node.mask is not None, states=bool(node.states))
    inputs = tuple(found.name for found in nodes[:-1])
    outputs = tuple(Edge(node.name, n) for n in range(len(node.shapes)))
    weights = {"layer": weights_of(node.spec)}
    return Model("row", nodes, inputs, outputs, weights, Source("case"))


def weights_of(spec):
    """Random weights; peepholes are no kind of any framework, so they have none there."""
    if not getattr(spec, "peepholes", False):
        return trained_weights(spec, np.random.default_rng(3))
    rest = trained_weights(type(spec)(spec.features, spec.units), np.random.default_rng(3))
    return {**rest, "peephole": np.random.default_rng(4).normal(size=(3, spec.units))}


def drawn(model):
    """Inputs of STEPS steps where the length is open."""
    rng, found = np.random.default_rng(5), []
    for name in model.inputs:
        spec = model.node(name).spec
        shape = (BATCH, *(STEPS if n is None else n for n in spec.shape))
        found.append(rng.random(shape) > 0.4 if spec.dtype == "bool" else rng.normal(size=shape))
    return found


def at(count):
    return count.at(T=STEPS, B=BATCH)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.layer}, {row.option}")
def test_every_recurrent_row_does_what_its_formula_says(row, monkeypatch):
    model = model_of(row.node)
    # the reference adds the biases of the source's form, each of them
    name = "keras" if row.source in (KERAS, KERAS_2) else EQUATIONS
    (layer,) = count_operations(model, ["keras"]).layers
    assert layer.reason == ""
    tally = counted_run(model, drawn(model), monkeypatch)
    work = layer.work[name]
    assert at(work.products) == tally.products > 0
    assert at(work.elementwise) == tally.elementwise > 0
    assert {name: at(count) for name, count in work.calls} == tally.calls


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_an_activation_is_a_call_or_so_many_operations(name, monkeypatch):
    found, tally = activation(name, polynomial(7)), counted_activation(name, 7, monkeypatch)
    assert found.elementwise.at(T=1) == tally.elementwise
    assert {name: count.at(T=1) for name, count in found.calls.items()} == tally.calls


UNLIKE = {
    L.Relu: "the reference compares and selects where one maximum does",
    L.Elu: "the reference computes both pieces",
    L.LayerNorm: "the reference subtracts the mean twice",
    L.DepthwiseConv: "the reference multiplies and adds element by element",
    L.Attention: "the reference lowers scores without a mask too",
    L.Along: "numpy's argmax is no function that counts",
}
"""Spec -> the reason why the reference does more than its formula says, or cannot count it."""


def specs_of(model):
    return {type(unwrap_time_distributed(node.spec)) for node in model.layers}


@pytest.mark.parametrize("name", [*CASES, *CASES_LAYERS])
def test_layers_do_what_their_formulas_say(name, monkeypatch):
    model = {**CASES, **CASES_LAYERS}[name]
    found = count_operations(model, ["keras"])
    reasons = {layer.reason for layer in found.layers if layer.reason}
    if name in ("conv_lstm1d-any_length", "conv_lstm1d-any_length-same-strides"):
        assert reasons == {"axis 2 of input input has no length: only time may be open, axis 1"}
        return
    assert not reasons
    tally = counted_run(model, drawn(model), monkeypatch)
    works = [layer.work.get("keras", layer.work[EQUATIONS]) for layer in found.layers]
    if "no_hidden_bias" in name:  # Keras stores zeros for it
        works = [layer.work[EQUATIONS] for layer in found.layers]
    if L.DepthwiseConv not in specs_of(model):
        assert sum(at(work.products) for work in works) == tally.products
    if not specs_of(model) & {*UNLIKE}:
        assert sum(at(work.elementwise) for work in works) == tally.elementwise
        calls = sum((Counter({n: at(c) for n, c in work.calls}) for work in works), Counter())
        assert calls == tally.calls
