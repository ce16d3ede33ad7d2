"""Compares weights tensor by tensor, and names what happened to those that differ.

In: the truth, and the suspect's tensors paired with its layers. Out: mistakes; for numbers that
none explains a sentence on what they have in common with a's, and the first wrong place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.diagnosis.altered_model import Layer, layers_of
from xlstm.diagnosis.hypothesis import Hypothesis, Mistake, Part, fixed, parts, with_tensors
from xlstm.diagnosis.mistakes.table import WEIGHTS, hypotheses
from xlstm.diagnosis.pairing.names import Naming, Said
from xlstm.diagnosis.pairing.tensors import Paired
from xlstm.errors import XlstmError
from xlstm.ir.graph import Model, Node
from xlstm.ir.types import Array, Shape
from xlstm.slots import Table, pack, split_bias_sides

Hub = Mapping[str, Array]


def facts(model: Model, paired: Paired) -> dict[str, dict[str, Array]]:
    """The suspect's hub tensors of each layer that is known; what it lacks is zeros or ones.

    Nothing is said to be lacking while arrays of the same layer stand for nothing.
    """
    found: dict[str, dict[str, Array]] = {}
    for node in (node for node in model.layers if not node.layer):
        theirs = paired.hub.get(node.name)
        if theirs is None or not parts(node.spec):
            continue
        own = model.weights.get(node.name, {})
        unread = paired.unread(node.name)
        lacking = {n: a for n, a in own.items() if n not in theirs}
        ones = ("gamma", "variance")
        missing = {
            n: a if unread else np.full_like(a, float(n in ones)) for n, a in lacking.items()
        }
        found[node.name] = {n: np.asarray(a) for n, a in {**theirs, **missing}.items()}
    return found


def differing(model: Model, node: Node, own: Hub, other: Hub) -> list[str]:
    """Names of the tensors of a layer that are not the same numbers.

    Numbers that are stored in a lower precision, but no lower than float32, count as the same; so
    does one bias for the sum of two where that is the same function.
    """
    found = []
    for part in parts(node.spec):
        for tensor in part.kind.tensors:
            name = part.before + tensor
            if not _same(part, tensor, own.get(name), other.get(name)):
                found.append(name)
    return found


def _same(part: Part, tensor: str, a: Array | None, b: Array | None) -> bool:
    if a is None or b is None:
        one = a if b is None else b
        return one is None or not one.any()
    return equal(part, tensor, a, b)


def equal(part: Part, tensor: str, a: Array, b: Array) -> bool:
    """True if two hub tensors are the same numbers in the lower of their precisions."""
    if "s" in part.kind.tensors[tensor]:
        if len(a) != len(b) or not _close(a, b):
            a, b = split_bias_sides(part.kind, a), split_bias_sides(part.kind, b)
            return a.shape == b.shape and _near(a, b)
        return True
    # a bias is what people compute, as where a normalisation is folded into a layer
    return _close(a, b) or (tensor == "bias" and a.shape == b.shape and _near(a, b, np.float32))


def _close(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    low: Any = min((a.dtype, b.dtype, np.dtype(np.float64)), key=lambda d: np.dtype(d).itemsize)
    low = np.float32 if np.dtype(low).itemsize < 4 else low
    with np.errstate(over="ignore"):
        return np.array_equal(a.astype(low), b.astype(low), equal_nan=True)


def _near(a: Array, b: Array, dtype: Any = np.float16) -> bool:
    """Equal but for the rounding of one sum, in the lower of their precisions or in `dtype`."""
    found = [float(np.finfo(x.dtype).eps) for x in (a, b) if x.dtype.kind == "f"]
    if not found:
        return np.array_equal(a, b)
    eps = min(max(found), float(np.finfo(dtype).eps))
    # of the finite numbers: infinity would allow every difference of the others
    top = float(np.abs(a).max(initial=0, where=np.isfinite(a)))
    return np.allclose(a, b, rtol=eps, atol=eps * top / 4, equal_nan=True)


@np.errstate(invalid="ignore", over="ignore")  # weights may be NaN or infinity
def explain(
    model: Model, paired: Paired, naming: Naming, alone: bool = False
) -> tuple[list[tuple[Hypothesis, float]], dict[str, Layer], int]:
    """Findings about the weights that differ.

    Args:
        model: the truth.
        paired: the suspect's weights.
        naming: its names.
        alone: whether there is no code that may want a matrix the other way round.

    Returns:
        Mistakes, each with the largest difference of the tensors that it is about; the truth's
        layers with the suspect's weights; how many hypotheses were tried.
    """
    layers = layers_of(model)
    known = facts(model, paired)
    left = {
        name: bad
        for name, theirs in known.items()
        if (bad := differing(model, model.node(name), model.weights.get(name, {}), theirs))
        or (alone and any(owner == name for owner, _ in paired.turned))
    }
    found: list[tuple[Hypothesis, float]] = [*_swapped(model, known, left, layers)]
    tried = 0
    for name in list(left):
        node, bad = model.node(name), left[name]
        for hypothesis in _turned(node, paired, bad, naming, layers):
            found.append((hypothesis, _gap(model, known, name, hypothesis.tensors)))
        bad = [tensor for tensor in bad if (name, tensor) not in paired.turned]
        said, bad, count = _named(_Place(model, node, naming, known[name], layers), bad)
        found += [(h, _gap(model, known, name, h.tensors)) for h in said]
        tried += count
        found += [
            (_other(model, node, tensor, known[name], layers), _gap(model, known, name, [tensor]))
            for tensor in bad
        ]
    for name, theirs in known.items():
        layers[name] = _with_facts(model.node(name), layers[name], theirs)
    return found, layers, tried


class _Place(NamedTuple):
    """One layer of the truth, and the suspect's tensors of it."""

    model: Model
    node: Node
    naming: Naming
    theirs: Hub
    layers: Mapping[str, Layer]

    def fitting(self, bad: list[str], rows: Iterable[Mistake] = WEIGHTS) -> Iterator[Hypothesis]:
        """Hypotheses about nothing but tensors that differ."""
        if bad:
            found = hypotheses(self.model, self.layers, [self.node], self.naming, rows)
            yield from (h for h in found if _about(h, bad))

    def after(self, first: Hypothesis) -> _Place:
        """The same place with a mistake made already."""
        return self._replace(layers={**self.layers, **first.layers})


def _named(place: _Place, bad: list[str]) -> tuple[list[Hypothesis], list[str], int]:
    """Mistakes in the tensors that differ, the tensors that none explains, and how many were tried.

    Where single mistakes leave some unexplained, another order of the gates is looked for that
    makes them clear together with a second mistake.
    """
    found, left, tried = _singly(place, bad)
    if left:
        pair, more = _in_pairs(place, bad)
        rest = [name for name in bad if name not in {t for h in pair for t in h.tensors}]
        others, unclear, again = _singly(place, rest) if pair else ([], left, 0)
        tried += more + again
        if len(unclear) < len(left):
            found, left = [*pair, *others], unclear
    return found, left, tried


def _about(hypothesis: Hypothesis, bad: list[str]) -> bool:
    """True if a hypothesis is about nothing but tensors that differ.

    Rounding is about a whole layer: some of its tensors may be too coarse to differ.
    """
    tensors = {*hypothesis.tensors}
    return bool(tensors & {*bad}) if hypothesis.cause == "rounded-weights" else tensors <= {*bad}


def _singly(place: _Place, bad: list[str]) -> tuple[list[Hypothesis], list[str], int]:
    found, tried = [], 0
    for hypothesis in place.fitting(bad):
        tried += 1
        if _about(hypothesis, bad) and _fits(place, hypothesis, hypothesis.tensors):
            found.append(hypothesis)
            bad = [tensor for tensor in bad if tensor not in hypothesis.tensors]
            if not bad:
                break
    return found, bad, tried


def _in_pairs(place: _Place, bad: list[str]) -> tuple[list[Hypothesis], int]:
    """An order of the gates and what else happened to some of the tensors that it is about."""
    tried = 0
    for first in place.fitting(bad, ORDERS):
        tried += 1
        rest = [name for name in first.tensors if not _fits(place, first, (name,))]
        # of matrices alone: in every order each of them would take its time
        if len(rest) == len(first.tensors) and not all(n.endswith("bias") for n in rest):
            continue
        after, seconds = place.after(first), []
        for second in after.fitting(rest, OTHERS):
            tried += 1
            if {*second.tensors} <= {*rest} and _fits(after, second, second.tensors):
                seconds.append(second)
                rest = [name for name in rest if name not in second.tensors]
        if not rest:
            return [first, *seconds], tried
    return [], tried


ORDERS, OTHERS = WEIGHTS[:1], WEIGHTS[1:]
"""The order of the gates, and all other mistakes of weights."""


def _with_facts(node: Node, layer: Layer, theirs: Hub) -> Layer:
    """A layer with the suspect's weights, and a bias where the suspect alone has one."""
    spec: Any = layer.spec
    wide = {n: a.astype(np.float64) for n, a in theirs.items()}
    if "bias" in wide and "bias" not in layer.weights and hasattr(spec, "use_bias"):
        spec = replace(spec, use_bias=True)
    return replace(with_tensors(layer, wide), spec=spec)


def _fits(place: _Place, hypothesis: Hypothesis, names: Iterable[str]) -> bool:
    """True if altered tensors are the suspect's."""
    altered, theirs = next(iter(hypothesis.layers.values())).weights, place.theirs
    every = {p.before + t: (p, t) for p in parts(place.node.spec) for t in p.kind.tensors}
    return all(
        name in theirs
        and equal(*every[name], altered[name].astype(theirs[name].dtype), theirs[name])
        for name in names
    )


def _gap(
    model: Model, known: Mapping[str, Hub], name: str, tensors: tuple[str, ...] | list[str]
) -> float:
    """The largest difference of some tensors."""
    own, theirs = model.weights.get(name, {}), known[name]
    every = {p.before + t: (p, t) for p in parts(model.node(name).spec) for t in p.kind.tensors}
    gaps = [0.0]
    for tensor in tensors:
        a, b = own.get(tensor), theirs[tensor]
        if a is None:
            continue
        part, short = every[tensor]
        if "s" in part.kind.tensors[short]:
            a, b = split_bias_sides(part.kind, a), split_bias_sides(part.kind, b)
        if a.shape == b.shape:
            with np.errstate(all="ignore"):
                gaps.append(float(np.abs(a.astype(np.float64) - b).max(initial=0)))
    return max(gaps)


def _swapped(
    model: Model,
    known: Mapping[str, Hub],
    left: dict[str, list[str]],
    layers: Mapping[str, Layer],
) -> Iterator[tuple[Hypothesis, float]]:
    """Layers that have each other's weights; they are taken off `left`."""
    for name in list(left):
        others = [n for n in left if n != name and name in left]
        for other in others:
            if _is(model, other, name, known) and _is(model, name, other, known):
                a, b = layers[name], layers[other]
                text = f"Layers {name} and {other} have each other's weights."
                changed = {
                    name: with_tensors(a, b.weights),
                    other: with_tensors(b, a.weights),
                }
                said = Said(text, "Swap them.", " ".join(a.weights))
                tensors = tuple(a.weights)
                gap = _gap(model, known, name, tensors)
                yield Hypothesis("swapped-layers", changed, fixed(said), "swapped", tensors), gap
                del left[name], left[other]
                break


def _is(model: Model, of: str, at: str, known: Mapping[str, Hub]) -> bool:
    """True if the suspect has one layer's weights at another one's place."""
    own, theirs = model.weights.get(of, {}), known[at]
    if {n: a.shape for n, a in own.items()}.keys() != theirs.keys() or not own:
        return False
    return not differing(model, model.node(at), own, theirs)


def _turned(
    node: Node, paired: Paired, bad: list[str], naming: Naming, layers: Mapping[str, Layer]
) -> Iterator[Hypothesis]:
    """Tensors whose array has its axes the other way round, as its shape shows."""
    for part in parts(node.spec):
        for tensor in part.kind.tensors:
            if (node.name, part.before + tensor) in paired.turned:
                called = naming.called(node, part.before, tensor)
                name = called.replace("`", "")
                said = Said(f"Your {called} is transposed.", "Transpose it once more.", name)
                layer, names = {node.name: layers[node.name]}, (part.before + tensor,)
                yield Hypothesis("transposed", layer, fixed(said), "transposed", names)


def _other(
    model: Model, node: Node, tensor: str, theirs: Hub, layers: Mapping[str, Layer]
) -> Hypothesis:
    """Numbers that nothing known explains, named by place."""
    own = model.weights.get(node.name, {}).get(tensor)
    part = next(p for p in parts(node.spec) if tensor.removeprefix(p.before) in p.kind.tensors
                and tensor.startswith(p.before))  # fmt: skip

    def say(naming: Naming) -> Said:
        short = tensor.removeprefix(part.before)
        called = naming.called(node, part.before, short)
        mine, other = own, theirs[tensor]
        axes, counted = part.kind.tensors[short], np.ones(other.shape, bool)
        if mine is not None and "s" in axes:
            mine, other = split_bias_sides(part.kind, mine), split_bias_sides(part.kind, other)
            # of a sum of two biases the second side is no number of anybody's
            counted = split_bias_sides(part.kind, np.ones((2, *other.shape[1:]))) != 0
        if mine is None or mine.shape != other.shape:
            text = f"Your {called} has numbers where a has no such tensor."
            return Said(text, "Remove it, or set it to zero.", called.replace("`", ""))
        wrong = ~((mine == other) | (np.isnan(mine) & np.isnan(other)))
        with np.errstate(all="ignore"):
            gap = np.where(wrong, np.abs(mine.astype(np.float64) - other), 0.0)
        hold = "hold" if " and " in called else "holds"
        size = int(counted.sum())
        sums = " sums" if _own_size(naming, node, part, short, other.shape) > size else ""
        text = f"Your {called} {hold} other numbers: {wrong.sum()} of {size}{sums} differ"
        first = _first_wrong(naming, node, part, short, wrong) if wrong.any() else ""
        text += f", by up to {gap.max():.3g}{first and f' (the first at {first})'}."
        alike = _describe(model, naming, mine, other, axes)
        return Said(text + alike, "Copy it again.", called.replace("`", ""), not alike)

    layer = with_tensors(layers[node.name], {tensor: theirs[tensor].astype(np.float64)})
    return Hypothesis("other-weights", {node.name: layer}, say, "other-weights", (tensor,))


AXES = {"g": "gates", "i": "inputs", "h": "units", "j": "units", "o": "units", "s": "sides"}
"""Hub axes in words; those of windows are windows."""


def _first_wrong(naming: Naming, node: Node, part: Part, tensor: str, wrong: Array) -> str:
    """The first wrong number, by the suspect's own name and indices; "" where they are unknown.

    Args:
        naming: the suspect's names.
        node: the layer.
        part: the part of it.
        tensor: a hub tensor of the part.
        wrong: where the hub tensor is wrong.
    """
    for name, own in _packed(naming, node, part, tensor, wrong):
        if own.any():
            return f"{name.split('.')[-1]}[{', '.join(str(int(n)) for n in np.argwhere(own)[0])}]"
    return ""


def _packed(
    naming: Naming, node: Node, part: Part, tensor: str, marks: Array
) -> Iterator[tuple[str, Array]]:
    """The suspect's own names of a hub tensor, each with the marks at its own places."""
    for slot, name in naming.slots(node, part.before, tensor):
        table, mark = Table(part.kind, (slot,)), {tensor: marks.astype(np.float64)}
        try:
            yield name, pack(table, mark, part.spec.sizes())[slot.name]
        except (XlstmError, ValueError, LookupError):
            continue


def _own_size(naming: Naming, node: Node, part: Part, tensor: str, shape: Shape) -> int:
    """The numbers in the suspect's own tensors, as far as they are known."""
    zeros = np.zeros([int(n or 0) for n in shape])
    return sum(own.size for _, own in _packed(naming, node, part, tensor, zeros))


def _describe(model: Model, naming: Naming, mine: Array, other: Array, axes: str) -> str:
    """A sentence about numbers that are a's in another order, or another tensor's; "" for none.

    Args:
        model: the truth.
        naming: the suspect's names.
        mine: the truth's hub tensor.
        other: the suspect's.
        axes: letters of its axes.
    """
    if words := reordered(mine, other, axes) or _likeness(mine, other):
        return words
    for name, array in _others(model, naming, mine) if other.any() else ():
        if _equal(array, other):
            return f" They are the numbers of a's {name}."
        if array.size == other.size and _equal(np.sort(array, None), np.sort(other, None)):
            return f" They are the numbers of a's {name}, in another order."
    return ""


def _likeness(mine: Array, other: Array) -> str:
    """A sentence on what numbers that no row explains have in common with a's; "" for nothing."""
    a, b = mine.astype(np.float64), other.astype(np.float64)
    top = float(np.abs(a).max(initial=0))
    if not top or not np.isfinite(top) or not np.isfinite(b).all():
        return ""
    if np.allclose(b, a, rtol=0, atol=1e-6 * top):
        eps = float(np.finfo(np.float32).eps)
        near = np.allclose(b, a, rtol=2 * eps, atol=eps * top / 4)
        return " They agree to float32 rounding." if near else ""
    factor = float((a * b).sum() / (a * a).sum())
    if (
        factor
        and f"{factor:.6g}" != "1"
        and np.allclose(b, factor * a, rtol=0, atol=1e-6 * abs(factor) * top)
    ):
        return f" They are a's times {factor:.6g}."
    zero = (b == 0) & (a != 0)
    if zero.any() and np.array_equal(a[~zero], b[~zero]):
        return " All that differ are zero."
    if np.allclose(np.sort(a, None), np.sort(b, None), rtol=0, atol=1e-6 * top):
        return " They are a's in another order."
    return ""


def _equal(a: Array, b: Array) -> bool:
    """True if two arrays are the same numbers in the lower of their precisions."""
    if a.shape != b.shape:
        return False
    low = np.float64 if a.dtype == b.dtype == np.float64 else np.float32
    with np.errstate(over="ignore"):
        return np.array_equal(a.astype(low), b.astype(low))


def reordered(mine: Array, other: Array, axes: str) -> str:
    """A sentence about numbers that lie in another order along one axis; "" where they do not."""
    if mine.shape != other.shape or _equal(mine, other):
        return ""
    for axis, letter in enumerate(axes):
        if mine.shape[axis] > 1 and _equal(_in_order(mine, axis), _in_order(other, axis)):
            return f" They are a's, its {AXES.get(letter, 'windows')} in another order."
    return ""


def _in_order(array: Array, axis: int) -> Array:
    """The slices along an axis in the order of their numbers."""
    rows = np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
    return np.asarray(rows[np.lexsort(rows.T[::-1])])


def _others(model: Model, naming: Naming, mine: Array) -> Iterator[tuple[str, Array]]:
    """The truth's other tensors, by the suspect's names where they are known."""
    for node in model.layers:
        own = model.weights.get(node.name, {}) if not node.layer else {}
        for part in parts(node.spec) if own else ():
            for tensor in part.kind.tensors:
                array = own.get(part.before + tensor)
                if array is not None and array is not mine and array.size > 1:
                    name = naming.called(node, part.before, tensor)
                    yield name if "`" in name else f"{node.name} {name}", array
