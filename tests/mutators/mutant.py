"""What a mutant is, and how a port is judged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import first_gap
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.verification import inputs as generated
from xlstm.verification.bounds import DIFFERENT, FAILED, Bounds, Verdict, bounds, judge, worst_of

DTYPES = ("float32", "float64")

Port = Callable[[str], Any]
"""dtype -> the live object that computes in it."""


@dataclass(frozen=True)
class Mutant:
    """One wrong port.

    Attributes:
        kind: the kind of error, a row of the table.
        name: which one it is.
        model: what was to be ported.
        port: the wrong port.
        right: the same port without the error.
        framework: whose it is.
        layer: where the error lies.
        causes: what `diagnose` may call it; any one of them is right.
        words: what the sentence that names the cause has to say, such as the order of the gates.
        named: whether its weights have the names and shapes of our port.
        weights_only: whether only weights were changed, so that it is another function for sure.
    """

    kind: str
    name: str
    model: Model
    port: Port = field(repr=False)
    right: Port = field(repr=False)
    framework: str = "torch"
    layer: str = ""
    causes: tuple[str, ...] = ()
    words: str = ""
    named: bool = True
    weights_only: bool = False


def inputs_of(model: Model) -> tuple[list[Array], list[str]]:
    """The product's inputs, as short as it takes to decide some step, and what they leave out."""
    arrays, left = generated.chosen(model)
    for steps in generated.shorter(generated.STEPS) if generated.has_free_axis(model) else ():
        if all(found.sharp.any() for found in bounds(model, arrays, "float64")):
            break
        arrays, left = generated.chosen(model, steps)
    return arrays, left


class Judge:
    """The product's inputs and bounds for one model, kept for all its ports."""

    def __init__(self, model: Model, inputs: list[Array] | None = None) -> None:
        self.model = model
        self.inputs, self.unexercised = (inputs, []) if inputs else inputs_of(model)
        self.allowed: dict[str, list[Bounds]] = {d: bounds(model, self.inputs, d) for d in DTYPES}

    def outputs(self, port: Port, framework: str) -> dict[str, Verdict]:
        """Verdicts by the outputs alone."""
        return {dtype: self._verdict(port, framework, dtype) for dtype in DTYPES}

    def _verdict(self, port: Port, framework: str, dtype: str) -> Verdict:
        live: Any = registry.adapter(framework).live()
        try:
            found = live.run(port(dtype), self.inputs, dtype)
        except Exception as error:  # noqa: BLE001  a wrong port may fail in any way
            return Verdict(FAILED, detail=f"{type(error).__name__}: {error}")
        if len(found) != len(self.allowed[dtype]):
            return Verdict(FAILED, detail=f"{len(found)} outputs")
        pairs = zip(found, self.allowed[dtype], self.allowed["float64"], strict=True)
        return worst_of([judge(y, mine, exact, dtype) for y, mine, exact in pairs])

    def weights(self, port: Port, framework: str) -> str:
        """The first tensor that is not the source's, as the product compares them; "" for none."""
        adapter = registry.adapter(framework)
        live: Any = adapter.live()
        return first_gap(self.model, adapter, live.weights(port("float32")), "float32")


def is_caught(verdicts: dict[str, Verdict]) -> bool:
    """Whether outputs alone show that a port is wrong."""
    return any(v.verdict in (DIFFERENT, FAILED) for v in verdicts.values())


BATCHES = ((1.0, 11), (8.0, 12), (64.0, 13))
"""Scale and seed of the batches that say whether two functions are one; no verdict uses them."""


def other_inputs(model: Model, scale: float, seed: int) -> list[Array]:
    """64 rows of normal numbers, whole numbers and masks, made without the product's inputs."""
    rng = np.random.default_rng(seed)
    made = []
    tables = [n.spec.rows for n in model.layers if n.spec.kind == "Embedding"]  # type: ignore[attr-defined]
    for name in model.inputs:
        node = model.node(name)
        shape = (64, *(12 if size is None else size for size in node.shape))
        kind = getattr(node.spec, "dtype", "float32")
        if kind == "bool":
            made.append(rng.random(shape) < 0.7)
        elif tables and "int" in kind:
            made.append(rng.integers(0, min(tables), shape).astype(np.float32))
        else:
            x = scale * rng.standard_normal(shape)
            # whole steps of zeros, for layers that skip them
            x = np.where(rng.random((*shape[:2], *(1,) * (len(shape) - 2))) < 0.2, 0, x)
            made.append(x.astype(np.float32))
    return made


def is_same(mutant: Mutant) -> bool:
    """Whether the wrong port is the same function as the right one, by running both side by side.

    Neither the product's inputs nor its reference nor its bounds take part: both ports run in
    float64 on batches of their own, and count as one function if nothing differs by more than
    1e-12 of the largest output.
    """
    live: Any = registry.adapter(mutant.framework).live()
    try:
        wrong, right = mutant.port("float64"), mutant.right("float64")
        for scale, seed in BATCHES:
            inputs = other_inputs(mutant.model, scale, seed)
            pair = (live.run(made, inputs, "float64") for made in (wrong, right))
            if not all(_near(a, b) for a, b in zip(*pair, strict=True)):
                return False
    except Exception:  # noqa: BLE001  a port that fails is not the right one
        return False
    return True


def _near(a: Array, b: Array) -> bool:
    if a.shape != b.shape:
        return False
    top = max(float(np.abs(b).max(initial=0)), 1e-300)
    return bool(np.abs(a - b).max(initial=0) <= 1e-12 * top)


def spread(items: Sequence[Any], seed: int, count: int) -> list[Any]:
    """`count` of the items, other ones for another seed."""
    order = np.random.default_rng([seed, len(items)]).permutation(len(items))
    return [items[n] for n in order[:count]]
