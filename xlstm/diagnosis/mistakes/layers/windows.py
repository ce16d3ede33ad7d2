"""Rows of the table of causes: windows padded otherwise, and channels viewed in place of moved."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call, with_input
from xlstm.diagnosis.hypothesis.hypothesis import AlteredLayer, Mistake, SuspectLayer, called
from xlstm.diagnosis.mistakes.layers.options import WINDOWS
from xlstm.ir.layers import Bidirectional, Conv, DepthwiseConv, LayerSpec, Recurrent
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

MODES: tuple[tuple[str, str], ...] = (
    ("edge", "the numbers at its ends (replicate)"),
    ("wrap", "the numbers of its other end (circular)"),
    ("reflect", "its own numbers turned round (reflect)"),
    ("symmetric", "its own numbers turned round, the last one twice (symmetric)"),
)
"""Ways to pad of numpy, in words."""


def _ends(spec: Any) -> list[tuple[int, int]]:
    """Places before and after each axis that a convolution of stride 1 pads."""
    more = [(n - 1) * d for n, d in zip(spec.window, spec.dilation, strict=True)]
    if spec.padding == "causal":
        return [(n, 0) for n in more]
    return [(n // 2, n - n // 2) for n in more]


def _padded(mode: Any) -> Call:
    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        wide = np.pad(inputs[0], [(0, 0), *_ends(spec), (0, 0)], mode=mode)
        return forward(replace(own, padding="valid"), [wide], context)

    return call


def paddings(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A convolution that is padded with something else than zeros."""
    spec = site.spec
    if not isinstance(spec, (Conv, DepthwiseConv)) or spec.padding == "valid":
        return
    for mode, words in MODES if set(spec.strides) == {1} else ():
        text = f"Your convolution pads its input with {words}; a pads with zeros."
        yield called(site, _padded(mode), text, "Pad with zeros (padding_mode='zeros').")


def _viewed(x: Array) -> Array:
    """Channels first, as they lie, taken for channels last."""
    return np.moveaxis(x, -1, 1).reshape(x.shape)


def viewed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The output of a convolution or pool that is reshaped, not transposed, for a sequence."""
    if not isinstance(site.spec, (Recurrent, Bidirectional)) or site.layer.call is not forward:
        return
    before = site.model.node(site.node.inputs[0].node)
    if isinstance(before.spec, WINDOWS) and len(before.shape) > 1:
        text = f"The output of your {before.name} is viewed as (batch, time, channels) where its "
        text += "axes had to be moved: it has channels first."
        yield called(site, with_input(_viewed), text, "Use x.transpose(1, 2).")


ROWS = (
    Mistake("padding", paddings),
    Mistake("channels-order", viewed),
)
"""After the other options of a convolution."""
