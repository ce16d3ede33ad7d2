"""Right ports, well and ill conditioned, none of which may be called wrong."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from cases import CASES, model, trained_weights
from cases_layers import CASES_LAYERS

from mutators.hand import Net
from mutators.mutant import Port
from mutators.sources import HARD, SEQUENCE, SOURCES
from xlstm.ir.graph import Model
from xlstm.ir.layers import GRU, LSTM, Bidirectional, LayerSpec, SimpleRNN
from xlstm.ir.types import Array

EVERY = {**CASES, **CASES_LAYERS}


@dataclass(frozen=True)
class Right:
    """One right port.

    Attributes:
        kind: a row of the table.
        name: which one it is.
        model: what is ported, or a live module, for `reconcile`.
        framework: whose port.
        port: a port written by hand; None for the one that `reconcile` makes.
        inputs: arrays to run, None for those that the product makes.
        rounded: whether it keeps rounded weights, so that outputs are compared for its own.
    """

    kind: str
    name: str
    model: Any
    framework: str = "torch"
    port: Port | None = field(default=None, repr=False)
    inputs: list[Array] | None = field(default=None, repr=False)
    rounded: bool = False


def reseeded(case: Model, seed: int, gain: float = 1.0) -> Model:
    """The same layers with other random weights."""
    rng = np.random.default_rng([seed, 3])
    weights = {
        node.name: found
        for node in case.layers
        if not node.layer and (found := trained_weights(node.spec, rng, gain))
    }
    return replace(case, weights=weights)


def case(name: str, framework: str, seed: int) -> Right:
    """A model of the conformance suite, ported by the product."""
    return Right(f"conformance cases, {framework}", name, reseeded(EVERY[name], seed), framework)


def by_hand(name: str, seed: int) -> Iterator[Right]:
    """A hand-written port of native layers, and one of loops."""
    source = SOURCES[name](seed)
    for native, how in ((True, "native layers"), (False, "loops"), (None, "cells of Linears")):
        port = _hand(source, native=native)
        yield Right("hand-written PyTorch", f"{name}, {how}", source, port=port)


def live_module(name: str, seed: int) -> Right:
    """A module of PyTorch as people write them, which the product reads."""
    from torch_modules import MODULES

    torch.manual_seed(seed)
    module = MODULES[name]()
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return Right("live PyTorch modules", name, module.eval())


def first_document(seed: int, scale: float) -> tuple[Model, list[Array]]:
    """20 units of relu on the numbers 0, 20, ... 380, as one famous example has them."""
    rng = np.random.default_rng([seed, 4])
    made = model([LSTM(1, 20, "relu", HARD, **SEQUENCE)], (None, 1), seed=seed)
    held = {name: dict(layer) for name, layer in made.weights.items()}
    turn = np.linalg.qr(rng.standard_normal((4, 20, 20)))[0].astype(np.float32)
    for layer in held.values():
        layer["kernel"] = (layer["kernel"] * np.float32(0.3)).astype(np.float32)
        layer["recurrent"] = (turn * np.float32(scale)).astype(np.float32)
    x = np.arange(0, 400, 20, dtype=np.float32).reshape(1, 20, 1)
    return replace(made, weights=held), [x]


def _sequence(spec: LayerSpec, features: int, steps: int, gain: float, seed: int) -> Right:
    made = model([spec], (None, features), gain=gain, seed=seed)
    x = np.random.default_rng([seed, 5]).standard_normal((2, steps, features))
    kind = f"{spec.kind}, {steps} steps, gain {gain:g}"
    return Right("", kind, made, inputs=[x.astype(np.float32)])


def _scaled(spec: LayerSpec, features: int, weights: float, bias: float, seed: int) -> Right:
    """Weights multiplied, and biases moved, so that gates are nearly always open or shut."""
    made = model([spec], (None, features), seed=seed)
    held = {
        name: {
            t: (a * np.float32(weights if "bias" not in t else 1.0)).astype(np.float32)
            + np.float32(bias if "bias" in t else 0.0)
            for t, a in layer.items()
        }
        for name, layer in made.weights.items()
    }
    words = f"{spec.kind}, weights x {weights:g}, biases + {bias:g}"
    return Right("", words, replace(made, weights=held))


def two_biases(case: Model, seed: int) -> Model:
    """A model of recurrent layers, each with a second bias that is not zero."""
    rng = np.random.default_rng([seed, 6])
    held = {
        name: {
            t: rng.standard_normal((2, *a.shape[1:])).astype(np.float32)
            if t.endswith("bias")
            else a
            for t, a in layer.items()
        }
        for name, layer in case.weights.items()
    }
    return replace(case, weights=held)


def ill_conditioned(seed: int) -> Iterator[Right]:
    """Models whose rounding is large, or grows, or vanishes."""
    for scale in (0.3, 0.6, 0.9, 1.2):
        made, inputs = first_document(seed, scale)
        for port in (None, True):
            hand = _hand(made) if port else None
            words = f"recurrent weights x {scale:g}{', by hand' if hand else ''}"
            yield Right("relu LSTM up to 400", words, made, port=hand, inputs=inputs)
    for gain in (1.5, 3.0):
        for units in (16, 64):
            for steps in (50, 200):
                found = _sequence(SimpleRNN(3, units, **SEQUENCE), 3, steps, gain, seed)
                yield replace(found, kind="chaotic SimpleRNN")
            spec = SimpleRNN(3, units, **SEQUENCE)
            free = model([spec], (None, 3), gain=gain, seed=seed)
            yield Right("chaotic SimpleRNN", f"{units} units, own inputs, gain {gain:g}", free)
            for framework in ("keras", "nnx", "linen"):
                words = f"{units} units, own inputs, gain {gain:g}, {framework}"
                yield Right("chaotic SimpleRNN", words, free, framework)
            for steps in (None, 100):
                last = model([SimpleRNN(3, units)], (steps, 3), gain=gain, seed=seed)
                words = f"{units} units, last output, steps {steps or 'any'}, gain {gain:g}"
                yield Right("chaotic SimpleRNN", words, last)
    for spec in (LSTM(3, 5), GRU(3, 5, **SEQUENCE), LSTM(3, 5, "tanh", HARD, **SEQUENCE)):
        for weights, bias in ((10, 0), (100, 0), (1, 15), (1, -15), (3, 30)):
            yield replace(_scaled(spec, 3, weights, bias, seed), kind="large or saturated")
    for name in ("lstm", "both-lstm", "gru", "rnn", "masked-lstm-last"):
        made = two_biases(SOURCES[name](seed), seed)
        for framework in ("torch", "nnx", "linen", "keras"):
            if not ("gru" in name and framework == "keras"):
                yield Right("two biases folded", f"{name}, {framework}", made, framework)


def folded(seed: int) -> Iterator[Right]:
    """Ports by hand that add two biases up in float32, as frameworks with one bias want it."""
    for name in ("lstm", "rnn", "both-lstm", "masked-lstm-last", "gru-before"):
        made = two_biases(SOURCES[name](seed), seed)
        held = {
            node: {t: a.sum(0, keepdims=True) if t.endswith("bias") else a for t, a in own.items()}
            for node, own in made.weights.items()
        }
        for native in (True, False):
            words = f"{name}, {'native layers' if native else 'loops'}"
            port = _hand(made, held, native)
            yield Right("two biases folded by hand", words, made, port=port, rounded=True)


def long(seed: int) -> Iterator[Right]:
    """Sequences of 2,000 steps."""
    half = GRU(3, 4, **SEQUENCE)
    both = Bidirectional(half, replace(half, go_backwards=True))
    specs = [LSTM(3, 6, **SEQUENCE), GRU(3, 6, **SEQUENCE), SimpleRNN(3, 8, **SEQUENCE), both]
    for spec in (*specs, LSTM(3, 6), LSTM(3, 6, "relu", HARD, **SEQUENCE)):
        found = _sequence(spec, 3, 2000, 0.7 if "relu" in repr(spec) else 1.0, seed)
        yield replace(found, kind="2,000 steps")


def _hand(made: Model, weights: Any = None, native: bool | None = False) -> Port:
    """A port written by hand, with other weights if some are given."""
    net = Net(made, weights=weights, native=native)
    return lambda dtype: copy.deepcopy(net).to(getattr(torch, dtype))
