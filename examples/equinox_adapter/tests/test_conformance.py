"""Every case that an adapter has to pass."""

import pytest
from xlstm_equinox.adapter import ADAPTER

from xlstm.testing import conformance


@pytest.mark.parametrize("case", conformance(ADAPTER), ids=lambda case: case.name)
def test_port(case):
    case.run()
