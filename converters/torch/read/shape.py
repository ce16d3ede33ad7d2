"""Converts functions that only move numbers of tensors to specs in a traced graph.

In: a call in a traced module. Out: nodes of the graph.

    x.transpose(1, 2)    Permute((2, 1))
    x[:, -1]             Slice(axis=0, start=-1, drop=True)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from torch import nn

from xlstm.ir import layers as L
from xlstm.ir import lowering

from .values import (
    BATCH,
    LENGTH,
    MODULES,
    OPERATIONS,
    CannotTraceError,
    ModuleCall,
    Probe,
    RecurrentResult,
    States,
    Symbol,
    TracedTensor,
    TraceState,
    ZeroState,
    axis_of,
    flat,
    is_number,
    join,
    known,
    without,
)


@OPERATIONS.of("getitem")
def getitem(wiring: TraceState, x: Any, index: Any) -> Any:
    """Returns a part of a tensor, of states, or of the result of a recurrent module."""
    if isinstance(x, RecurrentResult):
        if index in (0, -2):
            wiring.wanted.add((x.path, -1, 0))
        return (x.sequence, x.states)[index]
    if isinstance(x, ZeroState):
        return x
    if isinstance(x, tuple) and not isinstance(x, TracedTensor):
        return x[index]
    items = index if isinstance(index, tuple) else (index,)
    if isinstance(x, States):
        if type(items[0]) is not int:
            return _part(wiring, stacked(wiring, x), items)
        state = TracedTensor(x.take(wiring, items[0]), (0, 1))
        return _part(wiring, state, items[1:])
    return _part(wiring, x, items)


def _part(wiring: TraceState, x: TracedTensor, items: tuple[Any, ...]) -> TracedTensor:
    """Indexes a tensor with whole numbers, slices, None and ...."""
    if any(isinstance(item, (TracedTensor, list, Symbol)) for item in items):
        raise CannotTraceError("an index that depends on the data", "use fixed places")
    count = sum(item is not None and item is not Ellipsis for item in items)
    axis = 0
    for item in items:
        if item is Ellipsis:
            axis += x.rank - axis - (count - sum(i is not None for i in items[: items.index(...)]))
        elif item is None:
            x, axis = unsqueeze(wiring, x, axis), axis + 1
        elif isinstance(item, slice):
            x, axis = _slice(wiring, x, axis, item), axis + 1
        elif type(item) is int:
            x = _one_place(wiring, x, axis_of(x, axis, "one place"), item)
        else:
            raise CannotTraceError(f"index {item}", "use whole numbers and slices")
    return x


def _one_place(wiring: TraceState, x: TracedTensor, axis: int, index: int) -> TracedTensor:
    """Returns one place of an axis, without the axis."""
    found = wiring.apply(x, L.Slice(x.axes[axis] - 1, index, drop=True))
    return found._replace(axes=without(x, [axis]))


def _slice(wiring: TraceState, x: TracedTensor, axis: int, part: slice) -> TracedTensor:
    if part == slice(None):
        return x
    ends = (part.start, part.stop, part.step)
    if any(end is not None and not is_number(end) for end in ends):
        raise CannotTraceError("a slice that ends at a length", "count from the end, as in [:, -1]")
    place = x.axes[axis_of(x, axis, "a slice")]
    return wiring.apply(x, L.Slice(place - 1, *ends[:2], part.step or 1))


@OPERATIONS.of("unsqueeze")
def unsqueeze(wiring: TraceState, x: TracedTensor, dim: int) -> TracedTensor:
    """Adds an axis of size 1."""
    axis = dim % (x.rank + 1)
    plain = x.axes == tuple(range(x.rank))
    place = axis if plain and axis else x.rank
    edge = wiring.add(L.ExpandDims(place - 1), x.edge)
    axes = [old + (old >= place) for old in x.axes]
    axes.insert(axis, place)
    return TracedTensor(edge, tuple(axes))


def stacked(wiring: TraceState, x: States) -> TracedTensor:
    """Returns the states of all layers as one tensor, (layers, batch, n)."""
    edges = [x.take(wiring, number) for number in range(len(x.edges))]
    rows = [unsqueeze(wiring, TracedTensor(edge, (0, 1)), 1) for edge in edges]
    return transpose(wiring, join(wiring, rows, 1) if len(rows) > 1 else rows[0], 0, 1)


@OPERATIONS.of("squeeze")
def squeeze(wiring: TraceState, x: Any, dim: Any = None) -> TracedTensor:
    """Removes an axis of size 1."""
    if isinstance(x, States):
        if dim not in (0, -3) or len(x.edges) > 1:
            raise CannotTraceError(f"squeeze of {len(x.edges)} states", "take one, as in h[-1]")
        return TracedTensor(x.take(wiring, 0), (0, 1))
    if dim is None:
        raise CannotTraceError(
            "squeeze of any axis, a batch of 1 among them", "name it: squeeze(-1)"
        )
    if dim % x.rank == x.batch:
        raise CannotTraceError("squeeze of the batch", "name another axis")
    size = wiring.sizes(x)[dim]
    if size != 1 and known(size):
        unchanged: TracedTensor = x
        return unchanged
    wiring.demand(size, 1, "to squeeze, got")
    found = wiring.apply(x, L.Squeeze(x.axes[dim] - 1))
    return found._replace(axes=without(x, [dim % x.rank]))


@OPERATIONS.of("cat", "concat", "concatenate")
def cat(wiring: TraceState, tensors: Any, dim: int = 0) -> TracedTensor:
    """Joins tensors along an axis."""
    values = _all_tensors(tensors)
    return join(wiring, values, axis_of(values[0], dim, "joining"))


def _all_tensors(tensors: Any) -> list[TracedTensor]:
    if not isinstance(tensors, (tuple, list)) or not all(
        isinstance(x, TracedTensor) for x in tensors
    ):
        raise CannotTraceError("joining other things than a list of tensors", "list the tensors")
    return list(tensors)


@OPERATIONS.of("stack")
def stack(wiring: TraceState, tensors: Any, dim: int = 0) -> TracedTensor:
    """Joins tensors along a new axis."""
    values = [unsqueeze(wiring, x, dim) for x in _all_tensors(tensors)]
    return join(wiring, values, axis_of(values[0], dim, "stacking"))


@OPERATIONS.of("chunk")
def chunk(
    wiring: TraceState, x: TracedTensor, chunks: int, dim: int = 0
) -> tuple[TracedTensor, ...]:
    """Returns equal parts along an axis; the last one may be smaller."""
    size = _cut_length(wiring, x, dim)
    return split(wiring, x, -(-size // chunks), dim)


@OPERATIONS.of("split")
def split(
    wiring: TraceState, x: TracedTensor, split_size_or_sections: Any, dim: int = 0
) -> tuple[TracedTensor, ...]:
    """Returns parts of one size along an axis, or of the sizes in a list."""
    size, sizes, parts = _cut_length(wiring, x, dim), split_size_or_sections, []
    sizes = [sizes] * -(-size // sizes) if isinstance(sizes, int) else list(sizes)
    axis, start = axis_of(x, dim, "cutting"), 0
    for own in sizes:
        parts.append(_slice(wiring, x, axis, slice(start, min(start + own, size))))
        start += own
    return tuple(parts)


def _cut_length(wiring: TraceState, x: TracedTensor, dim: int) -> int:
    size = known(wiring.sizes(x)[axis_of(x, dim, "cutting")])
    if size is None:
        raise CannotTraceError("an axis of unknown size cut into parts", "index fixed places", True)
    return size


@OPERATIONS.of("transpose", "swapaxes", "swapdims")
def transpose(wiring: TraceState, x: TracedTensor, dim0: int, dim1: int) -> TracedTensor:
    """Exchanges two axes; no node is added until a layer needs the order."""
    axes = list(x.axes)
    axes[dim0], axes[dim1] = axes[dim1], axes[dim0]
    return x._replace(axes=tuple(axes))


@OPERATIONS.of("movedim", "moveaxis")
def movedim(wiring: TraceState, x: TracedTensor, source: int, destination: int) -> TracedTensor:
    """Moves one axis; no node is added until a layer needs the order."""
    axes = list(x.axes)
    axes.insert(destination % x.rank, axes.pop(source))
    return x._replace(axes=tuple(axes))


@OPERATIONS.of("permute")
def permute(wiring: TraceState, x: TracedTensor, *dims: Any) -> TracedTensor:
    """Reorders axes; no node is added until a layer needs the order."""
    return x._replace(axes=tuple(x.axes[axis] for axis in flat(dims)))


def _product(sizes: Sequence[Any]) -> int:
    return math.prod(size for size in sizes if isinstance(size, int))


@OPERATIONS.of("view", "reshape")
def reshape(wiring: TraceState, x: TracedTensor, *shape: Any) -> TracedTensor:
    """Reshapes as PyTorch's view and reshape; the batch must stay as it is."""
    first, *rest = flat(shape)
    if x.batch:
        return _late(wiring, x, [first, *rest])
    sample = wiring.sizes(x)[1:]
    open_ = [size for size in sample if known(size) is None]
    if BATCH in rest or any(isinstance(s, Symbol) and s is not LENGTH for s in rest):
        raise CannotTraceError("a new shape of the batch", "keep the batch first: x.shape[0]")
    if first == -1 and -1 not in rest and LENGTH not in rest:
        if open_ and len(sample) > 1:
            do = "keep the batch as it is: x.shape[0] for -1"
            raise CannotTraceError("a view that may lay steps and batch end to end", do, open=True)
        wiring.demand(_product(sample) if None not in sample else None, _product(rest), "numbers,")
    elif first is not BATCH:
        raise CannotTraceError(f"a batch of {first}", "write x.shape[0]")
    return _reshaped(wiring, x, sample, rest)


def _late(wiring: TraceState, x: TracedTensor, shape: list[Any]) -> TracedTensor:
    """Reshapes a tensor whose batch is not the first axis, such as states, if sizes are known.

    Axes before the batch stay before it, and those after it after it.
    """
    sizes = wiring.sizes(x)
    ahead, after = sizes[: x.batch], sizes[x.batch + 1 :]
    place = shape.index(BATCH) if BATCH in shape else 0
    free = shape[0] == -1 and -1 not in shape[1:]  # the batch; one layer is before it
    known_ = all(is_number(n) for n in (*ahead, *after, *shape[:place], *shape[place + 1 :]))
    parts = [*shape[:place], 1], [*shape[place + 1 :], 1]
    same = known_ and (BATCH in shape or free)
    for own, new in zip((ahead, after), parts, strict=True):
        left = new.index(-1) if -1 in new else None
        if left is not None and same and new.count(-1) == 1:
            new[left] = math.prod(own) // -math.prod(new)
        same = same and math.prod(own) == math.prod(new)
    if not same:
        raise CannotTraceError("a new shape with the batch not first", "permute it to the front")
    found = _with_shape(wiring, x, [*parts[0][:-1], *parts[1][:-1]])
    turned = [*range(1, place + 1), 0, *range(place + 1, found.rank)]
    return found._replace(axes=tuple(turned))


def _reshaped(
    wiring: TraceState, x: TracedTensor, sample: Sequence[Any], rest: list[Any]
) -> TracedTensor:
    lengths = [size for size in rest if size is LENGTH]
    whole, given = _product(sample), _product([size for size in rest if size != -1])
    exact = sample.count(None) == len(lengths)
    if not exact and not (sample.count(None) == 1 and -1 in rest):
        got = "a new shape whose sizes are unknown"
        raise CannotTraceError(got, "write its sizes as numbers", open=True)
    if exact and -1 not in rest:
        wiring.demand(whole, given, "numbers,")
    if whole % given:
        raise CannotTraceError(f"{given} numbers out of {whole}", "change the shape")
    fill = whole // given if exact else None
    sizes = [fill if size == -1 else None if size is LENGTH else size for size in rest]
    return _with_shape(wiring, x, sizes)


def _with_shape(wiring: TraceState, x: TracedTensor, sizes: Sequence[int | None]) -> TracedTensor:
    if not x.batch and tuple(sizes) == wiring.sizes(x)[1:] and sizes.count(None) < 2:
        return x
    x = wiring.plain(x)
    if len(sizes) == 1:
        edge = wiring.add(L.Flatten(), x.edge) if x.rank > 2 else x.edge
        return TracedTensor(edge, (0, 1))
    if wiring.probing:
        return TracedTensor(wiring.add(Probe(tuple(sizes)), x.edge), tuple(range(len(sizes) + 1)))
    shape = tuple(map(known, sizes))
    if shape.count(None) > 1:
        got = "a new shape with two sizes that are not known"
        raise CannotTraceError(got, "write them as numbers", open=True)
    return TracedTensor(wiring.add(L.Reshape(shape), x.edge), tuple(range(len(sizes) + 1)))


@OPERATIONS.of("flatten")
def flatten(
    wiring: TraceState, x: TracedTensor, start_dim: int = 0, end_dim: int = -1
) -> TracedTensor:
    """Joins axes."""
    start, end = start_dim % x.rank, end_dim % x.rank
    if x.batch or start == 0:
        raise CannotTraceError("flatten of the batch", "start at axis 1")
    if start == end:
        return x
    sizes = wiring.sizes(x)
    merged = sizes[start : end + 1]
    whole = None if None in merged else math.prod(merged)
    return _with_shape(wiring, x, [*sizes[1:start], whole, *sizes[end + 1 :]])


@OPERATIONS.of("unflatten")
def unflatten(wiring: TraceState, x: TracedTensor, dim: int, sizes: Any) -> TracedTensor:
    """Splits an axis into several."""
    axis = axis_of(x, dim, "unflatten")
    old = wiring.sizes(x)
    if -1 not in sizes and all(map(is_number, sizes)):
        wiring.demand(old[axis], math.prod(sizes), "numbers, got")
    return reshape(wiring, x, BATCH, *(length(n) for n in (*old[1:axis], *sizes, *old[axis + 1 :])))


def length(size: Any) -> Any:
    """Returns a size as a module sees it: LENGTH where it may be any."""
    return LENGTH if size is None else size


@OPERATIONS.of("size")
def size(wiring: TraceState, x: TracedTensor, dim: int | None = None) -> Any:
    """Returns sizes as PyTorch sees them."""
    sizes = tuple(map(length, wiring.sizes(x)))
    return sizes if dim is None else sizes[dim]


@OPERATIONS.of("getattr")
def attribute(wiring: TraceState, x: Any, name: str) -> Any:
    """Returns an attribute of a tensor."""
    if name == "values" and isinstance(x, tuple) and not isinstance(x, TracedTensor):
        return x[0]
    if name == "shape":
        return size(wiring, x)
    if name == "mT":
        return transpose(wiring, x, -2, -1)
    if name in ("device", "dtype"):
        return Symbol(f"its {name}")
    raise CannotTraceError(f"the attribute {name}", "remove it")


@MODULES.of(nn.Flatten)
def _flatten(call: ModuleCall) -> TracedTensor:
    return flatten(call.wiring, call.x, call.module.start_dim, call.module.end_dim)


@MODULES.of(nn.Unflatten)
def _unflatten(call: ModuleCall) -> TracedTensor:
    return unflatten(call.wiring, call.x, call.module.dim, call.module.unflattened_size)


@OPERATIONS.of("flip")
def flip(wiring: TraceState, x: TracedTensor, *dims: Any) -> TracedTensor:
    """Reverses axes."""
    for dim in flat(dims):
        x = wiring.apply(x, L.Slice(x.axes[axis_of(x, dim, "flip")] - 1, step=-1))
    return x


@OPERATIONS.of("roll")
def roll(wiring: TraceState, x: TracedTensor, shifts: Any, dims: Any = None) -> TracedTensor:
    """Shifts numbers along axes, the last ones to the front."""
    if not isinstance(shifts, int) or not isinstance(dims, int):
        raise CannotTraceError("roll of other than one axis", "name one shift and one axis")
    axis = axis_of(x, dims, "roll")
    size = known(wiring.sizes(x)[axis])
    if size is None:
        raise CannotTraceError("roll of an axis of unknown size", "fix its size", True)
    place = x.axes[axis] - 1
    joined = L.Concatenate(place + 1 - x.rank)
    return wiring.build(lowering.roll(place, shifts, size, joined), x)


@OPERATIONS.of("glu")
def gated(wiring: TraceState, x: TracedTensor, dim: int = -1) -> TracedTensor:
    """Returns the first half times the sigmoid of the second."""
    axis = axis_of(x, dim, "glu")
    size = _cut_length(wiring, x, axis)
    if size % 2:
        raise CannotTraceError(f"glu of {size} numbers", "use an even number")
    place, half = x.axes[axis] - 1, size // 2
    return wiring.build(lowering.glu(L.Slice(place, 0, half), L.Slice(place, half, size)), x)


MODULES[nn.GLU] = lambda call: gated(call.wiring, call.x, call.module.dim)


@OPERATIONS.of("unbind")
def unbind(wiring: TraceState, x: TracedTensor, dim: int = 0) -> tuple[TracedTensor, ...]:
    """Returns the slices along an axis, one by one."""
    axis = axis_of(x, dim, "unbind")
    size = known(wiring.sizes(x)[axis])
    if size is None or size > 64:
        raise CannotTraceError(
            "unbind of an axis of unknown size, or a large one", "index it", True
        )
    return tuple(_one_place(wiring, x, axis, n) for n in range(size))


@OPERATIONS.of("select")
def select(wiring: TraceState, x: TracedTensor, dim: int, index: int) -> TracedTensor:
    """Returns one slice of an axis."""
    return _one_place(wiring, x, axis_of(x, dim, "select"), index)


@OPERATIONS.of("narrow")
def narrow(wiring: TraceState, x: TracedTensor, dim: int, start: int, length: int) -> TracedTensor:
    """Returns consecutive slices of an axis."""
    axis = axis_of(x, dim, "narrow")
    return wiring.apply(x, L.Slice(x.axes[axis] - 1, start, start + length))


@OPERATIONS.of("pad")
def pad(
    wiring: TraceState,
    x: TracedTensor,
    pad: Any,
    mode: str = "constant",
    value: float | None = None,
) -> TracedTensor:
    """Adds zeros around."""
    pairs = [*zip(pad[::2], pad[1::2], strict=True)]
    sides = {x.rank - 1 - n: pair for n, pair in enumerate(pairs) if any(pair)}
    rest = [axis for axis in range(x.rank) if axis not in sides and axis != x.batch]
    if mode != "constant" or value or x.batch in sides or not rest or min(pad) < 0:
        raise CannotTraceError(f"pad={tuple(pad)}, mode={mode}, value={value}", "pad with zeros")
    *space, last = [*sides, *rest]
    x = wiring.ordered(x, [x.batch, *space, last])
    before, after = zip(*(sides.get(axis, (0, 0)) for axis in space), strict=True)
    return wiring.apply(x, L.Pad(before, after))


@OPERATIONS.of("repeat", "expand")
def repeat(wiring: TraceState, x: TracedTensor, *times: Any) -> TracedTensor:
    """Repeats one axis of size 1; all other axes are repeated once (1, or -1 in expand)."""
    counts = flat(times)
    more = [axis for axis, n in enumerate(counts) if n not in (1, -1)]
    fits = len(counts) == x.rank == 3 and not x.batch and len(more) == 1 and more[0] > 0
    if not fits or not is_number(counts[more[0]]) or wiring.sizes(x)[more[0]] != 1:
        do = "repeat a tensor (batch, 1, features) along axis 1"
        raise CannotTraceError("other than one axis of size 1 repeated", do)
    x = wiring.ordered(x, [0, more[0], 3 - more[0]])
    return wiring.apply(x, L.UpSample((counts[more[0]],)))
