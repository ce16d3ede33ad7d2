"""Wrong tables and wrong formulas must be caught, all of them; each is listed by its name.

A mutant is a port built with a deliberately broken slot table (or activation). Shapes stay right
and round trips stay perfect; only running it against the reference shows the error.
"""

import dataclasses
import itertools

import numpy as np
import pytest
from cases import model

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.layers import LSTM
from xlstm.porting.port import build
from xlstm.slots import pack, unpack
from xlstm.verification import inputs
from xlstm.verification.bounds import DIFFERENT, bounds, judge
from xlstm.verification.reconcile import DTYPES

# as many features as units, so that every transposed matrix still fits
MODEL = model([LSTM(5, 5, return_sequences=True)], (None, 5))
HARD = model([LSTM(5, 5, gate_activation="hard_sigmoid_keras2")], (None, 5))
FRAMEWORKS = registry.frameworks()
GATE_PAIRS = list(itertools.combinations("ifgo", 2))


def swapped(order, a, b):
    return order.translate(str.maketrans({a: b, b: a}))


def swap_gates(slot, a, b):
    if slot.gates:
        return dataclasses.replace(slot, gates=swapped(slot.gates, a, b))
    return dataclasses.replace(slot, fixed={**slot.fixed, "g": swapped(slot.fixed["g"], a, b)})


def transpose(slot):
    axes = slot.axes.translate(str.maketrans("ijh", "hhj" if "j" in slot.axes else "hhi"))
    return dataclasses.replace(slot, axes=axes)


def broken(framework, change):
    """The adapter of a framework with `change` applied to every slot of its LSTM."""
    adapter = registry.adapter(framework)
    name = adapter.default["LSTM"]
    table = adapter.tables[name]
    wrong = dataclasses.replace(table, slots=tuple(map(change, table.slots)))
    return dataclasses.replace(adapter, tables={**adapter.tables, name: wrong})


def verdicts(adapter, mutant_of, reference_of):
    """Words of the verdicts of a mutant's port against the true model."""
    arrays, _ = inputs.chosen(reference_of)
    found = {}
    for dtype in DTYPES:
        ported = build(mutant_of, adapter, dtype)
        output = adapter.live().run(ported, arrays, dtype)[0]
        exact = bounds(reference_of, arrays, "float64")[0]
        found[dtype] = judge(output, bounds(reference_of, arrays, dtype)[0], exact, dtype).verdict
    return found


def check_caught(adapter, mutant_of=MODEL, reference_of=MODEL):
    assert verdicts(adapter, mutant_of, reference_of) == dict.fromkeys(DTYPES, DIFFERENT)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("gates", GATE_PAIRS, ids="".join)
def test_two_gates_swapped_in_every_tensor(framework, gates):
    check_caught(broken(framework, lambda slot: swap_gates(slot, *gates)))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("tensor", ["kernel", "recurrent", "bias"])
@pytest.mark.parametrize("gates", [("i", "f"), ("g", "o")], ids="".join)
def test_two_gates_swapped_in_one_tensor(framework, tensor, gates):
    def change(slot):
        return swap_gates(slot, *gates) if slot.tensor == tensor else slot

    check_caught(broken(framework, change))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("tensor", ["kernel", "recurrent"])
def test_kernel_transposed(framework, tensor):
    square = dataclasses.replace(
        MODEL,
        weights={
            name: {
                t: np.ascontiguousarray(a.swapaxes(-1, -2)) if t == tensor else a
                for t, a in layer.items()
            }
            for name, layer in MODEL.weights.items()
        },
    )
    check_caught(registry.adapter(framework), mutant_of=square)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_bias_lost(framework):
    lost = dataclasses.replace(
        MODEL,
        weights={
            name: {t: np.zeros_like(a) if t == "bias" else a for t, a in layer.items()}
            for name, layer in MODEL.weights.items()
        },
    )
    check_caught(registry.adapter(framework), mutant_of=lost)


def test_one_side_of_torchs_bias_lost():
    rng = np.random.default_rng(1)
    weights = {
        name: {
            t: rng.standard_normal((2, *a.shape[1:])) if t == "bias" else a for t, a in w.items()
        }
        for name, w in MODEL.weights.items()
    }
    two = dataclasses.replace(MODEL, weights=weights)

    def lose(slot):
        return dataclasses.replace(slot, fixed={"s": 0}) if slot.name == "bias_hh_l0" else slot

    assert set(verdicts(registry.adapter("torch"), two, two).values()) == {"rounding"}
    check_caught(broken("torch", lose), two, two)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("wrong", ["hard_sigmoid", "sigmoid"])
def test_wrong_hard_sigmoid(framework, wrong):
    spec = dataclasses.replace(HARD.layers[0].spec, gate_activation=wrong)
    nodes = (HARD.nodes[0], dataclasses.replace(HARD.nodes[1], spec=spec))
    mutant = dataclasses.replace(HARD, nodes=nodes)
    check_caught(registry.adapter(framework), mutant, HARD)


@pytest.mark.parametrize("gates", GATE_PAIRS, ids="".join)
def test_keras_files_read_by_a_wrong_table(gates):
    """The reading side: Keras itself, which knows no table of ours, is the witness."""
    import keras

    keras.utils.set_random_seed(0)
    layer = keras.layers.LSTM(5, bias_initializer="random_normal", unit_forget_bias=False)
    source = keras.Sequential([keras.Input((6, 5)), layer])
    good = xlstm.load(source)
    table = registry.table("keras.LSTM")
    wrong = dataclasses.replace(table, slots=tuple(swap_gates(s, *gates) for s in table.slots))
    name, core = next(iter(good.weights)), good.layers[0].spec
    misread = unpack(wrong, pack(table, good.weights[name], core.sizes()), core.sizes())
    arrays, _ = inputs.chosen(good)
    bad = dataclasses.replace(good, weights={name: misread})
    output = registry.adapter("keras").live().run(source, arrays, "float32")[0]
    for candidate, word in ((good, "rounding"), (bad, DIFFERENT)):
        allowed, exact = (bounds(candidate, arrays, dtype)[0] for dtype in DTYPES)
        assert judge(output, allowed, exact, "float32").verdict == word


def test_round_trips_prove_nothing():
    """Why the suite runs models: a wrong gate order survives every round trip and shape check."""
    adapter = broken("torch", lambda slot: swap_gates(slot, "i", "f"))
    table = adapter.tables["LSTM"]
    weights = next(iter(MODEL.weights.values()))
    sizes = MODEL.layers[0].spec.sizes()
    back = unpack(table, pack(table, weights, sizes), sizes)
    np.testing.assert_array_equal(back["kernel"], weights["kernel"])
