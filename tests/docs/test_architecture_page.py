"""docs/architecture.md names files and functions that are there."""

import ast
import re

from paths import ROOT

PAGE = (ROOT / "docs" / "architecture.md").read_text("utf-8")
STOP = re.compile(r"`((?:xlstm|converters)/[\w/]+\.py)`, `(\w+)`")


def test_files_of_the_page_are_there():
    named = set(re.findall(r"`((?:xlstm|converters|tests)/[\w/]+\.py)`", PAGE))
    assert len(named) > 10
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_functions_of_the_page_are_there():
    stops = STOP.findall(PAGE)
    assert len(stops) >= 6
    for file, function in stops:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        assert function in {item.name for item in tree.body if isinstance(item, ast.FunctionDef)}


def test_packages_of_the_page_are_there():
    floors = re.findall(r"`(xlstm\.\w+)`", PAGE.split("## The rooms")[0])
    assert len(set(floors)) >= 15
    for name in set(floors) - {"xlstm.converters"}:
        path = ROOT / name.replace(".", "/")
        assert path.is_dir() or path.with_suffix(".py").is_file()
