"""Rows of the table of mistakes: other activations, and other functions with the same weights.

In: a layer. Out: the layer with another activation inside, after or before it, another epsilon,
slope or reset gate, or a softmax over another axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from xlstm.diagnosis.altered_model import Call, Formula, Whole
from xlstm.diagnosis.hypothesis import (
    AlteredLayer,
    Mistake,
    SuspectLayer,
    called,
    first_spec,
    parts,
    pieces,
    with_options,
)
from xlstm.diagnosis.mistakes.layers.layer_order import Reordered, plain, scaled
from xlstm.errors import XlstmError
from xlstm.ir import layers as L
from xlstm.ir.activation_names import ACTIVATIONS
from xlstm.ir.graph import Edge
from xlstm.ir.types import Array
from xlstm.reference.activations import FUNCTIONS
from xlstm.reference.basic import forward
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
"""Words in sentences for activations that have more than a name."""


def words(activation: str) -> str:
    """An activation for a sentence."""
    return WORDS.get(activation, activation)


COMMON = ("linear", "tanh", "sigmoid", "relu", "softmax", *HARD, *GELU)
"""Activations that are worth a try together with other mistakes."""


def optioned(site: SuspectLayer, text: str, fix: str, **options: Any) -> Iterator[AlteredLayer]:
    """The layer with other options, in all its pieces or in one."""
    names = {value for value in options.values() if isinstance(value, str)}
    rare = bool(names & {*ACTIVATIONS} - {*COMMON})
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
        said = f"{text.format(**shown)}{where}.", fix.format(**shown), f"{options}{where}"
        yield site.altered(*said, rare=rare or bool(where), spec=spec)


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
            what = "gates are" if gates else "activation is"
            for new in ACTIVATIONS if olds else ():
                if any(cause_of(old, new, gates) == cause for old in olds - {new}):
                    text = f"Your {what} {words(new)}; a has {{was_{name}}}"
                    yield from optioned(site, text, f"Use {{was_{name}}}.", **{name: new})

    return Mistake(cause, alter)


def _formula(site: SuspectLayer, use: str, formula: Formula, text: str, fix: str) -> AlteredLayer:
    own = {**site.layer.formulas, use: formula}
    return site.altered(text, fix, f"formula {use} {text}", rare=True, formulas=own)


PLAIN = (L.Relu, L.Elu, L.Softmax)
"""Layers that are activations with numbers of their own."""


def other_functions(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another activation in the place of a layer that is one."""
    for new in ACTIVATIONS if isinstance(site.spec, PLAIN) else ():
        text = f"Your activation is {words(new)}; a has {site.spec.kind}."
        yield site.altered(text, "Use a's.", rare=new not in COMMON, spec=L.Activation(new))


UNCLIPPED: dict[str, Formula] = {
    "hard_sigmoid": lambda x: x / 6 + 0.5,
    "hard_sigmoid_keras2": lambda x: x / 5 + 0.5,
}


def unclipped(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A hard_sigmoid that is not cut off at 0 and 1."""
    for name, use in (("gate_activation", "gates"), ("activation", "output")):
        old = getattr(first_spec(site.spec), name, "")
        if old in UNCLIPPED and use not in site.layer.formulas:
            text = "Your hard_sigmoid is not cut off at 0 and 1."
            yield _formula(site, use, UNCLIPPED[old], text, "Clip it to [0, 1].")


def single_uses(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another activation of the candidate alone, or of the cell state alone."""
    first = first_spec(site.spec)
    old, gated = getattr(first, "activation", ""), hasattr(first, "gate_activation")
    has_cell = all("f" in part.kind.gates for part in parts(site.spec))
    uses = ("candidate", "cell") if has_cell else ("candidate",)
    for use in uses if gated else ():
        if use in site.layer.formulas:
            continue
        for new in ("linear", "tanh", "sigmoid", "relu", "hard_sigmoid"):
            if new != old:
                text = f"Your {use}'s activation is {words(new)}; a has {words(old)}."
                yield _formula(site, use, FUNCTIONS[new], text, f"Use {words(old)} there.")


def reset_after(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """GRU's reset gate on the other side of the product."""
    specs = [s for s in pieces(site.spec)[0].specs if isinstance(s, L.GRU)]
    if specs:
        other = not specs[0].reset_after
        when = "after" if other else "before"
        text = f"Your GRU applies the reset gate {when} the recurrent product; a the other way"
        yield from optioned(site, text, f"Set reset_after={not other}.", reset_after=other)


def update_gate(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """GRU's z for 1 - z: the sigmoid of -x, and both hard ones, is 1 minus that of x."""
    found = {}
    for part in parts(site.spec):
        if isinstance(part.spec, L.GRU) and part.spec.gate_activation in GATES:
            z = part.kind.gates.index("z")
            for tensor, axes in part.kind.tensors.items():
                hub = site.hub(part, tensor)
                if hub is not None:
                    hub = hub.copy()
                    hub[(slice(None),) * axes.index("g") + (z,)] *= -1
                    found[part.before + tensor] = hub
    if found:
        text = "Your GRU computes h = z n + (1 - z) h'; a computes h = (1 - z) n + z h'."
        say = site.said(text, "Swap z and 1 - z.")
        yield site.with_tensors(found, say, "update-gate")


EPSILONS = (1e-3, 1e-5, 1e-6, 1e-4, 1e-8, 1e-7, 1e-12, 1e-2, 1e-10, 0.0, 0.1, 1.0)


def epsilons(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another epsilon, of those in use."""
    for epsilon in EPSILONS:
        text = f"Your normalisation's epsilon is {epsilon:g}; a's is {{was_epsilon}}"
        yield from optioned(site, text, "Set eps={was_epsilon}.", epsilon=epsilon)


SLOPES = (0.01, 0.1, 0.2, 0.3, 0.0, 0.05, 0.02, 0.25, 0.5)


def slopes(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """Another slope of LeakyReLU or alpha of ELU, of those in use; slope 1 is no activation."""
    own = getattr(first_spec(site.spec), "activation", "")
    for slope in SLOPES:
        text = f"Your slope below zero is {slope:g}; a's is {{was_slope}}"
        yield from optioned(site, text, "Set it to {was_slope}.", slope=slope)
        # a slope that no activation has by its name
        if own in ("relu", *LEAKY) and slope not in (0.0, 0.01, 0.2):
            text = f"Your activation is leaky_relu of slope {slope:g}; a has {words(own)}."
            below = partial(_below, slope, np.asarray)
            yield _formula(site, "output", below, text, f"Use {words(own)}.")
    for alpha in (*SLOPES, 1.0):
        text = f"Your alpha is {alpha:g}; a's is {{was_alpha}}"
        yield from optioned(site, text, "Set it to {was_alpha}.", alpha=alpha)
        if own == "elu" and alpha not in (0, 1):
            text = f"Your elu has alpha={alpha:g}; a's has 1."
            yield _formula(site, "output", partial(_below, alpha, np.expm1), text, "Use alpha=1.")


def _below(factor: float, function: Formula, x: Array) -> Array:
    """The numbers themselves from 0 on, and a function's times a factor below."""
    return np.where(x > 0, x, x.dtype.type(factor) * function(np.minimum(x, 0)))


def _batch_norm(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
    """With the mean and variance of the batch itself, as in training."""
    own: Any = spec.layer if isinstance(spec, L.TimeDistributed) else spec
    (x,) = inputs
    axes = tuple(range(x.ndim - 1))
    y = (x - x.mean(axis=axes)) / np.sqrt(x.var(axis=axes) + x.dtype.type(own.epsilon))
    return [scaled(own, y, context)]


def batchnorm_mode(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """BatchNorm with the statistics of the batch."""
    spec = first_spec(site.spec)
    if isinstance(spec, L.BatchNorm) and site.layer.call is not _batch_norm:
        text = "Your BatchNorm is in training mode: it uses the mean and variance of the batch."
        fix = "Call .eval() (training=False) before you compare."
        yield called(site, _batch_norm, text, fix)


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


SOFT = ("softmax", "log_softmax")
"""Activations that run over an axis."""


def _bare(spec: L.LayerSpec) -> L.LayerSpec:
    """A layer without its activation."""
    if isinstance(spec, L.TimeDistributed):
        return replace(spec, layer=_bare(spec.layer))
    own: Any = L.Activation("softmax") if isinstance(spec, L.Softmax) else spec
    bare: L.LayerSpec = replace(own, activation="linear")
    return bare


def _over(name: str, axis: int) -> Call:
    """A layer whose softmax runs over another axis of a batch."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        y, *more = forward(_bare(spec), inputs, context)
        return [np.moveaxis(FUNCTIONS[name](np.moveaxis(y, axis, -1)), -1, axis), *more]

    return Whole(call)


def _axis_of(site: SuspectLayer) -> tuple[str, int]:
    """The softmax of a layer and the axis of a batch that it runs over; "" where it has none."""
    axes = len(site.node.shape) + 1
    spec: Any = site.spec
    if isinstance(spec, L.Softmax):
        inner = axes - isinstance(site.node.spec, L.TimeDistributed)
        return "softmax", axes - inner + spec.axis % (inner - 1) + 1
    name = getattr(spec, "activation", "")
    alone = name in SOFT and not isinstance(spec, (L.Recurrent, L.Bidirectional))
    return name if alone else "", axes - 1


def softmax_axes(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A softmax over the batch, over time, or over another axis that is not a's."""
    name, own = _axis_of(site)
    axes = len(site.node.shape) + 1
    for axis in range(axes) if name and site.layer.call is forward else ():
        if axis != own:
            text = f"Your {name} runs over axis {axis}{_which(axis, axes)}; "
            text += f"a's runs over axis {own}{_which(own, axes)}."
            fix = f"Set dim={-1 if own == axes - 1 else own} (without a dim PyTorch takes axis 0 "
            fix += "of three axes, axis 1 of two)."
            yield called(site, _over(name, axis), text, fix, rule=f"{axis - axes}")


def _which(axis: int, axes: int) -> str:
    """An axis in words."""
    if axis == 0:
        return ", the batch"
    return ", the units" if axis == axes - 1 else (", time" if axes == 3 else "")


def _then(name: str) -> Call:
    """A layer whose output an activation is applied to."""

    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        found = forward(spec, inputs, context)
        own = spec.layer if isinstance(spec, L.TimeDistributed) else spec
        outputs = 2 if isinstance(own, L.Bidirectional) and own.merge == "none" else 1
        return [*(FUNCTIONS[name](y) for y in found[:outputs]), *found[outputs:]]

    return Whole(call)


def outside(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A recurrent layer's activation applied to what the framework's own layer gives."""
    if not isinstance(site.spec, (L.Recurrent, L.Bidirectional)) or site.layer.call is not forward:
        return
    piece = pieces(site.spec)[0]
    first: Any = piece.specs[0]
    act, gates = words(first.activation), getattr(first, "gate_activation", "")
    choices = [{"activation": "tanh"}]
    choices += [{"activation": "tanh", "gate_activation": "sigmoid"}] if gates != "sigmoid" else []
    fix = f"Compute {act} inside a cell of your own, as `xlstm.port` writes it: PyTorch's own "
    fix += "layers cannot."
    for options in choices if first.activation not in ("tanh", "linear") else ():
        specs = [with_options(spec, **options) for spec in piece.specs]
        if None not in specs:
            mine, its = "", ""
            if len(options) > 1:
                mine, its = " (its gates are sigmoid)", f" (its gates are {words(gates)})"
            text = f"{act[:1].upper()}{act[1:]} is applied to your layer's output, and tanh inside "
            text += f"it{mine}; a applies {act} inside, in every step{its}."
            spec, call = piece.rebuild(specs), _then(first.activation)
            yield site.altered(text, fix, f"outside {options}", spec=spec, call=call)


LIKELY = ("relu", "tanh", "sigmoid", "softmax")
"""Activations that are worth a try after a layer together with other mistakes."""


def extra(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """One more activation after a layer that is not linear."""
    own = getattr(first_spec(site.spec), "activation", "")
    around = isinstance(site.spec, (L.Recurrent, L.Bidirectional))
    linear = own == "linear" and not around  # there it is another activation
    some = parts(site.spec) or isinstance(site.spec, (L.Activation, *PLAIN))
    edge, after = (
        Edge(site.node.name),
        f", after its own {words(own)}" if own and not around else "",
    )
    readers = site.model.readers(edge)
    if len(readers) == 1 and edge not in site.model.returned:
        after += f", between it and {readers[0].name}"
    for name in ACTIVATIONS[1:] if some and not linear and site.layer.call is forward else ():
        act, rare = words(name), name not in LIKELY
        text = f"{act[:1].upper()}{act[1:]} is applied to the output of your {site.node.name}"
        text += f"{after}; a has no such step."
        yield called(site, _then(name), text, "Remove it.", rare=rare, rule=name)


SOFTMAX = (Mistake("softmax-axis", softmax_axes),)

AFTER = (
    Mistake("activation-outside", outside),
    Mistake("extra-activation", extra),
)
"""Activations after a layer."""


LAYERS = (L.Dense, L.Conv, L.DepthwiseConv)
"""Layers with an activation of their output, which is easily put around their input."""


def _before(name: str) -> Call:
    def call(spec: L.LayerSpec, inputs: list[Array], context: Context) -> list[Array]:
        own: Any = spec
        if own.activation == "linear":
            raise ValueError("seen without its activation")
        return forward(replace(own, activation="linear"), [FUNCTIONS[name](inputs[0])], context)

    return call


def own_activation(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer's activation that its input goes through, and its output does not."""
    spec, name = site.spec, site.node.name
    if not isinstance(spec, LAYERS) or spec.activation == "linear":
        return
    if site.layer.call is forward and len(site.node.inputs) == 1:
        act = words(spec.activation)
        text = f"The activation of your {name}, {act}, is applied before the layer, to its input;"
        call, fix = _before(spec.activation), f"Apply {act} to the output of {name}."
        yield called(site, call, f"{text} a applies it after.", fix)


def layer_after(site: SuspectLayer) -> Iterator[AlteredLayer]:
    """A layer that is an activation, and comes before the layer that it follows."""
    node, model = site.node, site.model
    if not isinstance(site.spec, (L.Activation, *PLAIN)) or len(node.inputs) != 1:
        return
    before = model.node(node.inputs[0].node)
    spec = before.spec.layer if isinstance(before.spec, L.TimeDistributed) else before.spec
    if isinstance(spec, LAYERS) and len(before.inputs) == 1 and before.mask is None:
        text = f"Your activation {node.name} is applied before {before.name}; a applies it after."
        order = Reordered((before.inputs[0],), lambda own, x: plain(model, before, own(x)))
        yield called(site, order, text, f"Put {node.name} after {before.name}.")


MOVED = (
    Mistake("activation-place", own_activation),
    Mistake("activation-place", layer_after),
)
