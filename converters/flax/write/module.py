"""Writes a model as Flax source, in Linen or NNX; imports no framework.

In: a model. Out: source text. `Dense(3, 2)`, named a, becomes

    self.a = nn.Dense(2, param_dtype=self.param_dtype)                   Linen
    self.a = nnx.Linear(3, 2, **options)                                 NNX
    x = self.a(x)
"""

from __future__ import annotations

import ast
import textwrap
from functools import partial
from typing import Any

from xlstm.ir.graph import Model, row_numbers
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers import Dense, Input
from xlstm.ir.layers.custom import kind_of
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse

from ...codegen import source
from ...codegen.custom_layers import checked, import_lines
from ...codegen.source import ModuleSource, call, statement
from ...codegen.variables import state_sentences
from .dialect import CELLS, LINEN, NNX, OPTIONS, Dialect
from .elementwise import dense_made
from .layers import bare, draws, write_node
from .recurrent import state_words

IMPORTS = {
    "Callable": "from collections.abc import Callable",
    "Iterable": "from collections.abc import Iterable",
    "Iterator": "from collections.abc import Iterator",
    "Mapping": "from collections.abc import Mapping",
    "partial": "from functools import partial",
    "reduce": "from functools import reduce",
    "Path": "from pathlib import Path",
    "Any": "from typing import Any",
    "jax": "import jax",
    "jnp": "import jax.numpy as jnp",
    "np": "import numpy as np",
    "nn": "import flax.linen as nn",
    "nnx": "from flax import nnx",
    "traverse_util": "from flax import traverse_util",
    "dot_product_attention_weights": (
        "from flax.nnx.nn.attention import dot_product_attention_weights"
    ),
    "ArrayLike": "from jax.typing import ArrayLike",
    "DTypeLike": "from jax.typing import DTypeLike",
    "load_file": "from safetensors.flax import load_file",
}
"""Names in emitted code -> the lines that import them."""


STATE_OPTION = "state: State | None = None"
"""Parameter of stateful models."""

MANY = 64
"""Number of layers from which a build spends most time on traced counters of random numbers."""


NNX_OPTIONS = '        options: Any = {"param_dtype": param_dtype, "rngs": rngs}'
"""Line of an NNX constructor: what every layer with parameters takes."""


def emit(dialect: Dialect, model: Model) -> str:
    """Returns the source text of `model.py` for Linen or NNX."""
    lone = _lone(model)
    parts = ModuleSource() if lone else source.write_layers(model, partial(write_node, dialect))
    if model.stateful:
        parts.use_template(CELLS, "zeros", "checked")
    if len(model.layers) >= MANY and not dialect.functional:
        parts.use_template(dialect.layers, "untraced_rngs")
    functions = _linen_functions if dialect.functional else _nnx_functions
    blocks = [
        *([text] for text in parts.helpers),
        *_state_blocks(model),
        [] if lone else _class(dialect, model, parts),
        *functions(model, lone),
        _stream(dialect, model, parts),
    ]
    head = source.docstring(
        f"A {dialect.title} module ported from {source.origin(model)}.",
        *_usage(dialect, model),
        *source.axes_words(model),
    )
    body = source.join(blocks)
    used = {item.id for item in ast.walk(parse(body)) if isinstance(item, ast.Name)}
    lines = [line for name, line in IMPORTS.items() if name in used]
    head += import_lines([*lines, *sorted(parts.imports)])
    return checked(source.join([head, *blocks]), parts)


def _lone(model: Model) -> Dense | None:
    """Returns the one layer of a model that needs no class, None for another model."""
    spec = model.layers[0].spec if model.lone else None
    return spec if isinstance(spec, Dense) and bare(spec) else None


def _usage(dialect: Dialect, model: Model) -> list[str]:
    """Returns lines of the module's docstring: the calls that load and run the model."""
    needs = "Needs flax and safetensors."
    inputs = "*inputs" if len(model.inputs) > 1 else "x"
    state = ", state=state" if model.stateful else ""
    if not dialect.functional:
        taken = f"{inputs}, state" if model.stateful else inputs
        run = f"lambda params, {taken}: nnx.merge(graphdef, params)({inputs}{state})"
        return [
            f"{needs} `model = load()` gives the model with its trained weights.",
            "An eager call traces every recurrent layer again, and `nnx.jit` takes the model apart",
            "at every call. To take it apart once:",
            "",
            "    graphdef, params = nnx.split(model)",
            *statement("run = ", call("jax.jit", run), 4),
            f"    run(params, {inputs}{state})",
        ]
    return [
        f"{needs} `module, variables = load()` gives the module and its trained",
        f"weights; `module.apply(variables, {inputs}{state})` runs it.",
    ]


def _class(dialect: Dialect, model: Model, parts: ModuleSource) -> list[str]:
    """Returns the class of a model."""
    options = [STATE_OPTION] if model.stateful else []
    if dialect.functional:
        options = ["*", *options, "train: bool = False"]
        constructor = [
            f"    param_dtype: DTypeLike = jnp.{model.compute_dtype().name}",
            "",
            "    def setup(self) -> None:",
            *(parts.init or ["        pass"]),
        ]
    else:
        constructor = [
            "    def __init__(self, *, param_dtype: DTypeLike, rngs: nnx.Rngs) -> None:",
            "        self.param_dtype = param_dtype",
            *([NNX_OPTIONS] if any(OPTIONS in line for line in parts.init) else []),
            *parts.init,
        ]
    return [
        f"class Model({dialect.module}.Module):",
        *source.class_doc(model),
        "",
        *constructor,
        "",
        *_call_signature(model, parts, options),
        *parts.forward,
        *source.returned(model, parts),
    ]


def _call_signature(model: Model, parts: ModuleSource, options: list[str]) -> list[str]:
    """Returns the head of `__call__`, its docstring, the casts and the checks of the inputs."""
    inputs = [f"{name}: jax.Array" for name in parts.inputs]
    several, returns = len(parts.inputs) > 1, _outputs(model)
    returns = f"tuple[{returns}, State]" if model.stateful else returns
    head = statement("def ", call("__call__", "self", *inputs, *options), 4, f" -> {returns}:")
    what = source.output_words(model)
    of = "inputs" if several else f"inputs {source.shape_text(model.node(model.inputs[0]).shape)}"
    what = f"{what} and the state after the call" if model.stateful else what
    doc = [
        f'        """{what} for a batch of {of}.',
        *_words_of_states(model, parts),
        '        """',
    ]
    doc = doc if len(doc) > 2 else [f'{doc[0]}"""']
    return [*head, *doc, *_casts(model, parts)]


def _words_of_states(model: Model, parts: ModuleSource) -> list[str]:
    """Returns lines of a docstring that say which inputs are states, after an empty one."""
    lines = list[str]()
    for text in state_sentences(model, parts.inputs, state_words):
        lines += textwrap.wrap(text, source.WIDTH - 8, break_long_words=False)
    return ["", *(f"        {line}" for line in lines)] if lines else []


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
        lines += source.assigned(variable, f"{value} != 0" if mask else value)
        # a scan over an input of another rank is meaningless; shapes are static, so that the check
        # costs a compiled model nothing
        shape = model.node(name).shape
        wanted = f"{variable} of shape {source.shape_text(shape)} was expected"
        said = f'f"{wanted}, not {{{variable}.shape}}"'
        lines.append(f"        if {variable}.ndim != {len(shape) + 1}:")
        lines += statement("raise ", call("ValueError", said), 12)
        if not mask and not first:
            first = variable if dtype else f"{variable}.astype(self.param_dtype)"
    if model.stateful:
        lines += statement("before, after = ", call("", call("start", "state", first), "{}"), 8)
    return lines


def _state_blocks(model: Model) -> list[list[str]]:
    """Returns the sizes of the states of stateful layers, and the function that makes them."""
    if not model.stateful:
        return []
    names = identifiers(model)
    specs: dict[str, Any] = {node.name: node.spec for node in model.stateful}
    shapes = {name: spec.state_shapes() for name, spec in specs.items()}
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
    """The states that every layer starts from: those given, or zeros."""
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


def _signature(name: str, returns: str, first: str, model: Model) -> list[str]:
    """Returns the head of `build` or `load`."""
    dtype = f"dtype: DTypeLike = jnp.{model.compute_dtype().name}"
    return source.signature(name, returns, first, dtype)


WEIGHTS = "weights: Mapping[str, ArrayLike]"
"""Parameter of `build`."""

LOAD = '    return build(load_file(Path(folder) / "weights.safetensors"), dtype)'
"""Body of `load`."""


def _linen_functions(model: Model, lone: Dense | None) -> list[list[str]]:
    """Returns `build` and `load` of a Linen module."""
    made, make = "Model", "Model(param_dtype=dtype)"
    if lone:
        layer = str(dense_made(lone, LINEN))
        made, make = layer.split("(")[0], layer.replace("self.param_dtype", "dtype")
    pair = f"tuple[{made}, dict[str, Any]]"
    return [
        [
            *_signature("build", pair, WEIGHTS, model),
            '    """The module and its variables with these weights, by dotted name."""',
            "    flat = {",
            '        tuple(name.split(".")): jnp.asarray(array, dtype)',
            "        for name, array in weights.items()",
            "    }",
            f"    return {make}, traverse_util.unflatten_dict(flat)",
        ],
        [
            *_signature("load", pair, source.FOLDER, model),
            '    """The module and the trained variables that lie in `folder`."""',
            LOAD,
        ],
    ]


def _nnx_functions(model: Model, lone: Dense | None) -> list[list[str]]:
    """Returns `build` and `load` of an NNX module."""
    specs = [part for node in model.layers for _, part in node.spec.weighted_parts]
    # training does not change statistics by gradients
    statistics = any(kind_of(spec).statistics for spec in specs)
    kinds = "(nnx.Param, nnx.BatchStat)" if statistics else "nnx.Param"
    without_draws, reseed, found = list[str](), list[str](), "set(weights)"
    if draws(model):
        without_draws = [
            "    # the state of random numbers is saved too: below it starts again",
            "    drawn = nnx.to_flat_state(nnx.state(model, nnx.RngState))",
            '    found = set(weights) - {".".join(map(str, path)) for path, _ in drawn}',
        ]
        reseed, found = ["    nnx.reseed(model, dropout=0)"], "found"
    made, make = _nnx_module(model, lone)
    return [
        [
            *_signature("build", made, WEIGHTS, model),
            '    """The model with these weights, by dotted name, in evaluation mode."""',
            *make,
            f"    params = nnx.to_flat_state(nnx.state(model, {kinds}))",
            '    names = {".".join(map(str, path)) for path, _ in params}',
            *without_draws,
            f"    if names != {found}:",
            f'        raise ValueError(f"weights that do not fit: {{sorted(names ^ {found})}}")',
            "    filled = [",
            '        (path, param.replace(jnp.asarray(weights[".".join(map(str, path))], dtype)))',
            "        for path, param in params",
            "    ]",
            "    nnx.update(model, nnx.from_flat_state(filled))",
            *reseed,
            "    model.eval()",  # evaluation mode, no code is evaluated
            "    return model",
        ],
        [
            *_signature("load", made, source.FOLDER, model),
            '    """The model with the trained weights that lie in `folder`."""',
            LOAD,
        ],
    ]


def _nnx_module(model: Model, lone: Dense | None) -> tuple[str, list[str]]:
    """Returns the type of build's result, and the lines that make it without random numbers."""
    if lone:
        layer = dense_made(lone, NNX)
        args = [arg for arg in layer.args if arg != OPTIONS]
        made = call(layer.name, *args, ("param_dtype", "dtype"), ("rngs", "nnx.Rngs(0)"))
        made = call("nnx.eval_shape", f"lambda: {made}")
        return layer.name, statement("model = ", made, 4)
    many = len(model.layers) >= MANY
    rngs = "untraced_rngs()" if many else "nnx.Rngs(params=0, dropout=0)"
    made = call("Model", ("param_dtype", "dtype"), ("rngs", rngs))
    return "Model", [
        "    # eval_shape: shapes only, no time spent on random weights",
        *statement("model = ", call("nnx.eval_shape", f"lambda: {made}"), 4),
    ]


def _stream(dialect: Dialect, model: Model, parts: ModuleSource) -> list[str]:
    """Returns the function that feeds a long sequence to a stateful model, chunk by chunk."""
    if not model.stateful:
        return []
    params, last = ["model: Model"], "model"
    run = "nnx.jit(lambda model, *inputs, state: model(*inputs, state=state))"
    if dialect.functional:
        params, last = ["module: Model", "variables: dict[str, Any]"], "variables"
        run = "jax.jit(module.apply)"
    several = len(parts.inputs) > 1
    chunks = f"Iterable[{'tuple[jax.Array, ...]' if several else 'jax.Array'}]"
    returns = f"Iterator[tuple[{_outputs(model)}, State]]"
    return [
        *source.signature("stream", returns, *params, f"chunks: {chunks}", STATE_OPTION),
        '    """Outputs of each chunk of a long sequence, and the state after it."""',
        f"    run = {run}",
        "    for chunk in chunks:",
        f"        outputs, after = run({last}, {'*chunk' if several else 'chunk'}, state=state)",
        "        yield outputs, after",
        "        state = after",
    ]
