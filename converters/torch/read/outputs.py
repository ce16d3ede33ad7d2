"""The inputs and outputs of a traced module beside the tensors: states, and what is nested."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from xlstm.ir.graph import Input

from .input_layouts import Given, Layout
from .values import Recurred, States, Value, Wiring, Zeros

STATES = (
    "states are inputs and outputs of ports one by one, (batch, n) each, in PyTorch's order: "
    "h of each layer and direction, then c"
)


class Ending(NamedTuple):
    """How PyTorch sees an output: which axis is the batch; `states` for (layers, batch, n)."""

    batch: int
    states: bool = False


def states_in(wiring: Wiring, name: str, given: Given) -> Any:
    """Inputs for the states of all layers of a recurrent module."""
    found = []
    for which, width in enumerate(given.widths, start=given.which):
        title = f"{name}_{'hc'[which]}" if given.paired else name
        names = [f"{title}_{n}" if given.count > 1 else title for n in range(given.count)]
        edges = tuple(wiring.graph.add(wiring.fresh(n), Input((width,))) for n in names)
        found.append(States(f"the input {name}", which, edges, given.directions))
    return tuple(found) if given.paired else found[0]


def leaves(found: Any) -> Iterator[Any]:
    """What is nested in tuples, lists and dicts, in order; a dict by its sorted keys."""
    if isinstance(found, dict):
        found = tuple(found[key] for key in sorted(found, key=str))
    if isinstance(found, (tuple, list)) and not isinstance(found, (Value, Recurred, Zeros)):
        for part in found:
            yield from leaves(part)
    else:
        yield found


def input_axes(layouts: Sequence[Layout]) -> list[int]:
    """The axis that is the batch, for each input of the hub; 0 for states, which come apart."""
    states = {
        n: own.given.count * len(own.given.widths) for n, own in enumerate(layouts) if own.given
    }
    return [
        axis
        for n, layout in enumerate(layouts)
        for axis in ([0] * states[n] if n in states else [layout.batch])
    ]


def said(layouts: Sequence[Layout], endings: Sequence[Ending]) -> list[str]:
    """Notes on how ports differ in what they take and give."""
    states = any(layout.given for layout in layouts) or any(end.states for end in endings)
    return [STATES] * states
