"""Replaces models inside models by their layers, under names with slashes.

In: the config of a model. Out: a Graph without nested models. A layer dense in a model inner
becomes inner/dense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from xlstm.errors import FileError
from xlstm.files.description import Description

from .context import NESTED, Config, Paths, is_operation
from .graph import Graph, layers_of, name_of, read_graph
from .inbound_nodes import ANEW, KerasTensor, LayerCall
from .keras1 import taken_apart
from .shared_layers import told
from .weights import Groups

DEEPEST = 16
"""Deepest nesting of models in models."""

JOINT = "Joint"
"""Class of a call that only assigns another mask to a tensor."""


def model_inside(layer: Config) -> Config | None:
    """Returns the model that a layer is, or applies to every time step; None for other layers."""
    if layer.get("class_name") in NESTED:
        return layer
    options = layer.get("config")
    inside = options.get("layer") if isinstance(options, Mapping) else None
    if layer.get("class_name") != "TimeDistributed" or not isinstance(inside, Mapping):
        return None
    return inside if inside.get("class_name") in NESTED else None


def all_layers(layers: list[Config], where: str, depth: int = 0) -> Iterator[Config]:
    """Yields every layer of a model; models inside it are replaced by their layers.

    Raises:
        FileError: models nested too deeply.
    """
    if depth > DEEPEST:
        raise FileError(where, f"models nested at most {DEEPEST} deep", "more", ANEW)
    for layer in layers:
        inside = model_inside(layer)
        if inside is None:
            yield layer
            options = layer.get("config", {})
            branches = options.get("layers") if layer.get("class_name") == "Merge" else None
            for model in branches if isinstance(branches, list) else []:
                yield from all_layers(layers_of(model, where), where, depth + 1)
        else:
            yield from all_layers(layers_of(inside, where), where, depth + 1)


def calls_of(layer: Config) -> int:
    """Returns the number of calls of a layer in its config; 1 in a chain."""
    nodes = layer.get("inbound_nodes")
    return len(nodes) if isinstance(nodes, list) and nodes else 1


def written_out(config: Config, where: str) -> tuple[int, int]:
    """Returns the numbers of calls of a flat model and of characters of their paths.

    The numbers are computed before any call: 16 levels of models called twice have 65,536 calls.

    Raises:
        FileError: a nested model without layers.
    """
    number, characters = 0, 0
    for layer in layers_of(config, where):
        inside, times = model_inside(layer), calls_of(layer)
        inner, below = (1, 0) if inside is None else written_out(inside, where)
        number += times * inner
        characters += times * (below + inner * (len(name_of(layer)) + 1))
    return number, characters


@dataclass
class SubmodelFlattener:
    """Replaces nested models by their layers.

    Attributes:
        description: of the file.
        where: its name in errors.
        paths: of the weights.
    """

    description: Description
    where: str
    paths: Paths = field(init=False)

    def __post_init__(self) -> None:
        self.paths = Paths(self.description.weights)

    def flat(self, config: Config, path: str = "", layers: list[Config] | None = None) -> Graph:
        """Returns the graph of a model without nested models.

        Args:
            config: the model's.
            path: of the model's group in new weights files, ending in a slash, "" for the root.
            layers: the layers that were numbered when the file was written, if not the config's.
        """
        graph = read_graph(config, self.where)
        paths = self._paths(layers or layers_of(config, self.where), path)
        calls: list[LayerCall] = []
        known: dict[KerasTensor, KerasTensor] = {}
        for call in graph.calls:
            group = path + paths.get(call.name, "")
            read = replace(_renamed(call, known), group=group, same=told(call.layer))
            inside = model_inside(call.layer)
            if inside is None:
                calls += taken_apart(read, self.description, self.where) or [read]
                continue
            found, outputs = self._inlined(read, inside)
            calls += found
            for number, tensor in enumerate(outputs):
                known[call.output(number)] = tensor
        return replace(
            graph, calls=tuple(calls), outputs=tuple(known.get(t, t) for t in graph.outputs)
        )

    def _paths(self, layers: list[Config], path: str) -> dict[str, str]:
        """Returns the group of every layer of one model, below the model's own."""
        groups = Groups(self.description.step, self.paths, path)
        return {name_of(la): groups.of(la) for la in layers if not is_operation(la)}

    def _inlined(self, call: LayerCall, model: Config) -> tuple[list[LayerCall], list[KerasTensor]]:
        """Returns the calls of a nested model's layers, and its outputs."""
        timed = model is not call.layer
        below = f"{call.group}/layer" * timed or call.group
        root = "layers" if self.description.step == 1 else "_layer_checkpoint_dependencies"
        graph = self.flat(model, f"{below}/{root}/")
        if len(graph.inputs) != len(call.inputs):
            want = f"{len(graph.inputs)} inputs for {call.name}"
            raise FileError(self.where, want, f"{len(call.inputs)}", ANEW)
        counts, starts = Counter(inner.name for inner in graph.calls), {*graph.inputs}

        def place(tensor: KerasTensor) -> KerasTensor:
            number = tensor.call + call.number * counts[tensor.layer]
            return KerasTensor(f"{call.name}/{tensor.layer}", number, tensor.output)

        known = dict(zip((KerasTensor(n, 0, 0) for n in graph.inputs), call.inputs, strict=True))
        calls = []
        for name, x, mask in zip(graph.inputs, call.inputs, _each(call), strict=True):
            if mask is not None:
                joint = LayerCall(f"{call.name}/{name}", {"class_name": JOINT}, (x,), masks=(mask,))
                calls.append(replace(joint, number=call.number))
                known[KerasTensor(name, 0, 0)] = calls[-1].output()
        for inner in graph.calls:
            if inner.name in starts:
                continue
            moved = {t: known.get(t) or place(t) for t in inner.reads}
            moved |= {t: known.get(t) or place(t) for t in _in_arguments(inner)}
            own = place(inner.output())
            read = replace(_renamed(inner, moved), name=own.layer, number=own.call)
            home = (*call.home, *inner.home)
            same = (*inner.same, *(f"{mark}/{inner.name}" for mark in call.same))
            wraps = inner.wraps + timed + call.wraps
            calls.append(replace(read, home=home, wraps=wraps, same=same))
        outputs = [known.get(tensor) or place(tensor) for tensor in graph.outputs]
        ends = _ends(call, outputs) if timed else []
        return [*calls, *ends], [end.output() for end in ends] or outputs


def _ends(call: LayerCall, outputs: list[KerasTensor]) -> list[LayerCall]:
    """Returns calls that give the outputs of a model in TimeDistributed the mask of its input."""
    return [
        LayerCall(
            f"{call.name}/output_{number}",
            {"class_name": JOINT},
            (tensor,),
            options={"carrier": call.inputs[0]},
            number=call.number,
        )
        for number, tensor in enumerate(outputs)
    ]


def _each(call: LayerCall) -> tuple[KerasTensor | None, ...]:
    return call.masks or (None,) * len(call.inputs)


def _in_arguments(call: LayerCall) -> Iterator[KerasTensor]:
    todo = [*call.arguments, *call.options.values()]
    while todo:
        item = todo.pop()
        if isinstance(item, KerasTensor):
            yield item
        elif isinstance(item, list):
            todo += item


def _renamed(call: LayerCall, names: Mapping[KerasTensor, KerasTensor]) -> LayerCall:
    """Returns a call with other input tensors."""
    if not names:
        return call

    def new(value: object) -> object:
        if isinstance(value, KerasTensor):
            return names.get(value, value)
        return [new(item) for item in value] if isinstance(value, list) else value

    return replace(
        call,
        inputs=tuple(names.get(t, t) for t in call.inputs),
        states=tuple(names.get(t, t) for t in call.states),
        masks=tuple(t and names.get(t, t) for t in call.masks),
        arguments=tuple(new(item) for item in call.arguments),
        options={key: new(value) for key, value in call.options.items()},
    )
