"""Small files of hostile graphs (`hostile_graphs.py` of the tests): families that grow.

A line of `FAMILIES` is the name of a family, a function of that module, its sizes, more arguments:

    "graph: layers in a chain": ("many", (5000, 10_000, 20_000), {}),
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from hostile_cases import ROOT, Case, Write

LAYERS = (5000, 10_000, 20_000)
FEW, TWICE = (500, 5000, 20_000), (4, 8, 16)

FAMILIES: dict[str, tuple[str, tuple[int, ...], dict[str, Any]]] = {
    "graph: layers in a chain": ("many", LAYERS, {}),
    "graph: layers": ("many_calls", LAYERS, {}),
    "graph: layers, the last one first": ("many_calls", LAYERS, {"turned": True}),
    "graph: calls of one layer": ("one_layer", LAYERS, {}),
    "graph: calls of one layer, of Keras 2": ("one_old_layer", LAYERS, {}),
    "graph: reads of one sum, the last one first": ("repeated_reads", LAYERS, {}),
    "graph: inputs of one sum": ("one_sum", LAYERS, {}),
    "graph: masked inputs of one maximum": ("largest", (50, 150, 1000), {}),
    "graph: sums of the two layers before": ("sums", FEW, {}),
    "graph: outputs": ("outputs", LAYERS, {}),
    "graph: cells of one layer": ("cells", (500, 10_000, 20_000), {}),
    "graph: layers between two moves of axes": ("moves", LAYERS, {}),
    "graph: models side by side": ("models", (1250, 2500, 5000), {}),
    "graph: models in one another, called twice": ("nested", TWICE, {}),
    "graph: models in one another, of Keras 2": ("nested", TWICE, {"old": True}),
    "graph: models in one another, at every step": ("nested_in_steps", TWICE, {}),
    "graph: models of long names in one another": ("long_paths", TWICE, {}),
    "graph: tensors put beside themselves": ("doubled", (6, 24, 20_000), {}),
    "graph: masks joined with themselves": ("masks", (15, 60, 20_000), {}),
    "graph: times that a vector is repeated": ("repeated", (10**3, 10**5, 10**7), {}),
    "graph: axes of a tensor": ("rank", (32, 1000, 20_000), {}),
    "graph: digits of a shape": ("reshaped", (15, 400, 4000), {}),
    "graph: digits of an LSTM's units": ("units", (3, 400, 4000), {"kind": "LSTM"}),
}
"""Name of a family -> function, sizes, more arguments."""


def _writer(function: str, options: dict[str, Any]) -> Write:
    def write(path: Path, size: int) -> None:
        # imported by the child that writes: h5py's memory would count as that of what is measured
        sys.path.insert(0, str(ROOT / "tests" / "support" / "hostile_files"))
        import hostile_graphs

        config = getattr(hostile_graphs, function)(size, **options)
        (hostile_graphs.whole if options.get("old") else hostile_graphs.archive)(path, config)

    return write


GRAPHS = {
    name: Case(_writer(function, options), ".h5" if options.get("old") else ".keras", sizes)
    for name, (function, sizes, options) in FAMILIES.items()
}
"""Name of a family -> how its files are written."""
