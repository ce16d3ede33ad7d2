"""Operations between layers in every framework, and what is refused of them."""

import json

import h5py
import keras
import numpy as np
import pytest
from keras_layer_models import LAYER_MODELS
from keras_operation_models import OPERATION_MODELS, L, numbers
from refusing import refused

import xlstm
from xlstm.errors import UnsupportedError

ops = keras.ops


MODELS = {**OPERATION_MODELS, **LAYER_MODELS}


@pytest.mark.parametrize("name", MODELS)
def test_equal_up_to_rounding(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = MODELS[name]()[0]
    model.save(tmp_path / "m.keras")
    report = xlstm.reconcile(tmp_path / "m.keras", ["torch", "nnx", "linen", "keras"])
    found = {
        (name, dtype): verdict.verdict
        for name, seen in report.frameworks.items()
        for dtype, verdict in seen.verdicts.items()
    }
    assert {*found.values()} == {"rounding"}, found


def test_a_ported_keras_file_is_a_source_again(tmp_path):
    model, inputs = OPERATION_MODELS["operations-masked_mean"]()
    xlstm.port(model, "keras").save(tmp_path / "again.keras")
    want = model(inputs[0], training=False)
    for y, got in zip(want, xlstm.port(tmp_path / "again.keras", "numpy")(*inputs), strict=True):
        np.testing.assert_allclose(got, y, rtol=0, atol=1e-6)


REFUSED = {
    "operation tensordot": lambda a: ops.tensordot(a, a, axes=2),
    "outputs: expected a tensor of samples, got mean": lambda a: ops.mean(a),
    "Softmax): expected a tensor of samples, got sum": lambda a: (
        ops.softmax(ops.sum(a, axis=0)) * a
    ),
    "layer wide: expected a tensor of samples, got": lambda a: L.Dense(2, name="wide")(
        ops.max(a, axis=0, keepdims=True)
    ),
    "one number of repeats": lambda a: ops.repeat(a, [1, 2, 1, 2, 1], axis=1),
    "6 places to repeat, got size 5": lambda a: ops.pad(
        a, [[0, 0], [6, 0], [0, 0]], mode="symmetric"
    ),
    "4 places to repeat, got any size": lambda a: ops.pad(
        keras.Input((None, 2)), [[0, 0], [4, 0], [0, 0]], mode="reflect"
    ),
    "none for the batch, got [[1, 1]": lambda a: ops.pad(a, [[1, 1], [0, 0], [0, 0]]),
    "or reflect or symmetric, got edge": lambda a: ops.pad(
        a, [[0, 0], [1, 1], [0, 0]], mode="edge"
    ),
    "one of float32": lambda a: ops.cast(a, "float16"),
    "1024 finite numbers": lambda a: ops.reshape(a, (-1, 20, 1)) + np.ones((20, 52), "float32"),
    "an array that samples": lambda a: a + np.ones((3, 5, 4), "float32"),
    "the same for every sample, got (4, 5, 4)": lambda a: ops.concatenate(
        [a, numbers(5, 4)], axis=1
    ),
    "the same for every sample, got a constant": lambda a: L.GRU(3)(a, initial_state=numbers(3)),
    "True and False": lambda a: ops.add(ops.greater(a, 0), ops.less(a, 1)),
    "order 1 or 2": lambda a: ops.norm(a, ord=3, axis=1),
    "bii->bi": lambda a: ops.einsum("bii->bi", a[:, :4]),
    "leaves samples apart": lambda a: ops.einsum("bij,cij->bc", a, a),
    "with an arrow, got bij,bij": lambda a: ops.einsum("bij,bij", a, a),
    "whose samples it multiplies with one another": lambda a: ops.dot(
        a, ops.reshape(a, (-1, 4, 5))
    ),
    "of one rank, got samples (5, 4) and (4,)": lambda a: ops.matmul(a, a[:, 0]),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_has_no_form_is_refused_by_name(words):
    a = keras.Input((5, 4))
    made = REFUSED[words](a)
    model = keras.Model(keras.utils.get_source_inputs(made), made)
    refused(UnsupportedError, lambda: xlstm.load(model), words)


def old(name, function, first, **options):
    """An operation of tf.keras, as its files have it; tensors by name in brackets."""
    own = {"name": name, "trainable": True, "dtype": "float32", "function": function}
    given = {k: [*v, 0, 0] if isinstance(v, tuple) else v for k, v in options.items()}
    tensors = first if isinstance(first, list) else [first]
    nodes = [[tensor, 0, 0, given] for tensor in tensors]
    inbound = [nodes] if isinstance(first, list) else nodes
    return {"class_name": "TFOpLambda", "config": own, "name": name, "inbound_nodes": inbound}


OLD = [
    old("seen", "math.greater", "x", y=0.0),
    old("other", "__operators__.ne", "x", y=1.0),
    old("both", "math.logical_and", "seen", y=("other",)),
    old("keep", "cast", "both", dtype="float32"),
    old("low", "clip_by_value", "x", clip_value_min=-1.0, clip_value_max=0.5),
    old("chosen", "where", "both", x=("x",), y=-2.0),
    old("sums", "math.cumsum", "chosen", axis=1, exclusive=False, reverse=False),
    old("pair", "stack", ["low", "sums"], axis=1),
    old("best", "math.argmax", "pair", axis=-1),
    old("hot", "one_hot", "best", depth=4),
    old("half", "split", "hot", num_or_size_splits=[1, 3], axis=-1),
    old("wide", "tile", "keep", multiples=[1, 2, 1]),
    old("some", "gather", "wide", indices=[0, 7], axis=1),
    old("length", "math.reduce_std", "some", axis=[1], keepdims=False),
]


def test_operations_of_tf_keras(tmp_path):
    start = {"batch_input_shape": [None, 5, 4], "dtype": "float32", "name": "x"}
    first = {"class_name": "InputLayer", "config": start, "name": "x", "inbound_nodes": []}
    ends = [["half", 0, 1], ["length", 0, 0]]
    config = {"name": "old", "layers": [first, *OLD]}
    config |= {"input_layers": [["x", 0, 0]], "output_layers": ends}
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["keras_version"] = "2.15.0"
        file.attrs["backend"] = "tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = np.array([], "S1")
        weights.attrs["keras_version"] = "2.15.0"
        weights.attrs["backend"] = "tensorflow"
    x = numbers(5, 4)
    keep = (x > 0) & (x != 1)
    pair = np.stack([x.clip(-1, 0.5), np.where(keep, x, -2).cumsum(axis=1)], axis=1)
    half = (pair.argmax(axis=-1)[..., None] == np.arange(4))[..., 1:]
    got = xlstm.port(tmp_path / "old.h5", "numpy")(x)
    np.testing.assert_array_equal(got[0], half)
    np.testing.assert_allclose(got[1], keep[:, [0, 2]].std(axis=1), rtol=0, atol=1e-6)


UNREAD = {
    "max": (lambda h: keras.ops.max(h, 1, initial=0.1), "initial=0.1"),
    "min": (lambda h: keras.ops.min(h, 1, initial=-0.1), "initial=-0.1"),
    "round": (lambda h: keras.ops.round(h, 1), "decimals=1"),
    "cumsum": (lambda h: keras.ops.cumsum(h * 9, 1, dtype="int32"), "dtype='int32'"),
    "cumprod": (lambda h: keras.ops.cumprod(h * 9, 1, dtype="int32"), "dtype='int32'"),
}


@pytest.mark.parametrize("name", UNREAD)
def test_an_option_that_no_reader_knows_is_refused(name, tmp_path):
    call, option = UNREAD[name]
    x = keras.Input((6, 3))
    model = keras.Model(x, call(keras.layers.LSTM(4, return_sequences=True)(x)))
    model.save(tmp_path / "m.keras")
    for source in (model, tmp_path / "m.keras"):
        error = refused(UnsupportedError, lambda source=source: xlstm.load(source), name, option)
        assert "options that are known" in error.expected
