"""Writes specs that are operations on tensors in Keras 3 source; imports no framework.

In: a spec and variables. Out: a call. `Clip(0.0, 1.0)` becomes

    keras.ops.clip(x, 0.0, 1.0)
"""

from __future__ import annotations

from collections.abc import Callable

from xlstm.ir import layers as L
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.layers.operations import COMPARISONS, SO_FAR
from xlstm.ir.literals import literal, named

from ...codegen.source import Argument, CallExpr, call, listed
from .layer_arguments import UNIT_FLOOR, flag, number, sharp


def _slice(spec: L.Slice, x: str, first: int) -> CallExpr:
    places = ["" if place is None else literal(place) for place in (spec.start, spec.stop)]
    step = "" if spec.step == 1 else f":{literal(spec.step)}"
    part = literal(spec.start) if spec.drop else f"{':'.join(places)}{step}"
    return CallExpr(x, (*(":",) * (spec.axis + first), part), "[]")


def _on_axis(name: str, x: str, axis: int) -> CallExpr:
    return call(f"keras.ops.{name}", x, ("axis", literal(axis)))


def _reduce(spec: L.Reduce, x: str, first: int) -> CallExpr:
    axes = tuple(axis + first for axis in spec.axes)
    axis = literal(axes[0] if len(axes) == 1 else axes)
    return call(named(f"keras.ops.{spec.how}"), x, ("axis", axis), flag("keepdims", spec.keep))


def unit(x: str, axis: int, floor: float) -> CallExpr:
    """Returns a tensor divided by its length along an axis, or by `floor` if that is larger."""
    along = None if axis == -1 else ("axis", literal(axis))
    return call("keras.ops.normalize", x, along, ("order", "2"), ("epsilon", number(floor)))


def _clip(spec: L.Clip, x: str, _first: int) -> CallExpr:
    if spec.low is None or spec.high is None:
        name, bound = ("minimum", spec.high) if spec.low is None else ("maximum", spec.low)
        return call(f"keras.ops.{name}", x, sharp(bound or 0.0))
    return call("keras.ops.clip", x, sharp(spec.low), sharp(spec.high))


def _numbers(found: CallExpr) -> CallExpr:
    """Returns True and False as 1 and 0 of the model's dtype."""
    return call("keras.ops.cast", found, "dtype")


def _compare(spec: L.Compare, x: str, _first: int, *rest: str) -> CallExpr:
    other = [*rest] if spec.value is None else [sharp(spec.value)]
    return _numbers(call(named(f"keras.ops.{spec.how}"), x, *other))


def _where(spec: L.Where, x: str, _first: int, *rest: str) -> CallExpr:
    left = iter(rest)
    cases = [next(left) if case is None else sharp(case) for case in (spec.yes, spec.no)]
    return call("keras.ops.where", call("keras.ops.not_equal", x, "0"), *cases)


def _along(spec: L.Along, x: str, first: int) -> CallExpr:
    found = _on_axis(named(spec.how), x, spec.axis + first)
    return found if spec.how in SO_FAR else _numbers(found)


def _constant(spec: L.Constant, x: str, _first: int) -> CallExpr:
    value = call("np.reshape", listed(map(number, spec.values)), literal(spec.shape))
    terms: tuple[Argument, ...] = (value, x) if spec.first else (x, value)
    found = call(named(f"keras.ops.{spec.how}"), *terms)
    return _numbers(found) if spec.how in COMPARISONS else found


def _across(spec: L.Across, x: str, _first: int) -> CallExpr:
    own = tuple(axis + 1 for axis in spec.axes)
    kept = ("keepdims", "True")
    one = call(named(f"keras.ops.{spec.how}"), x, ("axis", literal((0, *own))), kept)
    # zeros, one place for each sample
    each: Argument = call("keras.ops.max", x, ("axis", literal(own)), kept) if own else x
    return call("keras.ops.add", one, call("keras.ops.zeros_like", each))


def _einsum(spec: L.Einsum, x: str, _first: int, other: str) -> CallExpr:
    first, second, out = spec.letters
    return call("keras.ops.einsum", literal(f"b{first},b{second}->b{out}"), x, other)


OPERATIONS: dict[type[L.LayerSpec], Callable[..., CallExpr]] = {
    L.Across: _across,
    L.Along: _along,
    L.Clip: _clip,
    L.Compare: _compare,
    L.Constant: _constant,
    L.Einsum: _einsum,
    L.ExpandDims: lambda spec, x, first: _on_axis("expand_dims", x, spec.axis + first),
    L.Function: lambda spec, x, _first: call(named(f"keras.ops.{spec.name}"), x),
    L.NotEqual: lambda spec, x, _first: call("keras.ops.not_equal", x, number(spec.value)),
    L.Reduce: _reduce,
    L.Reverse: lambda _spec, x, first: _on_axis("flip", x, first),
    L.Slice: _slice,
    L.Squeeze: lambda spec, x, first: _on_axis("squeeze", x, spec.axis + first),
    L.UnitNorm: lambda spec, x, _first: unit(x, -1, spec.floor),
    L.Where: _where,
}
"""Spec -> function of (variable, first axis after the batch) that writes the operation."""


def is_operation(spec: L.LayerSpec) -> bool:
    """True if a spec, or its layer at every time step, is an operation."""
    inner = unwrap_time_distributed(spec)
    return type(inner) in OPERATIONS and not (
        isinstance(inner, L.UnitNorm) and inner.floor == UNIT_FLOOR
    )


def operation(spec: L.LayerSpec, x: str, *rest: str) -> CallExpr:
    """Returns the operation on variables; at every time step its axes are one further."""
    inner = unwrap_time_distributed(spec)
    return OPERATIONS[type(inner)](inner, x, 1 if inner is spec else 2, *rest)
