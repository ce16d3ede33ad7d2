"""An input that is a's times one number plus another: what no table can list.

Both numbers are fitted to what the suspect gives, by Gauss and Newton's method with the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call, Layer, with_input
from xlstm.diagnosis.hypothesis.hypothesis import Hypothesis
from xlstm.diagnosis.pairing.names import Said
from xlstm.ir.graph import Model, Node
from xlstm.ir.layers import Embedding, Input, Masking
from xlstm.ir.types import Array
from xlstm.reference.basic import forward

ROUNDS = 20
"""Steps of the fit, at most."""

SMALL = 1e-6
"""Change of a number that tells how the outputs depend on it."""

ENOUGH = 8
"""Numbers from which on a fit of two is no chance."""

DIGITS = (4, 8, 15)
"""Significant digits to which the numbers are rounded, plain ones first."""

Try = Callable[[Layer], "Array | None"]
"""An altered layer -> how far what the suspect gives is from what it then gives, flat."""


def _read(factor: float, more: float) -> Call:
    return with_input(lambda x: x * x.dtype.type(factor) + x.dtype.type(more))


def readers(model: Model, inside: list[Node]) -> Iterator[Node]:
    """The layers of numbers that read an input of the model."""
    for node in inside:
        first = model.node(node.inputs[0].node).spec if node.inputs else None
        if isinstance(first, Input) and not isinstance(node.spec, (Embedding, Masking)):
            yield node


def _solved(gap: Callable[[Array], Array | None], at: Array) -> Array | None:
    """The numbers at which the gap is least, from a start; None where it is not found."""
    here, damping = gap(at), 1e-3
    for _ in range(ROUNDS):
        if here is None or not np.isfinite(here).all() or len(here) < ENOUGH:
            return None
        near = [gap(at + SMALL * step) for step in np.eye(2)]
        slopes = np.stack([(y - here) / SMALL for y in near if y is not None], axis=1)
        if slopes.shape[1] < 2 or not np.isfinite(slopes).all():
            return None
        square = slopes.T @ slopes
        step = np.linalg.lstsq(square + damping * np.diag(np.diag(square)), slopes.T @ here, 1e-12)
        after = gap(at - step[0])
        if after is not None and (after @ after) < (here @ here):
            at, here, damping = at - step[0], after, damping / 100
        elif damping > 1e3:
            break
        else:
            damping = max(damping * 30, 1e-3)
    return at


def fitted(node: Node, layer: Layer, x: Array, gap: Try) -> Iterator[Hypothesis]:
    """A layer whose input is multiplied by a number and has another one added."""
    if x.dtype.kind != "f" or not x.std() or layer.call is not forward:
        return
    starts = ((1.0, 0.0), (1 / x.std(), -x.mean() / x.std()))
    for start in starts:
        at = _solved(lambda two: gap(replace(layer, call=_read(*two))), np.array(start))
        if at is None:
            continue
        for digits in DIGITS:
            factor, more = (float(f"{number:.{digits}g}") for number in at.tolist())
            if factor != 0 and (factor, more) != (1, 0):
                yield _hypothesis(node, layer, factor, more)


def _hypothesis(node: Node, layer: Layer, factor: float, more: float) -> Hypothesis:
    change = f"times {factor:.6g} plus {more:.6g}"
    text = f"The input of your {node.name} is a's {change}: it is scaled or standardised."
    said = Said(text, "Pass it as it is.", "")
    own = replace(layer, call=_read(factor, more))
    return Hypothesis("other-input", {node.owner: own}, lambda _naming: said, change, rare=True)
