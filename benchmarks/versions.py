r"""Records what tests say in an environment, and prints the table of docs/versions.md.

    python benchmarks/versions.py --record lowest --python .venv-lowest/bin/python \
        --junit build/lowest.xml
    python benchmarks/versions.py --markdown

`make check-lowest` and `make check-newest` record. Versions are those that `pip freeze` names;
numbers of tests and seconds are those of pytest's JUnit file. The table compares the environments
in `docs/versions.json`, one column for each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

STORE = Path(__file__).parents[1] / "docs" / "versions.json"

PACKAGES = {
    "keras": "Keras",
    "tensorflow": "TensorFlow",
    "torch": "PyTorch",
    "jax": "JAX",
    "flax": "Flax",
    "numpy": "NumPy",
    "h5py": "h5py",
    "safetensors": "safetensors",
    "msgpack": "msgpack",
    "pyyaml": "PyYAML",
    "rich": "rich",
}
"""Name in the registry -> name in the table, for all that `.[all]` asks for."""

ABSENT = "not installed"
UNTRIED = "not run yet"

COUNTS = ("passed", "failed", "skipped")


def versions(freeze: str) -> dict[str, str]:
    r"""Returns the versions of PACKAGES that the text of `pip freeze` has.

    >>> versions("numpy==2.0.0\nPyYAML==6.0\nsix==1.17.0\n-e /somewhere\n")
    {'numpy': '2.0.0', 'pyyaml': '6.0'}
    """
    pairs = (line.split("==") for line in freeze.split() if "==" in line)
    found = {name.lower(): version for name, version in pairs}
    return {name: found[name] for name in PACKAGES if name in found}


def results(junit: str) -> dict[str, Any]:
    """Returns numbers of tests, seconds and names of failed tests of a JUnit text.

    >>> results('<testsuites><testsuite tests="3" time="1.26"><testcase name="a"/>'
    ...         '<testcase classname="b" name="c"><failure/></testcase>'
    ...         '<testcase name="d"><skipped/></testcase></testsuite></testsuites>')
    {'passed': 1, 'failed': 1, 'skipped': 1, 'seconds': 1, 'failures': ['b.c']}
    """
    counts = dict.fromkeys(COUNTS, 0)
    failures = []
    root = ET.fromstring(junit)  # pytest wrote it
    for case in root.iter("testcase"):
        tags = {child.tag for child in case}
        if tags & {"failure", "error"}:
            failures.append(f"{case.get('classname')}.{case.get('name')}")
            counts["failed"] += 1
        else:
            counts["skipped" if "skipped" in tags else "passed"] += 1
    seconds = sum(float(suite.get("time", 0)) for suite in root.iter("testsuite"))
    return {**counts, "seconds": round(seconds), "failures": failures}


def record(python: Path, junit: Path | None) -> dict[str, Any]:
    """Returns the versions of an environment and what its tests said, if they ran."""

    def said(*command: str) -> str:
        command = (str(python), *command)
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    return {
        "python": said("--version").split()[-1],
        "versions": versions(said("-m", "pip", "freeze")),
        **(results(junit.read_text("utf-8")) if junit else {}),
    }


def rows(found: Mapping[str, Mapping[str, Any]]) -> Iterable[tuple[str, ...]]:
    """Yields the cells of the table: a header, a row for each package, rows of results."""
    columns = found.values()
    yield ("", *found)
    yield ("Python", *(column["python"] for column in columns))
    for name, title in PACKAGES.items():
        yield (title, *(column["versions"].get(name, ABSENT) for column in columns))
    for name in COUNTS:
        yield (
            f"tests {name}",
            *(f"{column[name]:,}" if name in column else UNTRIED for column in columns),
        )


def markdown(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns the table, and below it the tests that failed.

    >>> one = {"python": "3.11.7", "versions": {"keras": "3.13.2"}, "failures": ["a.b"]}
    >>> print(markdown({"lowest": one | {"passed": 1200, "failed": 1, "skipped": 0}}))
    ... # doctest: +ELLIPSIS
    |  | lowest |
    |---|---|
    | Python | 3.11.7 |
    | Keras | 3.13.2 |
    | TensorFlow | not installed |
    ...
    | tests passed | 1,200 |
    | tests failed | 1 |
    | tests skipped | 0 |
    <BLANKLINE>
    Failed with the lowest versions: `a.b`.
    """
    header, *others = ("| " + " | ".join(cells) + " |" for cells in rows(found))
    table = "\n".join([header, "|---" * (len(found) + 1) + "|", *others])
    lost = [
        f"Failed with the {name} versions: {', '.join(f'`{test}`' for test in one['failures'])}."
        for name, one in found.items()
        if one.get("failures")
    ]
    return "\n\n".join([table, *lost])


def main(arguments: list[str] | None = None) -> int:
    """Records an environment or prints the table; returns 1 if a recorded test failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", metavar="NAME", help="the column to write")
    parser.add_argument("--python", type=Path, default=Path(sys.executable), help="of it")
    parser.add_argument(
        "--junit",
        type=Path,
        help="the file of its last run; without it, the versions alone are kept",
    )
    parser.add_argument("--json", type=Path, default=STORE, help="where columns are kept")
    parser.add_argument("--markdown", action="store_true", help="print the table")
    options = parser.parse_args(arguments)
    text = options.json.read_text("utf-8") if options.json.exists() else "{}"
    found = json.loads(text)
    if options.record:
        found[options.record] = record(options.python, options.junit)
        options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    if options.markdown:
        print(markdown(found))
    return int(bool(options.record and found[options.record].get("failed")))


if __name__ == "__main__":
    sys.exit(main())
