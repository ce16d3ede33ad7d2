"""Layouts that an input of a traced module may have: the axes that PyTorch sees in it.

In: a traced module. Out: possible layouts of each input, such as InputLayout(rank=3, batch=0).
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import fx, nn

from xlstm.ir.layers import Input

from .names import name_of
from .values import RecurrentResult, States, TracedTensor, TraceState, ZeroState


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


def states_in(wiring: TraceState, name: str, given: TracedInput) -> Any:
    """Adds inputs for the states of all layers of a recurrent module."""
    found = []
    for which, width in enumerate(given.widths, start=given.which):
        title = f"{name}_{'hc'[which]}" if given.paired else name
        names = [f"{title}_{n}" if given.count > 1 else title for n in range(given.count)]
        edges = tuple(wiring.graph.add(wiring.fresh(n), Input((width,))) for n in names)
        found.append(States(f"the input {name}", which, edges, given.directions))
    return tuple(found) if given.paired else found[0]


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
