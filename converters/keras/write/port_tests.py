"""Writes test_port.py for Keras; imports no framework."""

from __future__ import annotations

from xlstm.frameworks.port_tests import PortTests

from ...codegen import port_tests
from ...codegen.source import template_sources

FILE = "keras/templates/port_tests.py"

DTYPES = [
    "DTYPES = {dtypes}",
    'if keras.backend.backend() != "tensorflow":',
    "    # other backends compute parts of a float64 model in float32",
    '    DTYPES = ["float32"]',
]


def emit_tests(tests: PortTests) -> str:
    """Returns the source text of the tests of a port."""
    model = tests.model
    found = port_tests.list_of_outputs(model)
    if model.stateful:
        found += [
            "for name in STATEFUL:",
            '    own = [x for x in model.layers if x.name.partition("-")[0] == name]',
            "    states = [state for layer in own for state in layer.states]",
            "    found += map(keras.ops.convert_to_tensor, states)",
        ]
    wide = "float64" in tests.dtypes
    dtypes = [DTYPES[0].format(dtypes='["float32", "float64"]'), *DTYPES[1:]] if wide else []
    runner = port_tests.Runner(
        title="Keras",
        target="keras",
        needs="pytest, numpy, keras with a backend, and safetensors",
        imports=["import keras"],
        functions=[
            template_sources(FILE)["ported"],
            port_tests.function(FILE, "run", found),
        ],
        dtypes=dtypes,
    )
    return port_tests.emit(tests, runner)
