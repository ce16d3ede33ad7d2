"""A genuine SavedModel taken to pieces, and put together again with checksums that fit."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from paths import CORPUS, DATA

from xlstm.budget import Budget
from xlstm.files.description import Description
from xlstm.files.tensorflow.checkpoint import MAGIC, _table, masked
from xlstm.files.tensorflow.protobuf import Message
from xlstm.files.tensorflow.saved_model import OBJECTS, describe_savedmodel

HERE = DATA / "savedmodel"
ERAS = CORPUS.parent / "eras"
GENUINE = sorted(HERE.glob("*_sm")) + sorted(ERAS.glob("*/*_sm"))
KERNEL = "layer_with_weights-1/kernel/.ATTRIBUTES/VARIABLE_VALUE"
"""Key of the Dense layer's kernel in `stateful_sm`."""


def opened(folder: Path) -> Description:
    """The description of a folder, all weights loaded and the digest known, nothing left open."""
    with ExitStack() as stack:
        found = describe_savedmodel(folder, stack, Budget())
        for arrays in found.weights.values():
            for stored in arrays:
                array = stored.load()
                assert array.shape == stored.shape
        assert len(found.sha256) == 64
        return found


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def field(number: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def fixed(number: int, value: int) -> bytes:
    return varint(number << 3 | 5) + value.to_bytes(4, "little")


def entry(
    dtype: int, shape: tuple[int, ...], offset: int, size: int, crc: int = 0, shard: int = 0
) -> bytes:
    axes = b"".join(field(2, field(1, axis)) for axis in shape)
    numbers = field(3, shard) + field(4, offset) + field(5, size)
    return field(1, dtype) + field(2, axes) + numbers + fixed(6, crc)


def block(pairs: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    body = b"".join(varint(0) + varint(len(k)) + varint(len(v)) + k + v for k, v in pairs)
    body += (0).to_bytes(4, "little") + (1).to_bytes(4, "little") + bytes([kind])
    return body + masked(body).to_bytes(4, "little")


def table(pairs: list[tuple[bytes, bytes]], kind: int = 0) -> bytes:
    """A LevelDB table of one block."""
    data = block(pairs, kind)
    last = block([(pairs[-1][0] if pairs else b"", varint(0) + varint(len(data) - 5))])
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(last) - 5)
    return data + last + footer.ljust(40, b"\0") + MAGIC


def text_tensor(data: bytes) -> tuple[bytes, int]:
    """A text as it lies in a data file, and its checksum."""
    length = len(data).to_bytes(4, "little")
    summed = masked(length).to_bytes(4, "little")
    return varint(len(data)) + summed + data, masked(length + summed + data)


class Parts:
    """A SavedModel in pieces.

    Attributes:
        metadata: number of an object -> (path, JSON).
        pairs: of the index.
        data: of the data file, without the graph of objects.
        objects: that graph.
        files: further files by name, which replace the ones above.
    """

    def __init__(self, folder: Path) -> None:
        message = Message(memoryview((folder / "keras_metadata.pb").read_bytes()), "test", Budget())
        self.metadata = {n.integer(2): (n.text(3), n.text(5)) for n in message.messages(1)}
        index = memoryview((folder / "variables" / "variables.index").read_bytes())
        self.pairs = {key.decode(): bytes(value) for key, value in _table(index, "test")}
        whole = (folder / "variables" / "variables.data-00000-of-00001").read_bytes()
        where = Message(memoryview(self.pairs.pop(OBJECTS)), "test", Budget())
        start, size = where.integer(4), where.integer(5)
        self.data, raw = whole[:start], whole[start : start + size]
        self.objects = raw[next(n for n, byte in enumerate(raw) if byte < 128) + 5 :]
        self.kind = 0
        self.files: dict[str, bytes | None] = {}

    def message(self) -> bytes:
        nodes = (
            field(2, number) + field(3, path.encode()) + field(5, text.encode("utf-8"))
            for number, (path, text) in self.metadata.items()
        )
        return b"".join(field(1, node) for node in nodes)

    def index(self) -> bytes:
        raw, crc = text_tensor(self.objects)
        last = entry(7, (), len(self.data), len(raw), crc)
        pairs = {OBJECTS: last} | self.pairs
        return table([(key.encode(), pairs[key]) for key in sorted(pairs)], self.kind)

    def write(self, folder: Path) -> Path:
        files: dict[str, bytes | None] = {
            "keras_metadata.pb": self.message(),
            "variables/variables.index": self.index(),
            "variables/variables.data-00000-of-00001": self.data + text_tensor(self.objects)[0],
        }
        (folder / "variables").mkdir(parents=True)
        for name, data in (files | self.files).items():
            if data is not None:
                (folder / name).write_bytes(data)
        return folder

    def change(self, number: int, **options: Any) -> None:
        """Changes the JSON of an object."""
        path, text = self.metadata[number]
        self.metadata[number] = (path, json.dumps(json.loads(text) | options))

    def old(self) -> bytes:
        """The metadata as TensorFlow before 2.5 has it, in `saved_model.pb`."""
        nodes = []
        for number in range(max(self.metadata) + 1):
            path, text = self.metadata.get(number, ("", ""))
            user = field(1, b"_tf_keras_layer") + field(3, text.encode())
            nodes.append(field(4, user) if path else field(6, b""))
        objects = Message(memoryview(self.objects), "test", Budget())
        nodes[0] = next(objects.each(1)).tobytes() + nodes[0]
        graph = b"".join(field(1, node) for node in nodes)
        return field(1, 1) + field(2, field(2, b"\xff" * 40) + field(7, graph))


def parts() -> Parts:
    return Parts(HERE / "stateful_sm")


def same(one: Description, other: Description) -> bool:
    keep = [(d.version, d.config, list(d.weights), d.ignored) for d in (one, other)]
    return keep[0] == keep[1]
