"""Activations called as functions, those with a number of their own among them."""

import numpy as np
import pytest
import torch
from torch import nn

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.ir.layers import Activation

X = np.linspace(-9, 9, 60, dtype="float32").reshape(10, 6)
"""Wide enough for every piece of every function here."""


def keras_model(function):
    import keras

    x = keras.Input((6,))
    return keras.Model(x, keras.layers.Dense(3, bias_initializer="ones")(function(x)))


def names():
    from keras.src.activations import ALL_OBJECTS_DICT

    return ALL_OBJECTS_DICT


REFUSED_NAMES = {"glu", "threshold", "sparsemax"}
"""Names that have no exact form where only a name is written."""

OPERATIONS = {
    "celu": lambda o, x: o.celu(x, alpha=0.3),
    "celu-large": lambda o, x: o.celu(x, alpha=4.0),
    "soft_shrink": lambda o, x: o.soft_shrink(x, threshold=2.5),
    "soft_shrink-zero": lambda o, x: o.soft_shrink(x, threshold=0.0),
    "hard_shrink": lambda o, x: o.hard_shrink(x, threshold=2.5),
    "hard_shrink-all": lambda o, x: o.hard_shrink(x, threshold=-1.0),
    "squareplus": lambda o, x: o.squareplus(x, b=9),
    "squareplus-zero": lambda o, x: o.squareplus(x, b=0),
    "threshold": lambda o, x: o.threshold(x, 0.4, -2.0),
    "glu": lambda o, x: o.glu(x),
    "glu-axis": lambda o, x: o.glu(o.reshape(x, (-1, 2, 3)), axis=1)[:, 0],
    "leaky_relu": lambda o, x: o.leaky_relu(x, negative_slope=0.3),
    "elu": lambda o, x: o.elu(x, alpha=0.3),
}
"""Operations of Keras 3 whose number is not the one that an activation of that name has."""


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations_with_a_number(name, tmp_path):
    import keras

    model = keras_model(lambda x: OPERATIONS[name](keras.ops, x))
    want = np.asarray(model(X))
    model.save(tmp_path / "model.keras")
    for source in (model, tmp_path / "model.keras"):
        np.testing.assert_allclose(xlstm.port(source, "numpy")(X), want, rtol=0, atol=5e-6)
    xlstm.reconcile(xlstm.load(model), ["keras", "torch", "nnx", "linen"], gradients=True).check()


def test_every_activation_of_keras_is_read_as_a_function_or_refused_by_name():
    import keras

    called = set()
    for name in names():
        layer = keras.Sequential([keras.Input((6,)), keras.layers.Activation(name)])
        if name in REFUSED_NAMES:
            with pytest.raises(UnsupportedError, match=name):
                xlstm.load(layer)
            continue
        got = xlstm.port(layer, "numpy")(X)
        np.testing.assert_allclose(got, np.asarray(layer(X)), rtol=1e-6, atol=5e-6)
    for name in names():
        operation = getattr(keras.ops, name, None)
        if operation is None or name in REFUSED_NAMES:
            continue
        model = keras_model(operation)
        np.testing.assert_allclose(
            xlstm.port(model, "numpy")(X), np.asarray(model(X)), rtol=0, atol=5e-6
        )
        called.add(name)
    # no operation has these names; "linear" is none, and Keras calls "exponential" exp
    assert {*names()} - called - REFUSED_NAMES == {"linear", "mish", "exponential"}
    with pytest.raises(UnsupportedError, match="sparsemax"):
        xlstm.load(keras_model(keras.ops.sparsemax))


REFUSED_NUMBERS = {
    "celu": (lambda o, x: o.celu(x, alpha=0.0), "alpha above 0"),
    "celu-negative": (lambda o, x: o.celu(x, alpha=-1.0), "from 0 on"),
    "soft_shrink": (lambda o, x: o.soft_shrink(x, threshold=-1.0), "from 0 on"),
    "squareplus": (lambda o, x: o.squareplus(x, b=-1.0), "from 0 on"),
    "threshold": (lambda o, x: o.threshold(x, float("inf"), 0.0), "finite"),
}


@pytest.mark.parametrize("name", REFUSED_NUMBERS)
def test_numbers_without_an_exact_form_are_refused(name):
    import keras

    call, words = REFUSED_NUMBERS[name]
    with pytest.raises(UnsupportedError, match=words):
        xlstm.load(keras_model(lambda x: call(keras.ops, x)))


MODULES = {
    "celu": nn.CELU(0.3),
    "celu-plain": nn.CELU(),
    "softshrink": nn.Softshrink(2.5),
    "softshrink-plain": nn.Softshrink(),
    "hardshrink": nn.Hardshrink(2.5),
    "hardshrink-plain": nn.Hardshrink(),
    "tanhshrink": nn.Tanhshrink(),
    "threshold": nn.Threshold(0.4, -2.0),
}


class Functions(nn.Module):
    """The same as functions."""

    def forward(self, x):
        f = nn.functional
        y = f.celu(x, 0.3) + f.softshrink(x, 2.5) + f.hardshrink(x, 2.5) + f.tanhshrink(x)
        return torch.celu(y) + f.threshold(x, 0.4, -2.0) + f.hardshrink(x) + f.softshrink(x)


@pytest.mark.parametrize("name", [*MODULES, "functions"])
def test_live_modules_of_pytorch(name):
    module = MODULES.get(name) or Functions()
    whole = nn.Sequential(nn.Linear(6, 6), module, nn.Linear(6, 2)).eval()
    model = xlstm.load(whole)
    want = whole(torch.from_numpy(X)).detach().numpy()
    np.testing.assert_allclose(xlstm.port(model, "numpy")(X), want, rtol=0, atol=5e-6)
    if name.endswith("plain") or name == "tanhshrink":
        assert [type(node.spec) for node in model.layers][1] is Activation
    xlstm.reconcile(model, ["keras", "torch", "nnx", "linen"]).check()


@pytest.mark.parametrize("module", [nn.CELU(-1.0), nn.Hardshrink(float("inf"))])
def test_modules_of_pytorch_without_an_exact_form(module):
    with pytest.raises(UnsupportedError, match="use a number"):
        xlstm.load(nn.Sequential(nn.Linear(6, 6), module))
