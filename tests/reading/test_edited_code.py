"""A ported folder whose model.py was edited: whoever reads its graph is told."""

import hashlib
import json

import make_files
import pytest

import xlstm
from xlstm.cli.main import main
from xlstm.errors import FolderCodeWarning
from xlstm.reading.ports import read_folder

WARNS = "is not what xlstm .* writes for this graph"


@pytest.fixture
def port(tmp_path):
    return xlstm.save(make_files.make("keras", tmp_path), tmp_path / "port", "torch")


@pytest.fixture
def edited(port):
    """As the user's `save_pretrained` leaves it: other code, no report."""
    (port / "report.json").unlink()
    return edit(port, "[:, -1]", "[:, 0]")


def edit(folder, old, new):
    code = folder / "model.py"
    text = code.read_text()
    assert old in text
    code.write_text(text.replace(old, new))
    return folder


CALLS = {
    "load": xlstm.load,
    "port": lambda folder: xlstm.port(folder, "numpy"),
    "save": lambda folder: xlstm.save(folder, folder.parent / "again", "nnx"),
    "count": xlstm.count,
}


@pytest.mark.parametrize("call", CALLS)
def test_every_call_warns_its_caller(call, edited):
    with pytest.warns(FolderCodeWarning, match=WARNS) as heard:
        CALLS[call](edited)
    assert {w.filename for w in heard} == {__file__}
    assert f"xlstm verify {edited} --trust" in str(heard[0].message)


def lines(command, folder, *more, capsys):
    """The warnings of a command as JSON, once its text has them too."""
    status = main([command, str(folder), *more])
    printed = capsys.readouterr()
    assert (status, printed.err) == (0, "")
    assert "warning: model.py of port is not what xlstm" in printed.out
    again = ["--overwrite"] if command == "port" else []
    assert main([command, str(folder), *more, *again, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    return found["lines"] if command == "inspect" else found["warnings"]


@pytest.mark.parametrize("target", ["torch", "nnx", "linen", "keras"])
def test_commands_warn_in_both_forms(target, tmp_path, capsys):
    folder = xlstm.save(make_files.make("keras", tmp_path), tmp_path / "port", target)
    edit(folder, "import", "import sys\nimport")
    for command in ("count", "inspect"):
        assert any("model.py of port" in line for line in lines(command, folder, capsys=capsys))
    assert f"xlstm diagnose {folder} {folder} --trust" in main_out(["inspect", folder], capsys)


def main_out(words, capsys):
    assert main([*map(str, words), "--json"]) == 0
    return capsys.readouterr().out


def test_a_port_warns_and_does_not_pass_the_warning_on(edited, tmp_path, capsys):
    new = tmp_path / "new"
    (line,) = lines("port", edited, "--to", "nnx", "-o", str(new), "--no-verify", capsys=capsys)
    assert line.startswith("model.py of port is not what xlstm")
    assert xlstm.load(new).source.code_warning == ""
    assert "is not what" not in json.dumps(xlstm.count(new).to_json())


def test_formatting_comments_and_docstrings_do_not_count(port):
    (port / "report.json").unlink()
    code = port / "model.py"
    text = code.read_text().replace("    def forward", "    # mine\n\n    def forward")
    code.write_text(text.replace('"""', '"""Mine: ', 1).replace(" = ", "  =  "))
    assert xlstm.load(port).source.code_warning == ""
    assert xlstm.diagnose(port, port).ok


def test_the_recorded_text_of_another_version_is_no_edit(port):
    edit(port, "import", "import sys\nimport")
    report = json.loads((port / "report.json").read_text())
    digest = hashlib.sha256((port / "model.py").read_bytes()).hexdigest()
    report["proof"]["hashes"]["model.py"] = digest
    (port / "report.json").write_text(json.dumps(report))
    assert xlstm.load(port).source.code_warning == ""


@pytest.mark.parametrize("report", [True, False])
def test_a_graph_that_cannot_be_written_is_compared_with_the_record(port, report, monkeypatch):
    def refuse(_graph):
        raise xlstm.errors.UnsupportedError("layer own", "a registered layer", "none", "register")

    import dataclasses

    from xlstm.frameworks import registry

    adapter = dataclasses.replace(registry.adapter("torch"), emit=refuse)
    monkeypatch.setattr("xlstm.converters.torch.adapter.ADAPTER", adapter)
    if not report:
        (port / "report.json").unlink()
        with pytest.warns(FolderCodeWarning, match="was not checked"):
            xlstm.load(port)
        return
    assert xlstm.load(port).source.code_warning == ""
    edit(port, "[:, -1]", "[:, 0]")
    with pytest.warns(FolderCodeWarning, match=r"is not the one that report\.json records"):
        xlstm.load(port)


HOSTILE = ["(" * 20_000, "-" * 20_000 + "1", "\0", "x = 1 +", "#" * 10**6, "\udcff"]


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_code_that_is_no_python_is_other_code(text, port):
    (port / "report.json").unlink()
    (port / "model.py").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.warns(FolderCodeWarning, match=WARNS):
        assert xlstm.load(port).weights.keys() == read_folder(port).weights.keys()
