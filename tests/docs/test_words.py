"""README and docs are easy to read: short sentences, and none of the words that say little."""

import re

import pytest
from test_readme import NAMES, text_of, without_code

PAGES = [*NAMES, "CONTRIBUTING.md", "SECURITY.md"]
MOST = 25
VAGUE = re.compile(r"\b(told|held|given|anew|by itself|hub|mend|mends|mended)\b", re.I)


def prose(text):
    """The paragraphs, list items and cells of a page, with each piece of code as one word."""
    text = re.sub(r"<!-- table: .*?<!-- end -->", "", text, flags=re.S)
    text = re.sub(r"^    .*$", "", without_code(text), flags=re.M)
    text = re.sub(r"`[^`]+`", "Code", text)
    text = re.sub(r"\]\([^)]*\)", "]", text)
    text = re.sub(r"^(\s*[-*>#|]|\s*\d+\.)", r"\n\n", text, flags=re.M).replace("|", "\n\n")
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentences(text):
    """The sentences of a page."""
    return [
        found for part in prose(text) for found in re.split(r"(?<=[.!?])\s+(?=\W*[A-Z0-9])", part)
    ]


def long_sentences(text):
    """Sentences of too many words."""
    return [found for found in sentences(text) if len(re.findall(r"\w[\w'.,/-]*", found)) > MOST]


@pytest.mark.parametrize("name", PAGES)
def test_sentences_are_short(name):
    assert long_sentences(text_of(name)) == []


@pytest.mark.parametrize("name", PAGES)
def test_words_say_something(name):
    assert [found for found in sentences(text_of(name)) if VAGUE.search(found)] == []


def test_a_long_sentence_is_found():
    long = f"A {'word ' * 25}."
    assert long_sentences(f"Short one. {long}\n\n- {'word ' * 25}.\n") == [long]
    assert long_sentences(f"```text\n{long}\n```\n") == []
    assert VAGUE.search("ports are made anew")
