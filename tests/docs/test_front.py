"""The picture of README.md: what it shows is what the command draws today."""

import re
import runpy
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

import xlstm

pytest.importorskip("torch")
pytest.importorskip("flax")

ROOT = Path(__file__).parents[2]
PICTURE = ROOT / "docs" / "front.svg"
TEXT = "{http://www.w3.org/2000/svg}text"


def words(svg):
    """Returns the texts of a picture, differences as `#`: they vary from processor to processor."""
    texts = (node.text or "" for node in ET.fromstring(svg).iter(TEXT))
    return [re.sub(r"\de-\d\d", "#", text) for text in texts]


def test_the_picture_of_readme_is_current(monkeypatch):
    script = ROOT / "docs" / "tables" / "front.py"
    monkeypatch.setattr(sys, "argv", [str(script)])
    front = runpy.run_path(str(script))
    report = xlstm.reconcile(xlstm.demo.path(), list(front["FRAMEWORKS"]))
    assert report.ok
    shown = words(PICTURE.read_text("utf-8"))
    assert shown == words(front["draw"](report))
    assert {"1,760", "1,840", "equal"} <= set(shown)


def test_readme_shows_it():
    assert "(docs/front.svg)" in (ROOT / "README.md").read_text("utf-8")
