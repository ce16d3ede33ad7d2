"""Writes layers that move numbers or join inputs as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module. `Permute((2, 1))`:

    x = x.permute(0, 2, 1)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.literals import literal, named

from ...codegen.source import WIDEST, WIDTH, Argument, CallExpr, call, listed
from .writer import WRITERS, TorchLayerWriter, method


@WRITERS.of(L.Flatten)
def flatten(_spec: L.Flatten, at: TorchLayerWriter) -> None:
    """All axes of a sample as one."""
    rank = len(at.shape)
    if rank == 1:
        at.set_output(at.x)
    else:
        step = method("flatten", f"{at.lead}") if rank else method("unsqueeze", f"{at.lead}")
        at.set_output(step(at.x))


@WRITERS.of(L.Reshape)
def reshape(spec: L.Reshape, at: TorchLayerWriter) -> None:
    """A sample in another shape."""
    lead = [f"{at.x}.shape[{axis}]" for axis in range(at.lead)]
    at.set_output(call(f"{at.x}.reshape", *lead, *(literal(size or -1) for size in spec.shape)))


@WRITERS.of(L.Permute)
def permute(spec: L.Permute, at: TorchLayerWriter) -> None:
    """Axes in another order; nothing for the same order."""
    if at.given_first != at.left_first or spec.order == (*range(1, len(spec.order) + 1),):
        at.set_output(at.x)
        return
    order = (*range(at.lead), *(n + at.lead - 1 for n in spec.order))
    at.set_output(call(f"{at.x}.permute", *map(literal, order)))


@WRITERS.of(L.RepeatVector)
def repeat_vector(spec: L.RepeatVector, at: TorchLayerWriter) -> None:
    """Equal steps."""
    times = [*["1"] * at.lead, literal(spec.times), "1"]
    at.set_output(call(f"{at.x}.unsqueeze({at.lead}).repeat", *times))


def _part(start: int | None, stop: int | None, step: int = 1) -> str:
    """A slice as text.

    >>> _part(1, None), _part(None, 3, 2), _part(None, None)
    ('1:', ':3:2', ':')
    """
    ends = ("" if end is None else literal(end) for end in (start, stop))
    return ":".join(ends) + (f":{literal(step)}" if step != 1 else "")


@WRITERS.of(L.Slice)
def take(spec: L.Slice, at: TorchLayerWriter) -> None:
    """A part along one axis."""
    axis = at.axis(spec.axis)
    if spec.step == -1:
        at.set_output(call(f"{at.x}.flip", literal(axis)))
        return
    part = literal(spec.start) if spec.drop else _part(spec.start, spec.stop, spec.step)
    at.set_output(CallExpr(at.x, (*[":"] * axis, part), "[]"))


@WRITERS.of(L.Reverse)
def reverse(_spec: L.Reverse, at: TorchLayerWriter) -> None:
    """The time axis turned round."""
    at.set_output(call(f"{at.x}.flip", f"{at.lead}"))


@WRITERS.of(L.Pad)
def pad(spec: L.Pad, at: TorchLayerWriter) -> None:
    """Zeros around."""
    pairs = [*zip(spec.before, spec.after, strict=True)][::-1]
    sizes = ", ".join(f"{literal(a)}, {literal(b)}" for a, b in [(0, 0), *pairs])
    at.set_output(call("F.pad", at.x, f"({sizes})") if any(map(any, pairs)) else at.x)


@WRITERS.of(L.Crop)
def crop(spec: L.Crop, at: TorchLayerWriter) -> None:
    """The middle."""
    pairs = zip(spec.before, spec.after, strict=True)
    parts = [_part(a or None, -b or None) for a, b in pairs]
    while parts and parts[-1] == ":":
        parts.pop()
    at.set_output(CallExpr(at.x, (*[":"] * at.lead, *parts), "[]") if parts else at.x)


@WRITERS.of(L.UpSample)
def up_sample(spec: L.UpSample, at: TorchLayerWriter) -> None:
    """Every place repeated."""
    steps = [
        method("repeat_interleave", literal(times), ("dim", literal(at.axis(axis))))
        for axis, times in enumerate(spec.times)
        if times > 1
    ]
    at.apply_steps(*steps)


@WRITERS.of(L.Concatenate)
def concatenate(spec: L.Concatenate, at: TorchLayerWriter) -> None:
    """End to end."""
    inputs = at.site.inputs
    joined = call("torch.cat", listed(inputs), ("dim", literal(at.axis(spec.axis))))
    at.set_output(joined if len(inputs) > 1 else at.x)


def _same_rank(at: TorchLayerWriter) -> list[str]:
    """Returns the inputs with leading axes of size 1 up to one rank."""
    most = max(map(len, at.shapes))
    lead = ":, " * at.lead
    return [
        f"{x}[{lead}{', '.join(['None'] * (most - len(shape)))}]" if len(shape) < most else x
        for x, shape in zip(at.site.inputs, at.shapes, strict=True)
    ]


SIGNS = {"add": "+", "average": "+", "subtract": "-", "multiply": "*"}

FUNCTIONS = {"average": "add"}
"""Merge -> the function of two tensors that it repeats, where the names differ."""


@WRITERS.of(L.Merge)
def merge(spec: L.Merge, at: TorchLayerWriter) -> None:
    """Element by element."""
    terms, count = _same_rank(at), len(at.site.inputs)
    if count > WIDEST:
        at.set_output(
            call("reduce", named(f"torch.{FUNCTIONS.get(spec.how, spec.how)}"), listed(terms))
        )
        if spec.how == "average":
            at.chain("/", at.y, f"{count}")
        return
    if spec.how not in SIGNS:
        value: Argument = terms[0]
        for term in terms[1:]:
            value = call(named(f"torch.{spec.how}"), value, term)
        at.set_output(value)
        return
    y = at.y
    whole = f"({' + '.join(terms)}) / {count}"
    if spec.how == "average" and count > 1 and len(f"        {y} = {whole}") <= WIDTH:
        at.set_output(whole)
        return
    at.chain(SIGNS[spec.how], *terms)
    if spec.how == "average" and count > 1:
        at.chain("/", y, f"{count}")


@WRITERS.of(L.Dot)
def dot(spec: L.Dot, at: TorchLayerWriter) -> None:
    """Products summed over one axis of each."""
    pairs = list(zip(at.site.inputs, spec.axes, strict=True))
    unit = f"F.normalize({{}}, dim={{}}, eps={literal(spec.floor)})"
    inputs = [unit.format(x, literal(axis)) if spec.normalize else x for x, axis in pairs]
    first, second = map(len, at.shapes)
    a, b = "cdefgh"[: first - 1], "opqrst"[: second - 1]
    left, right = (
        f"b{own[: axis - 1]}i{own[axis - 1 :]}" for own, axis in zip((a, b), spec.axes, strict=True)
    )
    at.set_output(call("torch.einsum", literal(f"{left},{right}->b{a}{b}"), *inputs))
    if not a and not b:
        at.set_output(call(f"{at.y}.unsqueeze", "1"))
