"""The record of a port in `report.json`: hashes, versions, platform, source, verification.

In: a ported folder. Out: plain data for the report (`record`), or a checked `Record` of it.
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from xlstm._version import VERSION
from xlstm.budget import Budget
from xlstm.errors import FileError, kind_in_words
from xlstm.files.guards import MAX_TEXT, as_text, open_regular, parse_json
from xlstm.files.hashes import of_file
from xlstm.files.port_folder import REPORT, SOURCE, WEIGHTS, has_port, weights_of
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.distributions import version

KEY = "proof"
"""Name of the record in report.json."""

EXTRA = "model.keras"
"""A file that only some targets have."""

HASHED = (SOURCE, *WEIGHTS, EXTRA)
"""Files of which a record has the SHA-256; others do not change what the port computes."""

NO_HASHES: Mapping[str, str] = MappingProxyType({})

ANEW = "port the model again"

WANTED = "the record of a port, as xlstm writes it"


def record(
    folder: Path,
    adapter: Adapter,
    origin: str = "",
    hashes: Mapping[str, str] = NO_HASHES,
    origin_sha256: str = "",
    installed: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """The hashes, versions and platform of a port, as report.json stores them.

    Args:
        folder: the files of the port.
        adapter: its target.
        origin: path of the source, relative to the folder; "" if unknown.
        hashes: file -> its SHA-256, for files that need not be read again.
        origin_sha256: of the weights of a source that is a ported folder; "" for other sources.
        installed: what `versions` returns for the adapter, if it is known.

    Returns:
        `hashes`: file -> SHA-256; `versions`: of Python, xlstm, numpy and the target's installed
        packages, and `backend` of Keras if it was loaded; `platform`; `origin`; `origin_sha256`.
    """
    there = [name for name in HASHED if (folder / name).is_file()]
    return {
        "hashes": {name: hashes.get(name) or of_file(folder / name) for name in there},
        "versions": dict(versions([adapter]) if installed is None else installed),
        "platform": platform.platform(),
        "origin": origin,
        "origin_sha256": origin_sha256,
    }


def versions(adapters: Sequence[Adapter]) -> dict[str, str]:
    """Python, xlstm, numpy and the installed packages of the adapters -> version."""
    packages = {p: "" for a in adapters for p in (a.package, *a.runtime_packages)}
    live: Any = [sys.modules[a.live_module] for a in adapters if a.live_module in sys.modules]
    backends = [half.backend() for half in live if hasattr(half, "backend")]
    found = {"python": platform.python_version(), "xlstm": VERSION}
    found |= {"backend": backends[0]} if backends else {}
    every = {name: version(name) for name in ("numpy", *packages, *backends)}
    return found | {name: installed for name, installed in every.items() if installed}


def origin_of(source: Any, folder: Path) -> str:
    """The path from a ported folder to the file or folder that it was ported from, "" for others.

    A folder that is replaced by its own port is no source: nothing of it is left.
    """
    if not isinstance(source, (str, os.PathLike)):
        return ""
    if has_port(Path(source)) and Path(source).resolve() == Path(folder).resolve():
        return ""
    try:
        return Path(os.path.relpath(os.fspath(source), folder)).as_posix()
    except ValueError:  # on another drive
        return ""


def origin_hash(source: Any) -> str:
    """SHA-256 of the weights of a source that is a ported folder, "" for other sources."""
    if not isinstance(source, (str, os.PathLike)) or not has_port(Path(source)):
        return ""
    return of_file(weights_of(Path(source)))


@dataclass(frozen=True)
class Record:
    """The content of report.json, checked.

    Attributes:
        hashes: file of the folder -> SHA-256.
        versions: package -> version.
        platform: of the machine.
        origin: path of the source, relative to the folder.
        verification: the comparison as plain data; empty for a port without one.
        origin_sha256: of the weights of a source that is a ported folder, "" for other sources.
    """

    hashes: Mapping[str, str]
    versions: Mapping[str, str]
    platform: str
    origin: str
    verification: Mapping[str, Any]
    origin_sha256: str = ""


NONE = Record(NO_HASHES, NO_HASHES, "", "", NO_HASHES)
"""The record of a folder without report.json, as `save_pretrained` of a port writes it."""


def read_record(folder: Path) -> Record:
    """The record in the report of a ported folder.

    Raises:
        FileError: a report that is damaged, or without a record.
    """
    where = str(folder / REPORT)
    with open_regular(folder / REPORT) as file:
        data = parse_json(file.read(MAX_TEXT + 1), where, Budget())
    entry = _part(_part({"": data}, "", dict, where), KEY, dict, where)
    verification = data.get("verification")
    if not isinstance(verification, str):
        verification = _part(data, "verification", dict, where)
        figures_of(verification, where)
    hashes = _texts(entry, "hashes", where)
    weights = [name for name in WEIGHTS if name in hashes]
    if len(weights) != 1 or SOURCE not in hashes or not set(hashes) <= set(HASHED):
        raise FileError(where, WANTED, f"hashes of {', '.join(hashes) or 'nothing'}", ANEW)
    return Record(
        hashes=hashes,
        versions=_texts(entry, "versions", where),
        platform=_part(entry, "platform", str, where),
        origin=_part(entry, "origin", str, where),
        verification={} if isinstance(verification, str) else verification,
        # records of older versions have none
        origin_sha256=as_text(entry.get("origin_sha256", ""), f"{where}, origin_sha256"),
    )


def _part(data: Mapping[str, Any], key: str, kind: type, where: str) -> Any:
    value = data.get(key)
    if not isinstance(value, kind):
        got = f"{key or 'the whole'}: {kind_in_words(value)}" if key in data else f"no {key}"
        raise FileError(where, WANTED, got, ANEW)
    return value


def _texts(data: Mapping[str, Any], key: str, where: str) -> dict[str, str]:
    found = _part(data, key, dict, where)
    return {name: as_text(value, f"{where}, {key}, {name}") for name, value in found.items()}


def figures_of(
    verification: Mapping[str, Any], where: str
) -> dict[tuple[str, str], Mapping[str, Any]]:
    """(framework, precision) -> its figures, from a comparison as plain data."""
    found: dict[tuple[str, str], Mapping[str, Any]] = {}
    for name, part in _part(verification, "frameworks", dict, where).items():
        for dtype in ("float32", "float64"):
            figures = _part(_part({name: part}, name, dict, where), dtype, dict, where)
            _part(figures, "verdict", str, where)
            found[name, dtype] = figures
    return found
