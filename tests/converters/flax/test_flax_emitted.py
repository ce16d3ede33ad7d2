"""The text of emitted Flax modules: what a reader is told, and what is left out."""

import ast

import jax
import numpy as np
import pytest
from cases import CASES, model, with_states
from cases_conv_lstm import CONV_LSTMS
from flax import nnx

import xlstm
from xlstm import reference
from xlstm.frameworks import registry
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, TimeDistributed


def emitted(case, framework="nnx"):
    """The emitted text of a model."""
    return registry.adapter(framework).emit(case)


def arrays(case):
    """Inputs of two samples and six steps."""
    rng = np.random.default_rng(0)
    shapes = [case.node(name).shape for name in case.inputs]
    sizes = [[6 if size is None else size for size in shape] for shape in shapes]
    return [rng.standard_normal((2, *size)).astype("float32") for size in sizes]


@pytest.mark.parametrize("name", ["lstm-sequence", "encoder_decoder", "lstm-stateful"])
def test_the_lines_of_the_docstring_run(name):
    case = CASES[name]
    text = ast.get_docstring(ast.parse(emitted(case)))
    code = text.partition("once:")[2]
    inputs = arrays(case)
    names = {"nnx": nnx, "jax": jax, "model": xlstm.port(case, "nnx"), "state": None}
    names |= {"x": inputs[0], "inputs": inputs}
    *before, last = ast.parse("if True:\n" + code).body[0].body
    # text that the writer of this project made for this case
    exec(compile(ast.Module(before, []), "docstring", "exec"), names)
    found = eval(compile(ast.Expression(last.value), "docstring", "eval"), names)
    first = jax.tree.leaves(found)[0]
    np.testing.assert_allclose(first, reference.run(case, inputs)[0], rtol=0, atol=2e-6)


def test_inputs_that_are_states_are_named():
    text = "start_0 and start_1 are the h and c that layer starts from."
    for framework in ("nnx", "linen"):
        assert text in emitted(with_states(LSTM(3, 5, return_state=True)), framework)
        assert "start_0 is the h that layer" in emitted(with_states(GRU(3, 5)), framework)
        half = LSTM(3, 5, return_state=True)
        both = Bidirectional(half, GRU(3, 5, return_state=True, go_backwards=True))
        words = "start_0, start_1 and start_2 are the forward h, forward c and backward h"
        assert words in emitted(with_states(both), framework)
        assert "starts from" not in emitted(CASES["encoder_decoder"], framework)


def test_shapes_are_those_of_the_module():
    case = model([LSTM(3, 5), Dense(5, 2)], (None, 3))
    inner = TimeDistributed(LSTM(3, 5))
    for framework in ("nnx", "linen"):
        text = emitted(case, framework)
        assert "# (batch, time, 3) -> (batch, time, 5)\n" in text
        assert "# (batch, 5) -> (batch, 2)\n" in text
        text = emitted(model([inner], (7, 6, 3)), framework)
        assert "# (batch * 7, 6, 3) -> (batch * 7, 6, 5)\n" in text


def test_options_are_written_once():
    text = emitted(CASES["stack"])
    assert text.count("rngs=rngs") == 1  # of Dropout, which has no parameters
    assert text.count("**options") == 3


@pytest.mark.parametrize("name", CONV_LSTMS)
def test_the_own_conv_lstm_of_nnx_has_one_bias(name):
    case = CONV_LSTMS[name]
    port = xlstm.port(case, "nnx")
    names = [".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(port, nnx.Param))]
    assert not [name for name in names if name.endswith("hh.bias")]
    count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(port, nnx.Param)))
    ledger = xlstm.count(case)
    assert count == ledger.total("nnx")
    assert ledger.total("keras") in (count, None)  # Keras refuses an offset, and any length
