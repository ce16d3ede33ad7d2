"""Writes layers that work on every number alone as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module. `Dense(3, 2)`, named a:

    self.a = nn.Linear(3, 2)
    x = self.a(x)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.literals import literal, named
from xlstm.ir.permutes import SPATIAL

from ...codegen.source import WIDTH, CallExpr, call
from ..native import own_class
from .writer import WRITERS, TorchLayerWriter, applied, method, number


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
    at.set_attribute(call("nn.Dropout", literal(spec.rate)))
    at.set_output(call(at.module, at.x))


@WRITERS.of(L.Activation)
def activation(spec: L.Activation, at: TorchLayerWriter) -> None:
    """An activation."""
    at.apply_steps(at.activation(spec.activation))


@WRITERS.of(L.Masking)
def masking(spec: L.Masking, at: TorchLayerWriter) -> None:
    """A mask, and zeros where it is False."""
    mask = at.site.outputs[1] if at.site.read(1) else at.site.free("mask")
    at.parts.forward.append(f"        {mask} = ({at.x} != {number(spec.value)}).any(dim=-1)")
    at.set_output(call(f"{at.x}.masked_fill", f"~{mask}.unsqueeze(-1)", "0.0"))


@WRITERS.of(L.Embedding)
def embedding(spec: L.Embedding, at: TorchLayerWriter) -> None:
    """Rows of a table."""
    at.set_attribute(call("nn.Embedding", literal(spec.rows), literal(spec.units)))
    if spec.mask_zero and at.site.read(1):
        at.assign(at.site.outputs[1], f"{at.x} != 0")
    at.set_output(call(at.module, f"{at.x}.long()"))


@WRITERS.of(L.Relu)
def relu(spec: L.Relu, at: TorchLayerWriter) -> None:
    """A slope up to a threshold, x above it, and a maximum."""
    x, top = at.x, None if spec.top is None else number(spec.top)
    if not spec.slope and not spec.threshold:
        plain = call("torch.relu", x) if top is None else call(f"{x}.clamp", "0.0", top)
        at.set_output(call("F.relu6", x) if spec.top == 6 else plain)
    elif top is None and not spec.threshold:
        at.set_output(call("F.leaky_relu", x, number(spec.slope)))
    elif top is None and not spec.slope:
        at.set_output(call("F.threshold", x, number(spec.threshold), "0.0"))
    else:
        threshold = number(spec.threshold)
        high = x if top is None else call(f"{x}.clamp", ("max", top))
        at.set_output(call("torch.where", f"{x} > {threshold}", high, _below(spec, at)))


def _below(spec: L.Relu, at: TorchLayerWriter) -> str:
    """Expression for the slope up to the threshold."""
    slope, threshold = number(spec.slope), number(spec.threshold)
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
        at.set_attribute(call("nn.PReLU", literal(spec.shape[0])))
    else:
        at.use_template("PReLU", *map(literal, spec.shape))
    at.set_output(call(at.module, at.x))


@WRITERS.of(L.Elu)
def elu(spec: L.Elu, at: TorchLayerWriter) -> None:
    """An exponential below zero."""
    at.set_output(call("F.elu", at.x, None if spec.alpha == 1 else number(spec.alpha)))


@WRITERS.of(L.Softmax)
def softmax(spec: L.Softmax, at: TorchLayerWriter) -> None:
    """Over one axis."""
    at.set_output(call("torch.softmax", at.x, ("dim", literal(at.axis(spec.axis)))))


@WRITERS.of(L.Affine)
def affine(spec: L.Affine, at: TorchLayerWriter) -> None:
    """A fixed line."""
    if spec.scale == -1:
        at.set_output(f"{number(spec.offset)} - {at.x}" if spec.offset else f"-{at.x}")
        return
    sign, offset = "-" if spec.offset < 0 else "+", number(abs(spec.offset))
    scaled = at.x if spec.scale == 1 else f"{at.x} * {number(spec.scale)}"
    whole = f"{scaled} {sign} {offset}" if spec.offset else scaled
    if len(whole) + 12 <= WIDTH:
        at.set_output(whole)
        return
    at.chain("*", at.x, number(spec.scale))
    if spec.offset:
        at.chain(sign, at.site.y, offset)


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
    if spec.how == "prod":  # torch.prod takes one axis at a time
        step = [("keepdim", "True")] if spec.keep else []
        at.apply_steps(
            *(method("prod", ("dim", literal(axis)), *step) for axis in sorted(axes)[::-1])
        )
        return
    dims = ("dim", literal(axes[0] if len(axes) == 1 else axes))
    how = REDUCTIONS.get(spec.how, spec.how)
    at.set_output(call(f"{at.x}.{named(how)}", dims, ("keepdim", "True") if spec.keep else None))


@WRITERS.of(L.NotEqual)
def not_equal(spec: L.NotEqual, at: TorchLayerWriter) -> None:
    """A mask."""
    at.set_output(f"{at.x} != {number(spec.value)}")


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
        at.set_attribute(call("nn.Identity"))
    elif own_class(spec):
        at.use_template(spec.layer, rate)
    elif spec.layer == "AlphaDropout":
        at.set_attribute(call("nn.AlphaDropout", rate))
    else:
        # whole channels at a time
        at.set_attribute(call(f"nn.Dropout{SPATIAL[spec.layer]}d", rate))
        at.apply_steps(at.channels_first(), applied(at.module), at.channels_last())
        return
    at.set_output(call(at.module, at.x))
