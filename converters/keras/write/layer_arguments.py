"""Constructor arguments of layers in Keras 3 source, and refusals; imports no framework.

In: a spec. Out: first arguments of its constructor. `Permute((2, 1))`, named a, becomes

    keras.layers.Permute((2, 1), dtype=dtype, name="a")
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ctypes import c_float
from dataclasses import dataclass
from typing import Any, NamedTuple

from xlstm.ir import layers as L
from xlstm.ir.literals import literal, named

from ...codegen.source import Argument, ModuleSource
from ..activations import CELLS as ACTIVATION_CELLS
from ..activations import NAMES, STOCK

CELLS = "keras/templates/layers.py"

Arguments = tuple[Argument | None, ...]

DTYPE = ("dtype", "dtype")
"""Argument of every layer: the default dtype policy of the process is not used."""

CHANNELS_LAST = ("data_format", '"channels_last"')
"""Argument of every layer with channels: Keras's default is a setting of the machine."""


@dataclass(frozen=True)
class Around:
    """Context of a layer's constructor besides its spec.

    Attributes:
        parts: receives the helpers that it needs.
        rank: number of axes of its input, the batch's counted.
        masked: True if it uses a mask.
        trainable: True if training changes its weights.
    """

    parts: ModuleSource
    rank: int
    masked: bool = False
    trainable: bool = True

    def tail(self, *name: Argument) -> Arguments:
        """Returns last arguments of every layer; Keras's wrappers do not freeze their layer."""
        return (flag("trainable", self.trainable, True), DTYPE, *name)


def activation(name: str, parts: ModuleSource, rank: int) -> str:
    """Returns the expression for an activation of an array with `rank` axes."""
    if name in NAMES:
        return f'"{NAMES[name]}"'
    text, helper = STOCK[name]
    parts.use_template(ACTIVATION_CELLS, helper)
    return text.format(rank=rank)


def flag(keyword: str, value: bool, default: bool = False) -> Argument | None:
    """Returns a boolean argument, None for the default."""
    return None if value == default else (keyword, literal(value))


def number(value: float) -> str:
    """Returns a float as source text."""
    return literal(float(value))


def sizes(found: Sequence[int]) -> str:
    """Returns one size as a number, several as a tuple."""
    return literal(found[0] if len(found) == 1 else tuple(found))


def sharp(value: float) -> str:
    """Returns a float as source text that TensorFlow does not round in float64."""
    rounds = c_float(value).value != value
    return f"np.float64({number(value)})" if rounds else number(value)


def batch_axis(axis: int) -> str:
    """Returns an axis of a sample as an axis of a batch; the same if counted from the end."""
    return literal(axis if axis < 0 else axis + 1)


class Option(NamedTuple):
    """An argument that is one field of the spec.

    Attributes:
        keyword: name of the argument, "" for a positional one.
        field: name of the field.
        default: value for which the argument is left out, in a tuple every number; `...` for none.
        text: function that writes the value.
    """

    keyword: str
    field: str
    default: Any = ...
    text: Callable[..., str] = literal


# rows of several layers
UNITS = Option("", "units")
WINDOW = Option("", "window", text=sizes)
STRIDES = Option("strides", "strides", 1, sizes)
PADDING = Option("padding", "padding", "valid")
DILATION = Option("dilation_rate", "dilation", 1, sizes)
ACTIVATION = Option("activation", "activation", "linear", activation)
GROUPS = Option("groups", "groups", 1)
MULTIPLIER = Option("depth_multiplier", "multiplier", 1)
OUTPUT_PADDING = Option("output_padding", "output_padding", None, sizes)
TANH = Option("activation", "activation", "tanh", activation)
GATE = Option("recurrent_activation", "gate_activation", "sigmoid", activation)
BIAS = Option("use_bias", "use_bias", True)
GATES = (TANH, GATE, BIAS)
CENTERED = (Option("center", "center", True), Option("scale", "scale", True))
EPSILON = Option("epsilon", "epsilon", 1e-3, number)
AXIS = Option("axis", "axis", -1, batch_axis)
SLIDING = (STRIDES, PADDING, DILATION)
FILTERS = (ACTIVATION, BIAS, CHANNELS_LAST)
SEQUENCE = tuple(
    Option(name, name, 0)
    for name in (
        "return_sequences return_state go_backwards stateful zero_output_for_mask dropout "
        "recurrent_dropout"
    ).split()
)

FIELDS: dict[type[L.LayerSpec], tuple[Option | Argument, ...]] = {
    L.Activation: (Option("", "activation", text=activation),),
    L.Affine: (Option("", "scale", text=sharp), Option("", "offset", 0, sharp)),
    L.BatchNorm: (Option("momentum", "momentum", 0.99, number), EPSILON, *CENTERED),
    L.Concatenate: (AXIS,),
    L.Conv: (UNITS, WINDOW, *SLIDING, GROUPS, *FILTERS),
    L.ConvLSTM: (UNITS, WINDOW, STRIDES, PADDING, CHANNELS_LAST, DILATION, *GATES, *SEQUENCE),
    L.ConvTranspose: (UNITS, WINDOW, OUTPUT_PADDING, *SLIDING, *FILTERS),
    L.Dense: (UNITS, ACTIVATION, BIAS),
    L.DepthwiseConv: (WINDOW, MULTIPLIER, *SLIDING, *FILTERS),
    L.Dropout: (Option("", "rate"),),
    L.Elu: (Option("alpha", "alpha", 1, sharp),),
    L.Embedding: (Option("", "rows"), UNITS, Option("mask_zero", "mask_zero", False)),
    L.Flatten: (CHANNELS_LAST,),
    L.GRU: (UNITS, *GATES, Option("reset_after", "reset_after", True), *SEQUENCE),
    L.GlobalPool: (CHANNELS_LAST, Option("keepdims", "keep", False)),
    L.LSTM: (UNITS, *GATES, *SEQUENCE),
    L.LayerNorm: (Option("", "groups", 0), EPSILON, *CENTERED),
    L.Masking: (Option("", "value", 0, number),),
    L.Merge: (),
    L.Normalization: (Option("invert", "invert", False),),
    L.Permute: (Option("", "order"),),
    L.RMSNorm: (Option("epsilon", "epsilon", 1e-6, number),),
    L.Relu: (
        Option("max_value", "top", None, sharp),
        Option("negative_slope", "slope", 0, sharp),
        Option("threshold", "threshold", 0, sharp),
    ),
    L.RepeatVector: (Option("", "times"),),
    L.SimpleRNN: (UNITS, TANH, BIAS, *SEQUENCE),
    L.Softmax: (AXIS,),
    L.UnitNorm: (),
}
"""Spec -> the arguments of its constructor, where all are fields or always the same."""


def of_fields(spec: L.LayerSpec, around: Around) -> Arguments:
    """Returns the arguments of a layer that `FIELDS` names."""
    found: list[Argument] = []
    for option in FIELDS[type(spec)]:
        if not isinstance(option, Option):
            found.append(option)
            continue
        value = getattr(spec, option.field)
        if ({*value} if isinstance(value, tuple) else {value}) == {option.default}:
            continue
        if option.text is activation:
            # the cell of a recurrent layer sees one step
            rank = 2 if isinstance(spec, L.Recurrent) else around.rank
            text = activation(value, around.parts, rank)
        else:
            text = option.text(value)
        found.append((option.keyword, text) if option.keyword else text)
    return tuple(found)


ARGUMENTS = L.LayerFunctions(dict.fromkeys(FIELDS, of_fields))
"""Layer -> the function that gives the first arguments of its constructor."""


@ARGUMENTS.of(L.LSTM, L.GRU)
def _recurrent(spec: L.LSTM | L.GRU, around: Around) -> Arguments:
    found = of_fields(spec, around)
    own = (spec.activation, spec.gate_activation, spec.use_bias) == ("tanh", "sigmoid", True)
    # keras/src/backend/tensorflow/rnn.py takes cuDNN if it can: that raises an error for masks
    # that are not at the end of a sequence, and returns zeros at the masked steps
    if around.masked and own and getattr(spec, "reset_after", True):
        return (*found, ("use_cudnn", "False"))
    return found


@ARGUMENTS.of(L.Pool)
def _pool(spec: L.Pool, _around: Around) -> Arguments:
    strides = None if spec.strides == spec.window else ("strides", sizes(spec.strides))
    padding = None if spec.padding == "valid" else ("padding", literal(spec.padding))
    return sizes(spec.window), strides, padding, CHANNELS_LAST


@ARGUMENTS.of(L.Crop, L.Pad)
def _pairs(spec: L.Pad | L.Crop, _around: Around) -> Arguments:
    pairs = tuple(zip(spec.before, spec.after, strict=True))
    nested = isinstance(spec, L.Pad) or len(pairs) > 1
    return literal(pairs[0] if len(pairs) == 1 else pairs), CHANNELS_LAST if nested else None


@ARGUMENTS.of(L.UpSample)
def _up_sample(spec: L.UpSample, _around: Around) -> Arguments:
    return sizes(spec.times), CHANNELS_LAST if len(spec.times) > 1 else None


@ARGUMENTS.of(L.Reshape)
def _reshape(spec: L.Reshape, _around: Around) -> Arguments:
    return (literal(tuple(-1 if size is None else size for size in spec.shape)),)


def is_leaky(spec: L.Relu) -> bool:
    """True if the layer is Keras's LeakyReLU."""
    return spec.top is None and not spec.threshold and bool(spec.slope)


@ARGUMENTS.of(L.PRelu)
def _prelu(spec: L.PRelu, _around: Around) -> Arguments:
    shared = [axis for axis, size in enumerate(spec.shape, 1) if size == 1]
    return (("shared_axes", literal(shared)) if shared else None,)


@ARGUMENTS.of(L.TrainingOnly)
def _training_only(spec: L.TrainingOnly, _around: Around) -> Arguments:
    space = spec.layer in ("SpatialDropout2D", "SpatialDropout3D")
    return number(spec.rate), CHANNELS_LAST if space else None


@ARGUMENTS.of(L.Augmentation)
def _augmentation(spec: L.Augmentation, _around: Around) -> Arguments:
    return tuple((named(name), literal(value)) for name, value in spec.arguments().items())


DOT_FLOOR, UNIT_FLOOR = 1e-7, 1e-12
"""Smallest divisors of Keras 3.6 and later, in Dot and in UnitNormalization."""


@ARGUMENTS.of(L.Dot)
def _dot(spec: L.Dot, _around: Around) -> Arguments:
    native = spec.normalize and spec.floor == DOT_FLOOR
    return (("axes", literal(spec.axes)), flag("normalize", native))


@ARGUMENTS.of(L.Attention)
def _attention(spec: L.Attention, _around: Around) -> Arguments:
    return (
        flag("use_scale", spec.scaled, spec.score == "additive"),
        ("score_mode", '"concat"') if spec.score == "concat" else None,
        ("dropout", literal(spec.dropout)) if spec.dropout else None,
    )


@ARGUMENTS.of(L.MultiHeadAttention)
def _heads(spec: L.MultiHeadAttention, _around: Around) -> Arguments:
    value, units = spec.value_dim, spec.units
    return (
        literal(spec.heads),
        literal(spec.key_dim),
        ("value_dim", literal(value)) if value != spec.key_dim else None,
        ("dropout", literal(spec.dropout)) if spec.dropout else None,
        flag("use_bias", spec.use_bias, True),
        ("output_shape", literal(units)) if units != spec.query_features else None,
    )


POOLS = {"max": "Max", "average": "Average"}

TITLES: dict[type[L.LayerSpec], Callable[..., str]] = {
    L.Affine: lambda _spec, _rank: "Rescaling",
    L.Attention: lambda spec, _rank: spec.weight_kind.partition(",")[0],
    L.Augmentation: lambda spec, _rank: named(spec.layer),
    L.BatchNorm: lambda _spec, _rank: "BatchNormalization",
    L.Conv: lambda spec, _rank: spec.weight_kind,
    L.ConvLSTM: lambda spec, _rank: spec.weight_kind,
    L.ConvTranspose: lambda spec, _rank: spec.weight_kind,
    L.Crop: lambda spec, _rank: f"Cropping{len(spec.before)}D",
    L.DepthwiseConv: lambda spec, _rank: spec.weight_kind,
    L.Elu: lambda _spec, _rank: "ELU",
    L.GlobalPool: lambda spec, rank: f"Global{POOLS[spec.how]}Pooling{rank - 2}D",
    L.LayerNorm: lambda spec, _rank: f"{'Group' if spec.groups else 'Layer'}Normalization",
    L.Merge: lambda spec, _rank: named(spec.how.capitalize()),
    L.PRelu: lambda _spec, _rank: "PReLU",
    L.Pad: lambda spec, _rank: f"ZeroPadding{len(spec.before)}D",
    L.Pool: lambda spec, _rank: f"{POOLS[spec.how]}Pooling{len(spec.window)}D",
    L.RMSNorm: lambda _spec, _rank: "RMSNormalization",
    L.Relu: lambda spec, _rank: "LeakyReLU" if is_leaky(spec) else "ReLU",
    L.TrainingOnly: lambda spec, _rank: named(spec.layer),
    L.UnitNorm: lambda _spec, _rank: "UnitNormalization",
    L.UpSample: lambda spec, _rank: f"UpSampling{len(spec.times)}D",
}
"""Spec -> Keras's name of the layer for a rank of its input, if it is not `LayerSpec.kind`."""


REFUSALS = L.LayerFunctions()
"""Layer -> the function of it and its input's rank: why Keras 3 has no exact form, "" if it has."""


@REFUSALS.of(L.ConvTranspose)
def _no_transposed(spec: L.ConvTranspose, rank: int) -> str:
    more = spec.output_padding
    if more is None or _no_window(spec, rank):
        return _no_window(spec, rank)
    if any(n >= stride for n, stride in zip(more, spec.strides, strict=True)):
        return f"output_padding {more} that is not below the strides, which Keras refuses"
    empty = any(not size % 2 + n for size, n in zip(spec.reach, more, strict=True))
    if spec.padding == "same" and empty:
        return 'padding "same" with output_padding 0 of an even window, which TensorFlow refuses'
    return ""


@REFUSALS.of(L.Conv, L.DepthwiseConv)
def _no_window(spec: L.Conv | L.ConvTranspose | L.DepthwiseConv, _rank: int) -> str:
    strides, dilation = (any(n > 1 for n in found) for found in (spec.strides, spec.dilation))
    if not isinstance(spec, L.DepthwiseConv):
        return "strides together with dilation, which Keras refuses" if strides and dilation else ""
    if len(spec.window) > 2:
        return "DepthwiseConv over three axes, which Keras has no layer of"
    if len(set(spec.strides)) > 1:
        return "strides that differ, which depthwise convolutions of TensorFlow do not take"
    return ""


@REFUSALS.of(L.Relu)
def _no_relu(spec: L.Relu, _rank: int) -> str:
    return f"slope {spec.slope}, which Keras wants from 0 on" if spec.slope < 0 else ""


NATIVE_RANK = {"SpatialDropout1D": 3, "SpatialDropout2D": 4, "SpatialDropout3D": 5}


@REFUSALS.of(L.Augmentation, L.TrainingOnly)
def _no_rank(spec: L.Augmentation | L.TrainingOnly, rank: int) -> str:
    native = 4 if isinstance(spec, L.Augmentation) else NATIVE_RANK.get(spec.layer, rank)
    return "" if rank == native else f"{spec.layer} of {rank} axes, which Keras does not take"


def _own_blind(spec: L.MultiHeadAttention) -> str:
    """Returns the output of Keras 3.10 and later for a query that sees no value (`Era.blind`)."""
    return "zeros" if spec.dropout or spec.scores else "uniform"


def own_blind(spec: L.MultiHeadAttention) -> bool:
    """True if queries that see nothing get the output of this Keras."""
    return not spec.masks or spec.blind == _own_blind(spec)


@REFUSALS.of(L.MultiHeadAttention)
def _no_heads(spec: L.MultiHeadAttention, _rank: int) -> str:
    if own_blind(spec) or spec.blind == "lowered":
        return ""
    own = _own_blind(spec)
    return f'blind="{spec.blind}": a query that sees nothing gives "{own}" in this Keras'


@REFUSALS.of(L.RMSNorm)
def _no_rms(spec: L.RMSNorm, _rank: int) -> str:
    return (
        "" if spec.scale else "RMSNorm without a scale, which RMSNormalization of Keras always has"
    )
