"""Reads live Linen and NNX Sequential modules as chains of canonical layers.

In: the members of a Sequential. Out: a Model with a node for each.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from xlstm.errors import UnsupportedError, UsageError
from xlstm.ir import layers as L
from xlstm.ir.graph import Model, chain
from xlstm.ir.types import Array, Shape
from xlstm.slots import Table, sizes_of, unpack

from ..live.common import activation, check_dtype
from ..slots import UNTOLD
from .recurrent import FlaxCell, origin

Sizes = Callable[[], Mapping[str, int]]
"""Returns the sizes of canonical axes; called after a check of the options."""


@dataclass(frozen=True)
class Member:
    """A module or a function in a Sequential.

    Attributes:
        numbers: its place, after the places of the Sequentials around it.
        module: the module or function.
        held: parameters and statistics, by dotted name.
        shares: True if an earlier member has some of its parameters.
    """

    numbers: tuple[int, ...]
    module: Any
    held: Mapping[str, Array]
    shares: bool = False

    @property
    def path(self) -> str:
        """Its place, as source text."""
        return "".join(f".layers[{number}]" for number in self.numbers)

    def name(self, spec: L.LayerSpec) -> str:
        """Returns the name of its node."""
        return "_".join([spec.kind.lower(), *map(str, self.numbers)])


def _each(value: Any, axes: int) -> tuple[int, ...]:
    """Returns an option for every axis: one number for all of them, None for 1, or one for each."""
    return (value or 1,) * axes if value is None or isinstance(value, int) else tuple(value)


def _embed(_module: Any, sizes: Sizes, _where: str) -> L.LayerSpec:
    known = sizes()
    return L.Embedding(known["v"], known["o"])


PADDINGS = {"VALID": "valid", "SAME": "same", "CAUSAL": "causal"}


def _conv(conv: Any, sizes: Sizes, where: str) -> L.LayerSpec:
    known = sizes()
    window = tuple(known[axis] for axis in "abc" if axis in known)
    strides, dilation, spread = (
        _each(getattr(conv, option), len(window))
        for option in ("strides", "kernel_dilation", "input_dilation")
    )
    padding = PADDINGS.get(conv.padding) if isinstance(conv.padding, str) else None
    if padding is None or {*spread} != {1} or conv.mask is not None:
        got = f"padding {conv.padding!r}, input_dilation {conv.input_dilation}"
        got += "" if conv.mask is None else ", a mask of weights"
        want = f"padding {', '.join(PADDINGS)}, input_dilation 1 and no mask"
        raise UnsupportedError(where, want, got, "set these")
    return L.Conv(
        known["i"] * conv.feature_group_count,
        known["o"],
        window,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=conv.feature_group_count,
        use_bias=conv.use_bias,
    )


def _conv_transpose(conv: Any, sizes: Sizes, where: str) -> L.LayerSpec:
    known = sizes()
    window = tuple(known[axis] for axis in "abc" if axis in known)
    strides, dilation = (
        _each(getattr(conv, name), len(window)) for name in ("strides", "kernel_dilation")
    )
    options = {"strides": strides, "dilation": dilation, "use_bias": conv.use_bias}
    plain = L.ConvTranspose(known["i"], known["o"], window, **options)
    found = _cut_alike(plain, conv.padding) if conv.mask is None else None
    if found is None:
        got = f"padding {conv.padding!r}" + ("" if conv.mask is None else ", a mask of weights")
        want = "padding SAME, VALID, or that of Keras's output_padding, and no mask"
        raise UnsupportedError(where, want, got, "set these, and crop the output by yourself")
    return found


def _cut_alike(plain: L.ConvTranspose, padding: Any) -> L.ConvTranspose | None:
    """Returns a transposed convolution that crops like this zero padding of its input."""
    if isinstance(padding, str):
        how = {"VALID": "valid", "SAME": "same"}.get(padding)
        return replace(plain, padding=how) if how else None
    pairs = padding if isinstance(padding, Sequence) else [padding] * len(plain.window)
    pairs = [(one, one) if isinstance(one, int) else one for one in pairs]
    if len(pairs) != len(plain.window):
        return None
    crops = tuple((n - 1 - a, n - 1 - b) for n, (a, b) in zip(plain.reach, pairs, strict=True))
    totals = {"valid": (0,) * len(crops), "same": tuple(n - n % 2 for n in plain.reach)}
    for how, whole in totals.items():
        more = tuple(n - a - b for n, (a, b) in zip(whole, crops, strict=True))
        for own in (None, more):
            with contextlib.suppress(UsageError):
                found = replace(plain, padding=how, output_padding=own)
                if found.crops == crops:
                    return found
    return None


def _last(axes: Any) -> bool:
    return axes == -1 or axes in ((-1,), [-1])


def _batch_norm(norm: Any, sizes: Sizes, where: str) -> L.LayerSpec:
    if not _last(norm.axis):
        raise UnsupportedError(where, "axis=-1", f"axis={norm.axis}", "put the features last")
    options = {"scale": norm.use_scale, "center": norm.use_bias}
    return L.BatchNorm(sizes()["o"], float(norm.epsilon), float(norm.momentum), **options)


def _last_axis_norm(norm: Any, sizes: Sizes, where: str) -> L.LayerSpec:
    if not (_last(norm.reduction_axes) and _last(norm.feature_axes)):
        got = f"reduction_axes={norm.reduction_axes}, feature_axes={norm.feature_axes}"
        raise UnsupportedError(where, "a norm over the last axis", got, "put the features last")
    if type(norm).__name__ == "RMSNorm":
        return L.RMSNorm(sizes()["o"], float(norm.epsilon), scale=norm.use_scale)
    options = {"scale": norm.use_scale, "center": norm.use_bias}
    return L.LayerNorm(sizes()["o"], float(norm.epsilon), **options)


def _group_norm(norm: Any, sizes: Sizes, where: str) -> L.LayerSpec:
    if norm.reduction_axes is not None:
        got = f"reduction_axes={norm.reduction_axes}"
        raise UnsupportedError(where, "statistics over all axes but the batch", got, "remove it")
    features = sizes()["o"]
    groups = norm.num_groups or features // norm.group_size
    options = {"scale": norm.use_scale, "center": norm.use_bias, "groups": int(groups)}
    return L.LayerNorm(features, float(norm.epsilon), **options)


def _dropout(module: Any, _sizes: Sizes, where: str) -> L.LayerSpec:
    shared = tuple(module.broadcast_dims)
    if not shared:
        return L.Dropout(float(module.rate))
    if shared != tuple(range(1, len(shared) + 1)) or len(shared) > 3:
        want = "broadcast_dims (), (1,), (1, 2) or (1, 2, 3)"
        raise UnsupportedError(where, want, f"{shared}", "use one of these")
    return L.TrainingOnly(f"SpatialDropout{len(shared)}D", float(module.rate))


AROUND: dict[str, Callable[[Any, Sizes, str], L.LayerSpec]] = {
    "Embed": _embed,
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "BatchNorm": _batch_norm,
    "LayerNorm": _last_axis_norm,
    "GroupNorm": _group_norm,
    "RMSNorm": _last_axis_norm,
    "Dropout": _dropout,
}
"""Class with one name in Linen and NNX -> the function that makes its spec."""


IN_SEQUENTIAL = f"Sequential of these, of {', '.join(AROUND)} and of functions"
"""Modules that a Sequential may contain, in the words of an error."""


def _table(name: str, member: Member, tables: Mapping[str, Table], where: str) -> Table | None:
    """Returns the table of a module's parameters, None for one without parameters.

    Raises:
        UnsupportedError: a convolution over more than 3 axes.
    """
    if name in ("Conv", "ConvTranspose"):
        kernel = member.held.get("kernel")
        axes = 1 if kernel is None else kernel.ndim - 2
        name = name.replace("Conv", f"Conv{axes}D")
        if getattr(member.module, "transpose_kernel", True) is False:
            name = UNTOLD.format(name)
        if name not in tables:
            raise UnsupportedError(where, "a window over 1 to 3 axes", f"{axes}", "remove it")
    return tables.get("LayerNorm" if name in ("GroupNorm", "RMSNorm") else name)


def _sizes(table: Table, member: Member, where: str) -> Mapping[str, int]:
    """Returns sizes that arrays prove; a norm without arrays may have an option for it."""
    if member.held:
        return sizes_of(table, member.held)
    own = getattr(member.module, "num_features", None)
    if own is None:
        want, do = "a scale or a bias, which shows the size of its input", "give it one"
        raise UnsupportedError(where, want, "neither", do)
    return {"o": own}


def _around(name: str, member: Member, tables: Mapping[str, Table], where: str) -> FlaxCell:
    if hasattr(member.module, "dtype"):
        check_dtype(member.module, where)
    table = _table(name, member, tables, where)
    if table is None:
        return FlaxCell(AROUND[name](member.module, dict, where), {})
    spec = AROUND[name](member.module, lambda: _sizes(table, member, where), where)
    return FlaxCell(spec, unpack(table, member.held, spec.sizes(), spec.missing_tensors(), where))


@dataclass(frozen=True)
class ChainReader:
    """Reader of the members of one framework's Sequential.

    Attributes:
        framework: "nnx" or "linen".
        space: the module of its layers, `nnx` or `nn`.
        tables: the framework's.
        own: classes that `found` reads.
        found: reads a module with its parameters; the last argument is its name in errors.
    """

    framework: str
    space: Any
    tables: Mapping[str, Table]
    own: tuple[type, ...]
    found: Callable[[Any, Any, str], FlaxCell]

    def member(self, member: Member) -> FlaxCell:
        """Returns a member in canonical form.

        Raises:
            UnsupportedError: it has no exact form.
            WeightsError: its parameters do not fit it.
        """
        module, name = member.module, type(member.module).__name__
        where = f"{self.framework} Sequential{member.path}"
        if member.shares:
            do = "give each place a layer of its own"
            raise UnsupportedError(where, "parameters of its own", "another member's", do)
        if not isinstance(module, self.space.Module):
            return FlaxCell(L.Activation(activation(module, where)), {})
        where = f"{where} {name}"
        if type(module) in self.own:
            for option in ("time_major", "return_carry"):
                if getattr(module, option, False):
                    raise UnsupportedError(where, f"{option}=False", f"{option}=True", "set it")
            return self.found(module, member.held, where)
        if name in AROUND and type(module) is getattr(self.space, name):
            return _around(name, member, self.tables, where)
        known = ", ".join([*(own.__name__ for own in self.own), *AROUND])
        raise UnsupportedError(where, f"{known}, or functions", name, "remove it")

    def read(self, members: Iterable[Member]) -> Model:
        """Reads a Sequential as a Model.

        Raises:
            UnsupportedError: members without an exact form; the error lists all.
            WeightsError: parameters that do not fit a member.
        """
        found: list[tuple[Member, FlaxCell]] = []
        wrong: list[UnsupportedError] = []
        for member in members:
            try:
                found.append((member, self.member(member)))
            except UnsupportedError as error:
                wrong.append(error)
        if len(wrong) == 1:
            raise wrong[0]
        if wrong:
            want = "; ".join(dict.fromkeys(error.expected for error in wrong))
            got = "; ".join(f"{error.where}: {error.got}" for error in wrong)
            raise UnsupportedError(f"{self.framework} Sequential", want, got, "change these")
        return self._model(found)

    def _model(self, found: list[tuple[Member, FlaxCell]]) -> Model:
        layers: list[tuple[str, L.LayerSpec, bool]] = []
        weights = {}
        for member, own in found:
            name = member.name(own.spec)
            layers.append((name, own.spec, True))
            if own.spec.weighted_parts:
                weights[name] = own.hub
            if own.turned:
                layers.append((f"{name}_reverse", L.Reverse(), True))
        where = f"{self.framework} Sequential"
        shape = _shape([spec for _, spec, _ in layers], where)
        source = origin(self.framework, "live Sequential")
        return chain("sequential", layers, shape, weights, source)


def _axes(spec: L.LayerSpec) -> int:
    """Returns the number of axes that samples of a layer's input must have, 0 for any."""
    if isinstance(spec, (L.Conv, L.ConvTranspose)):
        return len(spec.window) + 1
    if isinstance(spec, L.ConvLSTM):
        return len(spec.space) + 2
    return 2 if isinstance(spec, (L.Recurrent, L.Bidirectional)) else 0


def _shape(layers: list[L.LayerSpec], where: str) -> Shape:
    """Returns a sample's shape of the input, from the first layers with a size and with axes.

    Raises:
        UnsupportedError: no layer proves the size.
    """
    first = next((spec for spec in layers if spec.weighted_parts), None)
    if first is None:
        want, do = "a layer with parameters, which shows the size of its input", "add one"
        raise UnsupportedError(where, want, "none", do)
    axes = next(filter(None, map(_axes, layers)), 0)
    if isinstance(first, L.Embedding):
        return (None,) * (axes - 1 if axes else 1)
    part: Any = first.weighted_parts[0][1]
    return (*(None,) * (axes - 1 if axes else 0), part.features)
