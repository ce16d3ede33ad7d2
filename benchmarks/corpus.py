"""Every corpus file with its framework's own outputs: what xlstm makes of it, and Keras 3 does.

    XLSTM_CORPUS=../shared/corpus python benchmarks/corpus.py [--match REGEX] [--no-keras]
    XLSTM_CORPUS=../shared/corpus python benchmarks/corpus.py --json docs/corpus.json
    python benchmarks/corpus.py --read docs/corpus.json

For each file and target: the largest difference from the original's own outputs, divided by what
two float32 runs of that model may differ by (twice the float32 bound of the verdict rule): up to 1
is rounding. "keras 3 itself" is the same for the model that Keras 3 opens the file as, or that it
does not open it. `--json` keeps the figures, and `--read` prints the table of README.md from them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import xlstm
from xlstm.errors import XlstmError
from xlstm.frameworks import registry
from xlstm.verification.bounds import bounds

CORPUS = Path(os.environ.get("XLSTM_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
TARGETS = ("numpy", "keras", "torch", "nnx", "linen")
ITSELF = "keras 3 itself"

TOLD: dict[str, dict[str, str]] = {
    "k1.0-dutch-checker-lstm/my_model_weights.h5": {"architecture": "my_model_architecture.json"},
    "k1.1-factornet-foxa1/best_model.hdf5": {"kernel_layout": "tensorflow"},
    # the same weights as those that Keras 2 wrote on TensorFlow
    "k1.2-countnet/F-CRNN_keras1.2.2.h5": {"kernel_layout": "tensorflow"},
    "k2.1-sentiment-chen0040/bidirectional_lstm_softmax_weights.h5": {
        "architecture": "bidirectional_lstm_softmax_architecture.json"
    },
    "k2.1-sentiment-chen0040/lstm_softmax_weights.h5": {
        "architecture": "lstm_softmax_architecture.json"
    },
    "k2.1-sentiment-chen0040/wordvec_cnn_lstm_weights.h5": {
        "architecture": "wordvec_cnn_lstm_architecture.json"
    },
    "k2.1-stateful-timeseries-chen0040/stateful-lstm-weights.h5": {
        "architecture": "stateful-lstm-architecture.json"
    },
}
"""What has to be said about files that do not say it themselves, as for `xlstm.load`."""

KERAS = """
import json, sys, keras, numpy as np
model = keras.models.load_model(sys.argv[1], compile=False)
golden = np.load(sys.argv[2])
xs = [golden[k] for k in sorted(k for k in golden if k.startswith("x"))]
ys = model.predict(xs if len(xs) > 1 else xs[0], batch_size=len(xs[0]), verbose=0)
np.savez(sys.argv[3], *(ys if isinstance(ys, (list, tuple)) else [ys]))
"""


@dataclass(frozen=True)
class Case:
    """One file with golden outputs."""

    name: str
    path: Path
    golden: Path
    until: str = ""

    def told(self) -> dict[str, Any]:
        found: dict[str, Any] = dict(TOLD.get(self.name, {}))
        if "architecture" in found:
            found["architecture"] = self.path.with_name(found["architecture"])
        return {**found, **({"until": self.until} if self.until else {})}

    def arrays(self, letter: str) -> list[np.ndarray[Any, Any]]:
        with np.load(self.golden) as held:
            names = sorted(
                (k for k in held if re.fullmatch(rf"{letter}\d+", k)), key=lambda k: int(k[1:])
            )
            return [held[name] for name in names]


def cases(match: str = "") -> Iterator[Case]:
    """Every file of the corpus that has golden outputs and whose name matches."""
    for project in json.loads((CORPUS / "manifest.json").read_text()):
        for file in project["files"]:
            name = f"{project['name']}/{file['file']}"
            golden = file.get("golden") or file.get("golden3")
            if golden and re.search(match, name):
                folder = CORPUS / project["name"]
                note = re.search(r"up to the layer named (\w+)", file.get("golden_note", ""))
                until = note[1] if note else ""
                yield Case(name, folder / file["file"], folder / golden, until)


def ratio(case: Case, model: Any, target: str) -> float:
    """Largest difference from the golden outputs over what two float32 runs may differ by."""
    inputs = case.arrays("x")
    ported = xlstm.port(model, target)
    if target == "numpy":
        found = ported(*inputs)
        found = found[0] if model.stateful else found
        found = list(found) if isinstance(found, tuple) else [found]
    else:
        found = registry.adapter(target).live().run(ported, inputs, "float32")
    return worst(case, model, found)


def worst(case: Case, model: Any, found: list[np.ndarray[Any, Any]]) -> float:
    """Largest difference of outputs from the golden ones over what two runs may differ by."""
    inputs, golden = case.arrays("x"), case.arrays("y")
    return max(
        float(np.abs(np.float64(y) - want).max() / (2 * allowed.step.max()))
        for y, want, allowed in zip(found, golden, bounds(model, inputs, "float32"), strict=False)
    )


def keras_itself(case: Case, model: Any) -> float | None:
    """The same for what Keras 3 makes of the file, in a process of its own; None if it fails."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    with tempfile.TemporaryDirectory() as folder:
        outputs = str(Path(folder, "y.npz"))
        command = [sys.executable, "-W", "ignore", "-c", KERAS]
        command += [str(case.path), str(case.golden), outputs]
        done = subprocess.run(command, env=environment, capture_output=True, check=False)
        if done.returncode:
            return None
        with np.load(outputs) as held:
            return worst(case, model, list(held.values()))


def row(case: Case, keras: bool) -> tuple[list[str], dict[str, float]]:
    """The cells of a file's line, and for each column that gave outputs how far off they are."""
    try:
        model = xlstm.load(case.path, **case.told())
    except XlstmError as error:
        return [case.name, f"refused: {error}"[:120]], {}
    cells, found = [], {}
    for target in TARGETS:
        try:
            found[target] = ratio(case, model, target)
            cells.append(f"{found[target]:.2f}")
        except Exception as error:  # noqa: BLE001  the table says what failed
            cells.append(f"{type(error).__name__}: {error}"[:60])
    own = keras_itself(case, model) if keras else None
    if own is not None:
        found[ITSELF] = own
    return [case.name, *cells, _own(own) if keras else ""], found


def _own(ratio: float | None) -> str:
    return "fails" if ratio is None else f"{ratio:.3g}"


def stored(rows: dict[str, dict[str, float]]) -> dict[str, Any]:
    """Returns what `--json` keeps: versions, and for each file the ratio of each column."""
    packages = ("keras", "tensorflow", "torch", "jax", "flax")
    return {"versions": {name: version(name) for name in packages}, "files": rows}


def summary(store: dict[str, Any]) -> str:
    """Returns the Markdown table of Keras 3 and xlstm on the same files.

    >>> print(summary({"versions": {"keras": "3"}, "files": {
    ...     "a": {"torch": 0.1, "nnx": 0.2}, "b": {"torch": 0.1, "nnx": 0.1, ITSELF: 70.0}}}))
    | of 2 trained models of Keras 1 to 3 | Keras 3 | xlstm: PyTorch | xlstm: Flax NNX |
    |---|---|---|---|
    | open | 1 | 2 | 2 |
    | compute what the original computed | 0 | 2 | 2 |
    | compute something else, without an error | 1 | 0 | 0 |
    """
    files = list(store["files"].values())
    columns = [[f[name] for f in files if name in f] for name in (ITSELF, "torch", "nnx")]
    right = [sum(ratio <= 1 for ratio in ratios) for ratios in columns]
    lines = {
        "open": [len(ratios) for ratios in columns],
        "compute what the original computed": right,
        "compute something else, without an error": [
            len(ratios) - n for ratios, n in zip(columns, right, strict=True)
        ],
    }
    keras = f"Keras {store['versions']['keras']}"
    head = f"| of {len(files)} trained models of Keras 1 to 3 | {keras} "
    head += "| xlstm: PyTorch | xlstm: Flax NNX |\n|---|---|---|---|"
    return "\n".join([head, *(f"| {k} | {' | '.join(map(str, v))} |" for k, v in lines.items())])


def main() -> int:
    """Prints the table; 1 if a file is not within rounding everywhere."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--match", default="", help="only files whose name matches")
    parser.add_argument("--no-keras", action="store_true", help="without Keras's own verdict")
    parser.add_argument("--json", type=Path, help="file that keeps the figures")
    parser.add_argument("--read", type=Path, help="print the table of README.md from this file")
    given = parser.parse_args()
    if given.read:
        sys.stdout.write(summary(json.loads(given.read.read_text())) + "\n")
        return 0
    table = Table(box=None)
    for head in ("file", *TARGETS, ITSELF):
        table.add_column(head, overflow="fold")
    done, rows = [], {}
    for case in cases(given.match):
        cells, found = row(case, not given.no_keras)
        table.add_row(*cells)
        done.append(found)
        rows[case.name] = {column: float(f"{ratio:.3g}") for column, ratio in found.items()}
        sys.stderr.write(f"{case.name}\n")
    Console(width=180).print(table)
    for column in (*TARGETS, *([] if given.no_keras else [ITSELF])):
        ratios = [found[column] for found in done if column in found]
        right = sum(ratio <= 1 for ratio in ratios)
        line = f"{column}: {len(ratios)} of {len(done)} files give outputs, {right} within rounding"
        sys.stdout.write(
            f"{line}, worst of those {max([r for r in ratios if r <= 1], default=0):.2f}\n"
        )
    if given.json:
        given.json.write_text(json.dumps(stored(rows), indent=1) + "\n")
    return 0 if all(found.get(t, 2.0) <= 1 for found in done for t in TARGETS) else 1


if __name__ == "__main__":
    sys.exit(main())
