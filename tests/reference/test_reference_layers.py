"""The reference's layers against those of Keras, in float32 and in float64.

Weights are of trained scale and no bias is zero; among the rows of a batch are masked ones.
"""

import functools
import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src.backend import set_keras_mask
from layer_cases_others import OTHERS
from layer_cases_windows import WINDOWS

from xlstm.errors import UsageError
from xlstm.ir import layers as specs
from xlstm.ir.kinds import KINDS
from xlstm.ir.serialize import spec_from_json, spec_to_json
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

CASES = WINDOWS | OTHERS
BATCH = 5
PRECISION = {"float32": 2e-6, "float64": 1e-14}
ROUNDED = 1e-7
LOWERED = 1e-6
RUNS = [(name, dtype) for dtype in PRECISION for name in CASES]
RUNS = [run for run in RUNS if run[1] == "float32" or not CASES[run[0]].single]


@pytest.fixture
def policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


def inputs_of(case, rng):
    """One array per input; numbers that float32 has."""
    found = []
    for shape in case.shapes:
        size = (BATCH, *shape)
        x = {
            "numbers": lambda size=size: 2 * rng.standard_normal(size),
            "round": lambda size=size: rng.integers(-4, 5, size),
            "ids": lambda size=size: rng.integers(0, 5, size),
            "fractions": lambda size=size: rng.uniform(-0.9, 4.9, size) * rng.integers(0, 2, size),
            "tiny": lambda size=size: rng.standard_normal(size),
        }[case.kind]()
        if case.kind == "tiny":
            x *= np.array([0, 1e-13, 1e-8, 1e-3, 1]).reshape(-1, *(1,) * len(shape))
        found.append(x.astype(np.float32))
    return found


def mask_of(size):
    """(batch, ..., time): rows masked nowhere, left, right, everywhere, in the middle."""
    t = np.arange(size[-1])
    rows = np.array([t >= 0, t > 1, t < 2, t < 0, t != 1])
    return np.broadcast_to(rows.reshape(BATCH, *(1,) * (len(size) - 2), -1), size)


def masks_of(case):
    """Number of an input -> its mask."""
    numbers = ["qvk".find(name) if name in "qvk" else 0 for name in case.masks]
    return {n: mask_of((BATCH, *case.shapes[n])[:-1]) for n in numbers}


def fill(layer, case, rng):
    """Gives a built layer of Keras weights of trained scale."""
    for variable in getattr(layer, "weights", []):
        size = variable.shape
        value = 0.5 * rng.standard_normal(size) + 0.1 * (len(size) < 2)
        if "variance" in variable.name:
            value = rng.uniform(0.25, 4.0, size) * (variable.name not in case.zeros)
        if variable.name != "count":
            variable.assign(value.astype(np.float32))
    if hasattr(layer, "finalize_state"):
        layer.finalize_state()


def run_keras(case, inputs, dtype, rng):
    """Outputs of Keras, a mask that it attaches among them; and the layer."""
    layer = case.make()
    tensors = [tf.constant(x, "int32" if case.kind == "ids" else dtype) for x in inputs]
    joins = hasattr(layer, "_merge_function") or isinstance(layer, keras.layers.Attention)

    def call(inputs):
        return layer(*([inputs] if joins else inputs), **case.calls)

    symbols = [keras.Input(batch_shape=x.shape, dtype=x.dtype) for x in tensors]
    call(symbols)
    fill(layer, case, rng)
    for number, mask in masks_of(case).items():
        set_keras_mask(tensors[number], tf.constant(mask))
    y = tf.function(call, jit_compile=True)(tensors) if case.compiled else call(tensors)
    return layer, y.numpy(), getattr(y, "_keras_mask", None)


def hub_weights(layer, stage, dtype):
    """The layer's numbers as the hub has them; every tensor that the spec says it has."""
    found = {}
    for before, spec in stage.spec.weighted_parts:
        kind = KINDS[spec.weight_kind]
        sizes = kind.axis_sizes(spec.sizes())
        for tensor in set(kind.tensors) - spec.missing_tensors():
            name = stage.names.get(tensor, tensor)
            (value,) = (v.numpy() for v in layer.weights if v.path.endswith(f"/{name}"))
            found[before + tensor] = hub_form(value, kind, tensor, sizes).astype(dtype)
    return found


def hub_form(value, kind, tensor, sizes):
    """One tensor; gates are i f g o in Keras too, but their axis is part of the last one."""
    if not kind.gates:
        return value.reshape([sizes[axis] for axis in kind.tensors[tensor]])
    gated = value.reshape(*value.shape[:-1], len(kind.gates), -1)
    return gated[None] if tensor == "bias" else np.moveaxis(gated, -2, 0)


def run_reference(case, layer, inputs, dtype):
    """Outputs of the last stage, after the output shapes of every stage were checked."""
    values, masks = [x.astype(dtype) for x in inputs], masks_of(case)
    values += [masks["qvk".index(name)] for name in case.masks if name in "qvk"]
    for stage in case.stages:
        wanted = stage.spec.output_shapes(*(x.shape[1:] for x in values))
        context = Context("it", hub_weights(layer, stage, dtype))
        context.mask = masks[0] if case.masks == "0" else None
        copies = [x.copy() for x in values]
        found = forward(stage.spec, values, context)
        assert tuple(y.shape[1:] for y in found) == wanted
        assert {y.dtype for y in found} <= {np.dtype(dtype), np.dtype(bool)}
        for x, copy in zip(values, copies, strict=True):
            np.testing.assert_array_equal(x, copy)
        values = found
    return values


def difference(y, expected):
    """Largest difference in any row, relative to the row's largest |y|."""
    np.testing.assert_array_equal(np.isnan(y), np.isnan(expected))
    y, expected = (np.nan_to_num(a).reshape(BATCH, -1).astype(np.float64) for a in (y, expected))
    apart, top = np.abs(y - expected).max(axis=1), np.abs(expected).max(axis=1)
    return (apart / np.where(top > 0, top, 1)).max()


def lowers(case):
    """Whether 1e9 is taken off scores, of which float32 then keeps nothing."""
    return isinstance(case.stages[0].spec, specs.Attention) and (case.masks or any(case.calls))


@pytest.mark.parametrize(("name", "dtype"), RUNS)
def test_layer(name, dtype, policy):
    policy(dtype)
    case, rng = CASES[name], np.random.default_rng(0)
    inputs = inputs_of(case, rng)
    layer, expected, mask = run_keras(case, inputs, dtype, rng)
    y, *rest = run_reference(case, layer, inputs, dtype if lowers(case) else "float64")
    assert y.shape == expected.shape
    allowed = max(PRECISION[dtype], ROUNDED * case.rounded) * (not case.exact)
    assert difference(y, expected) <= allowed
    if rest:
        np.testing.assert_array_equal(rest[0], mask)
    if dtype == "float64":
        wider, *_ = run_reference(case, layer, inputs, "longdouble")
        assert difference(wider, y) <= (LOWERED if lowers(case) else PRECISION[dtype])


ALONE = [name for name, case in CASES.items() if len(case.shapes) == 1 and "axes" not in name]
ALONE = [name for name in ALONE if len(CASES[name].shapes[0]) > 1]


@pytest.mark.parametrize("name", ALONE)
def test_unknown_sizes(name):
    """Where Keras knows no size the spec knows none, and what one refuses the other does too."""
    case = CASES[name]
    for unknown in (1, len(case.shapes[0]) - 1):
        shape = (*(None,) * unknown, *case.shapes[0][unknown:])
        layer, x = case.make(), keras.Input(shape)
        try:
            y = layer([x] if hasattr(layer, "_merge_function") else x)
        except (TypeError, ValueError):
            with pytest.raises(UsageError):
                functools.reduce(lambda s, stage: stage.spec.output_shape(s), case.stages, shape)
            continue
        for stage in case.stages:
            shape = stage.spec.output_shapes(shape)[0]
        assert shape == tuple(y.shape[1:])


@pytest.mark.parametrize("name", CASES)
def test_spec_as_json(name):
    for stage in CASES[name].stages:
        written = json.loads(json.dumps(spec_to_json(stage.spec)))
        assert spec_from_json(written, "here") == stage.spec
