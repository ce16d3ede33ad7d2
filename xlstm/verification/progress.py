"""Progress of long work: a function that gets one line of text for each activity."""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str], None]


def silent(_text: str) -> None:
    """Ignores progress."""
