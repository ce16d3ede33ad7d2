"""Layers that TimeDistributed wraps: altered as they are by themselves."""

from __future__ import annotations

from dataclasses import dataclass, replace

from xlstm.diagnosis.hypothesis.altered_model import Call, Layer
from xlstm.ir.layers import LayerSpec, TimeDistributed
from xlstm.ir.types import Array
from xlstm.reference.basic import forward
from xlstm.reference.context import Context


@dataclass(frozen=True)
class Timed:
    """Calls a layer in an altered way for every time step.

    Attributes:
        call: the altered way.
    """

    call: Call

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """As the reference does it: each step of each sample is a sample."""
        assert isinstance(spec, TimeDistributed)
        (x,) = inputs
        size = x.shape[:2]
        flat = [x.reshape(-1, *x.shape[2:])]
        mask = context.mask
        mask = None if mask is None else mask.reshape(-1, *mask.shape[2:])
        found = self.call(spec.layer, flat, replace(context, mask=mask))
        return [y.reshape(*size, *y.shape[1:]) for y in found]


@dataclass(frozen=True)
class Whole:
    """Calls a layer in an altered way; one that is wrapped, with its wrapper, for all its steps.

    Attributes:
        call: the altered way.
    """

    call: Call

    def __call__(self, spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        """As the altered way does it."""
        return self.call(spec, inputs, context)


def inside(layer: Layer) -> Layer:
    """The layer that is wrapped; the layer itself where none is."""
    if not isinstance(layer.spec, TimeDistributed):
        return layer
    call: Call = layer.call if isinstance(layer.call, Whole) else forward
    call = layer.call.call if isinstance(layer.call, Timed) else call
    return replace(layer, spec=layer.spec.layer, call=call)


def around(layer: Layer, outer: Layer) -> Layer:
    """An altered inner layer, wrapped as `outer` is."""
    if not isinstance(outer.spec, TimeDistributed):
        return layer
    call = outer.call if layer.call is forward else Timed(layer.call)
    call = layer.call if isinstance(layer.call, Whole) else call
    return replace(layer, spec=replace(outer.spec, layer=layer.spec), call=call)
