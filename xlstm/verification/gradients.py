"""Compares each framework's gradients of every weight and input with slopes of the reference.

The slot tables read a framework's gradients as they read weights: a gradient has the layout of its
weight. The slope along a few random directions of each canonical tensor is compared, with the rule
of `bounds`. The bound is 8 times the largest of four: the slope's condition (weights and inputs
multiplied by 1 + eps u), its error if the reference runs in that precision, the disagreement of two
differences, and eps times the terms of the framework's own product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.errors import UsageError
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import tensors, unpack_model
from xlstm.ir.graph import Model
from xlstm.ir.layers import Attention, MultiHeadAttention, TimeDistributed
from xlstm.ir.types import Array
from xlstm.porting.port import build
from xlstm.verification import inputs as generated
from xlstm.verification.bounds import (
    DECIDABLE,
    DIFFERENT,
    EPS,
    FACTOR,
    FAILED,
    ROUNDING,
    UNDECIDED,
    Verdict,
    products,
    worst_of,
)
from xlstm.verification.cost import Limits, check_cost, fitted
from xlstm.verification.finite_differences import (
    FLOOR,
    WIDER,
    DiffPoint,
    DiffTarget,
    Slope,
    condition,
    direction,
    inaccuracy,
    places,
    point,
    slope,
)
from xlstm.verification.run import DTYPES, failed

DIRECTIONS = 2
DRAWS = 3
STEPS = 7
SEED = 11

SMOOTH = 1e-9
"""Disagreement of two differences, over the slope, at which a corner is too near."""

RUNS = 40
"""Approximate runs of the reference for one direction."""

MOST = 2 * 10**10
"""Limit of products in long double for all runs, some minutes; above it, fewer samples are used."""

Key = tuple[str, bytes]


@dataclass
class Slopes:
    """The slopes of one model at one point, computed on demand.

    Attributes:
        at: the point.
        arrays: the inputs of the frameworks.
        places: the tensors.
        left: a line for each tensor that has no gradient.
    """

    at: DiffPoint
    arrays: Sequence[Array]
    places: list[DiffTarget]
    left: list[str]
    _slopes: dict[Key, list[Slope]] = field(default_factory=dict)
    _moves: dict[tuple[Key, int, float, str], float] = field(default_factory=dict)

    def along(self, place: DiffTarget, mask: Array | None = None) -> list[Slope]:
        """Slopes along the directions of a tensor, where `mask` is not zero."""
        key = _key(place, mask)
        if key not in self._slopes:
            seeds = (SEED + number for number in range(DIRECTIONS))
            every = [direction(self.at, place, seed, mask) for seed in seeds]
            self._slopes[key] = [slope(self.at, place, v) for v in every]
        return self._slopes[key]

    def room(
        self, place: DiffTarget, mask: Array | None, number: int, eps: float, dtype: str
    ) -> float:
        """The largest effect on a slope of rounding in `dtype`, in units of `eps`."""
        key = _key(place, mask), number, eps, dtype
        if key not in self._moves:
            along = self.along(place, mask)[number]
            moves = condition(self.at, place, along, eps)
            self._moves[key] = max(moves, inaccuracy(self.at, place, along, dtype))
        return self._moves[key]

    def notes(self) -> list[str]:
        """Notes on tensors without a gradient, and on the finite differences of this machine."""
        narrow = "numpy's long double is no wider than double here: gradients have wider bounds"
        masks = [factor for factor in self.at.factors if factor is None]
        only = (
            ["gradients: none, all outputs are masks"] if len(masks) == len(self.at.factors) else []
        )
        return [*self.left, *only, *([] if WIDER else [narrow])]

    def corners(self) -> int:
        """The number of tensors that have a corner here, one too near, or no slope."""
        return sum(any(map(_no_slope, self.along(place))) for place in self.places)


def _key(place: DiffTarget, mask: Array | None) -> Key:
    return place.name, b"" if mask is None or mask.all() else mask.astype(bool).tobytes()


def _no_slope(found: Slope) -> bool:
    rough = found.noise > max(SMOOTH * abs(found.value), FLOOR * found.size)
    return found.corner or rough or not np.isfinite([found.value, found.noise]).all()


BACKWARD = 4
"""Memory of a run with gradients over that of a forward run: it keeps all values."""


def slopes_of(
    model: Model,
    given: Sequence[Array] | None,
    limits: Limits = Limits(),  # noqa: B008  a tuple of numbers
) -> Slopes:
    """Slopes at the user's inputs, or at inputs where as many tensors as possible have one.

    Raises:
        UsageError: the model is too large for the reference in long double, or for `limits`.
    """
    limits = limits._replace(memory=limits.memory // BACKWARD, runs=1)
    if given is not None:
        check_cost(model, given, limits)
    best: Slopes | None = None
    lowers = _lowers(model)
    masks: tuple[str, ...] = EARLY if lowers else generated.MASKS
    steps = STEPS if generated.has_free_axis(model) else generated.STEPS
    for draw in range(DRAWS):
        arrays, held, left = given, *places(model)
        if arrays is None:
            if draw and lowers:
                masks, left = SEEN, [*left, BLIND]
            recipe = generated.Recipe(steps, seed=generated.SEED + draw, masks=masks)
            arrays, _, _ = generated.best_of(model, fitted(model, recipe, limits), (1.0,))
        arrays, fewer = _affordable(model, arrays, len(held))
        left = [*left, *fewer]
        found = Slopes(point(model, arrays, SEED), arrays, held, left)
        if best is None or found.corners() < best.corners():
            best = found
        if given is not None or not best.corners():
            break
    assert best is not None
    return best


EARLY = ("none", "right", "middle")
"""Masks that do not hide the first step: every query sees a value."""

SEEN = ("none",)
"""Masks for models in which a masked query sees no value."""

BLIND = "gradients at masked steps: not compared, queries without a value have none to speak of"
"""Scores that are all lowered by 1e9 keep 7 digits of float64."""


def _lowers(model: Model) -> bool:
    """True if masks lower scores by 1e9, so that rounding decides where all of them are lowered."""
    specs = [n.spec.layer if isinstance(n.spec, TimeDistributed) else n.spec for n in model.layers]
    return any(
        isinstance(spec, Attention) or (isinstance(spec, MultiHeadAttention) and spec.blind == LOW)
        for spec in specs
    )


LOW = "lowered"


def _affordable(
    model: Model, arrays: Sequence[Array], places: int
) -> tuple[Sequence[Array], list[str]]:
    """As many samples as the limit allows slopes for, and a line if they are fewer."""
    rows = len(arrays[0]) if arrays else 1
    wanted = products(model, arrays) * places * DIRECTIONS * RUNS
    if wanted <= MOST:
        return arrays, []
    kept = rows if generated.built_batch(model) else max(1, int(MOST / wanted * rows))
    wanted = wanted * kept // rows
    if wanted > MOST:
        free = generated.has_free_axis(model)
        many = "one sample" if kept == 1 else f"the {kept} samples that it is built for"
        want = f"a model whose slopes take at most {MOST / 1e9:,.1f}e9 products in long double"
        do = "pass shorter samples, or compare without" if free else "compare without"
        got = f"about {wanted / 1e9:,.1f}e9 for {many}"
        raise UsageError(f"{model.name}, gradients", want, got, f"{do} gradients and steps")
    said = f"gradients: of the first {kept} of {rows} samples, for more the model is too large"
    return [array[:kept] for array in arrays], [said]


def gradients(model: Model, adapter: Adapter, slopes: Slopes) -> dict[str, dict[str, Verdict]]:
    """Dtype -> tensor or input -> the verdict on a port's gradient."""

    def one(live: Any, dtype: str, eps: float) -> dict[str, Verdict]:
        own = _own(model, adapter, live, slopes, dtype)
        return {o.place.name: verdict_on(slopes, o, eps, dtype) for o in own}

    return by_precision(model, adapter, slopes, "gradients", one)


def by_precision(
    model: Model,
    adapter: Adapter,
    slopes: Slopes,
    needs: str,
    one: Callable[[Any, str, float], dict[str, Verdict]],
) -> dict[str, dict[str, Verdict]]:
    """Dtype -> name -> verdict; an exception becomes a verdict.

    Args:
        model: the source of the port.
        adapter: the framework of the port.
        slopes: of the reference.
        needs: function that the live half must have.
        one: (live half, dtype, its eps) -> name -> verdict.
    """
    found: dict[str, dict[str, Verdict]] = {}
    if not slopes.places or all(factor is None for factor in slopes.at.factors):
        return {}
    for dtype in DTYPES:
        try:
            live: Any = adapter.live()
            inexact = live.inexact(dtype, model) if hasattr(live, "inexact") else ""
            if inexact:
                held = found["float32"].items()
                found[dtype] = {
                    n: replace(v, detail=f"not run: {inexact}", ran=False) for n, v in held
                }
                continue
            if not hasattr(live, needs):
                said = f"{adapter.title}'s adapter has no {needs}"
                found[dtype] = {"all": Verdict(FAILED, detail=said)}
                continue
            known = _known(live, model, dtype)
            eps = max(EPS[dtype], *known.values()) if known else EPS[dtype]
            said = "; ".join(known)
            every = one(live, dtype, eps)
            found[dtype] = {n: replace(v, detail=v.detail or said) for n, v in every.items()}
        except Exception as error:  # a framework may raise anything; the report shows it
            found[dtype] = {"all": failed(error)}
    return found


def _known(live: Any, model: Model, dtype: str) -> dict[str, float]:
    """Operations that the framework computes inexactly, forwards or backwards -> their errors."""
    found: dict[str, float] = {}
    for name in ("inexact_for", "inexact_gradients"):
        if hasattr(live, name):
            found |= getattr(live, name)(model, dtype)
    return found


class Own(NamedTuple):
    """The result of a framework for one place.

    Attributes:
        place: the place.
        gradient: its gradient there.
        mask: 1 where it has one, 0 elsewhere; None for everywhere.
        kept: size of the stored numbers whose rounding affects the gradient, None for none.
    """

    place: DiffTarget
    gradient: Array
    mask: Array | None = None
    kept: Array | None = None


def _own(model: Model, adapter: Adapter, live: Any, slopes: Slopes, dtype: str) -> list[Own]:
    """The gradients of a port by place, read back by the slot tables."""
    made = build(model, adapter, dtype)
    inputs = {place.owner for place in slopes.places if not place.tensor}
    moved = [name in inputs for name in model.inputs]
    by_name, by_input = live.gradients(made, slopes.arrays, slopes.at.factors, moved, dtype)
    hub, there = read_back(model, adapter, by_name)
    found: list[Own] = []
    for place in slopes.places:
        if not place.tensor:
            found.append(Own(place, by_input[model.inputs.index(place.owner)]))
            continue
        gradient, mask = hub[place.owner][place.tensor], there[place.owner][place.tensor]
        if place.side is not None:
            if place.side >= len(gradient):
                continue  # this framework has one bias for both sides
            gradient, mask = gradient[place.side], mask[place.side]
        if mask.any():
            found.append(Own(place, gradient, mask))
    return found


Hub = dict[str, dict[str, Array]]


def read_back(model: Model, adapter: Adapter, by_name: Mapping[str, Array]) -> tuple[Hub, Hub]:
    """Gradients as canonical tensors, and masks of 1 where the framework has one, else 0.

    A tensor that the framework has and the layer has not (`Slot.required`) is left out.

    Args:
        model: the source of the port.
        adapter: the framework of the port.
        by_name: gradients by the framework's names; statistics have none.
    """
    held: dict[str, Array] = {}
    marks: dict[str, Array] = {}
    for tensor in tensors(model, adapter):
        gradient = by_name.get(tensor.name)
        own = any(
            part.missing_tensors() >= {tensor.slot.tensor}
            for _, part in tensor.node.spec.weighted_parts
        )
        if gradient is None or (tensor.slot.required and own):
            gradient = np.zeros(tensor.shape)
            marks[tensor.name] = np.zeros(tensor.shape)
        else:
            marks[tensor.name] = np.ones(tensor.shape)
        held[tensor.name] = np.asarray(gradient)
    return unpack_model(model, adapter, held), unpack_model(model, adapter, marks)


def verdict_on(slopes: Slopes, own: Own, eps: float, dtype: str) -> Verdict:
    """The worst verdict of all directions."""
    place, mask = own.place, own.mask
    found = slopes.along(place, mask)
    scale = max(abs(one.value) for one in found)
    if not np.isfinite(scale):
        why = "the reference's own slope is NaN or infinite"
        return Verdict(UNDECIDED, detail=why, output=place.name)
    if not np.isfinite(own.gradient).all():
        why = "NaN or infinity where the reference has none"
        return Verdict(FAILED, detail=why, output=place.name)
    verdicts = []
    for number, one in enumerate(found):
        units = (eps, dtype), (EPS["float64"], "float64")
        moves = [slopes.room(place, mask, number, *unit) for unit in units]
        verdicts.append(_one(one, own, moves, (eps, scale), dtype))
    return replace(worst_of(verdicts), output=place.name)


def _one(
    along: Slope,
    own: Own,
    moves: Sequence[float],
    units: tuple[float, float],
    dtype: str,
) -> Verdict:
    """The verdict along one direction; `units` are eps and the size of the tensor's slopes."""
    eps, scale = units
    terms = np.asarray(own.gradient, along.v.dtype) * along.v
    gap = abs(float(terms.sum() - along.value))
    size = float(np.abs(terms).sum())
    if own.kept is not None:
        size += float(np.abs(own.kept * along.v).sum())
    tiny = float(np.finfo(dtype).tiny)

    def bound(move: float, eps: float) -> float:
        return FACTOR * max(move, along.noise, eps * scale, eps * size, tiny)

    allowed, exact = bound(moves[0], eps), bound(moves[1], EPS["float64"])
    ratio = gap / allowed
    word, why = DIFFERENT if ratio > 1 else ROUNDING, ""
    if _no_slope(along):
        word, why = UNDECIDED, "the function has a corner at these inputs"
    elif exact > max(DECIDABLE * scale, FLOOR * along.size) and ratio <= 1:
        word, why = UNDECIDED, f"rounding alone may move it by more than {DECIDABLE:g} of itself"
    relative = gap / scale if scale else 0.0
    return Verdict(
        word,
        max_abs=gap,
        max_rel=relative,
        max_ulp=relative / EPS[dtype],
        bound=allowed,
        ratio=ratio,
        detail=why,
    )
