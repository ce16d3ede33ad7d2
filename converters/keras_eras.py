"""What a Keras version means by its configs, as tables; no framework."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from xlstm.errors import UnsupportedError, UsageError

CONVOLUTION = {
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample_length": "strides",
    "subsample": "strides",
    "border_mode": "padding",
    "bias": "use_bias",
}

POOLING = {"pool_length": "pool_size", "stride": "strides", "border_mode": "padding"}

KERAS1_KEYS: dict[str, dict[str, str]] = {
    "": {
        "init": "kernel_initializer",
        "inner_init": "recurrent_initializer",
        "W_regularizer": "kernel_regularizer",
        "U_regularizer": "recurrent_regularizer",
        "b_regularizer": "bias_regularizer",
        "W_constraint": "kernel_constraint",
        "b_constraint": "bias_constraint",
        "output_dim": "units",
        "inner_activation": "recurrent_activation",
        "dropout_W": "dropout",
        "dropout_U": "recurrent_dropout",
        "consume_less": "implementation",
        "forget_bias_init": "unit_forget_bias",
        "input_dtype": "dtype",
        "dim_ordering": "data_format",
    },
    "Dense": {"bias": "use_bias"},
    "Dropout": {"p": "rate"},
    "GaussianDropout": {"p": "rate"},
    "GaussianNoise": {"sigma": "stddev"},
    **{f"SpatialDropout{rank}D": {"p": "rate"} for rank in (1, 2, 3)},
    "Embedding": {"output_dim": "output_dim", "dropout": "dropout"},
    **{f"Conv{rank}D": CONVOLUTION for rank in (1, 2, 3)},
    "Conv2DTranspose": {**CONVOLUTION, "output_shape": "output_shape"},
    **{f"{how}Pooling{rank}D": POOLING for how in ("Max", "Average") for rank in (1, 2, 3)},
    "UpSampling1D": {"length": "size"},
}
"""What Keras 1 calls the options, in every class ("") and in one: its name -> today's."""

TAKEN_APART = ("Highway", "MaxoutDense")
"""Classes of Keras 1 that are several layers of today's."""

RECURRENT = {"return_state": False, "go_backwards": False, "stateful": False}

ERA_DEFAULTS: dict[int, dict[str, dict[str, Any]]] = {
    1: {
        "LSTM": {"use_bias": True, **RECURRENT},
        "GRU": {"use_bias": True, "reset_after": False, **RECURRENT},
        "SimpleRNN": {"use_bias": True, **RECURRENT},
    },
    # return_state came with 2.0.5, reset_after with 2.1.5
    2: {"LSTM": RECURRENT, "GRU": {"reset_after": False, **RECURRENT}, "SimpleRNN": RECURRENT},
    3: {"LSTM": RECURRENT, "GRU": {"reset_after": True, **RECURRENT}, "SimpleRNN": RECURRENT},
}
"""Options that an era's configs lack, and what that means: major version -> class -> options."""

CUDNN: dict[str, Any] = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
"""What cuDNN computes, whatever a config says; its weights are told by the length of their bias."""

ERA_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "CuDNNLSTM": ("LSTM", CUDNN),
    "CuDNNGRU": ("GRU", {**CUDNN, "reset_after": True}),
    "TimeDistributedDense": ("Dense", {}),
    **{f"Convolution{rank}D": (f"Conv{rank}D", {}) for rank in (1, 2, 3)},
    "Deconvolution2D": ("Conv2DTranspose", {}),
}
"""Classes that are others under another name: class -> (today's class, options it fixes)."""


NEWEST = (3, 15)
"""The newest Keras whose own code was looked at."""


@dataclass(frozen=True)
class Era:
    """What the version that wrote a file means by its masks and states.

    Until 2.3, Keras was a package beside TensorFlow's own copy, whose versions end in "-tf" and
    which Keras is since 2.4. The two differ where the words of their configs do not.

    Attributes:
        version: of the Keras that wrote the file, such as "2.2.4-tf".

    >>> [Era(v).zeros_in_both_ways for v in ("1.2.2", "2.3.1", "2.2.4-tf", "2.12.0", "3.15.1")]
    [False, True, True, True, True]
    """

    version: str

    @property
    def major(self) -> int:
        """The first number of the version."""
        return self._numbers[0]

    @property
    def _numbers(self) -> tuple[int, ...]:
        return tuple(int(number) for number in re.findall(r"\d{1,6}", self.version)[:3])

    @property
    def _tensorflow(self) -> bool:
        return self.version.endswith("-tf") or self._numbers >= (2, 4)

    @property
    def is_newer(self) -> bool:
        """Whether it is newer than any that was looked at."""
        return self._numbers[:2] > NEWEST

    @property
    def zeros_in_both_ways(self) -> bool:
        """Whether Bidirectional gives zeros at the masked steps of a sequence.

        Keras 1 repeats the last output, as every recurrent layer does.
        """
        return self.major >= 2

    @property
    def repeated_both_ways(self) -> bool:
        """Whether Keras itself repeats the last output there, where ports give zeros.

        That is the package of its own from 2.0 to 2.3: nothing in it knows of zeros, which
        TensorFlow's copy has since TensorFlow 1.13.
        """
        return self.major == 2 and not (self._tensorflow and self._numbers >= (2, 2, 4))

    @property
    def joins_masks_by_or(self) -> bool:
        """Whether layers of several inputs keep a step that one of the masks keeps."""
        return self._numbers >= (3, 4)

    @property
    def cosine_floor(self) -> float:
        """The length below which Dot takes vectors for that long when it normalises them."""
        if self.major < 3:
            return 1e-6
        return 1e-7 if self._numbers >= (3, 0, 5) else float(1e-7**0.5)

    @property
    def length_floor(self) -> float:
        """The same of UnitNormalization."""
        return 1e-12 if self._numbers >= (3, 6) else 1e-6

    @property
    def adds_bias_last(self) -> bool:
        """Whether a bias as long as the last axis is added along it where channels come first."""
        return self._numbers >= (3, 7)

    @property
    def masks_attention(self) -> bool:
        """Whether MultiHeadAttention obeys the masks of its inputs by itself."""
        return self._numbers >= (2, 10)

    def blind(self, dropout: bool) -> str:
        """What MultiHeadAttention gives for a query that sees no value."""
        if dropout:
            return "zeros" if self._numbers >= (3, 10) else "lowered"
        return "uniform" if self._numbers >= (3, 7) else "lowered"

    @property
    def starts_from_state(self) -> bool:
        """Whether masked steps before the first valid one give the initial state, not zeros."""
        return self._numbers < (2, 2, 4) if self._tensorflow else self._numbers < (2, 3)

    @property
    def stacks_states_backwards(self) -> bool:
        """Whether the states of stacked cells are in the order of the cells turned round."""
        return self.major == 2 and self._numbers < (2, 2, 4)


def era_of(version: str, where: str) -> Era:
    """The era of a version as a file or a user says it.

    Raises:
        UsageError: no version.
        UnsupportedError: a version of no Keras that is known.
    """
    if not version:
        do = 'say keras_version="2.1", say, when loading it'
        raise UsageError(where, "the version of Keras that wrote it", "none in the file", do)
    if version.split(".")[0] not in ("1", "2", "3"):
        want, got = "a model written by Keras 1, 2 or 3", f"Keras {version}"
        raise UnsupportedError(where, want, got, "see the README's limits")
    return Era(version)
