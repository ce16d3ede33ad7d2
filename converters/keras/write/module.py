"""Writes a model as Keras 3 source; imports no framework.

In: a model. Out: source text of `model.py`. A layer `Dense(3, 2)`, named a, becomes

    keras.layers.Dense(2, dtype=dtype, name="a")

in a chain. In any other graph, with Keras's functional API, self-attention becomes

    x = keras.layers.Attention(dtype=dtype, name="a")([x, x])
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifier, identifiers
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.literals import literal

from ...codegen import custom_layers, source
from ...codegen.source import Argument, CallExpr, ModuleSource, call, listed, statement
from ...codegen.variables import NodeVariables
from .constructors import UNLIKE, inside, layer, two_layers
from .layer_arguments import CELLS, DOT_FLOOR, DTYPE, Around, number, own_blind
from .operations import is_operation, operation, unit
from .plan import ATTENDS, ModelPlan, has_mask_output, outputs_of, plan_of

MERGES = {
    "concat": "lambda a, b: [keras.ops.concatenate([a, b], axis=-1)]",
    "sum": "lambda a, b: [a + b]",
    "mul": "lambda a, b: [a * b]",
    "ave": "lambda a, b: [(a + b) / 2]",
    "none": "lambda a, b: [a, b]",
}
"""Functions that merge the two layers of a split bidirectional one."""


def model_input(model: Model, name: str, plan: ModelPlan) -> CallExpr:
    """Returns `keras.Input` of one input."""
    spec = model.node(name).spec
    assert isinstance(spec, L.Input)
    batch = plan.batch or spec.batch
    sizes = literal(spec.shape)
    shape: Argument = sizes if batch is None else ("batch_shape", literal((batch, *spec.shape)))
    readers = [unwrap_time_distributed(node.spec) for node in model.readers(Edge(name))]
    ids = bool(readers) and all(isinstance(reader, L.Embedding) for reader in readers)
    own = spec.dtype == "bool" or ("int" in spec.dtype and ids)
    dtype: Argument = ("dtype", literal(spec.dtype)) if own else DTYPE
    return call("keras.Input", shape, dtype, ("name", f'"{identifiers(model)[name]}"'))


def around(model: Model, node: Node, parts: ModuleSource) -> Around:
    """Returns the context of the constructor of a node's layer."""
    masked = model.mask_of(node.owner) is not None
    return Around(parts, len(model.shape(node.inputs[0])) + 1, masked, node.trainable)


UNTRAINED = "; not yet trained"
CUDNN = "# cuDNN's masks are for the end of a sequence only"


def explained(lines: list[str], indent: int) -> list[str]:
    """Returns lines that make a layer, after a comment where they avoid cuDNN."""
    away = any("use_cudnn=False" in line for line in lines)
    return [" " * indent + CUDNN, *lines] if away else lines


def _sequential(model: Model, plan: ModelPlan) -> tuple[ModuleSource, list[str]]:
    """Returns `make` of a chain."""

    def emit(parts: ModuleSource, model: Model, site: NodeVariables) -> None:
        made = layer(site.node.spec, around(model, site.node, parts), site.name)
        parts.forward.append(f"            {source.shape_comment(model, site.node)}")
        parts.forward += explained(statement("", made, 12, ","), 12)

    parts = source.write_layers(model, emit)
    return parts, [
        "def make(dtype: str) -> keras.Sequential:",
        *source.class_doc(model, UNTRAINED),
        "    return keras.Sequential(",
        "        [",
        *statement("", model_input(model, model.inputs[0], plan), 12, ","),
        *parts.forward,
        "        ],",
        f'        name="{identifier(model.name)}",',
        "    )",
    ]


def _functional(model: Model, plan: ModelPlan) -> tuple[ModuleSource, list[str]]:
    """Returns `make` of any graph."""
    parts = source.write_layers(
        model, lambda parts, _, site: _Call(parts, model, site, plan).write()
    )
    made = [model_input(model, name, plan) for name in model.inputs]
    lines = ["def make(dtype: str) -> keras.Model:", *source.class_doc(model, UNTRAINED)]
    if len(made) == 1:
        lines += statement(f"inputs = {parts.inputs[0]} = ", made[0], 4)
    else:
        for variable, value in zip(parts.inputs, made, strict=True):
            lines += statement(f"{variable} = ", value, 4)
        lines += statement("inputs = ", listed(parts.inputs), 4)
    outputs = parts.outputs[0] if len(parts.outputs) == 1 else listed(parts.outputs)
    outputs = source.by_key(model, parts) if model.keys else outputs
    named = ("name", f'"{identifier(model.name)}"')
    done = statement("return ", call("keras.Model", "inputs", outputs, named), 4)
    return parts, [*lines, *parts.forward, *done]


@dataclass(frozen=True)
class _Call:
    """One layer that is made and called.

    Attributes:
        parts: source of the module so far.
        model: the graph.
        site: variables of the layer.
        plan: decisions about the model.
    """

    parts: ModuleSource
    model: Model
    site: NodeVariables
    plan: ModelPlan

    def write(self) -> None:
        """Writes lines that make the layer and call it."""
        parts, site, node = self.parts, self.site, self.site.node
        before, parts.forward = parts.forward, []
        if any((node.name, n) in self.plan.masks.cut for n in range(len(node.inputs))):
            parts.forward.append("    # a copy has no mask")
        if has_mask_output(node.spec) and Edge(node.name, 1) in self.plan.wanted:
            self._assign(site.outputs[1:], _mask(node.spec, site.x))
        if is_operation(node.spec):
            self._assign(site.outputs, operation(node.spec, *site.inputs))
        elif node.name in self.plan.apart:
            self._write_two_layers()
        elif node.name in self.plan.folded:
            self._write_rows()
        else:
            made, arguments = self._made(node.spec), (*self._inputs(), *self._options())
            self._assign(site.outputs[: len(outputs_of(node))], made, arguments)
        before.append(f"    {source.shape_comment(self.model, node)}")
        parts.forward = [*before, *explained(parts.forward, 4)]

    def _write_rows(self) -> None:
        """Writes lines that apply a layer to all time steps as one batch."""
        site, node = self.site, inside(self.site.node)
        if isinstance(node.spec, L.Dense):
            # Dense is applied to the last axis, whatever axes are before it; a copy has no mask
            carried = self.plan.masks.carried.get(site.node.inputs[0])
            given = call("keras.ops.copy", site.x) if carried else site.x
            made = replace(self, site=replace(site, node=node))._made(node.spec)
            self._assign(site.outputs, made, (given,))
            return
        before, steps = self.model.shape(site.node.inputs[0]), site.node.shape[0]
        x, mask = site.free("rows"), site.free("row_mask") if site.mask else ""
        self._assign((x,), _reshaped(site.x, *before[1:]))
        if mask:
            self._assign((mask,), _reshaped(site.mask, before[1]))
        inner = replace(self, site=replace(site, node=node, inputs=(x,), mask=mask))
        if isinstance(node.spec, L.Bidirectional):
            inner._write_two_layers()
        else:
            self._assign(site.outputs, inner._made(node.spec), (x, *inner._options()))
        for name, shape in zip(site.outputs, node.shapes, strict=True):
            if name != "_":
                self._assign((name,), _reshaped(name, steps, *shape))

    def _write_two_layers(self) -> None:
        """Writes a bidirectional layer that `keras.layers.Bidirectional` cannot compute."""
        site, spec = self.site, self.site.node.spec
        assert isinstance(spec, L.Bidirectional)
        self.parts.use_template(CELLS, "both_ways")
        halves = zip(spec.halves, ("forward_layer", "backward_layer"), strict=True)
        first, second = (self._made(own, name) for own, name in halves)
        merge = ("merge", MERGES[spec.merge])
        value = call("both_ways", *self._inputs(), first, second, merge, *self._options())
        why = self.plan.apart.get(site.node.name) or two_layers(site.node) or UNLIKE
        self.parts.forward.append(f"    # {why}")
        self._assign(site.outputs if len(site.outputs) > 1 else (f"[{site.y}]",), value)

    def _made(self, spec: L.LayerSpec, half: str = "") -> str | CallExpr:
        """Returns a layer's constructor, or its variable if it is called more than once."""
        node, name = self.site.node, f"{self.site.name}-{half}" if half else self.site.name
        made = layer(spec, around(self.model, node, self.parts), name)
        if node.owner not in self.plan.shared:
            return made
        variable = "_".join(filter(None, (self.plan.shared[node.owner], half)))
        if not node.layer:
            self.parts.forward += statement(f"{variable} = ", made, 4)
        return variable

    def _inputs(self) -> tuple[Argument, ...]:
        """Returns the tensors with which the layer is called."""
        site, spec, cut = self.site, self.site.node.spec, self.plan.masks.cut
        found = [
            call("keras.ops.copy", x) if (site.node.name, number) in cut else x
            for number, x in enumerate(site.inputs)
        ]
        if isinstance(spec, L.Dot) and spec.normalize and spec.floor != DOT_FLOOR:
            pairs = zip(site.inputs, spec.axes, strict=True)
            found = [unit(x, axis, spec.floor) for x, axis in pairs]
        if isinstance(spec, ATTENDS):
            found = found[: len(found) - len(spec.masks)]
        if isinstance(spec, L.Custom):
            return custom_layers.arguments(spec, "keras", found)
        joins = isinstance(spec, (L.Merge, L.Concatenate, L.Dot, L.Attention))
        return (listed(found),) if joins else tuple(found)

    def _options(self) -> list[Argument]:
        """Returns the arguments of the call besides its inputs."""
        site, spec, name = self.site, self.site.node.spec, self.site.node.name
        if isinstance(spec, ATTENDS):
            scores: list[Argument] = [("return_attention_scores", "True")] if spec.scores else []
            count = len(site.inputs) - len(spec.masks)
            masks = dict(zip(spec.masks, site.inputs[count:], strict=True))
            if isinstance(spec, L.MultiHeadAttention) and not own_blind(spec):
                return [self._seen_or_all(spec, masks), *scores]
            return [*_attention_options(spec, masks, self.plan.masks.told[name]), *scores]
        arguments: list[Argument] = (
            [("mask", site.mask)] if name in self.plan.masks.explicit else []
        )
        return [*arguments, ("initial_state", listed(site.states))] if site.states else arguments

    def _seen_or_all(self, spec: L.MultiHeadAttention, masks: dict[str, str]) -> Argument:
        self.parts.use_template(CELLS, "seen_or_all")
        words = {"q": "query", "v": "value", "k": "key"}
        named = [(words[name], mask) for name, mask in masks.items()]
        steps = tuple(self.model.shape(edge)[0] for edge in self.site.node.inputs[:2])
        causal = ("causal", literal(steps)) if spec.causal else None
        return "attention_mask", call("seen_or_all", *named, causal)

    def _assign(
        self,
        targets: Sequence[str],
        made: str | CallExpr,
        args: Sequence[Argument] | None = None,
    ) -> None:
        """Writes `targets = made`, or `targets = made(args)`, broken if too long."""
        if isinstance(made, str):
            made, args = call(made, *args or ()), None
        start, lines = f"{', '.join(targets)} = ", self.parts.forward
        if len(f"    {start}{made.name}(") > source.WIDTH and len(targets) > 1:
            lines += ["    (", *(f"        {target}," for target in targets)]
            start = ") = "
        if args is None:
            lines += statement(start, made, 4)
        elif len(f"    {start}{made}(") <= source.WIDTH:
            lines += statement(start, call(str(made), *args), 4)
        else:
            *broken, _ = statement(start, made, 4, "(")
            lines += [*broken, *statement("", call(")", *args), 4)]


def _mask(spec: L.LayerSpec, x: str) -> CallExpr:
    """Returns the mask that Masking, or an embedding, attaches to its output."""
    spec = unwrap_time_distributed(spec)
    if isinstance(spec, L.Masking):
        kept = call("keras.ops.not_equal", x, number(spec.value))
        return call("keras.ops.any", kept, ("axis", "-1"))
    return call("keras.ops.not_equal", x, "0")


def _reshaped(x: str, *shape: int | None) -> CallExpr:
    return call("keras.ops.reshape", x, literal((-1, *shape)))


def _attention_options(
    spec: L.Attention | L.MultiHeadAttention, masks: dict[str, str], mask: str
) -> list[Argument]:
    causal: list[Argument] = [("use_causal_mask", "True")] if spec.causal else []
    if isinstance(spec, L.Attention):
        both = listed(masks.get(name, "None") for name in "qv")
        return [("mask", both), *causal] if mask else causal
    words = {"v": "value_mask", "k": "key_mask"}
    found: list[Argument] = [(words[name], masks[name]) for name in mask if name in words]
    if "q" in mask:
        # keras/src/layers/attention/multi_head_attention.py overwrites the argument query_mask with
        # the mask that the query carries
        rows = call("keras.ops.expand_dims", masks["q"], ("axis", "2"))
        found.append(("attention_mask", rows))
    return [*found, *causal]


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
    text = source.template_sources(CELLS)["variables"]
    for mark, chunk, instead in TRIMS:
        assert chunk in text
        text = text if mark in made else text.replace(chunk, instead)
    return text


FINISHED = [
    "    for layer in model.layers:",
    "        if isinstance(layer, keras.layers.Normalization):",
    "            layer.finalize_state()",
]
"""Keras computes with copies of a Normalization's weights: without this, with those of `make`."""


def _functions(parts: ModuleSource, model: Model, kind: str) -> list[list[str]]:
    """`build` and `load`."""
    specs = [unwrap_time_distributed(node.spec) for node in model.layers]
    dtype = model.compute_dtype().name
    default = f'dtype: str = "{dtype}"'
    functions = [
        "    held = {",
        '        f"{layer.name}.{v.name}": v for layer in model.layers for v in layer.weights',
        "    }",
    ]
    if any(isinstance(spec, (L.Bidirectional, L.MultiHeadAttention)) for spec in specs):
        parts.helpers.append(_variables("\n".join(parts.forward)))
        functions = ["    held = variables(model)"]
    return [
        [
            *source.signature("build", kind, "weights: Mapping[str, Any]", default),
            '    """The model with these weights, named layer.variable."""',
            "    model = make(dtype)",
            *functions,
            "    if held.keys() != weights.keys():",
            "        wrong = sorted(held.keys() ^ weights.keys())",
            '        raise ValueError(f"weights that do not fit: {wrong}")',
            "    for name, variable in held.items():",
            "        variable.assign(weights[name])",
            *(FINISHED if any(isinstance(spec, L.Normalization) for spec in specs) else ()),
            "    return model",
        ],
        [
            *source.signature("load", kind, source.FOLDER, default),
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
    parts, make = (_sequential if plain else _functional)(model, plan)
    kind = "keras.Sequential" if plain else "keras.Model"
    functions = _functions(parts, model, kind)
    used = "\n".join([*parts.helpers, *make])
    head = source.docstring(
        f"A Keras 3 model ported from {source.origin(model)}.",
        *_opened(parts),
        *source.axes_words(model),
    )
    head += LOOSE if NARROW.search(used) else []
    lines = source.imports(
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
    head += custom_layers.merged(lines, parts)
    text = source.join([head, *([text] for text in parts.helpers), make, *functions])
    return custom_layers.checked(text, parts)


def _opened(parts: ModuleSource) -> list[str]:
    """Returns lines of the module's docstring that show how to load the model."""
    needs = "Needs keras and safetensors. `load()` gives the model with its trained weights, as"
    needs, opened = f"{needs} does", '`keras.models.load_model("model.keras")`'
    if not parts.registered:
        return [needs, f"{opened}."]
    return [needs, f"{opened} once this module, which has layers of its", "own, is imported."]
