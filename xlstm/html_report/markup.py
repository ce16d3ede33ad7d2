"""Elements of HTML and SVG whose texts are always escaped.

In: names of elements, attributes and children. Out: `Html`, which is not escaped again.

>>> element("p", "a < b", class_="note")
'<p class="note">a &lt; b</p>'
>>> element("b", element("i", "x"))
'<b><i>x</i></b>'
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from xlstm.errors import printable

LONGEST = 160
"""Most characters of a name in a table."""


class Html(str):
    """Text that is HTML already: `element` does not escape it."""

    __slots__ = ()


Child = str | None
"""A text, which is escaped unless it is Html; None is left out."""


def escaped(text: object) -> Html:
    r"""Returns a text with escapes for HTML, and for characters that are not printable.

    >>> escaped("<" + chr(0x202e))
    '&lt;\\u202e'
    """
    return Html(html.escape(printable(text)))


def joined(children: Iterable[Child], between: str = "") -> Html:
    """Returns children one after the other."""
    texts = (c if isinstance(c, Html) else escaped(c) for c in children if c is not None)
    return Html(between.join(texts))


VOID = ("meta", "path", "rect", "line", "polyline")
"""Elements that have no children here."""


def element(name: str, /, *children: Child, **attributes: object) -> Html:
    """Returns an element.

    Args:
        name: of the element.
        children: texts and elements.
        attributes: by name; `class_` is class, and `stroke_width` stroke-width. None is left out.
    """
    texts = (
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    start = f"<{name}{''.join(texts)}>"
    if name in VOID and not children:
        return Html(start if name == "meta" else f"{start[:-1]}/>")
    return Html(f"{start}{joined(children)}</{name}>")


def short(text: object, most: int = LONGEST) -> str:
    """Returns a printable text of at most so many characters, its end cut off.

    >>> short("abcdef", 4)
    'abc…'
    """
    found = printable(str(text)[: most + 1])
    return found if len(found) <= most else f"{found[: most - 1]}…"


def name_of(text: object, most: int = LONGEST) -> Html:
    """Returns a name of a file or a layer, whose direction of writing changes no text around it."""
    return element("bdi", short(text, most))


WORDS = {
    "equal": "good",
    "native": "good",
    "different": "bad",
    "failed": "bad",
    "refused": "bad",
    "undecided": "unsure",
    "not run": "unsure",
    "own cell": "own",
}
"""Words of verdicts -> their class."""


def table(
    rows: Sequence[Sequence[str]], label: str, left: int = 1, foot: int = 0, mark: bool = True
) -> Html:
    """Returns a table that scrolls by itself where it is too wide.

    Args:
        rows: cells, the headers first.
        label: its name for readers of screens.
        left: number of the first columns that are flush left.
        foot: number of the last rows that are sums.
        mark: True if verdicts have colours.
    """
    head, *body = rows
    end = len(body) - foot
    parts = [element("thead", _row(head, "th", left, mark=False, scope="col"))]
    parts.append(element("tbody", *(_row(row, "td", left, mark) for row in body[:end])))
    if foot:
        parts.append(element("tfoot", *(_row(row, "td", left, mark) for row in body[end:])))
    inner = element("table", *parts)
    return element("div", inner, class_="wide", role="region", aria_label=label, tabindex="0")


def _row(cells: Sequence[str], name: str, left: int, mark: bool, scope: str | None = None) -> Html:
    found = []
    for place, cell in enumerate(cells):
        word = WORDS.get(cell.partition(" [")[0]) if mark else None
        kind = " ".join(filter(None, ["number" if place >= left else "", word]))
        inner = cell if isinstance(cell, Html) else name_of(cell)
        found.append(element(name, inner, class_=kind or None, scope=scope))
    return element("tr", *found)


def folded(summary: str, *children: Child, opened: bool = False) -> Html:
    """Returns a part that the reader opens with a click."""
    head = element("summary", summary)
    return element("details", head, *children, open="" if opened else None)


LONGEST_LINE = 500
"""Most characters of a sentence, which may quote the name of a layer."""


def sentence(text: str) -> Html:
    """Returns a sentence about names of a file."""
    return name_of(text, LONGEST_LINE)


def listed(lines: Iterable[str], name: str = "ul") -> Html | None:
    """Returns sentences as a list, None for none."""
    items = [element("li", sentence(line)) for line in lines]
    return element(name, *items) if items else None
