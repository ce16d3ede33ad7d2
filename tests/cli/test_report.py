"""`xlstm report`: a page for a file or a ported folder, checked and written as promised."""

import json
import shlex
import sys

import pytest
from processes import CLI, run
from test_cli import cli  # noqa: F401  a fixture

import xlstm
from xlstm.cli.commands import COMMANDS
from xlstm.cli.parser import as_typed, parsed
from xlstm.frameworks.imports import require
from xlstm.verification import reconcile as comparing

DEMO = str(xlstm.demo.path())


def test_a_page_about_a_file(cli, tmp_path):  # noqa: F811
    page = tmp_path / "report.html"
    status, out, err = cli("report", DEMO, "-o", page, "--frameworks", "torch")
    assert (status, err) == (0, "")
    assert out == f"Equal up to rounding: PyTorch.\nThe report is in {page}.\n"
    text = page.read_text("utf-8")
    assert text.startswith("<!doctype html>")
    assert "lstm, every step" in text
    assert f"xlstm report {DEMO} --frameworks torch -o {page}</code>" in text
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


def test_json_and_quiet(cli, tmp_path):  # noqa: F811
    page, options = tmp_path / "report.html", ("--frameworks", "torch")
    _status, out, _err = cli("report", DEMO, "-o", page, *options, "--json")
    verdict = "Equal up to rounding: PyTorch."
    assert json.loads(out) == {"ok": True, "verdict": verdict, "report": str(page)}
    _status, out, _err = cli("report", DEMO, "-o", page, *options, "--quiet")
    assert out == f"{verdict}\n"


def test_a_page_about_a_ported_folder(cli, tmp_path):  # noqa: F811
    folder, page = tmp_path / "ported", tmp_path / "report.html"
    xlstm.save(DEMO, folder, "torch")
    assert cli("report", folder, "-o", page, "--quiet")[0] == 0
    text = page.read_text("utf-8")
    assert "our port, model.py of the folder" in text
    assert "Use the port: model.py has the function load()." in text
    assert "Write a port" not in text
    source = folder / "model.py"
    source.write_text(source.read_text("utf-8").replace("import torch", "import torch  # x", 1))
    status, out, _err = cli("report", folder, "-o", page, "--quiet")
    assert (status, out.startswith("Not the port that was written: model.py")) == (1, True)
    text = page.read_text("utf-8")
    assert 'class="verdict bad"' in text
    assert "Do not use this folder: its files are not those of the port." in text
    assert "changed since the port: model.py" in text


def test_the_command_on_the_page_has_every_option():
    words = ["report", "a b.h5", "-o", "r.html", "--until", "x", "--custom", "c.py", "--half"]
    words += ["--inputs", "a.npy", "--inputs", "b.npy", "--frameworks", "torch, nnx", "--json"]
    words += ["--memory", "2"]
    args = parsed(words, COMMANDS)
    again = shlex.split(as_typed(args))
    assert again[:2] == ["xlstm", "report"]
    found = vars(parsed(again[1:], COMMANDS)) | {"json": True, "parser": None}
    assert found == vars(args) | {"parser": None}


CHECKED = (
    f"{CLI.partition(';')[0]}; from xlstm.cli.main import main; status = main(sys.argv[1:]); "
    "sys.exit(status + 10 * bool({'torch', 'keras', 'jax'} & set(sys.modules)))"
)


@pytest.mark.parametrize("name", ["nowhere/report.html", "report.txt", "folder.html"])
def test_a_page_that_cannot_be_written_is_refused_first(tmp_path, name):
    (tmp_path / "folder.html").mkdir()
    done = run(CHECKED, "report", DEMO, "-o", tmp_path / name)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1
    assert [item.name for item in tmp_path.iterdir()] == ["folder.html"]
    assert not list((tmp_path / "folder.html").iterdir())


def test_an_old_page_stays_if_the_comparison_fails(cli, tmp_path, monkeypatch):  # noqa: F811
    require("torch")
    page = tmp_path / "report.html"
    page.write_text("old")

    def fails(*_args, **_options):
        raise MemoryError

    monkeypatch.setattr(comparing, "bounds_of_each", fails)
    status, _out, err = cli("report", DEMO, "-o", page, "--frameworks", "torch")
    assert (status, err.count("\n")) == (2, 1)
    assert page.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]


@pytest.mark.skipif(sys.platform != "linux", reason="/dev/full is of Linux")
def test_a_full_disk_is_one_line(cli, tmp_path):  # noqa: F811
    page = tmp_path / "full.html"
    page.symlink_to("/dev/full")
    status, out, err = cli("report", DEMO, "-o", page, "--frameworks", "torch")
    assert (status, out) == (2, "")
    assert "No space left on device" in err
    assert err.count("\n") == 1
