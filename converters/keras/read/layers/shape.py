"""Reads configs of layers that move, join or weight numbers; no framework.

In: the options of a config. Out: specs.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from xlstm.ir import layers as L

from .options import LayerConfig, Specs, place, rule
from .options import to_last as channels_last


@rule("Flatten", "data_format", "input_dim", arguments="inputs")
def _flatten(layer: LayerConfig) -> Specs:
    rank = len(layer.shape) - 1
    return [channels_last(rank), L.Flatten()] if layer.is_first and rank > 0 else L.Flatten()


@rule("Reshape", "target_shape", arguments="inputs")
def _reshape(layer: LayerConfig) -> Specs:
    return L.Reshape(tuple(None if size == -1 else size for size in layer.config["target_shape"]))


@rule("Permute", "dims", arguments="inputs")
def _permute(layer: LayerConfig) -> Specs:
    return L.Permute(tuple(layer.config["dims"]))


@rule("RepeatVector", "n", arguments="inputs")
def _repeat(layer: LayerConfig) -> Specs:
    return L.RepeatVector(layer.config["n"])


@rule("Add Subtract Multiply Average Maximum Minimum", arguments="inputs", joins=True)
def _merge(layer: LayerConfig) -> Specs:
    return L.Merge(layer.kind.lower())


@rule("Concatenate", "axis", arguments="inputs", joins=True)
def _concatenate(layer: LayerConfig) -> Specs:
    axis, rank = layer.config["axis"], len(layer.shape)
    if type(axis) is not int or axis in (0, -rank - 1):
        raise layer.refused("an axis after the batch", f"axis={axis!r}")
    return L.Concatenate(axis - 1 if axis > 0 else axis)


@rule("Dot", "axes normalize", arguments="inputs", joins=True)
def _dot(layer: LayerConfig) -> Specs:
    axes = layer.config["axes"]
    pair = [axes, axes] if type(axes) is int else list(axes)
    shapes = layer.given.shapes
    places = [place(axis, len(shape)) for axis, shape in zip(pair, shapes, strict=True)]
    steps = tuple(axis + 1 for axis in places)
    if not layer.flag("normalize"):
        return L.Dot(steps)
    return L.Dot(steps, True, layer.reader.era.cosine_floor)


MODES = {"sum": "add", "mul": "multiply", "ave": "average", "max": "maximum"}


@rule(
    "Merge",
    "mode concat_axis dot_axes",
    "layers output_shape_type output_mask_type arguments node_indices tensor_indices",
    {"mode_type": "raw", "output_shape": None, "output_mask": None},
    "inputs",
    joins=True,
)
def _merge_of_keras_1(layer: LayerConfig) -> Specs:
    config, mode = layer.config, layer.config["mode"]
    if mode == "concat":
        return _concatenate(replace(layer, config={**config, "axis": config["concat_axis"]}))
    if mode == "dot":
        options = {**config, "axes": config["dot_axes"], "normalize": False}
        return _dot(replace(layer, config=options))
    if mode not in MODES:
        want = f"a Merge by {', '.join([*MODES, 'concat', 'dot'])}"
        raise layer.refused(want, f"mode {mode!r}"[:60])
    return L.Merge(MODES[mode])


def _check_rank_three(layer: LayerConfig) -> None:
    if any(len(shape) != 2 for shape in layer.given.shapes):
        got = ", ".join(f"(batch, {str(shape)[1:]}" for shape in layer.given.shapes)
        raise layer.refused("inputs (batch, time, features)", got)


ATTENDED = "inputs mask training return_attention_scores use_causal_mask"


@rule("Attention", "use_scale score_mode causal dropout", "seed", None, ATTENDED, joins=True)
@rule(
    "AdditiveAttention",
    "use_scale causal dropout",
    "seed",
    {"score_mode": "dot"},
    ATTENDED,
    joins=True,
)
def _attention(layer: LayerConfig) -> Specs:
    config, context = layer.config, layer.given
    _check_rank_three(layer)
    masked = (*context.masked, False, False)[:2]
    additive = layer.kind == "AdditiveAttention"
    return L.Attention(
        layer.features(),
        "additive" if additive else config.get("score_mode", "dot"),
        layer.flag("use_scale"),
        "".join(name for name, there in zip("qv", masked, strict=True) if there),
        # an option of the call in Keras 3, of the layer before
        bool(context.options.get("use_causal_mask") or config.get("causal")),
        config.get("dropout", 0.0),
        context.several,
    )


@rule(
    "MultiHeadAttention",
    "num_heads key_dim value_dim output_shape use_bias dropout attention_axes",
    # options of the computation, and shapes for which it was built
    "flash_attention seed query_shape key_shape value_shape",
    {"use_gate": False, "sliding_window": None},
    "query value key query_mask value_mask key_mask return_attention_scores training "
    "use_causal_mask",
    joins=True,
)
def _heads(layer: LayerConfig) -> Specs:
    config, context, era = layer.config, layer.given, layer.reader.era
    _check_rank_three(layer)
    if config.get("attention_axes") not in (None, [1], (1,)):
        got = f"attention_axes={config['attention_axes']}"
        raise layer.refused("attention over the time steps", got)
    query, value, key = (*context.shapes, context.shapes[1])[:3]
    masked = (*context.masked, False, False, False)[: len(context.shapes)]
    masks = "".join(name for name, there in zip("qvk", masked, strict=False) if there)
    masks = masks if masks and era.masks_attention else ""
    causal = bool(context.options.get("use_causal_mask"))
    sizes: Any = config.get("output_shape")
    units = sizes[0] if isinstance(sizes, (list, tuple)) and len(sizes) == 1 else sizes
    if units is not None and type(units) is not int:
        raise layer.refused("an output_shape of one size", sizes)
    dropout = config.get("dropout", 0.0)
    # with return_attention_scores Keras takes the code path of dropout
    by_dropout = bool(dropout or context.options.get("return_attention_scores"))
    return L.MultiHeadAttention(
        config["num_heads"],
        config["key_dim"],
        config.get("value_dim") or config["key_dim"],
        layer.features(query),
        layer.features(key),
        layer.features(value),
        layer.features(query) if units is None else units,
        layer.flag("use_bias", True),
        masks,
        causal,
        era.blind(by_dropout) if masks or causal else "uniform",
        dropout,
        context.several,
    )
