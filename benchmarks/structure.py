"""The shape of the source: size, folders, imports, names and words, as numbers to compare.

    python benchmarks/structure.py [TREE] [--before REV] [--walk] [--json]

TREE is a folder that holds `xlstm/` and `converters/`; this checkout without one. `--before` adds a
column for a commit. Nothing of a tree is imported: its files are parsed. Imports inside functions
and the strings of `import_module` count as imports. Imports against the floors of `FLOORS`
(tests/support/structure_rules.py) are told where every package of the tree has a floor, else "-".

`--walk` runs `load`, `port`, `count`, `reconcile` and `diagnose` on the demo model, PyTorch being
the target, in a process each, and follows the first call of every function of the product: how
often a reader who goes along opens another file. Consecutive functions of one file are one stop; a
stop in a file that was open before is a return. Imports are left out, and threads beside the main
one. `diagnose` is asked about a port whose first matrix has its gates in another order.
"""

from __future__ import annotations

import argparse
import inspect
import io
import json
import os
import re
import statistics
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parents[1]
if str(ROOT / "tests" / "support") not in sys.path:
    sys.path.insert(0, str(ROOT / "tests" / "support"))

import source_tree  # noqa: E402
import structure_rules  # noqa: E402

LONG = 700
"""Most lines of a file."""

LAYERS = {"UnitNorm": re.compile("UnitNorm|unit_norm"), "RMSNorm": re.compile("RMSNorm|rms_norm")}
"""Layers whose mentions are counted -> their names in the source."""

CALLS = ("load", "port", "count", "reconcile", "diagnose")
"""Public functions whose walks are told."""


@dataclass(frozen=True)
class Structure:
    """Numbers of one tree.

    Attributes:
        files: modules, `__init__.py` included.
        lines: of all files.
        code_lines: without blank lines, comments and docstrings.
        comment_share: share of lines that have a comment.
        docstring_share: share of lines that docstrings take, those of attributes included.
        folder: the folder of most modules.
        modules: number of its modules.
        circles: sizes of the groups of modules that import each other in a circle.
        upward: imports against the floors; None where a package has no floor.
        repeated_classes: class names that are defined in two places or more.
        functions: number of functions and methods.
        function_median: lines of a function.
        function_90: lines that 90 % of functions do not exceed.
        function_most: lines of the longest function.
        file_median: lines of a file.
        long_files: files over 700 lines.
        docstrings: those of modules, classes and functions.
        questions: docstrings that begin with What, Whether, Which, Where or How.
        layer_files: layer -> number of files that name it: those that adding a layer touches.
    """

    files: int
    lines: int
    code_lines: int
    comment_share: float
    docstring_share: float
    folder: str
    modules: int
    circles: tuple[int, ...]
    upward: int | None
    repeated_classes: int
    functions: int
    function_median: float
    function_90: int
    function_most: int
    file_median: float
    long_files: int
    docstrings: int
    questions: int
    layer_files: dict[str, int]

    def rows(self) -> dict[str, str]:
        """The table's rows: title -> text."""
        sizes = f" of {' + '.join(map(str, self.circles))} files" if self.circles else ""
        return {
            "files": f"{self.files:,}",
            "lines": f"{self.lines:,}",
            "code lines": f"{self.code_lines:,}",
            "lines with comments": f"{self.comment_share:.1%}",
            "lines of docstrings": f"{self.docstring_share:.1%}",
            "modules of the largest folder": f"{self.modules} ({self.folder})",
            "import circles": f"{len(self.circles)}{sizes}",
            "imports against the floors": "-" if self.upward is None else f"{self.upward}",
            "class names with two meanings": f"{self.repeated_classes}",
            "functions": f"{self.functions:,}",
            "function lines, median": f"{self.function_median:g}",
            "function lines, 90 %": f"{self.function_90}",
            "function lines, most": f"{self.function_most}",
            "file lines, median": f"{self.file_median:g}",
            f"files over {LONG} lines": f"{self.long_files}",
            "docstrings": f"{self.docstrings:,}",
            "docstrings that begin with a question word": (
                f"{self.questions:,} ({self.questions / max(self.docstrings, 1):.1%})"
            ),
            **{f"files that name {one}": f"{n or '-'}" for one, n in self.layer_files.items()},
        }


def quantile(numbers: Sequence[int], share: float) -> int:
    """The least number that at least `share` of the numbers do not exceed; 0 of none."""
    ordered = sorted(numbers)
    return next((n for at, n in enumerate(ordered, 1) if at >= share * len(ordered)), 0)


def measure(root: Path) -> Structure:
    """The numbers of a tree."""
    modules = source_tree.read_tree(root)
    graph, files = source_tree.import_graph(modules), list(modules.values())
    lengths = [
        (node.end_lineno or node.lineno) - node.lineno + 1
        for file in files
        for node in file.functions()
    ]
    lines = [file.lines for file in files]
    total = max(sum(lines), 1)
    folders = structure_rules.modules_by_folder(modules).most_common(1)
    floors = not structure_rules.packages_without_floor(modules)
    return Structure(
        files=len(files),
        lines=sum(lines),
        code_lines=sum(len(file.code_lines) for file in files),
        comment_share=sum(len(file.comment_lines) for file in files) / total,
        docstring_share=sum(len(file.docstring_lines) for file in files) / total,
        folder=folders[0][0] if folders else "",
        modules=folders[0][1] if folders else 0,
        circles=tuple(map(len, source_tree.circles(graph))),
        upward=len(structure_rules.upward_imports(graph)) if floors else None,
        repeated_classes=len(structure_rules.repeated_classes(modules)),
        functions=len(lengths),
        function_median=statistics.median(lengths or [0]),
        function_90=quantile(lengths, 0.9),
        function_most=max(lengths, default=0),
        file_median=statistics.median(lines or [0]),
        long_files=sum(number > LONG for number in lines),
        docstrings=sum(1 for file in files for _ in file.docstrings()),
        questions=sum(structure_rules.docstrings_that_ask(modules).values()),
        layer_files={
            layer: sum(bool(name.search(file.text)) for file in files)
            for layer, name in LAYERS.items()
        },
    )


@dataclass(frozen=True)
class Walk:
    """One call's way through the files.

    Attributes:
        functions: different functions that were called.
        stops: runs of functions of one file.
        returns: stops in a file that was open before.
        files: different files.
    """

    functions: int
    stops: int
    returns: int
    files: int

    def __str__(self) -> str:
        return f"{self.stops} stops, {self.returns} returns, {self.files} files"


def walk_of(files: Sequence[str]) -> Walk:
    """The walk whose functions lie in these files, in the order of their first calls."""
    stops = [file for n, file in enumerate(files) if not n or file != files[n - 1]]
    different = len(set(stops))
    return Walk(len(files), len(stops), len(stops) - different, different)


class Tracer:
    """Notes the file of every function of a tree at its first call, but for imports.

    tracer = Tracer(root); with it as profiler, call something; tracer.files
    """

    def __init__(self, root: Path) -> None:
        self.files: list[str] = []
        self._roots = tuple(f"{root.resolve() / top}{os.sep}" for top in source_tree.ROOTS)
        self._known: set[CodeType] = set()
        self._importing = 0

    def __call__(self, frame: FrameType, event: str, _value: object) -> None:
        code = frame.f_code
        if event not in ("call", "return") or not code.co_filename.startswith(self._roots):
            return
        if code.co_name == "<module>":
            self._importing += 1 if event == "call" else -1
        elif event == "call" and not self._importing and code not in self._known:
            self._known.add(code)
            # bodies of classes are not optimised; comprehensions are part of their function
            is_function = code.co_flags & inspect.CO_OPTIMIZED
            if is_function and (code.co_name == "<lambda>" or not code.co_name.startswith("<")):
                self.files.append(code.co_filename)


def demo_call(name: str) -> Callable[[], object]:
    """A public function with its arguments: the demo model and PyTorch."""
    import xlstm

    call: Callable[..., object] = getattr(xlstm, name)
    path = xlstm.demo.path()
    if name == "diagnose":
        ported = wrong_port(path)
        return lambda: call(path, ported)
    return {
        "load": lambda: call(path),
        "port": lambda: call(path, "torch"),
        "count": lambda: call(path, ["torch"]),
        "reconcile": lambda: call(path, ["torch"]),
    }[name]


def wrong_port(path: Path) -> Any:
    """The model in PyTorch, the gates of its first matrix in another order."""
    import torch

    import xlstm

    ported: Any = xlstm.port(path, "torch")
    matrix = next(tensor for tensor in ported.parameters() if tensor.ndim > 1)
    with torch.no_grad():
        matrix.copy_(matrix.roll(len(matrix) // 4, 0))
    return ported


def print_trace(root: Path, name: str) -> None:
    """Runs a call of the tree that Python imports, and prints the files of its functions."""
    call, tracer = demo_call(name), Tracer(root)
    sys.setprofile(tracer)
    try:
        call()
    finally:
        sys.setprofile(None)
    print(json.dumps(tracer.files))


def walk(root: Path, name: str) -> Walk:
    """The walk of a public function in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(root.resolve()), "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, __file__, str(root.resolve()), "--trace", name]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            command, env=environment, cwd=folder, stdout=subprocess.PIPE, text=True, check=True
        )
    files = json.loads(done.stdout.splitlines()[-1])
    if not files:
        raise RuntimeError(f"{name}: no function of {root} was called")
    return walk_of(files)


def unpack_commit(revision: str, folder: Path, root: Path = ROOT) -> Path:
    """Writes the product of a commit of the repository at `root` to a folder, and returns it."""
    command = ["git", "-C", str(root), "archive", revision, *source_tree.ROOTS]
    packed = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def numbers_and_walks(root: Path, walks: Iterable[str]) -> dict[str, Any]:
    """Numbers and walks of a tree."""
    return {"structure": measure(root), "walks": {name: walk(root, name) for name in walks}}


def as_json(found: dict[str, Any]) -> dict[str, Any]:
    """Numbers and walks as plain values."""
    walks = {name: asdict(one) for name, one in found["walks"].items()}
    return {**asdict(found["structure"]), **({"walks": walks} if walks else {})}


def table(columns: dict[str, dict[str, Any]]) -> Table:
    """One column for every tree."""
    found = Table("", *columns)
    cells = [
        {
            **column["structure"].rows(),
            **{f"walk of {name}": str(one) for name, one in column["walks"].items()},
        }
        for column in columns.values()
    ]
    for title in cells[0]:
        found.add_row(title, *(column[title] for column in cells))
    return found


def main() -> None:
    """Prints the table, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("tree", nargs="?", type=Path, default=ROOT, metavar="TREE")
    parser.add_argument("--before", metavar="REV", help="a commit, as a column of its own")
    parser.add_argument("--walk", action="store_true", help="follow the public functions")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--trace", choices=CALLS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.trace:
        print_trace(arguments.tree, arguments.trace)
        return
    walks = CALLS if arguments.walk else ()
    columns = {}
    with tempfile.TemporaryDirectory() as folder:
        if arguments.before:
            tree = unpack_commit(arguments.before, Path(folder))
            columns[arguments.before] = numbers_and_walks(tree, walks)
        title = "now" if arguments.tree == ROOT else str(arguments.tree)
        columns[title] = numbers_and_walks(arguments.tree, walks)
    if arguments.json:
        print(json.dumps({name: as_json(found) for name, found in columns.items()}, indent=1))
        return
    Console(width=120).print(table(columns))


if __name__ == "__main__":
    main()
