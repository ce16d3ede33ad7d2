"""Writes ONNX's node cases of one operator: python tests/support/onnx_cases.py LSTM FILE.npz.

A process for each operator: ONNX's collector keeps what it found before.
"""

import json
import sys
import warnings

import numpy as np


def collect(operator: str) -> dict[str, np.ndarray]:
    """Arrays named case/input and case/output, and the attributes of every case as JSON."""
    from onnx import helper
    from onnx.backend.test.case.node import collect_testcases

    found, attributes = {}, {}
    for case in collect_testcases(operator):
        (node,) = case.model.graph.node
        plain = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        attributes[case.name] = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in plain.items()
        }
        given = [name for name in node.input if name]
        given_back = [name for name in node.output if name]
        for names, arrays in ((given, case.data_sets[0][0]), (given_back, case.data_sets[0][1])):
            found |= {f"{case.name}/{n}": a for n, a in zip(names, arrays, strict=True)}
    return {**found, "attributes": np.array(json.dumps(attributes))}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # ONNX computes cases of other operators with overflows
    np.savez(sys.argv[2], **collect(sys.argv[1]))
