"""Traces a module with `torch.fx`, and lists everything in it that has no exact form.

In: a module. Out: its graph, and the layouts that each of its inputs may have: the axes that
PyTorch sees in it, such as InputLayout(rank=3, batch=0).
"""

from __future__ import annotations

import copy
import inspect
import operator
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import torch
from torch import fx, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from xlstm.budget import Budget
from xlstm.errors import FileError, UnsupportedError
from xlstm.ir.layers import Input

from ..live.arrays import PROCESS_WIDE

# each registers its handlers in OPERATIONS and MODULES
from . import attention as _attention  # noqa: F401
from . import modules as _modules  # noqa: F401
from . import operations as _operations  # noqa: F401
from . import recurrent as _recurrent  # noqa: F401
from .values import (
    MODULES,
    OPERATIONS,
    RecurrentResult,
    States,
    TracedTensor,
    TraceState,
    ZeroState,
)

VIEWS = ("getitem", "view", "reshape", "flatten", "transpose", "permute", "squeeze", "unsqueeze")
"""Functions whose result may share memory with the input, in another shape."""


def _known() -> dict[Any, str]:
    found: dict[Any, str] = {getattr: "getattr"}
    for place in (operator, torch, functional):
        found |= {getattr(place, name): name for name in OPERATIONS if hasattr(place, name)}
    found[torch.linalg.norm] = "linalg_norm"
    found[torch.linalg.vector_norm] = "linalg_vector_norm"
    for name in ("add", "sub", "mul", "truediv"):
        found[getattr(operator, f"i{name}")] = f"{name}_"
    for name in ("relu_", "tanh_", "sigmoid_"):
        found[getattr(torch, name)] = name
    return found


FUNCTIONS = _known()
"""Function -> its name, with an underscore where it changes its input in place."""


def name_of(target: Any, op: str) -> str:
    """Returns the name of a function or method, "" without a handler; a last "_" stays."""
    name = FUNCTIONS.get(target, "") if op == "call_function" else str(target)
    return name if name in OPERATIONS or name.removesuffix("_") in OPERATIONS else ""


def handler(name: str) -> Callable[..., Any]:
    """Returns the handler for a function of this name."""
    return OPERATIONS[name if name in OPERATIONS else name.removesuffix("_")]


MAKERS = (torch.zeros, torch.ones, torch.empty, torch.full, torch.rand, torch.randn, torch.arange)
"""Functions that make tensors of sizes; PyTorch accepts no traced first size unless wrapped."""


class _Tracer(fx.Tracer):
    """Traces only in its own thread: fx patches `nn.Module` itself, for all threads."""

    def __init__(self) -> None:
        super().__init__(autowrap_functions=MAKERS)
        self._autowrap_search.append(torch)
        self._budget = Budget()
        self.thread = threading.get_ident()

    def call_module(self, m: Any, forward: Any, args: Any, kwargs: Any) -> Any:
        """Returns a node of the graph; in other threads calls the module."""
        if threading.get_ident() != self.thread:
            return forward(*args, **kwargs)
        return super().call_module(m, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        """Returns a proxy of a parameter; in other threads the parameter."""
        if threading.get_ident() != self.thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)

    def create_node(self, *args: Any, **options: Any) -> fx.Node:
        """Returns a node; nodes of unpacking are marked, because they prove the number of parts.

        Raises:
            FileError: more calls than a graph may have, such as modules that call each other twice.
        """
        self._budget.spend("expanded nodes", 1, "torch.fx")
        node = super().create_node(*args, **options)
        if node.target is operator.getitem and any(map(_unpacks, _callers(sys._getframe(1)))):
            node.meta[UNPACKED] = True
        return node

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        own = type(m).__module__.startswith("torch.") and not isinstance(m, fx.GraphModule)
        return own and type(m) not in (nn.Sequential, nn.ModuleList, nn.ModuleDict)


def _callers(frame: FrameType | None) -> Iterator[FrameType]:
    """Yields the frames that make a node of fx, the nearest first."""
    while frame is not None and frame.f_code.co_filename.startswith((fx.__path__[0], __file__)):
        yield frame
        frame = frame.f_back


def _unpacks(frame: FrameType) -> bool:
    """True for the frame in which fx unpacks a value into several names."""
    return frame.f_code.co_name == "<genexpr>" and frame.f_code.co_filename == ITERATES


ITERATES = fx.Proxy.__iter__.__code__.co_filename


def _defaults(source: nn.Module) -> dict[str, Any]:
    """Returns arguments of forward with plain default values."""
    found = inspect.signature(source.forward).parameters.values()
    return {p.name: p.default for p in found if p.default is not p.empty}


def trace(source: nn.Module) -> tuple[nn.Module, fx.Graph]:
    """Returns a module in evaluation mode that shares the weights, and its graph.

    Raises:
        UnsupportedError: the control flow of forward depends on the data.
    """
    where = f"torch {type(source).__name__}"
    shared = {id(t): t for t in (*source.parameters(), *source.buffers())}
    try:
        # evaluation mode of PyTorch: reads the function of inference
        root = copy.deepcopy(source, dict(shared)).eval()  # mode of PyTorch, runs no text
        root = nn.Sequential(root) if _Tracer().is_leaf_module(root, "") else root
        defaults = _defaults(root)
        with PROCESS_WIDE:
            graph = _Tracer().trace(root, defaults or None)
    except FileError as error:
        do = "port its layers one by one"
        raise UnsupportedError(where, error.expected, error.got, do) from None
    except (Exception, SystemExit) as error:  # forward is the user's code
        message, do = _failure(error)
        raise UnsupportedError(where, "a module that torch.fx can trace", message, do) from error
    changed = _in_place(root, graph)
    if changed:
        raise UnsupportedError(where, "values that stay", "; ".join(changed), "drop inplace")
    _prune(graph)
    return root, graph


PACKING = ("pack_padded_sequence", "pad_packed_sequence", "pack_sequence")


def _failure(error: BaseException) -> tuple[str, str]:
    """Returns the reason why a trace stopped, with the line of the user's code, and what to do."""
    frames = traceback.extract_tb(error.__traceback__)
    packing = next((frame.name for frame in frames if frame.name in PACKING), "")
    if packing:
        do = "remove the packing (in one direction, padding at the end changes no step before it)"
        return f"{packing}, whose lengths depend on the data", f"{do}, or pass layers one by one"
    own = [frame for frame in frames if not frame.filename.startswith((TORCH, __file__))]
    line = next((f", at `{frame.line}`" for frame in own[::-1] if frame.line), "")
    do = "take loops over time and decisions on data out of forward, or pass layers one by one"
    return (f"{type(error).__name__}: {error}".splitlines() or [""])[0] + line, do


TORCH = str(Path(torch.__file__).parent)
"""Folder of PyTorch's own code."""


def _prune(graph: fx.Graph) -> None:
    """Removes checks of fixed arguments, and nodes that nothing reads."""
    checks = ("_assert", "_assert_is_none")
    for node in list(graph.nodes)[::-1]:
        check = node.op == "call_function" and node.target.__name__ in checks
        unread = node.op != "output" and not node.users
        if check or (unread and (node.op != "placeholder" or node.args)):
            graph.erase_node(node)


def _in_place(root: nn.Module, graph: fx.Graph) -> list[str]:
    """Returns nodes that change a tensor in place which is read again."""
    problems = []
    for node in graph.nodes:
        if node.op == "call_module":
            changes = bool(getattr(root.get_submodule(node.target), "inplace", False))
        else:
            name = name_of(node.target, node.op) if node.op.startswith("call") else ""
            changes = name.endswith("_") and name != "requires_grad_"
            changes |= node.kwargs.get("inplace", False) is True
        first = [*node.args, *node.kwargs.values(), None][0]
        if changes and (not node.users or _read_again(first)):
            problems.append(f"{node.name} changes its input in place")
    return problems


def _read_again(node: Any) -> bool:
    """True if others read a tensor, or the one that it is a view of."""
    while isinstance(node, fx.Node):
        if len(node.users) > 1:
            return True
        if not node.op.startswith("call") or name_of(node.target, node.op) not in VIEWS:
            return False
        node = node.args[0]
    return False


def problems(source: nn.Module, root: nn.Module, graph: fx.Graph) -> Iterator[str]:
    """Yields everything that cannot be read."""
    used = set()
    for node in graph.nodes:
        if node.op == "placeholder" and not node.users:
            yield f"input {node.target}, which forward does not read"
        elif node.op == "get_attr":
            used.add(id(operator.attrgetter(str(node.target))(root)))
            yield f"{node.name} (the tensor {node.target} itself)"
        elif node.op == "call_module":
            leaf = root.get_submodule(node.target)
            used |= {id(p) for p in leaf.parameters()}
            yield from _of_leaf(node, leaf)
        elif node.op in ("call_function", "call_method") and not name_of(node.target, node.op):
            title = getattr(node.target, "__name__", str(node.target))
            yield f"{node.name} ({title})"
    for path, module in source.named_modules():
        if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
            yield f"forward hooks of {path or 'the module'}"
    yield from _of_parameters(source, used)


def _of_leaf(node: fx.Node, leaf: nn.Module) -> Iterator[str]:
    title = f"{node.target} ({type(leaf).__name__})"
    if parametrize.is_parametrized(leaf):
        yield f"{title} with parametrizations"
    elif "quantized" in type(leaf).__module__:
        yield f"{title}, quantized"
    elif type(leaf) not in MODULES:
        yield title
    tensors = [*leaf.parameters()]
    if any(p.is_meta or p.is_sparse or not p.is_floating_point() for p in tensors):
        yield f"{title} without its weights as real numbers"
    flags = {p.requires_grad for p in tensors}
    if len(flags) > 1 and not isinstance(leaf, nn.RNNBase):
        yield f"{title} with some parameters frozen"


def _of_parameters(source: nn.Module, used: set[int]) -> Iterator[str]:
    """Yields parameters that are never read, or read by two modules."""
    held: dict[int, list[str]] = {}
    for name, parameter in source.named_parameters(remove_duplicate=False):
        held.setdefault(id(parameter), []).append(name)
    several = {path for path, _ in source.named_modules(remove_duplicate=False)}
    several -= {path for path, _ in source.named_modules()}
    for number, names in held.items():
        own = [name for name in names if name.rpartition(".")[0] not in several]
        if len(own) > 1:
            yield f"one parameter in {' and '.join(own)}"
        if number not in used:
            yield f"parameter {names[0]}, which forward does not read"


@dataclass(frozen=True)
class TracedInput:
    """States that an input brings to a recurrent module.

    Attributes:
        count: number of layers times directions.
        widths: of each tensor, (count, batch, width): h, c, or both.
        which: 0 if the first tensor is an h, 1 if it is a c.
        paired: True if the input is the pair (h, c).
        directions: number of directions of each layer.
    """

    count: int
    widths: tuple[int, ...]
    which: int
    paired: bool
    directions: int


class InputLayout(NamedTuple):
    """Axes of an input as PyTorch sees them: their number, and the index of the batch.

    `given` for states, which are inputs (batch, width) of the graph, one by one.
    """

    rank: int
    batch: int
    given: TracedInput | None = None


RANKS = {nn.Conv1d: 3, nn.Conv2d: 4, nn.Conv3d: 5, nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}
RANKS |= {nn.ConvTranspose1d: 3, nn.ConvTranspose2d: 4, nn.ConvTranspose3d: 5}


def layouts(root: nn.Module, graph: fx.Graph) -> list[list[InputLayout]]:
    """Returns the layouts that each input may have, the simplest first."""
    leaves = [root.get_submodule(n.target) for n in graph.nodes if n.op == "call_module"]
    timed = [leaf for leaf in leaves if isinstance(leaf, (nn.RNNBase, nn.MultiheadAttention))]
    late = any(not leaf.batch_first for leaf in timed)
    found = []
    for node in graph.nodes:
        if node.op == "placeholder":
            states = _given(root, graph, node)
            if states:
                found.append([InputLayout(3, 1, states)])
                continue
            found.append(_proven(root, node) or _possible(root, node, late))
    return found


UNPACKED = "unpacked"
"""Marks a node that is one of all parts of something, as b of b, s, f = x.shape."""


def _rank(node: fx.Node) -> int:
    """Returns the number of sizes that the module unpacks of an input; 0 if it does not."""
    parts = [part for user in node.users if _is_shape(user) for part in user.users]
    return max((int(part.args[1]) + 1 for part in parts if UNPACKED in part.meta), default=0)


def _is_shape(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target == "size" and len(node.args) == 1 and not node.kwargs
    return node.op == "call_function" and node.target is getattr and node.args[1] == "shape"


def _given(root: nn.Module, graph: fx.Graph, node: fx.Node) -> TracedInput | None:
    """Returns the states that an input is used as; None for other inputs."""
    for user in graph.nodes:
        leaf = root.get_submodule(str(user.target)) if user.op == "call_module" else None
        if not isinstance(leaf, nn.RNNBase):
            continue
        states = [*user.args[1:], *user.kwargs.values(), None][0]
        widths: tuple[int, ...] = (leaf.proj_size or leaf.hidden_size, leaf.hidden_size)
        widths = widths if isinstance(leaf, nn.LSTM) else widths[:1]
        directions = 1 + leaf.bidirectional
        count = leaf.num_layers * directions
        if states is node:
            return TracedInput(count, widths, 0, len(widths) > 1, directions)
        for which, part in enumerate(states if isinstance(states, (tuple, list)) else ()):
            if part is node:
                return TracedInput(count, (widths[which],), which, False, directions)
            if _is_part(part, node):
                return TracedInput(count, widths, 0, True, directions)
    return None


def _is_part(part: Any, node: fx.Node) -> bool:
    """True if the first is an item of the second."""
    return isinstance(part, fx.Node) and part.target is operator.getitem and part.args[0] is node


def _proven(root: nn.Module, node: fx.Node) -> list[InputLayout]:
    """Returns the one layout that a layer reading an input needs; empty if no layer decides."""
    for user in node.users:
        leaf = root.get_submodule(str(user.target)) if user.op == "call_module" else None
        if isinstance(leaf, nn.RNNBase):
            return [InputLayout(3, 0 if leaf.batch_first else 1)]
        if isinstance(leaf, nn.MultiheadAttention):
            return [InputLayout(3, 0 if leaf.batch_first else 1)]
        if type(leaf) in RANKS:
            return [InputLayout(RANKS[type(leaf)], 0)]
    return [InputLayout(2, 0)] if _flattened(root, node) else []


def _flattened(root: nn.Module, node: fx.Node) -> bool:
    """True if an input's numbers are read in a row, whatever its axes."""
    first = [user for user in node.users if not _asks_batch(user)]
    return bool(first) and all(_flattens(root, user) for user in first)


def _asks_batch(node: fx.Node) -> bool:
    """True if a node asks for the batch size of its input, and for nothing else."""
    if node.op == "call_method" and node.target == "size":
        return bool(node.args[1:] == (0,))
    shape = node.op == "call_function" and node.target is getattr and node.args[1] == "shape"
    return shape and all(user.args[1:] == (0,) for user in node.users)


def _flattens(root: nn.Module, node: fx.Node) -> bool:
    if node.op == "call_module":
        leaf = root.get_submodule(str(node.target))
        return isinstance(leaf, nn.Flatten) and (leaf.start_dim, leaf.end_dim) == (1, -1)
    name = name_of(node.target, node.op) if node.op.startswith("call") else ""
    if name == "flatten":
        return bool(node.args[1:] == (1,) and not node.kwargs)
    return name in ("view", "reshape")


def _possible(root: nn.Module, node: fx.Node, late: bool) -> list[InputLayout]:
    users = [root.get_submodule(str(u.target)) for u in node.users if u.op == "call_module"]
    whole = [u for u in node.users if u.op == "call_method" and u.target in ("long", "int")]
    if whole or any(isinstance(leaf, nn.Embedding) for leaf in users):
        return [InputLayout(2, 0), *([InputLayout(2, 1)] if late else []), InputLayout(1, 0)]
    if rank := _rank(node):
        return [InputLayout(rank, batch) for batch in range(1 + (late and rank > 2))]
    later = [InputLayout(3, 1)] if late else []
    return [InputLayout(2, 0), InputLayout(3, 0), *later, InputLayout(4, 0)]


STATES = (
    "states are inputs and outputs of ports one by one, (batch, n) each, in PyTorch's order: "
    "h of each layer and direction, then c"
)


class Ending(NamedTuple):
    """Batch axis of an output as PyTorch sees it: its index; `states` for (layers, batch, n)."""

    batch: int
    states: bool = False


def states_in(wiring: TraceState, name: str, traced: TracedInput) -> Any:
    """Adds inputs for the states of all layers of a recurrent module."""
    found = []
    for which, width in enumerate(traced.widths, start=traced.which):
        title = f"{name}_{'hc'[which]}" if traced.paired else name
        names = [f"{title}_{n}" if traced.count > 1 else title for n in range(traced.count)]
        edges = tuple(wiring.graph.add(wiring.fresh(n), Input((width,))) for n in names)
        found.append(States(f"the input {name}", which, edges, traced.directions))
    return tuple(found) if traced.paired else found[0]


def leaves(found: Any) -> Iterator[Any]:
    """Yields the items of nested tuples, lists and dicts, in order; a dict by its sorted keys."""
    if isinstance(found, dict):
        found = tuple(found[key] for key in sorted(found, key=str))
    if isinstance(found, (tuple, list)) and not isinstance(
        found, (TracedTensor, RecurrentResult, ZeroState)
    ):
        for part in found:
            yield from leaves(part)
    else:
        yield found


def input_axes(layouts: Sequence[InputLayout]) -> list[int]:
    """Returns the batch axis of each input of the graph; 0 for states, one input each."""
    states = {
        n: own.given.count * len(own.given.widths) for n, own in enumerate(layouts) if own.given
    }
    return [
        axis
        for n, layout in enumerate(layouts)
        for axis in ([0] * states[n] if n in states else [layout.batch])
    ]


def said(layouts: Sequence[InputLayout], endings: Sequence[Ending]) -> list[str]:
    """Returns notes on how ports differ in inputs and outputs."""
    states = any(layout.given for layout in layouts) or any(end.states for end in endings)
    return [STATES] * states
