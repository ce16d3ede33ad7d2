"""Damaged SavedModels: each is refused in a line, or read as if nothing were wrong."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from typing import Any

import pytest
from refusing import deadline, refused
from savedmodel_parts import (
    KERNEL,
    Parts,
    block,
    entry,
    field,
    opened,
    parts,
    table,
    varint,
)

from xlstm.errors import FileError
from xlstm.files.tensorflow.checkpoint import MAGIC
from xlstm.files.tensorflow.protobuf import MAX_FIELDS
from xlstm.files.tensorflow.saved_model import OBJECTS

# Hostile ones: (what it says, what damages the pieces)


def kernel(*args: int | tuple[int, ...], **options: int) -> Callable[[Parts], None]:
    return lambda pieces: pieces.pairs.update({KERNEL: entry(*args, **options)})  # type: ignore


def file(name: str, data: bytes | None) -> Callable[[Parts], None]:
    return lambda pieces: pieces.files.update({name: data})


def header(**options: int) -> Callable[[Parts], None]:
    numbers = {"shards": 1, "big": 0} | options
    return lambda pieces: pieces.pairs.update(
        {"": field(1, numbers["shards"]) + field(2, numbers["big"])}
    )


def cut_index(pieces: Parts) -> None:
    pieces.files["variables/variables.index"] = pieces.index()[:-60]


def flip_index(pieces: Parts) -> None:
    index = bytearray(pieces.index())
    index[40] ^= 1
    pieces.files["variables/variables.index"] = bytes(index)


def disorder(pieces: Parts) -> None:
    pieces.files["variables/variables.index"] = table(
        [(b"", pieces.pairs[""]), (b"b", b""), (b"a", b"")]
    )


def repeat_block(pieces: Parts) -> None:
    data = block([(b"", pieces.pairs[""])])
    handle = varint(0) + varint(len(data) - 5)
    last = block([(b"a", handle), (b"b", handle)])
    footer = varint(0) + varint(0) + varint(len(data)) + varint(len(last) - 5)
    pieces.files["variables/variables.index"] = data + last + footer.ljust(40, b"\0") + MAGIC


def replace(old: bytes, new: bytes) -> Callable[[Parts], None]:
    def act(pieces: Parts) -> None:
        assert old in pieces.objects
        assert len(old) == len(new), "lengths are part of the graph"
        pieces.objects = pieces.objects.replace(old, new)

    return act


def text(number: int, data: str) -> Callable[[Parts], None]:
    return lambda pieces: pieces.metadata.update({number: (pieces.metadata[number][0], data)})


def path(number: int, name: str) -> Callable[[Parts], None]:
    return lambda pieces: pieces.metadata.update({number: (name, pieces.metadata[number][1])})


def without_root_config(pieces: Parts) -> None:
    pieces.change(0, config=None)


def same_names(pieces: Parts) -> None:
    pieces.change(1, name="dense_6")


def renumber(pieces: Parts) -> None:
    pieces.metadata[7] = pieces.metadata.pop(1)


def shift_numbers(pieces: Parts) -> None:
    pieces.objects = field(1, b"") + pieces.objects


def graph_alone(pieces: Parts) -> None:
    pieces.files = {"keras_metadata.pb": None, "saved_model.pb": field(1, 1) + field(2, b"")}


INDEX, SHARD = "variables/variables.index", "variables/variables.data-00000-of-00001"
META = "keras_metadata.pb"
HOSTILE: dict[str, tuple[str, Callable[[Parts], Any]]] = {
    "graph only": ("graph-only export", graph_alone),
    "no metadata of the model": ("graph-only export", lambda p: p.metadata.pop(0)),
    "no metadata of a layer": ("object 1", lambda p: p.metadata.pop(1)),
    "no files at all": ("no such file", file(META, None)),
    "no index": ("no such file", file(INDEX, None)),
    "no data": ("no such file", file(SHARD, None)),
    "empty index": ("magic", file(INDEX, b"")),
    "index cut": ("magic", cut_index),
    "index with a flipped bit": ("checksum", flip_index),
    "snappy": ("snappy", lambda p: setattr(p, "kind", 1)),
    "unknown compression": ("compression 4", lambda p: setattr(p, "kind", 4)),
    "keys out of order": ("keys in order", disorder),
    "block twice": ("one after the other", repeat_block),
    "long key": ("1024", lambda p: p.pairs.update({"z" * 1025: b""})),
    "no header": ("data files", lambda p: p.pairs.pop("")),
    "no data files": ("data files", header(shards=0)),
    "many data files": ("data files", header(shards=1000)),
    "another data file": ("no such file", header(shards=2)),
    "big-endian": ("big-endian", header(big=1)),
    "data file out of range": ("data files", kernel(1, (4, 2), 0, 32, shard=1)),
    "offset beyond the end": ("within", kernel(1, (4, 2), 10**6, 32)),
    "offset of 64 bits": ("within", kernel(1, (4, 2), 2**64 - 1, 32)),
    "size beyond the end": ("within", kernel(1, (2**40,), 0, 2**42)),
    "size against shape": ("32 bytes", kernel(1, (4, 2), 0, 28)),
    "negative axis": ("shape", kernel(1, (2**64 - 1,), 0, 32)),
    "overflowing shape": ("bytes for shape", kernel(1, (2**62, 2**62, 0, 2**62), 0, 32)),
    "many axes": ("33 axes", kernel(1, (1,) * 33, 0, 4)),
    "text as weights": ("dtype number 7", kernel(7, (4, 2), 0, 32)),
    "complex weights": ("dtype number 8", kernel(8, (4, 2), 0, 64)),
    "sliced": ("slices", lambda p: p.pairs.update({KERNEL: p.pairs[KERNEL] + field(7, b"")})),
    "twice a field": ("once", lambda p: p.pairs.update({KERNEL: field(1, 1) * 2})),
    "bytes for a number": ("a number", lambda p: p.pairs.update({KERNEL: field(1, b"")})),
    "no entry": ("in the index", lambda p: p.pairs.pop(KERNEL)),
    "objects are no text": ("one text", lambda p: p.pairs.update({OBJECTS: entry(1, (), 0, 4)})),
    "objects damaged": ("checksum", lambda p: p.pairs.update({OBJECTS: entry(7, (), 0, 9)})),
    "objects gone": ("objects", lambda p: setattr(p, "objects", b"")),
    "no layers": ("with layers", replace(b"layers", b"sreyal")),
    "list with a gap": ("numbered", replace(b"\x12\x011", b"\x12\x013")),
    "no variable": ("a variable", replace(b"VARIABLE_VALUE\x12", b"VARIABLE_EULAV\x12")),
    "no list": ("lists of all", replace(b"non_trainable_variables", b"not_trainable_variables")),
    "another key": ("in the index", replace(b"variables/0/.ATT", b"variables/7/.ATT")),
    "two of a name": ("names that differ", replace(b"\x08\x1d\x12\x011", b"\x08\x1c\x12\x011")),
    "key is no text": ("UTF-8", replace(b"dense_6/bias", b"dense_\xff/bias")),
    "numbers that do not fit": ("one number", renumber),
    "another root": ("with layers", shift_numbers),
    "path twice": ("twice", path(1, "root.layer_with_weights-1")),
    "layers of one name": ("names that differ", same_names),
    "layer without a name": ("text", lambda p: p.change(1, name=None)),
    "no config": ("Sequential", without_root_config),
    "no version": ("text", lambda p: p.change(0, keras_version=3)),
    "JSON cut": ("JSON", text(0, '{"a":')),
    "JSON of another kind": ("object", text(0, "[]")),
    "JSON too deep": ("JSON", text(0, "[" * 10**5)),
    "JSON nested": ("200", text(0, '{"a":' * 300 + "1" + "}" * 300)),
    "JSON with NaN": ("NaN", text(0, '{"a": NaN}')),
    "JSON key twice": ("twice", text(0, '{"a": 1, "a": 2}')),
    "metadata is text": ("protobuf", file(META, b"version https://git-lfs")),
    "metadata cut": ("bytes", file(META, b"\x0a\x7f{")),
    "number of 11 bytes": ("64 bits", file(META, b"\x10" + b"\xff" * 10 + b"\x01")),
    "number of 70 bits": ("64 bits", file(META, b"\x10" + b"\xff" * 9 + b"\x7f")),
    "length of 64 bits": ("bytes", file(META, b"\x0a" + b"\xff" * 9 + b"\x01")),
    "group": ("wire type 3", file(META, b"\x0b\x0c")),
    "many fields": (str(MAX_FIELDS), file(META, field(1, b"") * (MAX_FIELDS + 1))),
    "object twice": ("twice", file(META, field(1, field(2, 1) + field(5, b"{}")) * 2)),
}


@pytest.mark.parametrize("case", HOSTILE, ids=lambda name: name.replace(" ", "-"))
def test_hostile(case, tmp_path):
    word, damage = HOSTILE[case]
    pieces = parts()
    damage(pieces)
    folder = pieces.write(tmp_path / "model")
    with deadline(10):
        refused(FileError, lambda: opened(folder), word)


@pytest.mark.parametrize("name", [META, INDEX, SHARD])
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_what_is_no_file_is_not_opened(name, kind, tmp_path):
    pieces = parts()
    pieces.files[name] = None
    place = pieces.write(tmp_path / "model") / name
    make = {"fifo": os.mkfifo, "folder": os.mkdir, "device": lambda p: p.symlink_to("/dev/zero")}
    make[kind](place)
    with deadline(5):
        refused(FileError, lambda: opened(tmp_path / "model"))


def test_shared_lists_do_not_multiply(tmp_path):
    """Many layers that all refer to one long list of variables without items."""
    pieces = parts()
    long = b"".join(field(1, field(1, 5) + field(2, b"x%d" % n)) for n in range(2_000))
    layer = b"".join(
        field(1, field(1, number) + field(2, name))
        for number, name in [(3, b"trainable_variables"), (4, b"keras_api")]
    )
    layers = b"".join(field(1, field(1, 2) + field(2, b"%d" % n)) for n in range(10_000))
    nodes = [
        field(1, field(1, 1) + field(2, b"keras_api")),
        field(1, field(1, 6) + field(2, b"layers")),
        layer,
        long,
        field(1, field(1, 3) + field(2, b"non_trainable_variables")),
        b"",
        layers,
    ]
    pieces.objects = b"".join(field(1, node) for node in nodes)
    with deadline(10):
        refused(FileError, lambda: opened(pieces.write(tmp_path / "model")), "nodes")


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Some bytes changed, or a piece cut out or doubled."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        place = rng.randrange(len(out) + 1)
        size = rng.choice([1, 1, 1, 2, 8, 100])
        kind = rng.choice("bit byte cut double end".split())
        if kind == "bit" and place < len(out):
            out[place] ^= 1 << rng.randrange(8)
        elif kind == "byte":
            out[place : place + 1] = rng.choice(
                [b"\0", b"\x7f", b"\x80", b"\xff", rng.randbytes(1)]
            )
        elif kind == "cut":
            del out[place : place + size]
        elif kind == "double":
            out[place:place] = out[place : place + size]
        elif rng.random() < 0.2:
            del out[place:]
    return bytes(out)


def fuzzed(seed: int) -> Parts:
    rng = random.Random(seed)
    pieces = parts()
    match rng.choice("metadata json old index entry objects".split()):
        case "metadata":
            pieces.files[META] = mutated(pieces.message(), rng)
        case "json":
            number = rng.choice([0, 1, 2])
            name, data = pieces.metadata[number]
            data = mutated(data.encode(), rng).decode("utf-8", "replace")
            pieces.metadata[number] = name, data
        case "old":
            pieces.files = {META: None, "saved_model.pb": mutated(pieces.old(), rng)}
        case "index":
            pieces.files[INDEX] = mutated(pieces.index(), rng)
        case "entry":
            key = rng.choice(sorted(pieces.pairs))
            pieces.pairs[key] = mutated(pieces.pairs[key], rng)
        case "objects":
            pieces.objects = mutated(pieces.objects, rng)
    return pieces


FUZZED = int(os.environ.get("XLSTM_FUZZED", "300"))


@pytest.mark.parametrize("start", range(0, FUZZED, 100))
def test_random_damage_is_refused_or_harmless(start, tmp_path):
    outcomes = []
    for seed in range(start, start + 100):
        folder = fuzzed(seed).write(tmp_path / str(seed))
        with deadline(20):
            try:
                opened(folder)
            except Exception as error:  # noqa: BLE001 - which kinds escape is what is tested
                outcomes.append((seed, type(error), str(error)))
    assert len(outcomes) > 50
    assert [o for o in outcomes if o[1] is not FileError or not o[2].isprintable()] == []
