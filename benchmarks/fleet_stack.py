"""Times `xlstm.stack` beside calls of the single ports, and shows the share of the machine's roof.

    python benchmarks/fleet_stack.py [--models 1000] [--rounds 9] [--json docs/fleets/stack.json]
    python benchmarks/fleet_stack.py --read docs/fleets/stack.json [--table times|roof]

LSTMs of 32 units on 8 features, 50 steps, batch 1, float32, all outputs. One round is one call of
the stack, then one call of every single port; figures are medians of processor time. Both sides run
on one processor, so that programs beside this one change little. Keras's `predict` is called 20
times, and the time of all models is computed from the median. JAX's single ports are 25 functions
of `xlstm.compile`, called in turn: to compile one for each model would take many minutes.

The roof of a call is the longest of three times: of its products at the measured FLOP/s, of its
reads of the recurrent weights from the second cache, once a step, and of its reads and writes in
main memory. The gate functions are left out, so no program reaches the roof.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

UNITS, FEATURES, STEPS = 32, 8, 50
"""Sizes of the models, and of the inputs with one sample."""

PREDICTED = 20
"""Calls of Keras's `predict` that are measured."""

COMPILED = 25
"""JAX functions that stand for all single ports."""

Call = Callable[[], Any]


class Contest(NamedTuple):
    """Two ways to run all models.

    Attributes:
        name: of the layer.
        target: framework of the stack.
        against: the other side, in words.
        least: factor that the stack is to be faster by.
    """

    name: str
    target: str
    against: str
    least: float | None


CONTESTS = {
    ("torch", "sigmoid"): Contest("LSTM", "torch", "calls of nn.LSTM", 1.5),
    ("torch", "hard_sigmoid"): Contest("LSTM, hard_sigmoid", "torch", "calls of the port", 8),
    ("nnx", "sigmoid"): Contest("LSTM", "nnx", "calls of xlstm.compile", 1.5),
    ("nnx", "hard_sigmoid"): Contest("LSTM, hard_sigmoid", "nnx", "calls of xlstm.compile", None),
    ("numpy", "sigmoid"): Contest("LSTM", "numpy", "calls of the port", None),
    ("numpy", "hard_sigmoid"): Contest("LSTM, hard_sigmoid", "numpy", "calls of the port", None),
}
"""(target, activation of the gates) -> the contest."""


def models(count: int, gate: str) -> list[Any]:
    """Models of one architecture, with weights of the size of trained ones."""
    import numpy as np

    from xlstm.model import LSTM, Source, chain
    from xlstm.testing.trained_weights import trained_weights

    spec = LSTM(FEATURES, UNITS, gate_activation=gate, return_sequences=True)
    graph = chain("lstm", [("lstm", spec, True)], (None, FEATURES), {}, Source("benchmark"))
    return [
        replace(graph, weights={"lstm": trained_weights(spec, np.random.default_rng(seed))})
        for seed in range(count)
    ]


def inputs(count: int) -> Any:
    """One input for each model."""
    import numpy as np

    shape = (count, 1, STEPS, FEATURES)
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def sides(target: str, every: list[Any]) -> tuple[Any, Call, Call]:
    """The stack, a call of it, and calls of all single ports."""
    import numpy as np

    import xlstm

    stacked, x = xlstm.stack(every, target), inputs(len(every))
    if target == "torch":
        import torch

        ports, own = [xlstm.port(model, "torch") for model in every], torch.from_numpy(x)
        return stacked, lambda: stacked(own), lambda: [f(own[n]) for n, f in enumerate(ports)]
    if target == "numpy":
        calls = [xlstm.port(model, "numpy") for model in every]
        return stacked, lambda: stacked(x), lambda: [f(x[n]) for n, f in enumerate(calls)]
    import jax

    rows = [jax.numpy.asarray(row) for row in x]
    fast = [xlstm.compile(xlstm.port(model, target), rows[0]) for model in every[:COMPILED]]
    many = jax.numpy.asarray(x)

    def singly() -> Any:
        found = [fast[n % COMPILED](row) for n, row in enumerate(rows)]
        return jax.block_until_ready(found)

    first = np.asarray(fast[0](rows[0]))
    assert np.allclose(np.asarray(stacked(many))[0], first, atol=1e-5)
    return stacked, lambda: jax.block_until_ready(stacked(many)), singly


class Times(NamedTuple):
    """Seconds of a call, one number for each round.

    Attributes:
        processor: of this process.
        wall: of a clock.
    """

    processor: list[float]
    wall: list[float]


def alternated(calls: list[Call], rounds: int) -> list[Times]:
    """Times each call in each round; the calls take turns."""
    for call in calls:
        call()
    found = [Times([], []) for _ in calls]
    for _ in range(rounds):
        for times, call in zip(found, calls, strict=True):
            start, clock = time.process_time(), time.perf_counter()
            call()
            times.processor.append(time.process_time() - start)
            times.wall.append(time.perf_counter() - clock)
    return found


def contest(target: str, gate: str, count: int, rounds: int) -> dict[str, Any]:
    """One row: medians of both sides."""
    import torch

    torch.set_num_threads(1)
    with torch.inference_mode():
        stacked, ours, singly = sides(target, models(count, gate))
        own, other = alternated([ours, singly], rounds)
    row = CONTESTS[target, gate]
    pairs = zip(own.processor, other.processor, strict=True)
    ratios = sorted(b / a for a, b in pairs)
    quarter = len(ratios) // 4
    return {
        **row._asdict(),
        "models": count,
        "chunk": stacked.chunk,
        "stack": statistics.median(own.processor),
        "other": statistics.median(other.processor),
        "wall": [statistics.median(own.wall), statistics.median(other.wall)],
        "ratio": statistics.median(other.processor) / statistics.median(own.processor),
        "half": [ratios[quarter], ratios[-1 - quarter]],
    }


def predict(stack_seconds: float, count: int) -> dict[str, Any]:
    """The row of Keras's `predict`: 20 calls, times the number of models."""
    import keras

    x = inputs(1)[0]
    layers = [keras.Input((STEPS, FEATURES)), keras.layers.LSTM(UNITS, return_sequences=True)]
    model = keras.Sequential(layers)
    model.predict(x, verbose=0)
    (times,) = alternated([lambda: model.predict(x, verbose=0)], PREDICTED)
    # TensorFlow has threads beside: the smaller figure is the fair one
    shorter = min(times, key=statistics.median)
    seconds = statistics.median(shorter) * count
    return {
        "name": "LSTM",
        "target": "torch",
        "against": f"Keras predict, {PREDICTED} calls scaled",
        "least": 1000,
        "models": count,
        "stack": stack_seconds,
        "other": seconds,
        "ratio": seconds / stack_seconds,
        "half": [
            quartile * count / stack_seconds for quartile in statistics.quantiles(shorter)[::2]
        ],
    }


def roof(count: int) -> dict[str, float]:
    """The machine's measured speeds, and the shortest time of one call of the stack."""
    import torch

    square = torch.ones(1024, 1024)
    cached = torch.ones(2**18)  # 1 MiB, half of the second cache
    large = torch.ones(2**27)

    def best(call: Call, times: int, rounds: int = 7) -> float:
        def several() -> None:
            for _ in range(times):
                call()

        (seconds,) = alternated([several], rounds)
        return min(seconds.processor) / times

    flops = 2 * 1024**3 / best(lambda: square @ square, 3)
    cache = max(
        cached.nbytes / best(cached.sum, 500),
        cached.nbytes / best(lambda: cached.view(512, 512) @ cached[:512], 500),
    )
    memory = large.nbytes / best(large.sum, 1)
    gates = 4 * UNITS
    work = count * STEPS * 2 * (FEATURES + UNITS) * gates
    from_cache = count * STEPS * UNITS * gates * 4
    weights = (FEATURES + UNITS + 2) * gates
    from_memory = count * 4 * (weights + STEPS * (FEATURES + UNITS))
    return {
        "gflops": flops / 1e9,
        "cache_gb_s": cache / 1e9,
        "memory_gb_s": memory / 1e9,
        "products_seconds": work / flops,
        "cache_seconds": from_cache / cache,
        "memory_seconds": from_memory / memory,
        "seconds": max(work / flops, from_cache / cache, from_memory / memory),
    }


def measure(count: int, rounds: int) -> dict[str, Any]:
    """All rows, the roof, and the machine."""
    from bench import machine

    rows = []
    for target, gate in CONTESTS:
        rows.append(contest(target, gate, count, rounds))
        print(line(rows[-1]), flush=True)
    rows.append(predict(rows[0]["stack"], count))
    print(line(rows[-1]), flush=True)
    load = os.getloadavg()[0]
    return {"rows": rows, "roof": roof(count), "machine": machine(), "rounds": rounds, "load": load}


def line(row: dict[str, Any]) -> str:
    """A row of the table of times, as Markdown."""
    least = "" if row["least"] is None else f"at least {row['least']:g}"
    least += ", **missed**" if row["least"] is not None and row["ratio"] < row["least"] else ""
    low, high = row["half"]
    cells = [row["name"], row["target"], row["against"]]
    cells += [f"{1000 * row['stack']:.0f}", f"{1000 * row['other']:,.0f}"]
    cells += [f"{row['ratio']:,.1f} x", f"{low:,.1f} to {high:,.1f}", least]
    return f"| {' | '.join(cells)} |"


TIMES = (
    "| layer | stack in | against | stack ms | others ms | faster | half of the rounds | target |"
)


def table(found: dict[str, Any], which: str) -> Iterator[str]:
    """Lines of Markdown."""
    if which == "times":
        yield TIMES
        yield "|" + "---|" * (TIMES.count("|") - 1)
        yield from map(line, found["rows"])
        return
    limits = found["roof"]
    yield "| stack in | layer | ms | roof ms | share of the roof |"
    yield "|---|---|---|---|---|"
    for row in found["rows"]:
        if not row["against"].startswith("Keras"):
            share = f"{100 * limits['seconds'] / row['stack']:.0f} %"
            ms = f"{1000 * row['stack']:.0f} | {1000 * limits['seconds']:.1f}"
            yield f"| {row['target']} | {row['name']} | {ms} | {share} |"


def main(arguments: list[str]) -> None:
    """Measures and prints, or prints what was measured before."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--read", type=Path)
    parser.add_argument("--table", choices=("times", "roof"), default="times")
    options = parser.parse_args(arguments)
    if options.read is None:
        warnings.simplefilter("ignore")
        found = measure(options.models, options.rounds)
        if options.json:
            options.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    else:
        found = json.loads(options.read.read_text("utf-8"))
    print("\n".join(table(found, options.table)))


if __name__ == "__main__":
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    one = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("XLA_FLAGS", one)
    main(sys.argv[1:])
