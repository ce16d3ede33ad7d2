"""Rows of the table of causes: heads of an attention that are mixed up, or projected otherwise.

F features, N heads, D features of a head.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Call
from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Mistake,
    SuspectLayer,
    called,
    with_tensors,
)
from xlstm.ir.layers import LayerSpec, MultiHeadAttention
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context

THREE = ("query", "key", "value")
Change = Callable[[Array, int], Array]


def _viewed(x: Array, axis: int) -> Array:
    """Numbers of (N, D), as they lie, taken for (D, N), and put in a's order: `axis` is N's."""
    shape = list(x.shape)
    shape[axis : axis + 2] = shape[axis + 1], shape[axis]
    return x.reshape(shape).swapaxes(axis, axis + 1)


def _laid(x: Array, axis: int) -> Array:
    """Numbers of (N, D) laid out as (D, N) where (N, D) is read."""
    return x.swapaxes(axis, axis + 1).reshape(x.shape)


CHANGES: tuple[tuple[Change, str], ...] = (
    (_viewed, "viewed as (features, heads) where a has (heads, features)"),
    (_laid, "laid out as (features, heads) where a has (heads, features)"),
)


def _chosen(names: tuple[str, ...]) -> Iterator[tuple[str, dict[str, int]]]:
    """The inputs that are mixed up, in words, and their tensors with the axis of their heads."""
    for name in names:
        yield f"Its {name}'s kernel is", {f"{name}_kernel": 1}
        yield f"Its {name} is", {f"{name}_kernel": 1, f"{name}_bias": 0}
    yield "The output of its heads is", {"output_kernel": 0}
    both = {f"{name}_{tensor}": axis for name in names for tensor, axis in TENSORS}
    yield "Its query, key and value are", both


TENSORS = (("kernel", 1), ("bias", 0))


def mixed(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Heads and their features in each other's place: a view where axes had to be moved."""
    spec, own = site.spec, site.layer.weights
    if not isinstance(spec, MultiHeadAttention):
        return
    for words, axes in _chosen(THREE):
        for change, how in CHANGES:
            found = {n: change(own[n], axis) for n, axis in axes.items() if n in own}
            if any(not np.array_equal(found[n], own[n]) for n in found):
                text = f"The heads of your attention are mixed up: {words[:1].lower()}{words[1:]}"
                say = site.said(f"{text} {how}.", "Reshape to (heads, features), heads first.")
                layer = with_tensors(site.layer, found)
                yield AlteredLayer(layer, say, f"{words} {how}", tuple(found), rare=True)


def _projected(name: str, other: str) -> Call:
    """Attention one of whose three is projected as another one is."""

    def call(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        weights, at = dict(context.weights), [THREE.index(n) for n in (name, other)]
        for tensor in ("kernel", "bias"):
            if f"{name}_{tensor}" in weights:
                weights[f"{name}_{tensor}"] = weights[f"{other}_{tensor}"]
        # inputs are query, value, key
        places = [(0, 2, 1)[n] for n in at]
        three = [*inputs, inputs[1]][:3] if len(inputs) == 2 else list(inputs)
        three[places[0]] = three[places[1]]
        context.weights = weights
        return forward(spec, three, context)

    return call


def projected(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """The projected query, key or value used in another one's place."""
    spec: Any = site.spec
    if not isinstance(spec, MultiHeadAttention) or spec.masks:
        return
    for name, other in ((n, o) for n in THREE[::-1] for o in THREE if n != o):
        text = f"Your attention uses the projected {other} for the {name} too."
        yield called(site, _projected(name, other), text, f"Use the {name}'s own projection.")


def _unprojected(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    """The heads laid end to end."""
    kernel = context.weights["output_kernel"]
    size = kernel.shape[0] * kernel.shape[1]
    if size != kernel.shape[2]:
        raise ValueError("the heads have another number of features than the output")
    own = {**context.weights, "output_kernel": np.eye(size, dtype=kernel.dtype)}
    own["output_kernel"] = own["output_kernel"].reshape(kernel.shape)
    context.weights = own
    return forward(spec, inputs, context)


def output_lost(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """No projection of the output."""
    if isinstance(site.spec, MultiHeadAttention):
        text = "The output projection of your attention is left out: its heads are laid end to end."
        yield called(site, _unprojected, text, "Multiply with the output kernel.")


ROWS = (
    Mistake("attention", projected),
    Mistake("attention", output_lost),
    Mistake("attention", mixed),
)
