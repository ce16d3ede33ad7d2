"""Reads protocol buffers without their library: the wire format, bounded, one level at a time.

In: the bytes of a message. Out: its fields by number (`Message`).
"""

from __future__ import annotations

from collections.abc import Iterator

from xlstm.budget import Budget
from xlstm.errors import FileError

MAX_FIELDS = 200_000
"""Most fields of one message: an empty field has two bytes in a file and far more in memory."""

ANEW = "copy or save the model again"
"""Advice for damaged data."""

_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5
"""Wire types; the deprecated groups 3 and 4 are refused."""


def varint(data: memoryview, at: int, where: str) -> tuple[int, int]:
    r"""The number at a position, of at most 64 bits, and the position after it.

    >>> varint(memoryview(b"\xac\x02"), 0, "example")
    (300, 2)

    Raises:
        FileError: a number that is longer, or cut off.
    """
    value = 0
    for count, byte in enumerate(data[at : at + 10]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            if value >> 64:
                break
            return value, at + count + 1
    raise FileError(where, "a number of at most 64 bits", "a longer or truncated one", ANEW)


def piece(data: memoryview, at: int, size: int, where: str) -> memoryview:
    """That many bytes from a position.

    Raises:
        FileError: there are fewer.
    """
    if size > len(data) - at:
        got = f"{max(len(data) - at, 0)} of them"
        raise FileError(where, f"{size} bytes at {at}", got, ANEW)
    return data[at : at + size]


def text(data: memoryview, where: str) -> str:
    """Bytes as UTF-8.

    Raises:
        FileError: they are not.
    """
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise FileError(where, "UTF-8 text", "other bytes", ANEW) from None


def _field(data: memoryview, at: int, where: str) -> tuple[int, int | memoryview, int]:
    """Number and value of the field at a position, and the position after it."""
    tag, at = varint(data, at, where)
    number, wire = tag >> 3, tag & 7
    if not number or wire not in (_VARINT, _EIGHT, _BYTES, _FOUR):
        raise FileError(where, "a protobuf field", f"number {number}, wire type {wire}", ANEW)
    if wire == _VARINT:
        value, at = varint(data, at, where)
        return number, value, at
    if wire == _BYTES:
        size, at = varint(data, at, where)
        return number, piece(data, at, size, where), at + size
    size = 8 if wire == _EIGHT else 4
    return number, int.from_bytes(piece(data, at, size, where), "little"), at + size


class Message:
    r"""One message: its fields by number; nested messages are bytes.

    >>> message = Message(memoryview(b"\x08\x07\x12\x02hi"), "example", Budget())
    >>> message.integer(1), message.text(2), message.integer(3)
    (7, 'hi', 0)

    Raises:
        FileError: damaged, or more than `MAX_FIELDS` fields.
    """

    def __init__(self, data: memoryview, where: str, budget: Budget) -> None:
        self.where, self.budget = where, budget
        self._fields: dict[int, list[int | memoryview]] = {}
        at = count = 0
        while at < len(data):
            number, value, at = _field(data, at, where)
            self._fields.setdefault(number, []).append(value)
            count += 1
            if count > MAX_FIELDS:
                raise FileError(where, f"at most {MAX_FIELDS} fields", "more", "check the file")
        budget.spend("steps", count, where)

    def _one(self, number: int) -> int | memoryview | None:
        values = self._fields.get(number, [])
        if len(values) > 1:
            raise FileError(self.where, f"field {number} once", f"{len(values)} times", ANEW)
        return values[0] if values else None

    def has(self, number: int) -> bool:
        """True if the field occurs."""
        return number in self._fields

    def integer(self, number: int) -> int:
        """A field that is an unsigned number, 0 if it is absent."""
        value = self._one(number)
        if isinstance(value, memoryview):
            raise FileError(self.where, f"a number in field {number}", "bytes", ANEW)
        return value or 0

    def data(self, number: int) -> memoryview:
        """A field that is bytes, none if it is absent."""
        value = self._one(number)
        return memoryview(b"") if value is None else self._bytes(value, number)

    def text(self, number: int) -> str:
        """A field that is text, empty if it is absent."""
        return text(self.data(number), self.where)

    def each(self, number: int) -> Iterator[memoryview]:
        """All values of a repeated field of bytes or messages, in order."""
        for value in self._fields.get(number, []):
            yield self._bytes(value, number)

    def _bytes(self, value: int | memoryview, number: int) -> memoryview:
        if isinstance(value, int):
            raise FileError(self.where, f"bytes in field {number}", "a number", ANEW)
        return value

    def message(self, number: int) -> Message:
        """A field that is a message, an empty one if it is absent."""
        return Message(self.data(number), self.where, self.budget)

    def messages(self, number: int) -> Iterator[Message]:
        """All messages of a repeated field, in order."""
        for data in self.each(number):
            yield Message(data, self.where, self.budget)
