"""What a Keras version means by its configs, as tables; no framework."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from xlstm.errors import UnsupportedError, UsageError

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
    },
    "Dense": {"bias": "use_bias"},
    "Dropout": {"p": "rate"},
}
"""What Keras 1 calls the options, in every class ("") and in one: its name -> today's."""

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
    [False, False, True, True, True]
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

        The others repeat the last output, as every recurrent layer does: nothing in them knows
        of another way (TensorFlow's copy has it since TensorFlow 1.13).
        """
        return self._tensorflow and self._numbers >= (2, 2, 4)

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
