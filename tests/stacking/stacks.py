"""Models of one architecture with different weights, and inputs for them."""

from dataclasses import replace

import numpy as np

from xlstm.ir.layers import Input
from xlstm.testing.trained_weights import trained_weights


def siblings(model, count=3):
    """Returns models of one graph whose weights have the size of trained ones."""
    found = {}
    for seed in range(count):
        rng = np.random.default_rng(seed)
        weights = {name: trained_weights(model.node(name).spec, rng) for name in model.weights}
        found[f"m{seed}"] = replace(model, weights=weights)
    return found


def inputs(model, *lead, seed=3):
    """Returns an array for each input of a model, with these axes before the batch."""
    rng, found = np.random.default_rng(seed), []
    for name in model.inputs:
        spec = model.node(name).spec
        assert isinstance(spec, Input)
        shape = (*lead, 4, *(6 if size is None else size for size in spec.shape))
        if spec.dtype == "bool":
            found.append(rng.random(shape) > 0.3)
        elif "int" in spec.dtype:
            found.append(rng.integers(0, 5, shape).astype(np.float32))
        else:
            found.append(rng.standard_normal(shape).astype(np.float32))
    return found


def padded(x):
    """Returns an input of a Masking layer with masked steps, one row of them alone."""
    x = np.array(x)
    x[..., 0, :, :] = 0
    x[..., 1, 3:, :] = 0
    x[..., 2, :2, :] = 0
    return x


def flat(outputs):
    """Returns all outputs as a list of numpy arrays."""
    if isinstance(outputs, dict):
        return [np.asarray(y) for y in outputs.values()]
    if isinstance(outputs, (tuple, list)):
        return [array for part in outputs for array in flat(part)]
    return [np.asarray(outputs)]
