"""Puts what an operation becomes into the hub's graph; imports no framework."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from xlstm.ir.graph import (
    Activation,
    Concatenate,
    Edge,
    ExpandDims,
    Flatten,
    Permute,
    Reshape,
    Reverse,
    Slice,
    Spec,
    Squeeze,
)

from ..inbound_nodes import Tensor
from .call import Made, Operation

MOVES = (Concatenate, ExpandDims, Flatten, Permute, Reshape, Reverse, Slice, Squeeze)
"""Specs that move True and False as well as numbers."""


@dataclass
class Placing:
    """Adds the nodes of one operation.

    Attributes:
        op: the operation.
        edge: gives the edge of a tensor.
        add: adds a node of a name, and gives its first output.
        free: gives a name that nothing else has.
        name: what the last node is called.
        booleans: edges that are masks, True or False.
        done: what is added.
    """

    op: Operation
    edge: Callable[[Tensor], Edge]
    add: Callable[[str, Spec, list[Edge]], Edge]
    free: Callable[[str], str]
    name: str
    booleans: Collection[Edge]
    done: dict[int, Edge] = field(default_factory=dict)

    def outputs(self, found: Sequence[Tensor | Made]) -> list[Edge]:
        """The edge of every output."""
        return [self._placed(made, last=len(found) == 1) for made in found]

    def _placed(self, made: Tensor | Made, last: bool) -> Edge:
        if isinstance(made, Tensor):
            return self.edge(made)
        if id(made) not in self.done:
            reads = [self._placed(read, last=False) for read in made.reads]
            masks = [edge.node for edge in reads if edge in self.booleans]
            if masks and not _moves(made.spec):
                raise self.op.refused("an operation on numbers", f"the mask of {masks[0]}")
            name = self.name if last else self.free(f"{self.name}/{len(self.done)}")
            self.done[id(made)] = self.add(name, made.spec, reads)
        return self.done[id(made)]


def _moves(spec: Spec) -> bool:
    return isinstance(spec, MOVES) or spec == Activation("linear")
