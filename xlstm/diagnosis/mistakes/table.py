"""The table of mistakes: every mistake that `diagnose` tries, the likelier ones first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from xlstm.diagnosis.altered_model import Layer, around, inside
from xlstm.diagnosis.hypothesis import AlteredLayer, Hypothesis, Mistake, SuspectLayer
from xlstm.diagnosis.mistakes.layers import activations, attention, layer_order, options
from xlstm.diagnosis.mistakes.time import (
    bidirectional,
    inputs,
    loops,
    masks,
    returned_piece,
    sequence,
)
from xlstm.diagnosis.mistakes.weights import contents, gate_order, tensors
from xlstm.diagnosis.pairing.names import Naming
from xlstm.errors import XlstmError
from xlstm.ir.graph import Model, Node

PLACES: tuple[Mistake, ...] = (
    *gate_order.ROWS,
    *tensors.ROWS,
    *contents.BIAS,
)
"""Numbers in the wrong place, or biases that are other ones."""

WEIGHTS = (*PLACES, *contents.ROWS)
"""All that may have happened to numbers."""

AFTER = activations.AFTER
"""Activations that may come after a layer."""

INSIDE = tuple(row for row in (*activations.ROWS, *activations.LATER) if row.cause == "activation")
"""Activations inside a layer."""

MOVED = activations.MOVED
"""Activations before a layer for after it: seen inside a suspect they look like two mistakes."""

ROWS: tuple[Mistake, ...] = (
    *attention.WEIGHTED,
    *activations.SOFTMAX,
    *activations.ROWS,
    *bidirectional.ROWS,
    *sequence.ROWS,
    *sequence.POOLS,
    *loops.ROWS,
    *masks.ROWS,
    *masks.SHIFTED,
    *returned_piece.ROWS,
    *sequence.LOST,
    *returned_piece.MIXED,
    *inputs.JOINED,
    *sequence.STATES,
    *attention.ROWS,
    *attention.HEADS,
    *attention.OTHER_INPUTS,
    *AFTER,
    *MOVED,
    *PLACES,
    *options.ROWS,
    *options.EMBEDDINGS,
    *options.PADDED,
    *layer_order.ROWS,
    *activations.LATER,
    *contents.ROWS,
    *loops.CELL_ROWS,
    *inputs.ROWS,
    *options.DROPOUTS,
)
"""All of them; where two explain the same, the first one is named."""


TOGETHER: tuple[Mistake, ...] = (
    Mistake("gate-order", gate_order.whole_orders),
    *(row for row in ROWS if row.cause not in ("gate-order", "reshaped", "transposed", "option")),
)
"""Mistakes that are tried together with others."""

UNFIT = (XlstmError, LookupError, TypeError, ValueError)
"""Errors of altering a layer that has no such option."""


def hypotheses(
    model: Model,
    layers: Mapping[str, Layer],
    nodes: Iterable[Node],
    naming: Naming,
    rows: Iterable[Mistake] = ROWS,
) -> Iterator[Hypothesis]:
    """Every hypothesis of some rows about some layers, row by row.

    Args:
        model: the truth.
        layers: its layers as they are altered already.
        nodes: where to look; of a layer that is called several times the first call.
        naming: the suspect's names.
        rows: of the table.
    """
    sites = {
        node.owner: SuspectLayer(model, model.node(node.owner), inside(layers[node.owner]), naming)
        for node in nodes
    }
    for row in rows:
        for owner, site in sites.items():
            # a row that does not fit a layer says nothing about it
            with contextlib.suppress(*UNFIT):
                for altered in row.alter(site):
                    yield _hypothesis(row, owner, altered, layers[owner])


def _hypothesis(row: Mistake, owner: str, altered: AlteredLayer, own: Layer) -> Hypothesis:
    layers = {owner: around(altered.layer, own)}
    return Hypothesis(row.cause, layers, altered.say, *altered[2:])
