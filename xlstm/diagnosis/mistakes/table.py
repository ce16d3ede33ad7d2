"""The table of causes: every mistake that `diagnose` tries, the likelier ones first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from xlstm.diagnosis.hypothesis.altered_model import Layer
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Hypothesis, Mistake, SuspectLayer
from xlstm.diagnosis.hypothesis.time_distributed import around, inside
from xlstm.diagnosis.mistakes.layers import (
    activation_place,
    activations,
    attention,
    dropouts,
    embeddings,
    heads,
    joins,
    layer_order,
    moved_activation,
    options,
    windows,
)
from xlstm.diagnosis.mistakes.time import (
    bidirectional,
    cell_step,
    inputs,
    joined_inputs,
    loops,
    lost_steps,
    masks,
    mixed_axes,
    returned_piece,
    sequence,
    shifted_masks,
    states,
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

AFTER = activation_place.AFTER
"""Activations that may come after a layer."""

INSIDE = tuple(row for row in (*activations.ROWS, *activations.LATER) if row.cause == "activation")
"""Activations inside a layer."""

MOVED = moved_activation.ROWS
"""Activations before a layer for after it: seen inside a suspect they look like two mistakes."""

ROWS: tuple[Mistake, ...] = (
    *joins.ROWS,
    *activation_place.ROWS,
    *activations.ROWS,
    *bidirectional.ROWS,
    *sequence.ROWS,
    *lost_steps.POOLS,
    *loops.ROWS,
    *masks.ROWS,
    *shifted_masks.ROWS,
    *returned_piece.ROWS,
    *lost_steps.ROWS,
    *mixed_axes.ROWS,
    *joined_inputs.ROWS,
    *states.ROWS,
    *attention.ROWS,
    *heads.ROWS,
    *joins.LATER,
    *AFTER,
    *MOVED,
    *PLACES,
    *options.ROWS,
    *embeddings.ROWS,
    *windows.ROWS,
    *layer_order.ROWS,
    *activations.LATER,
    *contents.ROWS,
    *cell_step.ROWS,
    *inputs.ROWS,
    *dropouts.ROWS,
)
"""All of them; where two explain the same, the first one is named."""


TOGETHER: tuple[Mistake, ...] = (
    Mistake("gate-order", gate_order.whole_orders),
    *(row for row in ROWS if row.cause not in ("gate-order", "reshaped", "transposed", "option")),
)
"""Mistakes that are tried together with others."""

UNFIT = (XlstmError, LookupError, TypeError, ValueError)
"""What altering a layer that has no such option may raise."""


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
