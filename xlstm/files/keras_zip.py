"""`.keras` archives of Keras 3: config.json, metadata.json and model.weights.h5 in one zip."""

from __future__ import annotations

import zipfile
from contextlib import ExitStack
from typing import Any, BinaryIO

import h5py

from xlstm.errors import FileError
from xlstm.files.description import Description, Stored
from xlstm.files.guards import MAX_TEXT, as_object, as_stream, as_text, parse_json
from xlstm.files.hdf5 import child, members, open_hdf5, stored

MAX_MEMBER = 8 * 2**30
"""Largest member that is read, in bytes."""

PIECE = 2**16
"""Bytes read at once: a member that is longer than it says is noticed, not inflated."""

MAX_GROUPS = 20_000
"""Most groups below `layers`, counted once for every path that leads to them."""

DEEPEST = 32
"""Deepest path below `layers` in the weights."""


def describe_zip(stream: BinaryIO, file: str, sha256: str, opened: ExitStack) -> Description:
    """Describes a `.keras` archive.

    Raises:
        FileError: damaged, hostile, or not such an archive.
    """
    try:
        archive = opened.enter_context(zipfile.ZipFile(stream))
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(file, "a whole zip archive", got, "copy or save the file anew") from None
    config = _json(archive, "config.json", file)
    metadata = _json(archive, "metadata.json", file)
    weights = as_stream(_member(archive, "model.weights.h5", MAX_MEMBER, file))
    root = open_hdf5(weights, f"{file}, model.weights.h5", opened)
    read = {"config.json", "metadata.json", "model.weights.h5"}
    return Description(
        framework="keras",
        version=as_text(metadata.get("keras_version"), f"{file}, keras_version"),
        container=".keras archive",
        file=file,
        sha256=sha256,
        config=config,
        weights=_weights(root, file),
        by_name=False,
        ignored=tuple(name for name in archive.namelist() if name not in read),
        opened=opened,
    )


def _json(archive: zipfile.ZipFile, name: str, file: str) -> dict[str, Any]:
    where = f"{file}, {name}"
    return as_object(parse_json(_member(archive, name, MAX_TEXT, file), where), where)


def _member(archive: zipfile.ZipFile, name: str, limit: int, file: str) -> bytes:
    """The bytes of the one member of this name."""
    found = [info for info in archive.infolist() if info.filename == name]
    where = f"{file}, {name}"
    if len(found) != 1:
        got = f"{len(found)} members of that name"
        raise FileError(where, "one member", got, "give a .keras file that Keras 3 saved")
    info = found[0]
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) or info.flag_bits & 1:
        raise FileError(where, "stored or deflated data", "other", "save the model anew")
    if info.file_size > limit:
        raise FileError(
            where, f"at most {limit} bytes", f"{info.file_size} bytes", "check the file"
        )
    data = bytearray()
    try:
        with archive.open(info) as member:
            while piece := member.read(PIECE):
                data += piece
                if len(data) > info.file_size:
                    raise zipfile.BadZipFile("longer than declared")
    except Exception as error:
        got = f"damaged data ({type(error).__name__})"
        raise FileError(where, "a whole member", got, "copy or save the file anew") from None
    return bytes(data)


def _weights(root: h5py.File, file: str) -> dict[str, tuple[Stored, ...]]:
    """Path below `layers/` -> the arrays of its `vars` group, in numeric order."""
    layers = child(root, "layers", file)
    found: dict[str, tuple[Stored, ...]] = {}
    todo = [("", layers)] if isinstance(layers, h5py.Group) else []
    seen = 0
    while todo:
        path, group = todo.pop()
        seen += 1
        if path.count("/") > DEEPEST or seen > MAX_GROUPS:
            raise FileError(
                file, "weights of a model", "groups nested too deeply", "check the file"
            )
        for name, item in members(group, file):
            below = f"{path}/{name}".lstrip("/")
            if name == "vars" and isinstance(item, h5py.Group):
                found |= _vars(item, path, file)
            elif isinstance(item, h5py.Group):
                todo.append((below, item))
    return found


def _vars(group: h5py.Group, path: str, file: str) -> dict[str, tuple[Stored, ...]]:
    arrays = {name: item for name, item in members(group, file) if isinstance(item, h5py.Dataset)}
    if not all(name.isdecimal() for name in arrays):
        raise FileError(f"{file}, {path}", "numbered arrays", sorted(arrays), "save the model anew")
    if sorted(arrays, key=int) != [str(n) for n in range(len(arrays))]:
        got = ", ".join(sorted(arrays, key=int))
        raise FileError(f"{file}, {path}", "arrays numbered 0, 1, ...", got, "save the model anew")
    ordered = [arrays[name] for name in sorted(arrays, key=int)]
    where = f"{file}, {path}"
    return (
        {path: tuple(stored(item, str(n), where) for n, item in enumerate(ordered))}
        if ordered
        else {}
    )
