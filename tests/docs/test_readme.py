"""README is true: its sessions are what the commands print, and its Python runs."""

import re

import pytest
import readme

TEXT = readme.README.read_text("utf-8")


@pytest.mark.parametrize("page", readme.PAGES, ids=lambda page: page.name)
def test_generated_blocks_are_fresh(page):
    text = page.read_text("utf-8")
    fresh = readme.refreshed(text)
    assert readme.comparable(fresh) == readme.comparable(text), "run `make readme`"


def test_the_blocks_are_there():
    commands = [found["command"] for found in readme.BLOCK.finditer(TEXT)]
    assert "xlstm demo" in commands
    assert all(found["text"].strip() for found in readme.BLOCK.finditer(TEXT))


def test_python_blocks_run():
    blocks = re.findall(r"(?<!-->\n)```python\n(.*?)```", TEXT, re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})
