"""Writes ONNX's node cases: python tests/support/onnx_cases.py FOLDER LSTM GRU ...

One FOLDER/OPERATOR.npz each. All in one call: ONNX's collector makes the cases of all operators,
and keeps what it found before.
"""

import json
import sys
import warnings

import numpy as np


def collect(operators: list[str]) -> dict[str, dict[str, np.ndarray]]:
    """By operator: arrays named case/input and case/output, attributes of every case as JSON."""
    from onnx import helper
    from onnx.backend.test.case.node import collect_testcases

    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in operators}
    attributes: dict[str, dict] = {name: {} for name in operators}
    for case in collect_testcases(None):
        node, *more = case.model.graph.node
        if more or node.op_type not in found:
            continue
        plain = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        attributes[node.op_type][case.name] = {
            name: value.decode() if isinstance(value, bytes) else value
            for name, value in plain.items()
        }
        given = [name for name in node.input if name]
        given_back = [name for name in node.output if name]
        for names, arrays in ((given, case.data_sets[0][0]), (given_back, case.data_sets[0][1])):
            own = {f"{case.name}/{n}": a for n, a in zip(names, arrays, strict=True)}
            found[node.op_type] |= own
    said = {name: {"attributes": np.array(json.dumps(attributes[name]))} for name in operators}
    return {name: {**found[name], **said[name]} for name in operators}


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # ONNX computes cases of other operators with overflows
    for operator, arrays in collect(sys.argv[2:]).items():
        np.savez(f"{sys.argv[1]}/{operator}.npz", **arrays)
