"""Who opens the corpus, and at what cost: Keras 3 and xlstm on every file, as whole processes.

    XLSTM_CORPUS=../shared/corpus python benchmarks/readers.py [--backends tensorflow,torch,jax]

For each file: Keras's verdict and ours, wall seconds and peak memory of a fresh process that opens
it and reads all its weights. The medians of the ratios are over the files that both open. "ports"
means that xlstm also turns the file into a model; "outlined" that it reads everything and says what
it cannot port yet.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

CORPUS = Path(os.environ.get("XLSTM_CORPUS", Path(__file__).parents[2] / "shared" / "corpus"))
HDF5 = b"\x89HDF\r\n\x1a\n"

OURS = (
    "import sys; from pathlib import Path; from xlstm.cli.inspect import inspect; "
    "t = inspect(Path(sys.argv[1])); print('outlined' if 'cannot be ported yet' in t else 'ports')"
)
KERAS = "import sys, keras; keras.models.load_model(sys.argv[1], compile=False); print('opens')"


@dataclass(frozen=True)
class Run:
    """One process: its verdict, wall seconds, and peak memory in MB."""

    verdict: str
    seconds: float
    peak: float


def run(code: str, path: Path, backend: str = "") -> Run:
    """Runs code on a file in a process of its own."""
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "3"}
    environment |= {"KERAS_BACKEND": backend} if backend else {}
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, str(path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    said = out.strip().splitlines()[-1:] if status == 0 else err.strip().splitlines()[-1:]
    return Run((said or ["?"])[0][:60], seconds, usage.ru_maxrss / 1024)


def models(match: str) -> list[Path]:
    """Every file and folder of the corpus that holds weights and whose path matches."""
    found = []
    for path in sorted(CORPUS.rglob("*")):
        if not re.search(match, str(path.relative_to(CORPUS))):
            continue
        saved = path.is_dir() and (path / "saved_model.pb").exists()
        start = path.read_bytes()[:8] if path.is_file() and path.suffix != ".npz" else b""
        if saved or start == HDF5 or start[:4] == b"PK\x03\x04":
            found.append(path)
    return found


def main() -> None:
    """Prints the table and the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backends", default="tensorflow,torch,jax")
    parser.add_argument("--match", default="", help="only paths that this pattern is found in")
    arguments = parser.parse_args()
    backends, files = arguments.backends.split(","), models(arguments.match)
    table = Table("file", "xlstm", "s", "MB", *(f"Keras on {b}" for b in backends), "s", "MB")
    ratios: dict[str, list[tuple[float, float]]] = {backend: [] for backend in backends}
    verdicts = {"ports": 0, "outlined": 0}
    opened = dict.fromkeys(backends, 0)
    for path in files:
        ours = run(OURS, path)
        theirs = {backend: run(KERAS, path, backend) for backend in backends}
        verdicts[ours.verdict] = verdicts.get(ours.verdict, 0) + 1
        for backend, keras in theirs.items():
            if keras.verdict == "opens":
                opened[backend] += 1
                ratios[backend].append((keras.seconds / ours.seconds, keras.peak / ours.peak))
        first = theirs[backends[0]]
        cells = [ours.verdict, f"{ours.seconds:.2f}", f"{ours.peak:.0f}"]
        cells += [keras.verdict for keras in theirs.values()]
        name = str(path.relative_to(CORPUS))
        table.add_row(name, *cells, f"{first.seconds:.2f}", f"{first.peak:.0f}")
    console = Console(width=200)
    console.print(table)
    console.print(f"{len(files)} files: xlstm {verdicts}; Keras 3 opens {opened}")
    for backend, pairs in ratios.items():
        if pairs:
            faster = statistics.median(pair[0] for pair in pairs)
            leaner = statistics.median(pair[1] for pair in pairs)
            said = f"xlstm is {faster:.1f} x faster and {leaner:.1f} x leaner (medians)"
            console.print(f"Over the {len(pairs)} files that Keras on {backend} opens too, {said}")


if __name__ == "__main__":
    main()
