"""Masks that Keras carries from layer to layer: resolved to edges, or refused.

From Keras 3.4 on, Multiply, Maximum and Minimum look at the masks of their inputs. Before that, and
for the other merges, masks change no numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xlstm.errors import UnsupportedError
from xlstm.ir import layers as L
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.types import Shape

from .context import LIMITS, ReadContext
from .inbound_nodes import KerasTensor, LayerCall
from .layers.config import class_of
from .ops.call import MOVES, PendingNode, made_of
from .ops.elementwise import FLAGGED

CARRIES = frozenset(
    "Dense Activation ReLU LeakyReLU PReLU ELU ThresholdedReLU Softmax Dropout SpatialDropout1D "
    "SpatialDropout2D SpatialDropout3D GaussianNoise GaussianDropout AlphaDropout Identity "
    "BatchNormalization LayerNormalization GroupNormalization UnitNormalization Normalization "
    "Rescaling ActivityRegularization TimeDistributed".split()
)
"""Layers of one input whose output has the mask of their input."""

MERGES = frozenset("Add Subtract Multiply Average Maximum Minimum".split())

ATTENTIONS = ("Attention", "AdditiveAttention", "MultiHeadAttention")


class Mixed(NamedTuple):
    """A mask that is no single edge; `tensor` is computed where a layer uses it, or refused."""

    why: str
    tensor: KerasTensor | None = None


Mask = Edge | Mixed | None

MOVED_MASKS = ("expand_dims", "convert_to_tensor", "copy")
"""Operations on a mask that keep its values."""

ONES, ZEROS = "ones", "zeros"


class MaskPropagation:
    """The mask of each tensor of a model.

    Attributes:
        of: tensor -> its mask, where it has one.
        booleans: edges of masks.
        flags: edges of numbers 1 and 0 for True and False of Keras.
        turned: flags -> the masks computed from them.
        alike: edges of tensors without a batch axis in Keras.
        operations: calls of operations that compute masks, not yet in the graph.
        compared: (input, constant) of a layer that computes a mask -> the mask.
    """

    def __init__(
        self, reader: ReadContext, nodes: Builder, edge: Callable[[KerasTensor, str], Edge]
    ) -> None:
        self.reader = reader
        self.nodes = nodes
        self.edge = edge
        self.of: dict[KerasTensor, Mask] = {}
        self.booleans: set[Edge] = set()
        self.flags: set[Edge] = set()
        self.turned: dict[Edge, Edge] = {}
        self.alike: set[Edge] = set()
        self.operations: dict[tuple[str, int], tuple[str, LayerCall]] = {}
        self.compared: dict[tuple[Edge, type[L.LayerSpec], float], Edge] = {}
        self._values: dict[KerasTensor, Any] = {}

    def is_mask(self, tensor: KerasTensor) -> bool:
        """True if a tensor is a mask that an operation computes."""
        return tensor[:2] in self.operations

    def note_mask(self, node: str, spec: L.LayerSpec, inputs: Sequence[Edge]) -> None:
        """Records a layer whose second output is a mask; equal masks share the first."""
        if isinstance(spec, L.Masking):
            self.compared.setdefault((inputs[0], L.Masking, spec.value), Edge(node, 1))
        elif isinstance(spec, L.Embedding) and spec.mask_zero:
            self.compared.setdefault((inputs[0], L.Embedding, 0.0), Edge(node, 1))

    def masks(self, call: LayerCall, where: str) -> list[Mask]:
        """Returns the mask of each input of a call: named by it, or carried by the input."""
        count = len(call.inputs)
        if call.masks:
            named = [self.named(mask, where) if mask else None for mask in call.masks]
            return named + [None] * (count - len(named))
        # Keras 3 passes a carried mask only to calls with no other tensors
        lost = call.started and self.reader.major > 2
        return [None if lost else self.of.get(tensor) for tensor in call.inputs]

    def named(self, tensor: KerasTensor, where: str) -> Mask:
        """Returns the mask that a call names.

        Raises:
            UnsupportedError: a mask without an exact form.
        """
        if not self.is_mask(tensor):
            edge = self.edge(tensor, where)
            if edge in self.flags - self.alike:
                return self._turned(edge)
            if edge not in self.booleans:
                want = "a mask that is an input of its own, or a layer's"
                raise UnsupportedError(where, want, f"one computed by {edge.node}", LIMITS)
            return edge
        found = self._value(tensor, where)
        if found == ONES:
            return None
        if isinstance(found, Edge):
            return found
        name, call = self.operations[tensor[:2]]
        why = found.why if isinstance(found, Mixed) else f"operation {name} ({call.name})"
        return Mixed(why, tensor)

    def note_flags(
        self,
        name: str,
        edges: Sequence[Edge],
        made: Sequence[KerasTensor | PendingNode],
        read: Container[Any],
    ) -> None:
        """Records that an operation returns True and False, or moves them."""
        spec = made[0].spec if isinstance(made[0], PendingNode) else None
        moved = isinstance(spec, MOVES) and all(t in read for t in made_of(made[0]))
        to_truth = isinstance(spec, L.Compare) and name == "cast"
        if name in FLAGGED or moved or to_truth:
            self.flags |= {*edges}

    def _turned(self, edge: Edge) -> Edge:
        """Returns the mask for numbers 1 and 0."""
        if edge not in self.turned:
            name = f"{edge.node}/mask"
            while name in self.nodes:
                name += "_"
            mask = self.turned[edge] = self.nodes.add(name, L.NotEqual(0.0), [edge])
            self.booleans.add(mask)
        return self.turned[edge]

    def sure(self, mask: Mask, where: str) -> Edge:
        """Returns a mask that is an edge, or that operations compute.

        Raises:
            UnsupportedError: a mask that joins several in another way.
        """
        if isinstance(mask, Edge):
            return mask
        if isinstance(mask, Mixed) and mask.tensor:
            try:
                return self._turned(self.edge(mask.tensor, where))
            except UnsupportedError:
                pass
        got = mask.why if isinstance(mask, Mixed) else "none"
        raise UnsupportedError(where, "a mask of one layer or input", got, LIMITS)

    def _asked(self, tensor: KerasTensor) -> list[KerasTensor]:
        """Returns unknown masks that the result of an operation on masks depends on."""
        name, call = self.operations[tensor[:2]]
        first = call.arguments[0] if call.arguments else None
        found: list[Any] = []
        if name in ("logical_or", "logical_and"):
            found = [*call.arguments]
        elif name in MOVED_MASKS or (_over_last(name, call) and not self._is_marked(name, first)):
            found = [first]
        elif _side_by_side(name, call):
            found = first or []
        masks = (t for t in found if isinstance(t, KerasTensor) and self.is_mask(t))
        return [tensor for tensor in masks if tensor not in self._values]

    def _is_marked(self, name: str, first: Any) -> bool:
        """True for the test of a Masking layer: some number of a step is not the mask value."""
        compared = isinstance(first, KerasTensor) and self.is_mask(first)
        return name == "any" and compared and self.operations[first[:2]][0] == "not_equal"

    def _value(self, tensor: Any, where: str) -> Any:
        """Returns the result of an operation on masks: an edge, ones, zeros, a list, or Mixed."""
        if not isinstance(tensor, KerasTensor):
            return Mixed("a number")
        if not self.is_mask(tensor):
            edge = self.edge(tensor, where)
            return edge if edge in self.booleans else Mixed(f"what {edge.node} computes")
        # each operation once, after those it depends on; a loop, as chains may be deep
        todo = [] if tensor in self._values else [tensor]
        while todo:
            if asked := self._asked(todo[-1]):
                todo += asked
            else:
                here = todo.pop()
                self._values[here] = self._computed(here, where)
        return self._values[tensor]

    def _computed(self, tensor: KerasTensor, where: str) -> Any:
        """Returns the result of an operation whose masks are known; like `_value`."""
        name, call = self.operations[tensor[:2]]
        first = call.arguments[0] if call.arguments else None
        if name == "not_equal":
            return self._not_equal(call, where)
        if name in ("zeros_like", "ones_like"):
            return ZEROS if name == "zeros_like" else ONES
        if name in MOVED_MASKS:
            return self._value(first, where)
        if name in ("logical_or", "logical_and"):
            both = [self._value(item, where) for item in call.arguments]
            return _joined(both, "or" if name == "logical_or" else "and", call.name)
        if _side_by_side(name, call):
            return [self._value(item, where) for item in (first or [])]
        if _over_last(name, call):
            return self._reduced(name, first, call, where)
        return Mixed(f"operation {name} ({call.name})")

    def _reduced(self, name: str, first: Any, call: LayerCall, where: str) -> Any:
        """Any or all over the last axis: of stacked masks, or of a Masking layer's x != v."""
        if self._is_marked(name, first):
            x, value = _compared(self.operations[first[:2]][1])
            key = self.edge(x, where) if x else Edge(""), L.Masking, float(value)
            return self.compared.get(key, Mixed(f"operation any ({call.name})"))
        found = self._value(first, where)
        how = "or" if name == "any" else "and"
        return _joined(found if isinstance(found, list) else [found], how, call.name)

    def _not_equal(self, call: LayerCall, where: str) -> Mask:
        """Returns the mask of an Embedding with the same comparison, or of a new node."""
        x, value = _compared(call)
        if x is None or self.is_mask(x):
            return Mixed(f"operation not_equal ({call.name})")
        edge = self.edge(x, where)
        if found := self.compared.get((edge, L.Embedding, float(value))):
            return found
        own = Edge(call.name)
        if own not in self.booleans:
            self.nodes.add(call.name, L.NotEqual(float(value)), [edge])
            self.booleans.add(own)
        return own

    def after(self, call: LayerCall, last: L.LayerSpec, masks: Sequence[Mask]) -> Mask:
        """Returns the mask that the first output of a layer carries."""
        kind = class_of(call.layer)
        one = masks[0] if masks else None
        if isinstance(last, L.Custom):
            return self._handed_on(call, last, masks)
        if isinstance(last, (L.Recurrent, L.Bidirectional)):
            return one if last.return_sequences else None
        if kind == "TimeDistributed" and isinstance(last, L.TimeDistributed):
            return self._after_steps(last, one)
        if kind in CARRIES:
            return one
        if kind in ATTENTIONS:
            return one
        if kind in MERGES or kind == "Merge":
            return self._merged(call, masks)
        return self._side_by_side(call, masks) if kind == "Concatenate" else None

    def _handed_on(self, call: LayerCall, last: L.Custom, masks: Sequence[Mask]) -> Mask:
        """Returns the mask that a registered layer passes on: its inputs', if they have one."""
        if not last.passes_mask or len(set(masks)) == 1:
            return masks[0] if last.passes_mask else None
        return Mixed(f"masks of the inputs of {call.name}, which differ")

    def after_heads(self, call: LayerCall, last: L.LayerSpec) -> None:
        """Removes the masks of the inputs of MultiHeadAttention, as Keras 3 does."""
        if isinstance(last, L.MultiHeadAttention) and self.reader.major > 2:
            why = f"Keras removes the masks of the inputs of {call.name} for all later layers"
            self.of |= {tensor: Mixed(why) for tensor in call.inputs if self.of.get(tensor)}

    def _after_steps(self, last: L.TimeDistributed, mask: Mask) -> Mask:
        wide = isinstance(mask, Mixed) or (
            isinstance(mask, Edge) and len(self.nodes.shape(mask)) > 1
        )
        if wide and self.reader.major < 3:
            return Mixed("a mask that TimeDistributed reduces to one for each step")
        return mask

    def _merged(self, call: LayerCall, masks: Sequence[Mask]) -> Mask:
        """Joins masks: Keras before 3.4 keeps steps that all masks keep, later any of them."""
        options = call.layer.get("config", {})
        if call.kind == "Merge" and options.get("mode") == "concat":
            return self._side_by_side(call, masks)
        if call.kind == "Merge" and options.get("mode") in ("dot", "cos"):
            return None
        there = [mask for mask in masks if mask is not None]
        if 0 < len(there) < len(masks) and self.reader.era.joins_masks_by_or:
            return None
        return _one(there, call)

    def _side_by_side(self, call: LayerCall, masks: Sequence[Mask]) -> Mask:
        options = call.layer.get("config", {})
        axis = options.get("axis", options.get("concat_axis", -1))
        there = [mask for mask in masks if mask is not None]
        rank = len(self.nodes.shape(self.edge(call.inputs[0], "masks"))) + 1
        if there and axis not in (-1, rank - 1):
            return Mixed(f"the masks of {call.name} one after the other")
        if 0 < len(there) < len(masks) and self.reader.era.joins_masks_by_or:
            return None
        return _one(there, call)


def _side_by_side(name: str, call: LayerCall) -> bool:
    """True for an operation that stacks masks."""
    return name == "concatenate" and call.options.get("axis") == -1


def _over_last(name: str, call: LayerCall) -> bool:
    """True for any or all over the last axis."""
    last = call.options.get("axis") in (-1, [-1]) and not call.options.get("keepdims")
    return name in ("any", "all") and last


def _one(masks: Sequence[Mask], call: LayerCall) -> Mask:
    """Returns the only mask among several, if they are equal."""
    mixed = [mask for mask in masks if isinstance(mask, Mixed)]
    if len(set(masks)) < 2:
        return masks[0] if masks else None
    return mixed[0]._replace(tensor=None) if mixed else Mixed(f"masks joined by {call.name}")


def _compared(call: LayerCall) -> tuple[KerasTensor | None, float]:
    """Returns the tensor and the number that an operation compares."""
    a, b = (*call.arguments, None, None)[:2]
    if isinstance(a, KerasTensor) and isinstance(b, (int, float)):
        return a, b
    return None, 0.0


def _joined(values: Sequence[Any], how: str, name: str) -> Any:
    """Joins masks by "or" or "and"."""
    absorbing, neutral = (ONES, ZEROS) if how == "or" else (ZEROS, ONES)
    if absorbing in values:
        return absorbing
    found = {v if isinstance(v, (Edge, Mixed)) else Mixed(name) for v in values if v != neutral}
    if not found:
        return neutral
    return found.pop() if len(found) == 1 else Mixed(f"masks joined by {name}")


CHANGED = ("multiply", "maximum", "minimum")
"""Merges that use masks."""


Read = Edge | int
"""An edge, or the number of an earlier step."""


@dataclass
class Steps:
    """Specs and their inputs, in order; the last one computes the result."""

    found: list[tuple[L.LayerSpec, tuple[Read, ...]]] = field(default_factory=list)

    def add(self, spec: L.LayerSpec, *reads: Read) -> int:
        """Adds a step; returns its number."""
        self.found.append((spec, reads))
        return len(self.found) - 1

    def chosen(self, masks: Sequence[int], yes: Read, no: Read) -> Read:
        """Selects one input where a mask keeps a step, the other elsewhere."""
        for mask in masks:
            no = self.add(L.Where(), mask, yes, no)
        return no


def is_changed(reader: ReadContext, specs: Sequence[L.LayerSpec], masks: Sequence[object]) -> bool:
    """True if the masks of a layer's inputs change its numbers."""
    (spec, *_) = specs
    merges = isinstance(spec, L.Merge) and spec.how in CHANGED
    return merges and any(mask is not None for mask in masks) and reader.era.joins_masks_by_or


def check_shapes(shapes: Sequence[Shape], masks: Sequence[Shape | None], where: str) -> None:
    """Raises UnsupportedError for masks that Keras passes on, or broadcasts, in special ways."""
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        want = "masked inputs of one rank, where their numbers depend on the masks"
        raise UnsupportedError(where, want, f"ranks {sorted(rank + 1 for rank in ranks)}", LIMITS)
    wrong = [mask for mask in masks if mask is not None and len(mask) + 1 not in ranks]
    if wrong:
        want = f"masks of rank {min(ranks)}, one number for each step"
        raise UnsupportedError(where, want, f"{len(wrong[0]) + 1}", LIMITS)


def masked_merge(
    spec: L.Merge, inputs: Sequence[Edge], masks: Sequence[Edge | None], rank: int
) -> Steps:
    """Returns the steps of a merge with masked inputs; `rank` is that of a sample."""
    steps = Steps()
    every = [mask for mask in dict.fromkeys(masks) if mask is not None]
    wide = {mask: steps.add(L.ExpandDims(rank - 1), mask) for mask in every}
    kept = [None if mask is None else wide[mask] for mask in masks]
    if spec.how == "multiply":
        _product(steps, inputs, kept)
    else:
        _extreme(steps, spec, inputs, kept)
    return steps


def _product(steps: Steps, inputs: Sequence[Edge], masks: Sequence[int | None]) -> None:
    """Masked steps count as 1; if all inputs are masked, steps that no mask keeps are 0."""
    every = list(dict.fromkeys(masks))
    read: list[Read] = list(inputs)
    if len(every) > 1:  # steps that no mask keeps become 0
        pairs = zip(inputs, masks, strict=True)
        read = [x if m is None else steps.add(L.Where(no=1.0), m, x) for x, m in pairs]
    y = steps.add(L.Merge("multiply"), *read)
    known = [mask for mask in every if mask is not None]
    if len(known) == len(every):
        steps.chosen(known[1:], y, steps.add(L.Where(no=0.0), known[0], y))


def _extreme(
    steps: Steps, spec: L.Merge, inputs: Sequence[Edge], masks: Sequence[int | None]
) -> None:
    """Joins one input after the other; at a masked step of one, the other's number is used."""
    y: Read = inputs[0]
    kept = [mask for mask in masks[:1] if mask is not None]
    for x, mask in zip(inputs[1:], masks[1:], strict=True):
        other = x if mask is None else steps.add(L.Where(), mask, x, y)
        y = steps.add(spec, steps.chosen(kept, y, other) if kept else y, other)
        kept = list(dict.fromkeys([*kept, mask])) if kept and mask is not None else []
