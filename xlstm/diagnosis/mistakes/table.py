"""The table of causes: every mistake that `diagnose` tries, the likelier ones first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping

from xlstm.diagnosis.hypothesis.altered_model import Layer
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Hypothesis, Mistake, SuspectLayer
from xlstm.diagnosis.hypothesis.time_distributed import around, inside
from xlstm.diagnosis.mistakes.layers import activation_place as rows_outside
from xlstm.diagnosis.mistakes.layers import activations as rows_function
from xlstm.diagnosis.mistakes.layers import attention as rows_attention
from xlstm.diagnosis.mistakes.layers import dropouts as rows_dropouts
from xlstm.diagnosis.mistakes.layers import embeddings as rows_embeddings
from xlstm.diagnosis.mistakes.layers import heads as rows_heads
from xlstm.diagnosis.mistakes.layers import joins as rows_joins
from xlstm.diagnosis.mistakes.layers import layer_order as rows_norms
from xlstm.diagnosis.mistakes.layers import moved_activation as rows_moved
from xlstm.diagnosis.mistakes.layers import options as rows_around
from xlstm.diagnosis.mistakes.layers import windows as rows_windows
from xlstm.diagnosis.mistakes.time import bidirectional as rows_both
from xlstm.diagnosis.mistakes.time import cell_step as rows_steps
from xlstm.diagnosis.mistakes.time import inputs as rows_inputs
from xlstm.diagnosis.mistakes.time import joined_inputs as rows_joined
from xlstm.diagnosis.mistakes.time import loops as rows_loops
from xlstm.diagnosis.mistakes.time import lost_steps as rows_lost
from xlstm.diagnosis.mistakes.time import masks as rows_masks
from xlstm.diagnosis.mistakes.time import mixed_axes as rows_axes
from xlstm.diagnosis.mistakes.time import returned_piece as rows_pieces
from xlstm.diagnosis.mistakes.time import sequence as rows_sequence
from xlstm.diagnosis.mistakes.time import shifted_masks as rows_moved_masks
from xlstm.diagnosis.mistakes.time import states as rows_states
from xlstm.diagnosis.mistakes.weights import bias as rows_bias
from xlstm.diagnosis.mistakes.weights import contents as rows_content
from xlstm.diagnosis.mistakes.weights import gate_order as rows_orders
from xlstm.diagnosis.mistakes.weights import tensors as rows_weights
from xlstm.diagnosis.pairing.names import Naming
from xlstm.errors import XlstmError
from xlstm.ir.graph import Model, Node

PLACES: tuple[Mistake, ...] = (
    *rows_orders.ROWS,
    *rows_weights.ROWS,
    *rows_bias.ROWS,
)
"""Numbers in the wrong place, or biases that are other ones."""

WEIGHTS = (*PLACES, *rows_content.ROWS)
"""All that may have happened to numbers."""

AFTER = rows_outside.AFTER
"""Activations that may come after a layer."""

INSIDE = tuple(
    row for row in (*rows_function.ROWS, *rows_function.LATER) if row.cause == "activation"
)
"""Activations inside a layer."""

MOVED = rows_moved.ROWS
"""Activations before a layer for after it: seen inside a suspect they look like two mistakes."""

ROWS: tuple[Mistake, ...] = (
    *rows_joins.ROWS,
    *rows_outside.ROWS,
    *rows_function.ROWS,
    *rows_both.ROWS,
    *rows_sequence.ROWS,
    *rows_lost.POOLS,
    *rows_loops.ROWS,
    *rows_masks.ROWS,
    *rows_moved_masks.ROWS,
    *rows_pieces.ROWS,
    *rows_lost.ROWS,
    *rows_axes.ROWS,
    *rows_joined.ROWS,
    *rows_states.ROWS,
    *rows_attention.ROWS,
    *rows_heads.ROWS,
    *rows_joins.LATER,
    *AFTER,
    *MOVED,
    *PLACES,
    *rows_around.ROWS,
    *rows_embeddings.ROWS,
    *rows_windows.ROWS,
    *rows_norms.ROWS,
    *rows_function.LATER,
    *rows_content.ROWS,
    *rows_steps.ROWS,
    *rows_inputs.ROWS,
    *rows_dropouts.ROWS,
)
"""All of them; where two explain the same, the first one is named."""


TOGETHER: tuple[Mistake, ...] = (
    Mistake("gate-order", rows_orders.whole_orders),
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
