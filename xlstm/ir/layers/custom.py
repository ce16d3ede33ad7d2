"""Spec of a layer that the user registered (`xlstm.register_layer`).

In: the registered name and the config of a file. Out: a spec whose shapes and weights come from the
user's functions.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from xlstm.errors import UsageError
from xlstm.ir.kinds import KINDS, Kind
from xlstm.ir.layer_registry import MASKS, NAME, Registered, lookup
from xlstm.ir.layers.base import LayerSpec, check_size
from xlstm.ir.layers.fields import AnyText, Like, OneOf
from xlstm.ir.types import Shape

__all__ = ["Custom"]

MANY = 2**16

# g and s have fixed meanings in xlstm.slots
LETTERS = [letter for letter in string.ascii_letters if letter not in "gs"]


def _letter(number: int) -> str:
    """A different letter for each axis; after the Latin ones, other characters."""
    return LETTERS[number] if number < len(LETTERS) else chr(0x3400 + number)


@dataclass(frozen=True)
class Custom(LayerSpec):
    """A layer that the user registered; its tensors are the same in every framework.

    Attributes:
        layer: the name that it is registered under.
        config: its options, as JSON text.
        mask: rule for the mask of its first input (`xlstm.ir.layer_registry.MASKS`).
        names: of its tensors.
        shapes: of its tensors; empty until the shapes in its file are read.
    """

    kind: ClassVar[str] = "Custom"
    arity: ClassVar[tuple[int, int]] = (1, MANY)
    layer: Annotated[str, Like("the name of a registered layer", NAME.pattern)]
    config: Annotated[str, AnyText()] = "{}"  # checked below
    mask: Annotated[str, OneOf(MASKS)] = "stops"
    names: tuple[Annotated[str, Like("the name of a tensor", r"[^\W\d]\w*")], ...] = ()
    shapes: tuple[tuple[int, ...], ...] = ()

    def check(self) -> None:
        try:
            options = json.loads(self.config)
        except (ValueError, RecursionError):
            options = None
        if not isinstance(options, dict):
            raise UsageError(self.layer, "options as JSON", self.config, "pass a JSON object")
        wanted = self.registered.names(options)
        if self.names != wanted or len(self.shapes) not in (0, len(wanted)):
            want = f"tensors {', '.join(wanted) or 'none'}, as it is registered"
            got = f"{', '.join(self.names) or 'none'} of {len(self.shapes)} shapes"
            raise UsageError(f"layer {self.layer}", want, got, "register it as it was")
        for shape in self.shapes:
            check_size(self.layer, **{f"axis {n}": size for n, size in enumerate(shape)})

    @property
    def title(self) -> str:
        return self.layer.partition(":")[0].rpartition(">")[2]

    @property
    def registered(self) -> Registered:
        """The layer that is registered in this process.

        Raises:
            UnsupportedError: none of this name is.
        """
        return lookup(self.layer)

    @property
    def options(self) -> dict[str, Any]:
        """A new dict of its options at every call."""
        found: dict[str, Any] = json.loads(self.config)
        return found

    @property
    def sees_mask(self) -> bool:
        """True if it is called with the mask of its input."""
        return self.mask.startswith("uses")

    @property
    def passes_mask(self) -> bool:
        """True if its first output has the mask of its first input."""
        return self.mask.endswith("passes")

    @property
    def hub(self) -> Kind:
        """The canonical form of its weights: every axis of every tensor has its own letter."""
        tensors, number = {}, 0
        for name, shape in zip(self.names, self.shapes, strict=True):
            tensors[name] = "".join(map(_letter, range(number, number + len(shape))))
            number += len(shape)
        return Kind(self.layer, tensors)

    @property
    def weighted_parts(self) -> tuple[tuple[str, LayerSpec], ...]:
        return (("", self),) if self.names else ()

    def sizes(self) -> dict[str, int]:
        sizes = [size for shape in self.shapes for size in shape]
        # one axis if all tensors are single numbers: no sizes would mean no weights
        sizes = sizes or ([1] if self.names else [])
        return {_letter(number): size for number, size in enumerate(sizes)}

    def mask_shape(self, x: Shape) -> Shape | None:
        return x[:1] if self.sees_mask and x else None

    def output_shape(self, shape: Shape) -> Shape:
        return self.output_shapes(shape)[0]

    def output_shapes(self, *shapes: Shape) -> tuple[Shape, ...]:
        return self.registered.shapes(self.options, *shapes)


def unwrap_time_distributed(spec: LayerSpec) -> LayerSpec:
    """The layer inside TimeDistributed, or the layer itself."""
    found: LayerSpec = getattr(spec, "layer", spec) if spec.kind == "TimeDistributed" else spec
    return found


def same_layer(first: LayerSpec, second: LayerSpec) -> bool:
    """True if two calls are of one layer, at every time step or on its whole input."""
    return unwrap_time_distributed(first) == unwrap_time_distributed(second)


def kind_of(spec: LayerSpec) -> Kind:
    """The canonical form of the weights of a part of a layer."""
    return spec.hub if isinstance(spec, Custom) else KINDS[spec.weight_kind]


def missing_source(spec: LayerSpec, framework: str) -> str:
    """The reason why a registered layer has no form in a framework, "" if it has one."""
    spec = unwrap_time_distributed(spec)
    if not isinstance(spec, Custom) or framework in spec.registered.code:
        return ""
    return f"{spec.layer}, which is registered without {framework}="
