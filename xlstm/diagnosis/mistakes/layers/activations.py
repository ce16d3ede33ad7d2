"""Rows of the table of causes: another function of the layer, its weights unchanged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from functools import partial
from typing import Any

import numpy as np

from xlstm.diagnosis.hypothesis.altered_model import Formula
from xlstm.diagnosis.hypothesis.hypothesis import (
    AlteredLayer,
    Mistake,
    SuspectLayer,
    parts,
    pieces,
    with_tensors,
)
from xlstm.errors import XlstmError
from xlstm.ir.activation_names import ACTIVATIONS
from xlstm.ir.layers import (
    GRU,
    Activation,
    BatchNorm,
    Elu,
    LayerSpec,
    Relu,
    Softmax,
    TimeDistributed,
)
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.context import Context

HARD = ("hard_sigmoid", "hard_sigmoid_keras2")
GATES = ("sigmoid", *HARD)
GELU = ("gelu", "gelu_tanh")
LEAKY = ("leaky_relu", "leaky_relu_01")

WORDS = {
    "hard_sigmoid": "hard_sigmoid of Keras 3 and PyTorch, clip(x/6 + 1/2, 0, 1)",
    "hard_sigmoid_keras2": "hard_sigmoid of Keras 1 and 2, clip(x/5 + 1/2, 0, 1)",
    "gelu": "gelu by erf",
    "gelu_tanh": "gelu approximated by tanh",
    "leaky_relu": "leaky_relu of slope 0.2",
    "leaky_relu_01": "leaky_relu of slope 0.01",
    "linear": "no activation",
}
"""What sentences call activations that have more than a name."""


def words(activation: str) -> str:
    """An activation for a sentence."""
    return WORDS.get(activation, activation)


def with_options(spec: LayerSpec, **options: Any) -> LayerSpec | None:
    """A spec with other options, None where it has none of that name or refuses the value."""
    known = {field.name for field in fields(spec)}
    if not options.keys() <= known or all(getattr(spec, k) == v for k, v in options.items()):
        return None
    try:
        return replace(spec, **options)
    except XlstmError:
        return None


COMMON = ("linear", "tanh", "sigmoid", "relu", "softmax", *HARD, *GELU)
"""Activations that are worth a try together with other mistakes."""


def optioned(site: SuspectLayer, text: str, fix: str, **options: Any) -> Iterator[AlteredLayer]:
    """The layer with other options, in all its pieces or in one."""
    rare = any(
        isinstance(v, str) and v in ACTIVATIONS and v not in COMMON for v in options.values()
    )
    for where, specs, rebuild in pieces(site.spec):
        found = [with_options(spec, **options) for spec in specs]
        if None in found:
            continue
        try:
            spec = rebuild([spec for spec in found if spec is not None])
        except XlstmError:
            continue
        was = {name: getattr(specs[0], name) for name in options}
        shown = {f"was_{name}": words(str(value)) for name, value in was.items()}
        own = text.format(**shown)
        say = site.said(f"{own}{where}.", fix.format(**shown))
        layer = replace(site.layer, spec=spec)
        yield AlteredLayer(layer, say, f"{options}{where}", rare=rare or bool(where))


def cause_of(old: str, new: str, gates: bool) -> str:
    """The id of one activation taken for another."""
    for cause, family in (("gelu", GELU), ("slope", LEAKY)):
        if old in family and new in family:
            return cause
    if old in GATES and new in GATES:
        return "hard-sigmoid"
    return "gate-activation" if gates else "activation"


def _activations(cause: str) -> Mistake:
    def alter(site: SuspectLayer) -> Iterator[AlteredLayer]:
        for name in ("gate_activation", "activation"):
            olds = {getattr(s, name, "") for s in pieces(site.spec)[0].specs} - {""}
            gates = name == "gate_activation"
            for new in ACTIVATIONS if olds else ():
                if any(cause_of(old, new, gates) == cause for old in olds - {new}):
                    what = "gates" if gates else "activation"
                    verb = "are" if gates else "is"
                    text = f"Your {what} {verb} {words(new)}; a has {{was_{name}}}"
                    yield from optioned(site, text, f"Use {{was_{name}}}.", **{name: new})

    return Mistake(cause, alter)


def _formula(site: SuspectLayer, use: str, formula: Formula, text: str, fix: str) -> AlteredLayer:
    layer = replace(site.layer, formulas={**site.layer.formulas, use: formula})
    return AlteredLayer(layer, site.said(text, fix), f"formula {use} {text}", rare=True)


PLAIN = (Relu, Elu, Softmax)
"""Layers that are activations with numbers of their own."""


def other_functions(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another activation in the place of a layer that is one."""
    for new in ACTIVATIONS if isinstance(site.spec, PLAIN) else ():
        text = f"Your activation is {words(new)}; a has {site.spec.kind}."
        layer = replace(site.layer, spec=Activation(new))
        yield AlteredLayer(layer, site.said(text, "Use a's."), text, rare=new not in COMMON)


UNCLIPPED: dict[str, Formula] = {
    "hard_sigmoid": lambda x: x / 6 + 0.5,
    "hard_sigmoid_keras2": lambda x: x / 5 + 0.5,
}


def unclipped(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A hard_sigmoid that is not cut off at 0 and 1."""
    for name, use in (("gate_activation", "gates"), ("activation", "output")):
        old = getattr(pieces(site.spec)[0].specs[0], name, "")
        if old in UNCLIPPED and use not in site.layer.formulas:
            text = "Your hard_sigmoid is not cut off at 0 and 1."
            yield _formula(site, use, UNCLIPPED[old], text, "Clip it to [0, 1].")


def single_uses(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another activation of the candidate alone, or of the cell state alone."""
    old = getattr(pieces(site.spec)[0].specs[0], "activation", "")
    gated = hasattr(pieces(site.spec)[0].specs[0], "gate_activation")
    for use in ("candidate", "cell") if gated else ():
        if use in site.layer.formulas or (use == "cell" and not _has_cell(site)):
            continue
        for new in ("linear", "tanh", "sigmoid", "relu", "hard_sigmoid"):
            if new != old:
                text = f"Your {use}'s activation is {words(new)}; a has {words(old)}."
                yield _formula(site, use, FUNCTIONS[new], text, f"Use {words(old)} there.")


def _has_cell(site: SuspectLayer) -> bool:
    return all("f" in part.kind.gates for part in parts(site.spec))


def reset_after(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """GRU's reset gate on the other side of the product."""
    specs = [s for s in pieces(site.spec)[0].specs if isinstance(s, GRU)]
    if specs:
        other = not specs[0].reset_after
        when = "after" if other else "before"
        text = f"Your GRU applies the reset gate {when} the recurrent product; a the other way"
        yield from optioned(site, text, f"Set reset_after={not other}.", reset_after=other)


def update_gate(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """GRU's z for 1 - z: the sigmoid of -x, and both hard ones, is 1 minus that of x."""
    found = {}
    for part in parts(site.spec):
        if isinstance(part.spec, GRU) and part.spec.gate_activation in GATES:
            z = part.kind.gates.index("z")
            for tensor in part.kind.tensors:
                hub = site.layer.weights.get(part.before + tensor)
                if hub is not None:
                    hub = hub.copy()
                    hub[(slice(None),) * part.kind.tensors[tensor].index("g") + (z,)] *= -1
                    found[part.before + tensor] = hub
    if found:
        text = "Your GRU computes h = z n + (1 - z) h'; a computes h = (1 - z) n + z h'."
        say = site.said(text, "Swap z and 1 - z.")
        yield AlteredLayer(with_tensors(site.layer, found), say, "update-gate", tuple(found))


EPSILONS = (1e-3, 1e-5, 1e-6, 1e-4, 1e-8, 1e-7, 1e-12, 1e-2, 1e-10, 0.0, 0.1, 1.0)


def epsilons(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another epsilon, of those in use."""
    for epsilon in EPSILONS:
        text = f"Your normalisation's epsilon is {epsilon:g}; a's is {{was_epsilon}}"
        yield from optioned(site, text, "Set eps={was_epsilon}.", epsilon=epsilon)


SLOPES = (0.01, 0.1, 0.2, 0.3, 0.0, 0.05, 0.02, 0.25, 0.5)


def slopes(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another slope of LeakyReLU or alpha of ELU, of those in use; slope 1 is no activation."""
    for slope in SLOPES:
        text = f"Your slope below zero is {slope:g}; a's is {{was_slope}}"
        yield from optioned(site, text, "Set it to {was_slope}.", slope=slope)
        yield from _leaky(site, slope)
    for alpha in (*SLOPES, 1.0):
        text = f"Your alpha is {alpha:g}; a's is {{was_alpha}}"
        yield from optioned(site, text, "Set it to {was_alpha}.", alpha=alpha)
        yield from _alphas(site, alpha)


def _leaky(site: SuspectLayer, slope: float) -> Iterator[AlteredLayer]:
    """A relu, leaky or not, with a slope below zero that no activation has by its name."""
    spec = pieces(site.spec)[0].specs[0]
    own = getattr(spec, "activation", "")
    if own in ("relu", *LEAKY) and slope not in (0.0, 0.01, 0.2):
        text = f"Your activation is leaky_relu of slope {slope:g}; a has {words(own)}."
        yield _formula(site, "output", partial(_below, slope), text, f"Use {words(own)}.")


def _alphas(site: SuspectLayer, alpha: float) -> Iterator[AlteredLayer]:
    """An elu of another alpha than 1."""
    if getattr(pieces(site.spec)[0].specs[0], "activation", "") == "elu" and alpha not in (0, 1):
        text = f"Your elu has alpha={alpha:g}; a's has 1."
        yield _formula(site, "output", partial(_curved, alpha), text, "Use alpha=1.")


def _curved(alpha: float, x: Array) -> Array:
    return np.where(x > 0, x, x.dtype.type(alpha) * np.expm1(np.minimum(x, 0)))


def _below(slope: float, x: Array) -> Array:
    return np.where(x > 0, x, x.dtype.type(slope) * x)


def _batch_norm(spec: LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    """With the mean and variance of the batch itself, as in training."""
    own: Any = spec.layer if isinstance(spec, TimeDistributed) else spec
    (x,) = inputs
    axes = tuple(range(x.ndim - 1))
    y = (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + x.dtype.type(own.epsilon))
    y = y * context.weights["gamma"] if own.scale else y
    return [y + context.weights["beta"] if own.center else y]


def batchnorm_mode(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """BatchNorm with the statistics of the batch."""
    spec = pieces(site.spec)[0].specs[0]
    if isinstance(spec, BatchNorm) and site.layer.call is not _batch_norm:
        text = "Your BatchNorm is in training mode: it uses the mean and variance of the batch."
        say = site.said(text, "Call .eval() (training=False) before you compare.")
        yield AlteredLayer(replace(site.layer, call=_batch_norm), say, "batchnorm-mode")


MOMENTS = ("momentum",)
"""Options that act in training only: compared, where both are known, and never run."""

ROWS = (
    _activations("hard-sigmoid"),
    Mistake("hard-sigmoid", unclipped),
    _activations("gelu"),
    _activations("slope"),
    Mistake("slope", slopes),
    Mistake("epsilon", epsilons),
    Mistake("batchnorm-mode", batchnorm_mode),
    Mistake("reset-after", reset_after),
    Mistake("update-gate", update_gate),
    _activations("activation"),
)
"""Another function of a layer, the usual ones."""

LATER = (
    _activations("gate-activation"),
    Mistake("activation", single_uses),
    Mistake("activation", other_functions),
)
"""The rest: they come after mistakes in weights and options."""
