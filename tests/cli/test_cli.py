"""The command line: exit status, one line of error, and the JSON that others parse."""

import json
import re
import subprocess
import sys
import zipfile

import make_files
import numpy as np
import pytest
from make_files import make, options, replace
from processes import CLI, WAIT, command, environment, run

import xlstm
from xlstm.cli.main import main

DEMO = str(xlstm.demo.path())
COUNTS = {"keras": 2180, "torch": 2260, "nnx": 2180, "linen": 2180}
FILES = ["config.json", "model.py", "model.safetensors", "report.json"]


@pytest.fixture
def cli(capsys):
    """Runs the command in this process: (exit status, stdout, stderr)."""

    def call(*args):
        try:
            status = main([str(arg) for arg in args])
        except SystemExit as left:  # argparse
            status = left.code
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        printed.out.encode("utf-8")
        return status, printed.out, printed.err

    return call


def no_constant(name):
    raise AssertionError(f"{name} is not JSON")


def document(text):
    """The one JSON document that a text is."""
    return json.loads(text, parse_constant=no_constant)


@pytest.fixture(scope="module")
def ported(tmp_path_factory):
    """What `xlstm port --to torch` wrote, verified."""
    folder = tmp_path_factory.mktemp("cli") / "port"
    assert main(["port", DEMO, "--to", "torch", "-o", str(folder)]) == 0
    return folder


@pytest.fixture
def nan_file(tmp_path):
    bias = np.full(16, np.nan, np.float32)
    return make("keras", tmp_path, weights=lambda f: replace(f, make_files.BIAS["keras"], bias))


def test_count_of_the_demo(cli):
    status, out, err = cli("count", DEMO)
    assert (status, err) == (0, "")
    total = next(line for line in out.splitlines() if "total" in line)
    assert total.split() == ["total", "2,180", "2,260", "2,180", "2,180"]
    assert "+80 = 4 x 20" in out


@pytest.mark.parametrize("words", [("inspect",), ("count",), ("port", "--to", "torch", "-o", "x")])
def test_until_a_layer_that_is_not_there(words, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = cli(words[0], DEMO, *words[1:], "--until", "lstn")
    assert (status, out) == (2, "")
    assert "got lstn; use one of sequence, lstm, dense" in err


def test_count_as_json(cli):
    status, out, err = cli("count", DEMO, "--json")
    assert (status, err) == (0, "")
    found = document(out)
    assert set(found) >= {"layers", "totals"}
    for framework, total in COUNTS.items():
        assert found["totals"][framework] == {
            "total": total,
            "trainable": total,
            "non_trainable": 0,
            "other": 0,
        }


def test_operations_of_the_demo(cli):
    status, out, err = cli("count", DEMO, "--flops")
    assert (status, err) == (0, "")
    # 20 steps of 4 x 20 x (1 + 20) multiply-adds
    assert re.search(r"lstm +all but PyTorch +33,600 +5,600 ", out)
    assert re.search(r"PyTorch +33,600 +7,200 ", out)
    found = document(cli("count", DEMO, "--flops", "--json")[1])
    assert found["totals"]["keras"]["total"] == 2180
    work = found["operations"]["totals"]["keras"]
    assert work["multiply_adds"] == [{"count": 34000, "T": 0, "B": 1}]
    assert work["calls"] == {"sigmoid": [{"count": 1200, "T": 0, "B": 1}]}
    assert "operations" not in document(cli("count", DEMO, "--json")[1])


def test_layers_in_the_json_of_count(cli):
    lstm, dense = document(cli("count", DEMO, "--json")[1])["layers"]
    assert (lstm["path"], lstm["kind"]) == ("lstm", "LSTM")
    assert lstm["params"] == {"keras": 1760, "torch": 1840, "nnx": 1760, "linen": 1760}
    tensor = next(t for t in lstm["tensors"]["torch"] if t["name"].endswith("weight_ih_l0"))
    assert tensor.items() >= {"shape": [80, 1], "count": 80, "trainable": True}.items()
    line = next(d for d in lstm["differences"] if (d["from"], d["to"]) == ("keras", "torch"))
    assert line["delta"] == 80
    assert "second bias" in line["reason"]
    assert dense["params"] == dict.fromkeys(COUNTS, 420)
    assert dense["differences"] == []


def test_port_writes_a_verified_folder(cli, ported):
    assert sorted(item.name for item in ported.iterdir()) == FILES
    report = document((ported / "report.json").read_text())
    assert report["to"] == "torch"
    assert report["counts"]["totals"]["torch"]["total"] == 2260
    assert report["verification"]["ok"] is True
    assert report["verification"]["frameworks"]["torch"]["float64"]["verdict"] == "rounding"


def test_port_says_what_it_did(cli, tmp_path):
    status, out, err = cli("port", DEMO, "--to", "nnx", "-o", tmp_path / "port", "--no-verify")
    assert (status, err) == (0, "")
    for words in ("Flax NNX", "model.py, report.json, weights.safetensors", "not verified"):
        assert words in " ".join(out.split())
    report = document((tmp_path / "port" / "report.json").read_text())
    assert report["verification"] == "not verified"


def test_port_overwrites_when_told_to(cli, tmp_path):
    port = ("port", DEMO, "-o", tmp_path / "port", "--no-verify", "--to")
    assert cli(*port, "nnx")[0] == 0
    status, out, err = cli(*port, "linen")
    assert (status, out) == (2, "")
    assert "overwrite" in err
    assert cli(*port, "linen", "--overwrite")[0] == 0
    assert document((tmp_path / "port" / "report.json").read_text())["to"] == "linen"


def test_port_to_what_is_not_installed_writes_unverified(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, err = cli("port", DEMO, "--to", "torch", "-o", tmp_path / "port")
    assert (status, err) == (0, "")
    said = "not verified (PyTorch is not installed: pip install 'xlstm-converter[torch]')"
    assert said in " ".join(out.split())
    assert sorted(item.name for item in (tmp_path / "port").iterdir()) == FILES


def test_port_to_keras_that_is_not_installed(cli, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    status, out, _err = cli("port", DEMO, "--to", "keras", "-o", tmp_path / "port")
    assert status == 0
    assert "model.keras needs Keras" in " ".join(out.split())
    files = ["model.py", "report.json", "weights.safetensors"]
    assert sorted(item.name for item in (tmp_path / "port").iterdir()) == files


def test_the_demo_names_what_is_not_installed(cli, monkeypatch):
    for name in ("flax", "keras"):
        monkeypatch.setitem(sys.modules, name, None)
    status, out, _err = cli("demo")
    said = " ".join(out.split())
    assert status == 0
    for title, extra in (("Keras", "keras"), ("Flax NNX", "flax"), ("Flax Linen", "flax")):
        line = f"Not installed: {title}. To add it: pip install 'xlstm-converter[{extra}]'"
        assert line in said


SOURCE = "import torch\n\nmodel = torch.nn.LSTM(2, 3)\n"
FOREIGN = {
    "net.py": (SOURCE.encode(), "got Python source; no code of a file is run; in Python, import"),
    "net.onnx": (b"\x08\x07\x12\x07pytorch", "got ONNX, which is not read; port the model"),
}


@pytest.mark.parametrize("command", ["inspect", "count", "port", "verify"])
@pytest.mark.parametrize("name", FOREIGN)
def test_files_of_other_kinds_are_named(name, command, cli, tmp_path):
    data, said = FOREIGN[name]
    (tmp_path / name).write_bytes(data)
    more = ["--to", "nnx", "-o", tmp_path / "out"] if command == "port" else []
    status, out, err = cli(command, tmp_path / name, *more)
    assert (status, out) == (2, "")
    assert said in err


def test_onnx_is_exported_from_a_port(cli, tmp_path):
    status, _, err = cli("port", DEMO, "--to", "onnx", "-o", tmp_path / "out")
    assert status == 2
    assert "port to torch, then export the port with torch.onnx" in err
    assert "did you mean" not in err


def test_members_that_were_not_read_are_of_the_file_alone(cli, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    port = ("--to", "torch", "--no-verify", "--json", "-o")
    (tmp_path / "source").mkdir()
    file = make_files.make("keras", tmp_path / "source")
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("more.txt", "mine")
    assert "members not read: more.txt" in cli("port", file, *port, first)[1]
    assert "members not read" not in cli("port", first, *port, second)[1]
    live = xlstm.port(file, "torch")
    assert not any("members" in note for note in xlstm.load(live).source.notes)


def test_verify_of_what_is_not_installed_is_no_success(cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    status, out, err = cli("verify", DEMO, "--frameworks", "torch")
    assert (status, out) == (2, "")
    assert "pip install" in err


def test_verify_of_a_ported_folder(cli, ported):
    status, out, err = cli("verify", ported, "--frameworks", "torch")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == "Equal up to rounding: PyTorch."


def test_verify_as_json(cli, ported):
    status, out, err = cli("verify", ported, "--frameworks", "torch", "--json")
    assert (status, err) == (0, "")
    found = document(out)
    assert found["ok"] is True
    assert found["counts"]["ok"] is True
    assert found["undecidable_from"] is None
    assert found["unexercised"] == []
    for dtype in ("float32", "float64"):
        figures = found["frameworks"]["torch"][dtype]
        assert figures["verdict"] == "rounding"
        assert 0 <= figures["max_abs"] <= figures["bound"]
        assert figures["max_rel"] >= 0
        assert figures["max_ulp"] >= 0


def test_verify_of_what_cannot_be_decided_is_1(cli, nan_file):
    status, out, err = cli("verify", nan_file, "--frameworks", "torch", "--json")
    assert (status, err) == (1, "")
    found = document(out)
    assert found["ok"] is False
    assert found["frameworks"]["torch"]["float64"]["verdict"] == "undecided"


def test_port_of_what_cannot_be_decided_is_1(cli, nan_file, tmp_path):
    status, out, err = cli("port", nan_file, "--to", "torch", "-o", tmp_path / "port")
    assert (status, err) == (1, "")
    assert "undecided" in out
    report = document((tmp_path / "port" / "report.json").read_text())
    assert report["verification"]["ok"] is False
    assert report["warnings"] == ["layer lstm: bias holds NaN or infinity"]


def test_inspect_names_layers_options_and_weights(cli):
    status, out, err = cli("inspect", DEMO)
    assert (status, err) == (0, "")
    for words in ("demo.keras", "3.15.1", "lstm", "relu", "dense", "(20, 1) a sample"):
        assert words in out
    assert "warning" not in out


def test_inspect_warns_of_nan_and_count_does_not(cli, nan_file):
    status, out, err = cli("inspect", nan_file)
    assert (status, err) == (0, "")
    assert "warning: layer lstm: bias holds NaN or infinity" in out.splitlines()
    status, out, err = cli("count", nan_file)
    assert (status, err) == (0, "")
    assert "NaN" not in out


def test_inspect_of_a_ported_folder(cli, ported):
    status, out, _err = cli("inspect", ported)
    assert status == 0
    assert "3.15.1" in out


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "a\rb", "a\ud800b", "[bold]a[/bold]"])
@pytest.mark.parametrize("what", ["count", "inspect", "port"])
def test_names_of_a_file_do_not_drive_the_terminal(what, name, cli, tmp_path):
    bias = np.full(16, np.inf, np.float32)
    weights = lambda f: replace(f, make_files.BIAS["keras"], bias)  # noqa: E731
    path = make("keras", tmp_path, config=options(1, name=name), weights=weights)
    more = ("--to", "nnx", "--no-verify", "-o", tmp_path / "port") if what == "port" else ()
    status, out, _err = cli(what, path, *more)
    assert status == 0
    assert all(line.isprintable() for line in out.split("\n"))
    assert name.isprintable() or name not in out
    if name.isprintable():
        assert name in out, "a name is no markup"


def test_explain_needs_no_file(cli):
    status, out, err = cli("explain", "LSTM", "--features", 1, "--units", 20)
    assert (status, err) == (0, "")
    assert "4 n (m + n + 1) = 4 x 20 x (1 + 20 + 1) = 1,760" in out
    assert "1,840" in out


def test_explain_in_one_line(cli):
    status, out, err = cli("explain", "lstm", "--features", 1, "--units", 20, "--quiet")
    assert (status, out, err) == (0, "Keras 1,760, PyTorch 1,840, Flax 1,760\n", "")


def test_help_of_explain_lists_every_layer(cli):
    from xlstm.counting.explain import LAYERS

    status, out, _err = cli("explain", "--help")
    assert status == 0
    assert all(name in out for name in (*LAYERS, "Bidirectional"))


def test_a_picture_is_said_to_be_written(cli, tmp_path):
    path = tmp_path / "f.SVG"
    shape = ("explain", "LSTM", "--features", 1, "--units", 20)
    status, _out, err = cli(*shape, "--svg", path)
    assert (status, err) == (0, f"xlstm: picture written to {path}\n")
    assert path.read_text().startswith("<svg")
    status, _out, err = cli(*shape, "--svg", path, "--quiet")
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("", "name one, or - for stdout"),
        ("f.png", "expected a name that ends in .svg, got a file of type .png; name f.svg"),
        ("f", "a name without a suffix; name f.svg"),
        ("missing/f.svg", "create it: mkdir -p"),
    ],
)
def test_pictures_that_cannot_be_written(name, words, cli, tmp_path):
    path = tmp_path / name if name else ""
    status, out, err = cli("explain", "LSTM", "--features", 1, "--units", 20, "--svg", path)
    assert (status, out) == (2, "")
    assert words in err
    assert not any(tmp_path.iterdir())


def test_explain_as_json(cli):
    status, out, err = cli("explain", "Dense", "--features", 20, "--units", 20, "--json")
    assert (status, err) == (0, "")
    found = document(out)
    assert (found["kind"], found["features"], found["units"]) == ("Dense", 20, 20)
    assert sum(part["count"] for part in found["breakdown"]) == 420
    assert found["totals"]["torch"]["total"] == 420


PORT = ("port", DEMO, "-o", "out", "--to")
EXPLAIN = ("explain", "LSTM", "--features", "1", "--units")
CANNOT = {
    "inspect-missing": ("inspect", "missing.keras"),
    "count-missing": ("count", "missing.keras", "--json"),
    "verify-missing": ("verify", "missing.keras", "--frameworks", "torch", "--json"),
    "port-missing": ("port", "missing.keras", "--to", "torch", "-o", "out"),
    "count-folder": ("count", "."),
    "count-two-tables": ("count", DEMO, "--flops", "--tensors"),
    "count-empty-name": ("count", ""),
    "count-long-name": ("count", "x" * 5000),
    "verify-long-name": ("verify", "x" * 5000, "--frameworks", "torch"),
    "port-unknown": (*PORT, "caffe"),
    "port-reference": (*PORT, "numpy"),
    "port-below-a-file": ("port", DEMO, "-o", f"{DEMO}/out", "--to", "torch"),
    "port-missing-below-new": ("port", "missing.keras", "-o", "new/out", "--to", "torch"),
    "port-jax": (*PORT, "jax"),
    "port-long-name": ("port", DEMO, "-o", "x" * 300, "--to", "torch"),
    "port-onto-a-folder": ("port", DEMO, "-o", ".", "--to", "torch", "--overwrite"),
    "verify-unknown": ("verify", DEMO, "--frameworks", "torch,caffe"),
    "verify-reference": ("verify", DEMO, "--frameworks", "numpy"),
    "explain-unknown": ("explain", "Lambda", "--features", "1", "--units", "2"),
    "explain-zero": (*EXPLAIN, "0"),
    "explain-negative": (*EXPLAIN, "-1"),
    "explain-zero-features": ("explain", "Dense", "--features", "0", "--units", "2"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_cannot_be_done_is_2_and_one_line(case, cli, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, out, err = cli(*CANNOT[case])
    assert (status, out) == (2, "")
    assert err.startswith("xlstm: ")
    assert err.count("\n") == 1
    assert err.endswith("\n")
    assert not list(tmp_path.iterdir())


USAGE = {
    "unknown-command": ("frobnicate",),
    "no-file": ("count",),
    "two-files": ("count", DEMO, DEMO),
    "unknown-option": ("count", DEMO, "--yaml"),
    "port-no-target": ("port", DEMO, "-o", "out"),
    "port-no-folder": ("port", DEMO, "--to", "torch"),
    "explain-no-units": ("explain", "LSTM", "--features", "1"),
    "explain-word": (*EXPLAIN, "many"),
    "explain-fraction": (*EXPLAIN, "1.5"),
}


@pytest.mark.parametrize("case", USAGE)
def test_bad_usage_is_2(case, cli):
    status, out, err = cli(*USAGE[case])
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("xlstm")


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_is_0(option, cli):
    status, out, err = cli(option)
    assert (status, err) == (0, "")
    assert "xlstm" in out


PROCESSES = {
    "done": (("count", DEMO), 0, ""),
    "cannot": (("count", "missing.keras"), 2, "xlstm: missing.keras: "),
    "bad-usage": (("count",), 2, "xlstm count: "),
}


@pytest.mark.parametrize("case", PROCESSES)
def test_a_process_of_its_own(case, tmp_path, monkeypatch):
    args, status, start = PROCESSES[case]
    monkeypatch.chdir(tmp_path)
    done = run(CLI.replace("sys.exit", "sys.argv[0] = 'xlstm'; sys.exit"), *args)
    assert done.returncode == status
    assert done.stderr.startswith(start)
    assert "Traceback" not in done.stderr
    assert ("2,180" in done.stdout) == (status == 0)


def test_output_that_cannot_show_lines_of_tables(monkeypatch):
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    done = run(CLI, "count", DEMO)
    assert (done.returncode, done.stderr) == (0, "")
    assert "2,180" in done.stdout


def test_a_reader_that_goes_away_is_no_error():
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command(CLI, "count", DEMO), env=environment(), **pipes) as process:
        process.stdout.close()
        said = process.stderr.read()
    assert (process.returncode, said) == (0, b"")


def test_the_package_runs_as_the_command():
    line = [sys.executable, "-m", "xlstm", "explain", "LSTM", "--features", "1", "--units", "2"]
    found = subprocess.run(line, env=environment(), capture_output=True, text=True, timeout=WAIT)
    assert (found.returncode, found.stderr) == (0, "")
    assert "= 32" in found.stdout
