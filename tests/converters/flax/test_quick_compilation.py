"""Runs of one call: options of XLA for short runs of matrices, and modules of any form."""

from __future__ import annotations

import numpy as np
import pytest

common = pytest.importorskip("xlstm.converters.flax.live.common")
import flax.linen as nn  # noqa: E402
import jax.numpy as jnp  # noqa: E402
from flax import nnx  # noqa: E402
from xlstm.converters.flax.live import linen as linen_live  # noqa: E402
from xlstm.converters.flax.live import nnx as nnx_live  # noqa: E402

MATRIX, WINDOW = np.ones((2, 3), np.float32), np.ones((3, 2, 4), np.float32)
SHORT, ENDLESS = np.ones((2, 5, 2)), np.ones((1, common.LONG + 1, 2))


def test_short_runs_of_matrices_are_compiled_quickly():
    """This XLA has the options: without them every comparison would take longer."""
    assert common.runs_quickly({"kernel": MATRIX}, [SHORT])


@pytest.mark.parametrize(
    ("weights", "inputs"), [(WINDOW, SHORT), (MATRIX, ENDLESS)], ids=["convolution", "long"]
)
def test_dear_runs_are_not(weights, inputs):
    """Their slow machine code would cost more than the compilation saves."""
    assert not common.runs_quickly({"kernel": weights}, [inputs])


@pytest.mark.parametrize(
    "value", [[1, 2], {"size": 1}, nnx.Variable(3), nnx.Variable(np.ones(3), sizes=[1])], ids=str
)
def test_modules_with_any_attribute_run(value):
    """A list has no hash, and a number no axes."""

    class Suspect(nnx.Module):
        def __init__(self):
            self.dense = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
            self.value = value

        def __call__(self, x):
            return self.dense(x)

    module, x = Suspect(), np.ones((2, 3), np.float32)
    (y,) = nnx_live.run(module, [x], "float32")
    np.testing.assert_allclose(y, np.asarray(module(x)), rtol=1e-6)


@pytest.mark.parametrize("value", [[1], 1], ids=["list", "number"])
def test_a_run_changes_no_state(value):
    class Counting(nnx.Module):
        def __init__(self):
            self.calls = nnx.BatchStat(jnp.zeros(()))
            self.value = value

        def __call__(self, x):
            self.calls[...] += 1
            return x * self.calls[...]

    module = Counting()
    for _ in range(2):
        np.testing.assert_array_equal(nnx_live.run(module, [SHORT], "float32")[0], SHORT)


def test_a_parameter_of_linen_may_be_a_number():
    class Scaled(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x * self.param("scale", lambda _key: 2.0)

    module = Scaled()
    (y,) = linen_live.run((module, {"params": {"scale": 2.0}}), [SHORT], "float32")
    np.testing.assert_array_equal(y, 2 * SHORT)
