"""A port whose source is a ported folder, or one that `save_pretrained` wrote."""

import json
import shutil

import make_files
import pytest

import xlstm
from xlstm.cli.main import main
from xlstm.porting.port import port
from xlstm.verification.folder import verify_folder


@pytest.fixture
def first(tmp_path):
    return xlstm.save(make_files.make("keras", tmp_path), tmp_path / "first", "torch")


@pytest.fixture
def saved(first, tmp_path):
    port(first, "torch").save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


def test_a_port_of_a_folder_records_it(saved, tmp_path):
    second = xlstm.save(saved, tmp_path / "second", "nnx")
    found = verify_folder(second)
    assert (found.ok, found.changed) == (True, ())
    assert not any("source" in line.lower().split(":")[0] for line in found.since)
    (saved / "model.safetensors").unlink()
    assert "source not compared: pass --origin PATH (saved, at ../saved" in str(
        verify_folder(second)
    )


def test_a_folder_that_was_trained_further_is_another_source(saved, tmp_path):
    second = xlstm.save(saved, tmp_path / "second", "nnx")
    train(saved)
    assert verify_folder(second).changed == ("source saved at ../saved",)


def train(folder):
    """Changes one weight of a saved folder."""
    import torch

    module = port(folder, "torch")
    with torch.no_grad():
        next(module.parameters()).add_(0.5)
    module.save_pretrained(folder)


def test_every_source_of_port_may_be_the_origin(saved, first, tmp_path, capsys):
    second = xlstm.save(saved, tmp_path / "second", "torch")
    moved = shutil.move(saved, tmp_path / "moved")
    for folder, origin in ((second, moved), (moved, first), (second, tmp_path / "made.keras")):
        origin = origin if origin != tmp_path / "made.keras" else next(tmp_path.glob("*.keras"))
        words = ["verify", str(folder), "--frameworks", "torch", "--origin", str(origin)]
        assert main(words) == 0, (origin, capsys.readouterr())
        assert "not compared" not in capsys.readouterr().out
    train(moved)
    assert main(["verify", str(moved), "--frameworks", "torch", "--origin", str(first)]) == 1
    assert "model.safetensors: " in capsys.readouterr().out
    assert main(["verify", str(second), "--frameworks", "torch", "--origin", str(moved)]) == 1


def test_a_port_in_the_place_of_its_source_has_none(first):
    xlstm.save(first, first, "torch", overwrite=True)
    found = verify_folder(first)
    assert found.ok
    assert found.since[0].startswith("no source is recorded")
    assert "since the port: no source" not in str(found)


def test_a_report_cannot_name_its_own_folder_as_the_source(first):
    report = json.loads((first / "report.json").read_text())
    for digest in ("", report["proof"]["hashes"]["model.safetensors"]):
        report["proof"] |= {"origin": ".", "origin_sha256": digest}
        (first / "report.json").write_text(json.dumps(report))
        assert verify_folder(first).since[0].startswith("source not compared: ")
