"""The node cases of the ONNX standard (LSTM, GRU, RNN: 18) out of the float64 reference.

ONNX keeps gates in the orders i o f c and z r h, peepholes in i o f, two biases end to end, and a
leading axis of directions. The tables below say so; the reference knows none of it.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.kinds import GRU_BEFORE, SIMPLE_RNN
from xlstm.ir.kinds import LSTM as LSTM_KIND
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Input, SimpleRNN
from xlstm.ir.source import Source
from xlstm.reference import run
from xlstm.slots import Slot, Table, unpack

CASES = {
    "LSTM": (
        "lstm_defaults lstm_with_initial_bias lstm_with_peepholes lstm_batchwise lstm_reverse "
        "lstm_bidirectional"
    ).split(),
    "GRU": (
        "gru_defaults gru_with_initial_bias gru_seq_length gru_batchwise gru_reverse "
        "gru_bidirectional"
    ).split(),
    "RNN": (
        "simple_rnn_defaults simple_rnn_with_initial_bias rnn_seq_length simple_rnn_batchwise "
        "simple_rnn_reverse simple_rnn_bidirectional"
    ).split(),
}
EVERY = [(operator, case) for operator, cases in CASES.items() for case in cases]


def gated(kind, gates):
    axes = {"W": ("kernel", "(gh)i"), "R": ("recurrent", "(gh)j"), "B": ("bias", "(sgh)")}
    return Table(kind, tuple(Slot(n, t, a, gates=gates) for n, (t, a) in axes.items()))


TABLES = {
    "LSTM": gated(LSTM_KIND, "iofg"),
    "GRU": gated(GRU_BEFORE, "zrn"),
    "RNN": Table(
        SIMPLE_RNN,
        (
            Slot("W", "kernel", "hi"),
            Slot("R", "recurrent", "hj"),
            Slot("B", "bias", "(sh)"),
        ),
    ),
}
SPECS = {"LSTM": LSTM, "GRU": GRU, "RNN": SimpleRNN}
WORDS = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}


@pytest.fixture(scope="session")
def collected(tmp_path_factory):
    """Operator -> arrays of its cases, as ONNX itself makes them."""
    pytest.importorskip("onnx", reason="the onnx wheel holds these cases")
    folder = tmp_path_factory.mktemp("onnx")
    script = Path(__file__).parents[1] / "support" / "onnx_cases.py"
    command = [sys.executable, str(script), str(folder), *CASES]
    subprocess.run(command, check=True, capture_output=True)
    return {operator: dict(np.load(folder / f"{operator}.npz")) for operator in CASES}


def attributes(collected, operator):
    return json.loads(str(collected[operator]["attributes"]))


def test_all_cases_of_onnx_are_here(collected):
    for operator, names in CASES.items():
        assert set(attributes(collected, operator)) == {f"test_{name}" for name in names}
    assert len(EVERY) == 18


def half(operator, arrays, number, backwards):
    """Spec and hub weights of one direction."""
    units, features = arrays["R"].shape[2], arrays["W"].shape[2]
    options = {"return_sequences": True, "return_state": True, "go_backwards": backwards}
    if operator == "GRU":
        options["reset_after"] = False  # linear_before_reset is 0 in all cases
    if "P" in arrays:
        options["peepholes"] = True
    spec = SPECS[operator](features, units, use_bias="B" in arrays, **options)
    mine = {name: arrays[name][number] for name in "WRB" if name in arrays}
    hub = unpack(TABLES[operator], mine, spec.sizes(), spec.missing_tensors())
    if "P" in arrays:
        i, o, f = arrays["P"][number].reshape(3, units)
        hub["peephole"] = np.stack([i, f, o])
    return spec, hub


def model_of(operator, arrays, direction):
    """The case as a graph: a sequence, a mask, and initial states where it has them."""
    halves = [half(operator, arrays, n, back) for n, back in enumerate(WORDS[direction])]
    spec, weights = halves[0]
    if len(halves) == 2:
        spec = Bidirectional(halves[0][0], halves[1][0], "none")
        pairs = zip(("forward_", "backward_"), halves, strict=True)
        weights = {before + name: a for before, (_, hub) in pairs for name, a in hub.items()}
    graph = Builder()
    x = graph.add("X", Input((None, arrays["W"].shape[2])))
    keep = graph.add("keep", Input((None,), "bool"))
    graph.add("layer", spec, [x], mask=keep)
    outputs = tuple(Edge("layer", n) for n in range(len(graph.nodes[-1].shapes)))
    return Model(operator, graph.nodes, ("X", "keep"), outputs, {"layer": weights}, Source("onnx"))


@pytest.mark.parametrize(("operator", "case"), EVERY, ids=[case for _, case in EVERY])
def test_case(operator, case, collected):
    start = f"test_{case}/"
    own = collected[operator].items()
    arrays = {name.removeprefix(start): a for name, a in own if name.startswith(start)}
    options = attributes(collected, operator)[f"test_{case}"]
    direction, layout = options.get("direction", "forward"), options.get("layout", 0)
    x = arrays["X"] if layout else arrays["X"].swapaxes(0, 1)
    for name in ("initial_h", "initial_c"):
        assert not arrays.get(name, np.zeros(1)).any()
    lengths = arrays.get("sequence_lens", np.full(len(x), x.shape[1]))
    keep = np.arange(x.shape[1]) < lengths[:, None]
    model = model_of(operator, arrays, direction)
    found = run(model, [x, keep])
    directions = len(WORDS[direction])
    sequences, states = found[:directions], found[directions:]
    if direction == "reverse":
        sequences = [y[:, ::-1] for y in sequences]  # ONNX puts them back in the input's order
    y = np.stack(sequences, axis=1)  # batch, direction, time, hidden
    per = len(states) // directions
    ours = {
        "Y": y.transpose(0, 2, 1, 3) if layout else y.transpose(2, 1, 0, 3),
        "Y_h": np.stack(states[::per], axis=1 if layout else 0),
        "Y_c": np.stack(states[1::per], axis=1 if layout else 0) if per > 1 else None,
    }
    compared = [name for name in ours if name in arrays]
    assert compared
    for name in compared:
        np.testing.assert_allclose(ours[name], arrays[name], rtol=2e-6, atol=1e-7)
