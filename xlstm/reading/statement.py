"""The statement about a port in port.intoto.json, for people who sign it or check it.

In: a ported folder and its report. Out: an in-toto Statement v1 with the SHA-256 of every file, and
a predicate with the source, verdicts, bounds and versions. docs/statement.md describes it, and
docs/statement.schema.json is its JSON Schema.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from xlstm._version import VERSION
from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files.guards import MAX_TEXT, as_object, as_text, open_regular, parse_json
from xlstm.files.hashes import of_file
from xlstm.files.port_folder import CONFIG, REPORT, STATEMENT
from xlstm.frameworks.port_tests import GOLDEN, TESTS
from xlstm.reading.record import HASHED, KEY

TYPE = "https://in-toto.io/Statement/v1"
"""Type of every statement, from the specification of in-toto."""

PREDICATE = "urn:xlstm-converter:port:v1"
"""Type of the predicate; the number changes with its fields."""

STATED = (*HASHED, CONFIG, REPORT, TESTS, GOLDEN)
"""All files that a statement may name."""

WANTED = "an in-toto statement, as xlstm writes it"

VERDICT = ("verdict", "outcome", "max_abs", "max_rel", "max_ulp", "bound", "ratio", "output")
"""Fields of a verdict in the report that the statement repeats."""


def write_statement(
    folder: Path,
    report: Mapping[str, Any],
    bounds: Sequence[Mapping[str, Any]],
    recipe: Mapping[str, Any],
) -> None:
    """Writes port.intoto.json, after all other files of a folder.

    Args:
        folder: of the port.
        report: the content of its report.json.
        bounds: of the golden outputs, as `Golden.bounds_to_json` returns them.
        recipe: of the golden inputs.
    """
    names = sorted(name for name in STATED if (folder / name).is_file())
    subjects = [{"name": n, "digest": {"sha256": of_file(folder / n)}} for n in names]
    statement = {
        "_type": TYPE,
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": _predicate(report, bounds, recipe),
    }
    text = json.dumps(statement, indent=1, allow_nan=False) + "\n"
    (folder / STATEMENT).write_text(text, "utf-8", newline="\n")


def _predicate(
    report: Mapping[str, Any], bounds: Sequence[Mapping[str, Any]], recipe: Mapping[str, Any]
) -> dict[str, Any]:
    source, proof = report["source"], report[KEY]
    digest = source["sha256"] or proof["origin_sha256"]
    found: dict[str, Any] = {
        "name": Path(source["file"] or proof["origin"]).name,
        "framework": source["framework"],
        "version": source["version"],
        "format": source["container"],
    }
    found |= {"digest": {"sha256": digest}} if digest else {}
    return {
        "source": found,
        "target": report["to"],
        "verification": _verification(report),
        "golden": {"reference": "float64", "factor": 8, "bounds": bounds, "inputs": recipe},
        "environment": {"versions": proof["versions"], "platform": proof["platform"]},
        "generator": {"name": "xlstm-converter", "version": VERSION},
    }


def _verification(report: Mapping[str, Any]) -> dict[str, Any]:
    """The result of the comparison when the port was written, and the verdict of each precision."""
    found = report["verification"]
    if isinstance(found, str):
        return {"result": "not verified", "verdicts": []}
    verdicts = [
        {"framework": name, "dtype": dtype, **{key: _plain(part[dtype][key]) for key in VERDICT}}
        for name, part in found["frameworks"].items()
        for dtype in ("float32", "float64")
    ]
    return {"result": "equal", "verdicts": verdicts}  # others have no statement


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_statement(folder: Path) -> dict[str, str]:
    """File -> the SHA-256 that port.intoto.json states; empty without such a file.

    Raises:
        FileError: a damaged file, or one that names files that no port has.
    """
    path = folder / STATEMENT
    if not path.is_file():
        return {}
    with open_regular(path) as file:
        data = as_object(parse_json(file.read(MAX_TEXT + 1), str(path), Budget()), str(path))
    kinds = {"_type": TYPE, "predicateType": PREDICATE}
    for key, kind in kinds.items():
        if data.get(key) != kind:
            raise _damaged(path, f"{key} {str(data.get(key))[:40]!r}")
    subjects = data.get("subject")
    if not isinstance(subjects, list):
        raise _damaged(path, "no list of subjects")
    found: dict[str, str] = {}
    for subject in subjects:
        entry = as_object(subject, str(path))
        name = as_text(entry.get("name"), str(path))
        if name not in STATED:  # never a path to another file
            raise _damaged(path, f"a subject {name[:40]!r}")
        digest = as_object(entry.get("digest"), str(path))
        found[name] = as_text(digest.get("sha256"), str(path))
    return found


def _damaged(path: Path, got: str) -> FileError:
    do = "port the model again, or remove the file"
    return FileError(path, WANTED, got, do)


def unlike_statement(folder: Path) -> list[str]:
    """Names of files that are not those of the statement in a folder.

    Raises:
        FileError: as `read_statement`.
    """
    found = []
    for name, digest in read_statement(folder).items():
        try:
            same = of_file(folder / name) == digest
        except FileError as error:
            found.append(f"{name} ({error.got})")
        else:
            found += [] if same else [name]
    return found
