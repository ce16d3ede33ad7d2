"""Recurrent cells of TensorFlow 1, found by their names and shapes, for counting alone.

They have the kernel of the input on top of that of the state in one matrix, which no slot covers. A
dense layer has the same shapes: the name must be that of a cell, with no other arrays beside it.

    rnn/basic_lstm_cell/kernel (m + n, 4 n), rnn/basic_lstm_cell/bias (4 n,)
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from xlstm.frameworks.recognise import Group
from xlstm.ir.layers import GRU, LSTM, LayerSpec
from xlstm.slots import Shaped

CELLS = "keras"
"""The framework whose column has these cells: Keras has as many parameters."""

LSTM_CELL = re.compile(r"(basic_)?lstm_cell(_\d+)?")
GRU_CELL = re.compile(r"gru_cell(_\d+)?")

LSTM_NAMES = frozenset({"kernel", "bias"})
GRU_NAMES = frozenset({"gates.kernel", "gates.bias", "candidate.kernel", "candidate.bias"})


def cells(arrays: Mapping[str, Shaped]) -> list[Group]:
    """The cells among arrays, each as one layer.

    >>> import numpy as np
    >>> arrays = {"rnn/lstm_cell/kernel": np.ones((7, 16)), "rnn/lstm_cell/bias": np.ones(16)}
    >>> [(group.path, sorted(group.spec.sizes().items())) for group in cells(arrays)]
    [('rnn.lstm_cell', [('h', 4), ('i', 3), ('j', 4)])]
    """
    found = []
    for path, names in _below(arrays).items():
        spec = _spec(path.rpartition(".")[2], {key: arrays[n].shape for key, n in names.items()})
        if spec is not None:
            found.append(Group(path, spec, names))
    return found


def _below(arrays: Mapping[str, Shaped]) -> dict[str, dict[str, str]]:
    """Path with the name of a cell -> end of a name below it -> the whole name."""
    found: dict[str, dict[str, str]] = {}
    for name in arrays:
        for path, end in _splits(name):
            last = path.rpartition(".")[2]
            if LSTM_CELL.fullmatch(last) or GRU_CELL.fullmatch(last):
                found.setdefault(path, {})[end] = name
    return found


def _splits(name: str) -> Iterator[tuple[str, str]]:
    """A name cut before its last part, and before the two last."""
    parts = name.replace("/", ".").removesuffix(":0").rsplit(".", 2)
    for number in range(1, len(parts)):
        yield ".".join(parts[:number]), ".".join(parts[number:])


def _spec(last: str, shapes: Mapping[str, tuple[int, ...]]) -> LayerSpec | None:
    """The layer of arrays of these shapes under the name of a cell, None unless they fit."""
    if LSTM_CELL.fullmatch(last) and shapes.keys() == LSTM_NAMES:
        m, n = _sizes(shapes["kernel"], shapes["bias"], 4)
        return LSTM(m, n) if m > 0 else None
    if GRU_CELL.fullmatch(last) and shapes.keys() == GRU_NAMES:
        m, n = _sizes(shapes["gates.kernel"], shapes["gates.bias"], 2)
        again = _sizes(shapes["candidate.kernel"], shapes["candidate.bias"], 1)
        return GRU(m, n, reset_after=False) if m > 0 and (m, n) == again else None
    return None


def _sizes(kernel: tuple[int, ...], bias: tuple[int, ...], gates: int) -> tuple[int, int]:
    """Features and units of a kernel (m + n, gates n) and its bias; no features if none fit."""
    n, rest = divmod(bias[0] if len(bias) == 1 else 0, gates)
    fits = len(kernel) == 2 and kernel[1] == gates * n > 0 and not rest
    return (kernel[0] - n if fits else 0), n
