"""The parts of an emitted PyTorch module beside its layers; imports no framework.

In: a model. Out: source text of `model.py`.
"""

from __future__ import annotations

import ast
import textwrap
from collections.abc import Sequence
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers.custom import kind_of, unwrap_time_distributed
from xlstm.ir.layers.shape import RESHAPING
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse
from xlstm.ir.types import Shape

from ...codegen import source
from ...codegen.custom_layers import checked, merged
from ...codegen.source import CallExpr, ModuleSource, assigned, call, listed, statement
from ...codegen.variables import state_sentences
from ..native import bare
from .elementwise import linear
from .layers import emit_nodes
from .recurrent import native_call, state_words
from .writer import CELLS

ABSTRACT = ("Callable", "Iterable", "Iterator", "Mapping")
"""Names of `collections.abc` that emitted code may use."""

WEIGHTS = "model.safetensors"
"""File of weights in folders of PyTorch: the name of the Hugging Face hub."""

SAVING = "torch/templates/folder.py"

FOR_SAVING = [
    "import inspect",
    "import json",
    "from tempfile import TemporaryDirectory",
]
"""Imports of `SAVING` beside those of every module."""

LONGEST = 8
"""Most outputs that a return type lists one by one."""


def _lone_call(model: Model) -> CallExpr:
    """Returns the constructor of the native module that a model of one layer is."""
    spec = model.layers[0].spec
    both = isinstance(spec, L.Bidirectional)
    half = spec.forward if isinstance(spec, L.Bidirectional) else spec
    return native_call(half, both=both) if isinstance(half, L.Recurrent) else linear(half)


def _functions(model: Model, dtype: str, lone: bool) -> list[list[str]]:
    """Returns the source of the functions build and load.

    Args:
        model: the graph.
        dtype: default dtype of the model.
        lone: True for a bare native module in the place of the class Model.
    """
    default = f"dtype: torch.dtype = torch.{dtype}"
    made, make = "Model", ["    model = Model().to(dtype)"]
    if lone:
        node, module = model.layers[0], _lone_call(model)
        made, make = module.name, statement("model = ", module, 4, ".to(dtype)")
        make += [] if node.trainable else ["    model.requires_grad_(False)"]
    return [
        [
            *source.signature("build", made, "weights: Mapping[str, Tensor]", default),
            '    """The model with these weights, by name, in evaluation mode."""',
            *make,
            "    model.load_state_dict(weights)",
            "    return model.eval()",  # evaluation mode, no code is evaluated
        ],
        [
            *source.signature("load", made, source.FOLDER, default),
            '    """The model with the trained weights that lie in `folder`."""',
            f'    return build(load_file(Path(folder) / "{WEIGHTS}"), dtype)',
        ],
    ]


STATE = "state: State | None = None"
"""Parameter of stateful models."""


STATE_TYPE = [
    "State = dict[str, list[Tensor]]",
    '"""Layer -> its states, batch first; h before c, forward before backward."""',
]


def _shapes_of_states(model: Model) -> CallExpr:
    """Returns the dict of the shapes of states, by layer, without the batch."""
    names, pairs = identifiers(model), list[str]()
    for node in model.stateful:
        spec: Any = node.spec
        shapes = listed(listed(map(literal, shape)) for shape in spec.state_shapes())
        pairs.append(f'"{names[node.name]}": {shapes}')
    return CallExpr("", tuple(pairs), "{}")


def stream(model: Model) -> list[str]:
    """Returns the function that feeds a long sequence to a stateful model chunk by chunk."""
    several = len(model.inputs) > 1
    chunks = f"chunks: Iterable[{'tuple[Tensor, ...]' if several else 'Tensor'}]"
    returns = f"Iterator[tuple[{_outputs(model)}, State]]"
    return [
        *source.signature("stream", returns, "model: Model", chunks, STATE),
        '    """Outputs of each chunk of a long sequence, and the state after it."""',
        "    for chunk in chunks:",
        f"        outputs, after = model({'*' * several}chunk, state=state)",
        "        yield outputs, after",
        "        state = after",
    ]


def _outputs(model: Model) -> str:
    """Returns the type of the outputs; TorchScript needs the length of a tuple."""
    number = len(model.outputs)
    if model.keys:
        return "dict[str, Tensor]"
    if number == 1:
        return "Tensor"
    return f"tuple[{', '.join(['Tensor'] * number) if number <= LONGEST else 'Tensor, ...'}]"


CONSTRUCTOR = ["    def __init__(self) -> None:", "        super().__init__()"]


def model_class(model: Model, parts: ModuleSource) -> list[str]:
    """Returns the source of the class Model."""
    outputs, words, ends = (
        _outputs(model),
        source.output_words(model),
        source.returned(model, parts),
    )
    state, returns = [], outputs
    if model.stateful:
        state, returns = [STATE], f"tuple[{outputs}, State]"
        words += " and the state after the call"
    words += " for a batch of inputs"
    if len(model.inputs) == 1:
        words += f" {source.shape_text(model.node(model.inputs[0]).shape)}"
    inputs = [f"{name}: Tensor" for name in parts.inputs]
    return [
        "class Model(Pretrained):",
        *source.class_doc(model),
        "",
        *(CONSTRUCTOR if parts.init else []),
        *parts.init,
        *([""] if parts.init else []),
        *statement("def ", call("forward", "self", *inputs, *state), 4, f" -> {returns}:"),
        *_forward_doc(words, state_sentences(model, parts.inputs, state_words)),
        *_casts(model, parts),
        *parts.forward,
        *ends,
    ]


def _forward_doc(words: str, sentences: Sequence[str]) -> list[str]:
    """Returns the docstring of a forward pass: a line, then sentences."""
    if not sentences:
        return [f'        """{words}."""']
    lines = [line for text in sentences for line in textwrap.wrap(text, source.WIDTH - 8)]
    return [f'        """{words}.', "", *(f"        {line}" for line in lines), '        """']


def _casts(model: Model, parts: ModuleSource) -> list[str]:
    """Returns checks of the inputs; integers become floats, as in Keras; masks bool."""
    lines, floats, dtype = list[str](), list[str](), ""
    for name, variable in zip(model.inputs, parts.inputs, strict=True):
        spec = model.node(name).spec
        assert isinstance(spec, L.Input)
        lines += _checked(variable, spec.shape)
        if spec.dtype == "bool":
            lines += assigned(variable, f"{variable} != 0")
            continue
        floats.append(variable)
        if "float" not in spec.dtype and not _numbers_rows(model, Edge(name)):
            dtype = dtype or _dtype(model)
            lines += statement(f"{variable} = ", call(f"{variable}.to", dtype), 8)
    if model.stateful:
        lines += assigned("before", call("start", "state", _shapes_of_states(model), floats[0]))
        lines.append("        after: State = {}")
    return lines


def _checked(variable: str, shape: Shape) -> list[str]:
    """Returns lines that refuse an input of another rank, which native layers may accept.

    `torch._assert` is what torch.fx can trace; a branch on a size is not.
    """
    wanted = source.shape_text(shape)
    message = f'f"{variable}: expected shape {wanted}, got {{{variable}.dim()}} axes"'
    return statement("", call("torch._assert", f"{variable}.dim() == {len(shape) + 1}", message), 8)


def _numbers_rows(model: Model, edge: Edge) -> bool:
    """True if an edge leads only to embeddings and masks: they take whole numbers as they are."""
    todo = [edge]
    while todo:
        if (here := todo.pop()) in model.returned:
            return False
        for node in model.readers(here):
            spec = unwrap_time_distributed(node.spec)
            if isinstance(spec, RESHAPING):
                todo.append(Edge(node.name))
            elif not isinstance(spec, (L.Embedding, L.NotEqual)):
                return False
    return True


def _dtype(model: Model) -> str:
    """Returns the expression for the dtype that a model computes in."""
    tensors = [
        tensor in kind_of(part).statistics
        for node in model.layers
        for _, part in node.spec.weighted_parts
        for tensor in kind_of(part).tensors
        if tensor not in part.missing_tensors()
    ]
    if not tensors:
        return "torch.get_default_dtype()"
    return f"next(self.{'buffers' if all(tensors) else 'parameters'}()).dtype"


def config(model: Model) -> dict[str, Any]:
    """Returns the content of config.json: the class, which takes no arguments, and its dtype."""
    lone = model.lone and bare(model.layers[0].spec)
    made = _lone_call(model).name.removeprefix("nn.") if lone else "Model"
    return {"architectures": [made], "dtype": model.compute_dtype().name}


def emit(model: Model) -> str:
    """Returns the source text of `model.py` for PyTorch."""
    lone = model.lone and bare(model.layers[0].spec)
    parts = ModuleSource() if lone else source.write_layers(model, emit_nodes(model))
    dtype, state_names = model.compute_dtype().name, list[str]()
    if model.stateful:
        parts.use_template(CELLS, "start")
        state_names = STATE_TYPE
    if not lone:
        parts.use_template(SAVING, "Pretrained")
    blocks = [
        *([text] for text in parts.helpers),
        [] if lone else model_class(model, parts),
        *_functions(model, dtype, lone),
        stream(model) if model.stateful else [],
    ]
    head = source.docstring(
        f"A PyTorch module ported from {source.origin(model)}.",
        "Needs torch and safetensors. `load()` gives the model with its trained weights.",
        *source.axes_words(model),
    )
    text = parse(source.join([state_names, *blocks]))
    used = {item.id for item in ast.walk(text) if isinstance(item, ast.Name)}
    abstract = ", ".join(name for name in ABSTRACT if name in used)
    standard = [f"from collections.abc import {abstract}", "from pathlib import Path"]
    folds = ", ".join(name for name in ("reduce", "wraps") if name in used)
    standard += [f"from functools import {folds}"] if folds else []
    standard += [] if lone else FOR_SAVING
    names = "load_file" if lone else "load_file, save_file"
    others = ["import torch", f"from safetensors.torch import {names}"]
    others += ["from torch import Tensor, nn"]
    others += ["from torch.nn import functional as F"] if "F" in used else []
    head += merged(source.imports(standard, others), parts)
    if state_names:
        head[-1:] = state_names  # one blank line, not two, between imports and an assignment
    return checked(source.join([head, *blocks]), parts)
