"""Reads configs of layers that move, join or weight numbers; no framework.

In: the options of a config. Out: specs.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.types import Shape

from ..context import LIMITS, CallContext, Config, LayerRule, ReadContext
from .options import features, flag, is_first, keys, place, said_where
from .options import to_last as channels_last


def _flatten(config: Config, shape: Shape, _reader: ReadContext) -> Sequence[L.LayerSpec]:
    moved = is_first(config) and len(shape) > 1
    return [channels_last(len(shape) - 1), L.Flatten()] if moved else [L.Flatten()]


def _reshape(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.Reshape(tuple(None if size == -1 else size for size in config["target_shape"]))


def _permute(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.Permute(tuple(config["dims"]))


def _repeat(config: Config, _shape: Shape, _reader: ReadContext) -> L.LayerSpec:
    return L.RepeatVector(config["n"])


def _merge(_config: Config, _given: CallContext, _reader: ReadContext, how: str) -> L.LayerSpec:
    return L.Merge(how)


def _concatenate(config: Config, given: CallContext, reader: ReadContext) -> L.LayerSpec:
    axis, rank = config["axis"], len(given.shapes[0])
    if type(axis) is not int or axis in (0, -rank - 1):
        where = said_where(reader, config)
        raise UnsupportedError(where, "an axis after the batch", f"axis={axis!r}", LIMITS)
    return L.Concatenate(axis - 1 if axis > 0 else axis)


def _dot(config: Config, given: CallContext, reader: ReadContext) -> L.LayerSpec:
    axes = config["axes"]
    pair = [axes, axes] if type(axes) is int else list(axes)
    places = [place(axis, len(shape)) for axis, shape in zip(pair, given.shapes, strict=True)]
    steps = tuple(axis + 1 for axis in places)
    return (
        L.Dot(steps, True, reader.era.cosine_floor) if flag(config, "normalize") else L.Dot(steps)
    )


MODES = {"sum": "add", "mul": "multiply", "ave": "average", "max": "maximum"}


def _merge_of_keras_1(config: Config, given: CallContext, reader: ReadContext) -> L.LayerSpec:
    mode = config["mode"]
    if mode == "concat":
        return _concatenate({**config, "axis": config["concat_axis"]}, given, reader)
    if mode == "dot":
        return _dot({**config, "axes": config["dot_axes"], "normalize": False}, given, reader)
    if mode not in MODES:
        want = f"a Merge by {', '.join([*MODES, 'concat', 'dot'])}"
        raise UnsupportedError(said_where(reader, config), want, f"mode {mode!r}"[:60], LIMITS)
    return L.Merge(MODES[mode])


def _option(config: Config, given: CallContext, now: str, before: str) -> bool:
    """Returns an option of the call in Keras 3, of the layer before."""
    return bool(given.options.get(now) or config.get(before))


def _rank_three(config: Config, given: CallContext, reader: ReadContext) -> None:
    if any(len(shape) != 2 for shape in given.shapes):
        got = ", ".join(f"(batch, {str(shape)[1:]}" for shape in given.shapes)
        where = said_where(reader, config)
        raise UnsupportedError(where, "inputs (batch, time, features)", got, LIMITS)


def _attention(
    config: Config, given: CallContext, reader: ReadContext, score: str = ""
) -> L.LayerSpec:
    _rank_three(config, given, reader)
    masked = (*given.masked, False, False)[:2]
    return L.Attention(
        features(given.shapes[0], said_where(reader, config)),
        score or config.get("score_mode", "dot"),
        flag(config, "use_scale"),
        "".join(name for name, there in zip("qv", masked, strict=True) if there),
        _option(config, given, "use_causal_mask", "causal"),
        config.get("dropout", 0.0),
        given.several,
    )


def _heads(config: Config, given: CallContext, reader: ReadContext) -> L.LayerSpec:
    _rank_three(config, given, reader)
    where = said_where(reader, config)
    if config.get("attention_axes") not in (None, [1], (1,)):
        got = f"attention_axes={config['attention_axes']}"
        raise UnsupportedError(where, "attention over the time steps", got, LIMITS)
    query, value, key = (*given.shapes, given.shapes[1])[:3]
    masked = (*given.masked, False, False, False)[: len(given.shapes)]
    masks = "".join(name for name, there in zip("qvk", masked, strict=False) if there)
    masks = masks if masks and reader.era.masks_attention else ""
    causal = bool(given.options.get("use_causal_mask"))
    units = _one_size(config.get("output_shape"), where)
    dropout = config.get("dropout", 0.0)
    # with return_attention_scores Keras takes the code path of dropout
    by_dropout = bool(dropout or given.options.get("return_attention_scores"))
    return L.MultiHeadAttention(
        config["num_heads"],
        config["key_dim"],
        config.get("value_dim") or config["key_dim"],
        features(query, where),
        features(key, where),
        features(value, where),
        features(query, where) if units is None else units,
        flag({"use_bias": True, **config}, "use_bias"),
        masks,
        causal,
        reader.era.blind(by_dropout) if masks or causal else "uniform",
        dropout,
        given.several,
    )


def _one_size(value: Any, where: str) -> int | None:
    found = value[0] if isinstance(value, (list, tuple)) and len(value) == 1 else value
    if found is not None and type(found) is not int:
        raise UnsupportedError(where, "an output_shape of one size", f"{value}", LIMITS)
    return found


def _merges() -> dict[str, LayerRule]:
    names = "Add Subtract Multiply Average Maximum Minimum".split()
    return {
        name: LayerRule(
            partial(_merge, how=name.lower()), frozenset(), joins=True, arguments=("inputs",)
        )
        for name in names
    }


ATTENDED = ("inputs", "mask", "training", "return_attention_scores", "use_causal_mask")

HEADED = "query value key query_mask value_mask key_mask attention_mask".split()

RULES: dict[str, LayerRule] = {
    "Flatten": LayerRule(_flatten, keys("data_format"), keys("input_dim"), arguments=("inputs",)),
    "Reshape": LayerRule(_reshape, keys("target_shape"), arguments=("inputs",)),
    "Permute": LayerRule(_permute, keys("dims"), arguments=("inputs",)),
    "RepeatVector": LayerRule(_repeat, keys("n"), arguments=("inputs",)),
    **_merges(),
    "Concatenate": LayerRule(_concatenate, keys("axis"), joins=True, arguments=("inputs",)),
    "Dot": LayerRule(_dot, keys("axes normalize"), joins=True, arguments=("inputs",)),
    "Merge": LayerRule(
        _merge_of_keras_1,
        keys("mode concat_axis dot_axes"),
        keys("layers output_shape_type output_mask_type arguments node_indices tensor_indices"),
        {"mode_type": "raw", "output_shape": None, "output_mask": None},
        joins=True,
        arguments=("inputs",),
    ),
    "Attention": LayerRule(
        _attention,
        keys("use_scale score_mode causal dropout"),
        keys("seed"),
        joins=True,
        arguments=ATTENDED,
    ),
    "AdditiveAttention": LayerRule(
        partial(_attention, score="additive"),
        keys("use_scale causal dropout"),
        keys("seed"),
        {"score_mode": "dot"},
        joins=True,
        arguments=ATTENDED,
    ),
    "MultiHeadAttention": LayerRule(
        _heads,
        keys("num_heads key_dim value_dim output_shape use_bias dropout attention_axes"),
        # options of the computation, and shapes for which it was built
        keys("flash_attention seed query_shape key_shape value_shape"),
        {"use_gate": False, "sliding_window": None},
        joins=True,
        arguments=(*HEADED[:6], "return_attention_scores", "training", "use_causal_mask"),
    ),
}
"""Keras class name -> the rule that reads its config."""
