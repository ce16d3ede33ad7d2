"""Rows of the table of causes: the factor of a dropout where nothing is dropped."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from xlstm.diagnosis.hypothesis.altered_model import times, with_input
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, parts, pieces
from xlstm.ir.graph import Model
from xlstm.ir.layers import Dropout
from xlstm.reference.basic import forward


def _rates(model: Model) -> list[float]:
    """The rates of dropout that a model was trained with."""
    specs = [pieces(node.spec)[0].specs[0] for node in model.layers]
    own = (s.rate if isinstance(s, Dropout) else getattr(s, "dropout", 0.0) for s in specs)
    return [*dict.fromkeys(rate for rate in own if 0 < rate < 1)]


def scaled(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """An input that is multiplied by what a dropout keeps, or divided by it."""
    if not parts(site.spec) or not site.node.inputs or site.layer.call is not forward:
        return
    for rate in _rates(site.model):
        for factor, words in ((1 - rate, "multiplied"), (1 / (1 - rate), "divided")):
            text = f"The input of your {site.node.name} is {words} by {1 - rate:g}, the factor of "
            text += f"a dropout of rate {rate:g}; a's is not."
            say = site.said(text, "Leave it out: outside training dropout does nothing.")
            layer = replace(site.layer, call=with_input(times(factor)))
            yield AlteredLayer(layer, say, f"dropout {words} {rate:g}", rare=True)


ROWS = (Mistake("dropout-scale", scaled),)
