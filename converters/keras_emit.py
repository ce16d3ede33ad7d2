"""Writes a model as Keras 3 source; imports no framework."""

from __future__ import annotations

from collections.abc import Callable

from xlstm.converters.source import (
    FOLDER,
    Argument,
    Call,
    call,
    docstring,
    imports,
    join,
    origin,
    pieces,
    shape_comment,
    signature,
    statement,
)

from xlstm.identifiers import identifier, identifiers
from xlstm.model import LSTM, Activation, Dense, Dropout, Model, SimpleRNN, Spec, TimeDistributed

CELLS = "keras_cells.py"

OWN = "hard_sigmoid_keras2"
"""The one activation that Keras 3 has no name for."""


def _activation(name: str) -> str:
    return f"{OWN}(dtype)" if name == OWN else repr(name).replace("'", '"')


def _option(keyword: str, value: str, default: str) -> Argument | None:
    return None if value == default else (keyword, _activation(value))


def _flag(keyword: str, value: bool, default: bool) -> Argument | None:
    return None if value == default else (keyword, str(value))


def _recurrent(spec: LSTM | SimpleRNN) -> tuple[Argument | None, ...]:
    gate = getattr(spec, "gate_activation", "sigmoid")
    return (
        f"{spec.units}",
        _option("activation", spec.activation, "tanh"),
        _option("recurrent_activation", gate, "sigmoid"),
        _flag("use_bias", spec.use_bias, True),
        _flag("return_sequences", spec.return_sequences, False),
        ("dropout", repr(spec.dropout)) if spec.dropout else None,
        ("recurrent_dropout", repr(spec.recurrent_dropout)) if spec.recurrent_dropout else None,
    )


def _dense(spec: Dense) -> tuple[Argument | None, ...]:
    activation = _option("activation", spec.activation, "linear")
    return f"{spec.units}", activation, _flag("use_bias", spec.use_bias, True)


def _dropout(spec: Dropout) -> tuple[Argument | None, ...]:
    return (repr(spec.rate),)


def _activation_layer(spec: Activation) -> tuple[Argument | None, ...]:
    return (_activation(spec.activation),)


def _time_distributed(spec: TimeDistributed) -> tuple[Argument | None, ...]:
    return (layer(spec.layer, ("dtype", "dtype")),)


LAYERS: dict[type[Spec], Callable[..., tuple[Argument | None, ...]]] = {
    LSTM: _recurrent,
    SimpleRNN: _recurrent,
    Dense: _dense,
    TimeDistributed: _time_distributed,
    Dropout: _dropout,
    Activation: _activation_layer,
}


def layer(spec: Spec, *tail: Argument | None) -> Call:
    """Constructor of a layer."""
    return call(f"keras.layers.{spec.kind}", *LAYERS[type(spec)](spec), *tail)


def _uses_own(spec: Spec) -> bool:
    inner = spec.layer if isinstance(spec, TimeDistributed) else spec
    return OWN in (getattr(inner, "activation", ""), getattr(inner, "gate_activation", ""))


def _make(model: Model) -> list[str]:
    names = identifiers(model)
    first = model.node(model.inputs[0])
    lines = [
        "def make(dtype: str) -> keras.Sequential:",
        '    """The layers, not yet trained."""',
        "    return keras.Sequential(",
        "        [",
        *statement(
            "",
            call(
                "keras.Input",
                repr(first.shape),
                ("dtype", "dtype"),
                ("name", f'"{names[first.name]}"'),
            ),
            12,
            ",",
        ),
    ]
    for node in model.layers:
        trainable = None if node.trainable else ("trainable", "False")
        made = layer(node.spec, trainable, ("dtype", "dtype"), ("name", f'"{names[node.name]}"'))
        lines.append(f"            {shape_comment(model, node)}")
        lines += statement("", made, 12, ",")
    return [*lines, "        ],", f'        name="{identifier(model.name)}",', "    )"]


def _functions(dtype: str) -> list[list[str]]:
    default = f'dtype: str = "{dtype}"'
    return [
        [
            *signature("build", "keras.Sequential", "weights: Mapping[str, Any]", default),
            '    """The model with these weights, named layer.variable."""',
            "    model = make(dtype)",
            '    names = {f"{layer.name}.{v.name}" '
            "for layer in model.layers for v in layer.weights}",
            "    if names != set(weights):",
            '        raise ValueError(f"weights that do not fit: {sorted(names ^ set(weights))}")',
            "    for layer in model.layers:",
            '        arrays = [weights[f"{layer.name}.{v.name}"] for v in layer.weights]',
            "        layer.set_weights(arrays)",
            "    return model",
        ],
        [
            *signature("load", "keras.Sequential", FOLDER, default),
            '    """The model with the trained weights that lie in `folder`."""',
            '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)',
        ],
    ]


def emit(model: Model) -> str:
    """Source text of `model.py` for Keras 3."""
    own = any(_uses_own(node.spec) for node in model.layers)
    numpy = ["import numpy as np"] if own else []
    head = docstring(
        f"A Keras 3 model ported from {origin(model)}.",
        "Needs keras and safetensors. `load()` gives the model with its trained weights, as does",
        '`keras.models.load_model("model.keras")`.',
    )
    head += imports(
        [
            "from collections.abc import Mapping",
            "from pathlib import Path",
            "from typing import Any",
        ],
        ["import keras", *numpy, "from safetensors.numpy import load_file"],
    )
    helpers = [[pieces(CELLS)[OWN]]] if own else []
    return join([head, *helpers, _make(model), *_functions(model.compute_dtype().name)])
