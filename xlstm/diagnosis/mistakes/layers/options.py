"""Rows of the table of mistakes: options of the layers around the recurrent ones.

Channels in another order, other padding, embeddings that read other rows or scale them, the factor
of a dropout, and another value of any other option.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import (
    Call,
    in_place_of,
    times,
    with_input,
    with_inputs,
    with_output,
)
from xlstm.diagnosis.hypothesis import (
    AlteredLayer,
    Mistake,
    SuspectLayer,
    called,
    first_spec,
    parts,
)
from xlstm.diagnosis.mistakes.layers.activations import optioned
from xlstm.diagnosis.mistakes.layers.layer_order import scaled
from xlstm.ir import layers as L
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
from xlstm.reference.context import Context


def _as_if_first(x: Array) -> Array:
    """Channels-last numbers taken for channels-first ones."""
    return np.moveaxis(x.reshape(len(x), x.shape[-1], *x.shape[1:-1]), 1, -1)


WINDOWS = (L.Conv, L.ConvTranspose, L.DepthwiseConv, L.Pool, L.GlobalPool)


def channels_order(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Numbers flattened or reshaped channels first."""
    own = site.spec
    if isinstance(own, WINDOWS) and len(site.node.inputs) == 1:
        text = "Your input is reshaped to channels first where its axes had to be moved."
        yield called(site, with_input(_as_if_first), text, "Use x.movedim(-1, 1).")
    if not isinstance(own, (L.Flatten, L.Reshape)) or site.layer.call is not forward:
        return
    text = "Your numbers are flattened channels first; a flattens them channels last."
    fix = "Move the channels to the last axis first, as in x.movedim(1, -1).flatten(1)."
    yield called(site, with_input(lambda x: np.moveaxis(x, -1, 1)), text, fix)
    if isinstance(own, L.Reshape) and len(own.shape) > 1:
        text = "Your numbers are laid out channels first after the reshape; a's channels last."
        yield called(site, with_output(_as_if_first), text, fix)


def offsets(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Row numbers one too high or too low; a first row of zeros."""
    own = first_spec(site.spec)
    if not isinstance(own, L.Embedding):
        return
    rows, table = own.rows, site.layer.weights["table"]
    for more, word, fix in ((1, "high", "Subtract 1."), (-1, "low", "Add 1.")):
        text = f"Your embedding takes the row one too {word}."
        for end in ("clip", "wrap"):
            row_of = np.arange(rows).take(np.arange(rows) + more, mode=end)
            yield called(site, with_input(partial(_rows_of, row_of)), text, fix)
    for row in dict.fromkeys((*range(min(rows, 8)), rows - 1)):
        zeroed = table.copy()
        zeroed[row] = 0
        text = f"Row {row} of your embedding is zeros (padding_idx)."
        say = site.said(text, "Remove padding_idx: a's row is not zeros.")
        yield site.with_tensors({"table": zeroed}, say, f"padding {row}")
    for by in (1, -1) if rows > 1 else ():
        say = site.said(f"The rows of your embedding are moved by {by}.", "Move them back.")
        yield site.with_tensors({"table": np.roll(table, by, axis=0)}, say, f"rolled {by}")


def _rows_of(row_of: Array, ids: Array) -> Array:
    return np.asarray(row_of[np.trunc(ids).astype(int)])


def missing(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer without weights that is left out."""
    same = len(site.node.inputs) == 1 and len(site.node.shapes) == 1
    before = site.node.inputs[0] if site.node.inputs else None
    if parts(site.spec) or not same or before is None:
        return
    if len(site.model.shape(before)) == len(site.node.shape):
        text = f"Your model has no layer like {site.node.name} ({site.spec.kind})."
        yield called(site, in_place_of(np.asarray), text, "Put it in.")


def joined(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Inputs in the other order; another way to join them."""
    if isinstance(site.spec, (L.Merge, L.Concatenate)) and len(site.node.inputs) > 1:
        text = "Your inputs are joined in the other order."
        yield called(site, with_inputs(lambda xs: xs[::-1]), text, "Join them in a's order.")


def _at_step(number: int, y: Array) -> Array:
    """One step of a sequence, the others zeros."""
    found = np.zeros_like(y)
    found[:, number] = y[:, number]
    return found


def repeats(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A vector that is not repeated."""
    if isinstance(site.spec, L.RepeatVector) and site.spec.times > 1:
        for number, which in ((0, "first"), (-1, "last")):
            text = f"Your vector is passed at the {which} step alone, and zeros at the others; a "
            call, fix = with_output(partial(_at_step, number)), "Repeat it at every step."
            yield called(site, call, f"{text}repeats it.", fix)


TEMPERATURES = (2.0, 0.5, 10.0, 0.1, 3.0, 4.0, 5.0, 100.0, 0.01)


def temperatures(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A softmax of logits that are divided by a number."""
    spec = site.spec
    if getattr(spec, "activation", "") != "softmax" or not isinstance(
        spec, (L.Dense, L.Activation)
    ):
        return
    for number in TEMPERATURES:

        def cooled(x: Array, number: float = number) -> Array:
            return FUNCTIONS["softmax"](x / x.dtype.type(number))

        text = f"The logits of your softmax are scaled, divided by {number:g} (a temperature)."
        yield site.altered(
            text,
            "Remove the factor.",
            f"temperature {number}",
            rare=True,
            formulas={**site.layer.formulas, "output": cooled},
        )


def _variance(ddof: int, outside: bool) -> Call:
    """LayerNorm with another variance, or with epsilon added to the deviation."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        assert isinstance(spec, L.LayerNorm)
        (x,) = inputs
        centred = x - x.mean(axis=-1, keepdims=True)
        spread = x.var(axis=-1, keepdims=True, ddof=ddof)
        e = x.dtype.type(spec.epsilon)
        y = centred / (np.sqrt(spread) + e if outside else np.sqrt(spread + e))
        return [scaled(spec, y, context)]

    return call


def norms(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """LayerNorm by other formulas."""
    if isinstance(site.spec, L.LayerNorm) and not site.spec.groups and site.spec.features > 1:
        for ddof, outside in ((1, False), (0, True), (1, True)):
            what = "the unbiased variance (n - 1)" if ddof else "the variance"
            where = "epsilon is added to the deviation" if outside else "epsilon to the variance"
            text = f"Your LayerNorm divides by {what}; {where}."
            yield called(site, _variance(ddof, outside), text, "Use sqrt(variance + epsilon).")


def _skip(_name: str, value: object) -> bool:
    return not isinstance(value, (bool, str, int)) or _name in ACTED_ON


ACTED_ON: tuple[str, ...] = (
    "activation",
    "gate_activation",
    "use_bias",
    "stateful",
    "return_state",
    "merge",
)
ACTED_ON += ("return_sequences", "features", "units", "rows", "reset_after", "go_backwards")
ACTED_ON += (
    "zero_output_for_mask",
    "hidden_bias",
    "center",
    "projection",
    "peepholes",
    "mask_zero",
)

VALUES: dict[str, tuple[object, ...]] = {
    "how": ("sum", "mean", "max", "min", "average", "add", "subtract", "multiply", "maximum",
            "minimum"),
    "padding": ("valid", "same", "causal"),
    "axis": (-1, 0, 1, 2, -2),
    "start": (0, -1, 1),
    "forget_offset": (0.0, 1.0),
}  # fmt: skip
"""Values to try for options by name; those that a spec refuses are left out."""


def options(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Any other option of the layer."""
    for field in fields(first_spec(site.spec)):
        value = getattr(first_spec(site.spec), field.name)
        if _skip(field.name, value):
            continue
        values = (not value,) if isinstance(value, bool) else VALUES.get(field.name, ())
        for other in values:
            text = f"Your layer has {field.name}={other}; a has {{was_{field.name}}}"
            fix = f"Set it to {{was_{field.name}}}."
            yield from optioned(site, text, fix, **{field.name: other})


ROWS = (
    Mistake("channels-order", channels_order),
    Mistake("embedding-offset", offsets),
    Mistake("option", joined),
    Mistake("missing-layer", missing),
    Mistake("other-repeat", repeats),
    Mistake("softmax-scale", temperatures),
    Mistake("epsilon", norms),
    Mistake("option", options),
)


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
    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        wide = np.pad(inputs[0], [(0, 0), *_ends(spec), (0, 0)], mode=mode)
        return forward(replace(own, padding="valid"), [wide], context)

    return call


def paddings(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A convolution that is padded with something else than zeros."""
    spec = site.spec
    if not isinstance(spec, (L.Conv, L.DepthwiseConv)) or spec.padding == "valid":
        return
    for mode, words in MODES if set(spec.strides) == {1} else ():
        text = f"Your convolution pads its input with {words}; a pads with zeros."
        yield called(site, _padded(mode), text, "Pad with zeros (padding_mode='zeros').")


def _viewed(x: Array) -> Array:
    """Channels first, as they lie, taken for channels last."""
    return np.moveaxis(x, -1, 1).reshape(x.shape)


def viewed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The output of a convolution or pool that is reshaped, not transposed, for a sequence."""
    if not isinstance(site.spec, (L.Recurrent, L.Bidirectional)) or site.layer.call is not forward:
        return
    before = site.model.node(site.node.inputs[0].node)
    if isinstance(before.spec, WINDOWS) and len(before.shape) > 1:
        text = f"The output of your {before.name} is viewed as (batch, time, channels) where its "
        text += "axes had to be moved: it has channels first."
        yield called(site, with_input(_viewed), text, "Use x.transpose(1, 2).")


PADDED = (
    Mistake("padding", paddings),
    Mistake("channels-order", viewed),
)
"""After the other options of a convolution."""


TINY = 1e-7
"""The number that PyTorch adds to the length of a row that it shortens."""

LENGTHS = (1.0, 2.0, 5.0)
"""Largest lengths of rows (`max_norm`) that are tried."""


def _factors(width: int) -> Iterator[tuple[float, str]]:
    yield width**0.5, f"the square root of its {width} features"
    yield width**-0.5, f"1 by the square root of its {width} features"
    yield 2.0, "2"
    yield 0.5, "0.5"


def scaled_rows(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Rows that are multiplied by a number, such as the root of their length."""
    if isinstance(site.spec, L.Embedding):
        for factor, words in _factors(site.node.shape[-1] or 1):
            text = f"The output of your {site.node.name} is scaled: it is a's times {words}."
            yield called(site, with_output(times(factor)), text, "Remove the factor.")


def _shortened(limit: float, every: bool) -> Call:
    """Rows longer than a number made as long as it; `every` row where those are to be as long."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        table = context.weights["table"]
        length = np.sqrt((table * table).sum(axis=-1, keepdims=True))
        short = table * (table.dtype.type(limit) / (length + table.dtype.type(TINY)))
        own = short if every else np.where(length > limit, short, table)
        return forward(spec, inputs, replace(context, weights={**context.weights, "table": own}))

    return call


def shortened(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Rows that are not longer than a number, or all of one length."""
    if not isinstance(site.spec, L.Embedding):
        return
    for limit in LENGTHS:
        text = f"The rows of your embedding are scaled down to length {limit:g} where they are "
        fix = "Remove max_norm: it also changes the weights, in every run."
        yield called(site, _shortened(limit, False), f"{text}longer (max_norm={limit:g}).", fix)
    text = "The rows of your embedding are scaled to length 1 (normalised)."
    yield called(site, _shortened(1.0, True), text, "Remove the norm.")


SCALED_ROWS = (Mistake("embedding-rows", scaled_rows),)

EMBEDDINGS = (
    *SCALED_ROWS,
    Mistake("embedding-rows", shortened),
)


def _rates(model: Model) -> list[float]:
    """The rates of dropout that a model was trained with."""
    specs = [first_spec(node.spec) for node in model.layers]
    own = (s.rate if isinstance(s, L.Dropout) else getattr(s, "dropout", 0.0) for s in specs)
    return [*dict.fromkeys(rate for rate in own if 0 < rate < 1)]


def dropout_scaled(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """An input that is multiplied by what a dropout keeps, or divided by it."""
    if not parts(site.spec) or not site.node.inputs or site.layer.call is not forward:
        return
    for rate in _rates(site.model):
        for factor, words in ((1 - rate, "multiplied"), (1 / (1 - rate), "divided")):
            text = f"The input of your {site.node.name} is {words} by {1 - rate:g}, the factor of "
            text += f"a dropout of rate {rate:g}; a's is not."
            yield site.altered(
                text,
                "Remove the factor: outside training dropout does nothing.",
                f"dropout {words} {rate:g}",
                rare=True,
                call=with_input(times(factor)),
            )


DROPOUTS = (Mistake("dropout-scale", dropout_scaled),)
