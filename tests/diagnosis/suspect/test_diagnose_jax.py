"""Suspects that take row numbers, and compiled functions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import torch
from cases import model

import xlstm
from xlstm.ir.layers import LSTM, Dense, Embedding

jnp = pytest.importorskip("jax.numpy")
import jax  # noqa: E402
from flax import linen, nnx  # noqa: E402

TRUTH = model([Embedding(7, 3), LSTM(3, 4), Dense(4, 2)], (None,))
TABLE = TRUTH.weights["embedding_0"]["table"]
IDS = np.random.default_rng(3).integers(0, 7, (3, 5))


class Nnx(nnx.Module):
    """The truth with a table of its own; the other layers are those of a port."""

    def __init__(self):
        self.table = nnx.Embed(7, 3, rngs=nnx.Rngs(0))
        self.table.embedding = nnx.Param(jnp.asarray(TABLE))
        port = xlstm.port(TRUTH, "nnx")
        self.lstm_1, self.dense_2 = port.lstm_1, port.dense_2

    def __call__(self, ids):
        return self.dense_2(self.lstm_1(self.table(ids), rngs=nnx.Rngs(0))[:, -1])


class Linen(linen.Module):
    """The truth by layers of Linen, named as those of a port."""

    @linen.compact
    def __call__(self, ids):
        x = linen.Embed(7, 3, name="embedding_0")(ids)
        cell = linen.OptimizedLSTMCell(4, parent=None)
        return linen.Dense(2, name="dense_2")(linen.RNN(cell, name="lstm_1")(x)[:, -1])


@keras.saving.register_keras_serializable()
class Lookup(keras.layers.Layer):
    """The truth in a layer that takes whole numbers only."""

    def __init__(self, **options):
        super().__init__(**options)
        self.core = xlstm.port(TRUTH, "keras", dtype=self.compute_dtype)

    def call(self, ids):
        assert "int" in str(ids.dtype), ids.dtype
        return self.core(ids)


def own_keras():
    ids = keras.Input((None,), dtype="int32")
    return keras.Model(ids, Lookup()(ids))


SUSPECTS = {
    "nnx": Nnx,
    "linen": lambda: (Linen(), xlstm.port(TRUTH, "linen")[1]),
    "keras": own_keras,
    "nnx port": lambda: xlstm.port(TRUTH, "nnx"),
    "linen port": lambda: xlstm.port(TRUTH, "linen"),
}


KINDS = ["made", "int64", "int32", "float32"]


@pytest.mark.parametrize(
    "inputs", [None, IDS, IDS.astype("int32"), IDS.astype("float32")], ids=KINDS
)
@pytest.mark.parametrize("name", SUSPECTS)
def test_row_numbers_reach_a_suspect_as_whole_numbers(name, inputs):
    found = xlstm.diagnose(TRUTH, SUSPECTS[name](), inputs)
    assert found.ok, str(found)


@pytest.mark.parametrize("name", SUSPECTS)
def test_row_numbers_reach_a_suspect_beside_a_function(name):
    found = xlstm.diagnose(xlstm.port(TRUTH, "numpy"), SUSPECTS[name](), IDS)
    assert found.ok, str(found)


def test_a_mistake_beside_a_table_is_found():
    wrong = Nnx()
    wrong.table.embedding = nnx.Param(jnp.asarray(TABLE[::-1].copy()))
    assert xlstm.diagnose(TRUTH, wrong).causes == ("reordered-weights",)


NUMBERS = model([Dense(3, 4), Dense(4, 2)], (None, 3))
LOOKUP = model([Embedding(7, 3), Dense(3, 2)], (None,))


def nnx_function(module, factor=1.0):
    return nnx.jit(lambda x: factor * module(x))


def jax_function(module, factor=1.0):
    return jax.jit(lambda x: factor * module(x))


@pytest.mark.parametrize("truth", [LOOKUP, NUMBERS], ids=["row numbers", "numbers"])
@pytest.mark.parametrize("compiled", [nnx_function, jax_function])
def test_a_compiled_function_of_flax_is_a_function(compiled, truth):
    module = xlstm.port(truth, "nnx")
    right = xlstm.diagnose(truth, compiled(module))
    assert right.ok, str(right)
    assert right.compared == ("outputs",)
    wrong = xlstm.diagnose(truth, compiled(module, 2.0))
    assert "scaled" in wrong.causes[0], str(wrong)


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_a_compiled_function_of_pytorch_is_a_function():
    x = torch.ones(2, 5, 3).double()
    module = xlstm.port(NUMBERS, "torch", dtype="float64").requires_grad_(False)
    function = torch.jit.trace(lambda x: module.dense_1(module.dense_0(x)), x)
    assert isinstance(function, torch.jit.ScriptFunction)
    right = xlstm.diagnose(NUMBERS, function)
    assert right.ok, str(right)
    assert xlstm.diagnose(function, NUMBERS, x.numpy())


def test_a_compiled_function_may_be_the_truth():
    right, x = xlstm.port(NUMBERS, "nnx"), np.ones((2, 5, 3), "float32")
    for truth in (nnx_function(right), jax_function(right)):
        assert xlstm.diagnose(truth, nnx_function(right), x).ok
        assert xlstm.diagnose(truth, right, x).ok
        assert not xlstm.diagnose(truth, nnx_function(right, 1.01), x).ok
