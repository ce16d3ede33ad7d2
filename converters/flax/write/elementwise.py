"""Writes layers that work on every number alone, and normalisations, as Flax source.

In: a spec and its variables. Out: lines of the emitted module. `Dense(3, 2)`, named a, for NNX:

    self.a = nnx.Linear(3, 2, **options)
    x = self.a(x)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.literals import literal, named

from ...codegen.source import Argument, CallExpr, call
from .dialect import CELLS, WRITERS, Dialect, FlaxLayerWriter


def dense_made(spec: L.Dense, dialect: Dialect) -> CallExpr:
    """Returns the constructor of a dense layer."""
    bias = None if spec.use_bias else ("use_bias", "False")
    features = None if dialect.functional else literal(spec.features)
    return dialect.made(dialect.dense, features, literal(spec.units), bias)


@WRITERS.of(L.Dense)
def dense(spec: L.Dense, at: FlaxLayerWriter) -> None:
    """A product over the last axis, then an activation."""
    at.set_attribute(dense_made(spec, at.dialect))
    at.set_output(at.activated(at.call(), spec.activation))


@WRITERS.of(L.Dropout)
def dropout(spec: L.Dropout, at: FlaxLayerWriter) -> None:
    """Acts in training only."""
    at.set_attribute(at.dialect.dropout(spec.rate))
    at.set_output(at.call(at.x, at.dialect.training("deterministic")))


SPATIAL = {"SpatialDropout1D": 1, "SpatialDropout2D": 2, "SpatialDropout3D": 3}
"""Layers that drop whole channels, and how many axes share one draw."""


@WRITERS.of(L.TrainingOnly)
def training_only(spec: L.TrainingOnly, at: FlaxLayerWriter) -> None:
    """Dropout of whole channels, where Flax has it; other layers become the identity."""
    if spec.layer in SPATIAL:
        axes = tuple(range(at.lead, at.lead + SPATIAL[spec.layer]))
        at.set_attribute(at.dialect.dropout(spec.rate, ("broadcast_dims", literal(axes))))
        at.set_output(at.call(at.x, at.dialect.training("deterministic")))
        return
    layer = call(named(spec.layer), literal(spec.rate))
    at.parts.forward.append(f"        # {layer} acts in training only")
    at.set_output(at.x)


@WRITERS.of(L.Augmentation)
def augmentation(spec: L.Augmentation, at: FlaxLayerWriter) -> None:
    """Changes images in training only; Flax has no such layer."""
    at.parts.forward.append(f"        # {named(spec.layer)} acts in training only")
    at.set_output(at.x)


@WRITERS.of(L.Activation)
def activation(spec: L.Activation, at: FlaxLayerWriter) -> None:
    """A lone activation."""
    at.set_output(at.activated(at.x, spec.activation))


def number(value: float) -> str:
    """Returns a number as source text; integers get a point, to stay floats.

    >>> number(3), number(float("inf"))
    ('3.0', 'float("inf")')
    """
    return literal(float(value))


@WRITERS.of(L.Relu)
def relu(spec: L.Relu, at: FlaxLayerWriter) -> None:
    """A slope up to a threshold, and perhaps a maximum."""
    m, x = at.dialect.module, at.x
    top = None if spec.top is None else number(spec.top)
    if not spec.threshold and (top is None or not spec.slope):
        if spec.slope:
            slope = ("negative_slope", number(spec.slope))
            at.set_output(call(f"{m}.leaky_relu", x, slope))
        else:
            at.set_output(call(f"{m}.relu", x) if top is None else call("jnp.clip", x, "0.0", top))
        return
    threshold = number(spec.threshold)
    high: Argument = x if top is None else call("jnp.minimum", x, top)
    less = f"({x} - {threshold})" if spec.threshold else x
    low = f"{number(spec.slope)} * {less}" if spec.slope else "0.0"
    at.set_output(call("jnp.where", f"{x} > {threshold}", high, low))


@WRITERS.of(L.PRelu)
def prelu(spec: L.PRelu, at: FlaxLayerWriter) -> None:
    """A learned slope below zero."""
    at.use_template("PReLU", literal(spec.shape))
    at.set_output(at.call())


@WRITERS.of(L.Elu)
def elu(spec: L.Elu, at: FlaxLayerWriter) -> None:
    """An exponential below zero."""
    alpha = None if spec.alpha == 1 else ("alpha", number(spec.alpha))
    at.set_output(call(f"{at.dialect.module}.elu", at.x, alpha))


@WRITERS.of(L.Softmax)
def softmax(spec: L.Softmax, at: FlaxLayerWriter) -> None:
    """Over one axis."""
    axis = None if spec.axis == -1 else ("axis", literal(at.axis(spec.axis)))
    at.set_output(call(f"{at.dialect.module}.softmax", at.x, axis))


@WRITERS.of(L.Affine)
def affine(spec: L.Affine, at: FlaxLayerWriter) -> None:
    """A fixed line."""
    if spec.scale == -1:
        at.set_output(f"{number(spec.offset)} - {at.x}" if spec.offset else f"-{at.x}")
        return
    value = at.x if spec.scale == 1 else f"{at.x} * {number(spec.scale)}"
    if spec.offset:
        value += f" {'-' if spec.offset < 0 else '+'} {number(abs(spec.offset))}"
    at.set_output(value)


FUNCTIONS = {"reciprocal": "1.0 / {x}", "negative": "-{x}"}
"""Functions with an operator; the others have the same name in `jax.numpy`."""


@WRITERS.of(L.Function)
def function(spec: L.Function, at: FlaxLayerWriter) -> None:
    """A plain function."""
    at.set_output(FUNCTIONS.get(spec.name, f"jnp.{named(spec.name)}({{x}})").format(x=at.x))


@WRITERS.of(L.NotEqual)
def not_equal(spec: L.NotEqual, at: FlaxLayerWriter) -> None:
    """A mask."""
    at.set_output(f"{at.x} != {number(spec.value)}")


@WRITERS.of(L.Masking)
def masking(spec: L.Masking, at: FlaxLayerWriter) -> None:
    """Zeros at masked steps, and the mask."""
    kept = f"({at.x} != {number(spec.value)}).any(axis=-1)"
    if at.site.read(1):
        at.assign(at.site.outputs[1], kept)
        kept = at.site.outputs[1]
    at.set_output(call("jnp.where", f"{kept}[..., None]", at.x, "0"))


@WRITERS.of(L.Embedding)
def embedding(spec: L.Embedding, at: FlaxLayerWriter) -> None:
    """Rows of a table; fractions are cut off, since Flax takes no floats."""
    at.layer("Embed", literal(spec.rows), literal(spec.units))
    if spec.mask_zero and at.site.read(1):
        at.assign(at.site.outputs[1], f"{at.x} != 0")
    at.set_output(at.call(f"{at.x}.astype(jnp.int32)"))


def _learned(spec: L.BatchNorm | L.LayerNorm) -> tuple[Argument | None, ...]:
    return (
        ("epsilon", number(spec.epsilon)),
        None if spec.center else ("use_bias", "False"),
        None if spec.scale else ("use_scale", "False"),
        # the fast variance loses digits
        ("use_fast_variance", "False"),
    )


@WRITERS.of(L.BatchNorm)
def batch_norm(spec: L.BatchNorm, at: FlaxLayerWriter) -> None:
    """Uses the statistics of training."""
    momentum = None if spec.momentum == 0.99 else ("momentum", number(spec.momentum))
    at.layer("BatchNorm", at.sized(spec.features), momentum, *_learned(spec))
    at.set_output(at.call(at.x, at.dialect.training("use_running_average")))


@WRITERS.of(L.LayerNorm)
def layer_norm(spec: L.LayerNorm, at: FlaxLayerWriter) -> None:
    """Uses the mean and variance of each sample."""
    groups = ("num_groups", literal(spec.groups)) if spec.groups else None
    name = "GroupNorm" if groups else "LayerNorm"
    at.layer(name, at.sized(spec.features), groups, *_learned(spec))
    at.set_output(at.call())


@WRITERS.of(L.RMSNorm)
def rms_norm(spec: L.RMSNorm, at: FlaxLayerWriter) -> None:
    """Uses the mean square of the last axis."""
    scale = None if spec.scale else ("use_scale", "False")
    at.layer("RMSNorm", at.sized(spec.features), ("epsilon", number(spec.epsilon)), scale)
    at.set_output(at.call())


@WRITERS.of(L.UnitNorm)
def unit_norm(spec: L.UnitNorm, at: FlaxLayerWriter) -> None:
    """Divides by the length along the last axis."""
    at.parts.use_template(CELLS, "unit")
    at.set_output(call("unit", at.x, "-1", literal(spec.floor)))


@WRITERS.of(L.Normalization)
def normalization(spec: L.Normalization, at: FlaxLayerWriter) -> None:
    """Uses the mean and variance of data."""
    at.use_template("Denormalization" if spec.invert else "Normalization", literal(spec.features))
    at.set_output(at.call())
