"""Counting a tree's structure, on small trees that are written for it."""

import json
import os
import shutil
import subprocess
import sys

import pytest
from paths import ROOT
from source_tree import circles, import_graph, read_tree

BENCHMARK = ROOT / "benchmarks" / "structure.py"

TREE = {
    "xlstm/__init__.py": '"""Ports models."""\n',
    "xlstm/errors.py": '''"""Errors."""


class Wrong(Exception):  # one of ours
    """ASKED went wrong."""


def text(error):
    """Text of an error."""
    # a comment
    return str(error)


LIMIT = 3
"""Docstring of a constant."""
''',
    "xlstm/ir/__init__.py": '"""The model."""\n',
    "xlstm/ir/graph.py": '''"""Graphs."""

from xlstm.errors import Wrong


def read():
    """ASKED reads."""
    from xlstm.ir import types

    return types, Wrong
''',
    "xlstm/ir/types.py": '''"""Types."""

import importlib


def graph():
    return importlib.import_module("xlstm.ir.graph")
''',
    "converters/__init__.py": '"""Adapters."""\n',
    "converters/torch/slots.py": '''"""Slots."""

from ..codegen import source
from xlstm.ir.graph import read

NAMES = (
    read,
    source,
)
''',
    "converters/codegen/source.py": '''"""Text."""


class Wrong:
    def one(self):
        return 1
''',
}
TREE = {name: text.replace("ASKED", "What") for name, text in TREE.items()}


@pytest.fixture
def tree(tmp_path):
    return write_tree(tmp_path / "tree", TREE)


def write_tree(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def structure(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import structure

    return structure


def test_the_numbers_of_a_tree(tree, structure):
    found = structure.measure(tree)
    assert (found.files, found.lines) == (8, 50)
    # class, def, return, LIMIT; from, def, from, return; import, def, return; 2 + 4; 3
    assert found.code_lines == 20
    assert found.comment_share == 2 / 50
    assert found.docstring_share == 12 / 50
    assert (found.folder, found.modules) == ("xlstm/ir", 2)
    assert found.circles == (2,)
    assert found.upward == 0
    assert found.repeated_classes == 1
    assert found.functions == 4
    assert (found.function_median, found.function_90, found.function_most) == (3, 5, 5)
    assert (found.file_median, found.long_files) == (6.5, 0)
    assert (found.docstrings, found.questions) == (11, 2)
    assert found.layer_files == {"UnitNorm": 0, "RMSNorm": 0}


def test_the_files_of_a_layer(tree, structure):
    write_tree(tree, {"xlstm/norms.py": "class RMSNorm: ...\n", "xlstm/run.py": "rms_norm = 1\n"})
    found = structure.measure(tree)
    assert found.layer_files == {"UnitNorm": 0, "RMSNorm": 2}
    assert found.rows()["files that name RMSNorm"] == "2"
    assert found.rows()["files that name UnitNorm"] == "-"


def test_imports_are_found_wherever_they_stand(tree):
    graph = import_graph(read_tree(tree))
    assert graph["xlstm.ir.graph"] == {"xlstm.errors", "xlstm.ir.types"}
    assert graph["xlstm.ir.types"] == {"xlstm.ir.graph"}
    assert graph["xlstm.converters.torch.slots"] == {
        "xlstm.converters.codegen.source",
        "xlstm.ir.graph",
    }


def test_circles_are_groups_that_reach_each_other():
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": {"e"}, "e": {"d"}, "f": {"a"}}
    assert circles(graph) == [("a", "b", "c"), ("d", "e")]
    line = {str(n): {str(n + 1)} for n in range(5000)} | {"5000": set()}
    assert circles(line) == []
    assert circles({**line, "5000": {"0"}}) == [tuple(sorted(line))]


def test_packages_without_a_floor_have_no_arrows(tree, structure):
    write_tree(tree, {"xlstm/layout.py": "from xlstm import ir\n"})
    found = structure.measure(tree)
    assert found.upward is None
    assert found.rows()["imports against the floors"] == "-"


def test_a_walk_counts_stops_and_returns(structure):
    assert structure.walk_of(["a", "a", "b", "a", "c", "c", "b"]) == structure.Walk(7, 5, 2, 3)
    assert structure.walk_of([]) == structure.Walk(0, 0, 0, 0)


def test_the_tracer_follows_first_calls_and_no_imports(tmp_path, structure, monkeypatch):
    first = (
        "def one():\n    import walk_second\n    return [two() for _ in 'ab'], walk_second.f()\n"
    )
    first += "\n\ndef two():\n    return sorted([2, 1], key=lambda n: n)\n"
    second = "def early():\n    return 1\n\n\nA = early()\n\n\ndef f():\n    return A\n"
    here = write_tree(tmp_path / "xlstm", {"walk_first.py": first, "walk_second.py": second})
    monkeypatch.syspath_prepend(str(here))
    import walk_first

    tracer, before = structure.Tracer(tmp_path), sys.getprofile()
    sys.setprofile(tracer)
    try:
        walk_first.one()
    finally:
        sys.setprofile(before)
    names = [os.path.basename(file) for file in tracer.files]
    assert names == ["walk_first.py"] * 3 + ["walk_second.py"]  # one, two, the lambda; f


def test_the_walk_of_a_call_of_the_product(structure):
    found = structure.walk(ROOT, "count")
    assert found.functions > found.stops > found.files > 10
    assert found.stops == found.returns + found.files


def test_the_command_prints_a_table_and_json(tree):
    line = [sys.executable, str(BENCHMARK), str(tree)]
    done = subprocess.run(line, capture_output=True, text=True, check=True)
    assert "1 of 2 files" in done.stdout
    done = subprocess.run([*line, "--json"], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)[str(tree)]
    assert (found["files"], found["circles"], found["upward"]) == (8, [2], 0)


@pytest.mark.skipif(not shutil.which("git"), reason="git reads commits")
def test_a_commit_is_unpacked(tree, tmp_path, structure, monkeypatch):
    for key in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{key}_NAME", "somebody")
        monkeypatch.setenv(f"GIT_{key}_EMAIL", "somebody@example.org")
    for command in ("init --quiet", "add .", "commit --quiet --no-gpg-sign --message one"):
        subprocess.run(["git", "-C", str(tree), *command.split()], check=True)
    before = structure.measure(tree)
    (tree / "xlstm" / "ir" / "types.py").unlink()
    assert structure.measure(tree) != before
    found = structure.unpack_commit("HEAD", tmp_path / "before", tree)
    assert structure.measure(found) == before
