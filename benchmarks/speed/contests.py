"""Contests: calls that run in turn in one process, and the claims about their ratios.

A contest is of one layer, one number of units and one batch size. Batch 1 runs on one thread on
every side, larger batches on all that the process may use.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from speed import calls
from speed.floor import floor
from speed.models import STEPS, Case, gru, lstm
from speed.timing import Call, ratio, run_rounds

UNITS = (16, 60, 200)
BATCHES = (1, 32)

Entrant = Callable[[Case, int], Call]


class Claim(NamedTuple):
    """A ratio of two calls that should not be passed.

    Attributes:
        over: name of the call whose time is divided.
        under: name of the call by whose time it is divided.
        limit: the most that the ratio should be; None for a ratio that is only printed.
    """

    over: str
    under: str
    limit: float | None


@dataclass(frozen=True)
class Contest:
    """Calls of one case that run against each other.

    Attributes:
        group: the group of contests that it belongs to.
        title: the layer, as the tables print it.
        case: layer and mask.
        batch: rows of the input.
        entrants: name -> function that makes the call; it gets the case and the batch size.
        claims: about ratios of the calls' times.
        other: cases of entrants that run another case than `case`.
        profiled: names of calls of PyTorch whose operators are measured too.
    """

    group: str
    title: str
    case: Case
    batch: int
    entrants: dict[str, Entrant]
    claims: list[Claim]
    other: dict[str, Case] = field(default_factory=dict)
    profiled: tuple[str, ...] = ()

    @property
    def threads(self) -> int:
        """Threads of every side."""
        return 1 if self.batch == 1 else len(os.sched_getaffinity(0))

    @property
    def name(self) -> str:
        """Name that selects the contest on the command line."""
        return f"{self.group}: {self.title}, {self.case.spec.units} units, batch {self.batch}"

    def run(self, rounds: int) -> dict[str, Any]:
        """Returns the measured times and ratios, as JSON."""
        made, first = {}, {}
        for name, entrant in self.entrants.items():
            case = self.other.get(name, self.case)
            made[name], first[name] = calls.prepared(entrant, case, self.batch)
        times = run_rounds(made, rounds)
        return {
            "group": self.group,
            "title": self.title,
            "units": self.case.spec.units,
            "features": self.case.spec.features,
            "kind": self.case.spec.kind,
            "batch": self.batch,
            "threads": self.threads,
            "seconds": {name: [round(t, 8) for t in every] for name, every in times.items()},
            "first_call": first,
            "floor": floor(self.case.spec, STEPS),
            "profiles": {name: calls.operators(made[name]) for name in self.profiled},
            "claims": [claim._asdict() | _measured(times, claim) for claim in self.claims],
        }


def _measured(times: dict[str, list[float]], claim: Claim) -> dict[str, float]:
    middle, low, high = ratio(times, claim.over, claim.under)
    return {"ratio": middle, "low": low, "high": high}


ACTIVATIONS = {
    "LSTM, hard_sigmoid": {"gate": "hard_sigmoid"},
    "LSTM, hard_sigmoid of Keras 2": {"gate": "hard_sigmoid_keras2"},
    "LSTM, relu": {"activation": "relu"},
}
EAGER = {1: (4.2, 3.0, 2.0), 32: (2.7, 1.5, 1.5)}
SCRIPTED = {1: (3.1, 2.5, 1.8), 32: (2.7, 1.5, 1.5)}
COMPILED = "LSTM, hard_sigmoid"
"""The layer that `torch.compile` runs too: a minute for each number of units."""
FIXED = "torch, xlstm.compile for one shape"


def own_cells() -> Iterator[Contest]:
    """Our own cells in PyTorch against `nn.LSTM` of the same size."""
    entrants = {
        "nn.LSTM": calls.torch_native,
        "torch": calls.torch_port,
        "torch, scripted": calls.torch_scripted,
        "torch, xlstm.compile": calls.torch_compiled,
    }
    for title, options in ACTIVATIONS.items():
        for batch in BATCHES:
            for place, units in enumerate(UNITS):
                claims = [
                    Claim("torch", "nn.LSTM", EAGER[batch][place]),
                    Claim("torch, scripted", "nn.LSTM", SCRIPTED[batch][place]),
                    Claim("torch, xlstm.compile", "nn.LSTM", None),
                ]
                runs = dict(entrants)
                if title == COMPILED and batch == 1:
                    runs[FIXED] = calls.torch_fixed
                    claims.append(Claim(FIXED, "nn.LSTM", 1.3))
                case = Case(lstm(units, **options))
                shown = ("torch", "nn.LSTM") if title == COMPILED and units == UNITS[-1] else ()
                yield Contest("own cells", title, case, batch, runs, claims, profiled=shown)


MASKED = (1.8, 1.5, 1.25)
MASKED_WITH_CELL = (5.0, 3.0, 1.5)


def masks() -> Iterator[Contest]:
    """Layers with a mask against the same port without one."""
    from dataclasses import replace

    entrants = {"unmasked": calls.torch_port, "masked": calls.torch_port}
    for batch in BATCHES:
        for place, units in enumerate(UNITS):
            kinds = {
                "LSTM": (lstm(units), MASKED),
                "GRU": (gru(units), MASKED),
                "LSTM with c": (replace(lstm(units), return_state=True), MASKED_WITH_CELL),
            }
            for title, (spec, limits) in kinds.items():
                claims = [Claim("masked", "unmasked", limits[place])]
                other = {"unmasked": Case(spec)}
                case = Case(spec, masked=True)
                yield Contest("masks", title, case, batch, entrants, claims, other)


PEERS: dict[str, Entrant] = {
    "Keras predict": calls.keras_predict,
    "Keras tf.function": calls.keras_function,
    "torch": calls.torch_port,
    "nnx, xlstm.compile": calls.nnx_compiled,
    "nnx, nnx.jit": calls.nnx_jit,
    "linen, jax.jit": calls.linen_jit,
    "numpy": calls.numpy_port,
}
OVER_KERAS = {1: (2.0, 20.0), 32: (1.4, 10.0)}
"""Batch -> how much faster ports should be than `tf.function`, and than `predict`."""


def against_keras() -> Iterator[Contest]:
    """Every port against the Keras model that it came from, and against onnxruntime."""
    cases = {
        "LSTM, hard_sigmoid": Case(lstm(60, gate="hard_sigmoid")),
        "LSTM, relu": Case(lstm(60, activation="relu")),
        "GRU, reset_after=False": Case(gru(60, reset_after=False)),
        "LSTM after Masking": Case(lstm(60), masked=True),
        "LSTM": Case(lstm(60)),
        "LSTM, 64 features": Case(lstm(128, features=64)),
    }
    for title, case in cases.items():
        for batch in BATCHES:
            entrants = dict(PEERS)
            if not case.masked:
                entrants["onnxruntime"] = calls.onnx_session
            yield Contest("keras", title, case, batch, entrants, _peer_claims(case, batch))


def _peer_claims(case: Case, batch: int) -> list[Claim]:
    function, predict = OVER_KERAS[batch]
    claims = []
    for port in ("torch", "nnx, xlstm.compile", "linen, jax.jit"):
        claims.append(Claim(port, "Keras tf.function", 1 / function))
        claims.append(Claim(port, "Keras predict", 1 / predict))
    claims.append(Claim("nnx, xlstm.compile", "linen, jax.jit", 1.1))
    if batch == 1:
        claims.append(Claim("numpy", "Keras predict", 1 / 50))
    if batch == 32 and not case.masked:
        limit = 1.2 if case.spec.units == 128 else 1.0
        claims.append(Claim("nnx, xlstm.compile", "onnxruntime", limit))
        claims.append(Claim("linen, jax.jit", "onnxruntime", limit))
    return claims


NUMPY = (2.3, 2.0, 1.3)


def numpy_runtime() -> Iterator[Contest]:
    """The numpy port at batch 1 against `nn.LSTM`."""
    entrants = {"nn.LSTM": calls.torch_native, "numpy": calls.numpy_port}
    for place, units in enumerate(UNITS):
        claims = [Claim("numpy", "nn.LSTM", NUMPY[place])]
        yield Contest("numpy", "LSTM", Case(lstm(units)), 1, entrants, claims)


TRAINING = {"native": {1: 1.4, 32: 1.4}, "own": {1: 1.3, 32: 0.9}}


def training() -> Iterator[Contest]:
    """A training step of the PyTorch port against the compiled Keras model."""
    entrants = {"Keras train_on_batch": calls.keras_training, "torch": calls.torch_training}
    for batch in BATCHES:
        cases = {
            "LSTM": (Case(lstm(60)), "native"),
            "GRU": (Case(gru(60)), "native"),
            "LSTM, hard_sigmoid": (Case(lstm(60, gate="hard_sigmoid")), "own"),
            "LSTM, relu": (Case(lstm(60, activation="relu")), "own"),
            "GRU, reset_after=False": (Case(gru(60, reset_after=False)), "own"),
        }
        for title, (case, kind) in cases.items():
            claims = [Claim("torch", "Keras train_on_batch", 1 / TRAINING[kind][batch])]
            yield Contest("training", title, case, batch, entrants, claims)


GROUPS: dict[str, Callable[[], Iterator[Contest]]] = {
    "own cells": own_cells,
    "masks": masks,
    "keras": against_keras,
    "numpy": numpy_runtime,
    "training": training,
}
