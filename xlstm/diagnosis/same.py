"""`same`: are two files the same model, up to layout and framework?

In: two files, folders or live objects. Out: a `Sameness`, true or false. No framework runs: the
float64 reference computes both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xlstm.diagnosis.diagnose import diagnose
from xlstm.diagnosis.hypothesis import parts
from xlstm.diagnosis.pairing.tensors import pair_arrays, pair_models
from xlstm.diagnosis.pairing.weights import Hub, differing, facts
from xlstm.diagnosis.result import Diagnosis, Unexplained
from xlstm.diagnosis.suspect.models import Suspect, suspect
from xlstm.diagnosis.unseen_options import unseen_options
from xlstm.errors import UsageError, printable
from xlstm.ir.graph import Model, Node
from xlstm.ir.types import Array
from xlstm.slots import split_bias_sides
from xlstm.verification.inputs import MEMORY
from xlstm.verification.progress import Tell, silent
from xlstm.verification.report import Compared

IDENTICAL, ROUNDED, DIFFERENT, UNKNOWN = "identical", "rounded", "different", "unknown"
"""Relations of two models' weights: the same bits, the same numbers in the lower of two
precisions, other numbers, and not known."""

WORDS = {
    IDENTICAL: "the weights are equal",
    ROUNDED: "the weights are equal up to the rounding of one file",
    DIFFERENT: "the weights differ",
    UNKNOWN: "the weights could not be compared one by one",
}


@dataclass(frozen=True, repr=False)
class Sameness(Compared):
    """The relation of two models.

    Attributes:
        a: the first, in words.
        b: the second, in words.
        weights: "identical", "rounded", "different" or "unknown".
        diagnosis: of b against a; its `compared` tells if outputs were compared.
        options: a sentence for each option that differs and that no output may show.
    """

    a: str
    b: str
    weights: str
    diagnosis: Diagnosis
    options: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """True if both are the same model."""
        return self.diagnosis.ok and self.weights != DIFFERENT and not self.options

    def summary(self) -> str:
        """Returns one line: the same model or different ones, and what tells."""
        ran = "outputs" in self.diagnosis.compared
        if not self.ok:
            outputs = "; the outputs differ" if ran and not self.diagnosis.ok else ""
            options = "; options of layers differ" if self.options else ""
            return f"Different models: {WORDS[self.weights]}{outputs}{options}."
        if ran and self.weights == IDENTICAL:
            return "The same model: the weights and the outputs are equal."
        outputs = "; the outputs are equal up to rounding" if ran else "; nothing was run"
        return f"The same model: {WORDS[self.weights]}{outputs}."

    def to_json(self) -> dict[str, Any]:
        """Returns the relation as plain data."""
        both = {"a": self.a, "b": self.b, "weights": self.weights, "options": [*self.options]}
        return {"same": self.ok, **both, "diagnosis": self.diagnosis.to_json()}

    def __str__(self) -> str:
        lines = [self.summary(), f"a: {self.a}", f"b: {self.b}"]
        found = self.diagnosis
        lines += [f"{one.layer or 'model'}: {one.text}" for one in found.findings]
        lines += [one.text for one in found.unexplained]
        lines += self.options
        if not self.diagnosis.ok or self.weights == DIFFERENT:
            lines.append("For the causes: xlstm diagnose A B")
        return "\n".join(map(printable, lines))


def same(a: Any, b: Any, *, memory: float = MEMORY, progress: Tell = silent) -> Sameness:
    """Compares two models by weights, outputs and options; layout and framework do not count.

    Options that act in training only, such as the rate of a dropout, do not count either.

    Args:
        a: anything that `xlstm.load` takes, or named arrays.
        b: likewise; one of the two has to be a whole model.
        memory: bytes that runs may take, as in `xlstm.reconcile`.
        progress: is called with one line of text for each step.

    Returns:
        The relation; it is true where both are the same model.

    Raises:
        XlstmError: a file cannot be read; both are weights alone, of different names.

    >>> from xlstm import demo
    >>> print(same(demo.path(), demo.path()).summary())
    The same model: the weights and the outputs are equal.
    """
    first, second = suspect(a), suspect(b)
    if first.model is None and second.model is None:
        return _of_arrays(first, second)
    if first.model is None:
        found = same(b, a, memory=memory, progress=progress)
        return replace(found, a=found.b, b=found.a)  # no graph of b: no options
    diagnosis = diagnose(a, b, memory=memory, effort=0, progress=progress)
    weights = _weights(first.model, second)
    options = unseen_options(first.model, second.model) if second.model is not None else ()
    if diagnosis.causes == ("nan",) and weights == IDENTICAL and _one_graph(first, second):
        diagnosis = Diagnosis(diagnosis.a, diagnosis.b, compared=("weights",))
    return Sameness(first.title, second.title, weights, diagnosis, options)


def _one_graph(first: Suspect, second: Suspect) -> bool:
    """True if two models have the same layers with the same options and connections."""
    a, b = first.model, second.model
    if a is None or b is None:
        return False
    return (a.nodes, a.inputs, a.outputs) == (b.nodes, b.inputs, b.outputs)


def _weights(model: Model, other: Suspect) -> str:
    """The relation of a model's weights to those of another, of which graph or arrays are known."""
    if other.model is not None:
        paired = pair_models(model, other.model, None)
    elif other.arrays:
        paired = pair_arrays(model, other.arrays, [other.adapter] if other.adapter else None)
    else:
        return UNKNOWN
    known = facts(model, paired)
    owners = [name for name, own in model.weights.items() if own]
    if any(name not in known for name in owners):
        return UNKNOWN
    nodes = (model.node(name) for name in owners)
    if any(differing(model, node, model.weights[node.name], known[node.name]) for node in nodes):
        return DIFFERENT
    nodes = (model.node(name) for name in owners)
    equal = (_equal(node, model.weights[node.name], known[node.name]) for node in nodes)
    return IDENTICAL if all(equal) else ROUNDED


def _equal(node: Node, own: Hub, other: Hub) -> bool:
    """True if two layers have the same numbers bit for bit; of two biases the sum counts."""
    for part in parts(node.spec):
        for tensor, axes in part.kind.tensors.items():
            x, y = own.get(part.before + tensor), other.get(part.before + tensor)
            if x is None or y is None:
                continue  # `differing` has compared it with zeros
            if "s" in axes:
                x, y = split_bias_sides(part.kind, x), split_bias_sides(part.kind, y)
            if not np.array_equal(x, y, equal_nan=True):
                return False
    return True


def _of_arrays(first: Suspect, second: Suspect) -> Sameness:
    """The relation of two state dicts, which have no graph: by name.

    Raises:
        UsageError: their names differ, so nothing tells which tensors belong together.
    """
    one, two = first.arrays or {}, second.arrays or {}
    if one.keys() != two.keys():
        want = "a whole model, or two sets of arrays with the same names"
        do = "pass the model of one of them, or a port of it"
        raise UsageError("same", want, f"{first.title} and {second.title}", do)
    wrong = [name for name in one if not np.array_equal(one[name], two[name], equal_nan=True)]
    left = tuple(_unlike(name, one[name], two[name]) for name in wrong)
    diagnosis = Diagnosis(first.title, second.title, unexplained=left, compared=("weights",))
    return Sameness(first.title, second.title, DIFFERENT if wrong else IDENTICAL, diagnosis)


def _unlike(name: str, a: Array, b: Array) -> Unexplained:
    """The difference of two tensors of one name."""
    if a.shape != b.shape:
        text = f"{name} has shape {a.shape} in a and {b.shape} in b"
        return Unexplained(name, None, float("inf"), text)
    gap = float(np.abs(np.asarray(a, float) - b).max(initial=0.0))
    return Unexplained(name, None, gap, f"{name} differs by up to {gap:.3g}")
