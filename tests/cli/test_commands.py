"""Commands as people type them: names, folders, quiet and verbose, help with examples."""

import json
import shlex
import shutil
import sys

import numpy as np
import pytest
from processes import run
from test_cli import cli  # noqa: F401  a fixture

import xlstm
from xlstm.cli import port as porting
from xlstm.cli.main import main
from xlstm.cli.parser import EXAMPLES, OPTIONS
from xlstm.frameworks import registry

DEMO = str(xlstm.demo.path())


def test_a_bare_command_shows_the_help(cli):  # noqa: F811
    status, out, err = cli()
    assert (status, err) == (0, "")
    assert all(name in out for name in OPTIONS)


@pytest.mark.parametrize(
    ("words", "near"),
    [(("conut", DEMO), "count"), (("verfy", DEMO), "verify"), (("count", DEMO, "--jsn"), "--json")],
)
def test_a_misspelt_word_gets_the_nearest(cli, words, near):  # noqa: F811
    status, out, err = cli(*words)
    assert (status, out) == (2, "")
    assert err.endswith(f"; did you mean {near}?\n")


@pytest.mark.parametrize(
    ("name", "own"), [("pytorch", "torch"), ("PyTorch", "torch"), ("TensorFlow", "keras")]
)
def test_names_that_people_use(cli, name, own):  # noqa: F811
    status, out, _err = cli("count", DEMO, "--frameworks", name, "--json")
    assert status == 0
    assert list(json.loads(out)["totals"]) == [own]
    assert registry.canonical(name) == own


@pytest.mark.parametrize("name", ["jax", "flax"])
def test_a_name_of_two_adapters_asks_for_one(cli, name, tmp_path):  # noqa: F811
    status, _out, err = cli("port", DEMO, "--to", name, "-o", tmp_path / "out")
    assert status == 2
    assert "nnx or linen" in err
    assert not list(tmp_path.iterdir())


def test_count_in_chosen_frameworks(cli):  # noqa: F811
    _status, out, _err = cli("count", DEMO, "--frameworks", "keras,torch")
    assert out.startswith("Parameters: 2,180 in Keras; 2,260 in PyTorch.\n")
    assert "Flax" not in out


def test_parents_are_made_and_removed_again(cli, tmp_path, monkeypatch):  # noqa: F811
    folder = tmp_path / "new" / "deep" / "port"
    words = ("port", DEMO, "--to", "torch", "--no-verify", "-o", folder)
    assert cli(*words)[0] == 0
    assert (folder / "model.py").exists()
    shutil.rmtree(tmp_path / "new")

    def full(*_args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(porting, "write", full)
    status, _out, err = cli(*words)
    assert (status, "No space left" in err) == (2, True)
    assert not list(tmp_path.iterdir())


def test_a_port_that_differs_is_not_left_in_its_place(cli, tmp_path):  # noqa: F811
    adapter = registry.adapter("torch")
    emit = adapter.emit
    folder = tmp_path / "port"
    words = ("port", DEMO, "--to", "torch", "-o", folder)
    assert cli(*words)[0] == 0
    before = (folder / "model.py").read_bytes()
    object.__setattr__(
        adapter, "emit", lambda m: emit(m).replace("        return x\n", "        return 2 * x\n")
    )
    try:
        status, out, err = cli(*words, "--overwrite")
    finally:
        object.__setattr__(adapter, "emit", emit)
    assert (status, err) == (1, "")
    assert out.startswith("Not equal: the port to PyTorch is different.")
    assert (folder / "model.py").read_bytes() == before
    aside = tmp_path / "port-different"
    assert b"2 * x" in (aside / "model.py").read_bytes()
    report = json.loads((aside / "report.json").read_text())
    assert report["verification"]["ok"] is False


def test_a_folder_of_the_user_beside_the_port_is_named_before_the_work(cli, tmp_path):  # noqa: F811
    (tmp_path / "port-different").mkdir()
    (tmp_path / "port-different" / "mine.txt").write_text("mine")
    status, out, err = cli("port", DEMO, "--to", "torch", "-o", tmp_path / "port")
    assert (status, out) == (2, "")
    assert "port-different" in err
    assert sorted(item.name for item in tmp_path.iterdir()) == ["port-different"]


@pytest.mark.parametrize("command", ["inspect", "count", "verify", "port", "demo"])
def test_every_command_has_json(command, cli, tmp_path):  # noqa: F811
    words = {
        "inspect": (DEMO,),
        "count": (DEMO,),
        "verify": (DEMO, "--frameworks", "torch"),
        "port": (DEMO, "--to", "torch", "-o", tmp_path / "out"),
        "demo": (),
    }[command]
    status, out, err = cli(command, *words, "--json")
    assert (status, err) == (0, "")
    assert isinstance(json.loads(out), dict)


def test_verdicts_have_both_words(cli):  # noqa: F811
    found = json.loads(cli("verify", DEMO, "--frameworks", "torch", "--json")[1])
    figures = found["frameworks"]["torch"]["float64"]
    assert (figures["verdict"], figures["outcome"]) == ("rounding", "equal")


def test_quiet_is_one_line(cli):  # noqa: F811
    _status, out, err = cli("verify", DEMO, "--frameworks", "torch", "--quiet")
    assert (out, err) == ("Equal up to rounding: PyTorch.\n", "")
    _status, out, _err = cli("count", DEMO, "--quiet")
    assert out.count("\n") == 1


def test_details_have_counts_and_inputs(cli):  # noqa: F811
    short = cli("verify", DEMO, "--frameworks", "torch")[1]
    long = cli("verify", DEMO, "--frameworks", "torch", "--details")[1]
    assert "Reference: float64 numpy" in long
    assert "Reference: float64 numpy" not in short
    assert "2,260" in long


def test_verbose_says_what_runs():
    code = "import sys; from xlstm.cli.main import main; sys.exit(main(sys.argv[1:]))"
    done = run(code, "verify", DEMO, "--frameworks", "torch", "-v")
    assert done.returncode == 0
    assert "read demo.keras" in done.stderr
    assert "PyTorch" in done.stderr


def test_lines_that_differ_in_the_layer_are_one(tmp_path):
    from xlstm.rendering.lines import alike_joined

    lines = [f"warning: layer lstm_{n}: bias holds NaN" for n in range(24)]
    assert alike_joined(lines) == ["warning: layers lstm_0 to lstm_23 (24): bias holds NaN"]
    assert alike_joined(["note: a", "note: a"]) == ["note: a"]


CHECKS = """
import sys
from xlstm.cli.main import main
status = main(sys.argv[1:])
tops = {name.split(".")[0] for name in sys.modules}
heavy = {"torch", "jax", "flax", "keras", "tensorflow"} & tops
assert not heavy, heavy
sys.exit(status)
"""


@pytest.mark.parametrize(
    "words",
    [
        ("verify", "nothere.h5"),
        ("verify", DEMO, "--frameworks", "torhc"),
        ("verify", DEMO, "--inputs", "nothere.npy"),
        ("verify", DEMO, "--inputs", "wrong.npy"),
        ("diagnose", DEMO, "nothere"),
        ("diagnose", "nothere.h5", DEMO),
        ("port", "nothere.h5", "--to", "torch", "-o", "out"),
        ("port", DEMO, "--to", "torch", "-o", "."),
    ],
    ids=" ".join,
)
def test_checks_come_before_any_framework(words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("wrong.npy", np.zeros((2, 3), "float32"))
    done = run(CHECKS, *words)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("command", OPTIONS)
def test_the_help_ends_with_two_examples_that_run(command, cli, tmp_path, monkeypatch):  # noqa: F811
    status, out, _err = cli(command, "--help")
    assert status == 0
    examples = [line.strip() for line in out.rstrip().splitlines()[-2:]]
    assert examples == list(EXAMPLES[command])
    shutil.copy(DEMO, tmp_path / "model.keras")
    shutil.copy(DEMO, tmp_path / "model.h5")  # the content says what a file is
    monkeypatch.chdir(tmp_path)
    shutil.copy(DEMO, tmp_path / "old.h5")
    (tmp_path / "zoo").mkdir()
    shutil.copy(DEMO, tmp_path / "zoo")
    if command in ("verify", "report", "diagnose", "same"):
        assert main(["port", "model.keras", "--to", "torch", "-o", "ported", "--quiet"]) == 0
    for example in examples:
        assert main(shlex.split(example)[1:]) == 0, example


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_for_a_shell(shell, cli):  # noqa: F811
    pytest.importorskip("shtab", reason="completion needs shtab: install the extra completion")
    status, out, _err = cli("--completion", shell)
    assert status == 0
    assert "diagnose" in out
    assert sys.executable not in out
