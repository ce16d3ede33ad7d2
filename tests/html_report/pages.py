"""Reports of small models as files, for the tests that look at them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from cases import model, trained_weights

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense
from xlstm.ir.source import Source
from xlstm.porting.port import build

SCRIPT = "<script>document.title='run'</script>"
QUOTES = '"quo\'te" onload="document.title=\'run\'" &amp;'
RTL = "rtl\u202e\u200f \u05d0\u05d1\u05d2 \u0645\u0631\u062d\u0628\u0627"
LONG = "x" * 10_000
NAMES = (SCRIPT, QUOTES, RTL, LONG)
"""Names of layers that a hostile file may have."""


def hostile():
    """A model whose every text is hostile."""
    halves = [LSTM(4, 4, return_sequences=True, go_backwards=back) for back in (False, True)]
    specs = [
        LSTM(3, 4, return_sequences=True),
        GRU(4, 4, return_sequences=True),
        Bidirectional(*halves),
        LSTM(8, 4, activation="relu"),
    ]
    rng = np.random.default_rng(1)
    weights = {name: trained_weights(spec, rng) for name, spec in zip(NAMES, specs, strict=True)}
    layers = [(name, spec, True) for name, spec in zip(NAMES, specs, strict=True)]
    warnings = ("<img src=x onerror=\"document.title='run'\">",)
    source = Source("keras", "2.4", "HDF5 <i>", "a 'b<script>.h5", "0" * 64, warnings=warnings)
    return chain(f"<b>{SCRIPT}</b>", layers, (None, 3), weights, source)


def different():
    """A report on a port with wrong weights, and on a right one."""
    right = model([LSTM(3, 6, return_sequences=True), Dense(6, 2)], (None, 3))
    weights = {
        name: {tensor: array * (1 + 1e-5) for tensor, array in every.items()}
        for name, every in right.weights.items()
    }
    wrong, torch = replace(right, weights=weights), registry.adapter("torch")
    makers = {"torch": lambda _live, dtype: (build(wrong, torch, dtype), "a module of yours")}
    return xlstm.reconcile(right, ["torch", "nnx"], states=True, makers=makers)


def undecided():
    """A report on a chaotic model, most of whose steps have no verdict."""
    wild = model([GRU(3, 30, return_sequences=True)], (None, 3), gain=6.0)
    x = np.random.default_rng(0).standard_normal((2, 300, 3))
    return xlstm.reconcile(wild, ["torch"], [x], states=True)


def deep(number):
    """A report on a chain of LSTM layers."""
    layers = [LSTM(4, 4, return_sequences=True) for _ in range(number)]
    return xlstm.reconcile(model(layers, (None, 4)), ["torch"], states=True)


def very_deep(number):
    """A report on many layers, with the errors of two layers for those of all."""
    few = deep(2)
    part, many = (
        few.frameworks["torch"],
        model([LSTM(4, 4, return_sequences=True)] * number, (None, 4)),
    )
    layers = {
        dtype: {
            f"{node.name}, every step": [*found.values()][n % 2]
            for n, node in enumerate(many.layers)
        }
        for dtype, found in part.layers.items()
    }
    named = {
        dtype: {name: v.named(name) for name, v in found.items()} for dtype, found in layers.items()
    }
    every = {
        name: replace(part, name=name, title=f"{name} here", layers=named)
        for name in ("keras", "nnx", "linen")
    }
    ledger = xlstm.count(many)
    found = {**every, "torch": replace(part, layers=named)}
    return replace(few, model=many, ledger=ledger, frameworks=found)
