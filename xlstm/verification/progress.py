"""Progress of long work: a function that gets one line of text for each activity.

>>> steps = NumberedSteps(print, 2)
>>> steps("PyTorch float32")
[1/2] PyTorch float32
>>> steps("PyTorch float64")
[2/2] PyTorch float64
"""

from __future__ import annotations

from collections.abc import Callable

Tell = Callable[[str], None]


def silent(_text: str) -> None:
    """Ignores progress."""


class NumberedSteps:
    """Numbers the steps of long work.

    Args:
        tell: gets the numbered line.
        total: number of steps, at least; some may be left out.
    """

    def __init__(self, tell: Tell, total: int) -> None:
        self._tell, self._total, self._done = tell, total, 0

    def __call__(self, text: str) -> None:
        """Starts the next step."""
        self._done += 1
        self._tell(f"[{self._done}/{max(self._total, self._done)}] {text}")
