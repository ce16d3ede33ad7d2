"""Rows of the table of causes: embeddings whose rows are scaled or shortened, or are other ones.

The rows that a suspect read are known where its embedding's output is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call, Layer, times, with_output
from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Hypothesis,
    Mistake,
    Say,
    SuspectLayer,
    called,
)
from xlstm.diagnosis.pairing.names import Said
from xlstm.ir.graph import Node
from xlstm.ir.layers import Embedding, LayerSpec
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

TINY = 1e-7
"""The number that PyTorch adds to the length of a row that it shortens."""

LENGTHS = (1.0, 2.0, 5.0)
"""Largest lengths of rows (`max_norm`) that are tried."""

SHOWN = 3
"""Ids that a sentence lists, at most."""


def _factors(width: int) -> Iterator[tuple[float, str]]:
    yield width**0.5, f"the square root of its {width} features"
    yield width**-0.5, f"1 by the square root of its {width} features"
    yield 2.0, "2"
    yield 0.5, "0.5"


def scaled(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Rows that are multiplied by a number, such as the root of their length."""
    if isinstance(site.spec, Embedding):
        for factor, words in _factors(site.node.shape[-1] or 1):
            text = f"The output of your {site.node.name} is scaled: it is a's times {words}."
            yield called(site, with_output(times(factor)), text, "Leave the factor out.")


def _shortened(limit: float, every: bool) -> Call:
    """Rows longer than a number made as long as it; `every` row where those are to be as long."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        table = context.weights["table"]
        length = np.sqrt((table * table).sum(axis=-1, keepdims=True))
        short = table * (table.dtype.type(limit) / (length + table.dtype.type(TINY)))
        own = short if every else np.where(length > limit, short, table)
        return forward(spec, inputs, replace(context, weights={**context.weights, "table": own}))

    return call


def shortened(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Rows that are not longer than a number, or all of one length."""
    if not isinstance(site.spec, Embedding):
        return
    for limit in LENGTHS:
        text = f"The rows of your embedding are scaled down to length {limit:g} where they are "
        fix = "Leave max_norm out: it also alters the weights, in every run."
        yield called(site, _shortened(limit, False), f"{text}longer (max_norm={limit:g}).", fix)
    text = "The rows of your embedding are scaled to length 1 (normalised)."
    yield called(site, _shortened(1.0, True), text, "Leave the norm out.")


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


def _mapped(moves: Mapping[int, int], count: int) -> Call:
    to = np.array([moves.get(number, number) for number in range(count)])

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        return forward(spec, [to[np.trunc(inputs[0]).astype(int)], *inputs[1:]], context)

    return call


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
    own = replace(layer, call=_mapped(moves, layer.spec.rows))
    said = Said(_told(moves), "Read row n for id n.", "")
    yield Hypothesis("embedding-offset", {node.owner: own}, _saying(said), "rows", rare=True)


def _saying(said: Said) -> Say:
    return lambda _naming: said


ROWS = (
    Mistake("embedding-rows", scaled),
    Mistake("embedding-rows", shortened),
)
