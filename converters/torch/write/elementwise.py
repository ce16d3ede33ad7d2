"""Writes layers that work on every number alone as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module. `Dense(3, 2)`, named a:

    self.a = nn.Linear(3, 2)
    x = self.a(x)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.layers.operations import SO_FAR
from xlstm.ir.literals import literal, named
from xlstm.ir.permutes import SPATIAL

from ...codegen.source import WIDTH, Argument, CallExpr, call, listed
from ..native import own_class
from .writer import WRITERS, TorchLayerWriter, applied, method


def linear(spec: L.LayerSpec) -> CallExpr:
    """Returns the native module of a Dense layer."""
    sizes = spec.sizes()
    bias = ("bias", "False") if "bias" in spec.missing_tensors() else None
    return call("nn.Linear", literal(sizes["i"]), literal(sizes["o"]), bias)


@WRITERS.of(L.Dense)
def dense(spec: L.Dense, at: TorchLayerWriter) -> None:
    """A product and an activation."""
    at.set_attribute(linear(spec))
    at.apply_steps(applied(at.module), at.activation(spec.activation))


@WRITERS.of(L.Dropout)
def dropout(spec: L.Dropout, at: TorchLayerWriter) -> None:
    """Zeros in training."""
    at.set_module("nn.Dropout", literal(spec.rate))
    at.set_output(call(at.module, at.x))


@WRITERS.of(L.Activation)
def activation(spec: L.Activation, at: TorchLayerWriter) -> None:
    """An activation."""
    at.apply_steps(at.activation(spec.activation))


@WRITERS.of(L.Masking)
def masking(spec: L.Masking, at: TorchLayerWriter) -> None:
    """A mask, and zeros where it is False."""
    mask = at.site.outputs[1] if at.read(1) else at.site.free("mask")
    at.parts.forward.append(f"        {mask} = ({at.x} != {literal(spec.value)}).any(dim=-1)")
    at.set_output(call(f"{at.x}.masked_fill", f"~{mask}.unsqueeze(-1)", "0.0"))


@WRITERS.of(L.Embedding)
def embedding(spec: L.Embedding, at: TorchLayerWriter) -> None:
    """Rows of a table."""
    at.set_module("nn.Embedding", literal(spec.rows), literal(spec.units))
    if spec.mask_zero and at.read(1):
        at.assign(at.site.outputs[1], f"{at.x} != 0")
    at.set_output(call(at.module, f"{at.x}.long()"))


@WRITERS.of(L.Relu)
def relu(spec: L.Relu, at: TorchLayerWriter) -> None:
    """A slope up to a threshold, x above it, and a maximum."""
    x, top = at.x, None if spec.top is None else literal(spec.top)
    if not spec.slope and not spec.threshold:
        plain = call("torch.relu", x) if top is None else call(f"{x}.clamp", "0.0", top)
        at.set_output(call("F.relu6", x) if spec.top == 6 else plain)
    elif top is None and not spec.threshold:
        at.set_output(call("F.leaky_relu", x, literal(spec.slope)))
    elif top is None and not spec.slope:
        at.set_output(call("F.threshold", x, literal(spec.threshold), "0.0"))
    else:
        threshold = literal(spec.threshold)
        high = x if top is None else call(f"{x}.clamp", ("max", top))
        at.set_output(call("torch.where", f"{x} > {threshold}", high, _below(spec, at)))


def _below(spec: L.Relu, at: TorchLayerWriter) -> str:
    """Expression for the slope up to the threshold."""
    slope, threshold = literal(spec.slope), literal(spec.threshold)
    if not spec.slope:
        return "0.0"
    part = f"{at.x} - {threshold}" if spec.threshold else at.x
    inside = f"{slope} * ({part})" if spec.threshold else f"{slope} * {part}"
    if len(inside) + 13 <= WIDTH:
        return inside
    low = at.site.free("low")
    at.assign(low, part)
    return f"{slope} * {low}"


@WRITERS.of(L.PRelu)
def prelu(spec: L.PRelu, at: TorchLayerWriter) -> None:
    """Learned slopes below zero."""
    if len(spec.shape) == 1:
        at.set_module("nn.PReLU", literal(spec.shape[0]))
    else:
        at.use_template("PReLU", *map(literal, spec.shape))
    at.set_output(call(at.module, at.x))


@WRITERS.of(L.Affine)
def affine(spec: L.Affine, at: TorchLayerWriter) -> None:
    """A fixed line."""
    if spec.scale == -1:
        at.set_output(f"{literal(spec.offset)} - {at.x}" if spec.offset else f"-{at.x}")
        return
    sign, offset = "-" if spec.offset < 0 else "+", literal(abs(spec.offset))
    scaled = at.x if spec.scale == 1 else f"{at.x} * {literal(spec.scale)}"
    whole = f"{scaled} {sign} {offset}" if spec.offset else scaled
    if len(whole) + 12 <= WIDTH:
        at.set_output(whole)
        return
    at.chain("*", at.x, literal(spec.scale))
    if spec.offset:
        at.chain(sign, at.y, offset)


FUNCTIONS = {"negative": "neg"}
"""Functions with another name in PyTorch."""


@WRITERS.of(L.Function)
def function(spec: L.Function, at: TorchLayerWriter) -> None:
    """A plain function."""
    at.set_output(call(named(f"torch.{FUNCTIONS.get(spec.name, spec.name)}"), at.x))


REDUCTIONS = {"max": "amax", "min": "amin"}
"""Reductions with another name in PyTorch."""


@WRITERS.of(L.Reduce)
def reduce(spec: L.Reduce, at: TorchLayerWriter) -> None:
    """Over axes of a sample."""
    axes = tuple(map(at.axis, spec.axes))
    kept = ("keepdim", "True") if spec.keep else None
    if spec.how == "prod":  # torch.prod takes one axis at a time
        ordered = sorted(axes, reverse=True)
        at.apply_steps(*(method("prod", ("dim", literal(axis)), kept) for axis in ordered))
        return
    dims = ("dim", literal(axes[0] if len(axes) == 1 else axes))
    at.set_output(call(f"{at.x}.{named(REDUCTIONS.get(spec.how, spec.how))}", dims, kept))


@WRITERS.of(L.NotEqual)
def not_equal(spec: L.NotEqual, at: TorchLayerWriter) -> None:
    """A mask."""
    at.set_output(f"{at.x} != {literal(spec.value)}")


@WRITERS.of(L.Augmentation)
def augmentation(spec: L.Augmentation, at: TorchLayerWriter) -> None:
    """Changes images in training only; PyTorch has no such layer."""
    at.parts.forward.append(f"        # {named(spec.layer)} acts in training only")
    at.set_output(at.x)


@WRITERS.of(L.TrainingOnly)
def training_only(spec: L.TrainingOnly, at: TorchLayerWriter) -> None:
    """Acts in training only."""
    rate = literal(spec.rate)
    if spec.layer == "ActivityRegularization":
        at.parts.init.append(
            "        # adds to the loss in training, which is not the model's part"
        )
        at.set_module("nn.Identity")
    elif own_class(spec):
        at.use_template(spec.layer, rate)
    elif spec.layer == "AlphaDropout":
        at.set_module("nn.AlphaDropout", rate)
    else:
        # whole channels at a time
        at.set_module(f"nn.Dropout{SPATIAL[spec.layer]}d", rate)
        at.apply_steps(at.channels_first(), applied(at.module), at.channels_last())
        return
    at.set_output(call(at.module, at.x))


COMPARISONS = {
    "equal": "torch.eq",
    "not_equal": "torch.ne",
    "greater": "torch.gt",
    "greater_equal": "torch.ge",
    "less": "torch.lt",
    "less_equal": "torch.le",
}


def _numbers(at: TorchLayerWriter, found: CallExpr) -> None:
    """Sets the output to a result as numbers of the input's dtype, in two lines if long."""
    if not at.read(0):
        return
    whole = call(f"{found}.to", f"{at.x}.dtype")
    if len(f"        {at.y} = {whole}") > WIDTH:
        name = at.site.free("found")
        at.assign(name, found)
        whole = call(f"{name}.to", f"{at.x}.dtype")
    at.set_output(whole)


@WRITERS.of(L.Compare)
def compare(spec: L.Compare, at: TorchLayerWriter) -> None:
    """1 or 0, numbers of the input's dtype."""
    terms: list[Argument] = [*at.site.inputs]
    terms += [] if spec.value is None else [literal(spec.value)]
    x, other = terms
    _numbers(at, call(COMPARISONS[spec.how], x, other))


@WRITERS.of(L.Where)
def where(spec: L.Where, at: TorchLayerWriter) -> None:
    """One of two values, by a condition."""
    condition, *rest = at.site.inputs
    cases = iter(rest)
    yes, no = (next(cases) if value is None else literal(value) for value in (spec.yes, spec.no))
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
    if not at.read(0):
        return
    value = call(f"{at.x}.new_tensor", listed(map(literal, spec.values)))
    name = at.site.free("constant")
    at.assign(name, value)
    sizes = map(literal, spec.shape)
    shaped = name if len(spec.shape) == 1 else str(call(f"{name}.reshape", *sizes))
    terms = (shaped, at.x) if spec.first else (at.x, shaped)
    if spec.how in COMPARISONS:
        _numbers(at, call(COMPARISONS[spec.how], *terms))
    else:
        at.set_output(call(named(f"torch.{spec.how}"), *terms))


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
    if at.x == at.y:  # its batch size is needed below
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
