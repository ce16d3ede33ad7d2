"""Writes attention as Flax source. In: a spec and its context. Out: lines of the module.

`Attention(4)` on one input, named a, is called as

    x = self.a(x, x)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge
from xlstm.ir.layers import Attention, MultiHeadAttention
from xlstm.ir.literals import literal

from ...codegen.source import Argument, CallExpr, call, template_sources
from .dialect import CELLS, WRITERS, Dialect, FlaxLayerWriter

ATTENTIONS = {"dot": "DotAttention", "concat": "ConcatAttention", "additive": "AdditiveAttention"}


def _parted(
    spec: Attention | MultiHeadAttention, at: FlaxLayerWriter
) -> tuple[list[str], dict[str, str]]:
    """Returns variables of query, value and perhaps key, and of the masks by name."""
    inputs = list(at.site.inputs)
    count = len(inputs) - len(spec.masks)
    return inputs[:count], dict(zip(spec.masks, inputs[count:], strict=True))


def _seen(at: FlaxLayerWriter, masks: dict[str, str], causal: bool, heads: bool) -> str:
    """Writes the values that each query sees; returns the variable, "" if it sees all."""
    query, value = at.site.inputs[:2]
    places = {"q": ":, None, :, None", "v": ":, None, None", "k": ":, None, None"}
    place = places if heads else {"v": ":, None"}
    sizes = (f"{query}.shape[1]", f"{value}.shape[1]")
    terms: list[CallExpr | str] = [call("jnp.tri", *sizes, ("dtype", "bool"))] if causal else []
    terms += [f"{mask}[{place[name]}]" for name, mask in masks.items()]
    if not terms:
        return ""
    seen = at.site.free("seen")
    at.assign(seen, terms[0])
    for term in terms[1:]:
        at.assign(seen, f"{seen} & {term}")
    return seen


@WRITERS.of(L.Attention)
def attention(spec: Attention, at: FlaxLayerWriter) -> None:
    """Writes attention without weights, but perhaps a scale."""
    arrays, masks = _parted(spec, at)
    counts = masks.pop("q", "")
    size = literal(spec.features) if spec.score == "additive" and spec.scaled else None
    scaled = ("use_scale", "True") if spec.scaled else None
    if spec.scores:
        _weighing(ATTENTIONS[spec.score], at, size, scaled)
    else:
        at.use_template(ATTENTIONS[spec.score], size, scaled)
        at.parts.use_template(CELLS, "weighed")
    seen = _seen(at, masks, spec.causal, heads=False)
    value: Argument = at.call(*arrays, ("seen", seen) if seen else None)
    if spec.scores:
        at.assign(", ".join(at.site.outputs), value)
        value = at.site.y
    at.set_output(call("jnp.where", f"{counts}[..., None]", value, "0") if counts else value)


def _weighing(name: str, at: FlaxLayerWriter, *args: Argument | None) -> None:
    """Writes our own attention, with its weights as a second output."""
    at.parts.use_template(CELLS, "weighed_with")
    made = f"{name}WithWeights"
    text = template_sources(at.dialect.layers)[name].replace(f"class {name}(", f"class {made}(")
    text = text.replace("    ) -> jax.Array:", "    ) -> tuple[jax.Array, jax.Array]:")
    text = text.replace("-> (batch, queries, m).", "-> (batch, queries, m), and the weights.")
    text = text.replace("return weighed(", "return weighed_with(")
    at.parts.add_helper(text)
    at.parts.init.append(f"        # {at.dialect.why(name)}")
    at.set_attribute(call(made, *args, *at.dialect.options))


WEIGHTS = {"uniform": "", "zeros": "weights_or_zeros", "lowered": "weights_lowered"}
"""Output of a query that sees nothing -> our own function for the weights."""


def attend(spec: MultiHeadAttention, dialect: Dialect) -> str:
    """Returns our own function for weighted values, "" where the native one is exact."""
    names = {"zeros": "attend_or_zeros", "lowered": "attend_lowered"}
    blind = names.get(spec.blind, "") if spec.masks or spec.causal else ""
    return blind or dialect.attend


def even(spec: MultiHeadAttention, calls: tuple[tuple[Edge, ...], ...]) -> bool:
    """True if keys are values everywhere, and all heads have one size, as in the native layer."""
    arrays = [call[: len(call) - len(spec.masks)] for call in calls]
    keyless = all(len(found) == 2 or found[1] == found[2] for found in arrays)
    return keyless and spec.key_dim == spec.value_dim


def _sizes(spec: MultiHeadAttention, at: FlaxLayerWriter) -> tuple[Argument | None, ...]:
    """Returns the arguments that native and own layer share."""
    features = at.sized(spec.query_features)
    return (
        ("num_heads", literal(spec.heads)),
        ("in_features", features) if features else None,
        ("qkv_features", literal(spec.heads * spec.key_dim)),
        ("out_features", literal(spec.units)),
    )


def _value_sizes(spec: MultiHeadAttention, at: FlaxLayerWriter) -> list[Argument]:
    """Returns the arguments of our own layer for keys and values of any size."""
    features = () if at.dialect.functional else ("key_features", "value_features")
    return [(name, literal(getattr(spec, name))) for name in (*features, "value_dim")]


def _options(spec: MultiHeadAttention, at: FlaxLayerWriter) -> tuple[Argument | None, ...]:
    name = attend(spec, at.dialect)
    if name:
        at.parts.use_template(at.dialect.layers, name)
    return (
        None if spec.use_bias else ("use_bias", "False"),
        ("dropout_rate", literal(spec.dropout)) if spec.dropout else None,
        ("broadcast_dropout", "False") if spec.dropout else None,
        ("attention_fn", name) if name else None,
        None if at.dialect.functional else ("decode", "False"),
    )


@WRITERS.of(L.MultiHeadAttention)
def multi_head(spec: MultiHeadAttention, at: FlaxLayerWriter) -> None:
    """Writes attention with several heads."""
    arrays, masks = _parted(spec, at)
    query, value, key = (*arrays, arrays[1])[:3]
    if spec.scores:
        _heads_with_weights(spec, at, (query, key, value), masks)
        return
    if even(spec, at.calls):
        size = at.sized(spec.key_features)
        features = ("in_kv_features", size) if size else None
        at.layer("MultiHeadAttention", *_sizes(spec, at), features, *_options(spec, at))
        called = [query, value]
    else:
        sizes = (*_sizes(spec, at), *_value_sizes(spec, at))
        at.use_template("UnevenAttention", *sizes, *_options(spec, at))
        called = [query, key, value]
    seen = _seen(at, masks, spec.causal, heads=True)
    still = at.dialect.training("deterministic") if spec.dropout else None
    at.set_output(at.call(*called, ("mask", seen) if seen else None, still))


def _heads_with_weights(
    spec: MultiHeadAttention,
    at: FlaxLayerWriter,
    arrays: tuple[str, str, str],
    masks: dict[str, str],
) -> None:
    """Writes heads with their weights as a second output."""
    name = WEIGHTS[spec.blind] if masks or spec.causal else ""
    if not at.dialect.functional:
        at.parts.use_template(at.dialect.layers, "UnevenAttention")
    if name:
        text, native = template_sources(CELLS)[name], "dot_product_attention_weights"
        at.parts.add_helper(text.replace(native, at.dialect.weights))
    at.use_template(
        "WeighingAttention",
        *_sizes(spec, at),
        *_value_sizes(spec, at),
        None if spec.use_bias else ("use_bias", "False"),
        ("attention_fn", name or at.dialect.weights),
        None if at.dialect.functional else ("decode", "False"),
    )
    seen = _seen(at, masks, spec.causal, heads=True)
    made = at.call(*arrays, ("mask", seen) if seen else None)
    at.assign(", ".join(at.site.outputs), made)
