"""Messages are easy to read: short sentences, no words that say little, no Python internals."""

import ast
import re

import pytest
from paths import ROOT
from test_words import MOST

FILES = sorted(
    path
    for folder in ("xlstm", "converters")
    for path in (ROOT / folder).rglob("*.py")
    if "templates" not in path.parts
)
VAGUE = re.compile(
    r"\b(told|given|by itself|hub|mend|mends|mended|somebody|whoever|such a one|not exercised)\b"
    r"|^(whether|which|of these)\b",
    re.I,
)


def texts(source):
    """Strings of a module that are no docstrings, with a word for each value in them."""
    tree = ast.parse(source)
    skipped = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            skipped |= {id(value) for value in node.values}
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "split":
            skipped |= {id(inner) for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else "X" for part in node.values
            )
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def messages(source):
    """Strings that are read by people: some words, and no source of an emitted module."""
    for text in texts(source):
        code = text.startswith(("    ", "<svg", "def ", "\n")) or "\n    " in text
        if not code and re.search(r"[a-z]{4},? [a-z]", text):
            yield " ".join(text.split())


def too_long(text):
    """Sentences of too many words; colons and semicolons end one too."""
    parts = re.split(r"(?<=[.!?;:])\s+", text)
    return [part for part in parts if len(re.findall(r"\w[\w'.,/=-]*", part)) > MOST]


@pytest.mark.parametrize("folder", ["xlstm", "converters"])
def test_messages_are_short_and_say_something(folder):
    wrong = [
        f"{path.relative_to(ROOT)}: {text}"
        for path in FILES
        if path.is_relative_to(ROOT / folder)
        for text in messages(path.read_text("utf-8"))
        if too_long(text) or VAGUE.search(text)
    ]
    assert wrong == []


def test_a_bad_message_is_found():
    long = "word " * 26
    assert list(messages(f'"""Doc {long}."""\nraise ValueError("{long}")')) == [long.strip()]
    assert too_long(f"Short: {long}")
    assert not too_long("Short; " * 30)
    assert list(messages('raise ValueError(f"the first input is {name}")')) == [
        "the first input is X"
    ]
    assert list(messages('A = "a b c".split()')) == []
    assert VAGUE.search("whether TensorFlow or Theano padded it")
