"""Our own recurrent cells against the native ones and against a naive loop, as ratios.

    python benchmarks/cells.py [--seconds 4] [--threads 1]

An own cell projects the whole input in one matrix product and does one more a step; the naive loop
writes the equations as they stand: it projects each step anew, with a product for every gate. All
sides compute the same function here. They take turns, so that whatever else runs on the machine
hits them alike; times are medians, and ratios medians of the ratios of each round. The run fails
if the naive loop wins anywhere.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

import xlstm
from xlstm.ir.graph import chain
from xlstm.ir.kinds import KINDS
from xlstm.ir.layers import GRU, LSTM, LayerSpec, Recurrent
from xlstm.ir.source import Source

STEPS = 100
UNITS = (32, 128, 512)
BATCHES = (1, 32)
LEAST = 5
"""Rounds of a contest, however slow it is."""

Run = Callable[[], object]


@dataclass(frozen=True)
class Contest:
    """One function by our own cell, by a naive loop, and by a native layer if there is one."""

    name: str
    units: int
    batch: int
    sides: dict[str, Run]


def own_class(spec: Recurrent) -> type[nn.Module]:
    """The class of our own cell, out of a port that needs it."""
    zeros = {
        tensor: np.zeros(
            [{**spec.sizes(), "g": len(KINDS[spec.weight_kind].gates), "s": 1}[a] for a in axes]
        )
        for tensor, axes in KINDS[spec.weight_kind].tensors.items()
    }
    layers: list[tuple[str, LayerSpec, bool]] = [("cell", spec, True)]
    model = chain("own", layers, (None, spec.features), {"cell": zeros}, Source("benchmark"))
    return type(xlstm.port(model, "torch").cell)


def naive_lstm(cell: nn.Module, x: Tensor) -> Tensor:
    """The equations as they stand: every step projects its input, gate by gate."""
    w, u = ([m.t() for m in p.chunk(4)] for p in (cell.weight_ih_l0, cell.weight_hh_l0))
    b, d = (p.chunk(4) for p in (cell.bias_ih_l0, cell.bias_hh_l0))
    h = c = x.new_zeros(len(x), cell.hidden_size)
    outputs = []
    for t in range(x.shape[1]):
        i, f, g, o = (x[:, t] @ w[k] + b[k] + h @ u[k] + d[k] for k in range(4))
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1)


def naive_gru(cell: nn.Module, x: Tensor) -> Tensor:
    """The equations as they stand: every step projects its input, gate by gate."""
    w, u = ([m.t() for m in p.chunk(3)] for p in (cell.weight_ih_l0, cell.weight_hh_l0))
    b, d = (p.chunk(3) for p in (cell.bias_ih_l0, cell.bias_hh_l0))
    h = x.new_zeros(len(x), cell.hidden_size)
    outputs = []
    for t in range(x.shape[1]):
        r, z = (torch.sigmoid(x[:, t] @ w[k] + b[k] + h @ u[k] + d[k]) for k in (0, 1))
        n = torch.tanh(x[:, t] @ w[2] + b[2] + r * (h @ u[2] + d[2]))
        h = (1 - z) * n + z * h
        outputs.append(h)
    return torch.stack(outputs, 1)


def torch_contests() -> Iterator[Contest]:
    """PyTorch: our cells with the functions of the native ones."""
    kinds = (
        ("nn.LSTM", nn.LSTM, own_class(LSTM(2, 3, "relu")), naive_lstm),
        ("nn.GRU", nn.GRU, own_class(GRU(2, 3, "relu")), naive_gru),
    )
    for name, native_class, cell_class, naive in kinds:
        for units in UNITS:
            native = native_class(units, units, batch_first=True)
            cell = cell_class(units, units)
            cell.load_state_dict(native.state_dict())
            for batch in BATCHES:
                x = torch.randn(batch, STEPS, units)
                sides = {
                    "native": lambda m=native, x=x: m(x)[0],
                    "own": lambda m=cell, x=x: m(x)[0],
                    "naive": lambda m=cell, x=x, run=naive: run(m, x),
                }
                yield Contest(f"PyTorch, {name}", units, batch, sides)


CONTESTS: list[Callable[[], Iterator[Contest]]] = [torch_contests]
"""Every framework's contests; a framework without a native side leaves it out."""


def rounds(contest: Contest, seconds: float) -> dict[str, list[float]]:
    """Seconds of each side in every round; in a round each side runs once."""
    found: dict[str, list[float]] = {name: [] for name in contest.sides}
    outputs = [np.asarray(run()) for run in contest.sides.values()]
    for y in outputs[1:]:
        np.testing.assert_allclose(y, outputs[0], rtol=0, atol=1e-4)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, found.values())) < LEAST:
        for name, run in contest.sides.items():
            start = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - start)
    return found


def ratio(found: dict[str, list[float]], slow: str, fast: str) -> float:
    """Median over the rounds of how many times as long one side took as the other."""
    return statistics.median(a / b for a, b in zip(found[slow], found[fast], strict=True))


def row(contest: Contest, found: dict[str, list[float]]) -> list[str]:
    """One line of the table."""
    cells = [contest.name, f"{contest.units}", f"{contest.batch}"]
    for side in ("native", "own", "naive"):
        cells.append(f"{1e3 * statistics.median(found[side]):.2f}" if side in found else "-")
    cells.append(f"{ratio(found, 'own', 'native'):.2f}" if "native" in found else "-")
    return [*cells, f"{ratio(found, 'naive', 'own'):.2f}"]


def main() -> int:
    """Runs every contest and prints a table; 1 if the naive loop wins one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4, help="least time for each contest")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    heads = ("cell", "units", "batch", "native ms", "own ms", "naive ms", "own/native", "naive/own")
    table, won = Table(*heads), True
    with torch.no_grad():
        for contests in CONTESTS:
            for contest in contests():
                found = rounds(contest, options.seconds)
                won &= ratio(found, "naive", "own") > 1
                table.add_row(*row(contest, found))
    Console(width=100).print(table)
    return 0 if won else 1


if __name__ == "__main__":
    sys.exit(main())
