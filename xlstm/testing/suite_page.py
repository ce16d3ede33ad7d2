"""The page of a parity suite: one row for each comparison, the ones that are not equal first.

In: rows as plain data. Out: the text of one HTML page without scripts and without a network.

>>> row = {"test": "test_a.py::test_<b>", "result": "passed", "outcome": "equal", "text": "Equal.",
...        "truth": "a.keras", "suspect": "Mine", "ratio": 0.25, "causes": [], "seconds": 0.1}
>>> "test_&lt;b&gt;" in page([row])
True
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from string import Template
from typing import Any

from xlstm._version import VERSION
from xlstm.errors import printable

ORDER = ("failed", "different", "undecided", "equal")
"""Outcomes, the worst one first."""

PAGE = Template(
    """
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>Parity suite: $verdict</title>
<style>
:root { color-scheme: light dark; --text: #1b1f24; --back: #fff; --line: #c5ccd3; --good: #11632f;
  --bad: #a40e26; --open: #7a4b00 }
@media (prefers-color-scheme: dark) { :root { --text: #e8ebee; --back: #14171a; --line: #454c54;
  --good: #6fd391; --bad: #ff9492; --open: #eebd62 } }
body { margin: 1.5rem auto; max-width: 76rem; padding: 0 1rem; color: var(--text);
  background: var(--back); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
section { overflow-x: auto }
table { border-collapse: collapse; width: 100% }
th, td { border-bottom: 1px solid var(--line); padding: .4rem .6rem .4rem 0; text-align: left;
  vertical-align: top }
.number { text-align: right; white-space: nowrap; padding-right: 1.2rem }
.equal { color: var(--good) } .different, .failed { color: var(--bad) }
.undecided { color: var(--open) }
th { white-space: nowrap }
td.equal, td.different, td.failed, td.undecided { font-weight: 600; white-space: nowrap }
pre { white-space: pre-wrap; margin: .4rem 0 0; font-size: .85rem }
@media (max-width: 40rem) { thead { display: none } tr { display: block; padding: .5rem 0;
  border-bottom: 1px solid var(--line) } td { display: block; border: 0; padding: .1rem 0 }
  td.number { text-align: left } td[data-name]::before { content: attr(data-name) ": " } }
@media print { details > pre { display: block } }
</style>
</head>
<body>
<main>
<h1>Parity suite: <span class="$worst">$verdict</span></h1>
<p>$counts</p>
<section tabindex="0" aria-label="Comparisons">
<table>
<thead><tr><th scope="col">Test</th><th scope="col">Truth and suspect</th><th scope="col">Outcome
</th><th scope="col" class="number">Largest error</th><th scope="col">Cause</th>
<th scope="col" class="number">Time</th></tr></thead>
<tbody>
$rows
</tbody>
</table>
</section>
<p>The largest error is compared with the one that rounding may make: more than 100 % is different.
Made by xlstm $version.</p>
</main>
</body>
</html>
"""
)

ROW = Template(
    """
<tr><td>$test$note</td><td>$pair<details><summary>Diagnosis</summary><pre>$text</pre></details></td>
<td class="$outcome">$outcome</td><td class="number" data-name="Largest error">$ratio</td>
<td data-name="Cause">$causes</td><td class="number" data-name="Time">$seconds</td></tr>"""
)


def page(rows: Sequence[Mapping[str, Any]]) -> str:
    """Returns the page of rows; the worst outcomes come first.

    Args:
        rows: what `ParityResult.to_json` gives, with the id and the result of the test as `test`
            and `result`. All texts are escaped.
    """
    counted = Counter(row["outcome"] for row in rows)
    worst = next((name for name in ORDER if counted[name]), "undecided")
    parts = [f"{counted[name]} {name}" for name in ORDER if counted[name]]
    verdicts = {"equal": "all equal", "undecided": "undecided" if rows else "nothing was compared"}
    number = f"{len(rows)} comparison{'s' * (len(rows) != 1)}"
    ordered = sorted(rows, key=lambda row: ORDER.index(row["outcome"]))
    return PAGE.substitute(
        verdict=verdicts.get(worst, "not equal"),
        worst=worst,
        counts=f"{number}: {', '.join(parts)}." if parts else f"{number}.",
        rows="".join(map(_row, ordered)),
        version=_escaped(VERSION),
    )


def _row(row: Mapping[str, Any]) -> str:
    # a test may expect a difference, as with pytest.raises or xfail
    expected = row["outcome"] != "equal" and row["result"] != "failed"
    pair = [name for name in (row["truth"], row["suspect"]) if name]
    return ROW.substitute(
        test=_escaped(row["test"]),
        note=f"<br>Result of the test: {_escaped(row['result'])}." if expected else "",
        pair=" / ".join(map(_escaped, pair)) or "-",
        text="\n".join(map(_escaped, str(row["text"]).splitlines())),
        outcome=row["outcome"],
        ratio=_share(row["ratio"]),
        causes=", ".join(map(_escaped, row["causes"])) or "-",
        seconds=f"{row['seconds']:.2f} s",
    )


def _share(ratio: float | None) -> str:
    """A ratio as a share of the limit.

    >>> _share(0.034), _share(None), _share(1e9), _share(float("inf"))
    ('3 %', '-', '1e+09 times', 'no number')
    """
    if ratio is None:
        return "-"
    if not math.isfinite(ratio):
        return "no number"
    return f"{100 * ratio:.0f} %" if ratio < 1000 else f"{ratio:.0e} times"


def _escaped(text: object) -> str:
    """A text as HTML, controls visible."""
    return html.escape(printable(text))
