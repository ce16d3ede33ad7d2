"""Simulates fleets that are larger than this machine, for docs/fleets.md.

    python benchmarks/fleet_simulation.py schedules
    python benchmarks/fleet_simulation.py measure

`measure` takes the constants on this machine and keeps them in docs/fleets/constants.json: seconds
of each model, seconds of one batch in the client and the scheduler, bytes of a row, requests of a
model to an object store. The other parts print tables.

The schedule is that of `xlstm.fleets.run`: each worker has one batch, and asks for the next one
when it has done that. One client serves all workers, one after the other.
"""

from __future__ import annotations

import argparse
import heapq
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

CONSTANTS = Path(__file__).parents[1] / "docs" / "fleets" / "constants.json"


@dataclass(frozen=True)
class Costs:
    """Measured constants of a fleet.

    Attributes:
        seconds: quantiles of the seconds of a model, evenly spaced, the smallest first.
        start: seconds until a new worker has imported the framework.
        dispatch: seconds of the client and the scheduler for one batch.
        request: seconds of one request to an object store; requests of a model wait in turn.
        requests: requests of a model; 0 for a shared file system.
        hangs: share of models that never end.
        limit: seconds after which a model is ended, with its worker.
    """

    seconds: tuple[float, ...]
    start: float
    dispatch: float
    request: float = 0.0
    requests: int = 0
    hangs: float = 0.0
    limit: float = 120.0


@dataclass(frozen=True)
class Schedule:
    """One simulated fleet.

    Attributes:
        seconds: until the last row is written.
        busy: share of all workers' time that went into models that were done.
        tail: seconds from the first worker without work to the end.
        client: share of the time in which the client and the scheduler worked.
        lost: workers that were ended because of a model that hung.
    """

    seconds: float
    busy: float
    tail: float
    client: float
    lost: int


def simulate(models: int, workers: int, batch: int, costs: Costs, seed: int = 0) -> Schedule:
    """Runs the schedule of a fleet with random models.

    Args:
        models: number of models.
        workers: number of workers, one thread each.
        batch: models of a batch.
        costs: measured constants.
        seed: of the random numbers.

    >>> even = Costs((2.0, 2.0), start=10.0, dispatch=0.0)
    >>> simulate(100, 4, 5, even).seconds
    60.0
    """
    draw = np.random.default_rng(seed)
    asking = [(costs.start, number) for number in range(workers)]  # time and worker
    idle: list[int] = []
    todo, again, lost = models, 0, 0  # models that are new, and those that hung once
    server, done, last, empty = 0.0, 0.0, 0.0, None
    batches = 0
    while asking:
        time, worker = heapq.heappop(asking)
        if not todo and not again:
            empty = time if empty is None else empty
            idle.append(worker)
            continue
        alone = not todo
        size = 1 if alone else min(batch, todo)
        todo, again = (0, again - 1) if alone else (todo - size, again)
        server, batches = max(server, time) + costs.dispatch, batches + 1
        work, hung = (costs.limit, True) if alone else _work(draw, size, costs)
        end = server + work
        last = max(last, end)
        if hung:  # the worker is replaced, the rest of its batch is done by others
            lost, end = lost + 1, end + costs.start
            todo += 0 if alone else int(size * draw.random())
            again += not alone
            while idle and (todo or again):
                heapq.heappush(asking, (end, idle.pop()))
        else:
            done += work
        heapq.heappush(asking, (end, worker))
    tail = 0.0 if empty is None else max(last - empty, 0.0)
    return Schedule(last, done / (last * workers), tail, batches * costs.dispatch / last, lost)


def _work(draw: np.random.Generator, size: int, costs: Costs) -> tuple[float, bool]:
    """The seconds of a batch, and True if one of its models hangs."""
    if costs.hangs and draw.random() < 1 - (1 - costs.hangs) ** size:
        return costs.limit, True
    waits = size * costs.requests * costs.request
    return float(quantiles(costs.seconds, draw.random(size)).sum()) + waits, False


def quantiles(values: Sequence[float], shares: Any) -> Any:
    """The values at shares of sorted values, between two of them by a straight line.

    >>> quantiles((0.0, 10.0), [0.25, 1.0]).tolist()
    [2.5, 10.0]
    """
    return np.interp(shares, np.linspace(0, 1, len(values)), values)


SIZES = ((2_000, 2), (10_000, 16), (100_000, 100), (1_000_000, 100), (1_000_000, 1_000))
"""Models and workers of the fleets in the table."""

BATCHES = (16, 64, 256)
"""Models of a batch in the second table."""

REQUEST = 0.03
"""Seconds of one request to an object store in the same region: assumed, not measured."""

HANGS = 1e-4
"""Share of models that hang: assumed."""


def costs_of(constants: Mapping[str, Any]) -> Costs:
    """The costs of measured constants, on a shared file system."""
    return Costs(tuple(constants["seconds"]), constants["start"], constants["dispatch"])


def print_schedules(costs: Costs, batch: int) -> None:
    """Prints a table of fleets: on a shared file system, on an object store, and with hangs."""
    print("| models | workers | time | models a second | workers busy | client busy | tail |")
    print("|---|---|---|---|---|---|---|")
    for models, workers in SIZES:
        _print_row(f"{models:,} | {workers:,}", models, simulate(models, workers, batch, costs))


def print_cases(costs: Costs, stored: Costs) -> None:
    """Prints a table of one large fleet under other conditions."""
    models, workers = SIZES[-1]
    print("| case | batch | time | models a second | workers busy | client busy | tail |")
    print("|---|---|---|---|---|---|---|")
    for batch in BATCHES:
        _print_row(f"shared folder | {batch}", models, simulate(models, workers, batch, costs))
    _print_row("object store | 64", models, simulate(models, workers, 64, stored))
    hanging = replace(costs, hangs=HANGS)
    _print_row("1 of 10,000 hangs | 64", models, simulate(models, workers, 64, hanging))
    slow = replace(costs, seconds=(*costs.seconds[:-1], 60.0))
    _print_row("the slowest take 60 s | 64", models, simulate(models, workers, 64, slow))


def _print_row(head: str, models: int, found: Schedule) -> None:
    rate = models / found.seconds
    busy, client = f"{found.busy:.0%}", f"{found.client:.0%}"
    cells = [duration(found.seconds), f"{rate:,.0f}", busy, client, duration(found.tail)]
    print(f"| {head} | {' | '.join(cells)} |")


def duration(seconds: float) -> str:
    """Seconds in the unit that fits.

    >>> duration(12.3), duration(600), duration(7_300)
    ('12 s', '10 min', '2.0 h')
    """
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def print_sizes(constants: Mapping[str, Any]) -> None:
    """Prints the sizes of a fleet's records for growing numbers of models."""
    heads = ["models", "fleet.parquet", "journals", "requests to a store", "tasks in the scheduler"]
    print(f"| {' | '.join(heads)} |")
    print("|---|---|---|---|---|")
    for models, workers in SIZES:
        parquet, lines = (models * constants[key] for key in ("parquet_row", "journal_row"))
        requests = f"{models * constants['requests']:,.0f}"
        held = f"{workers:,}, {size(workers * constants['task_bytes'])}"
        print(f"| {models:,} | {size(parquet)} | {size(lines)} | {requests} | {held} |")


def size(count: float) -> str:
    """Bytes in the unit that fits.

    >>> size(900), size(2_500_000)
    ('900 B', '2.5 MB')
    """
    for unit in ("B", "kB", "MB"):
        if count < 1_000:
            return f"{count:.1f} {unit}" if unit != "B" else f"{count:.0f} B"
        count /= 1_000
    return f"{count:.1f} GB"


def client_bytes() -> float:
    """Bytes of the client for each model: the growth between the two largest measured fleets."""
    fleets = json.loads((CONSTANTS.parent / "runs.json").read_text("utf-8"))["growth"]["sizes"]
    less, more = fleets[-2:]
    memory = more["client_memory_mb"] - less["client_memory_mb"]
    return float(1e6 * memory / (more["models"] - less["models"]))


def print_constants(constants: Mapping[str, Any]) -> None:
    """Prints the measured constants."""
    print("| measured on this machine | value |")
    print("|---|---|")
    middle, last = quantiles(constants["seconds"], (0.5, 0.99))
    rows = {
        "a model, read, ported to PyTorch and verified, median": f"{1e3 * middle:.0f} ms",
        "the same, the slowest of 100": f"{1e3 * last:.0f} ms",
        "start of a worker with PyTorch": f"{constants['start']:.1f} s",
        "one batch in the client and the scheduler": f"{1e3 * constants['dispatch']:.1f} ms",
        "memory of the scheduler for a task with 64 models": size(constants["task_bytes"]),
        "memory of the client for each model": size(client_bytes()),
        "a row in fleet.parquet": size(constants["parquet_row"]),
        "a row in a journal": size(constants["journal_row"]),
        "requests to an object store for a model": f"{constants['requests']:.1f}",
    }
    for name, value in rows.items():
        print(f"| {name} | {value} |")


def main() -> None:
    """Prints one part of docs/fleets.md, or measures the constants."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ["constants", "schedules", "cases", "sizes", "measure"]
    parser.add_argument("part", choices=parts)
    args = parser.parse_args()
    if args.part == "measure":
        from fleet_constants import measure

        CONSTANTS.write_text(json.dumps(measure(), indent=1) + "\n", "utf-8")
        return
    constants = json.loads(CONSTANTS.read_text("utf-8"))
    costs = costs_of(constants)
    stored = replace(costs, request=REQUEST, requests=round(constants["requests"]))
    printers = {
        "constants": lambda: print_constants(constants),
        "schedules": lambda: print_schedules(costs, 64),
        "cases": lambda: print_cases(costs, stored),
        "sizes": lambda: print_sizes(constants),
    }
    printers[args.part]()


if __name__ == "__main__":
    main()
