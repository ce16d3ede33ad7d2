"""Operations of models: symbols, frameworks, bytes, and layers that are not counted."""

import json
import re
from itertools import combinations

import numpy as np
import pytest
from cases import model
from custom_texts import registered

import xlstm
from xlstm.counting.ledger import count_model
from xlstm.counting.operations import recurrent_bytes, sequence_bytes, state_bytes, weight_bytes
from xlstm.counting.operations.formula import OPERATIONS
from xlstm.counting.operations.model_operations import EQUATIONS, count_operations
from xlstm.counting.operations.polynomial import B, Polynomial, T, polynomial, product
from xlstm.counting.operations.render import render_operations
from xlstm.counting.support import graph_of, rows
from xlstm.errors import UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge, Model, chain
from xlstm.ir.source import Source

ROWS = [row for row in rows() if not row.option.startswith("Bidirectional")]
FLOAT64 = 8


def lone(spec, shape, *more):
    """A model of layers on an input of a shape, without weights."""
    layers = [(f"layer_{n}", one, True) for n, one in enumerate((spec, *more))]
    return chain("case", layers, shape, {}, Source("case"))


def operations(spec, shape, *more):
    return count_operations(lone(spec, shape, *more), registry.frameworks()).layers


def window(*sizes, strides=1, **options):
    """A convolution of 3 features to 4."""
    ones = (1,) * len(sizes)
    return L.Conv(3, 4, sizes, strides=(strides,) * len(sizes), dilation=ones, **options)


def test_polynomials_are_exact():
    found = (2 * T + 3) * (T - 1) * B
    assert str(found) == "2 x steps^2 x batch + steps x batch - 3 x batch"
    assert found.at(T=10**9, B=7) == 7 * (2 * 10**9 + 3) * (10**9 - 1)
    assert found - found == Polynomial() == polynomial(0)
    assert not found - found
    assert str(found - found) == "0"
    assert str(5 - T) == "-steps + 5"
    assert str(-1234 * polynomial(1)) == "-1,234"
    assert hash(T + B) == hash(B + T)
    with pytest.raises(UnsupportedError, match="an axis without one"):
        product((B, None))


def test_a_lstm_has_four_products():
    (layer,) = operations(L.LSTM(16, 32, return_sequences=True), (None, 16))
    for name in registry.frameworks():
        work = layer.work[name]
        assert work.products == 4 * 32 * (16 + 32) * T * B == 6144 * T * B
        assert dict(work.calls) == {"sigmoid": 96 * T * B, "tanh": 64 * T * B}
        assert work.state_bytes == 2 * 32 * 4 * B
    assert layer.work["torch"].elementwise - layer.work["keras"].elementwise == 4 * 32 * T * B
    assert layer.work["torch"].weights_read == 4 * 4 * 32 * (16 + 32 + 2) * T


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.layer}, {row.option}")
def test_frameworks_differ_by_what_their_tables_store(row):
    """A number that one framework has more is a bias, added at every place once."""
    nodes = graph_of(row.node.spec, mask=row.node.mask is not None, states=bool(row.node.states))
    inputs = tuple(node.name for node in nodes[:-1])
    found = Model("row", nodes, inputs, (Edge("layer"),), {}, Source("case"))
    ledger = count_model(found, registry.frameworks(), operations=True)
    (work,), (layer,) = (one.layers for one in (ledger.operations, ledger))
    spec = row.node.spec
    places = T * B * int(np.prod(spec.state_space if isinstance(spec, L.ConvLSTM) else 1))
    have = [name for name, count in layer.params.items() if count is not None]
    assert {*work.work} == {*have, EQUATIONS}
    for first, second in combinations(have, 2):
        more = layer.params[first] - layer.params[second]
        a, b = work.work[first], work.work[second]
        assert a.elementwise - b.elementwise == more * places
        assert a.weight_bytes - b.weight_bytes == 4 * more
        assert (a.products, a.calls, a.state_bytes) == (b.products, b.calls, b.state_bytes)


@pytest.mark.parametrize("row", list(rows()), ids=lambda row: f"{row.layer}, {row.option}")
def test_bytes_of_the_equations_are_the_fewest(row):
    spec = row.node.spec
    assert weight_bytes(spec, 4) * 2 == weight_bytes(spec, FLOAT64)
    assert 0 < recurrent_bytes(spec) < weight_bytes(spec)
    counts = count_model(lone_row(row), registry.frameworks()).layers[0].params.values()
    assert all(weight_bytes(spec) <= 4 * count for count in counts if count is not None)


def lone_row(row):
    nodes = graph_of(row.node.spec, states=bool(row.node.states))
    inputs = tuple(node.name for node in nodes[:-1])
    return Model("row", nodes, inputs, (Edge("layer"),), {}, Source("case"))


def test_bytes_of_a_model():
    dense, lstm = L.Dense(4, 5), L.LSTM(3, 4)
    want = T * weight_bytes(lstm) + weight_bytes(dense)
    assert sequence_bytes(lone(lstm, (None, 3), dense)) == want
    assert sequence_bytes(lone(lstm, (9, 3), dense)) == polynomial(9 * weight_bytes(lstm) + 100)
    assert weight_bytes(L.Embedding(1000, 8)) == 4 * 8
    before, after = (L.GRU(3, 4, reset_after=after) for after in (False, True))
    assert weight_bytes(before) == 4 * 3 * 4 * (3 + 4 + 1)
    assert weight_bytes(after) == weight_bytes(before) + 4 * 4  # r multiplies a bias of its own
    assert weight_bytes(L.Flatten()) == state_bytes(dense) == recurrent_bytes(dense) == 0
    both = L.Bidirectional(lstm, L.LSTM(3, 6, go_backwards=True))
    assert state_bytes(both) == 4 * 2 * (4 + 6)
    with pytest.raises(UnsupportedError, match=r"layer layer_1: expected a known number of steps"):
        sequence_bytes(lone(window(3, strides=2), (None, 3), L.LSTM(4, 4)))


def test_every_layer_has_a_formula_but_those_of_users():
    assert {*L.SPECS.values()} - {*OPERATIONS} == {L.Input, L.Custom}
    with registered():
        (layer,) = operations(L.Custom("Lambda:triple", mask="passes"), (None, 3))
    assert layer.work == {}
    assert layer.reason == "there is no formula of Lambda"


def test_time_keeps_its_symbol():
    *_, lstm = operations(window(3), (None, 3), L.LSTM(4, 4))
    assert lstm.work["keras"].products == 4 * 4 * 8 * (T - 2) * B
    _, relu = operations(L.Flatten(), (None, 3), L.Activation("relu"))
    assert relu.work["keras"].elementwise == 3 * T * B
    timed = L.TimeDistributed(L.LSTM(3, 4))
    (layer,) = operations(timed, (None, 7, 3))
    assert layer.work["keras"].products == 4 * 4 * 7 * 7 * T * B
    assert layer.work["keras"].state_bytes == 4 * 8 * T * B
    assert layer.work["keras"].weights_read == polynomial(7 * weight_bytes(timed))


def test_inputs_share_one_time():
    graph = Builder()
    a, b = (graph.add(name, L.Input((None, 4))) for name in "ab")
    scores = graph.add("attention", L.Attention(4), [a, b])
    found = Model("two", graph.nodes, ("a", "b"), (scores,), {}, Source("case"))
    counted = count_operations(found, ["keras"])
    assert counted.notes == ("inputs a, b: all of the same number of steps",)
    assert counted.total("keras").products == 8 * T * T * B
    assert "8 x steps^2 " in render_operations(counted)


def test_other_open_axes_are_unknown_by_name():
    conv, lstm = (
        operations(window(3, 3), (None, None, 3), L.GlobalPool("max"), L.Dense(4, 2))[0],
        operations(window(3, strides=2), (None, 3), L.LSTM(4, 4))[1],
    )
    assert conv.reason == "axis 2 of input input has no length: only time may be open, axis 1"
    assert "strides over time" in lstm.reason
    found = count_operations(lone(window(3, 3), (None, None, 3)), ["keras"])
    assert found.total("keras") is None
    assert found.to_json()["totals"] == {"keras": None, "equations": None}
    assert f"layer_0: {conv.reason}" in render_operations(found)


def test_a_layer_called_twice_works_twice():
    graph = Builder()
    x = graph.add("x", L.Input((None, 3)))
    graph.add("a", L.Dense(3, 3), [x])
    again = graph.add("b", L.Dense(3, 3), [Edge("a")], layer="a")
    found = Model("twice", graph.nodes, ("x",), (again,), {}, Source("case"))
    ledger = count_model(found, ["keras"], operations=True)
    assert ledger.total("keras") == 12
    assert ledger.operations.total("keras").products == 2 * 9 * T * B


def test_numbers_have_the_bytes_of_the_model():
    found = model([L.LSTM(3, 4)], (None, 3)).astype(np.float64)
    work = count_operations(found, ["keras"]).layers[0].work["keras"]
    assert work.weight_bytes == weight_bytes(L.LSTM(3, 4), FLOAT64)
    assert work.state_bytes == FLOAT64 * 8 * B


def test_arrays_alone_have_no_operations():
    with pytest.raises(UsageError, match=r"a model with an architecture, got arrays alone"):
        xlstm.count({"weight": np.ones((2, 2))}, operations=True)


def test_the_ledger_has_them_if_asked():
    path = xlstm.demo.path()
    assert xlstm.count(path).operations is None
    found = xlstm.count(path, ["torch"], operations=True)
    assert found.operations.frameworks == ("torch",)
    data = json.loads(json.dumps(found.to_json()))["operations"]
    assert data["bytes_per_number"] == 4
    assert data["layers"][0]["work"]["torch"]["weight_bytes_per_step"] == 4 * 1840


def test_explain_ends_with_them():
    found = xlstm.explain("LSTM", features=16, units=32)
    assert "Operations for one step of one sequence, and bytes:" in str(found)
    assert re.search(r"PyTorch +6,144 .* 256$", str(found), re.MULTILINE)
    assert "| PyTorch | 6,144 |" in found.to_markdown()
    peepholes = xlstm.explain("LSTM", features=16, units=32, peepholes=True)
    assert "the equations" in str(peepholes)
    deep = xlstm.explain("GRU", features=16, units=32, layers=2, bidirectional=True)
    assert deep.ledger.operations.total("nnx").products == (9216 + 18432) * T * B


@pytest.mark.parametrize(
    ("steps", "batch", "words"),
    [
        (None, None, "one step of one sequence"),
        (10, None, "10 steps of one sequence"),
        (None, 4, "one step of a batch of 4 sequences"),
        (10, 4, "10 steps of a batch of 4 sequences"),
        (10, 1, "10 steps of a batch of 1 sequence"),
    ],
)
def test_steps_and_batch_are_multiplied(steps, batch, words):
    text = str(xlstm.explain("LSTM", features=16, units=32, timesteps=steps, batch=batch))
    assert f"Operations for {words}, and bytes:" in text
    times, sequences = (steps or 1) * (batch or 1), batch or 1
    row = next(line for line in text.splitlines() if line.startswith(" all but PyTorch  "))
    assert row.split()[3] == f"{6144 * times:,}"
    assert row.split()[-1] == f"{2 * 32 * 4 * sequences:,}"
    assert not re.search(r"\d (T|B)\b", text)


def test_operations_of_a_dense_layer_are_those_of_samples():
    text = str(xlstm.explain("Dense", features=10, units=2))
    assert "Operations for one sample, and bytes:" in text
    text = str(xlstm.explain("Dense", features=10, units=2, timesteps=25, batch=3))
    assert "Operations for 25 steps of a batch of 3 sequences, and bytes:" in text
    assert f" {10 * 2 * 25 * 3:,} " in text


def test_the_table_of_a_model_is_for_one_sequence():
    text = render_operations(xlstm.count(xlstm.demo.path(), operations=True).operations)
    first = "Multiply-adds for one sequence: 34,000. For a batch, times its sequences."
    assert text.splitlines()[0] == first
    assert not re.search(r"\d (T|B)\b", text)
    # an LSTM and a Dense of a sequence of any length
    found = count_operations(lone(L.LSTM(3, 4), (None, 3), L.Dense(4, 2)), ["keras"])
    text = render_operations(found)
    assert "one sequence: 112 x steps + 8." in text
