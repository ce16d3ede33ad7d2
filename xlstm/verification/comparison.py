"""The base of every result of a comparison: `bool(result)` is `result.ok`."""

from __future__ import annotations

import abc
import html


class Compared(abc.ABC):
    """A result that is true where what was compared is equal, and shows itself as its text.

    >>> class Never(Compared):
    ...     ok = False
    >>> bool(Never())
    False
    """

    @property
    @abc.abstractmethod
    def ok(self) -> bool:
        """True if all that was compared is equal up to rounding."""

    def __bool__(self) -> bool:
        """The same as `ok`."""
        return self.ok

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"
