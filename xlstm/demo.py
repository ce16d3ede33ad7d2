"""The small trained model that ships with xlstm; `examples/train_memorise.py` trained it."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.frameworks import registry
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.types import Array
from xlstm.porting.port import port

SEQUENCE: Array = np.arange(0, 400, 20, dtype=np.float32)
"""The sequence that the model has memorised: 0, 20, ..., 380; it is input and output alike."""


def path() -> Path:
    """Path of the demo file: LSTM(20, relu) + Dense(20), trained to memorise `SEQUENCE`."""
    return Path(str(resources.files("xlstm").joinpath("demo.keras")))


@unmoved
def recall(
    frameworks: Sequence[str], source: Any = None, sample: Array | None = None
) -> dict[str, Array]:
    """Outputs of the ports of `source` (the demo file if None) to frameworks, for one sample.

    Args:
        frameworks: names of frameworks.
        source: anything that `xlstm.load` takes, with one input and one output.
        sample: one input without its batch axis; None for the sequence.

    Returns:
        Framework name -> output without its batch axis, float32.
    """
    if sample is None:
        sample = SEQUENCE[:, None]
    found = {}
    for name in frameworks:
        live: Any = registry.adapter(name).live()
        ported = port(path() if source is None else source, name)
        found[name] = live.run(ported, [sample[None]], "float32")[0][0]
    return found
