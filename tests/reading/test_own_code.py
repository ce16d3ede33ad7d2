"""What a ported folder is held against: its source, and its own code wherever one asks for it."""

import dataclasses
import json
import warnings

import make_files
import numpy as np
import pytest
from cases import model
from test_parity import CHAOTIC

import xlstm
from xlstm.cli.main import main
from xlstm.frameworks import registry
from xlstm.ir.layers import GRU
from xlstm.reading.ports import read_folder
from xlstm.verification.folder import _weights_gap, verify_folder


@pytest.fixture
def file(tmp_path):
    return make_files.make("keras", tmp_path)


@pytest.fixture
def port(file, tmp_path):
    return xlstm.save(file, tmp_path / "port", "torch")


@pytest.mark.parametrize("target", ["nnx", "linen", "torch"])
def test_folded_biases_are_the_sources(target, tmp_path):
    """Two biases that a framework adds up are compared as their sums."""
    source = model([GRU(3, 4)], (None, 3))
    folder, adapter = xlstm.save(source, tmp_path / "port", target), registry.adapter(target)
    assert _weights_gap(source, read_folder(folder), adapter, folder) == ""
    layer = dict(source.weights["gru_0"])
    layer["bias"] = layer["bias"] * np.float32(1.001)
    other = dataclasses.replace(source, weights={"gru_0": layer})
    assert "gru_0" in _weights_gap(other, read_folder(folder), adapter, folder)


def test_a_port_of_a_part_is_compared_with_the_part(file, tmp_path):
    folder = str(tmp_path / "part")
    assert main(["port", str(file), "--to", "torch", "-o", folder, "--until", "lstm"]) == 0
    found = verify_folder(folder)
    assert (found.ok, found.changed) == (True, ())
    assert not any("record alone" in line for line in found.since)


def test_a_live_source_leaves_the_record_alone(file, tmp_path):
    folder = xlstm.save(xlstm.load(file), tmp_path / "live", "torch")
    alone = "no source is recorded; the files were compared with the record alone"
    assert alone in verify_folder(folder).since


def test_code_that_xlstm_did_not_write_is_no_silent_pass(file, port, capsys):
    assert main(["diagnose", str(file), str(port)]) == 0
    code = port / "model.py"
    code.write_text(code.read_text().replace("[:, -1]", "[:, 0]"))
    capsys.readouterr()
    for a, b in ((file, port), (port, file)):
        assert main(["diagnose", str(a), str(b), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert not found["ok"]
        assert "model.py of port is not what xlstm" in found["unexplained"][0]["text"]
        assert "it was not run" in found["unexplained"][0]["text"]
    assert main(["diagnose", str(file), str(port), "--trust", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["findings"][0]["cause"] in xlstm.diagnosing.CAUSES
    assert "not run" not in str(found["unexplained"])


def test_trusted_code_that_fails_is_refused(file, port, capsys):
    (port / "model.py").write_text("1 / 0\n")
    assert main(["diagnose", str(file), str(port), "--trust"]) == 2
    assert "ZeroDivisionError" in capsys.readouterr().err
    assert main(["diagnose", str(file), str(file), "--trust"]) == 2
    assert "--trust: expected a ported folder" in capsys.readouterr().err


def test_inputs_of_diagnose_once_per_input(file, port, tmp_path, capsys):
    np.save(tmp_path / "x.npy", np.zeros((2, 5, 3), np.float32))
    twice = ["--inputs", str(tmp_path / "x.npy")] * 2
    assert main(["diagnose", str(file), str(port), *twice]) == 2
    assert "inputs" in capsys.readouterr().err


def test_a_diagnosis_names_the_tail_that_it_cannot_decide():
    ill, steps = CHAOTIC["simple_rnn-gain3.0-T100"]
    right = xlstm.port(ill, "numpy", dtype="float64")

    def lost(x):
        y = np.array(right(x))
        y[:, 95:] = 7
        return y

    x = np.random.default_rng(0).standard_normal((2, steps, 2))
    found = xlstm.diagnose(ill, lost, x)
    assert found.ok
    assert found.undecidable.startswith("simplernn_0 time steps ")
    assert found.undecidable.endswith(" to 99")
    assert f"{found.undecidable} cannot be decided" in str(found)
    assert xlstm.diagnose(ill, lost, x[:, :10]).undecidable == ""


def test_complex_numbers_are_a_finding():
    plain = model([GRU(3, 4)], (None, 3))
    right = xlstm.port(plain, "numpy", dtype="float64")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = xlstm.diagnose(plain, lambda x: right(x) + 1e-3j)
    assert found.causes == ("outputs",)
    assert "complex128" in found.findings[0].text
