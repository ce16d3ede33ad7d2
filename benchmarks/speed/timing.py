"""Takes times of calls that run in turn, so that the noise of the machine hits them alike."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

ROUNDS = 15
"""Rounds of a contest, at least."""

SPAN = 0.004
"""Seconds that the calls of one round take at least: a shorter one is repeated."""

WARMUPS = 5
"""Calls before the first round: compilation, buffers, caches."""

Call = Callable[[], object]


def seconds_of(call: Call, repeats: int) -> float:
    """Returns the mean seconds of one call of `repeats`."""
    start = time.perf_counter()
    for _ in range(repeats):
        call()
    return (time.perf_counter() - start) / repeats


def repeats_for(call: Call) -> int:
    """Returns how often a call is repeated to take SPAN seconds."""
    for _ in range(WARMUPS):
        call()
    shortest = min(seconds_of(call, 1) for _ in range(3))
    return max(1, round(SPAN / max(shortest, 1e-7)))


def run_rounds(calls: Mapping[str, Call], rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Returns the seconds of every call in every round.

    Each round runs every call once. Every second round runs them in the opposite order.

    >>> times = run_rounds({"sum": lambda: sum(range(10)), "nothing": lambda: None}, rounds=3)
    >>> [len(found) for found in times.values()]
    [3, 3]
    """
    repeats = {name: repeats_for(call) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    order = list(calls)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order:
                times[name].append(seconds_of(calls[name], repeats[name]))
            order.reverse()
    finally:
        gc.enable()
    return times


def ratio(times: Mapping[str, list[float]], over: str, under: str) -> tuple[float, float, float]:
    """Returns the ratio of two medians, and the quartiles of the ratios of the single rounds.

    >>> ratio({"a": [2.0, 2.0, 4.0], "b": [1.0, 1.0, 1.0]}, "a", "b")
    (2.0, 2.0, 4.0)
    """
    of_medians = statistics.median(times[over]) / statistics.median(times[under])
    single = [a / b for a, b in zip(times[over], times[under], strict=True)]
    low, _, high = statistics.quantiles(single, n=4)
    return of_medians, low, high
