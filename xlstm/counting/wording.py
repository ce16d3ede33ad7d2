"""The sentences of `xlstm explain`: equations, the reason for the factor, usual mistakes.

In: an `ExplainedLayer`. Out: lines of text.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from xlstm.counting.formulas import ExplainedLayer, one, one_direction

EQUATIONS: dict[str, tuple[tuple[str, str], ...]] = {
    "LSTM": (
        (
            "i, f, o = sigmoid(x W + h U + b)",
            "input, forget and output gate: a {own} for each",
        ),
        ("g       = tanh(x W_g + h U_g + b_g)", "the candidate; Keras calls it c"),
        ("c       = f * c + i * g", "the cell state: no weights of its own"),
        ("h       = o * tanh(c)", "the output"),
    ),
    "LSTM with peepholes": (
        ("i, f = sigmoid(x W + h U + p * c + b)", "input and forget gate: a {seen} for each"),
        ("g    = tanh(x W_g + h U_g + b_g)", "the candidate; Keras calls it c"),
        ("c    = f * c + i * g", "the cell state: no weights of its own"),
        ("o    = sigmoid(x W_o + h U_o + p_o * c + b_o)", "output gate: sees the new c"),
        ("h    = o * tanh(c)", "the output"),
    ),
    "GRU": (
        ("r, z = sigmoid(x W + b + h U + c)", "reset and update gate: a {own} for each"),
        ("n    = tanh(x W_n + b_n + r * (h U_n + c_n))", "the candidate; Keras calls it h"),
        ("h    = (1 - z) * n + z * h", "the output"),
    ),
    "GRU, reset_after=False": (
        ("r, z = sigmoid(x W + h U + b)", "reset and update gate: a {own} for each"),
        ("n    = tanh(x W_n + (r * h) U_n + b_n)", "the candidate; Keras calls it h"),
        ("h    = (1 - z) * n + z * h", "the output"),
    ),
    "ConvLSTM": (
        (
            "i, f, o = sigmoid(x * W + h * U + b)",
            "* is a convolution; input, forget and output gate: a {own} for each",
        ),
        ("g       = tanh(x * W_g + h * U_g + b_g)", "the candidate; Keras calls it c"),
        ("c       = f c + i g", "the cell state, an image with n channels: no weights of its own"),
        ("h       = o tanh(c)", "the output, an image with n channels"),
    ),
    "SimpleRNN": (("h = tanh(x W + h U + b)", "the output"),),
    "Dense": (("y = x W + b", "the output"),),
}
"""Equations of each layer with a legend, by the form of its weights."""

GATES = {
    "i": "input gate i",
    "f": "forget gate f",
    "g": "candidate g",
    "o": "output gate o",
    "r": "reset gate r",
    "z": "update gate z",
    "n": "candidate n",
}
"""Letter of a gate -> its name."""


def equations(case: ExplainedLayer) -> tuple[str, ...]:
    """The equations of one layer, a line each, every one with its subject."""
    form = "LSTM with peepholes" if case.peepholes else case.spec.weight_kind
    found = EQUATIONS.get(form, EQUATIONS[case.spec.kind])
    lines = []
    for equation, remark in found:
        text, comment = equation, remark.format(own=own(case), seen=own(case, "p"))
        if case.projected and equation.endswith("o * tanh(c)"):
            text = text.replace("o * tanh(c)", "(o * tanh(c)) P")
            comment = "the output, made smaller by P"
        lines.append(f"{_with_biases(case, text)}   {comment}")
    return tuple(lines)


BIAS = re.compile(r" \+ [bc](_\w)?(?=[ )]|$)")


def _with_biases(case: ExplainedLayer, equation: str) -> str:
    """An equation with as many biases as the layer has."""
    if not case.biases:
        return BIAS.sub("", equation)
    if case.biases == 2 and case.spec.kind == "LSTM":
        return BIAS.sub(lambda found: found[0] + found[0] + "'", equation)
    return equation


def own(case: ExplainedLayer, *more: str) -> str:
    """The tensors of each gate, in words."""
    names = ["W", *([] if case.dense else ["U"]), *("b", case.second)[: case.biases], *more]
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]


def sizes_line(case: ExplainedLayer) -> str:
    """The meaning of m and n, and of p where h is projected."""
    steps = (
        f"{number(case.steps, 'step')}, " if case.steps else ("steps, " if not case.dense else "")
    )
    axes = f"(batch, {steps}{SPACE * case.convolved}m)"
    units = "y" if case.dense else "c" if case.projected else "h"
    line = f"m = {number(case.m, 'feature')}: the numbers in x, the last axis of the input {axes}"
    small = f"; p = {case.j}: the numbers in h" * case.projected
    if case.convolved:
        line = f"m = {number(case.m, 'channel')} of the input, the last axis of {axes}"
        units, small = "h at each place", f"; k = {case.window}: the places of the window"
    return f"{line}; n = {number(case.n, 'unit')}: the numbers in {units}{small}."


SPACE = "space, "
"""The axes of an image, in words."""


def explained(case: ExplainedLayer) -> list[str]:
    """The reasons for the number, a sentence or two a line."""
    lines = [] if case.dense else [_factor(case), _units(case)]
    lines.append(_steps(case))
    lines += _directions(case) if case.both > 1 else []
    lines += [_stacked(case)] if len(case.stack) > 1 else []
    if case.projected:
        p, n = case.j, case.n
        lines.append(PROJECTION.format(p=p, n=n))
    if case.peepholes:
        lines.append(PEEPHOLES.format(n=case.n, count=3 * case.n))
    return lines


def _factor(case: ExplainedLayer) -> str:
    has = own(case)
    if case.gates == 1:
        return f"Why no factor: there are no gates; one {has} make the new state."
    if case.gates == 3:
        return f"Why 3: two gates and the candidate, and each of the three has its own {has}."
    return (
        f"Why 4: three gates and the candidate, and each of the four has its own {has}. The cell "
        "state c is no fifth: it is computed from them and has no weights."
    )


def _units(case: ExplainedLayer) -> str:
    if case.convolved:
        return (
            "What units are: the channels of h and c. Every place of the image has the same "
            "weights, so the size of the image does not enter; the window does, in W and in U."
        )
    state, square = ("c", "n p") if case.projected else ("h", "n n")
    return (
        f"What units are: the size of {state}, not a number of separate cells. Every unit sees "
        f"the h of all units, hence the {square} of U. The formula holds for the whole layer: it "
        "is not multiplied by the units again."
    )


def _steps(case: ExplainedLayer) -> str:
    """The reason why the count does not depend on the time steps and the batch size."""
    sizes = [f"the {number(case.steps, 'time step')}"] if case.steps else []
    sizes += [f"the {number(case.batch, 'sequence')} of a batch"] if case.batch else []
    what = " and ".join(sizes) or "the number of steps and the batch size"
    verb = "does" if case.steps == 1 and not case.batch else "do"
    has = own(case)
    every = "one of them" if sizes else "sample" if case.dense else "step of every sequence"
    same = f"the same {has} {'serves' if has == 'W' else 'serve'} every {every}"
    keras = (
        " (in Keras TimeDistributed(Dense), or Dense alone)"
        if case.dense and bool(case.steps)
        else ""
    )
    return f"{what[0].upper()}{what[1:]} {verb} not enter: {same}{keras}."


def number(count: int | None, what: str) -> str:
    """A number with its noun, in the plural unless it is 1.

    >>> number(1, "unit"), number(2, "unit")
    ('1 unit', '2 units')
    """
    return f"{count} {what}{'s' * (count != 1)}"


def _directions(case: ExplainedLayer) -> list[str]:
    return [
        "Why x 2: a second layer with weights of its own reads the sequence from its end.",
        f"What the next layer sees: both outputs side by side, {case.later} features, unless they "
        "are merged by sum, mul or ave.",
    ]


def _stacked(case: ExplainedLayer) -> str:
    more = len(case.stack)
    module = {"GRU": "nn.GRU", "SimpleRNN": "nn.RNN"}.get(case.spec.kind, "nn.LSTM")
    return (
        f"Stacked: a later layer reads what the one before gives, so its m is {case.later}. "
        f"PyTorch's {module}(num_layers={more}) keeps as many numbers in one module, as _l0 "
        f"{'to' if more > 2 else 'and'} _l{more - 1}."
    )


PROJECTION = (
    "The projection P makes h smaller ({p} numbers instead of {n}): U and the next layer see the "
    "small one, c keeps {n}. PyTorch calls it proj_size; a port to Flax brings a cell of its own."
)

PEEPHOLES = (
    "Peepholes let i, f and o see c through a vector of n numbers each: 3 x {n} = {count:,} more. "
    "TensorFlow 1 and ONNX have them."
)


@dataclass(frozen=True)
class WrongCount:
    """A usual wrong count: its origin, its result, and its error."""

    formula: str
    count: int
    why: str


def mistakes(case: ExplainedLayer, right: Collection[int | None]) -> tuple[WrongCount, ...]:
    """The usual wrong counts, the most instructive first; none that is the count of a framework."""
    found = {mistake.count: mistake for mistake in reversed([*_mistakes(case)])}
    return tuple(mistake for count, mistake in reversed(found.items()) if count not in right)


def _mistakes(case: ExplainedLayer) -> Iterator[WrongCount]:
    if case.steps and case.steps > 1:
        yield from _dense_steps(case) if case.dense else _with_steps(case)
    if case.both > 1:
        yield from _one_direction(case)
    if len(case.stack) > 1:
        yield from _same_input(case)
    if case.plain:
        yield from _plain(case)
    if case.convolved and case.window > 1:
        yield from _without_window(case)
    if case.projected or case.peepholes:
        yield from _left_out(case)


def _with_steps(case: ExplainedLayer) -> Iterator[WrongCount]:
    """Wrong counts that include time steps; for one plain layer."""
    if not case.plain:
        return
    g, m, n, steps = case.gates, case.m, case.n, case.steps or 1
    before = ("2 x " if case.both > 1 else "") + (f"{g} x " if g > 1 else "")
    sign = f"{g} " if g > 1 else ""
    yield WrongCount(
        f"{before}({m} x {steps} + {m} x {m}) x {n}",
        case.both * g * (m * steps + m * m) * n,
        f"puts features and steps into {sign}(n m + n n) as n = {m} and m = {steps}, and "
        f"multiplies by the units. n is the units, {n}; m is the features, {m}; the steps are not "
        "in it",
    )
    biases = f" + {case.biases}" if case.biases else ""
    yield WrongCount(
        f"{before}{n} x ({steps} x {m} + {n}{biases})",
        case.both * g * n * (steps * m + n + case.biases),
        f"multiplies the features by the {steps} steps; x at one step has {m}",
    )


def _dense_steps(case: ExplainedLayer) -> Iterator[WrongCount]:
    size = one(case, case.m)
    why = f"counts a layer for every step; all {case.steps} steps share one"
    yield WrongCount(f"{case.steps} x {size}", (case.steps or 1) * size, why)


def _one_direction(case: ExplainedLayer) -> Iterator[WrongCount]:
    rest = len(case.stack) - 1
    first, later = one(case, case.m), one(case, case.later)
    text = f"{first} + {f'{rest} x ' * (rest > 1)}{later}" if rest else one_direction(case)
    yield WrongCount(text, first + rest * later, "counts one direction only")


def _same_input(case: ExplainedLayer) -> Iterator[WrongCount]:
    count, m = len(case.stack), case.m
    size = case.both * one(case, m)
    why = f"gives every layer {number(m, 'feature')}; a later one sees {case.later}"
    yield WrongCount(f"{count} x {size}", count * size, why)
    if case.both > 1:
        narrow = case.both * one(case, case.j)
        text = f"{size} + {f'{count - 1} x ' * (count > 2)}{narrow}"
        why = f"gives later layers {number(case.j, 'feature')}; both directions give {case.later}"
        yield WrongCount(text, size + (count - 1) * narrow, why)


def _plain(case: ExplainedLayer) -> Iterator[WrongCount]:
    g, m, n, biases = case.gates, case.m, case.n, case.biases
    before = "2 x " if case.both > 1 else ""
    times = f"{g} x " if g > 1 else ""
    bias = f" + {biases}" if biases else ""
    if n > 1 and not case.dense:
        single = g * (m + 1 + biases)
        yield WrongCount(
            f"{before}{n} x {times}({m} + 1{bias})",
            case.both * n * single,
            f"counts {n} layers of one unit, {single:,} each; every unit also sees the h of the "
            f"other {n - 1}",
        )
    if biases:
        inside = f"{m}" if case.dense else f"({m} + {n})"
        count = case.both * (one(case, m) - g * n * biases)
        left = case.both * g * n * biases
        why = f"leaves out the biases, {left:,} number{'s' * (left != 1)}"
        yield WrongCount(f"{before}{times}{n} x {inside}", count, why)
    if biases == 2 and case.spec.kind == "GRU":
        why = "counts one bias for each gate; with reset_after there are two"
        count = case.both * (one(case, m) - g * n)
        yield WrongCount(f"{before}{times}{n} x ({m} + {n} + 1)", count, why)


def _without_window(case: ExplainedLayer) -> Iterator[WrongCount]:
    """Wrong counts of a ConvLSTM that ignore its window, in both kernels or in the second."""
    g, m, n, k, biases = case.gates, case.m, case.n, case.window, case.biases
    bias = f" + {biases}" if biases else ""
    both, count = (f"{case.both} x " if case.both > 1 else ""), case.both * g * n
    yield WrongCount(
        f"{both}{g} x {n} x ({m} + {n}{bias})",
        count * (m + n + biases),
        f"leaves out the {k} places of the window",
    )
    yield WrongCount(
        f"{both}{g} x {n} x ({k} x {m} + {n}{bias})",
        count * (k * m + n + biases),
        "has a window for the input alone; U is a convolution with the same window",
    )


def _left_out(case: ExplainedLayer) -> Iterator[WrongCount]:
    """Wrong counts that ignore a projection or peepholes; for one layer in one direction."""
    if len(case.stack) > 1 or case.both > 1:
        return
    g, m, n, j, biases = case.gates, case.m, case.n, case.j, case.biases
    bias = f" + {biases}" if biases else ""
    yield WrongCount(
        f"{g} x {n} x ({m} + {n}{bias})",
        g * n * (m + n + biases),
        f"leaves out the {'projection' if case.projected else 'peepholes'}",
    )
    if case.projected:
        more = f" + {n} x {j}"
        count = g * n * (m + n + biases) + n * j
        yield WrongCount(
            f"{g} x {n} x ({m} + {n}{bias}){more}", count, f"has U see {n} numbers; h has {j}"
        )
        text = f"{g} x {n} x ({m} + {j}{bias})"
        yield WrongCount(text, g * n * (m + j + biases), "leaves out P itself")


CUDNN = {
    "LSTM": (
        "Keras 2's CuDNNLSTM keeps the two biases of cuDNN, one on each product: {more:,} numbers "
        "more than LSTM keeps. Keras 3 has no CuDNNLSTM; its LSTM runs on cuDNN as well and keeps "
        "one bias, the sum of the two: 4 n (m + n + 1), {less:,} numbers here."
    ),
    "GRU": (
        "Keras 2's CuDNNGRU keeps the two biases of cuDNN, one on each product, in one vector of "
        "2 x 3 n numbers. Keras 3 has no CuDNNGRU; its GRU runs on cuDNN as well and keeps as many "
        "numbers, the biases as (2, 3 n). GRU(reset_after=False), which cuDNN can not compute, has "
        "3 n (m + n + 1), {less:,} here."
    ),
}


def cudnn_line(case: ExplainedLayer, total: int) -> str:
    """The parameters of Keras 2's layer on cuDNN, compared with today's layer."""
    more = case.both * len(case.stack) * case.gates * case.n
    return CUDNN[case.spec.kind].format(more=more, less=total - more)


def slices_line(title: str, gates: Sequence[str], case: ExplainedLayer) -> str:
    """The code that cuts Keras's tensors into gates."""
    axes, n = "..." if case.convolved else ":", case.n
    cuts = (f"{g} = kernel[{axes}, {k * n}:{(k + 1) * n}]" for k, g in enumerate(gates))
    more = " and bias" if case.biases else ""
    return f"Cut apart in {title}: {', '.join(cuts)}; recurrent_kernel{more} alike."
