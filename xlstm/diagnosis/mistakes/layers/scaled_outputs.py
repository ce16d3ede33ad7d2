"""Outputs that are a layer's own times a number, or plus one: what no table can list.

In: what a layer gives, and what the suspect gives in its place. Out: hypotheses.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call, Layer
from xlstm.diagnosis.hypothesis.hypothesis import Hypothesis, Say
from xlstm.diagnosis.pairing.names import Said
from xlstm.ir.graph import Node
from xlstm.ir.layers import LayerSpec
from xlstm.ir.types import Array
from xlstm.reference.context import Context

ENOUGH = 8
"""Numbers from which on one that fits them all is no chance."""

DIGITS = (4, 15)
"""Significant digits to which factors are rounded, a plain number first."""


def _numbers(mine: Array, other: Array) -> Iterator[tuple[float, float]]:
    """Factors and summands that may lead from one array to the other."""
    x, y = mine.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    square = float(x @ x)
    if not square or not np.isfinite(y).all():
        return
    factor, more = float(x @ y) / square, float((y - x).mean())
    for digits in DIGITS:
        yield float(f"{factor:.{digits}g}"), 0.0
        yield 1.0, float(f"{more:.{digits}g}")


def _then(call: Call, factor: float, more: float) -> Call:
    def altered(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        y, *others = call(spec, inputs, context)
        return [y * y.dtype.type(factor) + y.dtype.type(more), *others]

    return altered


def _saying(said: Said) -> Say:
    return lambda _naming: said


def fitted(node: Node, layer: Layer, mine: Array, other: Array) -> Iterator[Hypothesis]:
    """A layer whose output is multiplied by a number, or has one added."""
    if mine.shape != other.shape or mine.size < ENOUGH or mine.dtype.kind != "f":
        return
    for factor, more in _numbers(mine, other):
        if (factor == 1 and more == 0) or factor == 0:
            continue
        change = f"times {factor:.6g}" if more == 0 else f"plus {more:.6g}"
        said = Said(f"The output of your {node.name} is a's {change}.", "Leave that out.", "")
        own = replace(layer, call=_then(layer.call, factor, more))
        yield Hypothesis("scaled-output", {node.owner: own}, _saying(said), change, rare=True)
