"""Small models of transposed convolutions: what every target's suite runs."""

from __future__ import annotations

from typing import Any

from cases import model

from xlstm.ir.graph import Model
from xlstm.ir.layers import LSTM, BatchNorm, ConvTranspose, Flatten, TimeDistributed
from xlstm.testing.models import one


def transposed(*window: int, **options: Any) -> ConvTranspose:
    """Of three channels into four; strides and dilation are 1 unless told otherwise."""
    ones = (1,) * len(window)
    return ConvTranspose(3, 4, window, **{"strides": ones, "dilation": ones, **options})


MORE = (
    ("valid", 3, 2, 0),
    ("valid", 2, 3, 0),
    ("valid", 2, 3, 2),
    ("same", 3, 1, 0),
    ("same", 3, 2, 1),
    ("same", 4, 3, 1),
    ("same", 5, 3, 2),
    ("same", 1, 3, 1),
)

TRANSPOSED: dict[str, Model] = {
    **{
        f"transposed1d-{padding}-{window}-{stride}": one(
            transposed(window, strides=(stride,), padding=padding), 5, 3
        )
        for padding in ("valid", "same")
        for window, stride in ((2, 1), (2, 2), (2, 3), (3, 1), (3, 2), (3, 3), (1, 2), (5, 2))
    },
    **{
        f"transposed1d-{padding}-{window}-{stride}-more-{more}": one(
            transposed(window, strides=(stride,), padding=padding, output_padding=(more,)), 5, 3
        )
        for padding, window, stride, more in MORE
    },
    "transposed1d-dilation": one(transposed(3, dilation=(2,)), 5, 3),
    "transposed1d-same-dilation": one(transposed(2, dilation=(3,), padding="same"), 5, 3),
    "transposed1d-no_bias": one(transposed(3, activation="tanh", use_bias=False), 5, 3),
    "transposed1d-any_length": one(transposed(3, strides=(2,), padding="same"), None, 3),
    "transposed1d-around": model(
        [
            transposed(4, strides=(2,), padding="same", activation="relu"),
            BatchNorm(4),
            LSTM(4, 3, return_sequences=True),
            transposed(3, strides=(2,), padding="same"),
        ],
        (4, 3),
    ),
    "transposed2d": one(transposed(3, 2, activation="relu"), 4, 5, 3),
    "transposed2d-same": one(transposed(3, 4, strides=(2, 3), padding="same"), 4, 5, 3),
    "transposed2d-more": one(
        transposed(3, 2, strides=(2, 3), padding="same", output_padding=(1, 2)), 4, 5, 3
    ),
    "transposed2d-same-valid-ends": one(transposed(2, 3, strides=(3, 2), padding="same"), 4, 5, 3),
    "transposed2d-dilation": one(transposed(3, 2, dilation=(1, 2), padding="same"), 4, 5, 3),
    "transposed2d-softmax": one(transposed(2, 2, strides=(2, 2), activation="softmax"), 3, 4, 3),
    "transposed2d-then-flatten": model(
        [transposed(3, 3, strides=(2, 2), padding="same"), Flatten()], (2, 3, 3)
    ),
    "transposed3d": one(transposed(2, 3, 1, strides=(1, 2, 2), padding="same"), 3, 2, 4, 3),
    "timed-transposed1d": one(
        TimeDistributed(transposed(3, strides=(2,), padding="same")), 2, 4, 3
    ),
    "timed-transposed2d": one(TimeDistributed(transposed(2, 2)), None, 3, 4, 3),
}

BOTH: dict[str, Model] = {
    "strides-dilation": one(transposed(3, strides=(2,), dilation=(3,)), 5, 3),
    "strides-dilation-same": one(transposed(2, strides=(3,), dilation=(2,), padding="same"), 5, 3),
    "more-than-strides": one(transposed(2, dilation=(3,), output_padding=(2,)), 5, 3),
    "even-same": one(transposed(2, strides=(2,), padding="same", output_padding=(0,)), 5, 3),
}
"""What Keras does not take, and the others do."""
