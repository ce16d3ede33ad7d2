"""Differences between Keras versions, as tables: names, defaults, computations; no framework."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from xlstm.errors import UnsupportedError, UsageError
from xlstm.files.description import Description

CONVOLUTION = {
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample_length": "strides",
    "subsample": "strides",
    "atrous_rate": "dilation_rate",
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
"""Keras 1's names of options, in every class ("") and in one: its name -> today's."""

TAKEN_APART = ("Highway", "MaxoutDense")
"""Classes of Keras 1 that become several layers."""

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
"""Options missing in an era's configs, and their values: major version -> class -> options."""

CUDNN: dict[str, Any] = {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True}
"""Options of cuDNN's function, for any config; the length of the bias identifies its weights."""

ERA_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    "CuDNNLSTM": ("LSTM", CUDNN),
    "CuDNNGRU": ("GRU", {**CUDNN, "reset_after": True}),
    "TimeDistributedDense": ("Dense", {}),
    **{f"Convolution{rank}D": (f"Conv{rank}D", {}) for rank in (1, 2, 3)},
    "Deconvolution2D": ("Conv2DTranspose", {}),
    **{f"AtrousConvolution{rank}D": (f"Conv{rank}D", {}) for rank in (1, 2)},
    # TensorFlow 1.13 to 2.0 wrote the names of its own classes into HDF5
    **{f"Unified{kind}": (kind, {}) for kind in ("LSTM", "GRU")},
    "BatchNormalizationV1": ("BatchNormalization", {}),
    "BatchNormalizationV2": ("BatchNormalization", {}),
    "SyncBatchNormalization": ("BatchNormalization", {}),
}
"""Classes that are others under another name: class -> (today's class, options it fixes)."""


NEWEST = (3, 15)
"""The newest Keras whose code was checked."""


@dataclass(frozen=True)
class Era:
    """Computations of the Keras version that wrote a file.

    Until 2.3, Keras was a package beside TensorFlow's own copy, with versions that end in "-tf".
    Since 2.4 Keras is that copy. The two compute different things for equal configs.

    Attributes:
        version: of the Keras that wrote the file, such as "2.2.4-tf".

    >>> [Era(v).zeros_in_both_ways for v in ("1.2.2", "2.3.1", "2.2.4-tf", "2.12.0", "3.15.1")]
    [False, True, True, True, True]
    """

    version: str

    @property
    def major(self) -> int:
        """The first number of the version."""
        return self.numbers[0]

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """The numbers of the version, at most three."""
        return tuple(int(number) for number in re.findall(r"\d{1,6}", self.version)[:3])

    @property
    def follows_tensorflow(self) -> bool:
        """True for TensorFlow's own copy of Keras, and for every Keras since 2.4."""
        return self.version.endswith("-tf") or self.since(2, 4)

    def since(self, *numbers: int) -> bool:
        """True if it is this version or a newer one.

        Raises:
            UsageError: a version with too few numbers to decide, such as "3" for 3.4.

        >>> Era("2.2.4").since(2, 2, 4), Era("2.3").since(2, 2, 4), Era("3").since(2, 4)
        (True, True, True)
        """
        if self.numbers == numbers[: len(self.numbers)] and len(self.numbers) < len(numbers):
            want = f"a version on one side of Keras {'.'.join(map(str, numbers))}"
            do = 'pass more of its numbers, such as keras_version="3.12"'
            raise UsageError("keras_version", want, f"Keras {self.version}", do)
        return self.numbers >= numbers

    @property
    def is_newer(self) -> bool:
        """True if it is newer than any that was checked."""
        return self.numbers[:2] > NEWEST

    @property
    def zeros_in_both_ways(self) -> bool:
        """True if Bidirectional returns zeros at the masked steps of a sequence.

        Keras 1 repeats the last output, as every recurrent layer does.
        """
        return self.major >= 2

    @property
    def repeated_both_ways(self) -> bool:
        """True if Keras repeats the last output there, and ports return zeros.

        That is the separate package from 2.0 to 2.3. It has no zero_output_for_mask, which
        TensorFlow's copy has since TensorFlow 1.13.
        """
        return self.major == 2 and not (self.follows_tensorflow and self.since(2, 2, 4))

    @property
    def repeats_both_ways(self) -> bool:
        """True if Keras repeats the last output at masked steps of Bidirectional."""
        return not self.zeros_in_both_ways or self.repeated_both_ways

    @property
    def joins_masks_by_or(self) -> bool:
        """True if layers of several inputs keep a step that one of the masks keeps."""
        return self.since(3, 4)

    @property
    def cosine_floor(self) -> float:
        """Returns the smallest length by which Dot divides when it normalises vectors."""
        if self.major < 3:
            return 1e-6
        return 1e-7 if self.since(3, 0, 5) else float(1e-7**0.5)

    @property
    def length_floor(self) -> float:
        """Returns the smallest length by which UnitNormalization divides."""
        return 1e-12 if self.since(3, 6) else 1e-6

    @property
    def adds_bias_last(self) -> bool:
        """True if a bias as long as the last axis is added along it with channels first."""
        return self.since(3, 7)

    @property
    def masks_attention(self) -> bool:
        """True if MultiHeadAttention uses the masks of its inputs without an argument."""
        return self.since(2, 10)

    def blind(self, dropout: bool) -> str:
        """Returns the output of MultiHeadAttention for a query that sees no value."""
        if dropout:
            return "zeros" if self.since(3, 10) else "lowered"
        return "uniform" if self.since(3, 7) else "lowered"

    @property
    def starts_from_state(self) -> bool:
        """True if masked steps before the first valid one return the initial state, not zeros."""
        return not self.since(2, 2, 4) if self.follows_tensorflow else not self.since(2, 3)

    @property
    def stacks_states_backwards(self) -> bool:
        """True if the states of stacked cells are in reverse order of the cells."""
        return self.major == 2 and not self.since(2, 2, 4)


KERAS1_NAME = re.compile(
    r"(?:^|_)([WUb](?:_(?:[a-z]|carry))?|gamma|beta|running_mean|running_std|alphas)$"
)
"""End of an array's name in Keras 1: lstm_1_W_i."""

BOTH = ("gamma", "beta")
"""Suffixes of names in later versions as well."""


def named_as_keras1(names: Iterable[str]) -> bool:
    """True if all names of arrays are names that Keras 1 writes.

    >>> named_as_keras1(["lstm_1_W_i", "lstm_1_b_i:0"]), named_as_keras1(["lstm_1/kernel:0"])
    (True, False)
    """
    ends = [KERAS1_NAME.search(name.split(":")[0].split("/")[-1]) for name in names]
    return all(ends) and any(end and end[1] not in BOTH for end in ends)


def renames(kind: str, major: int) -> dict[str, str]:
    """Returns the names of a class's options in one major version -> today's names.

    Args:
        kind: today's name of the class.
        major: of the Keras that wrote the config.
    """
    return {**KERAS1_KEYS[""], **KERAS1_KEYS.get(kind, {})} if major == 1 else {}


def modern_options(layer: Mapping[str, Any], major: int) -> tuple[str, dict[str, Any]]:
    """Returns class name and options of a layer's config in today's names.

    Args:
        layer: config with class_name and config.
        major: of the Keras that wrote it.
    """
    written = str(layer.get("class_name"))
    found, fixed = ERA_CLASSES.get(written, (written, {}))
    names, options = renames(found, major), {**layer.get("config", {}), **fixed}
    defaults = ERA_DEFAULTS.get(major, {}).get(found, {})
    return found, {**defaults, **{names.get(key, key): value for key, value in options.items()}}


INSIDE = ("config", "layers", "layer", "backward_layer", "cell", "cells")
"""Keys of configs that contain layers."""


def layers_inside(config: Any) -> Iterator[Mapping[str, Any]]:
    """Yields a layer or model, and all layers inside it."""
    todo = [config]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo += item
        elif isinstance(item, Mapping):
            if isinstance(item.get("config"), (Mapping, list)):
                yield item
            todo += [item.get(key) for key in INSIDE]


def _words(layer: Mapping[str, Any]) -> set[int]:
    """Returns the major versions that may have written a layer's options."""
    kind, options = str(layer.get("class_name")), layer["config"]
    if isinstance(options, list):
        return {1, 2, 3}
    calls = layer.get("inbound_nodes")
    called = isinstance(calls, list) and any(isinstance(call, Mapping) for call in calls)
    if called or (kind == "InputLayer" and "batch_shape" in options):
        return {3}
    names = renames(ERA_CLASSES.get(kind, (kind,))[0], 1)
    old = any(names.get(key, key) != key for key in options)
    new = any(key in names.values() and key not in names for key in options)
    found = {1} if old else {2, 3} if new else {1, 2, 3}
    return found - {3} if "batch_input_shape" in options else found


def majors_of(config: Mapping[str, Any], known: Container[str]) -> set[int]:
    """Returns the major versions of Keras that may have written a config, by option names.

    Keras 1 writes output_dim and inner_activation; later ones units and recurrent_activation.
    Only Keras 3 writes batch_shape, and calls as objects.

    Args:
        config: of a model.
        known: today's names of Keras's own layers; layers of others may use any names.
    """
    found = {1, 2, 3}
    for layer in layers_inside(config):
        kind = str(layer.get("class_name"))
        if kind in known or kind in ERA_CLASSES:
            found &= _words(layer)
    return found


def version_of(description: Description, known: Container[str], where: str) -> str:
    """Returns the version of Keras that wrote a config, from the files or the user.

    Without both, options that only one major version writes prove it: "1", "2" or "3".

    Args:
        description: of a model.
        known: as for `majors_of`.
        where: name of the file in errors.

    Raises:
        UsageError: a version that contradicts the option names, or none if these prove none.
    """
    version, origin = description.version, description.architecture
    if version and (origin is None or origin.version):
        return version
    majors = majors_of(description.config, known)
    if version and era_of(version, where).major in majors:
        return version
    if len(majors) == 1 and (not version or version == description.weights_version):
        return str(*majors)
    words = " or ".join(map(str, sorted(majors))) or "several versions"
    got = f"{version or 'no version in it'}, and options as Keras {words} writes them"
    do = 'pass keras_version="2.1", for example'
    raise UsageError(where, "an architecture that says which Keras wrote it", got, do)


def weights_era(description: Description, era: Era, where: str) -> Era | None:
    """Returns the era of a model's weights, None if nothing proves it.

    Args:
        description: of the model.
        era: of its config; the weights have the same unless they are in another file.
        where: name of the file in errors.
    """
    if description.architecture is None:
        return era
    if description.weights_version:
        return era_of(description.weights_version, where)
    if description.by_name:
        names = [array.name for stored in description.weights.values() for array in stored]
        return Era("1") if named_as_keras1(names) else None
    return Era("2.12 or 2.13") if description.step == 2 else None


def era_of(version: str, where: str) -> Era:
    """Returns the era of a version from a file or a user.

    Raises:
        UsageError: no version.
        UnsupportedError: an unknown version of Keras.
    """
    if not version:
        do = 'pass keras_version="2.1", for example'
        raise UsageError(where, "a file that says which Keras wrote it", "no version in it", do)
    if version.split(".")[0] not in ("1", "2", "3"):
        want, got = "a model written by Keras 1, 2 or 3", f"Keras {version}"
        raise UnsupportedError(where, want, got, "see docs/files.md for versions that are read")
    return Era(version)
