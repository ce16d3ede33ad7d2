"""The genuine files that the fuzzer starts from: all that our readers know by now."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from paths import CORPUS, DATA, ROOT
from safetensors.numpy import save

PLACES = (DATA, ROOT / "xlstm" / "demo.keras", ROOT / "examples" / "models", CORPUS.parent / "eras")
"""Files, and folders of files; the last is not there in every checkout."""

FEW = 4
"""Most `.npz` files: the outputs of the eras, all of one kind."""

SKIPPED = {".py", ".md", ".json"}
ARCHITECTURE = "architecture"
"""Name of the file beside a base's entry that is its architecture."""

UNCHECKED = "unchecked"
"""Name of a SavedModel whose checksums the fuzzer has believed, so that mutations get past them."""


@dataclass(frozen=True)
class Base:
    """A model to be damaged.

    Attributes:
        name: where it lies, in a few words.
        entry: which file of the case is read; "." is the folder that holds them.
        files: relative name -> bytes.
        place: name of the folder that they are written to.
    """

    name: str
    entry: str
    files: dict[str, bytes]
    place: str = "case"

    def kind(self) -> str:
        """What the table of a run counts it as."""
        name = Path(self.entry).name
        return "folder" if not name else Path(name).suffix.lstrip(".") or "other"

    def write(self, folder: Path, files: dict[str, bytes]) -> Path:
        """Puts files in place, and gives the path to be read."""
        for name, data in files.items():
            target = folder / self.place / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        return folder / self.place / self.entry


def _file(path: Path) -> Base:
    return Base(f"{path.parent.name}/{path.name}", path.name, {path.name: path.read_bytes()})


def _folders(path: Path) -> Iterator[Base]:
    found = (item for item in sorted(path.rglob("*")) if item.is_file())
    files = {str(item.relative_to(path)): item.read_bytes() for item in found}
    name = f"{path.parent.name}/{path.name}"
    yield Base(name, ".", files)
    if "saved_model.pb" in files:
        yield Base(f"{name} {UNCHECKED}", ".", files, UNCHECKED)


def _shards(path: Path) -> Base:
    stem = path.name.removesuffix(".weights.json")
    files = {item.name: item.read_bytes() for item in sorted(path.parent.glob(f"{stem}[._]*"))}
    return Base(f"{path.parent.name}/{path.name}", path.name, files)


def _pairs(path: Path) -> Iterator[Base]:
    """Weights with the file of their architecture, as JSON and as YAML."""
    other = path.with_name(path.name.replace("_w.h5", ".json"))
    if other == path or not other.is_file():
        return
    texts = {"json": other.read_bytes()}
    texts["yaml"] = yaml.safe_dump(json.loads(texts["json"])).encode()
    for kind, text in texts.items():
        files = {path.name: path.read_bytes(), ARCHITECTURE: text}
        yield Base(f"{path.parent.name}/{path.name} with {kind}", path.name, files)


def _arrays() -> Iterator[Base]:
    """Named arrays, as safetensors and as Flax writes msgpack."""
    arrays = {"lstm.kernel": np.ones((3, 8), "f4"), "lstm.bias": np.zeros(8, "f4")}
    yield Base("arrays.safetensors", "a.safetensors", {"a.safetensors": save(arrays)})
    try:
        import msgpack
    except ImportError:
        return
    pack: Callable[[Any], bytes] = msgpack.packb
    tree = {
        name: msgpack.ExtType(1, pack((array.shape, array.dtype.name, array.tobytes())))
        for name, array in arrays.items()
    }
    yield Base("arrays.msgpack", "a.msgpack", {"a.msgpack": pack({"params": tree})})


def _at(place: Path) -> Iterator[Base]:
    files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file())
    folders = {p.parent for p in files if p.name in ("saved_model.pb", "model.weights.h5")}
    for path in files:
        if path.suffix not in SKIPPED and not any(f in path.parents for f in folders):
            yield _file(path)
        if path.name.endswith(".weights.json"):
            yield _shards(path)
        yield from _pairs(path)
    for path in sorted(folders):
        yield from _folders(path)


def bases(takes: Callable[[Base], bool]) -> list[Base]:
    """Every genuine file that `takes` reads today; new readers bring theirs in by themselves."""
    found = [base for place in PLACES for base in _at(place)] + list(_arrays())
    many = [base.name for base in found if base.entry.endswith(".npz")][FEW:]
    return [base for base in found if base.name not in many and takes(base)]
