"""The steps of a decoder: the inputs that are fed step by step, and the layers with a state.

In: a decoder's nodes. Out: a `Timeline`, with the axis of the steps of every edge.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from xlstm.decoding.step_axes import axes_before, axis_of
from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node

SO_FAR = -1
"""In place of an axis: no steps, but a value after the steps so far (a last state)."""


class _WholeError(Exception):
    """Raised if an edge that is assumed to be the same at every step has steps on an axis."""

    def __init__(self, edge: Edge, axis: int, reader: Node) -> None:
        self.edge, self.axis, self.reader = edge, axis, reader


class Timeline:
    """The axis of the steps in every edge of a decoder.

    A model input or a RepeatVector has steps, or is the same at every step. The layers that read it
    decide: a recurrent layer `at` reads steps, and elementwise layers of several inputs read the
    same step of all.

    Attributes:
        axes: edge -> axis of a sample, SO_FAR, or None for the same at every step.
        fed: names of the model inputs that are fed step by step.
        repeats: names of the RepeatVectors that return steps.
        kept: names of the recurrent layers along the steps.

    Raises:
        UnsupportedError: a layer that needs other steps than the current one, and has no state.
    """

    def __init__(self, model: Model, nodes: Sequence[Node], at: Iterable[str]) -> None:
        self._model, self._nodes, self._at = model, nodes, set(at)
        self._own = {node.name for node in nodes}
        self.axes: dict[Edge, int | None] = {}
        self.fed, self.repeats, self.kept = set[str](), set[str](), set[str]()
        asked = set[tuple[Edge, int]]()
        while True:
            try:
                self._walk()
                return
            except _WholeError as found:
                if (found.edge, found.axis) in asked:
                    raise _refused(found.reader, "steps that do not go together") from None
                asked.add((found.edge, found.axis))
                self._demand(found.edge, found.axis, found.reader)

    def _walk(self) -> None:
        self.axes.clear()
        for node in self._nodes:
            if isinstance(node.spec, L.Input):
                found: list[int | None] = [0 if node.name in self.fed else None]
            else:
                found = self._outputs(node)
            self.axes |= {Edge(node.name, n): axis for n, axis in enumerate(found)}

    def _outputs(self, node: Node) -> list[int | None]:
        """The axis of the steps in each output; raises where that needs an edge to have steps."""
        axes = [self.axes.get(edge) for edge in node.inputs]
        beside = [self.axes.get(edge) for edge in node.reads[len(node.inputs) :]]
        if not any(axis is not None and axis >= 0 for axis in axes):
            return self._whole(node, [*axes, *beside])
        if SO_FAR in (*axes, *beside):
            raise _refused(node, "what is known only after the last step, read at every step")
        if isinstance(node.spec, (L.Recurrent, L.Bidirectional)):
            return self._walking(node, axes[0])
        last = isinstance(node.spec, L.Slice) and node.spec.axis == axes[0]
        if last and (node.spec.start, node.spec.stop, node.spec.step) == (-1, None, 1):  # type: ignore[attr-defined]
            return [SO_FAR]
        axis = self._alike(node, axes)
        return [axis_of(node.spec, output, axis) for output in range(len(node.shapes))]

    def _whole(self, node: Node, axes: Sequence[int | None]) -> list[int | None]:
        """The axes of the outputs of a layer whose inputs have no steps."""
        stepped = [axis for axis in axes[len(node.inputs) :] if axis not in (None, SO_FAR)]
        if node.name in self._at or stepped:
            raise _WholeError(node.inputs[0], 0, node)
        if getattr(node.spec, "stateful", False):
            raise _refused(node, "a stateful layer that no step reaches")
        if node.name in self.repeats:
            if SO_FAR in axes:
                raise _refused(node, "what is known only after the last step, read at every step")
            return [0]
        return [SO_FAR if SO_FAR in axes else None] * len(node.shapes)

    def _walking(self, node: Node, axis: int | None) -> list[int | None]:
        """The axes of the outputs of a recurrent layer, which has a state between steps."""
        spec = node.spec
        if isinstance(spec, L.Bidirectional) or spec.go_backwards:  # type: ignore[attr-defined]
            raise _refused(node, "one that reads the steps from the end")
        if axis != 0:
            raise _refused(node, "steps on another axis than the one it walks along")
        if node.mask is not None and self.axes.get(node.mask) is None:
            raise _WholeError(node.mask, 0, node)
        if any(self.axes.get(edge) is not None for edge in node.states):
            raise _refused(node, "states to start from that have steps themselves")
        self.kept.add(node.name)
        first = 0 if spec.return_sequences else SO_FAR  # type: ignore[attr-defined]
        return [first, *(SO_FAR for _ in node.shapes[1:])]

    def _alike(self, node: Node, axes: Sequence[int | None]) -> int:
        """The axis of the output of a layer that computes each step separately."""
        shapes = [self._model.shape(edge) for edge in node.inputs]
        for axis in range(len(node.shape)):
            wanted = axes_before(node.spec, shapes, axis)
            pairs = list(zip(axes, wanted or (), strict=False))
            if wanted is None or any(own is not None and own != want for own, want in pairs):
                continue
            for edge, (own, want) in zip(node.inputs, pairs, strict=True):
                if own is None and want is not None:
                    raise _WholeError(edge, want, node)
            if node.mask is not None:
                self._check_mask(node, axis)
            return axis
        raise _refused(node, "one that mixes steps, or may")

    def _check_mask(self, node: Node, axis: int) -> None:
        """Checks that a mask has steps if the input has."""
        assert node.mask is not None
        found = self.axes.get(node.mask)
        if found is None:
            raise _WholeError(node.mask, axis, node)
        if found != axis:
            raise _refused(node, "a mask with other steps")

    def _demand(self, edge: Edge, axis: int, reader: Node) -> None:
        """Finds the inputs that must have steps for an edge to have them, and marks them."""
        if edge.node not in self._own:
            raise _refused(reader, f"the whole sequence of {edge.node}, read step by step")
        node = self._model.node(edge.node)
        if isinstance(node.spec, L.Input) and axis == 0 and node.shape:
            self.fed.add(node.name)
        elif isinstance(node.spec, L.RepeatVector) and axis == 0:
            self.repeats.add(node.name)
        elif isinstance(node.spec, L.Recurrent) and axis == 0 and node.spec.return_sequences:
            self._demand(node.inputs[0], 0, node)
        else:
            shapes = [self._model.shape(before) for before in node.inputs]
            first = axis - axis_of(node.spec, edge.output, 0)
            wanted = axes_before(node.spec, shapes, first) if shapes and first >= 0 else None
            if wanted is None:
                raise _refused(node, "one that makes its steps, or mixes them")
            for before, want in zip(node.inputs, wanted, strict=True):
                if want is not None and self.axes.get(before) is None:
                    self._demand(before, want, node)


def _refused(node: Node, got: str) -> UnsupportedError:
    where = f"split, layer {node.name} ({node.spec.title})"
    want = "a decoder whose layers compute each step alone, or keep a state going forwards"
    do = "end the model before it, or keep it outside the decoder"
    return UnsupportedError(where, want, got, do)
