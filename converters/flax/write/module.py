"""The parts of an emitted Flax module that are not layers: imports, signatures, states, stream.

In: a model and the source of its layers. Out: lines of the emitted module.
"""

from __future__ import annotations

import ast
from typing import Any

from xlstm.ir.graph import Model, Node, row_numbers
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers import Input
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse
from xlstm.ir.types import Shape

from ...codegen.source import (
    ModuleSource,
    assigned,
    call,
    imports,
    output_words,
    shape_text,
    signature,
    statement,
)
from .dialect import CELLS

FROM = {
    "Callable": "collections.abc",
    "Iterable": "collections.abc",
    "Iterator": "collections.abc",
    "Mapping": "collections.abc",
    "partial": "functools",
    "reduce": "functools",
    "Path": "pathlib",
    "Any": "typing",
}
"""Names of the standard library in emitted code -> their modules."""

THIRD = {
    "jax": "import jax",
    "jnp": "import jax.numpy as jnp",
    "np": "import numpy as np",
    "nn": "import flax.linen as nn",
    "nnx": "from flax import nnx",
    "traverse_util": "from flax import traverse_util",
    "dot_product_attention_weights": (
        "from flax.nnx.nn.attention import dot_product_attention_weights"
    ),
    "load_file": "from safetensors.flax import load_file",
}
"""Other names -> the lines that import them."""


def import_lines(text: str) -> list[str]:
    """Returns the import lines that a module's text needs."""
    used = {item.id for item in ast.walk(parse(text)) if isinstance(item, ast.Name)}
    return imports(
        _from({name: module for name, module in FROM.items() if name in used}),
        [
            *(line for name, line in THIRD.items() if name in used),
            *_from({name: "jax.typing" for name in ("ArrayLike", "DTypeLike") if name in used}),
        ],
    )


def _from(names: dict[str, str]) -> list[str]:
    return [
        f"from {module} import {', '.join(sorted(n for n, own in names.items() if own == module))}"
        for module in dict.fromkeys(names.values())
    ]


def call_signature(model: Model, parts: ModuleSource, options: list[str]) -> list[str]:
    """Returns the head of `__call__`, its docstring, the casts and the checks of the inputs."""
    inputs = [f"{name}: jax.Array" for name in parts.inputs]
    several, returns = len(parts.inputs) > 1, _outputs(model)
    returns = f"tuple[{returns}, State]" if model.stateful else returns
    head = statement("def ", call("__call__", "self", *inputs, *options), 4, f" -> {returns}:")
    what = output_words(model)
    of = "inputs" if several else f"inputs {shape_text(model.node(model.inputs[0]).shape)}"
    what = f"{what} and the state after the call" if model.stateful else what
    return [*head, f'        """{what} for a batch of {of}."""', *_casts(model, parts)]


def _outputs(model: Model) -> str:
    """Returns the type of the outputs."""
    if model.keys:
        return "dict[str, jax.Array]"
    return "jax.Array" if len(model.outputs) == 1 else "tuple[jax.Array, ...]"


def _casts(model: Model, parts: ModuleSource) -> list[str]:
    # row numbers stay integers: floats cannot store all of them
    lines, first, rows = list[str](), "", row_numbers(model)
    for name, variable in zip(model.inputs, parts.inputs, strict=True):
        spec = model.node(name).spec
        mask = isinstance(spec, Input) and spec.dtype == "bool"
        dtype = None if mask or name in rows else "self.param_dtype"
        value = call("jnp.asarray", variable, dtype)
        lines += assigned(variable, f"{value} != 0" if mask else value)
        lines += _checked(variable, model.node(name).shape)
        if not mask and not first:
            first = variable if dtype else f"{variable}.astype(self.param_dtype)"
    if model.stateful:
        lines += statement("before, after = ", call("", call("start", "state", first), "{}"), 8)
    return lines


def _checked(variable: str, shape: Shape) -> list[str]:
    """Returns lines that refuse an input of another rank, for which a scan is meaningless.

    Shapes are static: the check costs a compiled model nothing.
    """
    said = f'f"{variable} of shape {shape_text(shape)} was expected, not {{{variable}.shape}}"'
    return [
        f"        if {variable}.ndim != {len(shape) + 1}:",
        *statement("raise ", call("ValueError", said), 12),
    ]


STATE_OPTION = "state: State | None = None"
"""Parameter of stateful models."""


def need_states(parts: ModuleSource) -> None:
    """Adds the functions that `state_blocks` calls."""
    parts.use_template(CELLS, "zeros", "checked")


def _state_shapes(node: Node) -> tuple[Shape, ...]:
    spec: Any = node.spec
    shapes: tuple[Shape, ...] = spec.state_shapes()
    return shapes


def state_blocks(model: Model) -> list[list[str]]:
    """Returns the sizes of the states of stateful layers, and the function that makes them."""
    if not model.stateful:
        return []
    names = identifiers(model)
    shapes: dict[str, Any] = {node.name: _state_shapes(node) for node in model.stateful}
    # one number per state if all have one axis; those of a convolution have more
    flat = all(len(shape) == 1 for found in shapes.values() for shape in found)
    lines = []
    for node in model.stateful:
        widths = [literal(shape[0] if flat else shape) for shape in shapes[node.name]]
        lines.append(f'    "{names[node.name]}": ({", ".join(widths)}{"," * (len(widths) == 1)}),')
    return [
        [
            "State = Mapping[str, tuple[jax.Array, ...]]",
            '"""Layer -> its states, (batch, size) each; h before c, forward before backward."""',
            "",
            "SIZES = {",
            *lines,
            "}",
        ],
        (START if flat else START.replace("x, n)", "x, *n)")).splitlines(),
    ]


START = '''def start(state: State | None, x: jax.Array) -> State:
    """What every layer starts from: the states that were given, or zeros."""
    if state is None:
        return {name: tuple(zeros(x, n) for n in SIZES[name]) for name in SIZES}
    wanted = {name: len(sizes) for name, sizes in SIZES.items()}
    given = {name: len(states) for name, states in state.items()}
    if given != wanted:
        raise ValueError(f"states per layer: {wanted} were expected, not {given}")
    return {
        name: tuple(checked(h, x, n) for h, n in zip(state[name], sizes, strict=True))
        for name, sizes in SIZES.items()
    }
'''


def stream(model: Model, parts: ModuleSource, runs: str, held: dict[str, str]) -> list[str]:
    """Returns the function that feeds a long sequence chunk by chunk.

    Args:
        model: a stateful model.
        parts: source of its layers.
        runs: expression of the compiled model; its argument is the last of `held`.
        held: names and types of the parameters for the model.
    """
    if not model.stateful:
        return []
    several = len(parts.inputs) > 1
    chunks = f"Iterable[{'tuple[jax.Array, ...]' if several else 'jax.Array'}]"
    returns = f"Iterator[tuple[{_outputs(model)}, State]]"
    args = ", ".join([list(held)[-1], "*chunk" if several else "chunk", "state=state"])
    first = [f"{name}: {kind}" for name, kind in held.items()]
    return [
        *signature("stream", returns, *first, f"chunks: {chunks}", STATE_OPTION),
        '    """Outputs of each chunk of a long sequence, and the state after it."""',
        f"    run = {runs}",
        "    for chunk in chunks:",
        f"        outputs, after = run({args})",
        "        yield outputs, after",
        "        state = after",
    ]
