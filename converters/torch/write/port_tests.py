"""Writes test_port.py for PyTorch; imports no framework."""

from __future__ import annotations

from xlstm.frameworks.port_tests import PortTests
from xlstm.ir import layers as L

from ...codegen import port_tests
from ...codegen.source import template_sources
from ..native import bare

FILE = "torch/templates/port_tests.py"


def emit_tests(tests: PortTests) -> str:
    """Returns the source text of the tests of a port."""
    model = tests.model
    spec = model.layers[0].spec
    # a native recurrent layer returns its states, too
    states = model.lone and bare(spec) and isinstance(spec, (L.Recurrent, L.Bidirectional))
    found = ["found = [outputs[0]]"] if states else port_tests.found_outputs(model)
    runner = port_tests.Runner(
        title="PyTorch",
        target="torch",
        needs="pytest, numpy, torch and safetensors",
        imports=["import torch", "from torch import nn"],
        functions=[
            template_sources(FILE)["ported"],
            port_tests.function(FILE, "run", found),
        ],
    )
    return port_tests.emit(tests, runner)
