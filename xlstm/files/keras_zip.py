"""`.keras` archives of Keras 3: config.json, metadata.json and model.weights.h5 in one zip."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, BinaryIO, cast

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.description import Description
from xlstm.files.guards import MAX_TEXT, as_object, as_stream, as_text, parse_json
from xlstm.files.hdf5 import open_hdf5
from xlstm.files.keras_tree import read_tree
from xlstm.files.optimizer import in_tree
from xlstm.files.window import Window

WEIGHTS = "model.weights.h5"

MAX_MEMBER = 8 * 2**30
"""Largest member that is read, in bytes."""

MAX_PACKED = 64 * 2**20
"""Largest compressed member that may come to more than `RATIO` times its stored size, in bytes."""

RATIO = 50
"""Trained numbers shrink by a few parts in ten; a gibibyte of one letter shrinks to a mebibyte."""

PIECE = 2**16
"""Bytes read at once: a member that is longer than it says is noticed, not inflated."""


def describe_zip(
    stream: BinaryIO, file: str, sha256: str, opened: ExitStack, budget: Budget
) -> Description:
    """Describes a `.keras` archive.

    Raises:
        FileError: damaged, hostile, or not such an archive.
    """
    try:
        archive = opened.enter_context(zipfile.ZipFile(stream))
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(file, "a whole zip archive", got, "copy or save the file anew") from None
    if any(name.endswith("/data.pkl") or name == "data.pkl" for name in archive.namelist()):
        do = "state = torch.load(FILE, weights_only=True), then xlstm.load(state, layers=...)"
        raise FileError(file, "a .keras archive", "a PyTorch file, which holds a pickle", do)
    if archive.namelist() and all(name.endswith(".npy") for name in archive.namelist()):
        do = "pass layers= for its arrays"
        raise FileError(file, "a .keras archive", "an .npz of arrays", do)
    config = _json(archive, "config.json", file)
    metadata = _json(archive, "metadata.json", file)
    weights = _weights(archive, stream, file)
    root = open_hdf5(weights, f"{file}, {WEIGHTS}", opened)
    tree, step = read_tree(root, file)
    read = {"config.json", "metadata.json", WEIGHTS}
    return Description(
        framework="keras",
        version=as_text(metadata.get("keras_version"), f"{file}, keras_version"),
        container=".keras archive",
        file=file,
        sha256=sha256,
        config=config,
        weights=tree,
        by_name=False,
        step=step,
        optimizer=in_tree(root, config, file),
        ignored=tuple(name for name in archive.namelist() if name not in read),
        opened=opened,
        budget=budget,
    )


def _json(archive: zipfile.ZipFile, name: str, file: str) -> dict[str, Any]:
    where = f"{file}, {name}"
    return as_object(parse_json(_member(archive, name, MAX_TEXT, file), where), where)


def _member(archive: zipfile.ZipFile, name: str, limit: int, file: str) -> bytes:
    """The bytes of the one member of this name."""
    data = io.BytesIO()
    for piece in _pieces(archive, _find(archive, name, limit, file), f"{file}, {name}"):
        data.write(piece)
    return data.getvalue()


def _weights(archive: zipfile.ZipFile, stream: BinaryIO, file: str) -> BinaryIO:
    """The weights' member as a file: a window on the archive where it is not compressed."""
    info = _find(archive, WEIGHTS, MAX_MEMBER, file)
    if info.compress_type != zipfile.ZIP_STORED:
        return as_stream(_member(archive, WEIGHTS, MAX_MEMBER, file))
    for _ in _pieces(archive, info, f"{file}, {WEIGHTS}"):
        pass  # to its end, where the checksum is looked at
    stream.seek(info.header_offset)
    header = stream.read(30)
    name, extra = struct.unpack("<HH", header[26:30])
    return cast(BinaryIO, Window(stream, info.header_offset + 30 + name + extra, info.file_size))


def _find(archive: zipfile.ZipFile, name: str, limit: int, file: str) -> zipfile.ZipInfo:
    """The one member of this name, if it may be read."""
    found = [info for info in archive.infolist() if info.filename == name]
    where = f"{file}, {name}"
    if not found and name == WEIGHTS and "model.weights.npz" in archive.namelist():
        got = "model.weights.npz, which holds pickles that even Keras refuses"
        raise FileError(where, "weights in HDF5", got, "save the model anew")
    if len(found) != 1:
        got = f"{len(found)} members of that name"
        raise FileError(where, "one member", got, "give a .keras file that Keras 3 saved")
    info = found[0]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise FileError(where, "stored or deflated data", "other", "save the model anew")
    if info.file_size > limit:
        got = f"{info.file_size} bytes"
        raise FileError(where, f"at most {limit} bytes", got, "check the file")
    if info.file_size > MAX_PACKED and info.file_size > RATIO * info.compress_size:
        got = f"{info.file_size} bytes packed into {info.compress_size}"
        raise FileError(where, "weights of a model", got, "check the file")
    return info


def _pieces(archive: zipfile.ZipFile, info: zipfile.ZipInfo, where: str) -> Iterator[bytes]:
    """A member piece by piece; its length and its checksum are those it declares."""
    total = 0
    try:
        with archive.open(info) as member:
            while piece := member.read(PIECE):
                total += len(piece)
                if total > info.file_size:
                    raise zipfile.BadZipFile("longer than declared")
                yield piece
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(where, "a whole member", got, "copy or save the file anew") from None
