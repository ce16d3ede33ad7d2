"""Writes Python source as a formatter would format it: the part that all writers share."""

from __future__ import annotations

import ast
import functools
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from importlib import resources

from xlstm.ir.batch_axes import late
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.layers import Bidirectional, LayerSpec, TimeDistributed
from xlstm.ir.literals import quoted
from xlstm.ir.python_source import parse
from xlstm.ir.types import Shape

from .variables import NodeVariables, inputs_of, places

WIDTH = 88
"""Line length of the emitted code: the formatter's own default."""

WIDEST = 32
"""Most terms with operators between them, or nested calls: Python's parser nests them."""


@dataclass(frozen=True)
class CallExpr:
    """A call in source text, or a tuple where it has no name.

    Arguments are texts, calls, or (keyword, text or call) pairs.
    """

    name: str
    args: tuple[Argument, ...]
    brackets: str = "()"

    def __str__(self) -> str:
        opening, closing = self.brackets[0], self.brackets[1]
        return f"{self.name}{opening}{', '.join(map(_flat, self.args))}{closing}"


Argument = str | CallExpr | tuple[str, "str | CallExpr"]


def call(name: str, *args: Argument | None) -> CallExpr:
    """Returns a call of `name`; arguments that are None are dropped.

    >>> str(call("nn.Linear", "2", "3", ("bias", "False"), None))
    'nn.Linear(2, 3, bias=False)'
    """
    return CallExpr(name, tuple(arg for arg in args if arg is not None))


def listed(items: Iterable[str | CallExpr]) -> CallExpr:
    """Returns a list of `items`.

    >>> str(listed(["h", "c"]))
    '[h, c]'
    """
    return CallExpr("", tuple(items), "[]")


def _flat(arg: Argument) -> str:
    return f"{arg[0]}={arg[1]}" if isinstance(arg, tuple) else str(arg)


def statement(start: str, value: Argument, indent: int, end: str = "") -> list[str]:
    """Returns lines of `start value end`, broken where it is too long for one line."""
    pad = " " * indent
    flat = f"{pad}{start}{_flat(value)}{end}"
    keyword, inner = value if isinstance(value, tuple) else ("", value)
    if len(flat) <= WIDTH or not isinstance(inner, CallExpr):
        return [flat]
    first, last = inner.brackets[0], inner.brackets[1]
    opening = f"{pad}{start}{keyword}{'=' if keyword else ''}{inner.name}{first}"
    alone = f"{pad}    {_flat(value)}"
    whole = len(opening) > WIDTH or not inner.args
    if whole and len(alone) <= WIDTH and start.endswith(" = "):
        return [f"{pad}{start}(", alone, f"{pad}){end}"]
    if len(opening) > WIDTH and start.endswith(" = "):
        return [f"{pad}{start}(", *statement("", inner, indent + 4), f"{pad}){end}"]
    joined = " " * (indent + 4) + ", ".join(map(_flat, inner.args))
    if inner.name and len(joined) <= WIDTH:
        return [opening, joined, f"{pad}{last}{end}"]
    lines = [line for arg in inner.args for line in statement("", arg, indent + 4, ",")]
    return [opening, *lines, f"{pad}{last}{end}"]


def assigned(name: str, value: Argument) -> list[str]:
    """Returns lines of a method that set a variable; long texts get parentheses."""
    line = f"        {name} = {value}"
    if isinstance(value, str) and len(line) > WIDTH:
        return [f"        {name} = (", f"            {value}", "        )"]
    return statement(f"{name} = ", value, 8)


FOLDER = "folder: str | Path = Path(__file__).parent"
"""Parameter of every emitted `load`."""


def signature(name: str, returns: str, *params: str) -> list[str]:
    """Returns the first lines of a function, broken where they are too long for one line."""
    return statement("def ", call(name, *params), 0, f" -> {returns}:")


def shape_text(shape: Shape) -> str:
    """Returns a sample's shape with its batch axis: (batch, time, 3)."""
    names = ["batch", *("any" if size is None else f"{size:d}" for size in shape)]
    if len(shape) == 2 and shape[0] is None:
        names[1] = "time"
    return f"({', '.join(names)})"


def shape_comment(
    model: Model, node: Node, first: Sequence[bool] = (), flat: Sequence[bool] = ()
) -> str:
    """Returns a comment with the shapes before and after a layer.

    Args:
        model: the graph.
        node: the layer.
        first: True for channels first, before and after.
        flat: True for time steps joined with the batch, before and after.
    """
    texts = []
    neither, shapes = (False, False), (model.shape(node.inputs[0]), node.shape)
    for shape, is_first, is_flat in zip(shapes, first or neither, flat or neither, strict=True):
        time, own = (shape[:1], shape[1:]) if is_flat else ((), shape)
        text = shape_text((own[-1], *own[:-1]) if is_first else own)
        steps = "time" if time == (None,) else f"{time[0] if time else ''}"
        texts.append(text.replace("batch", f"batch * {steps}", 1) if is_flat else text)
    return f"# {texts[0]} -> {texts[1]}"


def _segment(lines: Sequence[str], item: ast.stmt) -> str:
    """Returns the text of a statement with its decorators, without a comment after it."""
    first = min([item.lineno, *(d.lineno for d in getattr(item, "decorator_list", ()))])
    own = [*lines[first - 1 : item.end_lineno]]
    own[-1] = own[-1].encode()[: item.end_col_offset].decode()
    return "\n".join(own)


@functools.cache
def template_sources(file: str) -> dict[str, str]:
    """Returns the source of each function and class in one of our files; never imports it."""
    text = resources.files("xlstm.converters").joinpath(file).read_text("utf-8")
    lines = text.split("\n")  # get_source_segment would split the text for every item
    return {
        item.name: _segment(lines, item)
        for item in parse(text).body
        if isinstance(item, (ast.ClassDef, ast.FunctionDef))
    }


@dataclass
class ModuleSource:
    """Lines that the layers of a model add to its module, collected in order.

    Attributes:
        init: lines of the constructor.
        forward: lines of the forward pass.
        imports: import lines.
        helpers: source text of functions and classes before the module.
        registered: True if texts that the user registered are among them.
        inputs: variables of the model's inputs.
        outputs: variables of the model's outputs.
    """

    init: list[str] = field(default_factory=list)
    forward: list[str] = field(default_factory=list)
    imports: set[str] = field(default_factory=set)
    helpers: list[str] = field(default_factory=list)
    registered: bool = False
    inputs: list[str] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def computed(self, states: Sequence[str]) -> bool:
        """True if states are the model's own, of its one input's batch: their sizes fit."""
        return len(self.inputs) == 1 and self.inputs[0] not in states

    def add_helper(self, text: str) -> None:
        """Adds a helper, once."""
        if text not in self.helpers:
            self.helpers.append(text)

    def use_template(self, file: str, *names: str) -> None:
        """Adds helpers from one of our files, once each."""
        for name in names:
            self.add_helper(template_sources(file)[name])


def by_key(model: Model, parts: ModuleSource) -> CallExpr:
    """Returns the dict of a model's outputs."""
    pairs = zip(model.keys, parts.outputs, strict=True)
    return CallExpr("", tuple(f"{quoted(key)}: {value}" for key, value in pairs), "{}")


def output_words(model: Model) -> str:
    """Returns the outputs of a model, in words for its docstring."""
    if model.keys:
        return "A dict of the outputs"
    return "One output" if len(model.outputs) == 1 else "The outputs"


def returned(model: Model, parts: ModuleSource) -> list[str]:
    """Returns the last lines of a forward pass: one output, a tuple of several, or a dict."""
    value: str | CallExpr = CallExpr("", tuple(parts.outputs))
    if model.keys:
        value = by_key(model, parts)
    elif len(parts.outputs) == 1:
        (value,) = parts.outputs
    value = CallExpr("", (value, "after")) if model.stateful else value
    bare = isinstance(value, CallExpr) and value.brackets == "()"
    flat = f"        return {str(value)[1:-1] if bare else value}"
    return [flat] if len(flat) <= WIDTH else statement("return ", value, 8)


def write_layers(
    model: Model, emit: Callable[[ModuleSource, Model, NodeVariables], None]
) -> ModuleSource:
    """Writes the layers of a model in order; returns their source."""
    names = inputs_of(model)
    parts = ModuleSource(inputs=list(names.values()))
    for site in places(model):
        emit(parts, model, site)
        names |= {Edge(site.node.name, n): name for n, name in enumerate(site.outputs)}
    parts.outputs = [names[edge] for edge in model.outputs]
    return parts


def origin(model: Model) -> str:
    """Returns the origin of a model, without names that a file could inject."""
    titles = {"keras": "Keras", "torch": "PyTorch", "nnx": "Flax NNX", "linen": "Flax Linen"}
    title = titles.get(model.source.framework, "unknown")
    version = model.source.version
    plain = (
        version.replace(".", "").replace("-", "").replace("+", "").isalnum() and version.isascii()
    )
    return f"{title} {version}" if plain and len(version) < 30 else title


def _title(spec: LayerSpec) -> str:
    if isinstance(spec, TimeDistributed):
        return _title(spec.layer)
    if isinstance(spec, Bidirectional):
        halves = dict.fromkeys(half.kind for half in spec.halves)
        return f"bidirectional {' and '.join(halves)}"
    return spec.weight_kind if spec.sizes() and spec.title == spec.kind else spec.title


def composition(model: Model) -> str:
    """Returns the layers of a model on one line: those with weights, or all if none has any.

    >>> from xlstm.model import LSTM, Dense, Source, chain
    >>> layers = [("a", LSTM(1, 2, return_sequences=True), True), ("b", LSTM(2, 2), True)]
    >>> composition(chain("m", [*layers, ("c", Dense(2, 1), True)], (None, 1), {}, Source("")))
    '2 LSTM, Dense'
    """
    own = [node.spec for node in model.layers if not node.layer]
    titles = [_title(spec) for spec in own if spec.weighted_parts] or [_title(spec) for spec in own]
    counts = Counter(titles or ["nothing but inputs"])
    text = ", ".join(f"{n} {title}" if n > 1 else title for title, n in counts.items())
    return text if len(text) < WIDTH - 30 else f"{len(titles)} layers of {len(counts)} kinds"


def axes_words(model: Model) -> list[str]:
    """Returns lines of a docstring for axes that differ in the source, after an empty one.

    They contain no names: a file could inject one.
    """
    before, after = late(model)
    lines = ([f"- it took {before}"] if before else []) + ([f"- it gave {after}"] if after else [])
    if not lines:
        return []
    last = "The same call gives other numbers here: transpose what was made for the source."
    return ["", "Batch first, as the source was not:", *lines, last]


def class_doc(model: Model, more: str = "") -> list[str]:
    """Returns the docstring of a model: its layers, inputs and outputs."""
    before = ", ".join(shape_text(model.node(name).shape) for name in model.inputs)
    after = ", ".join(shape_text(model.shape(edge)) for edge in model.outputs)
    flow = f"{before} -> {after}"
    lines = [flow] if len(flow) + 4 <= WIDTH else [before, f"-> {after}"]
    lines += axes_words(model)
    first = f'    """{composition(model)}{more}.'
    return [first, "", *(f"    {line}".rstrip() for line in lines), '    """']


def docstring(first: str, *lines: str) -> list[str]:
    """Returns a module docstring."""
    return [f'"""{first}', "", *lines, '"""', ""]


def imports(standard: Iterable[str], third_party: Iterable[str]) -> list[str]:
    """Returns import lines: standard library, then the rest, in isort's order."""
    blocks = [sorted(set(block), key=_import_key) for block in (standard, third_party)]
    first, second = blocks
    return [*first, *([""] if first and second else []), *second, "", ""]


def _import_key(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line.split()[1]


def join(blocks: Sequence[Sequence[str]]) -> str:
    """Joins top-level blocks with two blank lines between them."""
    return "\n\n\n".join("\n".join(block).strip("\n") for block in blocks if block) + "\n"
