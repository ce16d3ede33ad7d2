"""The element of an output from which on two models differ, and the error over its bound.

In: outputs of the suspect, and bounds of the truth's. Out: a `FirstDifference`.

>>> import numpy as np
>>> from xlstm.verification.bounds import bounds_from
>>> y = np.array([[1.0, 2.0]])
>>> print(first_element("output", y + [[0, 0.5]], bounds_from(y, [y], "float64")).text)
output[0, 1]: a gives 2 and b 2.5 (allowed 3.6e-15)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from xlstm.diagnosis.altered_model import Layer, Values, before
from xlstm.diagnosis.tolerance import allowed, gap_of
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.verification.bounds import Bounds
from xlstm.verification.run import output_names


class FirstDifference(NamedTuple):
    """The first element of an output that is more than rounding apart.

    Attributes:
        text: the output with the indices of the element, both numbers, and the bound; "" for none.
        wrong: number of elements that differ.
        place: indices of the first one.
    """

    text: str = ""
    wrong: int = 0
    place: tuple[int, ...] = ()


def first_element(name: str, y: Array, bounds: Bounds) -> FirstDifference:
    """Returns the first element that is farther from the truth than allowed.

    Args:
        name: the output, in words.
        y: the suspect's output, (batch, ...), in the shape of `bounds.y`.
        bounds: of the truth's output.
    """
    want = bounds.y
    with np.errstate(invalid="ignore"):
        far = np.abs(np.asarray(y, np.float64) - want)
    step = bounds.step if y.ndim > 2 else bounds.step[:1]
    limit = step.reshape(1, -1, *[1] * (y.ndim - 2)) if y.ndim > 2 else step.max()
    wrong = np.argwhere(~(far <= limit))
    if not len(wrong):
        return FirstDifference()
    place = tuple(int(n) for n in wrong[0])
    most = float(step[place[1]] if y.ndim > 2 else step.max())
    numbers = f"a gives {float(want[place]):.12g} and b {float(y[place]):.12g}"
    text = f"{name}{[*place]}: {numbers} (allowed {most:.2g})"
    return FirstDifference(text, len(wrong), place)


def of_outputs(
    model: Model, layers: dict[str, Layer], values: Values, outputs: Sequence[Array], dtype: str
) -> tuple[float, str]:
    """Returns the largest error over its bound, and the first element that differs in words.

    Args:
        model: the truth.
        layers: its layers.
        values: its inputs.
        outputs: the suspect's, in the order of the truth's.
        dtype: precision that the suspect computed in.
    """
    pairs = allowed(model, layers, values, model.outputs, dtype, before(model, model.outputs, ()))
    names = output_names(model) if len(model.outputs) > 1 else ["output"]
    ratio, text = 0.0, ""
    for name, y, pair in zip(names, outputs, pairs, strict=False):
        ratio = max(ratio, gap_of(y, pair, dtype).ratio)
        if not text and y.shape == pair[0].y.shape:
            text = first_element(name, y, pair[0]).text
    return ratio, text
