"""The product of layers, options, frameworks and directions, with what a run says of every cell.

    python benchmarks/conformance.py [--match REGEX]

For each option of docs/support.md: "to" runs the port against the float64 reference in float32 and
float64; "from" builds the port, reads the live object back and compares its outputs with the
original's. A cell that cannot be says why.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import conftest  # noqa: F401  pins what frameworks read
from cases import built

import xlstm
from xlstm.counting.support import graph_of, rows
from xlstm.errors import XlstmError
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Edge, Model, Node
from xlstm.reference import run
from xlstm.verification import inputs
from xlstm.verification.bounds import bounds


def model_of(node: Node) -> Model:
    """A row as a model with random weights."""
    graph = Builder()
    for found in graph_of(node.spec, mask=node.mask is not None, states=bool(node.states)):
        graph.add(found.name, found.spec, found.inputs, mask=found.mask, states=found.states)
    return built(graph, [Edge(node.name, n) for n in range(len(node.shapes))])


def to(model: Model, framework: str) -> str:
    """The verdict of a port, or why there is none."""
    try:
        report = xlstm.reconcile(model, [framework])
    except XlstmError as error:
        return f"refused: {error}"
    words = {v.verdict: v.detail for v in report.frameworks[framework].verdicts.values()}
    return ", ".join(
        word if word == "rounding" else f"{word}: {why}" for word, why in words.items()
    )


def back(model: Model, framework: str) -> str:
    """What reading the live port gives, or why it cannot be read."""
    adapter = registry.adapter(framework)
    try:
        live = xlstm.port(model, framework)
        read = xlstm.load(live)
    except XlstmError as error:
        return f"refused: {error}"
    arrays = inputs.make(model)
    allowed = bounds(model, arrays, "float32")
    pairs = zip(run(model, arrays), run(read, arrays), allowed, strict=True)
    worst = max(float(np.abs(a - b).max() / limit.step.max()) for a, b, limit in pairs)
    return f"{adapter.title}: read" if worst <= 1 else f"different: {worst:.1e} of the bound"


def main() -> int:
    """Prints the table; 1 if a cell is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="", help="rows whose layer and option match")
    match = parser.parse_args().match
    heads = [f"{way} {name}" for name in registry.frameworks() for way in ("to", "from")]
    table, started, wrong, whys = Table("layer", "option", *heads, box=None), time.time(), 0, {}
    for row in rows():
        layer, option, node = row
        if not re.search(match, f"{layer} {option}"):
            continue
        model, cells = model_of(node), []
        for framework in registry.frameworks():
            for found in (to(model, framework), back(model, framework)):
                refused = found.startswith("refused")
                wrong += not (refused or found in ("rounding",) or found.endswith(": read"))
                number = f" [{whys.setdefault(found, len(whys) + 1)}]" if refused else ""
                cells.append(found.split(":")[0] + number if refused else found.split(": ")[-1])
        table.add_row(layer, option, *cells)
        sys.stderr.write(f"{layer}, {option}\n")
    Console(width=200).print(table)
    for why, number in whys.items():
        sys.stdout.write(f"{number}. {why}\n")
    sys.stdout.write(f"{wrong} wrong, {time.time() - started:.0f} s\n")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
