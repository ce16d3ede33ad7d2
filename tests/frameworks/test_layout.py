"""The slot engine: both directions, gate orders, folding, errors that list everything."""

import numpy as np
import pytest

import xlstm
from xlstm import model as specs
from xlstm.errors import WeightsError
from xlstm.frameworks import registry
from xlstm.ir.kinds import CONVS, LSTM
from xlstm.slots import Slot, Table, fold, pack, unpack

RNG = np.random.default_rng(3)
SIZES = {"i": 3, "h": 4, "j": 4}


def keras_lstm():
    shapes = {"kernel": (3, 16), "recurrent_kernel": (4, 16), "bias": (16,)}
    return {name: RNG.standard_normal(shape).astype("float32") for name, shape in shapes.items()}


def test_keras_to_torch_by_hand():
    arrays = keras_lstm()
    got = xlstm.convert_weights(arrays, "keras.LSTM", "torch.LSTM")
    np.testing.assert_array_equal(got["weight_ih_l0"], arrays["kernel"].T)
    np.testing.assert_array_equal(got["weight_hh_l0"], arrays["recurrent_kernel"].T)
    np.testing.assert_array_equal(got["bias_ih_l0"], arrays["bias"])
    np.testing.assert_array_equal(got["bias_hh_l0"], 0)


def test_keras_to_linen_by_hand():
    arrays = keras_lstm()
    got = xlstm.convert_weights(arrays, "keras.LSTM", "linen.LSTMCell")
    for number, gate in enumerate("ifgo"):
        part = slice(4 * number, 4 * number + 4)
        np.testing.assert_array_equal(got[f"i{gate}.kernel"], arrays["kernel"][:, part])
        np.testing.assert_array_equal(got[f"h{gate}.kernel"], arrays["recurrent_kernel"][:, part])
        np.testing.assert_array_equal(got[f"h{gate}.bias"], arrays["bias"][part])


PATHS = ["torch.LSTM", "nnx.LSTMCell", "nnx.OptimizedLSTMCell", "linen.OptimizedLSTMCell"]


@pytest.mark.parametrize("path", PATHS)
def test_there_and_back_is_bit_for_bit(path):
    arrays = keras_lstm()
    there = xlstm.convert_weights(arrays, "keras.LSTM", path)
    back = xlstm.convert_weights(there, path, "keras.LSTM")
    np.testing.assert_equal(back, arrays)


def test_a_gate_order_other_than_the_hubs():
    order = Table(LSTM, (Slot("w", "kernel", "(gh)i", gates="ofig"),))
    kernel = RNG.standard_normal((4, 4, 3)).transpose(0, 2, 1)
    packed = pack(order, {"kernel": kernel}, SIZES, frozenset({"recurrent", "bias"}))
    rows = packed["w"].reshape(4, 4, 3)
    for place, gate in enumerate("ofig"):
        np.testing.assert_array_equal(rows[place].T, kernel["ifgo".index(gate)])
    np.testing.assert_array_equal(unpack(order, packed, SIZES)["kernel"], kernel)


def test_fold_adds_two_sides_and_keeps_one_bit_for_bit():
    both = np.array([[1.0, 2.0], [0.5, -2.0]])
    np.testing.assert_array_equal(fold(both), [[1.5, 0.0]])
    negative_zero = np.array([[0.0, 0.0], [-0.0, 3.0]])
    assert np.signbit(fold(negative_zero)[0, 0])


def test_two_torch_biases_fold_into_kerass_one():
    arrays = xlstm.convert_weights(keras_lstm(), "keras.LSTM", "torch.LSTM")
    arrays["bias_hh_l0"] = RNG.standard_normal(16).astype("float32")
    got = xlstm.convert_weights(arrays, "torch.LSTM", "keras.LSTM")
    np.testing.assert_array_equal(got["bias"], arrays["bias_ih_l0"] + arrays["bias_hh_l0"])


def test_inputs_are_never_changed_nor_shared_by_a_fold():
    arrays = keras_lstm()
    before = {name: array.copy() for name, array in arrays.items()}
    xlstm.convert_weights(arrays, "keras.LSTM", "torch.LSTM")
    np.testing.assert_equal(arrays, before)


def test_one_error_lists_all_that_is_missing_left_over_and_wrong():
    spec = specs.LSTM(3, 4)
    shapes = {"weight_ih_l0": (16, 3), "weight_hh_l0": (4, 16), "extra": (1,)}
    arrays = {name: np.ones(shape) for name, shape in shapes.items()}
    with pytest.raises(WeightsError) as caught:
        unpack(registry.table("torch.LSTM"), arrays, spec.sizes())
    for word in ("no bias_ih_l0", "no bias_hh_l0", "extra (1,) left over", "weight_hh_l0 (4, 16)"):
        assert word in str(caught.value)


def test_square_kernels_are_not_transposed_because_shapes_fit():
    kernel = RNG.standard_normal((4, 16))
    arrays = {
        "kernel": kernel,
        "recurrent_kernel": RNG.standard_normal((4, 16)),
        "bias": np.zeros(16),
    }
    got = xlstm.convert_weights(arrays, "keras.LSTM", "nnx.OptimizedLSTMCell")
    np.testing.assert_array_equal(got["dense_i.kernel"], kernel)


def test_packing_prefers_views():
    weights = {"kernel": np.ones((4, 3)), "bias": np.ones(3)}
    packed = pack(registry.table("keras.Dense"), weights, {"i": 4, "o": 3})
    assert np.shares_memory(packed["kernel"], weights["kernel"])


def test_turned_windows_come_back():
    """Theano's kernels: the window runs from its end, and writing undoes what reading did."""
    table = Table(CONVS[1], (Slot("W", "kernel", "abio", reversed_axes="abc"),))
    sizes = {"a": 2, "b": 3, "i": 2, "o": 4}
    kernel = np.arange(48.0).reshape(2, 3, 2, 4)
    hub = unpack(table, {"W": kernel}, sizes, frozenset({"bias"}))
    np.testing.assert_array_equal(hub["kernel"], kernel[::-1, ::-1])
    np.testing.assert_array_equal(pack(table, hub, sizes, frozenset({"bias"}))["W"], kernel)
