"""Notes and warnings of many layers as few lines.

>>> alike_joined([f"layer lstm_{n}: bias holds NaN" for n in range(24)])
['layers lstm_0 to lstm_23 (24): bias holds NaN']
"""

from __future__ import annotations

import re
from collections.abc import Iterable

MOST = 3
"""Lines that differ in the layer's name alone and are still shown one by one."""

NAMED = re.compile(
    r"(?P<kind>(?:note: |warning: )?)(?P<layer>(?:layer )?)(?P<name>[^:\s]+): (?P<rest>.*)", re.S
)


def alike_joined(lines: Iterable[str]) -> list[str]:
    """Returns lines, each once; more than three that differ in a name alone are one line."""
    alike: dict[tuple[str, str, str], list[str]] = {}
    for line in dict.fromkeys(lines):
        found = NAMED.fullmatch(line)
        key = (found["kind"], found["layer"], found["rest"]) if found else ("", "", line)
        alike.setdefault(key, []).append(found["name"] if found else "")
    joined = []
    for (kind, layer, rest), names in alike.items():
        if len(names) > MOST:
            many = f"{names[0]} to {names[-1]} ({len(names)})"
            joined.append(f"{kind}{'layers ' if layer else ''}{many}: {rest}")
        else:
            joined += [f"{kind}{layer}{name}: {rest}" if name else rest for name in names]
    return joined
