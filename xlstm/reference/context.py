"""The data that a layer's forward pass needs besides its inputs, and the table of all passes.

`run` builds a `Context` for each layer; recurrent layers return their last states in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from xlstm.ir import layers as L
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.coverage import Coverage

FORWARD = L.LayerFunctions()
"""Layer -> its forward pass: (spec, inputs, context) to a list of outputs."""


@dataclass
class Context:
    """The data of one layer in one run.

    Attributes:
        name: the layer's.
        weights: canonical tensors in the run's dtype.
        coverage: records the pieces of activations that are reached, None to record nothing.
        mask: (batch, time), False at masked steps; None without a mask.
        states: initial states; empty for zeros.
        final: recurrent layers put their last states here.
    """

    name: str
    weights: Mapping[str, Array]
    coverage: Coverage | None = None
    mask: Array | None = None
    states: Sequence[Array] = ()
    final: list[Array] = field(default_factory=list)

    def activate(self, activation: str, x: Array, use: str = "output") -> Array:
        """Applies an activation and records the pieces that are reached."""
        if self.coverage is not None:
            self.coverage.see(self.name, use, activation, x)
        return FUNCTIONS[activation](x)

    def half(self, before: str, states: Sequence[Array]) -> Context:
        """The context of one half of a bidirectional layer, whose tensors start with `before`."""
        own = self.weights.items()
        weights = {name.removeprefix(before): a for name, a in own if name.startswith(before)}
        return Context(
            f"{self.name} {before.strip('_')}", weights, self.coverage, self.mask, states
        )
