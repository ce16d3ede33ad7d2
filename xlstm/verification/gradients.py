"""Compares each framework's gradients of every weight and input with slopes of the reference.

The slot tables read a framework's gradients as they read weights: a gradient has the layout of its
weight. The slope along a few random directions of each canonical tensor is compared, with the rule
of `bounds`. The bound is 8 times the largest of four: the slope's condition (weights and inputs
multiplied by 1 + eps u), its error if the reference runs in that precision, the disagreement of two
differences, and eps times the terms of the framework's own product.

One step of plain SGD, by the framework's own optimizer, is judged in the same way: it is linear in
the gradient, so the change of a weight over the learning rate is a gradient, with a wider bound for
the rounding of stored weights. It also shows that statistics and frozen weights do not move. If a
framework has two biases for one, each gets the whole gradient: their sum changes twice as much. The
slot table shows these biases; their mean is compared with the slope, and the report gives advice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from xlstm.errors import UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter, WeightPlacement
from xlstm.frameworks.model_tensors import refusals, tensors, unpack_model
from xlstm.ir.graph import Model
from xlstm.ir.kinds import Kind
from xlstm.ir.layers import Attention, MultiHeadAttention, TimeDistributed
from xlstm.ir.layers.custom import kind_of
from xlstm.ir.types import Array
from xlstm.porting.port import build
from xlstm.slots import FOLD, Slot
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
from xlstm.verification.finite_differences import (
    FLOOR,
    WIDE,
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
from xlstm.verification.inputs import Limits, check_cost, fitted
from xlstm.verification.progress import Tell, silent
from xlstm.verification.report import FrameworkReport
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
    inputs: Sequence[Array] | None,
    limits: Limits = Limits(),  # noqa: B008  a tuple of numbers
) -> Slopes:
    """Slopes at the user's inputs, or at inputs where as many tensors as possible have one.

    Raises:
        UsageError: the model is too large for the reference in long double, or for `limits`.
    """
    limits = limits._replace(memory=limits.memory // BACKWARD, runs=1)
    if inputs is not None:
        check_cost(model, inputs, limits)
    best: Slopes | None = None
    lowers = _lowers(model)
    masks: tuple[str, ...] = EARLY if lowers else generated.MASKS
    steps = STEPS if generated.has_free_axis(model) else generated.STEPS
    for draw in range(DRAWS):
        arrays, targets, left = inputs, *places(model)
        if arrays is None:
            if draw and lowers:
                masks, left = SEEN, [*left, BLIND]
            recipe = generated.Recipe(steps, seed=generated.SEED + draw, masks=masks)
            arrays, _, _ = generated.best_of(model, fitted(model, recipe, limits), (1.0,))
        arrays, fewer = _affordable(model, arrays, len(targets))
        left = [*left, *fewer]
        found = Slopes(point(model, arrays, SEED), arrays, targets, left)
        if best is None or found.corners() < best.corners():
            best = found
        if inputs is not None or not best.corners():
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
        want = f"gradients of at most {MOST / 1e9:,.1f}e9 products in long double"
        do = "pass shorter samples, or compare without" if free else "compare without"
        got = f"about {wanted / 1e9:,.1f}e9 for {many}"
        raise UsageError(f"{model.name}, gradients", want, got, f"{do} gradients and steps")
    note = f"gradients: of the first {kept} of {rows} samples, for more the model is too large"
    return [array[:kept] for array in arrays], [note]


def gradients(
    model: Model, adapter: Adapter, slopes: Slopes, tell: Tell = silent
) -> dict[str, dict[str, Verdict]]:
    """Dtype -> tensor or input -> the verdict on a port's gradient."""

    def one(live: Any, dtype: str, eps: float) -> dict[str, Verdict]:
        own = _own(model, adapter, live, slopes, dtype)
        return {o.place.name: verdict_on(slopes, o, eps, dtype) for o in own}

    return by_precision(model, adapter, slopes, "gradients", one, tell)


LABELS = {"step": "one step of SGD"}
"""Function of a live half -> its words in a line of progress, where they differ."""


def by_precision(
    model: Model,
    adapter: Adapter,
    slopes: Slopes,
    needs: str,
    one: Callable[[Any, str, float], dict[str, Verdict]],
    tell: Tell = silent,
) -> dict[str, dict[str, Verdict]]:
    """Dtype -> name -> verdict; an exception becomes a verdict.

    Args:
        model: the source of the port.
        adapter: the framework of the port.
        slopes: of the reference.
        needs: function that the live half must have.
        one: (live half, dtype, its eps) -> name -> verdict.
        tell: gets a line for each precision.
    """
    found: dict[str, dict[str, Verdict]] = {}
    if not slopes.places or all(factor is None for factor in slopes.at.factors):
        return {}
    for dtype in DTYPES:
        tell(f"{adapter.title} {dtype}, {LABELS.get(needs, needs)}")
        try:
            live: Any = adapter.live()
            inexact = live.inexact(dtype, model) if hasattr(live, "inexact") else ""
            if inexact:
                single = found["float32"].items()
                found[dtype] = {
                    n: replace(v, detail=f"not run: {inexact}", ran=False) for n, v in single
                }
                continue
            if not hasattr(live, needs):
                message = f"{adapter.title}'s adapter has no {needs}"
                found[dtype] = {"all": Verdict(FAILED, detail=message)}
                continue
            known: dict[str, float] = {}  # operations that it computes inexactly -> their errors
            for name in ("inexact_for", "inexact_gradients"):
                if hasattr(live, name):
                    known |= getattr(live, name)(model, dtype)
            eps = max(EPS[dtype], *known.values()) if known else EPS[dtype]
            message = "; ".join(known)
            every = one(live, dtype, eps)
            found[dtype] = {n: replace(v, detail=v.detail or message) for n, v in every.items()}
        except Exception as error:  # a framework may raise anything; the report shows it
            found[dtype] = {"all": failed(error)}
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
    canonical, there = read_back(model, adapter, by_name)
    found: list[Own] = []
    for place in slopes.places:
        if not place.tensor:
            found.append(Own(place, by_input[model.inputs.index(place.owner)]))
            continue
        gradient, mask = canonical[place.owner][place.tensor], there[place.owner][place.tensor]
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
    canonical: dict[str, Array] = {}
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
        canonical[tensor.name] = np.asarray(gradient)
    return unpack_model(model, adapter, canonical), unpack_model(model, adapter, marks)


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


RATE = 2.0**-7
"""Learning rate: about SGD's usual 0.01, and the same number in every precision."""

BIASES = "s"
"""First axis of canonical tensors that have two sides, each added to the same sum."""


def add_sgd_step(
    report: FrameworkReport,
    model: Model,
    adapter: Adapter,
    slopes: Slopes,
    tell: Tell = silent,
) -> FrameworkReport:
    """A framework's part of a report with one step of SGD, and notes about it.

    Args:
        report: the part so far; it is returned unchanged if the framework is not installed.
        model: the source of the port.
        adapter: the framework.
        slopes: of the reference; its inputs and factors make the loss.
        tell: gets a line for each precision.
    """
    if report.missing:
        return report
    found = sgd_steps(model, adapter, slopes, tell)
    said = tuple(sgd_notes(model, adapter)) if found and not refusals(model, adapter) else ()
    return replace(report, steps=found, step_notes=said)


def sgd_steps(
    model: Model, adapter: Adapter, slopes: Slopes, tell: Tell = silent
) -> dict[str, dict[str, Verdict]]:
    """Dtype -> tensor -> the verdict on its change in one step."""

    def one(live: Any, dtype: str, eps: float) -> dict[str, Verdict]:
        made = build(model, adapter, dtype)
        before = live.weights(made)
        after = live.step(made, slopes.arrays, slopes.at.factors, RATE, dtype)
        moved, kept, still = _changes(model, adapter, before, after)
        owns = _owns(model, adapter, moved, kept, slopes)
        verdicts = ((n, verdict_on(slopes, own, eps, dtype)) for n, own in owns)
        return still | {n: replace(verdict, output=n) for n, verdict in verdicts}

    return by_precision(model, adapter, slopes, "step", one, tell)


def _changes(
    model: Model, adapter: Adapter, before: Mapping[str, Array], after: Mapping[str, Array]
) -> tuple[dict[str, Array], dict[str, Array], dict[str, Verdict]]:
    """The changes of a framework's tensors in one step, by name.

    Returns:
        The changes over the learning rate: the gradient of the step. The size of the stored
        numbers, over the learning rate. Verdicts on tensors that must not change: statistics, and
        frozen weights.
    """
    moved, kept, still = {}, {}, {}
    for tensor in tensors(model, adapter):
        old, new = before[tensor.name].astype(WIDE), after[tensor.name].astype(WIDE)
        fixed = tensor.slot.tensor in tensor.kind.statistics
        if fixed or (adapter.keeps_frozen and not tensor.node.trainable):
            gap = float(np.abs(new - old).max(initial=0.0))
            name, why = f"{tensor.name} (not trained)", "" if gap == 0 else "a step moves it"
            word = DIFFERENT if why else ROUNDING
            still[name] = Verdict(word, max_abs=gap, ratio=float(gap != 0), detail=why, output=name)
        else:
            moved[tensor.name] = (old - new) / WIDE(RATE)
            kept[tensor.name] = np.maximum(np.abs(old), np.abs(new)) / WIDE(RATE)
    return moved, kept, still


def _owns(
    model: Model,
    adapter: Adapter,
    moved: Mapping[str, Array],
    kept: Mapping[str, Array],
    slopes: Slopes,
) -> Iterator[tuple[str, Own]]:
    """The gradient of each canonical tensor by a step; of a bias with two sides, of their sum."""
    hub, there = read_back(model, adapter, moved)
    sizes, _ = read_back(model, adapter, kept)
    for spot in (place for place in slopes.places if place.tensor):
        found = (held[spot.owner][spot.tensor] for held in (hub, there, sizes))
        name, own = spot.name, Own(spot, *found)
        if spot.side is not None:
            apart = _apart(model, spot)
            own = _side(own, spot.side, apart)
            name = name if apart.any() else f"{spot.owner}.{spot.tensor}"
        if own.mask is not None and own.mask.any():
            yield name, own


def _side(own: Own, side: int, apart: Array) -> Own:
    """One bias: the mean of its sides, as each moves by the gradient; separate sides stay."""
    moved, there, kept = (np.asarray(part) for part in own[1:])
    if side >= len(moved):
        return own._replace(gradient=moved[0], mask=np.zeros(there.shape[1:]), kept=kept[0])
    factor = np.maximum(there.sum(axis=0), 1)
    summed = [np.where(apart, part[side], part.sum(axis=0) / factor) for part in (moved, kept)]
    mask = np.where(apart, there[side], there.any(axis=0) & (side == 0))
    return Own(own.place, summed[0], mask, summed[1])


def _apart(model: Model, spot: DiffTarget) -> Array:
    """A mask of the places where the two sides of a bias are two numbers, not terms of one sum."""
    array = model.weights[spot.owner][spot.tensor]
    for before, part in model.node(spot.owner).spec.weighted_parts:
        kind = kind_of(part)
        axes = kind.tensors.get(spot.tensor.removeprefix(before), "")
        if spot.tensor.startswith(before) and axes:
            return np.broadcast_to(_gates_apart(kind, axes), array.shape[1:])
    return np.zeros(array.shape[1:], bool)


def _gates_apart(kind: Kind, axes: str) -> Array:
    """A mask of the gates with separate biases, in a shape that fits a bias of one side."""
    if "g" not in axes:
        return np.zeros((1,) * (len(axes) - 1), bool)
    gates = np.array([gate in kind.apart for gate in kind.gates])
    return gates.reshape([-1 if axis == "g" else 1 for axis in axes[1:]])


def sgd_notes(model: Model, adapter: Adapter) -> Iterator[str]:
    """Sentences about steps of plain SGD that differ from the source, with advice.

    Args:
        model: the source of the port.
        adapter: the framework of the port.
    """
    there, origin = _marks(model, adapter), None
    source = {
        name: {tensor: np.ones(array.shape) for tensor, array in layer.items()}
        for name, layer in model.weights.items()
    }
    if model.source.framework in registry.frameworks():
        origin = registry.adapter(model.source.framework)
        source = source if refusals(model, origin) else _marks(model, origin)
    owner = f"{origin.title}'s" if origin else "the source's"
    for node in (node for node in model.layers if not node.layer):
        places = list(adapter.weight_placements(node))
        if not node.trainable and places:
            if adapter.keeps_frozen:
                yield f"{node.name}: not trainable, and does not move"
                continue
            yield (
                f"{node.name}: not trainable in the source; {adapter.title} has no mark for that "
                "and moves it; do not pass it to the optimizer"
            )
        for place in places:
            for line in _biases(place, there[node.name], source[node.name]):
                yield f"{node.name}: {line.format(owner)}"


def _marks(model: Model, adapter: Adapter) -> Hub:
    """Layer -> canonical tensor -> 1 where a framework has a number of its own, 0 elsewhere."""
    ones = {tensor.name: np.ones(tensor.shape) for tensor in tensors(model, adapter)}
    return read_back(model, adapter, ones)[1]


def _biases(
    place: WeightPlacement, there: Mapping[str, Array], source: Mapping[str, Array]
) -> Iterator[str]:
    """Sentences about the biases of one part of a layer; "{}" stands for their owner."""
    absent, kind = place.part.missing_tensors(), place.table.kind
    for tensor in (name for name, axes in kind.tensors.items() if axes.startswith(BIASES)):
        slots = [slot for slot in place.table.present_slots(absent) if slot.tensor == tensor]
        if tensor not in absent:
            mine, theirs = (held[place.before + tensor] for held in (there, source))
            yield from _sides(place, slots, mine, theirs, _gates_apart(kind, kind.tensors[tensor]))
        elif slots:
            why = "a bias that the layer does not have, moves; do not pass it to the optimizer"
            yield f"{_names(place, slots)}, {why}"


def _sides(
    place: WeightPlacement, slots: Sequence[Slot], there: Array, source: Array, apart: Array
) -> Iterator[str]:
    """Sentences where a framework has more or fewer sides of a bias than the source."""
    more = (there.sum(axis=0) - source.sum(axis=0)) * ~apart
    if (more > 0).any():
        yield (
            f"{_names(place, slots)} both get the gradient; their sum moves 2 x as far as {{}} one "
            "bias under plain SGD; train one of them, or halve its learning rate"
        )
    if (more < 0).any():
        kind, folded = place.table.kind, [slot for slot in slots if slot.fixed.get("s") == FOLD]
        gates = " and ".join(gate for gate in kind.gates if gate not in kind.apart)
        some = f" for gates {gates}" if apart.any() else ""
        yield (
            f"{_names(place, folded)}: one bias for the two in {{}} layer{some}, which both get the"
            " gradient; their sum moves 2 x as far under plain SGD; double the learning rate here"
        )
    second = [side[1] if len(side) == 2 else np.zeros_like(side[0]) for side in (there, source)]
    if ((second[0] > second[1]) & apart).any():
        slots = [slot for slot in slots if slot.fixed.get("s") == 1 or BIASES in slot.axes]
        yield (
            f"gate {place.table.kind.apart} of {_names(place, slots)} moves, and {{}} layer has "
            "no such bias; set its gradient to zero"
        )


def _names(place: WeightPlacement, slots: Sequence[Slot]) -> str:
    return " and ".join(place.slot_name(slot.name) for slot in slots)
