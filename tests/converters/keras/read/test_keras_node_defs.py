"""TensorFlow's operations in files of tf.keras 2.2 and 2.3, made by TensorFlow and run by it."""

import json

import h5py
import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import json_format
from keras_operation_models import numbers
from make_files import UNITS, h5_file
from refusing import refused
from xlstm.converters.keras.read.ops.node_defs import FORMS
from xlstm.converters.keras.read.ops.registry import OPERATIONS

import xlstm
from xlstm.errors import FileError, UnsupportedError
from xlstm.ir.layers import LSTM

raw = tf.raw_ops


def layer(op, constants, tensors):
    """A node of a graph as tf.keras wrote it: a layer called on tensors, the rest as constants."""
    own = {"name": op.name, "trainable": True, "dtype": "float32"}
    own |= {"node_def": json_format.MessageToDict(op.node_def), "constants": constants}
    inbound = [[[*tensor, {}] for tensor in tensors]]
    name = f"tf_op_layer_{op.name}"
    return {
        "class_name": "TensorFlowOpLayer",
        "config": own,
        "name": name,
        "inbound_nodes": inbound,
    }


def place(tensor):
    """A tensor as configs name it."""
    before = "" if tensor.op.type == "Placeholder" else "tf_op_layer_"
    return [before + tensor.op.name, 0, tensor.value_index]


def written(function, path, *shapes):
    """A file of tf.keras with the nodes that TensorFlow makes of a function; their operations."""
    specs = [tf.TensorSpec([None, *shape], name=f"x{n}") for n, shape in enumerate(shapes)]
    traced = tf.function(function).get_concrete_function(*specs)
    layers, ops = [], set()
    for op in traced.graph.get_operations():
        constants = {}
        for n, tensor in enumerate(op.inputs):
            if tensor.op.type == "Const":
                constants[n] = tf.make_ndarray(tensor.op.get_attr("value")).tolist()
        if op.type == "Placeholder":
            own = {"batch_input_shape": op.outputs[0].shape.as_list(), "dtype": "float32"}
            own |= {"name": op.name}
            layers.append({"class_name": "InputLayer", "config": own, "name": op.name})
            layers[-1]["inbound_nodes"] = []
        elif op.type not in ("Const", "NoOp"):
            layers.append(
                layer(op, constants, [place(t) for t in op.inputs if t.op.type != "Const"])
            )
            ops.add(op.type)
    config = {"name": "old", "layers": layers}
    config |= {"input_layers": [place(tensor) for tensor in traced.inputs]}
    config |= {"output_layers": [place(tensor) for tensor in traced.outputs]}
    with h5py.File(path, "w") as file:
        file.attrs["keras_version"], file.attrs["backend"] = "2.4.0", "tensorflow"
        file.attrs["model_config"] = json.dumps({"class_name": "Functional", "config": config})
        weights = file.create_group("model_weights")
        weights.attrs["layer_names"] = np.array([], "S1")
        weights.attrs["keras_version"], weights.attrs["backend"] = "2.4.0", "tensorflow"
    return ops


def moves(x, y):
    """Numbers in other places."""
    a, b, c = tf.split(x, [1, 1, 2], axis=-1)
    d, _ = tf.split(y, 2, axis=2)
    found = [tf.reshape(x, [-1, 20]), tf.reshape(x, [-1, 2, 10]), tf.transpose(x, [0, 2, 1])]
    found += [tf.squeeze(a, -1), tf.squeeze(tf.expand_dims(b, 1), [1, 3]), c, d, x[:, 0], x[:, -2:]]
    found += [x[..., 1], x[:, tf.newaxis, ::2], x[:, ::-1, 1:3], tf.reverse(x, [1]), x[0:, 1:4]]
    found += [tf.tile(x, [1, 2, 1]), tf.gather(x, [3, 0], axis=1), tf.stack([x, y], axis=1)]
    found += [tf.concat([x, y], axis=-1), tf.unstack(x, axis=2)[3], raw.StopGradient(input=x)]
    found += [tf.pad(x, [[0, 0], [1, 2], [0, 0]]), raw.Identity(input=y)]
    found += [tf.pad(x, [[0, 0], [1, 0], [0, 1]], constant_values=2.0)]
    return [*found, tf.pad(x, [[0, 0], [2, 0], [0, 0]], "REFLECT")]


def sums(x, y):
    """Numbers of several."""
    keep = {"axis": 1, "keepdims": True}
    found = [tf.reduce_mean(x, 1), tf.reduce_sum(x, [1, 2]), tf.reduce_max(x, **keep)]
    found += [tf.reduce_min(x, -1), tf.reduce_prod(x, 2), tf.cumsum(x, 1), tf.math.cumprod(x, 1)]
    found += [tf.cast(tf.argmax(x, -1), "float32"), tf.cast(tf.argmin(x, 1), "float32")]
    found += [tf.matmul(x, y, transpose_b=True), tf.matmul(x[:, 0], np.ones((4, 2), "float32"))]
    found += [tf.nn.softmax(x), tf.nn.log_softmax(y), tf.reduce_mean(tf.cast(x > 0, "float32"), 1)]
    return found


def truths(x, y):
    """Comparisons, and what they choose."""
    one, two = tf.logical_and(x > 0, y < 1), tf.logical_or(x >= 1, tf.logical_not(y <= 0.5))
    some = tf.reduce_any(tf.not_equal(x, y), axis=-1)
    every = tf.reduce_all(tf.equal(x, x), axis=[1])
    masks = [one, two, some, every]
    return [tf.where(one, x, y), *(tf.cast(mask, "float32") for mask in masks)]


FUNCTIONS = "Abs Ceil Cos Exp Expm1 Floor Log1p Neg Rint Round Sigmoid Sign Sin Square Tanh"
ACTIVATIONS = "Elu Relu Relu6 Selu Softplus Softsign"
POSITIVE = "Log Reciprocal Rsqrt Sqrt"


def plain(x, y):
    """Arithmetic, and functions of every number."""
    above = tf.abs(y) + 0.5
    found = [getattr(raw, op)(x=y * y - 0.5) for op in FUNCTIONS.split()]
    found += [getattr(raw, op)(features=x) for op in ACTIVATIONS.split()]
    found += [getattr(raw, op)(x=above) for op in POSITIVE.split()]
    found += [
        x + y,
        raw.Add(x=x, y=y),
        x - y,
        1.0 - x,
        x * y,
        x * [1.0, 2.0, 3.0, 4.0],
        2.0 / above,
    ]
    found += [x / above, x / 3.0, x**2.0, tf.maximum(x, y), tf.minimum(x, 0.5)]
    return [*found, tf.nn.leaky_relu(x, 0.1), tf.nn.leaky_relu(x)]


@pytest.mark.parametrize("function", [moves, sums, truths, plain], ids=lambda f: f.__name__)
def test_nodes_compute_what_tensorflow_computes(function, tmp_path):
    written(function, tmp_path / "m.h5", (5, 4), (5, 4))
    x = [numbers(5, 4), numbers(5, 4, seed=1)]
    wanted = function(*map(tf.constant, x))
    found = xlstm.port(tmp_path / "m.h5", "numpy")(*x)
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want.numpy(), rtol=2e-6, atol=2e-6)


def test_every_form_is_tried(tmp_path):
    """A form that no function above uses has been compared with nothing."""
    shapes = (5, 4), (5, 4)
    tried = [written(f, tmp_path / "m.h5", *shapes) for f in (moves, sums, truths, plain)]
    assert set().union(*tried) == FORMS.keys()
    assert {form.name for form in FORMS.values()} <= OPERATIONS.keys()


NODE = {
    "name": "Reshape",
    "op": "Reshape",
    "input": ["lstm/Identity", "Reshape/shape"],
    "attr": {"T": {"type": "DT_FLOAT"}, "Tshape": {"type": "DT_INT32"}},
}


def around(node=None, constants=None):
    """Puts a node between an LSTM and a Dense layer."""
    constants = {"1": [-1, 1, UNITS]} if constants is None else constants
    own = {"name": "Reshape", "trainable": True, "dtype": "float32"}
    own |= {"node_def": NODE if node is None else node, "constants": constants}

    def hook(config):
        first, lstm, dense = config["config"]["layers"]
        middle = {"class_name": "TensorFlowOpLayer", "config": own, "name": "tf_op_layer_Reshape"}
        layers = [first, lstm, middle, dense]
        names = ["input_1", "lstm", "tf_op_layer_Reshape", "dense"]
        for n, (name, item) in enumerate(zip(names, layers, strict=True)):
            item |= {"name": name, "inbound_nodes": [[[names[n - 1], 0, 0, {}]]] if n else []}
        ends = {"input_layers": [["input_1", 0, 0]], "output_layers": [["dense", 0, 0]]}
        return {"class_name": "Functional", "config": {"name": "m", "layers": layers, **ends}}

    return hook


@pytest.mark.parametrize("node", [NODE, json.dumps(NODE)], ids=["dict", "text"])
def test_a_reshape_behind_an_lstm(node, tmp_path):
    model = xlstm.load(h5_file(tmp_path / "m.h5", config=around(node), version="2.4.0"))
    plain = xlstm.load(h5_file(tmp_path / "plain.h5"))
    assert isinstance(model.layers[0].spec, LSTM)
    x = numbers(6, 3)
    found, want = (xlstm.port(read, "numpy")(x) for read in (model, plain))
    np.testing.assert_allclose(found[:, 0], want, rtol=0, atol=1e-6)


def changed(**options):
    return {**NODE, **options}


def attribute(value):
    return changed(attr={**NODE["attr"], "found": value})


DEEP = '{"op":' * 5000
UNSUPPORTED = {
    "operation FFT of TensorFlow (tf_op_layer_Reshape)": changed(op="FFT"),
    "operation reshape of TensorFlow": changed(op="reshape"),
    "attributes that are known, got 7": attribute({"i": "7"}),
    "got True": attribute({"b": True}),
}
DAMAGED = {
    "got a number": 7,
    "node as TensorFlow": "\n\x07Reshape\x12\x07Reshape",
    "node_def": DEEP,
    "name of an operation": changed(op=['__import__("os")']),
    "operation, got": changed(op='x"\n__import__("os")'),
    "a list of at most 1024 inputs": changed(input={"a": 1}),
    "at most 1024 inputs": changed(input=["^a"] * 2000),
    "3 inputs": changed(input=["a", "b", "c"]),
    "1 inputs": changed(input=["a", "^b"]),
    "by name": changed(attr=["T"]),
    "a value of type": attribute({"type": "DT_STRING"}),
    "a value of i": attribute({"i": "9" * 5000}),
    "a value of list": attribute({"list": {"s": ["eA=="]}}),
    "a value of s": attribute({"s": "\u00e9"}),
    "a value of f": attribute({"f": "NaN"}),
    "a value of b": attribute({"b": 1}),
    "one of b, f": attribute({"func": {"name": "f"}}),
    "got none": attribute({}),
}


@pytest.mark.parametrize("words", [*UNSUPPORTED, *DAMAGED])
def test_other_nodes_are_refused(words, tmp_path):
    kind = UnsupportedError if words in UNSUPPORTED else FileError
    path = h5_file(tmp_path / "m.h5", config=around({**UNSUPPORTED, **DAMAGED}[words]))
    refused(kind, lambda: xlstm.load(path), words)


CONSTANTS = {
    "inputs, constants among them, got 1": (FileError, {}),
    "constants by the place": (FileError, {"-1": [-1, 4]}),
    "by the place of an input": (FileError, [[-1, 4]]),
    "not empty": (UnsupportedError, {"1": []}),
    "a shape (-1, ...), the batch left open": (UnsupportedError, {"1": [[[[-1]]]]}),
    "the numbers of one sample": (UnsupportedError, {"1": [-1, 5]}),
    "a shape": (UnsupportedError, {"0": [-1, 4]}),
}


@pytest.mark.parametrize("words", CONSTANTS)
def test_other_constants_are_refused(words, tmp_path):
    kind, constants = CONSTANTS[words]
    path = h5_file(tmp_path / "m.h5", config=around(constants=constants))
    refused(kind, lambda: xlstm.load(path), words)


def test_squeeze_of_no_axes_is_refused(tmp_path):
    """TensorFlow then drops every axis of one number, the batch's too where it is one."""
    written(lambda x: tf.squeeze(x), tmp_path / "m.h5", (1, 4))
    refused(UnsupportedError, lambda: xlstm.load(tmp_path / "m.h5"), "an axis after the batch")
