"""One family of errors; each is one line: where, what was expected, what was there, what to do."""

LONGEST = 400
"""Characters of a part of a message: a file may name a layer with a million of them."""


def printable(text: object) -> str:
    r"""`text` on one line, other characters escaped: what a file says must not drive a terminal.

    >>> print(printable("a" + chr(10) + "b"))
    a\nb
    """
    text = str(text)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def _line(text: object) -> str:
    line = printable(str(text)[: LONGEST + 1])  # a character becomes one or more
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


class XlstmError(Exception):
    """Base of every error that xlstm raises on purpose.

    Attributes:
        where: adapter, file, layer or tensor the error is about.
        expected: what should have been there.
        got: what was there.
        do: what the reader can do about it.
    """

    def __init__(self, where: object, expected: object, got: object, do: object) -> None:
        self.where, self.expected, self.got, self.do = (
            _line(part) for part in (where, expected, got, do)
        )
        super().__init__(f"{self.where}: expected {self.expected}, got {self.got}; {self.do}")


class FileError(XlstmError):
    """A file cannot be read: missing, damaged, hostile, or of another kind."""


class UnsupportedError(XlstmError):
    """A layer or option that has no exact form here; never approximated."""


class WeightsError(XlstmError):
    """Tensors do not fit the layers they belong to, or are left over."""


class UsageError(XlstmError):
    """A call or command with arguments that make no sense."""


class NoArchitectureError(UsageError):
    """A file of weights alone, of whose architecture nothing was said."""


class MissingFrameworkError(XlstmError):
    """A framework that was asked for is not installed."""


class AxesWarning(UserWarning):
    """Warns of a port that has the batch first where its source has another axis first."""


class NotEqualError(XlstmError):
    """Raised by `check()` of a Report or a Diagnosis: both were compared and do not agree."""
