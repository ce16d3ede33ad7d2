"""Options of XLA for runs of one call: short runs of matrices alone."""

from __future__ import annotations

import numpy as np
import pytest

common = pytest.importorskip("xlstm.converters.flax.live.common")
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
