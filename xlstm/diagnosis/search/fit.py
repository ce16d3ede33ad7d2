"""Numbers that no table can list: read from what the suspect gives, or fitted to it.

In: a layer, and what the suspect gives in its place. Out: hypotheses: an input or an output that is
a's times one number plus another, and an embedding that reads other rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np

from xlstm.diagnosis.altered_model import Layer, with_input, with_output
from xlstm.diagnosis.hypothesis import Hypothesis, fixed
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

OUTPUT_DIGITS = (4, 15)
"""The same for factors and summands of an output."""

SHOWN = 3
"""Ids that a sentence lists, at most."""

Try = Callable[[Layer], "Array | None"]
"""An altered layer -> how far what the suspect gives is from what it then gives, flat."""


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


def fitted_inputs(node: Node, layer: Layer, x: Array, gap: Try) -> Iterator[Hypothesis]:
    """A layer whose input is multiplied by a number and has another one added."""
    if x.dtype.kind != "f" or not x.std() or layer.call is not forward:
        return

    def altered(factor: float, more: float) -> Layer:
        return replace(layer, call=with_input(line(factor, more)))

    for start in ((1.0, 0.0), (1 / x.std(), -x.mean() / x.std())):
        at = _solved(lambda two: gap(altered(*two)), np.array(start))
        if at is None:
            continue
        for digits in DIGITS:
            factor, more = (float(f"{number:.{digits}g}") for number in at.tolist())
            if factor != 0 and (factor, more) != (1, 0):
                change = f"times {factor:.6g} plus {more:.6g}"
                text = f"The input of your {node.name} is a's {change}: it is scaled or "
                say = fixed(Said(f"{text}standardised.", "Pass it as it is."))
                own = {node.owner: altered(factor, more)}
                yield Hypothesis("other-input", own, say, change, rare=True)


def line(factor: float, more: float) -> Callable[[Array], Array]:
    """Multiplies an array with a number and adds another one, both of its own dtype."""
    return lambda x: x * x.dtype.type(factor) + x.dtype.type(more)


def fitted_outputs(node: Node, layer: Layer, mine: Array, other: Array) -> Iterator[Hypothesis]:
    """A layer whose output is multiplied by a number, or has one added."""
    if mine.shape != other.shape or mine.size < ENOUGH or mine.dtype.kind != "f":
        return
    x, y = mine.astype(np.float64).ravel(), other.astype(np.float64).ravel()
    square = float(x @ x)
    if not square or not np.isfinite(y).all():
        return
    for digits in OUTPUT_DIGITS:
        factor, more = (float(f"{n:.{digits}g}") for n in (x @ y / square, (y - x).mean()))
        changes = ((factor, 0.0, f"times {factor:.6g}"), (1.0, more, f"plus {more:.6g}"))
        for by, plus, change in changes:
            if by != 0 and (by, plus) != (1, 0):
                text = f"The output of your {node.name} is a's {change}."
                own = replace(layer, call=with_output(line(by, plus), layer.call))
                say = fixed(Said(text, "Remove that."))
                yield Hypothesis("scaled-output", {node.owner: own}, say, change, rare=True)


def _rows(table: Array, y: Array, dtype: str) -> Array | None:
    """The row of a table that each vector is; None where some vector is none, or several are."""
    near = 1e-6 if dtype == "float32" else 1e-12
    flat, found = y.reshape(-1, y.shape[-1]).astype(np.float64), []
    for vector in flat:
        gaps = np.abs(table - vector).max(axis=-1)
        (rows,) = np.nonzero(gaps <= near * (1 + np.abs(vector).max()))
        if len(rows) != 1:
            return None
        found.append(rows[0])
    return np.array(found).reshape(y.shape[:-1])


def _told(moves: Mapping[int, int]) -> str:
    """The rows that are read for the ids."""
    off = {row - number for number, row in moves.items()}
    by = [n for n in (1, -1) if n in off]
    other = {n: r for n, r in moves.items() if n != r and r - n != (by[0] if by else None)}
    words = {1: "the next row, one too high", -1: "the row before, one too low"}
    first = f"Your embedding reads {words[by[0]]}, for most ids" if by else ""
    shown = [f"row {row} for id {number}" for number, row in [*other.items()][:SHOWN]]
    more = " and so on" if len(other) > SHOWN else ""
    rest = f"reads {', '.join(shown)}{more}" if shown else ""
    if first and rest:
        return f"{first}; it {rest}."
    return f"{first or f'Your embedding {rest}'}."


def seen_rows(
    node: Node, layer: Layer, ids: Array, other: Array, dtype: str
) -> Iterator[Hypothesis]:
    """Another row for each id, where what the suspect's embedding gave shows which.

    Args:
        node: the embedding's.
        layer: as it is altered so far.
        ids: its input.
        other: what the suspect gave in place of its output.
        dtype: what the suspect computes in.
    """
    if not isinstance(layer.spec, Embedding) or other.shape[:-1] != ids.shape:
        return
    rows = _rows(layer.weights["table"].astype(np.float64), other, dtype)
    numbers = np.trunc(ids).astype(int).ravel().tolist()
    pairs = set(zip(numbers, rows.ravel().tolist(), strict=True)) if rows is not None else set()
    moves = dict(sorted(pairs))
    if not pairs or len(moves) < len(pairs):
        return  # one id reads several rows
    to = np.array([moves.get(number, number) for number in range(layer.spec.rows)])
    own = replace(layer, call=with_input(lambda ids: to[np.trunc(ids).astype(int)]))
    say = fixed(Said(_told(moves), "Read row n for id n."))
    yield Hypothesis("embedding-offset", {node.owner: own}, say, "rows", rare=True)
