"""The errors of xlstm; each is one line: place, expected, got, advice."""

from __future__ import annotations

LONGEST = 400
"""Most characters of a part of a message: a layer's name in a file may have millions."""


def printable(text: object) -> str:
    r"""`text` on one line, with escapes: text of a file must not control a terminal.

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


KINDS: dict[type, str] = {
    type(None): "null",
    dict: "a mapping",
    list: "a list",
    tuple: "a list",
    str: "text",
    bool: "true or false",
    int: "a number",
    float: "a number",
    bytes: "bytes",
}
"""Type of a value of JSON -> its words."""


def kind_in_words(value: object) -> str:
    """Returns the kind of a value of a file in words.

    >>> kind_in_words(None), kind_in_words({}), kind_in_words(1)
    ('null', 'a mapping', 'a number')
    """
    return KINDS.get(type(value), f"a {type(value).__name__}")


class XlstmError(Exception):
    """Base class of all errors of xlstm.

    Attributes:
        where: adapter, file, layer or tensor of the error.
        expected: the valid values.
        got: the value that was found.
        do: advice for the reader.
    """

    def __init__(self, where: object, expected: object, got: object, do: object) -> None:
        self.where, self.expected, self.got, self.do = (
            _line(part) for part in (where, expected, got, do)
        )
        super().__init__(f"{self.where}: expected {self.expected}, got {self.got}; {self.do}")

    def __reduce__(self) -> tuple[type[XlstmError], tuple[str, str, str, str]]:
        """The four parts, from which another process builds the error again."""
        return type(self), (self.where, self.expected, self.got, self.do)


class FileError(XlstmError):
    """A file cannot be read: missing, damaged, hostile, or of another kind."""


def no_such_file(path: object) -> FileError:
    """Returns the error for a path that does not exist."""
    return FileError(path, "a readable model file", "no such file", "check the path")


class UnsupportedError(XlstmError):
    """A layer or option that has no exact form here; never approximated."""


class WeightsError(XlstmError):
    """Tensors do not fit their layers, or are left over."""


class UsageError(XlstmError):
    """A call or command with arguments that make no sense."""


class NoArchitectureError(UsageError):
    """A file of weights alone, without an architecture."""


class MissingFrameworkError(XlstmError):
    """A framework that the call needs is not installed."""


class StorageError(XlstmError):
    """A storage did not give an object that it has; another attempt may succeed."""


class AxesWarning(UserWarning):
    """Warns of a port that has the batch first where its source has another axis first."""


class FolderCodeWarning(UserWarning):
    """Warns of a ported folder whose `model.py` is not the code of the graph that was read."""


class NotEqualError(XlstmError):
    """Raised by `check()` of a Report or a Diagnosis if the comparison found a difference."""
