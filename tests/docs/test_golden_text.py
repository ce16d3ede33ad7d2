"""The emitted source of three models, read by people: a change of its style is a change here."""

import difflib

import pytest
from golden import FOLDER, FOLDER_OF_TESTS, texts

TEXTS = {f"{path.parent.name}/{path.name}": (path, text) for path, text in texts()}


@pytest.mark.parametrize("name", TEXTS)
def test_emitted_text_is_the_one_that_was_read(name):
    path, text = TEXTS[name]
    kept = path.read_text("utf-8").splitlines(keepends=True)
    found = difflib.unified_diff(kept, text.splitlines(keepends=True), "kept", "emitted")
    assert not (diff := "".join(found)), f"if this is right: python tests/support/golden.py\n{diff}"


def test_nothing_else_is_kept():
    kept = [path for folder in (FOLDER, FOLDER_OF_TESTS) for path in folder.iterdir()]
    assert {f"{path.parent.name}/{path.name}" for path in kept} == set(TEXTS)
