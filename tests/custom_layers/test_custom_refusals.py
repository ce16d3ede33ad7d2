"""Layers that the user tells wrongly: one clear error each."""

import itertools

import custom_texts
import numpy as np
import pytest
from custom_texts import SCALE, registered
from refusing import refused
from test_custom_layers import LAMBDA, old

import xlstm
from xlstm.errors import UnsupportedError, UsageError
from xlstm.ir.layers import Custom
from xlstm.slots import identity_table, pack, unpack

GOOD = {
    "reference": lambda _config, _weights, x: x,
    "output_shape": lambda _config, shape: shape,
    "weights": (),
    "mask": "stops",
}

REGISTRATIONS = {
    "name": ({"name": "x y"}, "'x y'"),
    "lambdas": ({"name": "Lambda"}, '"Lambda:lambda_1"'),
    "known": ({"name": "LSTM"}, "LSTM:NAME"),
    "mask": ({"mask": "maybe"}, "'maybe'"),
    "no-mask": ({"mask": None}, "None"),
    "reference": ({"reference": 3}, "reference"),
    "shape": ({"output_shape": (3,)}, "output_shape"),
    "weights": ({"weights": ("a", "a")}, "'a', 'a'"),
    "weight-name": ({"weights": ("dense/kernel",)}, "dense/kernel"),
    "weights-text": ({"weights": "W"}, "'W'"),
    "framework": ({"pytorch": xlstm.LayerCode(SCALE["torch"])}, "pytorch="),
    "numpy": ({"numpy": xlstm.LayerCode(SCALE["torch"])}, "numpy="),
    "text": ({"torch": SCALE["torch"]}, "LayerCode"),
}


@pytest.mark.parametrize("case", REGISTRATIONS)
def test_bad_registrations_are_one_clear_error(case):
    changes, words = REGISTRATIONS[case]
    options = {"name": "Mine", **GOOD, **changes}
    refused(UsageError, lambda: xlstm.register_layer(**options), words)
    refused(UsageError, lambda: xlstm.unregister_layer("Mine"), "Mine")


def test_a_name_is_taken_once():
    xlstm.register_layer("Mine", **GOOD)
    try:
        again = refused(UsageError, lambda: xlstm.register_layer("Mine", **GOOD), "overwrite=True")
        assert "Mine" in again.where
        xlstm.register_layer("Mine", **GOOD, overwrite=True)
    finally:
        xlstm.unregister_layer("Mine")


TEXTS = {
    "no-python": ("class (", "SyntaxError"),
    "no-class": ("import torch\n", "no class"),
    "relative": ("from .mine import x\n\n\nclass A:\n    pass\n", "from .mine"),
    "star": ("from torch import *\n\n\nclass A:\n    pass\n", "import *"),
    "bytes": (b"class A:\n    pass\n", "bytes"),
}


@pytest.mark.parametrize("case", TEXTS)
def test_bad_texts_are_one_clear_error(case):
    text, words = TEXTS[case]
    refused(UsageError, lambda: xlstm.LayerCode(text), words)
    refused(UsageError, lambda: xlstm.LayerCode("class A:\n    pass\n", 3), "arguments")


def with_lambda(tmp_path, **changes):
    """What an old file with a Lambda is read as, the layer told otherwise; its registration."""
    options = {**custom_texts.told()["Lambda:triple"], **changes}
    xlstm.register_layer("Lambda:triple", **options)
    try:
        model = xlstm.load(old(tmp_path, LAMBDA))
        for framework in ("torch", "nnx"):
            xlstm.port(model, framework)
        return xlstm.reconcile(model, ["torch"])
    finally:
        xlstm.unregister_layer("Lambda:triple")


def text_of(framework, *pairs):
    text = SCALE[framework]
    for one, other in pairs:
        assert one in text
        text = text.replace(one, other)
    return xlstm.LayerCode(text, lambda _config, _shapes: {"factor": 3.0})


WRONG = {
    "shape": ({"reference": lambda c, w, x: x[:, :1]}, "as output_shape says: (6, 4)"),
    "number": ({"reference": lambda c, w, x: (x, x)}, "as output_shape says"),
    "dtype": ({"reference": lambda c, w, x: x.astype("float64")}, "of the inputs' dtype"),
    "fails": ({"reference": lambda c, w, x: c["rate"] * x}, "KeyError: 'rate'"),
    "writes": ({"reference": lambda c, w, x: np.multiply(x, 3, out=x)}, "read-only"),
    "sizes": ({"output_shape": lambda c, shape: (0, "a")}, "(0, 'a')"),
    "no-sizes": ({"output_shape": lambda c, shape: c["n"]}, "KeyError"),
    "names": ({"weights": lambda c: [c["n"]]}, "KeyError"),
    "name": ({"torch": text_of("torch", ("class Scale", "class Model"))}, "Model twice"),
    "helper": ({"torch": xlstm.LayerCode("class load:\n    pass\n")}, "load twice"),
    "import": (
        {"torch": text_of("torch", ("from torch import nn", "from flax import nnx as nn"))},
        "torch.nn and flax.nnx",
    ),
    "no-literal": (
        {"torch": xlstm.LayerCode(SCALE["torch"], lambda _c, _s: {"factor": np.ones(2)})},
        "ndarray",
    ),
    "no-dict": ({"torch": xlstm.LayerCode(SCALE["torch"], lambda _c, _s: 3)}, "TypeError"),
    "class": ({"torch": text_of("torch", ("factor: float", "rate: float"))}, "factor"),
    "left-out": ({"torch": None}, "without torch="),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_work_is_one_clear_error(case, tmp_path):
    changes, words = WRONG[case]
    if changes.get("torch", 0) is None:
        known = custom_texts.told()["Lambda:triple"]
        known.pop("torch")
        with registered():
            xlstm.register_layer("Lambda:triple", **known, overwrite=True)
            model = xlstm.load(old(tmp_path, LAMBDA))
            assert xlstm.count(model).total("torch") is None
            assert xlstm.count(model).total("nnx") is not None
            error = refused(UnsupportedError, lambda: xlstm.port(model, "torch"), words)
            assert "register it with that" in error.do
        return
    with pytest.raises(xlstm.errors.XlstmError) as caught:
        with_lambda(tmp_path, **changes)
    assert words in str(caught.value)
    assert "triple" in str(caught.value) or "LayerCode" in str(caught.value)


def test_a_kernel_of_many_axes_and_letters(tmp_path):
    shapes = [tuple(range(1, 1 + n % 5)) for n in range(24)]
    names = [f"t{n}" for n in range(24)]
    counted = itertools.count()
    spec_options = {**GOOD, "weights": names}
    xlstm.register_layer("Many", **spec_options)
    try:
        spec = Custom("Many", names=tuple(names), shapes=tuple(shapes))
        hub = {
            name: np.full(shape, next(counted), "float32")
            for name, shape in zip(names, shapes, strict=True)
        }
        table = identity_table(spec.hub)
        packed = pack(table, hub, spec.sizes())
        back = unpack(table, packed, spec.sizes())
        for name in names:
            np.testing.assert_array_equal(packed[name], hub[name])
            np.testing.assert_array_equal(back[name], hub[name])
    finally:
        xlstm.unregister_layer("Many")
