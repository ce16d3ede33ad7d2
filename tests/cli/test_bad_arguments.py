"""Bad input of every command: status 2, one or two short lines, no traceback, and at once."""

import os
import resource
import shutil
import subprocess
import sys

import pytest
from processes import environment
from test_cli import cli  # noqa: F401  a fixture

import xlstm
from xlstm.cli.flags import as_flags, in_words_of_the_command
from xlstm.cli.parser import OPTIONS
from xlstm.errors import UsageError

DEMO = str(xlstm.demo.path())
SHAPE = ("--features", "1", "--units", "2")
FILES = {
    "missing": "missing.h5",
    "directory": "folder",
    "empty": "empty.h5",
    "text": "text.h5",
    "no-name": "",
}
WORDS = {
    "inspect": ("inspect", "FILE"),
    "count": ("count", "FILE"),
    "count-flops": ("count", "FILE", "--flops"),
    "port": ("port", "FILE", "--to", "torch", "-o", "out"),
    "verify": ("verify", "FILE"),
    "report": ("report", "FILE", "-o", "report.html"),
    "diagnose": ("diagnose", "FILE", DEMO),
    "diagnose-b": ("diagnose", DEMO, "FILE"),
    "same": ("same", "FILE", DEMO),
    "same-b": ("same", DEMO, "FILE"),
    "inputs": ("verify", DEMO, "--inputs", "FILE"),
    "architecture": ("count", DEMO, "--architecture", "FILE"),
    "custom": ("count", DEMO, "--custom", "FILE"),
}
CASES = {
    f"{a}-{b}": [FILES[b] if word == "FILE" else word for word in WORDS[a]]
    for a in WORDS
    for b in FILES
}
del CASES["custom-empty"]  # an empty file of Python registers nothing
CASES |= {
    "unknown-layer": ("explain", "Lambda", *SHAPE),
    "layer-of-the-file": ("inspect", DEMO, "--until", "nothing"),
    "no-until": ("inspect", DEMO, "--until", ""),
    "no-framework": ("count", DEMO, "--frameworks", ""),
    "no-target": ("inspect", DEMO, "--to", ""),
    "no-folder": ("port", DEMO, "--to", "torch", "-o", ""),
    "file-for-folder": ("port", DEMO, "--to", "torch", "-o", "text.h5"),
    "below-a-file": ("port", DEMO, "--to", "torch", "-o", "text.h5/out"),
    "below-proc": ("port", DEMO, "--to", "torch", "-o", "/proc/nothing/out"),
    "no-svg": ("explain", "LSTM", *SHAPE, "--svg", ""),
    "svg-in-a-folder": ("explain", "LSTM", *SHAPE, "--svg", "folder"),
    "svg-nowhere": ("explain", "LSTM", *SHAPE, "--svg", "nowhere/picture.svg"),
    "no-page": ("report", DEMO, "-o", ""),
    "page-without-suffix": ("report", DEMO, "-o", "report"),
    "page-of-another-type": ("report", DEMO, "-o", "report.pdf"),
    "page-nowhere": ("report", DEMO, "-o", "nowhere/report.html"),
    "page-below-proc": ("report", DEMO, "-o", "/proc/report.html"),
    "page-below-a-file": ("report", DEMO, "-o", "text.h5/report.html"),
    "no-number": ("explain", "LSTM", "--features", "many", "--units", "2"),
    "option-of-another": ("explain", "GRU", *SHAPE, "--projection", "3"),
    "memory-zero": ("verify", DEMO, "--memory", "0"),
    "memory-word": ("verify", DEMO, "--memory", "lots"),
    "effort-below": ("diagnose", DEMO, DEMO, "--effort", "-1"),
    "kernel-layout": ("count", DEMO, "--kernel-layout", "x"),
    "keras-version": ("count", DEMO, "--keras-version", "x"),
    "origin": ("verify", DEMO, "--origin", "x"),
    "fix-alone": ("diagnose", DEMO, DEMO, "--fix"),
    "fix-there": ("diagnose", DEMO, DEMO, "--fix", "-o", "folder"),
    "trust": ("diagnose", DEMO, DEMO, "--trust"),
    "adapter-taken": ("new-adapter", "PyTorch"),
    "adapter-name": ("new-adapter", "../evil"),
    "adapter-code": ("new-adapter", "x\nimport os"),
    "adapter-nameless": ("new-adapter", ""),
    "adapter-on-a-file": ("new-adapter", "mine", "-o", "text.h5"),
    "adapter-among-files": ("new-adapter", "mine", "-o", "."),
    "adapter-nowhere": ("new-adapter", "mine", "-o", "nowhere/mine"),
    "adapter-below-proc": ("new-adapter", "mine", "-o", "/proc/nothing"),
    "misspelt": ("verfy", DEMO),
    "demo": ("demo", "file"),
}


@pytest.fixture(autouse=True)
def files(tmp_path, monkeypatch):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.h5").write_bytes(b"")
    (tmp_path / "text.h5").write_text("hello there\n")
    monkeypatch.chdir(tmp_path)
    yield
    left = {"folder", "empty.h5", "text.h5"}
    assert {item.name for item in tmp_path.iterdir()} <= left
    assert not list((tmp_path / "folder").iterdir())


@pytest.mark.parametrize("case", CASES)
def test_bad_input_is_one_or_two_lines(case, cli):  # noqa: F811
    status, out, err = cli(*CASES[case])
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert 1 <= len(lines) <= 2
    assert all(line.startswith("xlstm") and len(line) < 260 for line in lines), lines
    assert "Error" not in err or case.startswith("custom"), "names of Python's classes"
    assert "=" not in err or "--" in err or case in ("custom-text",), "options as flags"


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_is_not_writable(cli, tmp_path):  # noqa: F811
    (tmp_path / "folder").chmod(0o500)
    status, _out, err = cli("port", DEMO, "--to", "torch", "--no-verify", "-o", "folder/out")
    assert (status, err.count("\n")) == (2, 1)


def seconds(*words):
    """Seconds of the processor that a command takes, the least of three, and its status."""
    found = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        line = [sys.executable, "-m", "xlstm", *words]
        status = subprocess.run(
            line, env=environment(), capture_output=True, check=False
        ).returncode
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found), status


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="tracing takes time")
@pytest.mark.parametrize("command", ["verify", "inspect", "count", "port"])
def test_a_missing_file_is_named_at_once(command):
    more = ("--to", "torch", "-o", "out") if command == "port" else ()
    took, status = seconds(command, "nothere.h5", *more)
    assert status == 2
    assert took < 0.5


@pytest.mark.skipif("COVERAGE_RUN" in os.environ, reason="tracing takes time")
def test_help_is_there_at_once():
    took, status = seconds("--help")
    assert status == 0
    assert took < 0.3
    assert max(seconds(name, "--help")[0] for name in list(OPTIONS)[:2]) < 0.3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('pass keras_version="2.1", for example', "pass --keras-version 2.1, for example"),
        ("or pass overwrite=True", "or pass --overwrite"),
        ("allow more (memory=)", "allow more (--memory)"),
        ('kernel_layout="tensorflow" or kernel_layout="theano"',
         "--kernel-layout tensorflow or --kernel-layout theano"),
        ("use_bias=True, batch_first=True", "use_bias=True, batch_first=True"),
    ],
)  # fmt: skip
def test_options_are_flags_on_the_command_line(text, said):
    assert as_flags(text) == said


@pytest.mark.parametrize(
    ("where", "said"),
    [("memory", "--memory"), ("a.h5, until", "a.h5, --until"), ("LSTM.features", "--features")],
)
def test_the_place_of_an_error_is_a_flag(where, said):
    error = UsageError(where, "b", "c", "d")
    in_words_of_the_command(error)
    assert str(error) == f"{said}: expected b, got c; d"


def test_a_missing_config_is_named(cli, tmp_path):  # noqa: F811
    import json
    import zipfile

    path = tmp_path / "folder" / "null.keras"
    with zipfile.ZipFile(DEMO) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "config.json":
                config = json.loads(data)
                config["config"]["layers"][1]["config"] = None
                data = json.dumps(config).encode()
            new.writestr(name, data)
    status, _out, err = cli("count", path)
    shutil.rmtree(tmp_path / "folder")
    (tmp_path / "folder").mkdir()
    assert status == 2
    assert "expected the options of a layer as a mapping, got null" in err
