"""Reads a module that `torch.fx` can trace: the graph of its layers and tensor operations.

In: an `nn.Module`. Out: a Model. PyTorch modules do not declare the axes of their inputs. The
graph is read once for every layout that an input may have; layers give the numbers of features.
If several layouts fit and give different models, the module is refused.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from xlstm.errors import UnsupportedError, UsageError
from xlstm.ir import layers as L
from xlstm.ir.batch_axes import on_axes
from xlstm.ir.graph import Edge, Model, row_numbers
from xlstm.ir.source import Source

from . import flattened_batch
from .attention import bound
from .flattened_batch import FlattenedBatch
from .shape import getitem, stacked
from .trace import (
    Ending,
    InputLayout,
    handler,
    input_axes,
    leaves,
    name_of,
    problems,
    said,
    states_in,
    trace,
)
from .trace import layouts as layouts_of
from .values import (
    MODULES,
    CannotTraceError,
    ModuleCall,
    RecurrentResult,
    SizeSolvedError,
    States,
    Symbol,
    TracedTensor,
    TraceState,
    ZeroState,
    flat,
    marker,
    shape_text,
)

MOST = 600
"""Most combinations of layouts that are tried."""

SAY = (
    "fix an input's shape first in forward, as in x = x.reshape(x.shape[0], 10), or by nn.Unflatten"
)

LASTING = frozenset(
    "Activation Affine Clip Compare Concatenate Dense Dropout Elu Embedding Function Merge Relu "
    "Softmax Where".split()
)
"""Kinds of specs that work on the last axis only, beside norms: axes before it change nothing."""

LOOKS = "getitem squeeze to contiguous clone detach requires_grad_ zeros mul".split()
"""Functions whose first argument may be something else than a tensor."""

TURNS = ("unsqueeze", "squeeze", "transpose", "permute", "view", "reshape", "repeat", "expand")
"""Functions that only change the shape, so that zeros stay zeros."""


class Read(NamedTuple):
    """Result of one walk through the graph.

    Attributes:
        model: the graph.
        layouts: of the inputs.
        outputs: axes of the outputs as PyTorch sees them.
    """

    model: Model
    layouts: tuple[InputLayout, ...]
    outputs: tuple[Ending, ...]


class _Walk:
    """One walk through the graph with a layout for each input."""

    def __init__(self, root: nn.Module, graph: fx.Graph, layouts: tuple[InputLayout, ...]) -> None:
        self.root = root
        self.graph = graph
        self.layouts = layouts
        self.solved: dict[int, int] = {}
        self.wanted: set[tuple[str, int, int]] = set()
        self.reached = 0
        self.outputs: list[Edge] = []
        self.endings: list[Ending] = []
        self.axes: list[int] = []
        self.keys: tuple[str, ...] = ()

    def read(self) -> TraceState:
        """Returns the graph with known sizes, without unused nodes.

        Raises:
            RefusalError: the module does not fit the layouts.
        """
        while True:
            try:
                self._once(probing=True)
            except SizeSolvedError as learned:
                self.solved[learned.marker] = learned.size
                continue
            break
        self._check_unique()
        return self._once(probing=False)

    def _check_unique(self) -> None:
        """Raises if a size that was solved has other solutions: strides round down."""
        proven = self.solved
        for number, size in proven.items():
            for other in {max(size - 1, 1), size + 1} - {size}:
                self.solved = {**proven, number: other}
                try:
                    self._once(probing=True)
                except (CannotTraceError, SizeSolvedError):
                    continue
                finally:
                    self.solved = proven
                raise CannotTraceError(
                    f"an axis of an input that may have {size} or {other} places", SAY
                )

    def _once(self, probing: bool) -> TraceState:
        wiring = TraceState(self.root, self.wanted, probing)
        values: dict[fx.Node, Any] = {}
        layouts = iter(enumerate(self.layouts))
        self.outputs, self.endings, self.axes = [], [], []
        for number, node in enumerate(self.graph.nodes):
            wiring.node, self.reached = node, max(self.reached, number)
            where = node.target if node.op == "call_module" else node.name
            try:
                if node.op == "placeholder":
                    values[node] = self._input(wiring, node, *next(layouts), probing)
                else:
                    values[node] = self._node(wiring, node, values)
            except CannotTraceError as refusal:
                got = f"{where}: {refusal.got}"
                raise CannotTraceError(got, refusal.do, refusal.open) from None
            except (UsageError, UnsupportedError) as error:
                got = f"{where}: {error.where}, {error.got} for {error.expected}"
                raise CannotTraceError(got, error.do) from None
            except (TypeError, ValueError, IndexError, AttributeError) as error:
                raise CannotTraceError(f"{where}: {_other_call(error)}", LEAVE_OUT) from None
        return wiring

    def _input(
        self, wiring: TraceState, node: fx.Node, place: int, layout: InputLayout, probing: bool
    ) -> Any:
        if layout.given:
            return states_in(wiring, str(node.target), layout.given)
        numbers = [marker(place * 4 + n) for n in range(layout.rank - 1)]
        sizes = [self.solved.get(n, n if probing else None) for n in numbers]
        edge = wiring.graph.add(wiring.fresh(str(node.target)), L.Input(tuple(sizes)))
        axes = list(range(1, layout.rank))
        axes.insert(layout.batch, 0)
        return TracedTensor(edge, tuple(axes))

    def _node(self, wiring: TraceState, node: fx.Node, values: dict[fx.Node, Any]) -> Any:
        args = fx.node.map_arg(node.args, values.__getitem__)
        options = fx.node.map_arg(node.kwargs, values.__getitem__)
        if node.op == "output":
            return self._output(wiring, args[0])
        if node.op == "call_module":
            leaf = self.root.get_submodule(str(node.target))
            return self._leaf(wiring, leaf, str(node.target), bound(leaf, args, options))
        renamed = {{"axis": "dim", "keepdims": "keepdim"}.get(k, k): v for k, v in options.items()}
        args = (*args, *(renamed.pop(k) for k in ("input", "tensors", "other") if k in renamed))
        name = name_of(node.target, node.op)
        if name not in LOOKS:
            args = _tensors(wiring, args)
        if any(isinstance(arg, FlattenedBatch) for arg in args):
            return flattened_batch.apply(wiring, name, handler(name), args, renamed)
        if name in ("view", "reshape") and isinstance(args[0], TracedTensor):
            laid = flattened_batch.fold(wiring, args[0], flat(args[1:]))
            if laid is not None:
                return laid
        if name in TURNS and isinstance(args[0], ZeroState):
            return args[0]
        if name not in LOOKS:
            _check_first(args, f"{name} of")
        return handler(name)(wiring, *args, **renamed)

    def _leaf(
        self, wiring: TraceState, leaf: nn.Module, path: str, arguments: tuple[Any, ...]
    ) -> Any:
        """Returns the output of a module."""
        arguments = (*_tensors(wiring, arguments[:1]), *arguments[1:])
        _check_first(arguments, "a call with")
        call, handler = ModuleCall(wiring, leaf, path, arguments), MODULES[type(leaf)]
        if arguments and isinstance(arguments[0], FlattenedBatch):
            return flattened_batch.through(
                wiring, arguments[0], leaf, lambda w, x: handler(call._replace(wiring=w, args=(x,)))
            )
        return handler(call)

    def _output(self, wiring: TraceState, found: Any) -> None:
        for value in leaves(found):
            self._end(wiring, value)
        flat = isinstance(found, dict) and all(isinstance(v, TracedTensor) for v in found.values())
        self.keys = tuple(sorted(map(str, found))) if flat else ()

    def _end(self, wiring: TraceState, value: Any) -> None:
        """Adds an output; several where a recurrent module returned them at once."""
        if isinstance(value, RecurrentResult):
            for part in (getitem(wiring, value, 0), *leaves(value.states)):
                self._end(wiring, part)
        elif isinstance(value, States):
            self.outputs += [value.take(wiring, n) for n in range(len(value.edges))]
            self.endings.append(Ending(1, states=True))
            self.axes += [0] * len(value.edges)
        elif isinstance(value, TracedTensor):
            self.outputs.append(wiring.plain(value).edge)
            self.endings.append(Ending(value.batch))
            self.axes.append(value.batch)
        else:
            end = isinstance(value, FlattenedBatch)
            do = flattened_batch.DO if end else "return tensors only, as in out or h[-1]"
            raise CannotTraceError(f"{_title(value)} as an output", do)


def _tensors(wiring: TraceState, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Returns the arguments of a call, states of all layers as one tensor."""
    return tuple(
        stacked(wiring, x)
        if isinstance(x, States)
        else _tensors(wiring, tuple(x))
        if type(x) in (tuple, list)
        else x
        for x in args
    )


def _check_first(args: tuple[Any, ...], what: str) -> None:
    """Raises if the first argument is no tensor."""
    if args and isinstance(args[0], (States, RecurrentResult, Symbol, ZeroState)):
        do = "take what you need of it, as in out or h[-1]"
        raise CannotTraceError(f"{what} {_title(args[0])}", do)


LEAVE_OUT = "leave such arguments out, or take the call out of the module"

KEYWORD = re.compile(r"unexpected keyword argument '(\w+)'")


def _other_call(error: Exception) -> str:
    """Returns a phrase for a call with arguments that its handler does not have."""
    found = KEYWORD.search(str(error))
    return f"the argument {found[1]}=" if found else "arguments without an exact form"


def _title(thing: Any) -> str:
    if isinstance(thing, RecurrentResult):
        return f"all that {thing.path} returns, its states among it,"
    if isinstance(thing, States):
        return f"the states of all layers of {thing.path} at once"
    if isinstance(thing, FlattenedBatch):
        return "a tensor with steps and batch end to end"
    return thing.name if isinstance(thing, Symbol) else f"{type(thing).__name__.lower()}"


def _same(a: TraceState, b: TraceState) -> bool:
    """True if two readings do the same on the last axis, whatever axes are before it."""
    if len(a.graph.nodes) != len(b.graph.nodes):
        return False
    pairs = zip(a.graph.nodes, b.graph.nodes, strict=True)
    return all(
        isinstance(x.spec, L.Input)
        or (
            (x.spec.kind in LASTING or isinstance(x.spec, L.Norm))
            and (x.spec, x.inputs) == (y.spec, y.inputs)
        )
        for x, y in pairs
    )


def understand(source: nn.Module) -> Read:
    """Reads a module as a graph, with the axes that PyTorch sees in its inputs and outputs.

    Raises:
        UnsupportedError: lists everything in it that has no exact form.
    """
    where = f"torch {type(source).__name__}"
    if "quantized" in type(source).__module__:
        do = "read the module before it was quantized"
        raise UnsupportedError(where, "floating-point weights", "a quantized module", do)
    root, graph = trace(source)
    if found := [*dict.fromkeys(problems(source, root, graph))]:
        want = "layers and tensor operations with an exact form"
        do = "take them out of the module, or port its layers one by one"
        raise UnsupportedError(where, want, "; ".join(found), do)
    walk, wiring = _best(where, root, graph)
    return Read(_model(source, walk, wiring), walk.layouts, tuple(walk.endings))


def _best(where: str, root: nn.Module, graph: fx.Graph) -> tuple[_Walk, TraceState]:
    """Returns the only way to read the module."""
    fits: list[tuple[_Walk, TraceState]] = []
    failed: list[tuple[int, CannotTraceError]] = []
    for layouts in itertools.islice(itertools.product(*layouts_of(root, graph)), MOST):
        walk = _Walk(root, graph, layouts)
        try:
            fits.append((walk, walk.read()))
        except CannotTraceError as refusal:
            failed.append((walk.reached, refusal))
    if not fits:
        worst = max(failed, key=lambda pair: pair[0])[1]
        raise UnsupportedError(where, "a module that can be read", worst.got, worst.do)
    (_, first), *others = fits
    unsure = any(refusal.open for _, refusal in failed)
    if unsure or not all(_same(first, other) for _, other in others):
        shapes = [*dict.fromkeys(_inputs_text(wiring) for _, wiring in fits)]
        shapes += ["have more axes"] * unsure
        got = f"inputs that may be {' or '.join(shapes)}"
        raise UnsupportedError(where, "inputs whose shapes the layers prove", got, SAY)
    if others:
        first.notes.append(f"read for {_inputs_text(first)}; it treats every last axis alike")
    return fits[0]


def _inputs_text(wiring: TraceState) -> str:
    inputs = [node for node in wiring.graph.nodes if isinstance(node.spec, L.Input)]
    return ", ".join(f"{node.name} {shape_text(node.shape)}" for node in inputs)


def _model(source: nn.Module, walk: _Walk, wiring: TraceState) -> Model:
    nodes = wiring.graph.nodes
    inputs = tuple(node.name for node in nodes if isinstance(node.spec, L.Input))
    notes = list(wiring.notes)
    notes += said(walk.layouts, walk.endings)
    title = type(source).__name__
    origin = Source("torch", str(torch.__version__), f"live {title}", notes=tuple(notes))
    ends = tuple(walk.outputs)
    made = Model(title, nodes, inputs, ends, wiring.weights, origin, keys=walk.keys)
    return on_axes(made, input_axes(walk.layouts), walk.axes)


def read(source: nn.Module) -> Model:
    """Reads a module that `torch.fx` can trace."""
    return understand(source).model


class _Float64Trace(TorchFunctionMode):
    """Sets the dtype of zeros that a module makes, whatever the process's default is."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        options = dict(kwargs or {})
        if func is torch.zeros:
            options.setdefault("dtype", self.dtype)
        return func(*args, **options)


class Original(nn.Module):
    """Calls a module like a port: batch first, row numbers of embeddings as they are."""

    def __init__(self, source: nn.Module, found: Read, dtype: torch.dtype) -> None:
        super().__init__()
        self.source = source
        self.found = found
        self.dtype = dtype
        self.ids = row_numbers(found.model)

    def forward(self, *inputs: torch.Tensor) -> list[torch.Tensor]:
        pairs = zip(inputs, self.found.model.inputs, strict=True)
        tensors = [self._given(layout, pairs) for layout in self.found.layouts]
        with _Float64Trace(self.dtype):
            outputs = [*leaves(self.source(*tensors))]
        both = zip(outputs, self.found.outputs, strict=True)
        ends = [y.unbind(0) if end.states else [y.movedim(end.batch, 0)] for y, end in both]
        return [y for part in ends for y in part]

    def _given(self, layout: InputLayout, pairs: Iterator[tuple[torch.Tensor, str]]) -> Any:
        """Returns the value of one argument of the module."""
        if layout.given is None:
            x, name = next(pairs)
            return (x.long() if name in self.ids else x).movedim(0, layout.batch)
        rows = [[next(pairs)[0] for _ in range(layout.given.count)] for _ in layout.given.widths]
        states = tuple(map(torch.stack, rows))
        return states if layout.given.paired else states[0]
