"""Specs of attention.

>>> Attention(features=4).output_shapes((5, 4), (7, 4))
((5, 4),)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from xlstm.ir.layers.base import LayerSpec, check_rate, check_size
from xlstm.ir.layers.fields import OneOf
from xlstm.ir.layers.merge import _alike, _clash
from xlstm.ir.types import Shape

__all__ = ["Attention", "MultiHeadAttention"]


def _check_attended(
    spec: LayerSpec, shapes: tuple[Shape, ...], masks: str, features: Shape
) -> None:
    """Raises UsageError unless the inputs are query, value, perhaps key, then `masks`, and fit.

    `features` are the sizes of the last axes of query, value and key, None for any.
    """
    inputs = shapes[: len(shapes) - len(masks)]
    want = f"query, value, perhaps key (batch, time, features), features {features}, masks {masks}"
    keyless = "k" in masks and len(inputs) == 2
    if len(inputs) not in (2, 3) or any(len(s) != 2 for s in inputs) or keyless:
        raise _clash(spec, want, shapes)
    query, value, key = (*inputs, inputs[1])[:3]
    steps: dict[str, Shape] = {"q": query[:1], "v": value[:1], "k": key[:1]}
    pairs = [(steps[name], mask) for name, mask in zip(masks, shapes[len(inputs) :], strict=True)]
    sizes = zip((query[1], value[1], key[1]), features, strict=True)
    fits = all(wanted in (None, size) for size, wanted in sizes) and _alike({value[:1], key[:1]})
    if not fits or any(len(mask) != 1 or not _alike({time, mask}) for time, mask in pairs):
        raise _clash(spec, want, shapes)


@dataclass(frozen=True)
class Attention(LayerSpec):
    """Dot-product or additive attention; its only weight is an optional scale.

    Inputs query (B, Tq, D), value (B, Tv, D), perhaps key (B, Tv, D), then the masks that `masks`
    names; with a key, the value may have another number of features. weights = softmax(scores) over
    Tv; output = weights value.

        dot       scores = scale * query key^T
        concat    scores = attention_scale * sum of tanh(scale * (query + key))   (Keras: "concat")
        additive  scores = sum over D of scale * tanh(query + key)                AdditiveAttention

    The score of a masked value, or with `causal` of one after the query, is 1e9 lower: its weight
    is 0. Where all values of a query are masked, their weights are as if none were.

    Attributes:
        score: one of these.
        scaled: True if the scale is a weight (a number, or D numbers if additive).
        features: D.
        masks: "v" (of values), "q" (of queries; the output of a masked one is zeros), "qv", "".
        causal: True if a query sees no value after it.
        dropout: acts in training only.
        scores: True if the weights (B, Tq, Tv) are the second output.
    """

    kind: ClassVar[str] = "Attention"
    arity: ClassVar[tuple[int, int]] = (2, 5)
    features: int
    score: Annotated[str, OneOf(("dot", "concat", "additive"))] = "dot"
    scaled: bool = False
    masks: Annotated[str, OneOf(("", "q", "v", "qv"))] = ""
    causal: bool = False
    dropout: float = 0.0
    scores: bool = False

    def check(self) -> None:
        check_size("Attention", features=self.features)
        check_rate("Attention", self.dropout)

    @property
    def weight_kind(self) -> str:
        return {"dot": "Attention", "concat": "Attention, concat"}.get(
            self.score, "AdditiveAttention"
        )

    def sizes(self) -> dict[str, int]:
        return {"o": self.features} if self.scaled or self.score == "concat" else {}

    def missing_tensors(self) -> frozenset[str]:
        return frozenset() if self.scaled else frozenset({"scale"})

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        _check_attended(self, shapes, self.masks, (self.features, None, self.features))
        weights = ((shapes[0][0], shapes[1][0]),) if self.scores else ()
        return ((shapes[0][0], shapes[1][1]), *weights)


BLIND = ("uniform", "zeros", "lowered")


MASKS = ("", "q", "v", "k", "qv", "qk", "vk", "qvk")
"""Masks that attention of several heads may have, always in this order."""


@dataclass(frozen=True)
class MultiHeadAttention(LayerSpec):
    """Attention of several heads (Vaswani et al. 2017), as Keras and Flax write it.

    Inputs query (B, Tq, F), value (B, Tv, Fv), perhaps key, then the masks that `masks` names. For
    every head q = query W_q + b_q, k, v likewise; weights = softmax(q k^T / sqrt(key_dim)); the
    heads' weights v are multiplied by one W_o (heads, value_dim, output) and summed, plus b_o.

    A query sees the values that no mask hides from it. A query that sees none is `blind`; a masked
    query is one.

    Attributes:
        masks: "q", "v", "k" (of queries, values, keys), in this order; "" for none.
        causal: True if a query sees no value after it.
        blind: output of a blind query's heads. "uniform": the mean of all values (Keras from 3.7 on
            without dropout; Flax). "zeros" (Keras from 3.10 on with dropout). "lowered": all scores
            are 1e9 lower, so that the query sees all values (Keras before).
        dropout: acts in training only.
        scores: True if the weights (B, heads, Tq, Tv) are the second output.
    """

    kind: ClassVar[str] = "MultiHeadAttention"
    arity: ClassVar[tuple[int, int]] = (2, 6)
    heads: int
    key_dim: int
    value_dim: int
    query_features: int
    key_features: int
    value_features: int
    units: int
    use_bias: bool = True
    masks: Annotated[str, OneOf(MASKS)] = ""
    causal: bool = False
    blind: Annotated[str, OneOf(BLIND)] = "uniform"
    dropout: float = 0.0
    scores: bool = False

    def check(self) -> None:
        check_size(self.kind, **{name: getattr(self, name) for name in self.SIZES.values()})
        check_rate(self.kind, self.dropout)

    SIZES: ClassVar[dict[str, str]] = {
        "n": "heads",
        "k": "key_dim",
        "v": "value_dim",
        "q": "query_features",
        "e": "key_features",
        "i": "value_features",
        "o": "units",
    }

    def sizes(self) -> dict[str, int]:
        return {axis: getattr(self, name) for axis, name in self.SIZES.items()}

    def missing_tensors(self) -> frozenset[str]:
        biases = ("query_bias", "key_bias", "value_bias", "output_bias")
        return frozenset() if self.use_bias else frozenset(biases)

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        features = (self.query_features, self.value_features, self.key_features)
        _check_attended(self, shapes, self.masks, features)
        weights = ((self.heads, shapes[0][0], shapes[1][0]),) if self.scores else ()
        return ((shapes[0][0], self.units), *weights)
