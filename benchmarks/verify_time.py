"""How long `xlstm verify` of small models takes, next to importing the frameworks it runs.

    python benchmarks/verify_time.py [--frameworks torch,nnx] [--rounds 7]

Every figure is a fresh process: the imports alone, and the whole command `xlstm verify`, in turn,
so that both see the same machine. The medians and the ratio of the medians are printed; the goal is
a ratio of at most 2 with PyTorch and Flax NNX.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import xlstm
from xlstm.ir.graph import chain
from xlstm.ir.kinds import KINDS
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, LayerSpec, Masking
from xlstm.ir.source import Source
from xlstm.ir.types import Shape

IMPORTS = {
    "torch": "import torch",
    "nnx": "import jax; from flax import nnx",
    "linen": "import jax, flax.linen",
    "keras": "import keras",
}
GOAL = 2.0


def saved(folder: Path, name: str, specs: list[LayerSpec], shape: Shape) -> Path:
    """A model with random weights, as a file of Keras."""
    rng = np.random.default_rng(0)
    layers = [(f"{spec.kind.lower()}_{n}", spec, True) for n, spec in enumerate(specs)]
    weights = {
        layer: {
            before + tensor: array
            for before, part in spec.weighted_parts
            for tensor, array in arrays(part, rng).items()
        }
        for layer, spec, _ in layers
        if spec.weighted_parts
    }
    model = chain(name, layers, shape, weights, Source("keras"))
    return Path(xlstm.save(model, folder / name, "keras"), "model.keras")


def arrays(part: LayerSpec, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Random hub weights of a layer."""
    kind = KINDS[part.weight_kind]
    known = {**kind.axis_sizes(part.sizes()), "s": 2 if part.weight_kind == "GRU" else 1}
    shapes = {name: [known[axis] for axis in axes] for name, axes in kind.tensors.items()}
    return {name: rng.normal(0, 0.4, shape).astype("float32") for name, shape in shapes.items()}


def models(folder: Path) -> dict[str, Path]:
    """Name -> file or folder."""
    gru = {"return_sequences": True}
    both = Bidirectional(GRU(3, 8, **gru), GRU(3, 8, go_backwards=True, **gru))
    stack: list[LayerSpec] = [LSTM(3, 16, **gru), LSTM(16, 16), Dense(16, 4, "softmax")]
    return {
        "demo (LSTM, Dense)": xlstm.demo.path(),
        "two LSTMs, Dense": saved(folder, "stack", stack, (None, 3)),
        "masked Bidirectional(GRU)": saved(folder, "masked", [Masking(), both], (None, 3)),
    }


def seconds(*command: str) -> float:
    """Wall time of a process that has to succeed."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    start = time.perf_counter()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Prints the table; 1 where a ratio misses the goal."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--frameworks", default="torch,nnx")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    imports = "; ".join(IMPORTS[name] for name in arguments.frameworks.split(","))
    alone = (sys.executable, "-c", imports)
    verify = (
        sys.executable,
        "-m",
        "xlstm.cli.main",
        "verify",
        "--frameworks",
        arguments.frameworks,
    )
    table = Table("model", "imports, s", "verify, s", "ratio")
    worst = 0.0
    with tempfile.TemporaryDirectory() as folder:
        for name, path in models(Path(folder)).items():
            rounds = range(arguments.rounds)
            pairs = [(seconds(*alone), seconds(*verify, str(path))) for _ in rounds]
            one, other = (statistics.median(side) for side in zip(*pairs, strict=True))
            worst = max(worst, other / one)
            table.add_row(name, f"{one:.2f}", f"{other:.2f}", f"{other / one:.2f}")
    console = Console(width=100)
    console.print(table)
    console.print(
        f"{arguments.frameworks}: medians of {arguments.rounds} rounds, worst {worst:.2f}"
    )
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
