"""Messages in the words of the command line: `--keras-version 2.1` for `keras_version="2.1"`.

In: a text of the Python API. Out: the same with flags.

>>> as_flags('pass keras_version="2.1", for example')
'pass --keras-version 2.1, for example'
>>> as_flags("call it without until=")
'call it without --until'
>>> as_flags("pass architecture=FILE, or effort=10")
'pass --architecture FILE, or --effort 10'
"""

from __future__ import annotations

import re

from xlstm.errors import XlstmError

OPTIONS = (
    "architecture custom effort frameworks inputs kernel_layout keras_version memory origin trust "
    "overwrite until with_tests"
).split()
"""Options that the functions and the command line have alike."""

LAYER = (
    "features units timesteps batch bidirectional layers projection peepholes kernel_size"
).split()
"""Options of `explain` that the command line has alike."""

OTHERS = {"reset_after=False": "--reset-before", "use_bias=False": "--no-bias"}
"""Options of `explain` that the command line names otherwise."""

CALLED = re.compile(
    rf"\b({'|'.join(OPTIONS)})=(?:True\b|(?P<quote>[\"'])(?P<text>.*?)(?P=quote)|(?P<bare>\w+)|)"
)
"""An option in the form of Python, with its value: True, a text in quotes, a word, or none."""


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def as_flags(text: str) -> str:
    """Returns a text with the options of functions as flags."""
    return CALLED.sub(lambda m: " ".join(filter(None, (_flag(m[1]), m["text"], m["bare"]))), text)


def in_words_of_the_command(error: XlstmError) -> None:
    """Changes the message of an error to the words of the command line."""
    where, option = error.where, error.where.rpartition(".")[2]
    named = where.rpartition(", ")[2]
    if named in OPTIONS:
        where = where.removesuffix(named) + _flag(named)
    elif option in LAYER:
        where = _flag(option)
    rest = as_flags(f"expected {error.expected}, got {error.got}; {error.do}")
    if where == "explain":
        for name, flag in OTHERS.items():
            rest = rest.replace(f"{name} ({flag})", flag)
        rest = re.sub(rf"\b({'|'.join(LAYER)})\b(?= *[,;)=]|$)", lambda m: _flag(m[1]), rest)
    error.args = (f"{where}: {rest}",)
