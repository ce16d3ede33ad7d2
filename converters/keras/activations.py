"""Names of activations in every Keras version, and source for those without; no framework."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

CELLS = "keras/templates/activations.py"
"""File of the helpers."""

NAMES: dict[str, str] = {
    name: name
    for name in (
        "linear tanh sigmoid relu softmax hard_sigmoid elu selu celu softplus softsign silu gelu "
        "mish exponential leaky_relu relu6 hard_tanh hard_silu log_sigmoid log_softmax "
        "tanh_shrink soft_shrink hard_shrink squareplus sparse_plus sparse_sigmoid"
    ).split()
}
"""Activation -> its name in Keras 3."""

STOCK: dict[str, tuple[str, str]] = {
    "hard_sigmoid_keras2": ("hard_sigmoid_keras2(dtype)", "hard_sigmoid_keras2"),
    "gelu_tanh": ("gelu_tanh(dtype, {rank})", "gelu_tanh"),
    "leaky_relu_01": ("leaky_relu_01(dtype)", "leaky_relu_01"),
}
"""Activation without a name in Keras 3 -> (expression for stock layers, helper in `CELLS`).

`dtype` is a variable of the emitted code, `{rank}` the number of axes of the activation's argument,
the batch's counted: 2 inside a recurrent layer and inside TimeDistributed(Dense).
"""

KERAS1 = {name: name for name in "linear tanh sigmoid relu softmax elu softplus softsign".split()}

KERAS2 = {
    name: name for name in "selu exponential gelu mish silu leaky_relu relu6 log_softmax".split()
}

FROM_KERAS: dict[int, dict[str, str]] = {
    1: {**KERAS1, "hard_sigmoid": "hard_sigmoid_keras2"},
    2: {
        **KERAS1,
        **KERAS2,
        "hard_sigmoid": "hard_sigmoid_keras2",
        "swish": "silu",
        # names of TensorFlow's own functions, which files of tf.keras have
        "softmax_v2": "softmax",
        "log_softmax_v2": "log_softmax",
    },
    3: {**{name: hub for hub, name in NAMES.items()}, "swish": "silu", "hard_swish": "hard_silu"},
}
"""Major version of the Keras that wrote a config -> its name of an activation -> canonical name."""

REFUSED: dict[str, str] = {
    "glu": "it halves the last axis of its input",
    "threshold": "it has parameters that no config has",
    "sparsemax": "Keras up to 3.15 computes something else under that name, whose results do not "
    "sum to 1; later ones do not, and a file does not say which one it was trained with",
}
"""Names in Keras 3 without a canonical activation -> the reason."""

STOCK_FORMS: dict[str, str] = {
    "ReLU[max_value=1.0](Rescaling[offset=0.5, scale=0.2](x))": "hard_sigmoid_keras2",
    "Multiply(x, Activation[activation='sigmoid'](Rescaling[scale=1.5957691216057308]("
    "Add(x, Rescaling[scale=0.044715](Multiply(x, x, x))))))": "gelu_tanh",
    "LeakyReLU[negative_slope=0.01](x)": "leaky_relu_01",
    "LeakyReLU[negative_slope=0.2](x)": "leaky_relu",
    "ReLU(x)": "relu",
    "ReLU[max_value=6.0](x)": "relu6",
    "ELU(x)": "elu",
    "Softmax(x)": "softmax",
}
"""Layers in the place of an activation, as formulas of x -> the activation."""

NEUTRAL: dict[str, dict[str, Any]] = {
    "ReLU": {"negative_slope": 0.0, "threshold": 0.0, "max_value": None},
    "ELU": {"alpha": 1.0},
    "Softmax": {"axis": -1},
    "Rescaling": {"offset": 0.0},
}
"""Options without effect at these values."""

SILENT = frozenset("name trainable dtype batch_input_shape batch_shape".split())
"""Options that never have an effect on the function."""

ROUNDED = {0.20000000298023224: 0.2, 0.009999999776482582: 0.01}
"""Slopes as Keras 2 writes them, rounded to float32 -> the slopes of the user."""

MOST = 8
"""Most layers of a stock form."""


def stock_form(config: Mapping[str, Any]) -> str:
    """Returns the activation that a layer's config stands for, "" if it is unknown.

    >>> stock_form({"class_name": "LeakyReLU", "config": {"name": "a", "alpha": 0.2}})
    'leaky_relu'
    """
    forms = {"Sequential": _sequential, "Functional": _functional}
    try:
        kind = str(config["class_name"])
        form = forms[kind](config["config"]) if kind in forms else _plain(config, "x")
    except (LookupError, TypeError, ValueError, AttributeError):  # no config that Keras writes
        return ""
    return "" if _is_custom(config) else STOCK_FORMS.get(form, "")


def _is_custom(layer: Mapping[str, Any]) -> bool:
    package = str(layer.get("module") or "keras").split(".")[0]
    registered = str(layer.get("registered_name") or "")
    return package not in ("keras", "tf_keras", "tensorflow") or ">" in registered


def _plain(layer: Mapping[str, Any], x: str) -> str:
    """Returns the config of one layer as a formula of its input's formula."""
    kind, options = str(layer["class_name"]), dict(layer["config"])
    if _is_custom(layer) or not all(map(str.isidentifier, (kind, *options))):
        raise ValueError(f"a class of your own, {kind}")
    if kind == "LeakyReLU" and "alpha" in options:  # the name in Keras 2
        options["negative_slope"] = options.pop("alpha")
    neutral = NEUTRAL.get(kind, {})
    found = [
        f"{key}={_value(options[key])}"
        for key in sorted(set(options) - SILENT)
        if key not in neutral or neutral[key] != options[key]
    ]
    return f"{kind}[{', '.join(found)}]({x})" if found else f"{kind}({x})"


def _value(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return repr(float(value))
    return repr(ROUNDED.get(value, value))


def _layers(config: Any) -> list[Any]:
    """Returns the layers of a model of one input, without its input layer."""
    listed = config["layers"] if isinstance(config, Mapping) else config  # a list in old Keras 2
    layers = [layer for layer in listed if layer["class_name"] != "InputLayer"]
    if len(layers) > MOST or len(listed) > len(layers) + 1:
        raise ValueError(f"{len(listed)} layers")
    return layers


def _sequential(config: Any) -> str:
    return functools.reduce(lambda x, layer: _plain(layer, x), _layers(config), "x")


def _functional(config: Mapping[str, Any]) -> str:
    """Returns a graph of layers, each called once on earlier ones, as one formula."""
    formulas = {tuple(_output(config["input_layers"])): "x"}
    for layer in _layers(config):
        (node,) = layer["inbound_nodes"]
        (argument,) = node["args"]
        tensors = argument if isinstance(argument, list) else [argument]
        output = (layer["name"], 0, 0)
        if node["kwargs"] or len(tensors) > 3 or output in formulas:
            raise ValueError(f"{layer['name']} called in another way")
        read = [formulas[tuple(tensor["config"]["keras_history"])] for tensor in tensors]
        formulas[output] = _plain(layer, ", ".join(read))
    return formulas[tuple(_output(config["output_layers"]))]


def _output(found: list[Any]) -> list[Any]:
    """Returns the only output in ["layer", 0, 0] or, in older versions, [["layer", 0, 0]]."""
    if not isinstance(found[0], str):
        (found,) = found
    return found


INEXACT_FLOAT64: dict[str, tuple[str, float]] = {
    "gelu": ("tf.nn.gelu divides by a square root of 2 rounded to float32", 4.2e-9),
    "gelu_tanh": ("tf.nn.gelu rounds 0.044715 to float32 in its approximation", 5.3e-10),
    "leaky_relu": ("tf.nn.leaky_relu rounds its slope to float32", 3.0e-9),
    "leaky_relu_01": ("tf.nn.leaky_relu rounds its slope to float32", 2.3e-10),
    "elu": ("tf.nn.elu computes e^x - 1, which loses digits near 0", 1.7e-16),
    "selu": ("tf.nn.selu computes e^x - 1, which loses digits near 0", 3.0e-16),
}
"""Activations that Keras computes inexactly in float64 on TensorFlow -> (reason, largest error).

Errors are per max(1, |x|), measured against 40 digits with TensorFlow 2.21 on [-30, 30]. The others
are within 4 units in the last place of the larger one of argument and result.
"""

INEXACT_FLOAT32: dict[str, tuple[str, float]] = {
    "elu": (INEXACT_FLOAT64["elu"][0], 6.6e-8),
    "selu": (INEXACT_FLOAT64["selu"][0], 1.5e-7),
}
"""The same in float32."""
