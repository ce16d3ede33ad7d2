"""The frame of every page: its head, style sheet, and the policy that no script may run.

In: a title and elements. Out: the text of one HTML file.
"""

from __future__ import annotations

from xlstm.html_report.markup import Child, Html, element, short
from xlstm.html_report.style import STYLE, policy

END = "</section>\n"
"""Lines of the file end here, so that it can be read and compared."""


def document(title: str, *body: Child) -> str:
    """Returns a page as the text of an HTML file.

    >>> document("A report", element("p", "a < b"))[:15]
    '<!doctype html>'
    """
    head = element(
        "head",
        element("meta", charset="utf-8"),
        Html(f'<meta http-equiv="Content-Security-Policy" content="{policy()}">'),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("title", short(title)),
        element("style", Html(STYLE)),
    )
    whole = element("html", head, element("body", *body), lang="en")
    return f"<!doctype html>\n{whole.replace('</section>', END)}\n"
