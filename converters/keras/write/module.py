"""Writes a model as Keras 3 source; imports no framework.

In: a model. Out: source text of `model.py`. A layer `Dense(3, 2)`, named a, becomes

    keras.layers.Dense(2, dtype=dtype, name="a")
"""

from __future__ import annotations

import re

from xlstm.ir import layers as L
from xlstm.ir.graph import Model
from xlstm.ir.identifiers import identifier

from ...codegen.custom_layers import checked, merged
from ...codegen.source import (
    FOLDER,
    ModuleSource,
    axes_words,
    class_doc,
    docstring,
    imports,
    join,
    origin,
    shape_comment,
    signature,
    statement,
    template_sources,
    write_layers,
)
from ...codegen.variables import NodeVariables
from .constructors import layer
from .functional import around, explained, functional, model_input
from .layer_arguments import CELLS
from .plan import ModelPlan, plan_of


def _sequential(model: Model, plan: ModelPlan) -> tuple[ModuleSource, list[str]]:
    """Returns `make` of a chain."""

    def emit(parts: ModuleSource, model: Model, site: NodeVariables) -> None:
        made = layer(site.node.spec, around(model, site.node, parts), site.name)
        parts.forward.append(f"            {shape_comment(model, site.node)}")
        parts.forward += explained(statement("", made, 12, ","), 12)

    parts = write_layers(model, emit)
    return parts, [
        "def make(dtype: str) -> keras.Sequential:",
        *class_doc(model, "; not yet trained"),
        "    return keras.Sequential(",
        "        [",
        *statement("", model_input(model, model.inputs[0], plan), 12, ","),
        *parts.forward,
        "        ],",
        f'        name="{identifier(model.name)}",',
        "    )",
    ]


def _inner(spec: L.LayerSpec) -> L.LayerSpec:
    return spec.layer if isinstance(spec, L.TimeDistributed) else spec


TRIMS = (
    (
        "TimeDistributed(",
        "        layer = layer.layer if isinstance(layer, keras.layers.Wrapper) else layer\n",
        "",
    ),
    (
        "-forward_layer",
        "        # halves that stand by themselves are called layer-half\n"
        '        name = layer.name.replace("-", ".")\n',
        "        name = layer.name\n",
    ),
    (
        "MultiHeadAttention(",
        "        # the variables of attention lie in layers of its own: query/kernel\n"
        "        depth = 2 if isinstance(layer, keras.layers.MultiHeadAttention) else 1\n",
        "",
    ),
    (
        "MultiHeadAttention(",
        '                end = "/".join(variable.path.split("/")[-depth:])\n'
        '                found[f"{owner}.{end}"] = variable',
        '                found[f"{owner}.{variable.name}"] = variable',
    ),
)
"""Text of a kind of layer, the code of `variables` for it, and the code without it."""


def _variables(made: str) -> str:
    """Returns source that finds the variables of a model by their names."""
    text = template_sources(CELLS)["variables"]
    for mark, chunk, instead in TRIMS:
        assert chunk in text
        text = text if mark in made else text.replace(chunk, instead)
    return text


FINISHED = [
    "    for layer in model.layers:",
    "        if isinstance(layer, keras.layers.Normalization):",
    "            layer.finalize_state()",
]
"""Keras computes with copies of a Normalization's weights."""


def _functions(parts: ModuleSource, model: Model, kind: str) -> list[list[str]]:
    """`build` and `load`."""
    specs = [_inner(node.spec) for node in model.layers]
    dtype = model.compute_dtype().name
    default = f'dtype: str = "{dtype}"'
    held = [
        "    held = {",
        '        f"{layer.name}.{v.name}": v for layer in model.layers for v in layer.weights',
        "    }",
    ]
    if any(isinstance(spec, (L.Bidirectional, L.MultiHeadAttention)) for spec in specs):
        parts.helpers.append(_variables("\n".join(parts.forward)))
        held = ["    held = variables(model)"]
    return [
        [
            *signature("build", kind, "weights: Mapping[str, Any]", default),
            '    """The model with these weights, named layer.variable."""',
            "    model = make(dtype)",
            *held,
            "    if held.keys() != weights.keys():",
            "        wrong = sorted(held.keys() ^ weights.keys())",
            '        raise ValueError(f"weights that do not fit: {wrong}")',
            "    for name, variable in held.items():",
            "        variable.assign(weights[name])",
            *(FINISHED if any(isinstance(spec, L.Normalization) for spec in specs) else ()),
            "    return model",
        ],
        [
            *signature("load", kind, FOLDER, default),
            '    """The model with the trained weights that lie in `folder`."""',
            '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)',
        ],
    ]


NARROW = re.compile(
    r"use_cudnn=False|merge_mode=None|ConvLSTM[^#]*strides=\(|Padding1D\(\s*\(| = \w+\[:"
)
"""Patterns of correct Keras source that type checkers report as errors."""

LOOSE = [
    "# Keras's parameters have no types but those of their defaults, which are too narrow",
    "# pyright: reportArgumentType=false, reportCallIssue=false",
    "",
]


def emit(model: Model) -> str:
    """Returns the source text of `model.py` for Keras 3.

    Raises:
        UnsupportedError: a model that `plan_of` refuses.
    """
    plan = plan_of(model)
    plain = plan.plain(model)
    parts, make = (_sequential if plain else functional)(model, plan)
    kind = "keras.Sequential" if plain else "keras.Model"
    functions = _functions(parts, model, kind)
    used = "\n".join([*parts.helpers, *make])
    head = docstring(
        f"A Keras 3 model ported from {origin(model)}.", *_opened(parts), *axes_words(model)
    )
    head += LOOSE if NARROW.search(used) else []
    lines = imports(
        [
            f"from collections.abc import {'Callable, ' * ('Callable' in used)}Mapping",
            "from pathlib import Path",
            "from typing import Any",
        ],
        [
            "import keras",
            *(["import numpy as np"] if "np." in used else []),
            "from safetensors.numpy import load_file",
        ],
    )
    head += merged(lines, parts)
    text = join([head, *([text] for text in parts.helpers), make, *functions])
    return checked(text, parts)


def _opened(parts: ModuleSource) -> list[str]:
    """Returns lines of the module's docstring that show how to load the model."""
    needs = "Needs keras and safetensors. `load()` gives the model with its trained weights, as"
    needs, opened = f"{needs} does", '`keras.models.load_model("model.keras")`'
    if not parts.registered:
        return [needs, f"{opened}."]
    return [needs, f"{opened} once this module, which has layers of its", "own, is imported."]
