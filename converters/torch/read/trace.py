"""Traces a module with `torch.fx`, and lists everything in it that has no exact form."""

from __future__ import annotations

import copy
import inspect
import operator
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import fx, nn
from torch.nn.utils import parametrize

from xlstm.budget import Budget
from xlstm.errors import FileError, UnsupportedError

from ..live.arrays import PROCESS_WIDE
from .names import VIEWS, name_of
from .signature import UNPACKED
from .values import MODULES

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
        said, do = _failure(error)
        raise UnsupportedError(where, "a module that torch.fx can trace", said, do) from error
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
