"""Writes normalisations as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module. `LayerNorm(3)`, named a:

    self.a = nn.LayerNorm(3, eps=0.001)
    x = self.a(x)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.literals import literal

from ...codegen.source import call
from ..native import own_class
from .writer import WRITERS, Step, TorchLayerWriter, applied, first, last, method


def _bare(at: TorchLayerWriter, scale: bool, center: bool) -> None:
    """Removes the scale or the offset where the layer has only one of them."""
    if scale != center:
        lacks = "bias" if scale else "weight"
        at.parts.init.append(f'        {at.module}.register_parameter("{lacks}", None)')


@WRITERS.of(L.BatchNorm)
def batch_norm(spec: L.BatchNorm, at: TorchLayerWriter) -> None:
    """Uses the statistics of training."""
    # with the statistics of training; axes before the channels, time steps included, do not matter
    shape = (*(None,) * (at.lead - 1), *at.shape)
    momentum = float(f"{1 - spec.momentum:.12g}")
    rank = max(len(shape) - 1, 1)
    at.set_module(
        f"nn.BatchNorm{rank if rank < 4 else 1}d",
        literal(spec.features),
        ("eps", literal(spec.epsilon)),
        None if momentum == 0.1 else ("momentum", literal(momentum)),
        None if spec.scale or spec.center else ("affine", "False"),
    )
    _bare(at, spec.scale, spec.center)
    if rank < 4:
        before = None if at.given_first else first(shape)
        after = None if at.left_first else last(shape)
        at.apply_steps(before, applied(at.module), after)
        return
    sizes = at.site.free("sizes")
    at.assign(sizes, f"{at.x}.shape[:-1]")
    at.apply_steps(
        method("flatten", "0", "-2"), applied(at.module), method("unflatten", "0", sizes)
    )


@WRITERS.of(L.LayerNorm)
def layer_norm(spec: L.LayerNorm, at: TorchLayerWriter) -> None:
    """Uses the mean and variance of each sample."""
    bare = not (spec.scale or spec.center)
    sizes = map(literal, (spec.groups, spec.features) if spec.groups else (spec.features,))
    at.set_module(
        "nn.GroupNorm" if spec.groups else "nn.LayerNorm",
        *sizes,
        ("eps", literal(spec.epsilon)),
        ("affine" if spec.groups else "elementwise_affine", "False") if bare else None,
    )
    _bare(at, spec.scale, spec.center)
    if not spec.groups:
        at.set_output(call(at.module, at.x))
    elif spec.center and not spec.scale:
        _shifted_groups(spec, at)
    else:
        at.apply_steps(*_channels_first(at), applied(at.module), at.channels_last())


def _channels_first(at: TorchLayerWriter) -> tuple[Step | None, Step | None]:
    """Returns the moves of channels to the front, in contiguous memory, and back.

    PyTorch's backward pass crashes where strides alone have moved them and the input needs no
    gradient, such as a model's own input.
    """
    return at.channels_first(), method("contiguous") if len(at.shape) > 2 else None


def _shifted_groups(spec: L.LayerNorm, at: TorchLayerWriter) -> None:
    """Groups with an offset and without a scale."""
    if not at.read(0):
        return
    at.parts.forward.append(
        "        # added by itself: with a bias alone nn.GroupNorm has no gradients"
    )
    norm = applied("F.group_norm", literal(spec.groups), ("eps", literal(spec.epsilon)))
    at.apply_steps(*_channels_first(at), norm, at.channels_last())
    at.assign(at.y, f"{at.y} + {at.module}.bias")


@WRITERS.of(L.RMSNorm)
def rms_norm(spec: L.RMSNorm, at: TorchLayerWriter) -> None:
    """Uses the mean square of the last axis."""
    bare = None if spec.scale else ("elementwise_affine", "False")
    sizes = literal(spec.features), ("eps", literal(spec.epsilon))
    at.set_attribute(call("nn.RMSNorm", *sizes, bare))
    at.set_output(call(at.module, at.x))


@WRITERS.of(L.UnitNorm)
def unit_norm(spec: L.UnitNorm, at: TorchLayerWriter) -> None:
    """Divides by the length along the last axis."""
    at.set_output(call("F.normalize", at.x, ("dim", "-1"), ("eps", literal(spec.floor))))


@WRITERS.of(L.Normalization)
def normalization(spec: L.Normalization, at: TorchLayerWriter) -> None:
    """Uses the mean and variance of data."""
    at.use_template(own_class(spec), literal(spec.features))
    at.set_output(call(at.module, at.x))
