"""What a Keras config means: class names, options and their eras, as tables; no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from xlstm.errors import FileError, UnsupportedError, UsageError, WeightsError, XlstmError
from xlstm.files.description import Description, Stored
from xlstm.model import (
    LSTM,
    Activation,
    Dense,
    Dropout,
    Shape,
    SimpleRNN,
    Spec,
    TimeDistributed,
)

Config = Mapping[str, Any]

HARD_SIGMOID_KERAS2 = [("Rescaling", {"scale": 0.2, "offset": 0.5}), ("ReLU", {"max_value": 1.0})]
"""The stock layers that we write for the hard_sigmoid of Keras 1 and 2 in Keras 3 models."""

ERA_ACTIVATIONS: dict[str, dict[int, str]] = {
    "hard_sigmoid": {1: "hard_sigmoid_keras2", 2: "hard_sigmoid_keras2", 3: "hard_sigmoid"},
}
"""Activations whose formula depends on the major version of the Keras that wrote the file."""

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
    },
    "Dense": {"bias": "use_bias"},
    "Dropout": {"p": "rate"},
}
"""What Keras 1 calls the options, in every class ("") and in one: its name -> today's."""

ERA_DEFAULTS: dict[int, dict[str, dict[str, Any]]] = {
    1: {"LSTM": {"use_bias": True}, "SimpleRNN": {"use_bias": True}},
}
"""Options that an era's configs lack, and what that means: major version -> class -> options."""

ERA_CLASSES: dict[str, tuple[str, dict[str, Any]]] = {
    # cuDNN has tanh and sigmoid only; its weights are told by the length of their bias
    "CuDNNLSTM": (
        "LSTM",
        {"activation": "tanh", "recurrent_activation": "sigmoid", "use_bias": True},
    ),
}
"""Classes that are others under another name: class -> (today's class, options it fixes)."""

COMMON = frozenset(
    "name trainable dtype batch_input_shape batch_shape input_dtype activity_regularizer "
    "kernel_initializer recurrent_initializer bias_initializer kernel_regularizer "
    "recurrent_regularizer bias_regularizer kernel_constraint recurrent_constraint "
    "bias_constraint".split()
)
"""Keys that never change what a trained layer computes."""

DTYPES = frozenset("float16 bfloat16 float32 float64 mixed_float16 mixed_bfloat16".split())


@dataclass(frozen=True)
class Rule:
    """How the config of one Keras class is read.

    Attributes:
        build: (config, input shape, context) -> spec.
        reads: keys that `build` uses.
        harmless: further keys without effect on the trained function.
        only: keys of which one value is supported; any other is refused by name.
        below: path from the layer's group to its variables in new weights files.
    """

    build: Callable[[Config, Shape, Reader], Spec]
    reads: frozenset[str]
    harmless: frozenset[str] = frozenset()
    only: Mapping[str, Any] | None = None
    below: str = ""


class Reader:
    """Reads one description; keeps the notes and warnings it finds on the way."""

    def __init__(self, description: Description) -> None:
        self.description = description
        self.major = major_of(description)
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.old_hard_sigmoid: list[str] = []
        self._left = dict(description.weights)

    def take(self, key: str) -> tuple[Stored, ...]:
        """The arrays stored under a layer's name or path, once."""
        return self._left.pop(key, ())

    def check_used(self) -> None:
        """Raises WeightsError where the file holds weights that no layer took."""
        left = [
            key
            for key, stored in self._left.items()
            if stored and key.split("/")[-1] != "seed_generator"
        ]
        if left:
            where = self.description.file or "keras"
            got = f"left over: {', '.join(left)}"
            raise WeightsError(
                where, "every weight used once", got, "check that config and weights match"
            )

    def where(self, name: object) -> str:
        return f"{self.description.file or 'keras'}, layer {name}"

    def activation(self, value: Any, where: str) -> str:
        """The hub's name of an activation, by the era of the file."""
        if value is None:
            return "linear"
        name = _activation_name(value, where)
        found = ERA_ACTIVATIONS.get(name, {}).get(self.major, name)
        if found == "hard_sigmoid_keras2" and isinstance(value, str):
            self.old_hard_sigmoid.append(where.rpartition("layer ")[2])
        return found

    def all_warnings(self) -> tuple[str, ...]:
        """Every warning, the old hard_sigmoid of all layers in one."""
        if not self.old_hard_sigmoid:
            return tuple(self.warnings)
        names = ", ".join(dict.fromkeys(self.old_hard_sigmoid))
        then = "clip(0.2 x + 0.5, 0, 1), as Keras 1 and 2 compute it, and is ported so"
        line = f"hard_sigmoid of {names} is {then}; Keras 3 computes clip(x/6 + 0.5, 0, 1)"
        return (line, *self.warnings)

    def check_classes(self, layers: list[Config]) -> None:
        """Raises UnsupportedError that names every layer there is no rule for, all at once."""
        wrong = [
            f"{layer.get('class_name')} ({layer.get('config', {}).get('name')})"
            for layer in layers
            if layer.get("class_name") != "InputLayer"
            and str(ERA_CLASSES.get(str(layer.get("class_name")), [layer.get("class_name")])[0])
            not in RULES
        ]
        if wrong:
            where, want = self.description.file or "keras", f"layers of {', '.join(RULES)}"
            raise UnsupportedError(where, want, ", ".join(wrong), "see the README's limits")

    def spec(self, layer: Config, shape: Shape) -> Spec:
        """The spec of one layer's config for inputs of `shape`."""
        where = self.where(layer.get("config", {}).get("name", layer.get("class_name")))
        class_name, config = self.modern(layer, where)
        rule = RULES.get(str(class_name))
        if rule is None or _is_custom(layer):
            known, got = ", ".join(RULES), layer.get("registered_name") or class_name
            raise UnsupportedError(
                where, f"a layer of Keras: {known}", got, "see the README's limits"
            )
        self._check_keys(config, rule, where)
        try:
            return rule.build(config, shape, self)
        except XlstmError as error:
            # sizes that make no sense are the file's fault here, not the caller's
            kind = FileError if isinstance(error, UsageError) else type(error)
            place = error.where if error.where.startswith(where) else f"{where}, {error.where}"
            raise kind(place, error.expected, error.got, error.do) from None
        except (KeyError, TypeError, ValueError) as error:
            got = f"{type(error).__name__} ({error})"
            raise FileError(where, "a complete layer config", got, "save the model anew") from None

    def modern(self, layer: Config, where: str) -> tuple[str, Config]:
        """Class name and options of a layer in today's words, by the tables of its era.

        Raises:
            FileError: an option given under its old and its new name.
        """
        found, fixed = ERA_CLASSES.get(str(layer.get("class_name")), (layer.get("class_name"), {}))
        options = {**layer.get("config", {}), **fixed}
        if self.major > 1:
            return str(found), options
        names = {**KERAS1_KEYS[""], **KERAS1_KEYS.get(str(found), {})}
        renamed = {names.get(key, key): value for key, value in options.items()}
        if len(renamed) != len(options):
            raise FileError(where, "options named once", ", ".join(options), "check the file")
        self.note(f"{where}: options in the words of Keras 1")
        return str(found), {**ERA_DEFAULTS[1].get(str(found), {}), **renamed}

    def note(self, line: str) -> None:
        """Keeps a note, once."""
        if line not in self.notes:
            self.notes.append(line)

    def _check_keys(self, config: Config, rule: Rule, where: str) -> None:
        only = rule.only or {}
        unknown = sorted(set(config) - COMMON - rule.reads - rule.harmless - set(only))
        if unknown:
            got = ", ".join(map(str, unknown))
            raise UnsupportedError(where, "options that are known", got, "see the README's limits")
        for key, value in only.items():
            if config.get(key, value) != value:
                got = f"{key}={config[key]!r}"
                raise UnsupportedError(where, f"{key}={value!r}", got, "see the README's limits")
        policy = dtype_policy(config.get("dtype"))
        if policy not in DTYPES:
            raise UnsupportedError(where, "a float dtype", policy, "save the model unquantised")
        if policy.startswith("mixed"):
            self.notes.append(f"{where}: policy {policy}; ports compute in one dtype")


def _is_custom(layer: Config) -> bool:
    """Whether a class is somebody's own, whatever it is called."""
    module, registered = layer.get("module"), layer.get("registered_name")
    package = str(module or "keras").split(".")[0]
    return package not in ("keras", "tf_keras", "tensorflow") or ">" in str(registered or "")


def dtype_policy(value: Any) -> str:
    """Name of a dtype or dtype policy as configs write it; float32 where there is none."""
    if isinstance(value, Mapping):
        config = value.get("config", {})
        name = config.get("name") if isinstance(config, Mapping) else None
        return str(name or value.get("class_name"))
    return "float32" if value is None else str(value)


def _activation_name(value: Any, where: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping) and value.get("class_name") == "function":
        return _activation_name(value.get("config"), where)
    if isinstance(value, Mapping) and _is_hard_sigmoid_keras2(value):
        return "hard_sigmoid_keras2"
    got = value.get("class_name") if isinstance(value, Mapping) else type(value).__name__
    raise UnsupportedError(where, "an activation given by name", got, "use a stock activation")


def _is_hard_sigmoid_keras2(value: Config) -> bool:
    config = value.get("config")
    layers = config.get("layers", []) if isinstance(config, Mapping) else []
    layers = [layer for layer in layers if layer.get("class_name") != "InputLayer"]
    neutral = {"negative_slope": 0.0, "threshold": 0.0}
    return (
        value.get("class_name") == "Sequential"
        and [
            (
                layer.get("class_name"),
                {
                    key: option
                    for key, option in layer.get("config", {}).items()
                    if key not in COMMON and neutral.get(key, ...) != option
                },
            )
            for layer in layers
        ]
        == HARD_SIGMOID_KERAS2
    )


def major_of(description: Description) -> int:
    """Major version of the Keras that wrote a file: its era."""
    version, where = description.version, description.file or "keras"
    if not version:
        do = 'say keras_version="2.1", say, when loading it'
        raise UsageError(where, "the version of Keras that wrote it", "none in the file", do)
    if version.split(".")[0] not in ("1", "2", "3"):
        want, got = "a model written by Keras 1, 2 or 3", f"Keras {version}"
        raise UnsupportedError(where, want, got, "see the README's limits")
    return int(version.split(".")[0])


def _features(shape: Shape, where: str) -> int:
    if not shape or shape[-1] is None:
        raise UnsupportedError(where, "a known number of features", f"{shape}", "name input_shape")
    return shape[-1]


def _flag(config: Config, key: str) -> bool:
    if not isinstance(config[key], (bool, int)) or config[key] not in (0, 1):
        raise ValueError(f"{key}={config[key]!r}")
    return bool(config[key])


def _training_only(reader: Reader, config: Config, where: str) -> None:
    for key in ("dropout", "recurrent_dropout"):
        if config.get(key):
            reader.notes.append(
                f"{where}: {key}={config[key]} acts only in training; ports do not apply it"
            )


def _recurrent(config: Config, shape: Shape, reader: Reader) -> dict[str, Any]:
    """The options that all recurrent layers share."""
    where = reader.where(config["name"])
    _training_only(reader, config, where)
    return {
        "features": _features(shape, where),
        "units": config["units"],
        "activation": reader.activation(config["activation"], where),
        "use_bias": _flag(config, "use_bias"),
        "return_sequences": _flag(config, "return_sequences"),
        "dropout": config.get("dropout", 0.0),
        "recurrent_dropout": config.get("recurrent_dropout", 0.0),
    }


def _lstm(config: Config, shape: Shape, reader: Reader) -> Spec:
    shared = _recurrent(config, shape, reader)
    where = reader.where(config["name"])
    gate = reader.activation(config["recurrent_activation"], where)
    return LSTM(gate_activation=gate, **shared)


def _simple_rnn(config: Config, shape: Shape, reader: Reader) -> Spec:
    return SimpleRNN(**_recurrent(config, shape, reader))


def _dense(config: Config, shape: Shape, reader: Reader) -> Spec:
    where = reader.where(config["name"])
    return Dense(
        features=_features(shape, where),
        units=config["units"],
        activation=reader.activation(config["activation"], where),
        use_bias=_flag(config, "use_bias"),
    )


def _time_distributed(config: Config, shape: Shape, reader: Reader) -> Spec:
    inner = config["layer"]
    if inner.get("class_name") not in ("Dense", "Activation"):
        got = f"TimeDistributed({inner.get('class_name')})"
        where = reader.where(config["name"])
        raise UnsupportedError(where, "TimeDistributed(Dense)", got, "see the README's limits")
    return TimeDistributed(reader.spec(inner, shape[1:]))


def _dropout(config: Config, _shape: Shape, reader: Reader) -> Spec:
    if config.get("noise_shape") is not None:
        where = reader.where(config["name"])
        got = f"noise_shape={config['noise_shape']}"
        raise UnsupportedError(where, "noise_shape=None", got, "see the README's limits")
    return Dropout(config["rate"])


def _activation(config: Config, _shape: Shape, reader: Reader) -> Spec:
    return Activation(reader.activation(config["activation"], reader.where(config["name"])))


def _keys(text: str) -> frozenset[str]:
    return frozenset(text.split())


RNN_HARMLESS = _keys("implementation unroll seed zero_output_for_mask input_dim input_length")

RNN_ONLY = {"go_backwards": False, "return_state": False, "stateful": False, "time_major": False}

RULES: dict[str, Rule] = {
    "SimpleRNN": Rule(
        _simple_rnn,
        _keys("units activation use_bias return_sequences dropout recurrent_dropout"),
        RNN_HARMLESS,
        only=RNN_ONLY,
        below="cell",
    ),
    "LSTM": Rule(
        _lstm,
        _keys(
            "units activation recurrent_activation use_bias return_sequences dropout "
            "recurrent_dropout"
        ),
        # unit_forget_bias is an initialiser: the trained bias holds it already
        RNN_HARMLESS | _keys("unit_forget_bias use_cudnn"),
        only=RNN_ONLY,
        below="cell",
    ),
    "Dense": Rule(
        _dense,
        _keys("units activation use_bias"),
        _keys("input_dim"),
        only={"lora_rank": None, "quantization_config": None},
    ),
    "TimeDistributed": Rule(_time_distributed, _keys("layer"), below="layer"),
    "Dropout": Rule(_dropout, _keys("rate noise_shape"), _keys("seed")),
    "Activation": Rule(_activation, _keys("activation")),
}
"""Keras class name -> how its config is read."""
