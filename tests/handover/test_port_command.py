"""`xlstm port --with-tests`: its files, when they are written, and when they go."""

import json

import pytest
from paths import DATA

import xlstm
from xlstm.cli.main import main
from xlstm.frameworks import registry

DEMO = xlstm.demo.path()

PROOF = {"test_port.py", "golden.safetensors", "port.intoto.json"}


def files(folder):
    return {item.name for item in folder.iterdir()}


def command(*words):
    return main([*map(str, words)])


@pytest.fixture
def swapped(monkeypatch):
    """Sets attributes of the frozen adapter of PyTorch."""

    def set_(**values):
        adapter = registry.adapter("torch")
        for name, value in values.items():
            before = getattr(adapter, name)
            monkeypatch.setitem(vars(adapter), name, value)
            assert getattr(adapter, name) is not before

    return set_


@pytest.mark.parametrize("more", [(), ("--no-verify",)])
def test_the_files_are_named(more, tmp_path, capsys):
    folder = tmp_path / "port"
    assert command("port", DEMO, "--to", "torch", "-o", folder, "--with-tests", *more) == 0
    assert "golden.safetensors" in capsys.readouterr().out
    assert files(folder) >= PROOF
    result = json.loads((folder / "port.intoto.json").read_text())["predicate"]["verification"]
    assert result["result"] == ("not verified" if more else "equal")


def test_json_lists_the_files(tmp_path, capsys):
    folder = tmp_path / "port"
    words = ("port", DEMO, "--to", "torch", "-o", folder, "--with-tests", "--json")
    assert command(*words) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["files"] == sorted(files(folder))
    assert set(found["files"]) > PROOF


def test_without_the_option_there_are_none(tmp_path):
    assert command("port", DEMO, "--to", "torch", "-o", tmp_path / "port", "--quiet") == 0
    assert not files(tmp_path / "port") & PROOF


def test_a_port_that_is_not_equal_has_no_tests(swapped, tmp_path):
    emit = registry.adapter("torch").emit
    swapped(emit=lambda m: emit(m).replace("        return x\n", "        return 2 * x\n"))
    words = ("port", DEMO, "--to", "torch", "-o", tmp_path / "port", "--with-tests", "--quiet")
    assert command(*words) == 1
    assert files(tmp_path) == {"port-different"}
    assert not files(tmp_path / "port-different") & PROOF


def test_a_new_port_leaves_no_old_tests(tmp_path):
    folder = tmp_path / "port"
    words = ("port", DEMO, "--to", "torch", "-o", folder, "--quiet")
    assert command(*words, "--with-tests") == 0
    (folder / ".pytest_cache").mkdir()  # the receiver ran the tests
    assert command(*words, "--overwrite") == 0
    assert not files(folder) & {*PROOF, ".pytest_cache"}


def test_a_folder_with_a_test_of_the_user_is_not_replaced(tmp_path, capsys):
    folder = tmp_path / "port"
    words = ("port", DEMO, "--to", "torch", "-o", folder, "--quiet", "--with-tests")
    assert command(*words) == 0
    (folder / "test_mine.py").write_text("")
    assert command(*words, "--overwrite") == 2
    assert "files of others" in capsys.readouterr().err


def test_a_folder_with_tests_ports_on(tmp_path):
    first = xlstm.save(DATA / "k224" / "lstm.h5", tmp_path / "a", "torch", with_tests=True)
    second = xlstm.save(first, tmp_path / "b", "linen", with_tests=True)
    assert xlstm.load(first).nodes == xlstm.load(second).nodes
    named = json.loads((second / "port.intoto.json").read_text())["predicate"]["source"]
    assert named["name"] == "lstm.h5"


def test_a_target_without_tests_is_refused_before_the_work(swapped, tmp_path, capsys):
    swapped(emit_tests=None)
    words = ("port", DEMO, "--to", "torch", "-o", tmp_path / "port", "--with-tests")
    assert command(*words) == 2
    assert capsys.readouterr().err == (
        "xlstm: --with-tests: expected one of keras, nnx, linen, got torch; "
        "port without --with-tests\n"
    )
    assert not list(tmp_path.iterdir())


def test_numpy_is_no_target_of_folders(tmp_path, capsys):
    words = ("port", DEMO, "--to", "numpy", "-o", tmp_path / "port", "--with-tests")
    assert command(*words) == 2
    assert "numpy" in capsys.readouterr().err


def test_too_little_memory_for_the_reference(tmp_path, capsys):
    words = ("port", DEMO, "--to", "torch", "-o", tmp_path / "port", "--with-tests")
    assert command(*words, "--no-verify", "--memory", "0.0000001") == 2
    assert "without --with-tests" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
