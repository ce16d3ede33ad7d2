"""Tests of the PyTorch port in model.py against numbers of a reference.

Run `pytest` in this folder. It needs pytest, numpy, torch and safetensors; it does not
need xlstm.
golden.safetensors has inputs, the outputs of a float64 reference for them, and the
largest difference that is allowed at each time step in each precision. It is 8 times
what rounding alone can change.
"""

import functools
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

HERE = Path(__file__).parent
GOLDEN = load_file(HERE / "golden.safetensors")
INPUTS = [GOLDEN[f"input.{number}"] for number in range(1)]
OUTPUTS = ["forecast"]
DTYPES = ["float32", "float64"]
ROW = 1
AGAIN = (
    "If the weights were trained on, that is expected: these numbers are of the "
    "weights that were ported. To write new ones: "
    "xlstm port FOLDER --to torch -o NEW --with-tests"
)


def load_module() -> ModuleType:
    """The code in model.py beside this file, in whatever folder pytest runs."""
    spec = importlib.util.spec_from_file_location("ported_model", HERE / "model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PORT = load_module()


@functools.cache
def ported(dtype: str) -> nn.Module:
    """The model in this folder, with its weights, in evaluation mode."""
    return PORT.load(dtype=getattr(torch, dtype))


def run(dtype: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Every output of the port, for inputs of this dtype; masks are bool."""
    with torch.no_grad():
        outputs = ported(dtype)(*map(torch.from_numpy, inputs))
    found = [outputs]
    return [y.numpy() for y in found]


def differences(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The largest difference of each time step; one number for an output without time."""
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        gaps = np.abs(found.astype("float64") - truth)
    steps = gaps.reshape(1, -1) if gaps.ndim < 3 else np.moveaxis(gaps, 1, 0)
    largest: np.ndarray = steps.reshape(len(steps), -1).max(axis=1)
    return largest


def meaning(shares: np.ndarray, dtype: str) -> str:
    """The likely reason of differences, from their share of what is allowed at each step."""
    worst, first = shares.max(), int(np.argmax(shares > 1))
    single = worst / (2.0**29 if dtype == "float64" else 1)  # in units of float32
    if np.isinf(worst):
        return "NaN or infinity where the reference has none: look for them in weights."
    if worst < 10:
        return "Close to rounding: another version of a package, or another processor."
    if single < 10:
        return "As large as rounding in float32: something is computed or stored in it."
    if first > 0:
        return f"Steps before {first} agree: look at recurrent weights and at masks."
    if single < 3e4:
        return "Small: weights in half precision, a GPU in TF32, or one changed weight."
    return "Far beyond rounding: weights or code are not those that were ported."


def check(number: int, dtype: str, found: np.ndarray, truth: np.ndarray) -> None:
    """Fails if an output is further from the reference than its bound allows."""
    name, bound = OUTPUTS[number], GOLDEN[f"bound.{dtype}.{number}"]
    units = GOLDEN.get(f"units.{number}")  # of a large output, the file has only these
    found = found if units is None else found[..., units]
    wanted = truth.shape
    assert found.shape == wanted, f"{name!r} has shape {found.shape}, not {wanted}"
    gaps = differences(found, truth)
    shares = np.where(np.isnan(gaps), np.inf, gaps / bound)
    # rounding alone may decide a step with an infinite bound: it is not compared
    shares = np.where(np.isinf(bound), 0, shares)
    worst = int(np.argmax(shares))
    if shares[worst] > 1:
        step = f", time step {worst}" if found.ndim > 2 else ""
        text = f"difference {gaps[worst]:.3g}, allowed {bound[worst]:.3g}."
        lines = [f"output {name!r}{step}, {dtype}: {text}", meaning(shares, dtype)]
        pytest.fail("\n".join([*lines, AGAIN]), pytrace=False)


@functools.cache
def outputs(dtype: str, row: int | None = None) -> list[np.ndarray]:
    """Every output of the port for the golden inputs, or for one row of them."""
    rows = slice(None) if row is None else slice(row, row + 1)
    kinds = [bool if x.dtype == bool else dtype for x in INPUTS]
    inputs = [np.array(x[rows], kind) for x, kind in zip(INPUTS, kinds, strict=True)]
    found = run(dtype, inputs)
    assert len(found) == len(OUTPUTS)
    return found


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("number", range(len(OUTPUTS)), ids=OUTPUTS)
def test_output_is_that_of_the_reference(number: int, dtype: str) -> None:
    """Each output is equal to the reference up to rounding, at every time step."""
    check(number, dtype, outputs(dtype)[number], GOLDEN[f"output.{number}"])


@pytest.mark.parametrize("number", range(len(OUTPUTS)), ids=OUTPUTS)
def test_a_row_alone_is_that_of_the_batch(number: int) -> None:
    """A row in a batch of one gives the same: rows do not depend on each other."""
    truth = GOLDEN[f"output.{number}"][ROW : ROW + 1]
    check(number, "float32", outputs("float32", ROW)[number], truth)
