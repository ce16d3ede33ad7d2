"""Records of a suspect's run, with the outputs of its layers.

The live half of a framework fills a `RunRecord`; the diagnosis compares it with the reference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xlstm.ir.types import Array


class LayerRecord(NamedTuple):
    """The output of one layer of a suspect that was called once.

    Attributes:
        name: the suspect's name of the layer.
        kind: its class.
        output: the first array that it returned, in the suspect's own order of axes.
        options: plain attributes of the layer's object.
    """

    name: str
    kind: str
    output: Array
    options: Mapping[str, Any]
    read: Array | None = None


@dataclass(frozen=True)
class RunRecord:
    """One run of a suspect.

    Attributes:
        outputs: the arrays that it returned, in order.
        states: arrays that were nested deeper in its result: states of recurrent layers.
        gave: records of its layers, in the order in which they finished.
        form: container of the outputs, in the words of `form_of`; None if unknown.
    """

    outputs: list[Array]
    states: list[Array]
    gave: tuple[LayerRecord, ...] = ()
    form: str | None = None


def form_of(found: Any) -> str:
    """The container that a suspect returned, in words; "" where it is one array.

    >>> form_of((1, 2)), form_of({"b": 1, "a": 2}), form_of(1)
    ('a tuple of 2', 'a dict (a, b)', '')
    """
    if isinstance(found, Mapping):
        return f"a dict ({', '.join(sorted(map(str, found)))})"
    if isinstance(found, (tuple, list)):
        return f"a {'tuple' if isinstance(found, tuple) else 'list'} of {len(found)}"
    return ""
