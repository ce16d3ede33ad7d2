"""What is seen of a suspect while it runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from xlstm.model import Array


class Gave(NamedTuple):
    """What one layer of a suspect gave, where it was called once.

    Attributes:
        name: the suspect's name of the layer.
        kind: its class.
        output: the first array that it gave, in the suspect's own order of axes.
        options: plain attributes that it was made with.
    """

    name: str
    kind: str
    output: Array
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Watched:
    """One run of a suspect.

    Attributes:
        outputs: what it returned, in order.
        states: what lay deeper in what it returned: states of recurrent layers.
        gave: what its layers gave, in the order in which they were done.
    """

    outputs: list[Array]
    states: list[Array]
    gave: tuple[Gave, ...] = ()
