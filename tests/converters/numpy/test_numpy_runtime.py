"""The numpy runtime against the reference, which shares no code with it for recurrent layers."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, explicit_mask, masked, model, with_states
from cases_layers import CASES_LAYERS
from xlstm.converters.numpy.recurrent import FastRecurrent

import xlstm
from xlstm import reference
from xlstm.errors import UsageError
from xlstm.ir.activation_names import ACTIVATIONS
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, SimpleRNN

TOLERANCE = {"float64": 5e-15, "float32": 5e-6}
SEQUENCE = {"return_sequences": True}


def inputs(case, batch, steps, seed=0):
    """Random inputs; numbers of rows and masks where a model takes those."""
    rng = np.random.default_rng(seed)
    found = []
    for name in case.inputs:
        spec = case.node(name).spec
        shape = (batch, *(steps if size is None else size for size in spec.shape))
        if spec.dtype == "bool":
            found.append(rng.random(shape) > 0.4)
        elif "int" in spec.dtype:
            found.append(rng.integers(0, 3, shape))
        else:
            x = rng.standard_normal(shape)
            if len(shape) > 2:  # steps that Masking layers of the cases mask
                x[rng.random(shape[:-1]) < 0.3] = rng.choice([0.0, -1.0, -2.0])
            found.append(x)
    return found


def listed(outputs):
    """All arrays of a port's outputs, in order."""
    if isinstance(outputs, np.ndarray):
        return [outputs]
    parts = outputs.values() if isinstance(outputs, dict) else outputs
    return [array for part in parts for array in listed(part)]


def check(port, case, arrays, dtype="float64"):
    """The port's outputs for arrays are those of the reference."""
    found, wanted = listed(port(*arrays)), reference.run(case, arrays, np.dtype(dtype))
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == want.dtype
        if got.dtype == bool:
            np.testing.assert_array_equal(got, want)
        else:
            scale = np.abs(want, where=np.isfinite(want), out=np.zeros_like(want))
            limit = TOLERANCE[dtype] * max(1, scale.max(initial=0))
            np.testing.assert_allclose(got, want, rtol=0, atol=limit)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", CASES)
def test_every_recurrent_case_equals_the_reference(name, dtype):
    case = CASES[name]
    port = xlstm.port(case, "numpy", dtype=dtype)
    batches = [2] if case.stateful else [3, 1]
    for batch in (*batches, batches[0]):
        check(port, case, inputs(case, batch, 7 if batch == 1 else 6), dtype)


@pytest.mark.parametrize("name", CASES_LAYERS)
def test_every_other_layer_equals_the_reference(name):
    case = CASES_LAYERS[name]
    check(xlstm.port(case, "numpy", dtype="float64"), case, inputs(case, 2, 6))


LAYERS = {
    "lstm": LSTM(3, 5, **SEQUENCE),
    "gru": GRU(3, 5, **SEQUENCE),
    "gru_before": GRU(3, 5, reset_after=False, **SEQUENCE),
    "simple_rnn": SimpleRNN(3, 5, **SEQUENCE),
}


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("layer", LAYERS)
def test_every_activation_of_a_cell(layer, activation):
    spec = replace(LAYERS[layer], activation=activation)
    case = model([spec], (None, 3), gain=0.5)
    check(xlstm.port(case, "numpy", dtype="float64"), case, inputs(case, 2, 5))
    if layer != "simple_rnn":
        spec = replace(LAYERS[layer], gate_activation=activation)
        case = model([spec], (None, 3), gain=0.5)
        check(xlstm.port(case, "numpy", dtype="float64"), case, inputs(case, 2, 5))


@pytest.mark.parametrize("layer", LAYERS)
def test_other_batches_and_lengths_than_before(layer):
    case = masked(LAYERS[layer])
    port = xlstm.port(case, "numpy", dtype="float64")
    for batch, steps in [(2, 5), (1, 5), (1, 9), (4, 5), (2, 5), (1, 1), (0, 5), (2, 0)]:
        check(port, case, inputs(case, batch, steps, seed=batch + steps))


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("zeros", [False, True])
def test_masks_of_any_form(layer, zeros):
    spec = replace(LAYERS[layer], zero_output_for_mask=zeros)
    backwards = replace(spec, go_backwards=True)
    for one in (spec, backwards, replace(spec, return_sequences=False)):
        case = explicit_mask(one)
        port = xlstm.port(case, "numpy", dtype="float64")
        x, _ = inputs(case, 5, 6)
        mask = np.random.default_rng(1).random((5, 6)) > 0.5
        mask[0], mask[1], mask[2, 3:], mask[3, :3] = True, False, False, False
        check(port, case, [x, mask])
        check(port, case, [x, np.zeros_like(mask)])
        x[~mask] = np.nan  # a masked step is not read
        found = port(x, mask)
        np.testing.assert_array_equal(found, port(np.where(mask[..., None], x, 7), mask))


@pytest.mark.parametrize("layer", LAYERS)
def test_states_under_a_mask(layer):
    spec = replace(LAYERS[layer], return_state=True)
    state = replace(spec, return_sequences=False)
    both = Bidirectional(state, replace(state, go_backwards=True))
    for one in (spec, replace(spec, go_backwards=True), both):
        case = with_states(one)
        node = case.layers[-1]
        keep = explicit_mask(one)
        nodes = (*case.nodes[:-1], keep.node("keep"), replace(node, mask=keep.layers[-1].mask))
        case = replace(case, nodes=nodes, inputs=(*case.inputs, "keep"))
        arrays = inputs(case, 3, 6)
        arrays[-1][0], arrays[-1][1] = False, True
        check(xlstm.port(case, "numpy", dtype="float64"), case, arrays)


@pytest.mark.parametrize("units", [4, 3, 2], ids=["narrow", "square", "wide"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("kind", [LSTM, SimpleRNN])
def test_states_of_inputs_of_any_width(kind, activation, units):
    case = with_states(kind(3, units, activation, return_state=True, **SEQUENCE))
    port = xlstm.port(case, "numpy", dtype="float64")
    for batch in (1, 3):
        check(port, case, inputs(case, batch, 6))


def test_an_lstm_has_one_product_a_step():
    for features, joined in ((4, True), (5, False)):
        spec = LSTM(features, 4, **SEQUENCE)
        (weights,) = model([spec], (None, features)).weights.values()
        kept, _ = FastRecurrent(spec, weights).run(np.ones((1, 6, features), "float32"), ())
        assert (kept.product.size == 0) == joined


def test_a_nan_is_not_hidden():
    for gate in ("sigmoid", "hard_sigmoid", "hard_sigmoid_keras2"):
        for activation in ("tanh", "relu"):
            case = model([LSTM(3, 5, activation, gate, **SEQUENCE)], (None, 3))
            (x,) = inputs(case, 2, 5)
            x[0, 2, 1] = np.nan
            y = xlstm.port(case, "numpy")(x)
            assert np.isnan(y[0, 2:]).all()
            assert np.isfinite(y[1]).all()


def test_results_are_arrays_of_their_own():
    """The next call changes no result, and a changed result changes no call."""
    for case in (*CASES.values(), *CASES_LAYERS.values()):
        port = xlstm.port(case, "numpy")
        arrays = [x if x.dtype == bool else x.astype("float32") for x in inputs(case, 2, 6)]
        first = listed(port(*arrays))
        kept = [y.copy() for y in first]
        again = listed(port(*arrays))
        for y in again:
            assert not any(np.shares_memory(y, other) for other in (*first, *arrays))
            if y.flags.writeable:
                y[...] = 1
        for y, before, now in zip(first, kept, listed(port(*arrays)), strict=True):
            np.testing.assert_array_equal(y, before)
            np.testing.assert_array_equal(now, before)


def test_threads_get_their_own_results():
    case = model([LSTM(3, 8, **SEQUENCE), GRU(8, 8), Dense(8, 2)], (None, 3))
    port = xlstm.port(case, "numpy", dtype="float64")
    arrays = [inputs(case, 1 + n % 3, 20 + n % 2, seed=n) for n in range(40)]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda one: port(*one), arrays))
    for one, got in zip(arrays, found, strict=True):
        np.testing.assert_allclose(got, reference.run(case, one)[0], rtol=0, atol=1e-14)


def test_ports_are_copied_and_pickled():
    case = CASES["stack"]
    port = xlstm.port(case, "numpy")
    arrays = inputs(case, 2, 6)
    want = port(*arrays)
    for other in (copy.copy(port), copy.deepcopy(port), pickle.loads(pickle.dumps(port))):
        np.testing.assert_array_equal(other(*arrays), want)


def test_weights_are_not_changed_and_not_followed():
    case = CASES["lstm-sequence"]
    before = copy.deepcopy(dict(case.weights))
    port = xlstm.port(case, "numpy")
    arrays = inputs(case, 2, 6)
    want = port(*arrays)
    np.testing.assert_equal(dict(case.weights), before)
    changed = replace(case, weights=copy.deepcopy(before))
    port = xlstm.port(changed, "numpy")
    changed.weights["lstm_0"]["kernel"][...] = 0
    np.testing.assert_array_equal(port(*arrays), want)


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 4), (3,)])
def test_a_wrong_shape_is_refused(shape):
    port = xlstm.port(CASES["lstm-sequence"], "numpy")
    with pytest.raises(UsageError, match=r"expected an array of shape \(batch, any, 3\)"):
        port(np.zeros(shape))


@pytest.mark.parametrize("name", [*CASES, *CASES_LAYERS])
def test_no_samples_give_none(name):
    """Every output and state is there, of the shape that samples give it."""
    case = {**CASES_LAYERS, **CASES}[name]
    port = xlstm.port(case, "numpy")
    some, none = (listed(port(*inputs(case, batch, 5))) for batch in (2, 0))
    assert [y.shape for y in none] == [(0, *y.shape[1:]) for y in some]
    assert [y.dtype for y in none] == [y.dtype for y in some]


def test_no_steps_before_a_dense_layer():
    case = model([LSTM(3, 4, **SEQUENCE), Dense(4, 2)], (None, 3))
    assert xlstm.port(case, "numpy")(np.zeros((2, 0, 3))).shape == (2, 0, 2)
