"""Transposed convolutions: files of Keras 2 and 3, and modules of PyTorch and Flax."""

import json

import h5py
import jax
import jax.numpy as jnp
import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from cases_transposed import BOTH
from flax import linen, nnx
from make_files import layer
from refusing import refused
from test_keras_theano import file_of
from torch import nn

import xlstm
from xlstm.errors import UnsupportedError, XlstmError
from xlstm.verification.bounds import bounds, judge

RNG = np.random.default_rng(8)


def agrees(source, inputs, found):
    """Whether what is read is what somebody else's code gave in float32; the model."""
    read = xlstm.load(source)
    (allowed,), (exact,) = (bounds(read, [inputs], dtype) for dtype in ("float32", "float64"))
    assert judge(np.asarray(found), allowed, exact, "float32").verdict == "rounding"
    return read


def decoder():
    """The upper half of an autoencoder over steps, and of one over images."""
    layers = keras.layers
    x = keras.Input((5, 6), name="steps")
    y = layers.Conv1DTranspose(4, 3, strides=2, padding="same", activation="relu")(x)
    y = layers.Conv1DTranspose(3, 4, strides=3, output_padding=1, use_bias=False)(y)
    image = layers.Reshape((4, 4, 6))(layers.Dense(96)(layers.Flatten()(x)))
    z = layers.Conv2DTranspose(4, 3, strides=2, padding="same", activation="elu")(image)
    z = layers.BatchNormalization()(z)
    z = layers.Conv2DTranspose(1, (2, 3), dilation_rate=(1, 2), padding="same")(z)
    return keras.Model(x, [y, z])


@pytest.mark.parametrize("end", ["keras", "h5"])
def test_files_of_keras(end, tmp_path):
    keras.utils.set_random_seed(3)
    model = decoder()
    for variable in model.trainable_variables:
        variable.assign(0.4 * RNG.standard_normal(variable.shape))
    model.save(tmp_path / f"m.{end}")
    x = RNG.standard_normal((3, 5, 6)).astype("float32")
    read = xlstm.load(tmp_path / f"m.{end}")
    for found, wanted in zip(xlstm.port(read, "numpy")(x), model(x), strict=True):
        wanted = np.asarray(wanted)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-6 * np.abs(wanted).max())
    report = xlstm.reconcile(read, ["torch", "nnx", "linen", "keras"])
    report.check()
    assert report.frameworks["keras"].parameters == model.count_params()


def entry(window, **options):
    """A layer of Keras 2, whose version says no output_padding and no dilation."""
    plain = {"filters": 3, "kernel_size": [window], "strides": [1], "padding": "valid"}
    plain |= {"activation": "linear", "use_bias": True, "data_format": "channels_last"}
    return layer("Conv1DTranspose", name="up", **plain, **options)


def arrays(window):
    return {
        "kernel": RNG.standard_normal((window, 3, 2)).astype("float32"),
        "bias": RNG.standard_normal(3).astype("float32"),
    }


@pytest.mark.parametrize("backend", ["tensorflow", "theano"])
def test_keras_2(backend, tmp_path):
    """Every step's window is added where the step is; Theano keeps windows turned round."""
    held = arrays(4)
    read = xlstm.load(file_of(tmp_path, entry(4, groups=1), held, backend))
    x = RNG.standard_normal((2, 7, 2))
    kernel = held["kernel"].astype("float64")[:: -1 if backend == "theano" else 1]
    wanted = np.zeros((2, 10, 3)) + held["bias"]
    for step in range(7):
        wanted[:, step : step + 4] += np.einsum("bc,qfc->bqf", x[:, step], kernel)
    found = xlstm.port(read, "numpy", dtype="float64")(x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_options_that_are_refused_by_name(tmp_path):
    held = arrays(2)
    for number, (options, *words) in enumerate(
        [
            ({"groups": 2}, "groups=2"),
            ({"padding": "causal"}, "ConvTranspose.padding", "valid, same", "'causal'"),
            ({"output_padding": [1]}, "output_padding", "(1,)"),
            ({"output_padding": "half"}, "'half' instead of 1 whole number"),
        ]
    ):
        found = entry(2)
        found["config"] |= options
        (tmp_path / f"{number}").mkdir()
        path = file_of(tmp_path / f"{number}", found, held, "tensorflow")
        with pytest.raises(XlstmError) as caught:
            xlstm.load(path)
        assert all(word in str(caught.value) for word in ("up", *words)), caught.value
    same = entry(2)
    same["config"]["padding"] = "same"
    path = file_of(tmp_path, same, held, "theano")
    refused(UnsupportedError, lambda: xlstm.load(path), "layer up", "window of (2,)")


MODULES = {
    "1d": (
        nn.Sequential(
            nn.Conv1d(3, 4, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose1d(4, 5, 3, stride=2, padding=1, output_padding=1),
            nn.ConvTranspose1d(5, 2, 2, dilation=3, padding=1, output_padding=2, bias=False),
        ),
        (2, 3, 8),
    ),
    "2d": (
        nn.Sequential(nn.ConvTranspose2d(3, 4, (4, 2), (2, 3), (1, 0)), nn.Tanh()),
        (2, 3, 4, 5),
    ),
    "3d": (
        nn.Sequential(nn.ConvTranspose3d(2, 3, 2, 2, output_padding=1), nn.BatchNorm3d(3)),
        (2, 2, 2, 3, 2),
    ),
}


@pytest.mark.parametrize("name", MODULES)
def test_modules_of_torch(name):
    module, shape = MODULES[name]
    torch.manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    module.eval()
    x = torch.from_numpy(RNG.standard_normal(shape).astype("float32"))
    with torch.no_grad():
        found = module(x)
    read = agrees(module, x.numpy(), found)
    xlstm.reconcile(read, ["torch", "keras"] if name == "2d" else ["torch"]).check()


def test_groups_of_torch_are_refused():
    module = nn.Sequential(nn.ConvTranspose1d(4, 4, 3, groups=2))
    refused(UnsupportedError, lambda: xlstm.load(module), "groups=2")


FLAX = {
    "same": {"strides": (2,), "transpose_kernel": True},
    "valid": {"strides": 2, "padding": "VALID", "use_bias": False},
    "untold": {"kernel_dilation": 2},
    "pairs": {"strides": (2,), "padding": ((3, 4),), "transpose_kernel": True},
    "pairs, same": {"strides": (2,), "padding": [(2, 2)]},
}


def flax(framework, **options):
    """A live Sequential with random weights, and how it is called."""
    if framework == "nnx":
        module = nnx.Sequential(nnx.ConvTranspose(3, 5, (4,), **options, rngs=nnx.Rngs(0)))
        return module, module
    module = linen.Sequential([linen.ConvTranspose(5, (4,), **options)])
    variables = module.init(jax.random.key(0), jnp.zeros((1, 6, 3)))
    return (module, variables), lambda x: module.apply(variables, x)


@pytest.mark.parametrize("framework", ["nnx", "linen"])
@pytest.mark.parametrize("name", FLAX)
def test_modules_of_flax(name, framework):
    source, call = flax(framework, **FLAX[name])
    x = RNG.standard_normal((2, 6, 3)).astype("float32")
    read = agrees(source, x, call(x))
    xlstm.reconcile(read, [framework, "torch"]).check()


@pytest.mark.parametrize("framework", ["nnx", "linen"])
def test_padding_of_flax_that_is_refused(framework):
    for padding in ("CIRCULAR", ((0, 4),), 0):
        source, _ = flax(framework, strides=(2,), padding=padding)
        refused(UnsupportedError, lambda source=source: xlstm.load(source), "padding", "crop")


@pytest.mark.parametrize("case", BOTH)
def test_what_keras_does_not_take(case):
    report = xlstm.reconcile(BOTH[case], ["torch", "nnx", "linen"])
    report.check()
    assert all(f.parameters == report.ledger.total("torch") for f in report.frameworks.values())


def deconvolution(path, shape, first=False, mode="valid", kernel=None, backend="tensorflow"):
    """A file of Keras 1 with a Deconvolution2D of images (4, 5, 3)."""
    options = {"nb_filter": 2, "nb_row": 3, "nb_col": 2, "subsample": [2, 3], "bias": True}
    options |= {"border_mode": mode, "dim_ordering": "th" if first else "tf", "init": "uniform"}
    sizes = [None, 2, *shape] if first else [None, *shape, 2]
    options |= {"activation": "relu", "output_shape": sizes}
    options |= {"name": "up", "trainable": True, "input_dtype": "float32"}
    options |= {"batch_input_shape": [None, 3, 4, 5] if first else [None, 4, 5, 3]}
    model = {"class_name": "Sequential"}
    model["config"] = [{"class_name": "Deconvolution2D", "config": options}]
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(model)
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array(["up"], "S")
        for place in (file, root):
            place.attrs["keras_version"], place.attrs["backend"] = "1.2.2", backend
        group = root.create_group("up")
        group.attrs["weight_names"] = np.array(["up_W", "up_b"], "S")
        group["up_W"] = kernel.transpose(3, 2, 0, 1) if first else kernel
        group["up_b"] = np.float32([0.1, -0.2])
    return path


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("mode", "shape"),
    [("valid", (9, 15)), ("valid", (10, 16)), ("same", (8, 15)), ("same", (7, 14))],
)
def test_deconvolution_of_keras_1(mode, shape, first, tmp_path):
    """What Keras 1.2.2 calls: tf.nn.conv2d_transpose with the kernel's channels exchanged."""
    kernel = RNG.standard_normal((3, 2, 3, 2)).astype("float32")
    x = RNG.standard_normal((2, 4, 5, 3)).astype("float32")
    flat = kernel.transpose(0, 1, 3, 2)
    y = tf.nn.conv2d_transpose(x, flat, (2, *shape, 2), (2, 3), mode.upper())
    wanted = np.maximum(y.numpy() + np.float32([0.1, -0.2]), 0)
    path = deconvolution(tmp_path / "old.h5", shape, first, mode, kernel)
    given, wanted = (a.transpose(0, 3, 1, 2) if first else a for a in (x, wanted))
    agrees(path, given, wanted)


def test_deconvolution_that_theano_computed_is_refused(tmp_path):
    kernel = np.ones((3, 2, 3, 2), "float32")
    path = deconvolution(tmp_path / "old.h5", (9, 15), kernel=kernel, backend="theano")
    refused(UnsupportedError, lambda: xlstm.load(path), "that TensorFlow computed")
