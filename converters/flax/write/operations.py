"""Writes operations between layers as Flax source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module. `Clip(0.0, 1.0)`:

    x = jnp.clip(x, min=0.0, max=1.0)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.layers.operations import COMPARISONS, SO_FAR
from xlstm.ir.literals import literal, named

from ...codegen.source import WIDTH, CallExpr, call, listed
from .dialect import WRITERS, FlaxLayerWriter
from .elementwise import number
from .shape import axes_text


@WRITERS.of(L.Clip)
def clip(spec: L.Clip, at: FlaxLayerWriter) -> None:
    """Limits numbers to a range."""
    low = None if spec.low is None else ("min", number(spec.low))
    high = None if spec.high is None else ("max", number(spec.high))
    at.set_output(call("jnp.clip", at.x, low, high))


def _numbers(at: FlaxLayerWriter, found: CallExpr) -> None:
    """Sets the output to a result as numbers of the input's dtype, in two lines if long."""
    if not at.site.read(0):
        return
    whole = call(f"{found}.astype", f"{at.x}.dtype")
    if len(f"        {at.site.y} = {whole}") > WIDTH:
        name = at.site.free("found")
        at.assign(name, found)
        whole = call(f"{name}.astype", f"{at.x}.dtype")
    at.set_output(whole)


@WRITERS.of(L.Compare)
def compare(spec: L.Compare, at: FlaxLayerWriter) -> None:
    """1 or 0, numbers of the input's dtype."""
    terms = [*at.site.inputs, *([] if spec.value is None else [number(spec.value)])]
    _numbers(at, call(named(f"jnp.{spec.how}"), *terms))


@WRITERS.of(L.Where)
def where(spec: L.Where, at: FlaxLayerWriter) -> None:
    """One of two values, by a condition."""
    condition, *rest = at.site.inputs
    cases = iter(rest)
    yes, no = (next(cases) if value is None else number(value) for value in (spec.yes, spec.no))
    at.set_output(call("jnp.where", f"{condition} != 0", yes, no))


@WRITERS.of(L.Along)
def along(spec: L.Along, at: FlaxLayerWriter) -> None:
    """Cumulative sums or products, or indices, as numbers of the input's dtype."""
    found = call(named(f"jnp.{spec.how}"), at.x, ("axis", literal(at.axis(spec.axis))))
    if spec.how in SO_FAR:
        at.set_output(found)
    else:
        _numbers(at, found)


@WRITERS.of(L.Constant)
def constant(spec: L.Constant, at: FlaxLayerWriter) -> None:
    """An operation with fixed numbers."""
    if not at.site.read(0):
        return
    name = at.site.free("constant")
    at.assign(name, call("jnp.array", listed(map(number, spec.values)), f"{at.x}.dtype"))
    sizes = map(literal, spec.shape)
    shaped = name if len(spec.shape) == 1 else str(call(f"{name}.reshape", *sizes))
    terms = (shaped, at.x) if spec.first else (at.x, shaped)
    found = call(named(f"jnp.{spec.how}"), *terms)
    if spec.how in COMPARISONS:
        _numbers(at, found)
    else:
        at.set_output(found)


@WRITERS.of(L.Across)
def across(spec: L.Across, at: FlaxLayerWriter) -> None:
    """A reduction over all samples, repeated for each of them."""
    axes = (0, *(axis + 1 for axis in spec.axes))
    found = call(f"{at.x}.{named(spec.how)}", ("axis", axes_text(axes)), ("keepdims", "True"))
    at.set_output(call("jnp.repeat", found, f"{at.x}.shape[0]", ("axis", "0")))


@WRITERS.of(L.Einsum)
def einsum(spec: L.Einsum, at: FlaxLayerWriter) -> None:
    """Sums of products in each sample."""
    first, second, out = spec.letters
    at.set_output(call("jnp.einsum", literal(f"b{first},b{second}->b{out}"), *at.site.inputs))
