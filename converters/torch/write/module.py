"""The parts of an emitted PyTorch module beside its layers; imports no framework.

In: a model. Out: source text of `model.py`.
"""

from __future__ import annotations

import ast
from typing import Any

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers.custom import kind_of, unwrap_time_distributed
from xlstm.ir.layers.shape import RESHAPING
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse
from xlstm.ir.types import Shape

from ...codegen.custom_layers import checked, merged
from ...codegen.source import (
    FOLDER,
    CallExpr,
    ModuleSource,
    assigned,
    axes_words,
    call,
    class_doc,
    docstring,
    imports,
    join,
    origin,
    output_words,
    returned,
    shape_text,
    signature,
    statement,
    write_layers,
)
from ..native import bare
from .elementwise import linear
from .layers import emit_nodes
from .recurrent import CELLS, LAYER_CELLS, native_call

ABSTRACT = ("Callable", "Iterable", "Iterator", "Mapping")
"""Names of `collections.abc` that emitted code may use."""

LONGEST = 8
"""Most outputs that a return type lists one by one."""


def import_lines(text: str) -> list[str]:
    """Returns the import lines that a module's text needs."""
    used = {item.id for item in ast.walk(parse(text)) if isinstance(item, ast.Name)}
    abstract = ", ".join(name for name in ABSTRACT if name in used)
    repeated = ["from functools import reduce"] if "reduce" in used else []
    functional = ["from torch.nn import functional as F"] if "F" in used else []
    return imports(
        [f"from collections.abc import {abstract}", *repeated, "from pathlib import Path"],
        [
            "import torch",
            "from safetensors.torch import load_file",
            "from torch import Tensor, nn",
            *functional,
        ],
    )


def functions(dtype: str, made: str, make: list[str]) -> list[list[str]]:
    """Returns the source of the functions build and load.

    Args:
        dtype: default dtype of the model.
        made: class that they return.
        make: lines that make an object of that class.
    """
    default = f"dtype: torch.dtype = torch.{dtype}"
    return [
        [
            *signature("build", made, "weights: Mapping[str, Tensor]", default),
            '    """The model with these weights, by name, in evaluation mode."""',
            *make,
            "    model.load_state_dict(weights)",
            "    return model.eval()",  # evaluation mode, no code is evaluated
        ],
        [
            *signature("load", made, FOLDER, default),
            '    """The model with the trained weights that lie in `folder`."""',
            '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)',
        ],
    ]


STATE = "state: State | None = None"
"""Parameter of stateful models."""


def start_of(model: Model) -> str:
    """Returns the source of the function for initial states: of sizes, or of whole shapes."""
    specs: list[Any] = [node.spec for node in model.stateful]
    flat = all(len(shape) == 1 for spec in specs for shape in spec.state_shapes())
    return "start" if flat else "start_shapes"


def states(model: Model) -> list[str]:
    """Returns the type of the states of a stateful model, and their sizes."""
    if not model.stateful:
        return []
    names = identifiers(model)
    lines = []
    whole = start_of(model) == "start_shapes"
    for node in model.stateful:
        spec: Any = node.spec
        sizes = [literal(shape if whole else shape[-1]) for shape in spec.state_shapes()]
        lines.append(f'    "{names[node.name]}": ({", ".join(sizes)}{"," * (len(sizes) == 1)}),')
    text = '"""Layer -> its states, (batch, size) each; h before c, forward before backward."""'
    return ["State = dict[str, tuple[Tensor, ...]]", text, "", "SIZES = {", *lines, "}"]


def stream(model: Model) -> list[str]:
    """Returns the function that feeds a long sequence to a stateful model chunk by chunk."""
    if not model.stateful:
        return []
    several = len(model.inputs) > 1
    chunks = f"chunks: Iterable[{'tuple[Tensor, ...]' if several else 'Tensor'}]"
    returns = f"Iterator[tuple[{_outputs(model)}, State]]"
    return [
        *signature("stream", returns, "model: Model", chunks, STATE),
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
    outputs = _outputs(model)
    state, returns = [], outputs
    if model.stateful:
        state, returns = [STATE], f"tuple[{outputs}, State]"
    inputs = [f"{name}: Tensor" for name in parts.inputs]
    return [
        "class Model(nn.Module):",
        *class_doc(model),
        "",
        *(CONSTRUCTOR if parts.init else []),
        *parts.init,
        *([""] if parts.init else []),
        *statement("def ", call("forward", "self", *inputs, *state), 4, f" -> {returns}:"),
        f'        """{_forward_doc(model)}"""',
        *_casts(model, parts),
        *parts.forward,
        *returned(model, parts),
    ]


def _forward_doc(model: Model) -> str:
    what = output_words(model)
    what += " and the state after the call" if model.stateful else ""
    if len(model.inputs) > 1:
        return f"{what} for a batch of inputs."
    return f"{what} for a batch of inputs {shape_text(model.node(model.inputs[0]).shape)}."


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
        lines.append(f"        before = {start_of(model)}(state, SIZES, {floats[0]})")
        lines.append("        after: State = {}")
    return lines


def _checked(variable: str, shape: Shape) -> list[str]:
    """Returns lines that refuse an input of another rank, which native layers may accept.

    `torch._assert` is what torch.fx can trace; a branch on a size is not.
    """
    said = f'f"{variable}: expected shape {shape_text(shape)}, got {{{variable}.dim()}} axes"'
    return statement("", call("torch._assert", f"{variable}.dim() == {len(shape) + 1}", said), 8)


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


def _made(spec: L.LayerSpec) -> CallExpr:
    """Returns the native module for a model of one layer."""
    if isinstance(spec, L.Bidirectional):
        return native_call(spec.forward, both=True)
    return native_call(spec) if isinstance(spec, L.Recurrent) else linear(spec)


def _make(model: Model, lone: bool) -> tuple[str, list[str]]:
    """Returns the class that build returns, and the lines that make it."""
    if not lone:
        return "Model", ["    model = Model().to(dtype)"]
    node = model.layers[0]
    made = _made(node.spec)
    frozen = [] if node.trainable else ["    model.requires_grad_(False)"]
    return made.name, [*statement("model = ", made, 4, ".to(dtype)"), *frozen]


def emit(model: Model) -> str:
    """Returns the source text of `model.py` for PyTorch."""
    lone = model.lone and bare(model.layers[0].spec)
    parts = ModuleSource() if lone else write_layers(model, emit_nodes(model))
    if model.stateful:
        own = start_of(model)
        parts.use_template(CELLS if own == "start" else LAYER_CELLS, own)
    held = states(model)
    blocks = [
        *([text] for text in parts.helpers),
        [] if lone else model_class(model, parts),
        *functions(model.compute_dtype().name, *_make(model, lone)),
        stream(model),
    ]
    head = docstring(
        f"A PyTorch module ported from {origin(model)}.",
        "Needs torch and safetensors. `load()` gives the model with its trained weights.",
        *axes_words(model),
    )
    head += merged(import_lines(join([held, *blocks])), parts)
    if held:
        head[-1:] = held  # one blank line, not two, between imports and an assignment
    return checked(join([head, *blocks]), parts)
