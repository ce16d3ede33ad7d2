"""Hypotheses, and the rows of the table of mistakes that make them.

In: a layer of the truth (`SuspectLayer`). Out: altered layers with the sentences that name them.

    site.altered("Your layer has no bias.", "Copy it.", weights=others)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, NamedTuple

from xlstm.diagnosis.altered_model import Call, Layer
from xlstm.diagnosis.pairing.names import Naming, Said
from xlstm.errors import XlstmError
from xlstm.ir.graph import Model, Node
from xlstm.ir.kinds import Kind
from xlstm.ir.layers import Bidirectional, LayerSpec, TimeDistributed
from xlstm.ir.layers.custom import kind_of
from xlstm.ir.types import Array

Say = Callable[[Naming], Said]


def fixed(said: Said) -> Say:
    """A sentence that does not depend on the suspect's names."""
    return lambda _naming: said


@dataclass(frozen=True)
class Hypothesis:
    """An altered copy of the truth, and the sentence that names it.

    Attributes:
        cause: its id.
        layers: the altered layers, by the name of the node that owns them.
        say: the sentence, the fix and the tensors, in the suspect's own names.
        rule: equal for the same mistake in other layers, so that it can be tried in all of them.
        tensors: names of the hub tensors that are altered, where nothing else is.
        rare: whether it is not worth a try together with other mistakes.
    """

    cause: str
    layers: Mapping[str, Layer]
    say: Say
    rule: str
    tensors: tuple[str, ...] = ()
    rare: bool = False

    @property
    def layer(self) -> str:
        """The first layer that is altered."""
        return next(iter(self.layers))

    def of_weights(self) -> bool:
        """True if only numbers in tensors are altered."""
        return bool(self.tensors)


class AlteredLayer(NamedTuple):
    """One altered layer, as a row of the table gives it."""

    layer: Layer
    say: Say
    rule: str
    tensors: tuple[str, ...] = ()
    rare: bool = False


@dataclass(frozen=True)
class SuspectLayer:
    """A layer that a row may alter."""

    model: Model
    node: Node
    layer: Layer
    naming: Naming

    @property
    def spec(self) -> LayerSpec:
        """The layer's options."""
        return self.layer.spec

    def said(self, text: str, fix: str = "", tensor: str = "") -> Say:
        """A sentence that does not depend on the suspect's names."""
        return fixed(Said(text, fix, tensor))

    def altered(
        self, text: str, fix: str = "", rule: str = "", *, rare: bool = False, **changes: Any
    ) -> AlteredLayer:
        """The layer with other fields; the rule is the sentence where none is passed."""
        return AlteredLayer(
            replace(self.layer, **changes), self.said(text, fix), rule or text, rare=rare
        )

    def with_tensors(
        self, tensors: Mapping[str, Array | Make], say: Say, rule: str, *, rare: bool = False
    ) -> AlteredLayer:
        """The layer with some hub tensors replaced."""
        layer = replace(self.layer, weights=LazyTensors(self.layer.weights, tensors))
        return AlteredLayer(layer, say, rule, tuple(tensors), rare)

    def hub(self, part: Part, tensor: str) -> Array | None:
        """A part's hub tensor, None where it has none."""
        return self.layer.weights.get(part.before + tensor)

    def names(self, group: Sequence[Part], *tensors: str) -> str:
        """The suspect's names of tensors of several parts, for a sentence."""
        found = (self.naming.called(self.node, part.before, *tensors) for part in group)
        return " and ".join(found)


class Mistake(NamedTuple):
    """One row of the table of mistakes."""

    cause: str
    alter: Callable[[SuspectLayer], Iterator[AlteredLayer]]


class Part(NamedTuple):
    """A part of a layer with weights: the prefix of its tensors' names, options, canonical form."""

    before: str
    spec: LayerSpec
    kind: Kind


def called(
    site: SuspectLayer, call: Call, text: str, fix: str, *, rare: bool = False, rule: str = ""
) -> AlteredLayer:
    """A layer that is called in another way."""
    return site.altered(text, fix, rule, rare=rare, call=call)


def parts(spec: LayerSpec) -> list[Part]:
    """The parts of a layer that own weights."""
    return [Part(before, part, kind_of(part)) for before, part in spec.weighted_parts]


def groups(spec: LayerSpec) -> list[list[Part]]:
    """Parts that a mistake may meet together: all of one form, then each by itself."""
    found = parts(spec)
    alike = len({part.kind.name for part in found}) == 1
    return [*([found] * alike), *([part] for part in found if len(found) > 1)]


def with_tensors(layer: Layer, tensors: Mapping[str, Array]) -> Layer:
    """A layer with some hub tensors replaced."""
    return replace(layer, weights={**layer.weights, **tensors})


Make = Callable[[], Any]
"""Makes an array."""


class LazyTensors(Mapping[str, Array]):
    """Hub tensors some of which are replaced; a function makes its array each time it is read.

    Hundreds of hypotheses about a wide layer, each with arrays of its own, would fill the memory.
    """

    def __init__(self, own: Mapping[str, Array], others: Mapping[str, Array | Make]) -> None:
        self._own, self._others = own, others

    def __getitem__(self, name: str) -> Array:
        found = self._others.get(name)
        if found is None:
            return self._own[name]
        return found() if callable(found) else found

    def __iter__(self) -> Iterator[str]:
        return iter(self._own)

    def __len__(self) -> int:
        return len(self._own)


def with_options(spec: LayerSpec, **options: Any) -> LayerSpec | None:
    """A spec with other options, None where it has none of that name or refuses the value."""
    known = {field.name for field in fields(spec)}
    if not options.keys() <= known or all(getattr(spec, k) == v for k, v in options.items()):
        return None
    try:
        return replace(spec, **options)
    except XlstmError:
        return None


class InnerSpecs(NamedTuple):
    """Inner specs that an option may be altered in together, and how to put them back."""

    where: str
    specs: Sequence[LayerSpec]
    rebuild: Callable[[Sequence[Any]], LayerSpec]


def first_spec(spec: LayerSpec) -> LayerSpec:
    """The spec itself; the layer that TimeDistributed wraps; the forward half of Bidirectional."""
    return pieces(spec)[0].specs[0]


def pieces(spec: LayerSpec) -> list[InnerSpecs]:
    """The spec itself; what TimeDistributed wraps; both halves of Bidirectional, then each."""
    if isinstance(spec, TimeDistributed):
        return [InnerSpecs("", [spec.layer], lambda new: replace(spec, layer=new[0]))]
    if isinstance(spec, Bidirectional):
        f, b = spec.halves
        return [
            InnerSpecs("", [f, b], lambda new: replace(spec, forward=new[0], backward=new[1])),
            InnerSpecs(" in the forward half", [f], lambda new: replace(spec, forward=new[0])),
            InnerSpecs(" in the backward half", [b], lambda new: replace(spec, backward=new[0])),
        ]
    return [InnerSpecs("", [spec], lambda new: new[0])]
