"""Which Flax parameter of the layers around the recurrent ones holds what, in Linen and in NNX.

Both are channels last, as the hub is, and name these parameters alike.
"""

from xlstm.ir.kinds import (
    ATTENTION,
    ATTENTION_ADDITIVE,
    ATTENTION_CONCAT,
    BATCH_NORM,
    CONV_TRANSPOSES,
    CONVS,
    DENSE,
    DEPTHWISE,
    EMBEDDING,
    HEADS,
    LAYER_NORM,
    NORMALIZATION,
    PRELUS,
    Kind,
)
from xlstm.slots import Slot, Table


def _conv(kind: Kind) -> Table:
    axes = kind.tensors["kernel"]
    return Table(kind, (Slot("kernel", "kernel", axes), Slot("bias", "bias", "o")))


def _transposed(kind: Kind) -> Table:
    """ConvTranspose with transpose_kernel=False: the window the other way round."""
    space = kind.tensors["kernel"][:-2]
    kernel = Slot("kernel", "kernel", f"{space}io", turned=space)
    return Table(kind, (kernel, Slot("bias", "bias", "o")))


UNTOLD = "{}, transpose_kernel=False"
"""The table of a transposed convolution as Flax has it unless told otherwise."""


def _depthwise(kind: Kind) -> Table:
    """As many groups as channels: each sees one channel, and gives m."""
    axes = kind.tensors["kernel"].replace("im", "()(im)")
    return Table(kind, (Slot("kernel", "kernel", axes), Slot("bias", "bias", "(im)")))


def _slopes(kind: Kind) -> Table:
    return Table(kind, (Slot("negative_slope", "slopes", kind.tensors["slopes"]),))


def _heads() -> Table:
    names = {"query": "query", "key": "key", "value": "value", "output": "out"}
    return Table(
        HEADS,
        tuple(
            Slot(f"{name}.{part}", f"{hub}_{part}", HEADS.tensors[f"{hub}_{part}"])
            for hub, name in names.items()
            for part in ("kernel", "bias")
        ),
    )


def _statistics(mean: str, variance: str) -> tuple[Slot, Slot]:
    return (Slot("mean", mean, "o", other=True), Slot("var", variance, "o", other=True))


SCALE, BIAS = Slot("scale", "gamma", "o"), Slot("bias", "beta", "o")

FACTOR = Slot("attention_scale", "attention_scale", "")

DENSE_TABLE = Table(DENSE, (Slot("kernel", "kernel", "io"), Slot("bias", "bias", "o")))

AROUND: dict[str, Table] = {
    # Embed
    "Embed": Table(EMBEDDING, (Slot("embedding", "table", "vo"),)),
    # Conv, over 1, 2 and 3 axes, and with as many groups as channels
    **{kind.name: _conv(kind) for kind in CONVS},
    **{kind.name: _depthwise(kind) for kind in DEPTHWISE},
    # ConvTranspose; with transpose_kernel=True its kernel is as the hub's
    **{UNTOLD.format(kind.name): _transposed(kind) for kind in CONV_TRANSPOSES},
    **{kind.name: _conv(kind) for kind in CONV_TRANSPOSES},
    "BatchNorm": Table(BATCH_NORM, (SCALE, BIAS, *_statistics("mean", "variance"))),
    # LayerNorm and GroupNorm
    "LayerNorm": Table(LAYER_NORM, (SCALE, BIAS)),
    # MultiHeadAttention, and MultiHeadDotProductAttention of Linen
    "MultiHeadAttention": _heads(),
    # our own, of templates/nnx_layers.py and templates/linen_layers.py
    **{kind.name: _slopes(kind) for kind in PRELUS},
    "Normalization": Table(NORMALIZATION, _statistics("mean", "variance")),
    "DotAttention": Table(ATTENTION, (Slot("scale", "scale", ""),)),
    "ConcatAttention": Table(ATTENTION_CONCAT, (Slot("scale", "scale", ""), FACTOR)),
    "AdditiveAttention": Table(ATTENTION_ADDITIVE, (Slot("scale", "scale", "o"),)),
}
"""The framework's name of each layer -> its table; where one name has several, the hub's form."""

AROUND_DEFAULT = {table.kind.name: name for name, table in AROUND.items()}
