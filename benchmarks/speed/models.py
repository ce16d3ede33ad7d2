"""Models of one recurrent layer with weights of a trained size, and inputs for them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xlstm.ir import layers as L
from xlstm.ir.graph import Model, chain
from xlstm.ir.kinds import KINDS
from xlstm.ir.source import Source
from xlstm.ir.types import Array

STEPS = 100
FEATURES = 16
SEED = 17


def random_weights(spec: L.LayerSpec, rng: np.random.Generator) -> dict[str, Array]:
    """Returns weights of a layer by name, float32, about as large as trained ones."""
    kind = KINDS[spec.weight_kind]
    reset_after = isinstance(spec, L.GRU) and spec.reset_after
    sizes = {**kind.axis_sizes(spec.sizes()), "s": 2 if reset_after else 1}
    shapes = {name: [sizes[axis] for axis in axes] for name, axes in kind.tensors.items()}
    scale = 1 / np.sqrt(spec.units) if isinstance(spec, L.Recurrent) else 0.3
    return {
        name: rng.normal(0, scale, shape).astype("float32")
        for name, shape in shapes.items()
        if name != "bias" or getattr(spec, "use_bias", True)
    }


@dataclass(frozen=True)
class Case:
    """A layer to time.

    Attributes:
        spec: the layer; it returns sequences.
        masked: True if a Masking layer stands before it.
    """

    spec: L.LSTM | L.GRU
    masked: bool = False

    def model(self) -> Model:
        """Returns the model: (batch, time, features) -> (batch, time, units)."""
        weights = {"layer": random_weights(self.spec, np.random.default_rng(SEED))}
        layers: list[tuple[str, L.LayerSpec, bool]] = [("layer", self.spec, True)]
        if self.masked:
            layers.insert(0, ("masking", L.Masking(), True))
        shape = (None, self.spec.features)
        return chain("timed", layers, shape, weights, Source("keras", version="3.15.1"))

    def inputs(self, batch: int, steps: int = STEPS) -> Array:
        """Returns (batch, steps, features), float32; with a mask, every fourth step is masked."""
        rng = np.random.default_rng(SEED + 1)
        x = rng.standard_normal((batch, steps, self.spec.features)).astype("float32")
        if self.masked:
            x[rng.random((batch, steps)) < 0.25] = 0.0
        return x


def lstm(
    units: int, *, gate: str = "sigmoid", activation: str = "tanh", features: int = FEATURES
) -> L.LSTM:
    """Returns the spec of an LSTM that returns sequences."""
    options = {"activation": activation, "gate_activation": gate, "return_sequences": True}
    return L.LSTM(features, units, **options)


def gru(units: int, *, reset_after: bool = True, features: int = FEATURES) -> L.GRU:
    """Returns the spec of a GRU that returns sequences."""
    return L.GRU(features, units, reset_after=reset_after, return_sequences=True)
