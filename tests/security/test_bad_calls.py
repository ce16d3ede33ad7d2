"""Calls that make no sense: wrong arguments, and arrays that are no layer's weights."""

import numpy as np
import pytest
from refusing import refused

import xlstm
from xlstm.errors import UsageError, WeightsError

DEMO = xlstm.demo.path()

CALLS = {
    "load-none": (lambda: xlstm.load(None), "NoneType"),
    "load-number": (lambda: xlstm.load(3), "int"),
    "load-bytes": (lambda: xlstm.load(b"model.keras"), "bytes"),
    "load-list": (lambda: xlstm.load([]), "list"),
    "load-pair": (lambda: xlstm.load(("a", "b")), "tuple"),
    "port-unknown": (lambda: xlstm.port(DEMO, "caffe"), "'caffe'", "torch"),
    "port-empty": (lambda: xlstm.port(DEMO, ""), "torch"),
    "port-two": (lambda: xlstm.port(DEMO, "jax"), "'jax'", "nnx or linen"),
    "port-near": (lambda: xlstm.port(DEMO, "torhc"), "'torhc'", "did you mean torch?"),
    "port-none": (lambda: xlstm.port(DEMO, None), "None", "torch"),
    "port-list": (lambda: xlstm.port(DEMO, ["torch"]), "torch"),
    "port-half": (lambda: xlstm.port(DEMO, "numpy", dtype="float16"), "float16", "float64"),
    "port-no-dtype": (lambda: xlstm.port(DEMO, "numpy", dtype="banana"), "banana", "float64"),
    "port-object": (lambda: xlstm.port(DEMO, "numpy", dtype=object), "object", "float64"),
    "save-unknown": (lambda: xlstm.save(DEMO, "x", "caffe"), "'caffe'", "torch"),
    "count-unknown": (lambda: xlstm.count(DEMO, ["caffe"]), "'caffe'", "torch"),
    "reconcile-unknown": (lambda: xlstm.reconcile(DEMO, ["caffe"]), "'caffe'", "torch"),
    "reconcile-reference": (lambda: xlstm.reconcile(DEMO, ["numpy"]), "numpy"),
    "explain-unknown": (lambda: xlstm.explain("Lambda", features=1, units=2), "'Lambda'", "LSTM"),
    "explain-zero": (lambda: xlstm.explain("LSTM", features=1, units=0), "units", "0"),
    "explain-negative": (lambda: xlstm.explain("LSTM", features=-1, units=2), "features", "-1"),
    "explain-fraction": (lambda: xlstm.explain("Dense", features=1.5, units=2), "1.5"),
    "explain-text": (lambda: xlstm.explain("Dense", features=1, units="2"), "'2'"),
    "explain-bool": (lambda: xlstm.explain("Dense", features=True, units=2), "True"),
    "explain-huge": (lambda: xlstm.explain("LSTM", features=1, units=2**40), "units"),
}


@pytest.mark.parametrize("case", CALLS)
def test_arguments_that_make_no_sense(case, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, *words = CALLS[case]
    refused(UsageError, call, *words)
    assert not list(tmp_path.iterdir())


def of_keras_2(module, name="Sequential"):
    """An object of a class as Keras 2 has it in this module, and one of a class that inherits."""
    cls = type(name, (), {"__module__": module})
    return cls(), type("Own", (cls,), {"__module__": "__main__"})()


KERAS_2 = [
    "tf_keras.src.engine.sequential",
    "tensorflow.python.keras.engine.functional",
    "keras.engine.training",
    "keras.src.engine.training",
]
READS = {
    "load": xlstm.load,
    "count": xlstm.count,
    "port": lambda model: xlstm.port(model, "torch"),
    "save": lambda model: xlstm.save(model, "folder", "torch"),
    "reconcile": lambda model: xlstm.reconcile(model, ["torch"]),
    "diagnose": lambda model: xlstm.diagnose(model, DEMO),
}


@pytest.mark.parametrize("module", KERAS_2)
@pytest.mark.parametrize("call", READS)
def test_a_live_model_of_keras_2_is_to_be_saved(call, module, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for model in of_keras_2(module):
        words = ("Keras 3", type(model).__name__, 'model.save("model.h5")')
        refused(UsageError, lambda: READS[call](model), *words)  # noqa: B023
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("module", ["tf_keras_extra.layers", "my.tf_keras.layers", "kerasque"])
def test_classes_of_others_are_not_taken_for_keras_2(module):
    for model in of_keras_2(module):
        refused(UsageError, lambda: xlstm.load(model), "a model of keras", type(model).__name__)  # noqa: B023


INPUTS = {
    "too-few-axes": np.ones((2, 20)),
    "too-many-axes": np.ones((2, 20, 1, 1)),
    "features": np.ones((2, 20, 3)),
    "steps": np.ones((2, 7, 1)),
    "empty-batch": np.ones((0, 20, 1)),
    "no-array": [],
    "two-arrays": [np.ones((2, 20, 1))] * 2,
    "text": [np.full((2, 20, 1), "a")],
}


@pytest.mark.parametrize("case", INPUTS)
def test_inputs_that_do_not_fit_the_model(case):
    refused(UsageError, lambda: xlstm.reconcile(DEMO, ["torch"], INPUTS[case]))


def ones(**shapes):
    return {name: np.ones(shape, np.float32) for name, shape in shapes.items()}


LSTM = ones(kernel=(3, 16), recurrent_kernel=(4, 16), bias=(16,))
DENSE = ones(kernel=(3, 2), bias=(2,))
ORDERED = list(LSTM.values())
K, T = "keras.LSTM", "torch.LSTM"
NAMES = {
    "unknown-framework": (LSTM, "caffe.LSTM", T, "'caffe'"),
    "unknown-source": (LSTM, "keras.Lambda", T, "'keras.Lambda'"),
    "unknown-target": (LSTM, K, "torch.lstm", "torch.LSTM"),
    "no-layer": (LSTM, "keras", T, "keras.LSTM"),
    "no-framework": (LSTM, "LSTM", T, "torch"),
    "empty": (LSTM, "", T, "torch"),
    "other-kind": (LSTM, K, "torch.Linear", "Dense"),
    "other-kind-from": (DENSE, "keras.Dense", T, "LSTM"),
}
ARRAYS = {
    "none": ({}, K, "kernel"),
    "none-in-order": ([], K, "kernel"),
    "no-recurrent": (ones(kernel=(3, 16), bias=(16,)), K, "recurrent_kernel"),
    "no-kernel": (ones(recurrent_kernel=(4, 16), bias=(16,)), K, "kernel"),
    "only-a-bias": (ones(bias=(16,)), K, "kernel"),
    "too-few-in-order": (ORDERED[:1], K, "recurrent_kernel"),
    "left-over": ({**LSTM, "peephole": np.ones(4)}, K, "peephole"),
    "left-over-in-order": ([*ORDERED, np.ones(4)], K, "left over"),
    "wrong-names": (ones(W=(3, 16), U=(4, 16), b=(16,)), K, "W"),
    "names-of-the-target": (LSTM, T, "recurrent_kernel"),
    "no-multiple-of-four": (ones(kernel=(3, 17), recurrent_kernel=(4, 17), bias=(17,)), K, "17"),
    "arrays-disagree": ({**LSTM, **ones(recurrent_kernel=(5, 16))}, K, "5"),
    "bias-disagrees": ({**LSTM, **ones(bias=(20,))}, K, "(20,)"),
    "transposed": ({**LSTM, **ones(kernel=(16, 3))}, K, "(16, 3)"),
    "wrong-order": ([ORDERED[2], ORDERED[0], ORDERED[1]], K, "(16,)"),
    "another-rank": ({**LSTM, **ones(bias=(2, 16))}, K, "(2, 16)"),
    "a-number": ({**LSTM, "bias": 0.0}, K, "()"),
    "none-inside": ({**LSTM, "bias": None}, K, "bias"),
    "text": ({**LSTM, "bias": np.full(16, "a")}, K, "bias"),
    "objects": ({**LSTM, "bias": np.full(16, None)}, K, "bias"),
}


@pytest.mark.parametrize("case", NAMES)
def test_convert_weights_between_names_that_are_none(case):
    arrays, source, target, *words = NAMES[case]
    refused(UsageError, lambda: xlstm.convert_weights(arrays, source, target), *words)


@pytest.mark.parametrize("case", ARRAYS)
def test_convert_weights_of_arrays_that_are_no_layer(case):
    arrays, source, *words = ARRAYS[case]
    refused(WeightsError, lambda: xlstm.convert_weights(arrays, source, "nnx.LSTMCell"), *words)


def test_convert_weights_leaves_its_inputs_alone():
    before = {name: array.copy() for name, array in LSTM.items()}
    converted = xlstm.convert_weights(LSTM, K, T)
    assert {name: array.shape for name, array in converted.items()} == {
        "weight_ih_l0": (16, 3),
        "weight_hh_l0": (16, 4),
        "bias_ih_l0": (16,),
        "bias_hh_l0": (16,),
    }
    np.testing.assert_equal(LSTM, before)
