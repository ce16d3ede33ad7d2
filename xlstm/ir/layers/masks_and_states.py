"""What a layer may be given beside its inputs: a mask, and initial states."""

from __future__ import annotations

from collections.abc import Sequence

from xlstm.errors import UsageError
from xlstm.ir.layers.base import LayerSpec
from xlstm.ir.layers.basic import TimeDistributed
from xlstm.ir.layers.convolution import GlobalPool
from xlstm.ir.layers.custom import Custom
from xlstm.ir.layers.recurrent import Bidirectional, Recurrent
from xlstm.ir.types import Shape


def mask_shape(spec: LayerSpec, x: Shape) -> Shape | None:
    """One sample of the mask that a layer obeys, for samples `x`; None where it obeys none."""
    if isinstance(spec, TimeDistributed):
        inner = mask_shape(spec.layer, x[1:])
        return None if inner is None else (*x[:1], *inner)
    if isinstance(spec, Custom):
        return x[:1] if spec.sees_mask and x else None
    mean = isinstance(spec, GlobalPool) and spec.how == "average" and len(x) == 2
    return x[:1] if mean or isinstance(spec, (Recurrent, Bidirectional)) else None


def check_mask(name: str, spec: LayerSpec, x: Shape, mask: Shape) -> None:
    """Raises UsageError for a mask, one sample of it, that a layer does not obey."""
    wanted = mask_shape(spec, x) or ()
    apart = any(len({*pair} - {None}) > 1 for pair in zip(wanted, mask, strict=False))
    if not wanted or len(wanted) != len(mask) or apart:
        sizes = ", ".join("time" if size is None else str(size) for size in wanted)
        want = f"a mask (batch, {sizes})" if wanted else "no mask, which it would not obey"
        raise UsageError(f"{name} ({spec.kind})", want, f"(batch, {str(mask)[1:]}", "mend the mask")


def check_states(name: str, spec: LayerSpec, states: Sequence[Shape]) -> None:
    """Raises UsageError for initial states, one sample of each, that are not the layer's."""
    wanted = spec.state_shapes() if isinstance(spec, (Recurrent, Bidirectional)) else ()
    if tuple(states) != wanted:
        want = f"states {', '.join(map(str, wanted)) or 'for a recurrent layer only'}"
        got = ", ".join(map(str, states))
        raise UsageError(f"{name} ({spec.kind})", want, got, "mend the initial states")
