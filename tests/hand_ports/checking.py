"""Plain comparisons with Keras: right ports are right, and wrong ones wrong. Nothing is diagnosed.

>>> failed = right("numpy_gru", [0], (1, 8))
>>> failed
[]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from hand_ports.edits import pair
from hand_ports.programs import TOLERANCE, difference, program, run, suspect, truth

WRONG = 1e-3
"""Least difference of a wrong port."""


def right(name: str, seeds: Iterable[int], samples: Sequence[int]) -> list[str]:
    """Runs a right port; returns a line for each set of weights and number of samples that differs.

    Keras runs once for each set of weights: no layer of these models mixes samples.
    """
    keras, failed = truth(name), []
    for seed in seeds:
        port = suspect(program(name).port, keras.set_weights(seed), f"right_{name}")
        inputs = keras.inputs(seed, max(samples))
        expected = keras.outputs(inputs)
        for count in samples:
            got = run(port, [a[:count] for a in inputs])
            gap = difference([a[:count] for a in expected], got)
            if gap > TOLERANCE:
                failed.append(f"{name}, weights {seed}, {count} samples: {gap:.1e}")
    return failed


def wrong(name: str, ids: Iterable[str], seed: int, sets: int = 3, samples: int = 8) -> list[str]:
    """Runs wrong ports of one program; returns a line for each that few sets of weights show."""
    keras = truth(name)
    drawn = []
    for number in range(seed, seed + sets):
        weights, inputs = keras.set_weights(number), keras.inputs(number, samples)
        drawn.append((weights, inputs, keras.outputs(inputs)))
    failed = []
    for pair_name in ids:
        text = pair(pair_name).port
        gaps = [difference(y, run(suspect(text, w, "wrong_port"), x)) for w, x, y in drawn]
        seen = [WRONG < gap < np.inf for gap in gaps]
        if sum(seen) * 2 <= sets:
            failed.append(f"{pair_name}: {', '.join(f'{gap:.0e}' for gap in gaps)}")
    return failed
