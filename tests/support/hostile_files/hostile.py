"""Builds the hostile files of the 25 classes that were measured, by row of that table.

Each builder is given an empty folder and yields (path, words): the words of its refusal as a
regular expression, None where the file is read, `EITHER` where both do no harm.
"""

from __future__ import annotations

import itertools
import json
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import test_bad_archives as archives
import test_bad_hdf5 as bad
from make_files import BIAS, DENSE, KINDS, make, model_config, replace, zip_file

Case = tuple[Path, str | None]
EITHER = "either"
MIB = 2**20
COUNT = itertools.count()


def place(folder: Path) -> Path:
    below = folder / f"case{next(COUNT)}"
    below.mkdir()
    return below


def damaged(folder: Path, damage: Any, words: str | None, where: Any = BIAS) -> Iterator[Case]:
    """A file of each kind, with something else in place of its LSTM's bias."""
    for kind in KINDS:
        below = place(folder)
        yield make(kind, below, weights=lambda f: damage(f, where[kind], below)), words  # noqa: B023


def keras(folder: Path, words: str | None, **hooks: Any) -> Iterator[Case]:
    yield make("keras", place(folder), **hooks), words


def external_links(folder: Path) -> Iterator[Case]:
    for where in (BIAS, DENSE, bad.ROOT):
        yield from damaged(folder, bad.external_link, "ExternalLink", where)


def link_to(target: str) -> Callable[..., None]:
    return lambda file, path, _folder: replace(file, path, h5py.ExternalLink(target, "/bias"))


def external_links_to_no_hdf5(folder: Path) -> Iterator[Case]:
    yield from damaged(folder, bad.link_to_a_fifo, "ExternalLink")
    for target in ("/etc/hostname", "missing.h5", "/dev/zero"):
        yield from damaged(folder, link_to(target), "ExternalLink")


def external_storage(folder: Path) -> Iterator[Case]:
    yield from damaged(folder, bad.external_storage, "external storage")


def virtual(folder: Path) -> Iterator[Case]:
    yield from damaged(folder, bad.virtual, "virtual")


def soft_links(folder: Path) -> Iterator[Case]:
    for link in (bad.soft_link, bad.soft_link_to_itself):
        yield from damaged(folder, link, "SoftLink")
    to_root = bad.value(h5py.SoftLink("/"))
    yield from damaged(folder, to_root, "SoftLink", DENSE)


def trees(folder: Path) -> Iterator[Case]:
    for name in ("cycle", "dag-60", "deep"):
        yield from keras(folder, "nested too deeply|share bytes", weights=bad.TREES[name])

    def cycle(file: h5py.File) -> None:
        file["model_weights/lstm/again"] = file["model_weights"]

    yield make("h5", place(folder), weights=cycle), None


def sparse(folder: Path) -> Iterator[Case]:
    for name in ("huge", "huge-in-pieces"):
        yield from damaged(folder, bad.ARRAYS[name][0], "declares|chunk")


def two_gibibytes(folder: Path) -> Iterator[Case]:
    yield from damaged(folder, bad.plain(shape=(2**29,), dtype="f4"), "declares")


def packed_spaces(mebibytes: int, letter: bytes = b" ") -> bytes:
    """So much of one letter as raw deflate, without ever holding it."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(letter * MIB) + packer.flush(zlib.Z_FULL_FLUSH)
    return block * mebibytes + b"\x03\x00"


def packed_zeros(mebibytes: int) -> bytes:
    """Zeros as zlib writes them; Adler-32 of zeros is known without them."""
    check = (mebibytes * MIB % 65521) << 16 | 1
    return b"\x78\x9c" + packed_spaces(mebibytes, b"\0") + check.to_bytes(4, "big")


def chunks(shape: int, chunk: int, data: bytes, *filters: int) -> Callable[..., None]:
    """A float32 array in chunks whose stored bytes are all `data`."""

    def damage(file: h5py.File, path: str, _folder: Path) -> None:
        del file[path]
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk((chunk,))
        for number in filters:
            values = (9,) if number == h5py.h5z.FILTER_DEFLATE else ()
            plist.set_filter(number, h5py.h5z.FLAG_OPTIONAL, values)
        space = h5py.h5s.create_simple((shape,), (h5py.h5s.UNLIMITED,))
        kind = h5py.h5t.IEEE_F32LE
        made = h5py.h5d.create(file.id, path.encode(), kind, space, dcpl=plist)
        for start in range(0, shape, chunk):
            made.write_direct_chunk((start,), data)

    return damage


GZIP = h5py.h5z.FILTER_DEFLATE


def chunk_bomb(folder: Path) -> Iterator[Case]:
    yield from damaged(folder, chunks(16, 2**28, packed_zeros(1024), GZIP), "chunk")


def stacked_filters(folder: Path) -> Iterator[Case]:
    thrice = zlib.compress(zlib.compress(packed_zeros(512), 9), 9)
    damage = chunks(2**27, 2**27, thrice, GZIP, GZIP, GZIP)
    yield from damaged(folder, damage, "chunk|filter|declares")


def honest_zeros(folder: Path) -> Iterator[Case]:
    damage = chunks(2**28, 2**18, packed_zeros(1), GZIP)
    yield from damaged(folder, damage, "declares|chunk")


def unknown_filter(folder: Path) -> Iterator[Case]:
    yield from damaged(folder, chunks(16, 16, b"1234" * 16, 32001), "filter|chunk")


def shared_text(folder: Path) -> Iterator[Case]:
    """3900 names that are all one text of a MiB."""
    names = [f"n{number:05}" for number in range(3900)]
    long = json.dumps(model_config("h5")) + " " * MIB

    def hook(file: h5py.File) -> None:
        file.attrs["model_config"] = long
        file["model_weights"].attrs["layer_names"] = names

    path = make("h5", place(folder), weights=hook)
    data = bytearray(path.read_bytes())
    first, last = reference(data, names[0].encode()), reference(data, long.encode())
    start = data.index(first)
    data[start : start + 16 * len(names)] = last * len(names)
    path.write_bytes(data)
    yield path, "characters"
    yield from overstated_texts(folder)


def overstated_texts(folder: Path) -> Iterator[Case]:
    """A name of 2 GiB by its reference: with the right place, none, and one outside any heap."""
    whole = make("h5", place(folder)).read_bytes()
    right = reference(whole, b"lstm/lstm_cell/bias:0")
    length = (2**31).to_bytes(4, "little")
    places = (right[4:], right[4:12] + b"\xff\0\0\0", (8).to_bytes(8, "little") + right[12:])
    for where in places:
        path = place(folder) / "small.h5"
        path.write_bytes(whole.replace(right, length + where))
        yield path, "2147483648 bytes|a sound heap"


def reference(data: bytes | bytearray, text: bytes) -> bytes:
    """How an attribute refers to a text: its length, the address of its heap, its number there."""
    at = data.index(text) - 16
    heap = data.rindex(b"GCOL", 0, at)
    return (
        len(text).to_bytes(4, "little") + heap.to_bytes(8, "little") + data[at : at + 2] + b"\0\0"
    )


def empty_free_space(folder: Path) -> Iterator[Case]:
    path = make("h5", place(folder))
    data = bytearray(path.read_bytes())
    free = next(at for at, (index, _) in bad.heap_objects(data).items() if index == 0)
    data[free + 8 : free + 16] = bytes(8)
    path.write_bytes(data)
    yield path, "heap"


def enumeration(file: h5py.File, path: str, _folder: Path) -> None:
    replace(file, path, shape=(16,), dtype=h5py.enum_dtype({"a": 0}, "i4"), value=[0] * 16)


def committed(file: h5py.File, path: str, _folder: Path) -> None:
    file["kind"] = np.dtype("f4")
    del file[path]
    file.create_dataset(path, (16,), file["kind"], data=bad.GOOD)


def types(folder: Path) -> Iterator[Case]:
    for name in ("compound", "opaque", "vlen", "references", "null-dataspace", "text"):
        yield from damaged(folder, bad.ARRAYS[name][0], "dtype")
    for damage in (enumeration, committed):
        yield from damaged(folder, damage, EITHER)
    yield from damaged(folder, bad.value(np.dtype("f4")), "")


def many_links(folder: Path) -> Iterator[Case]:
    def hook(file: h5py.File) -> None:
        group = file["layers"].create_group("g").id
        below = h5py.h5g.create(group, b"below")
        for number in range(200_000):
            group.links.create_hard(b"g%d" % number, group, b"below")
        below.close()

    yield from keras(folder, "20000 members", weights=hook)


def damaged_bytes(folder: Path) -> Iterator[Case]:
    for kind in KINDS:
        whole = make(kind, place(folder)).read_bytes()
        for share in (0.05, 0.5, 0.95):
            path = place(folder) / "cut"
            path.write_bytes(whole[: int(len(whole) * share)])
            yield path, ""
        for position in range(0, len(whole), len(whole) // 30):
            path = place(folder) / "flipped"
            path.write_bytes(
                bytes([*whole[:position], whole[position] ^ 64, *whole[position + 1 :]])
            )
            yield path, EITHER


def doubled_members(folder: Path) -> Iterator[Case]:
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        yield archives.archive(place(folder), archives.twice(name)), f"{name}: .* 2 members"


def odd_names(folder: Path) -> Iterator[Case]:
    names = ["../../evil.txt", "/abs.txt", "..\\evil.txt", "a/../../b"]
    extra = [(name, b"evil") for name in names]
    yield from keras(folder, None, members=lambda found: [*found, *extra])


def packed_member(folder: Path, name: str, raw: bytes, size: int) -> Path:
    """An archive in which one member is raw deflate that comes to `size` bytes, or says so."""
    path = archives.archive(place(folder), archives.instead(name, raw))
    archives.patched(path, name, 10, (8).to_bytes(2, "little"))
    return archives.patched(path, name, 24, size.to_bytes(4, "little"))


def gibibyte_of_spaces(folder: Path) -> Iterator[Case]:
    raw = packed_spaces(1024)
    for name in ("config.json", "metadata.json", "model.weights.h5"):
        yield packed_member(folder, name, raw, 2**30), f"{name}: .*1073741824 bytes"


def lying_directory(folder: Path) -> Iterator[Case]:
    raw = packed_spaces(100)
    for name in ("config.json", "model.weights.h5"):
        yield packed_member(folder, name, raw, 10), f"{name}: .*BadZipFile"


def packed_otherwise(folder: Path) -> Iterator[Case]:
    for name in ("config.json", "model.weights.h5"):
        path = archives.patched(make("keras", place(folder)), name, 8, b"\x01")
        yield path, f"{name}: .*stored or deflated"
    members = archives.pieces(place(folder))
    for method in (zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2):
        path = zip_file(place(folder) / "x.keras", members, method)
        yield path, "config.json: .*stored or deflated"


def polyglots(folder: Path) -> Iterator[Case]:
    archive, whole = (make(kind, place(folder)).read_bytes() for kind in KINDS)
    texts = {
        "h5-zip": (whole + archive, None),
        "junk-h5": (b"x" * 512 + whole, "starts with b'xxx"),
        "zip-h5": (archive + bytes(-len(archive) % 2**16) + whole, EITHER),
        "zip-inside": (b"MZ" + archive, "starts with b'MZ"),
    }
    for name, (data, words) in texts.items():
        path = place(folder) / name
        path.write_bytes(data)
        yield path, words


TEXTS = {
    "JSON|levels|values": '{"class_name": ' + "[" * 200_000 + "]" * 200_000 + "}",
    "values|characters|bytes": '{"class_name": [' + "{}," * 5_000_000 + "{}]}",
    "JSON": '{"class_name": ' + "9" * 5000 + "}",
    "JSON.*NaN": '{"class_name": NaN}',
    "JSON.*large": '{"class_name": 1e999}',
    "JSON.*twice": '{"class_name": 1, "class_name": 2}',
}


def json_texts(folder: Path) -> Iterator[Case]:
    for words, text in TEXTS.items():
        hook = archives.instead("config.json", text.encode())
        yield archives.archive(place(folder), hook), words
        yield make("h5", place(folder), weights=lambda f: f.attrs.update(model_config=text)), words  # noqa: B023


def no_files(folder: Path) -> Iterator[Case]:
    path = place(folder) / "fifo"
    os.mkfifo(path)
    yield path, "regular file"
    yield Path("/dev/zero"), "regular file"
    yield place(folder), "folder"


ROWS: dict[int, Callable[[Path], Iterator[Case]]] = dict(
    enumerate(
        (
            external_links,
            external_links_to_no_hdf5,
            external_storage,
            virtual,
            soft_links,
            trees,
            sparse,
            two_gibibytes,
            chunk_bomb,
            stacked_filters,
            honest_zeros,
            unknown_filter,
            shared_text,
            empty_free_space,
            types,
            many_links,
            damaged_bytes,
            doubled_members,
            odd_names,
            gibibyte_of_spaces,
            lying_directory,
            packed_otherwise,
            polyglots,
            json_texts,
            no_files,
        ),
        start=1,
    )
)
