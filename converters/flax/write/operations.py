"""How Flax source writes operations between layers; imports no framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlstm.ir.layers import Across, Along, Clip, Compare, Constant, Einsum, Spec, Where
from xlstm.ir.layers.operations import COMPARISONS, SO_FAR
from xlstm.ir.literals import literal, named

from ...codegen.source import WIDTH, Call, call, listed
from .dialect import At
from .elementwise import number
from .shape import axes_text


def clip(spec: Clip, at: At) -> None:
    """Between bounds."""
    low = None if spec.low is None else ("min", number(spec.low))
    high = None if spec.high is None else ("max", number(spec.high))
    at.put(call("jnp.clip", at.x, low, high))


def _numbers(at: At, found: Call) -> None:
    """Sets the output to what is found as numbers of the input's dtype, in two lines if long."""
    if not at.site.read(0):
        return
    whole = call(f"{found}.astype", f"{at.x}.dtype")
    if len(f"        {at.site.y} = {whole}") > WIDTH:
        name = at.site.free("found")
        at.write(name, found)
        whole = call(f"{name}.astype", f"{at.x}.dtype")
    at.put(whole)


def compare(spec: Compare, at: At) -> None:
    """1 or 0, numbers of the input's dtype."""
    terms = [*at.site.inputs, *([] if spec.value is None else [number(spec.value)])]
    _numbers(at, call(named(f"jnp.{spec.how}"), *terms))


def where(spec: Where, at: At) -> None:
    """One of two."""
    condition, *rest = at.site.inputs
    given = iter(rest)
    yes, no = (next(given) if value is None else number(value) for value in (spec.yes, spec.no))
    at.put(call("jnp.where", f"{condition} != 0", yes, no))


def along(spec: Along, at: At) -> None:
    """Sums or products so far, or places, numbers of the input's dtype."""
    found = call(named(f"jnp.{spec.how}"), at.x, ("axis", literal(at.axis(spec.axis))))
    if spec.how in SO_FAR:
        at.put(found)
    else:
        _numbers(at, found)


def constant(spec: Constant, at: At) -> None:
    """With fixed numbers."""
    if not at.site.read(0):
        return
    name = at.site.free("constant")
    at.write(name, call("jnp.array", listed(map(number, spec.values)), f"{at.x}.dtype"))
    sizes = map(literal, spec.shape)
    shaped = name if len(spec.shape) == 1 else str(call(f"{name}.reshape", *sizes))
    terms = (shaped, at.x) if spec.first else (at.x, shaped)
    found = call(named(f"jnp.{spec.how}"), *terms)
    if spec.how in COMPARISONS:
        _numbers(at, found)
    else:
        at.put(found)


def across(spec: Across, at: At) -> None:
    """Over all samples, for each of them."""
    axes = (0, *(axis + 1 for axis in spec.axes))
    found = call(f"{at.x}.{named(spec.how)}", ("axis", axes_text(axes)), ("keepdims", "True"))
    at.put(call("jnp.repeat", found, f"{at.x}.shape[0]", ("axis", "0")))


def einsum(spec: Einsum, at: At) -> None:
    """Products summed, sample by sample."""
    first, second, out = spec.letters
    at.put(call("jnp.einsum", literal(f"b{first},b{second}->b{out}"), *at.site.inputs))


OPERATIONS: dict[type[Spec], Callable[[Any, At], None]] = {
    Across: across,
    Along: along,
    Clip: clip,
    Compare: compare,
    Constant: constant,
    Einsum: einsum,
    Where: where,
}
"""Operation -> what writes it."""
