"""Writes operations between layers as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module. `Clip(0.0, 1.0)`:

    x = x.clamp(min=0.0, max=1.0)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.layers.operations import SO_FAR
from xlstm.ir.literals import literal, named

from ...codegen.source import WIDTH, Argument, CallExpr, call, listed
from .elementwise import REDUCTIONS
from .writer import WRITERS, TorchLayerWriter, method, number

COMPARISONS = {
    "equal": "torch.eq",
    "not_equal": "torch.ne",
    "greater": "torch.gt",
    "greater_equal": "torch.ge",
    "less": "torch.lt",
    "less_equal": "torch.le",
}

ARITHMETIC = {
    "add": "torch.add",
    "subtract": "torch.subtract",
    "multiply": "torch.multiply",
    "divide": "torch.divide",
    "maximum": "torch.maximum",
    "minimum": "torch.minimum",
}


@WRITERS.of(L.Clip)
def clip(spec: L.Clip, at: TorchLayerWriter) -> None:
    """Limits numbers to a range."""
    low = None if spec.low is None else ("min", number(spec.low))
    high = None if spec.high is None else ("max", number(spec.high))
    at.set_output(call(f"{at.x}.clamp", low, high))


def _numbers(at: TorchLayerWriter, found: CallExpr) -> None:
    """Sets the output to a result as numbers of the input's dtype, in two lines if long."""
    if not at.site.read(0):
        return
    whole = call(f"{found}.to", f"{at.x}.dtype")
    if len(f"        {at.site.y} = {whole}") > WIDTH:
        name = at.site.free("found")
        at.assign(name, found)
        whole = call(f"{name}.to", f"{at.x}.dtype")
    at.set_output(whole)


@WRITERS.of(L.Compare)
def compare(spec: L.Compare, at: TorchLayerWriter) -> None:
    """1 or 0, numbers of the input's dtype."""
    terms: list[Argument] = [*at.site.inputs]
    terms += [] if spec.value is None else [number(spec.value)]
    x, other = terms
    _numbers(at, call(COMPARISONS[spec.how], x, other))


@WRITERS.of(L.Where)
def where(spec: L.Where, at: TorchLayerWriter) -> None:
    """One of two values, by a condition."""
    condition, *rest = at.site.inputs
    given = iter(rest)
    yes, no = (next(given) if value is None else number(value) for value in (spec.yes, spec.no))
    at.set_output(call("torch.where", f"{condition} != 0", yes, no))


@WRITERS.of(L.Along)
def along(spec: L.Along, at: TorchLayerWriter) -> None:
    """Cumulative sums or products, or indices, as numbers of the input's dtype."""
    found = call(f"{at.x}.{named(spec.how)}", ("dim", literal(at.axis(spec.axis))))
    if spec.how in SO_FAR:
        at.set_output(found)
    else:
        _numbers(at, found)


@WRITERS.of(L.Constant)
def constant(spec: L.Constant, at: TorchLayerWriter) -> None:
    """An operation with fixed numbers."""
    if not at.site.read(0):
        return
    held = call(f"{at.x}.new_tensor", listed(map(number, spec.values)))
    name = at.site.free("constant")
    at.assign(name, held)
    sizes = map(literal, spec.shape)
    shaped = name if len(spec.shape) == 1 else str(call(f"{name}.reshape", *sizes))
    terms = (shaped, at.x) if spec.first else (at.x, shaped)
    found: CallExpr = call((ARITHMETIC | COMPARISONS)[spec.how], *terms)
    if spec.how in COMPARISONS:
        _numbers(at, found)
    else:
        at.set_output(found)


@WRITERS.of(L.Across)
def across(spec: L.Across, at: TorchLayerWriter) -> None:
    """A reduction over all samples, repeated for each of them."""
    axes = [0, *(axis + 1 for axis in spec.axes)]
    kept = ("keepdim", "True")
    if spec.how == "prod":  # torch.prod takes one axis at a time
        steps = [method("prod", ("dim", literal(axis)), kept) for axis in axes]
    else:
        name = REDUCTIONS.get(spec.how, spec.how)
        dims = literal(tuple(axes)) if len(axes) > 1 else "0"
        steps = [method(named(name), ("dim", dims), kept)]
    more = ["-1"] * len(at.shape)
    if at.x == at.site.y:  # its batch size is needed below
        found = at.site.free("found")
        at.apply_steps(*steps, y=found)
        at.set_output(call(f"{found}.expand", f"{at.x}.shape[0]", *more))
    else:
        at.apply_steps(*steps, method("expand", f"{at.x}.shape[0]", *more))


@WRITERS.of(L.Einsum)
def einsum(spec: L.Einsum, at: TorchLayerWriter) -> None:
    """Sums of products in each sample."""
    first, second, out = spec.letters
    at.set_output(call("torch.einsum", literal(f"b{first},b{second}->b{out}"), *at.site.inputs))
