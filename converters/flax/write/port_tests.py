"""Writes test_port.py for Flax, Linen and NNX; imports no framework."""

from __future__ import annotations

from xlstm.frameworks.port_tests import PortTests

from ...codegen import port_tests
from .dialect import Dialect

FILE = "flax/templates/port_tests.py"


def emit_tests(dialect: Dialect, tests: PortTests) -> str:
    """Returns the source text of the tests of a port."""
    target = "linen" if dialect.functional else "nnx"
    found = port_tests.found_outputs(tests.model)
    runner = port_tests.Runner(
        title=dialect.title,
        target=target,
        needs="pytest, numpy, jax, flax and safetensors",
        imports=[
            "import jax",
            "import jax.numpy as jnp",
            *([] if dialect.functional else ["from flax import nnx"]),
        ],
        functions=[port_tests.function(FILE, f"run_{target}", found)],
    )
    return port_tests.emit(tests, runner)
