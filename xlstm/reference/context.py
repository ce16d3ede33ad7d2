"""The data that a layer's forward pass needs besides its inputs."""

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
    """One layer's surroundings in one run.

    Attributes:
        name: the layer's.
        weights: hub tensors in the run's dtype.
        coverage: records which pieces of activations were reached, None to record nothing.
        mask: (batch, time), True where a step counts; None where every step does.
        states: what the states start from; empty for zeros.
        final: filled by recurrent layers with their last states.
    """

    name: str
    weights: Mapping[str, Array]
    coverage: Coverage | None = None
    mask: Array | None = None
    states: Sequence[Array] = ()
    final: list[Array] = field(default_factory=list)

    def activate(self, activation: str, x: Array, use: str = "output") -> Array:
        """Applies an activation and records which of its pieces were reached."""
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
