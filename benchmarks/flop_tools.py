"""The frameworks' own counters of operations on one LSTM, beside ours.

    python benchmarks/flop_tools.py

LSTM(32) on 16 features, batch 1, for 10 and for 100 steps. Tools that print FLOPs count a
multiply-add as two, and XLA counts a sigmoid as three.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import torch
from flax import linen
from torch.utils.flop_counter import FlopCounterMode

from xlstm.counting.operations.model_operations import EQUATIONS, Work, count_operations
from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, LSTM, Recurrent
from xlstm.ir.source import Source
from xlstm.rendering.tables import add, grid, to_text

FEATURES, UNITS = 16, 32
STEPS = (10, 100)


def by_torch(
    layer: type[torch.nn.RNNBase], dtype: torch.dtype = torch.float32
) -> Callable[[int], int]:
    """FlopCounterMode of a native layer of PyTorch, on the CPU."""

    def count(steps: int) -> int:
        module = layer(FEATURES, UNITS, batch_first=True, dtype=dtype)
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            module(torch.zeros(1, steps, FEATURES, dtype=dtype))
        return int(counter.get_total_flops())

    return count


def _linen(steps: int) -> tuple[linen.RNN, Any]:
    return linen.RNN(linen.OptimizedLSTMCell(UNITS)), jnp.zeros((1, steps, FEATURES))


def by_xla(steps: int) -> int:
    """The cost analysis of XLA, before it optimises."""
    module, x = _linen(steps)
    variables = module.init(jax.random.key(0), x)
    return int(jax.jit(module.apply).lower(variables, x).cost_analysis()["flops"])


def by_tabulate(steps: int) -> int:
    """The first row of `linen.tabulate`, which is the whole module."""
    module, x = _linen(steps)
    plain = {"no_color": True, "width": 200}
    text = module.tabulate(
        jax.random.key(0), x, compute_flops=True, console_kwargs={**plain, "force_terminal": False}
    )
    row = next(line for line in text.splitlines() if re.match(r"│\s+│ RNN", line))
    return int(row.split("│")[5])


def by_us(spec: Recurrent) -> Work:
    """The operations of a layer, as polynomials."""
    model = chain("lstm", [("lstm", spec, True)], (None, FEATURES), {}, Source("keras"))
    return count_operations(model, ()).layers[0].work[EQUATIONS]


def main() -> None:
    """Prints the table."""
    lstm, gru = (by_us(cls(FEATURES, UNITS, return_sequences=True)) for cls in (LSTM, GRU))
    products = lstm.products
    as_xla = 2 * products + lstm.elementwise + 3 * dict(lstm.calls)["sigmoid"]
    ours = [
        ("LSTM: our multiply-adds", products),
        ("LSTM: twice these", 2 * products),
        ("LSTM: with elementwise ones, and 3 a sigmoid", as_xla),
        ("GRU: twice our multiply-adds", 2 * gru.products),
    ]
    theirs = [
        ("torch FlopCounterMode, nn.LSTM", by_torch(torch.nn.LSTM)),
        ("torch FlopCounterMode, nn.LSTM in float64", by_torch(torch.nn.LSTM, torch.float64)),
        ("torch FlopCounterMode, nn.GRU", by_torch(torch.nn.GRU)),
        ("XLA cost_analysis, Linen LSTM", by_xla),
        ("linen.tabulate, Linen LSTM", by_tabulate),
    ]
    table = grid(["counter", *(f"T {steps}" for steps in STEPS)])
    for name, count in ours:
        add(table, name, *(f"{count.at(T=steps):,}" for steps in STEPS))
    table.end_section()
    for name, counter in theirs:
        add(table, name, *(f"{counter(steps):,}" for steps in STEPS))
    sys.stdout.write(to_text(table) + "\n")


if __name__ == "__main__":
    main()
