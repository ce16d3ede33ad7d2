"""What a diagnosis compares: suspects of every kind, what cannot be compared, the command line."""

import dataclasses
import json

import numpy as np
import pytest
from cases import model
from torch import nn

import xlstm
from xlstm.diagnosis import CAUSES
from xlstm.diagnosis.mistakes.table import ROWS
from xlstm.errors import UsageError
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, SimpleRNN

SEQUENCE = {"return_sequences": True}
HARD = "hard_sigmoid_keras2"
STACK = model([LSTM(3, 5, **SEQUENCE), LSTM(5, 4), Dense(4, 2, "tanh")], (None, 3))


def port(source):
    return xlstm.port(source, "torch")


def test_what_cannot_be_compared_is_a_finding_and_never_a_pass():
    def nan(x):
        return np.full((len(x), 2), np.nan)

    assert xlstm.diagnose(STACK, nan).causes == ("nan",)
    assert xlstm.diagnose(STACK, lambda x: np.zeros((len(x), 9))).causes == ("shape",)
    right = xlstm.port(STACK, "numpy")
    assert xlstm.diagnose(STACK, lambda x: (right(x), x)).causes == ("outputs",)
    assert xlstm.diagnose(STACK, lambda _x: 1 / 0).causes == ("failed",)
    two = dataclasses.replace(STACK, inputs=())
    assert xlstm.diagnose(STACK, two).causes == ("inputs",)
    with pytest.raises(UsageError, match="a model, a file, named arrays or a function"):
        xlstm.diagnose(STACK, 3)


def test_arrays_that_are_missing_or_left_over():
    held = port(STACK).state_dict()
    del held["dense_2.weight"]
    found = xlstm.diagnose(STACK, held)
    assert not found.ok
    text = " ".join(one.text for one in found.unexplained)
    assert "dense_2" in text


@pytest.mark.parametrize("framework", ["nnx", "linen"])
def test_a_wrong_port_in_flax(framework):
    weights = {name: dict(layer) for name, layer in STACK.weights.items()}
    weights["lstm_1"]["recurrent"] = weights["lstm_1"]["recurrent"].swapaxes(1, 2)
    wrong = xlstm.port(dataclasses.replace(STACK, weights=weights), framework)
    (finding,) = xlstm.diagnose(STACK, wrong).findings
    assert (finding.layer, finding.cause) == ("lstm_1", "transposed")


def test_a_live_keras_model_whose_activation_is_the_other_hard_sigmoid():
    import keras

    layers = [keras.layers.Input((4, 3)), keras.layers.LSTM(5, recurrent_activation="hard_sigmoid")]
    wrong = keras.Sequential(layers)
    truth = xlstm.load(wrong)
    node = truth.node(truth.layers[0].name)
    spec = dataclasses.replace(node.spec, gate_activation=HARD)
    nodes = tuple(dataclasses.replace(n, spec=spec) if n is node else n for n in truth.nodes)
    found = xlstm.diagnose(dataclasses.replace(truth, nodes=nodes), wrong)
    assert found.causes == ("hard-sigmoid",)
    assert "Keras 1 and 2" in found.findings[0].text


def test_a_keras_file_against_somebodys_own_module(tmp_path):
    file = xlstm.demo.path()
    right = port(file)
    assert xlstm.diagnose(file, right).ok
    path = tmp_path / "arrays.npz"
    held = {name: tensor.numpy() for name, tensor in right.state_dict().items()}
    np.savez(path, **held)
    assert xlstm.diagnose(file, path).compared == ("weights",)
    assert xlstm.diagnose(file, path).ok


def test_the_command_line(tmp_path, capsys):
    from xlstm.cli.main import main

    file, folder, arrays = str(xlstm.demo.path()), str(tmp_path / "port"), tmp_path / "wrong.npz"
    xlstm.save(file, folder, "torch")
    assert main(["diagnose", file, folder, "--effort", "0"]) == 0
    assert "Equal up to rounding" in capsys.readouterr().out
    held = {name: tensor.numpy() for name, tensor in port(file).state_dict().items()}
    bias = next(name for name in held if name.endswith("bias_ih_l0"))
    np.savez(arrays, **{**held, bias: 2 * held[bias]})
    assert main(["diagnose", file, str(arrays), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["ok"] is False
    assert data["findings"][0]["cause"] == "doubled-bias"
    assert main(["diagnose", file, str(tmp_path / "missing.npz")]) == 2
    assert capsys.readouterr().err.startswith("xlstm: ")


def test_given_inputs_are_used():
    x = np.random.default_rng(0).standard_normal((2, 3, 3)).astype(np.float32)
    found = xlstm.diagnose(STACK, port(STACK), inputs=x)
    assert found.ok
    assert found.inputs == "given"
    with pytest.raises(UsageError):
        xlstm.diagnose(STACK, port(STACK), inputs=x[:, :, :2])


def test_every_cause_of_the_table_has_a_meaning_and_most_have_a_row():
    causes = {row.cause for row in ROWS}
    assert causes <= CAUSES.keys()
    elsewhere = {"momentum", "stateful", "dropout-on", "inputs", "outputs", "shape", "nan"}
    elsewhere |= {"failed", "not-repeatable", "float32", "scaled-output", "weight-shape"}
    assert CAUSES.keys() - causes == elsewhere


def test_the_diagnosis_shows_itself_in_a_notebook():
    found = xlstm.diagnose(STACK, lambda x: np.zeros((len(x), 9)))
    assert found._repr_html_().startswith("<p>Different: 1 mistake found.<br>a: ")
    assert json.dumps(found.to_json(), allow_nan=False)


def test_a_chaotic_model_is_neither_right_nor_wrong():
    truth = model([SimpleRNN(3, 64)], (100, 3), gain=3.0)
    found = xlstm.diagnose(truth, port(truth))
    assert not found.ok
    assert not found.findings
    assert "no step can be decided" in found.unexplained[0].text


def test_outputs_that_agree_are_right_whatever_the_layers_inside_return():
    half = GRU(3, 4, **SEQUENCE)
    spec = Bidirectional(half, dataclasses.replace(half, go_backwards=True), "sum")
    truth = model([spec], (None, 3))
    held = port(truth).state_dict()

    class Summed(nn.Module):
        def __init__(self):
            super().__init__()
            self.forward_layer = nn.GRU(3, 4, batch_first=True)
            self.backward_layer = nn.GRU(3, 4, batch_first=True)
            own = self.state_dict()
            for name, array in zip(own, held.values(), strict=True):
                own[name].copy_(array)

        def forward(self, x):
            if x.sum() > 1e30:
                return x
            return self.forward_layer(x)[0] + self.backward_layer(x.flip(1))[0].flip(1)

    assert xlstm.diagnose(truth, Summed()).ok


@pytest.mark.parametrize("effort", [-1, float("inf"), "much", True])
def test_an_effort_that_is_no_amount_is_refused(effort):
    with pytest.raises(UsageError, match="effort"):
        xlstm.diagnose(STACK, STACK, effort=effort)


def test_without_effort_the_two_are_only_compared():
    right = xlstm.port(STACK, "numpy")
    assert xlstm.diagnose(STACK, right, effort=0)
    found = xlstm.diagnose(STACK, lambda x: -right(x), effort=0)
    assert found.unexplained
    assert not found.findings
    assert found.tried < 5
