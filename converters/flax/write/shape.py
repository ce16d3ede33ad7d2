"""Writes layers that move numbers or join inputs as Flax source: plain functions of JAX.

In: a spec and its variables. Out: lines of the emitted module. `Permute((2, 1))`:

    x = x.transpose(0, 2, 1)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.literals import literal, named

from ...codegen.source import WIDEST, WIDTH, CallExpr, call, listed
from .dialect import CELLS, WRITERS, FlaxLayerWriter


def axes_text(axes: tuple[int, ...]) -> str:
    """Returns one axis, or a tuple of them.

    >>> axes_text((1,)), axes_text((1, 2))
    ('1', '(1, 2)')
    """
    return literal(axes[0] if len(axes) == 1 else axes)


def _leading(at: FlaxLayerWriter) -> str:
    return "x.shape[0]".replace("x", at.x) if at.lead == 1 else f"*{at.x}.shape[:{at.lead}]"


@WRITERS.of(L.Flatten)
def flatten(_spec: L.Flatten, at: FlaxLayerWriter) -> None:
    """All axes of a sample as one."""
    at.set_output(call(f"{at.x}.reshape", _leading(at), "-1"))


@WRITERS.of(L.Reshape)
def reshape(spec: L.Reshape, at: FlaxLayerWriter) -> None:
    """A sample in another shape."""
    sizes = ("-1" if size is None else literal(size) for size in spec.shape)
    at.set_output(call(f"{at.x}.reshape", _leading(at), *sizes))


@WRITERS.of(L.Permute)
def permute(spec: L.Permute, at: FlaxLayerWriter) -> None:
    """Axes in another order."""
    order = (*range(at.lead), *(n + at.lead - 1 for n in spec.order))
    at.set_output(call(f"{at.x}.transpose", *map(literal, order)))


@WRITERS.of(L.RepeatVector)
def repeat_vector(spec: L.RepeatVector, at: FlaxLayerWriter) -> None:
    """Equal steps."""
    at.set_output(call("jnp.repeat", at.part("None"), literal(spec.times), ("axis", f"{at.lead}")))


def _part(start: int | None, stop: int | None, step: int = 1) -> str:
    """Returns a slice as text.

    >>> _part(1, None), _part(None, None, -1), _part(None, None)
    ('1:', '::-1', ':')
    """
    ends = ("" if end is None else literal(end) for end in (start, stop))
    return ":".join(ends) + (f":{literal(step)}" if step != 1 else "")


@WRITERS.of(L.Slice)
def take(spec: L.Slice, at: FlaxLayerWriter) -> None:
    """A part along one axis."""
    before = [":"] * spec.axis
    if not spec.drop:
        at.set_output(at.part(*before, _part(spec.start, spec.stop, spec.step)))
        return
    start = literal(spec.start)
    if at.shapes[0][spec.axis] is None and spec.start not in (0, -1):
        # JAX clips an index out of range; with fill the result is NaN, no wrong number
        place = at.part(*before, start, of=".at")
        at.set_output(call(f"{place}.get", ("mode", '"fill"'), ("fill_value", "jnp.nan")))
    else:
        at.set_output(at.part(*before, start))


@WRITERS.of(L.ExpandDims)
def expand_dims(spec: L.ExpandDims, at: FlaxLayerWriter) -> None:
    """A new axis."""
    at.set_output(call("jnp.expand_dims", at.x, literal(at.axis(spec.axis))))


@WRITERS.of(L.Squeeze)
def squeeze(spec: L.Squeeze, at: FlaxLayerWriter) -> None:
    """An axis less."""
    at.set_output(call("jnp.squeeze", at.x, ("axis", literal(at.axis(spec.axis)))))


@WRITERS.of(L.Reverse)
def reverse(_spec: L.Reverse, at: FlaxLayerWriter) -> None:
    """The time axis turned round."""
    at.set_output(call("jnp.flip", at.x, f"{at.lead}"))


@WRITERS.of(L.Pad)
def pad(spec: L.Pad, at: FlaxLayerWriter) -> None:
    """Zeros around."""
    pairs = [(0, 0)] * at.lead + [*zip(spec.before, spec.after, strict=True), (0, 0)]
    padded = call("jnp.pad", at.x, call("", *map(literal, pairs)))
    at.set_output(padded if any(map(any, pairs)) else at.x)


@WRITERS.of(L.Crop)
def crop(spec: L.Crop, at: FlaxLayerWriter) -> None:
    """The middle."""
    pairs = zip(spec.before, spec.after, strict=True)
    parts = [_part(a or None, -b or None) for a, b in pairs]
    while parts and parts[-1] == ":":
        parts.pop()
    at.set_output(at.part(*parts) if parts else at.x)


@WRITERS.of(L.UpSample)
def up_sample(spec: L.UpSample, at: FlaxLayerWriter) -> None:
    """Every place repeated."""
    value: CallExpr | str = at.x
    for axis, times in enumerate(spec.times):
        if times > 1:
            value = call("jnp.repeat", value, literal(times), ("axis", literal(at.axis(axis))))
    at.set_output(value)


@WRITERS.of(L.Reduce)
def reduce(spec: L.Reduce, at: FlaxLayerWriter) -> None:
    """Over axes of a sample."""
    axes = ("axis", axes_text(tuple(map(at.axis, spec.axes))))
    at.set_output(
        call(f"{at.x}.{named(spec.how)}", axes, ("keepdims", "True") if spec.keep else None)
    )


@WRITERS.of(L.Concatenate)
def concatenate(spec: L.Concatenate, at: FlaxLayerWriter) -> None:
    """End to end."""
    inputs = at.site.inputs
    joined = call("jnp.concatenate", listed(inputs), ("axis", literal(at.axis(spec.axis))))
    at.set_output(joined if len(inputs) > 1 else at.x)


def _same_rank(at: FlaxLayerWriter) -> list[str]:
    """Returns the inputs with leading axes of size 1 up to one rank."""
    most = max(at.ranks)
    lead = ":, " * at.lead
    return [
        f"{x}[{lead}{', '.join(['None'] * (most - rank))}]" if rank < most else x
        for x, rank in zip(at.site.inputs, at.ranks, strict=True)
    ]


SIGNS = {"add": "+", "average": "+", "subtract": "-", "multiply": "*"}

FUNCTIONS = {"average": "add"}
"""Merge -> the function of two arrays that it repeats, where the names differ."""


def _chained(at: FlaxLayerWriter, sign: str, terms: list[str]) -> None:
    """Sets the output to terms with an operator between them, one per line if too long."""
    pad, text = " " * 8, f" {sign} ".join(terms)
    if len(text) + 12 <= WIDTH:
        at.set_output(text)
        return
    lines = [terms[0], *(f"{sign} {term}" for term in terms[1:])]
    at.parts.forward += [
        f"{pad}{at.site.y} = (",
        *(f"{pad}    {line}" for line in lines),
        f"{pad})",
    ]


@WRITERS.of(L.Merge)
def merge(spec: L.Merge, at: FlaxLayerWriter) -> None:
    """Element by element."""
    terms, count, y = _same_rank(at), len(at.site.inputs), at.site.y
    if count > WIDEST:
        at.set_output(
            call("reduce", named(f"jnp.{FUNCTIONS.get(spec.how, spec.how)}"), listed(terms))
        )
        if spec.how == "average":
            at.set_output(f"{y} / {count}")
        return
    if spec.how not in SIGNS:
        value: CallExpr | str = terms[0]
        for term in terms[1:]:
            value = call(named(f"jnp.{spec.how}"), value, term)
        at.set_output(value)
        return
    whole = f"({' + '.join(terms)}) / {count}"
    if spec.how == "average" and count > 1 and len(f"        {y} = {whole}") <= WIDTH:
        at.set_output(whole)
        return
    _chained(at, SIGNS[spec.how], terms)
    if spec.how == "average" and count > 1:
        at.set_output(f"{y} / {count}")


@WRITERS.of(L.Dot)
def dot(spec: L.Dot, at: FlaxLayerWriter) -> None:
    """Products summed over one axis of each."""
    pairs = list(zip(at.site.inputs, spec.axes, strict=True))
    if spec.normalize:
        at.parts.use_template(CELLS, "unit")
    floor = literal(spec.floor)
    inputs = [f"unit({x}, {literal(axis)}, {floor})" if spec.normalize else x for x, axis in pairs]
    first, second = at.ranks
    a, b = ["cdefgh"[: first - 1], "opqrst"[: second - 1]]
    left, right = (
        f"b{own[: axis - 1]}i{own[axis - 1 :]}" for own, axis in zip((a, b), spec.axes, strict=True)
    )
    at.set_output(call("jnp.einsum", literal(f"{left},{right}->b{a}{b}"), *inputs))
    if not a and not b:
        at.set_output(f"{at.site.y}[:, None]")
