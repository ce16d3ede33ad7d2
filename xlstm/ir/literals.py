r"""Values as Python source: the only way for a value of a model to reach emitted text.

Everything in a graph may come from a file. Emitters write their own names, identifiers of
`xlstm.ir.identifiers`, and results of the functions here; nothing else.

>>> print(literal('a" + b'), literal((1, 2.0, None)), named("keras.ops.add"))
'a" + b' (1, 2.0, None) keras.ops.add
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from xlstm.errors import UsageError

WHERE = "source"

NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", re.ASCII)


def in_words(names: Sequence[str]) -> str:
    """Returns names as a part of a sentence.

    >>> in_words("h"), in_words("hc"), in_words("abc")
    ('h', 'h and c', 'a, b and c')
    """
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def quoted(text: str) -> str:
    """A string literal of any text, as a formatter writes it: one line, nothing ends it early.

    >>> print(quoted("a"), quoted('say "a"'))
    "a" 'say "a"'
    """
    body = "".join(c if c.isprintable() and c != "\\" else _escaped(c) for c in text)
    mark = "'" if text.count('"') > text.count("'") else '"'
    return mark + body.replace(mark, f"\\{mark}") + mark


def _escaped(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


def literal(value: object, where: str = WHERE) -> str:
    """A plain value as source text.

    Raises:
        UsageError: a value that has no literal.

    >>> literal({"size": (8,), "name": "x", "rate": float("inf")})
    '{"size": (8,), "name": "x", "rate": float("inf")}'
    """
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{float(value)}")'
    if value is None or isinstance(value, bool):
        return repr(value)
    if isinstance(value, (int, float)):
        # numpy's float64 is a float, and calls itself np.float64(0.5)
        return (int if isinstance(value, int) else float).__repr__(value)
    if isinstance(value, (list, tuple)):
        items = ", ".join(literal(item, where) for item in value)
        one = "," if len(value) == 1 else ""
        return f"[{items}]" if isinstance(value, list) else f"({items}{one})"
    if isinstance(value, Mapping):
        pairs = (f"{literal(k, where)}: {literal(v, where)}" for k, v in value.items())
        return f"{{{', '.join(pairs)}}}"
    want, do = "numbers, texts, bools, None, or lists, tuples and dicts of these", "pass such"
    raise UsageError(where, want, type(value).__name__, do)


def named(name: str) -> str:
    """A name that stands for itself in source, dotted or not.

    Raises:
        UsageError: a text that is no name.
    """
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise UsageError(WHERE, "a name", repr(name), "use an option that exists")
    return name
