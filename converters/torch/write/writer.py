"""Context in which a layer is written as PyTorch source; imports no framework."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import dataclass

from xlstm.ir import layers as L
from xlstm.ir.literals import literal, named
from xlstm.ir.permutes import OVER_LAST_AXIS
from xlstm.ir.python_source import parse
from xlstm.ir.types import Shape

from ...codegen.source import (
    WIDTH,
    Argument,
    CallExpr,
    ModuleSource,
    assigned,
    call,
    statement,
    template_sources,
)
from ...codegen.variables import NodeVariables
from ..activations import CELLS as ACTIVATION_CELLS
from ..activations import FUNCTIONS
from ..native import OWN

CELLS = "torch/templates/recurrent.py"
LAYER_CELLS = "torch/templates/layers.py"
STACKED = "torch/templates/many_models.py"

CALLS: dict[type[L.LayerSpec], tuple[str, tuple[tuple[str, str, object], ...]]] = {
    L.Clip: ("clamp", (("min", "low", None), ("max", "high", None))),
    L.Elu: ("F.elu", (("", "alpha", 1),)),
    L.ExpandDims: ("unsqueeze", (("", "axis", ...),)),
    L.Softmax: ("torch.softmax", (("dim", "axis", ...),)),
    L.Squeeze: ("squeeze", (("", "axis", ...),)),
}
"""Layers that are one call -> function or method, and (keyword, field, value that is left out)."""


def write_call(spec: L.LayerSpec, at: TorchLayerWriter) -> None:
    """One call of a function or a method of the input."""
    name, options = CALLS[type(spec)]
    args: list[Argument] = []
    for keyword, field, default in options:
        value = getattr(spec, field)
        if value != default:
            text = literal(at.axis(value) if field == "axis" else value)
            args.append((keyword, text) if keyword else text)
    at.apply_steps((applied if "." in name else method)(name, *args))


WRITERS = L.LayerFunctions(dict.fromkeys(CALLS, write_call))
"""Layer -> the function that writes it."""

Step = Callable[[str], CallExpr]
"""Function that adds an operation to a variable or to an expression."""


def method(name: str, *args: Argument | None) -> Step:
    """Returns a step that calls a method of a tensor.

    >>> str(method("movedim", "3", "1")("x"))
    'x.movedim(3, 1)'
    """
    return lambda x: call(f"{x}.{name}", *args)


def applied(name: str, *args: Argument | None) -> Step:
    """Returns a step that calls a function of a tensor.

    >>> str(applied("torch.softmax", ("dim", "-1"))("x"))
    'torch.softmax(x, dim=-1)'
    """
    return lambda x: call(name, x, *args)


def _methods(text: str) -> dict[str, str]:
    """Returns the source of each method of a class."""
    (cls,) = parse(text).body
    assert isinstance(cls, ast.ClassDef)
    methods = [item for item in cls.body if isinstance(item, ast.FunctionDef)]
    return {item.name: ast.get_source_segment(text, item) or "" for item in methods}


def _variant(text: str, changed: str, name: str) -> str:
    """Returns the source of a class with the docstring and the methods of another one."""
    methods = _methods(text)
    text = text.replace(text.split('"""')[1], changed.split('"""')[1], 1)
    text = re.sub(r"^class \w+", f"class {name}", text)
    for method, own in _methods(changed).items():
        text = text.replace(methods[method], own)
    return text


def class_source(file: str, name: str) -> str:
    """Returns the source of an own class by itself, with what it inherits in its file."""
    texts = {
        own: re.sub(r"  # type: ignore\[[\w-]+\]", "", text)
        for own, text in template_sources(file).items()
    }
    base = re.match(r"class \w+\((\w+)\)", texts[name])
    return _variant(class_source(file, base[1]), texts[name], name) if base else texts[name]


def stacked_source(name: str) -> str:
    """Returns the source of an own cell for many models: only its forward pass is another."""
    changed = re.sub(r"  # type: ignore\[[\w-]+\]", "", template_sources(STACKED)[f"Stacked{name}"])
    return _variant(class_source(CELLS, name), changed, name).replace("F.linear(", "product(")


@dataclass(frozen=True)
class TorchLayerWriter:
    """Context in which a layer is written.

    Attributes:
        parts: source of the module so far.
        site: variables and names.
        shapes: shape of one sample of each input.
        lead: number of axes before a sample's: 2 at every time step, else 1.
        given_first: True if the first input has channels first.
        left_first: True if the first output stays with channels first.
        given_flat: True if the first input joins time steps and batch.
        left_flat: True if the first output stays so.
        sizes: variable of the sizes of batch and time, if they are joined.
    """

    parts: ModuleSource
    site: NodeVariables
    shapes: tuple[Shape, ...]
    lead: int = 1
    given_first: bool = False
    left_first: bool = False
    given_flat: bool = False
    left_flat: bool = False
    sizes: str = ""

    @property
    def x(self) -> str:
        """Variable of the first input."""
        return self.site.inputs[0]

    @property
    def y(self) -> str:
        """Variable of the first output."""
        return self.site.outputs[0]

    def read(self, number: int) -> bool:
        """True if something reads an output."""
        return self.site.outputs[number] != "_"

    @property
    def shape(self) -> Shape:
        """Shape of one sample of the first input."""
        return self.shapes[0]

    @property
    def module(self) -> str:
        """Expression for the attribute that holds the layer."""
        return f"self.{self.site.name}"

    def axis(self, axis: int) -> int:
        """Returns the axis of a batch for an axis of a sample; the same if counted from the end."""
        return axis if axis < 0 else axis + self.lead

    def assign(self, name: str, value: Argument) -> None:
        """Sets a variable in the forward pass."""
        if value == name:
            return
        self.parts.forward += assigned(name, value)

    def set_output(self, value: Argument) -> None:
        """Sets the first output, if anything reads it."""
        if self.read(0):
            self.assign(self.y, value)

    def apply_steps(self, *steps: Step | None, x: str = "", y: str = "") -> None:
        """Sets the first output to the result of the steps on the input, one or more per line."""
        value: str | CallExpr = x or self.x
        y = y or self.y
        if y == "_":
            return
        for step in filter(None, steps):
            longer = step(str(value))
            if isinstance(value, CallExpr) and len(f"        {y} = {longer}") > WIDTH:
                self.assign(y, value)
                longer = step(y)
            value = longer
        self.assign(y, value)

    def chain(self, sign: str, *terms: str, y: str = "") -> None:
        """Sets the first output to terms with an operator between them, one per line if needed."""
        y, pad, text = y or self.y, " " * 8, f" {sign} ".join(terms)
        if y == "_":
            return
        if len(f"{pad}{y} = {text}") <= WIDTH:
            self.assign(y, text)
            return
        if "(" in terms[0]:
            # a formatter would break the call before the sign
            self.assign(y, terms[0])
            for term in terms[1:]:
                self.assign(y, f"{y} {sign} {term}")
            return
        short = len(text) + 12 <= WIDTH
        inner = [text] if short else [terms[0], *(f"{sign} {term}" for term in terms[1:])]
        self.parts.forward += [f"{pad}{y} = (", *(f"{pad}    {line}" for line in inner), f"{pad})"]

    def set_attribute(self, value: Argument) -> None:
        """Writes the attribute that holds the layer."""
        self.parts.init += statement(f"{self.module} = ", value, 8)

    def set_module(self, name: str, *args: Argument | None) -> None:
        """Writes the attribute that holds a module of PyTorch."""
        self.set_attribute(call(name, *args))

    def use_template(self, name: str, *args: Argument | None) -> None:
        """Writes the attribute that holds a layer of our own, and the reason for it."""
        self.parts.add_helper(class_source(LAYER_CELLS, name))
        self.parts.init.append(f"        # {OWN[name]}")
        self.set_module(name, *args)

    def channels_first(self) -> Step | None:
        """Moves the channels of the first input to the front, if they are not there."""
        return None if self.given_first else first(self.shape)

    def channels_last(self) -> Step | None:
        """Moves the channels of the first output to the end, if that is needed."""
        return None if self.left_first else last(self.shape)

    def mask(self, name: str, x: str) -> str:
        """Returns the variable of a mask of `x`, checked if it comes from the caller."""
        if name in self.parts.inputs:
            self.parts.use_template(LAYER_CELLS, "fitting")
            self.assign(name, call("fitting", name, x))
        return name

    def activation(self, name: str) -> Step | None:
        """Returns an activation as a step, None for no activation."""
        if name in OVER_LAST_AXIS:
            return applied(named(f"torch.{name}"), ("dim", "-1"))
        return None if name == "linear" else applied(self.function(name))

    def function(self, activation: str) -> str:
        """Returns the expression for an activation; adds the helper that it needs."""
        expression, helper = FUNCTIONS[activation]
        if helper:
            self.parts.use_template(ACTIVATION_CELLS, helper)
        return expression


def first(shape: Shape) -> Step | None:
    """Moves the channels of a sample from the last axis to the first after the batch."""
    return _moved(len(shape), 1) if len(shape) > 1 else None


def last(shape: Shape) -> Step | None:
    """Moves the channels back."""
    return _moved(1, len(shape)) if len(shape) > 1 else None


def _moved(axis: int, place: int) -> Step:
    """Moves an axis; counts from the start: torch.onnx's TorchScript movedim needs that."""
    pair = f"{axis}", f"{place}"
    return method("transpose", "1", "2") if {axis, place} == {1, 2} else method("movedim", *pair)


def some(sizes: tuple[int, ...]) -> str:
    """Returns one size where all are equal, else all.

    >>> some((2, 2)), some((2, 3)), some((1,))
    ('2', '(2, 3)', '1')
    """
    return literal(sizes[0] if len({*sizes}) == 1 else sizes)
