"""Checks that a port trains as its source does: noise of the right size, and moving statistics.

In: an adapter, and the layer that acts in training. Out: nothing, or a `NotEqualError`. The layer
stands before a Dense layer, whose inputs are computed from its outputs by its known weights. Noise
is compared with its distribution, at 5 standard deviations of 4,000 numbers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xlstm.errors import NotEqualError
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import trained_layer, training_notes, unpack_model
from xlstm.ir.graph import Model
from xlstm.ir.layers import BatchNorm, Dense, Dropout, LayerSpec, TrainingOnly
from xlstm.ir.types import Array, Shape
from xlstm.porting.port import build
from xlstm.testing.models import chained

FEATURES, ROWS, STEPS = 4, 1000, 5
SEEDS = (3, 4)
DTYPE = "float32"

SIGMAS = 5.0
"""Deviations within which a mean of random numbers has to lie: a right port fails once in 10^6."""

CLOSE = 1e-3
"""Tolerance of numbers that float32 computes through one Dense layer and back."""

MODELS: dict[str, tuple[LayerSpec, Shape]] = {
    "Dropout": (Dropout(0.25), (FEATURES,)),
    "SpatialDropout1D": (TrainingOnly("SpatialDropout1D", 0.25), (STEPS, FEATURES)),
    "GaussianNoise": (TrainingOnly("GaussianNoise", 0.5), (FEATURES,)),
    "GaussianDropout": (TrainingOnly("GaussianDropout", 0.2), (FEATURES,)),
    "AlphaDropout": (TrainingOnly("AlphaDropout", 0.2), (FEATURES,)),
    "BatchNorm": (BatchNorm(FEATURES, 1e-3, 0.8), (FEATURES,)),
}
"""Layer that acts in training -> its spec, and the shape of a sample."""

NOISE = ("GaussianNoise", "GaussianDropout", "AlphaDropout")
"""Layers for inputs of mean 0 and deviation 1; the others get none near zero, to divide by."""


def training_model(layer: str) -> Model:
    """Returns the layer of a name in `MODELS`, with a Dense layer after it."""
    spec, shape = MODELS[layer]
    return chained([spec, Dense(FEATURES, FEATURES)], shape)


@dataclass(frozen=True)
class TrainingRun:
    """One call of a port in training mode.

    Attributes:
        model: the source of the port.
        x: the input, (batch, ..., features).
        y: the output of the layer, of the same shape, before the Dense layer.
        weights: canonical weights after the call, by layer and tensor.
    """

    model: Model
    x: Array
    y: Array
    weights: dict[str, dict[str, Array]]

    @property
    def layer(self) -> Any:
        """The spec of the layer that acts in training."""
        return self.model.layers[0].spec


def check_training(model: Model, adapter: Adapter) -> None:
    """Raises unless a port to a framework trains as a model of `training_model` says.

    Args:
        model: one of `training_model`.
        adapter: the framework; its live half has a function `train`.

    Raises:
        NotEqualError: the port computes something else in training.
    """
    first = model.layers[0]
    name = trained_layer(first.spec)
    if not adapter.training.get(name):
        expect(model, bool(training_notes(model, adapter)), "a note that its training is left out")
        return
    live: Any = adapter.live()
    ported = build(model, adapter, DTYPE)
    x = _inputs(model)
    calm = live.run(ported, [x], DTYPE)[0]
    runs = [_run(live, ported, model, adapter, x, seed) for seed in SEEDS]
    again = live.run(ported, [x], DTYPE)[0]
    expect(model, np.array_equal(calm, again), "an unchanged port after a call of train")
    CHECKS[name](*runs)


def _inputs(model: Model) -> Array:
    """Returns numbers with a mean and a deviation that are not those of stored statistics."""
    rng = np.random.default_rng(5)
    shape = tuple(size or STEPS for size in model.shape(model.layers[0].inputs[0]))
    rows = ROWS if len(shape) == 1 else ROWS // 2
    x = rng.standard_normal((rows, *shape))
    noise = trained_layer(model.layers[0].spec) in NOISE
    return (x if noise else np.sign(x) * (1 + np.abs(x))).astype(DTYPE)


def _run(
    live: Any, ported: Any, model: Model, adapter: Adapter, x: Array, seed: int
) -> TrainingRun:
    outputs, named = live.train(ported, [x], DTYPE, seed)
    dense = model.weights[model.layers[1].name]
    shifted = np.asarray(outputs[0], "float64") - dense["bias"].reshape(-1)
    y = np.linalg.solve(dense["kernel"].T.astype("float64"), shifted[..., None])[..., 0]
    return TrainingRun(model, x, y, unpack_model(model, adapter, named))


def expect(model: Model, true: bool, wanted: str, got: object = "another result") -> None:
    """Raises NotEqualError, with the layer's name, unless a statement is true."""
    if not true:
        do = "compare the port's layer with xlstm/frameworks/adapter.py"
        raise NotEqualError(f"{model.layers[0].name} in training", wanted, got, do)


def _near(run: TrainingRun, what: str, got: float, want: float, deviation: float) -> None:
    """Raises NotEqualError unless a sampled number is within 5 deviations of the wanted one."""
    close = abs(got - want) <= SIGMAS * deviation
    expect(run.model, close, f"{what} of {want:.3g}, within {SIGMAS * deviation:.2g}", f"{got:.4g}")


def _random(first: TrainingRun, second: TrainingRun) -> None:
    differ = np.abs(first.y - second.y).max() > CLOSE
    expect(first.model, bool(differ), "other random numbers for another seed", "the same outputs")


def _check_dropout(first: TrainingRun, second: TrainingRun) -> None:
    """Checks that a share `rate` is zero, and all others are divided by 1 - rate."""
    rate = first.layer.rate
    factors = first.y / first.x
    zero = np.abs(factors) < CLOSE
    kept = np.abs(factors - 1 / (1 - rate)) < CLOSE
    expect(first.model, bool(zero.any()), "inputs set to zero in training", "none")
    expect(first.model, bool((zero | kept).all()), f"the others divided by {1 - rate}")
    if first.y.ndim > 2:
        whole = (zero == zero[:, :1]).all()
        expect(first.model, bool(whole), "whole channels set to zero", "single steps")
        zero = zero[:, 0]
    _near(first, "a share of zeros", zero.mean(), rate, (rate * (1 - rate) / zero.size) ** 0.5)
    _random(first, second)


def _check_noise(first: TrainingRun, second: TrainingRun) -> None:
    """Checks added noise of mean 0 and deviation `rate`."""
    _check_normal(first, first.y - first.x, 0.0, first.layer.rate)
    _random(first, second)


def _check_factors(first: TrainingRun, second: TrainingRun) -> None:
    """Checks factors of mean 1 and variance rate / (1 - rate)."""
    rate = first.layer.rate
    far = np.abs(first.x) > 0.1  # below it, errors of float32 are large beside the input
    _check_normal(first, (first.y / first.x)[far], 1.0, (rate / (1 - rate)) ** 0.5)
    _random(first, second)


def _check_normal(run: TrainingRun, found: Array, mean: float, deviation: float) -> None:
    _near(run, "a mean of the noise", found.mean(), mean, deviation / found.size**0.5)
    _near(
        run, "a deviation of the noise", found.std(), deviation, deviation / (2 * found.size) ** 0.5
    )


def _check_alpha(first: TrainingRun, second: TrainingRun) -> None:
    """Checks that a share `rate` has one value, and that mean and deviation are kept."""
    rate, size = first.layer.rate, first.y.size
    low = np.abs(first.y - np.median(np.sort(first.y, axis=None)[: int(rate * size / 2)])) < CLOSE
    _near(first, "a share of one value", low.mean(), rate, (rate * (1 - rate) / size) ** 0.5)
    # the dropped value is no normal number: its fourth moment widens the deviation of both
    _near(first, "a mean", first.y.mean(), first.x.mean(), 2 / size**0.5)
    _near(first, "a deviation", first.y.std(), first.x.std(), 2 / size**0.5)
    _random(first, second)


def _check_statistics(first: TrainingRun, _second: TrainingRun) -> None:
    """Checks BatchNorm: the batch's mean and variance are used, and move the stored ones."""
    node = first.model.layers[0]
    spec, before = first.layer, first.model.weights[node.name]
    after = first.weights[node.name]
    mean, variance = first.x.mean(axis=0), first.x.var(axis=0)
    wanted = before["gamma"] * (first.x - mean) / np.sqrt(variance + spec.epsilon) + before["beta"]
    gap = float(np.abs(first.y - wanted).max())
    expect(
        first.model,
        gap < 10 * CLOSE,
        "outputs by the batch's mean and variance",
        f"off by {gap:.2g}",
    )
    for name, batch in (("mean", mean), ("variance", variance)):
        moved = spec.momentum * before[name] + (1 - spec.momentum) * batch
        gap = float(np.abs(after[name] - moved).max())
        got = f"a difference of {gap:.2g}"
        expect(first.model, gap < CLOSE, f"a stored {name} moved by 1 - {spec.momentum}", got)


CHECKS: dict[str, Callable[[TrainingRun, TrainingRun], None]] = {
    "Dropout": _check_dropout,
    "SpatialDropout1D": _check_dropout,
    "GaussianNoise": _check_noise,
    "GaussianDropout": _check_factors,
    "AlphaDropout": _check_alpha,
    "BatchNorm": _check_statistics,
}
"""Layer that acts in training -> the check of two calls with different seeds."""
