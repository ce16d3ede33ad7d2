"""Reads the graph of a Keras model from Sequential and functional configs of every version.

In: the config of a model. Out: its Graph of calls. Models inside it are replaced by their layers: a
layer dense in a model inner becomes inner/dense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xlstm.errors import FileError, UnsupportedError, UsageError, kind_in_words
from xlstm.files.description import Description

from .context import NESTED, Config, Paths, is_custom, is_operation, registered_name
from .inbound_nodes import (
    ANEW,
    KerasTensor,
    LayerCall,
    is_tensor,
    mentioned,
    read_calls,
    tensors_in,
)
from .keras1 import PART, taken_apart
from .layers.config import CELLS, CONV_LSTMS, cells_of, class_of, halves_of, snake


@dataclass(frozen=True)
class Graph:
    """A Keras model.

    Attributes:
        name: the model's.
        calls: calls of layers, with input layers, each after those that it reads.
        inputs: names of the input layers, in calling order.
        outputs: tensors that the model returns.
        keys: names of the outputs where they are a dict, sorted.
        deep: a part of the outputs that is no flat list or dict of tensors.
    """

    name: str
    calls: tuple[LayerCall, ...]
    inputs: tuple[str, ...]
    outputs: tuple[KerasTensor, ...]
    keys: tuple[str, ...] = ()
    deep: str = ""

    @property
    def homes(self) -> list[tuple[str, ...]]:
        """Names of every layer inside a nested model; parts of a layer have those of the whole."""
        parts = ((c.home, c.layer.get(PART, ("", False))[1]) for c in self.calls)
        homes = (home[:-1] if named else home for home, named in parts)
        return [home for home in homes if len(home) > 1]


def layers_of(config: Config, where: str) -> list[Config]:
    """Returns the configs of a model's layers and operations.

    Raises:
        UnsupportedError: a model that is neither Sequential nor functional.
        FileError: a config without layers, or none at all.
    """
    if not isinstance(config, Mapping):
        raise FileError(where, "a model as a mapping of options", kind_in_words(config), ANEW)
    kind, own = config.get("class_name"), config.get("config")
    if is_custom(config) or kind not in NESTED:
        raise _somebodys(where, str(config.get("registered_name") or kind), own)
    layers = own.get("layers") if isinstance(own, Mapping) else own  # a list until Keras 2.2.2
    if not isinstance(layers, list) or not layers:
        raise FileError(where, "a config with layers", kind_in_words(own), ANEW)
    for layer in layers:
        if not isinstance(layer, Mapping) or not isinstance(layer.get("config", {}), Mapping):
            found = layer.get("config") if isinstance(layer, Mapping) else layer
            got = kind_in_words(found)
            name = layer.get("name") if isinstance(layer, Mapping) else None
            raise FileError(
                f"{where}, layer {name}" if name else where,
                "the options of a layer as a mapping",
                got,
                ANEW,
            )
    return layers


def _somebodys(where: str, kind: str, own: Any) -> UnsupportedError:
    """Returns the error for a model of a class that Keras does not have."""
    got = kind
    do = "build it in its Keras and port its layers one by one; the wiring is yours to write"
    if isinstance(own, Mapping) and "layers" in own:
        got += ", a class of your own: its call() may do more than the graph in the file"
        short = kind.rpartition(">")[2]
        do = f'open it in Keras with custom_objects={{"{short}": {short}}} and give the live model'
    return UnsupportedError(where, "a Sequential or functional model", got, do)


def name_of(layer: Config) -> str:
    """Returns a layer's name."""
    options = layer.get("config")
    own = options.get("name") if isinstance(options, Mapping) else None
    return str(layer.get("name") or own or layer.get("class_name"))


def read_graph(config: Config, where: str) -> Graph:
    """Reads the graph of a model's config.

    Raises:
        UnsupportedError: calls of layers without an exact form.
        FileError: a config that is incomplete or contradicts itself.
    """
    layers, own = layers_of(config, where), config.get("config")
    kind = str(config["class_name"])
    name = str(own.get("name", kind.lower())) if isinstance(own, Mapping) else kind.lower()
    names = [name_of(layer) for layer in layers]
    if len(set(names)) != len(names):
        raise FileError(where, "layers with names that differ", ", ".join(names), ANEW)
    if kind == "Sequential":
        return _sequential(name, own, layers, where)
    if not isinstance(own, Mapping):
        raise FileError(where, "a config with layers", kind_in_words(own), ANEW)
    return _functional(name, own, layers, where)


def _sequential(name: str, config: Any, layers: list[Config], where: str) -> Graph:
    """Returns the graph of a chain."""
    first = layers[0]
    if first.get("class_name") != "InputLayer":
        first = {"class_name": "InputLayer", "config": _built_for(config, first)}
    rest = {name_of(la): la for la in layers if la.get("class_name") != "InputLayer"}
    if not rest:
        raise FileError(where, "a model with layers", "none", ANEW)
    start = "input"
    while start in rest:
        start += "_"
    calls = [LayerCall(start, first, home=(start,))]
    x: tuple[KerasTensor, ...] = (KerasTensor(start, 0, 0),)
    inputs: tuple[str, ...] = (start,)
    branches = _branches(layers[0], where)
    if branches:
        calls, x = list(branches), tuple(call.output() for call in branches if call.inputs)
        inputs = tuple(call.name for call in branches if not call.inputs)
    for layer_name, layer in rest.items():
        calls.append(LayerCall(layer_name, layer, x, home=(layer_name,)))
        x = (KerasTensor(layer_name, 0, 0),)
    last = calls[-1]
    outputs = tuple(last.output(number) for number in range(_count(last.layer, where)))
    return Graph(name, tuple(calls), inputs, outputs)


STATES = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1, **dict.fromkeys(CONV_LSTMS, 2)}
"""Class of a layer -> number of its states."""


def _count(layer: Config, where: str) -> int:
    """Returns a layer's number of outputs; in Keras 3 the last of a Sequential may have several."""
    if class_of(layer) in NESTED and not is_custom(layer):
        return len(read_graph(layer, where).outputs)
    try:
        return 1 if registered_name(layer) else _outputs_of(layer)
    except (KeyError, TypeError, AttributeError, ValueError):
        return 1  # the rule of the class reports wrong options


def _outputs_of(layer: Config) -> int:
    options = layer["config"]
    if class_of(layer) != "Bidirectional":
        return 1 + _states_of(layer)
    two = options.get("merge_mode", "concat") is None
    return 1 + two + sum(map(_states_of, halves_of(options)))


def _states_of(layer: Config) -> int:
    """Returns the number of states that a recurrent layer returns."""
    if not layer["config"].get("return_state"):
        return 0
    if class_of(layer) == "RNN":
        return sum(STATES[CELLS[str(cell.get("class_name"))]] for cell in cells_of(layer))
    return STATES.get(class_of(layer), 0)


def _branches(first: Config, where: str) -> list[LayerCall]:
    """Returns the calls of the models in a Merge of Keras 1, each after its own input."""
    options = first.get("config", {})
    models = options.get("layers") if first.get("class_name") == "Merge" else None
    calls = []
    for number, model in enumerate(models if isinstance(models, list) else []):
        inner = layers_of(model, where)
        name = f"{options.get('name', 'merge')}_branch_{number}"
        input_layer = {
            "class_name": "InputLayer",
            "config": _built_for(model.get("config"), inner[0]),
        }
        start = LayerCall(f"{name}_input", input_layer, home=(f"{name}_input",))
        calls += [start, LayerCall(name, model, (start.output(),), home=(name,))]
    return calls


def _built_for(config: Any, first: Config) -> Config:
    """Returns options of a Sequential model's missing input layer, which depend on the era."""
    options, built = first.get("config", {}), first.get("build_config")
    if first.get("class_name") in NESTED and _inner_input(first) is not None:
        return _inner_input(first) or {}
    options = options if isinstance(options, Mapping) else {}
    built = built if isinstance(built, Mapping) else {}
    shapes = built.get("shapes_dict")
    places = [options.get("batch_shape"), options.get("batch_input_shape")]
    places += [config.get("build_input_shape")] if isinstance(config, Mapping) else []
    places += [built.get("input_shape")]
    places += [shapes.get("sequences_shape")] if isinstance(shapes, Mapping) else []
    shape = next((place for place in places if place is not None), None)
    return {"batch_shape": shape, "dtype": options.get("input_dtype", options.get("dtype"))}


def _inner_input(model: Config) -> Config | None:
    """Returns options of the first input layer of a model that is the first layer of another."""
    own = model.get("config")
    layers = own.get("layers") if isinstance(own, Mapping) else own
    first = layers[0] if isinstance(layers, list) and layers else None
    if not isinstance(first, Mapping):
        return None
    if first.get("class_name") == "InputLayer":
        options = first.get("config")
        return options if isinstance(options, Mapping) else None
    found = _built_for(own, first)
    return found if found.get("batch_shape") is not None else None


def _functional(name: str, config: Config, layers: list[Config], where: str) -> Graph:
    calls: list[LayerCall] = []
    for layer in layers:
        calls += read_calls(name_of(layer), layer, f"{where}, layer {name_of(layer)}")
    inputs = [tensor.layer for tensor in _ends(config, "input_layers", where)]
    outputs = _ends(config, "output_layers", where)
    calls, outputs = _numbered(calls, outputs)
    known = [call.name for call in calls if call.kind == "InputLayer"]
    if sorted(inputs) != sorted(known):
        raise FileError(where, f"inputs {', '.join(known)}", ", ".join(inputs), ANEW)
    keys, deep = _named_outputs(config.get("output_layers"))
    return Graph(
        name, tuple(_sorted(calls, outputs, where)), tuple(inputs), tuple(outputs), keys, deep
    )


def _named_outputs(found: Any) -> tuple[tuple[str, ...], str]:
    """Returns the keys of a dict of outputs, and a part that is no flat list or dict."""
    if isinstance(found, Mapping) and "class_name" not in found:
        deep = [key for key in sorted(found) if not is_tensor(found[key])]
        return tuple(sorted(found)), f"several tensors, or none, as {deep[0]!r}" if deep else ""
    items = [] if is_tensor(found) or not isinstance(found, list) else found
    deep = [number for number, item in enumerate(items) if not is_tensor(item)]
    return (), f"several tensors, or none, as number {deep[0]}" if deep else ""


def _numbered(
    calls: list[LayerCall], outputs: list[KerasTensor]
) -> tuple[list[LayerCall], list[KerasTensor]]:
    """Returns calls and outputs with the calls of every layer counted from 0.

    In Keras 1 and 2 the calls of a model count from 1, as its own graph is call 0. Keras 3 has no
    such call: it still counts from 1 where a functional model is an output, and from 0 elsewhere.
    """
    read = [*outputs, *(tensor for call in calls for tensor in call.reads)]
    firsts = {tensor.layer: 1 for tensor in read} | {t.layer: 0 for t in read if t.call == 0}
    layers = {call.name: call.layer for call in calls}  # one entry for all calls of a layer
    late = {name for name, layer in layers.items() if _is_late(layer)}
    early = {call.name for call in calls if call.kind in NESTED} - late
    return (
        [
            replace(call, number=call.number + firsts.get(call.name, 0))
            if call.name in early
            else call
            for call in calls
        ],
        [tensor._replace(call=tensor.call - (tensor.layer in late)) for tensor in outputs],
    )


def _is_late(layer: Config) -> bool:
    """True for a functional model with calls in the form of Keras 3."""
    nodes, own = layer.get("inbound_nodes"), layer.get("config")
    if layer.get("class_name") not in NESTED or "output_layers" not in (own or {}):
        return False
    return isinstance(nodes, list) and any(isinstance(node, Mapping) for node in nodes)


def _ends(config: Config, key: str, where: str) -> list[KerasTensor]:
    """Returns the tensors that are a model's inputs or outputs."""
    found = list(tensors_in(config.get(key), f"{where}, {key}"))
    if not found:
        raise FileError(where, key, "none", ANEW)
    return found


def _sorted(calls: list[LayerCall], outputs: list[KerasTensor], where: str) -> list[LayerCall]:
    """Returns the calls, each after those it reads, otherwise in the same order.

    Raises:
        FileError: a call that reads a missing layer, or a circle of calls.
    """
    by_call = {(call.name, call.number): call for call in calls}
    for tensor in (*outputs, *(tensor for call in calls for tensor in call.reads)):
        if tensor[:2] not in by_call:
            got = f"call {tensor.call} of {tensor.layer}"
            raise FileError(where, "outputs of layers of the model", got, ANEW)
    done: dict[tuple[str, int], LayerCall] = {}
    waiting: set[tuple[str, int]] = set()
    for start in calls:
        stack = [start]
        while stack:
            call = stack[-1]
            key = (call.name, call.number)
            if key in done:  # two calls read it
                stack.pop()
                continue
            # a call may read another one thousands of times
            missing = dict.fromkeys(t[:2] for t in call.reads if t[:2] not in done)
            if missing and key in waiting:
                got = f"a circle through {call.name}"
                raise FileError(where, "a graph without circles", got, ANEW)
            if missing:
                waiting.add(key)
                stack += [by_call[name] for name in reversed(missing)]
            else:
                done[key] = stack.pop()
    return list(done.values())


def until_layer(config: Config, layer: str, where: str) -> dict[str, Any]:
    """Returns the config of the part of a model up to a layer, which is then its output.

    Raises:
        UsageError: no layer of that name.
    """
    layers, own = layers_of(config, where), config.get("config")
    by_name = {name_of(item): item for item in layers}
    if layer not in by_name:
        want, got = "the name of a layer of the model itself", layer
        raise UsageError(f"{where}, until", want, got, f"use one of {', '.join(by_name)}"[:400])
    if config.get("class_name") == "Sequential":
        names = list(by_name)
        kept = layers[: names.index(layer) + 1]
        changed = {**own, "layers": kept} if isinstance(own, Mapping) else kept
        return {**config, "config": changed}
    wanted = set(_ancestors(layer, by_name))
    inputs = _ends(own if isinstance(own, Mapping) else {}, "input_layers", where)
    calls = len(by_name[layer].get("inbound_nodes") or [None])
    first = _first_end(by_name[layer], own, layer)
    ends = {
        "layers": [item for item in layers if name_of(item) in wanted],
        "input_layers": [list(tensor) for tensor in inputs if tensor.layer in wanted],
        "output_layers": [[layer, first + number, 0] for number in range(calls)],
    }
    return {**config, "config": {**(own if isinstance(own, Mapping) else {}), **ends}}


def _first_end(layer: Config, config: Any, name: str) -> int:
    """Returns the number that a model's outputs use for the first call of a layer."""
    if layer.get("class_name") not in NESTED or _is_late(layer):
        return int(_is_late(layer))
    return min((tensor.call for tensor in mentioned(config) if tensor.layer == name), default=0)


def _ancestors(layer: str, by_name: Mapping[str, Config]) -> Iterator[str]:
    """Yields a layer and all that it reads, directly or not."""
    seen, todo = set[str](), [layer]
    while todo:
        name = todo.pop()
        if name not in seen and name in by_name:
            seen.add(name)
            todo += [tensor.layer for tensor in mentioned(by_name[name].get("inbound_nodes"))]
            yield name


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


class Groups:
    """Paths of the layers' groups in new weights files: numbered by class, in layer order.

    Args:
        step: of the description.
        paths: of its weights.
        path: of the model's own group.
    """

    def __init__(self, step: int, paths: Paths, path: str = "") -> None:
        self._step = step
        self._heavy = {key.removeprefix(path).split("/")[0] for key in paths.inside(path)}
        self._counts: dict[str, int] = {}

    def of(self, layer: Config) -> str:
        """Returns the group of the next layer."""
        name = str(layer.get("class_name"))
        number = self._counts.get(name, 0)
        group = snake(name) + (f"_{number}" if number else "")
        self._counts[name] = number + (self._step if group in self._heavy else 1)
        return group


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
        ends = _joints(call, outputs) if timed else []
        return [*calls, *ends], [end.output() for end in ends] or outputs


def _joints(call: LayerCall, outputs: list[KerasTensor]) -> list[LayerCall]:
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


MARK = "shared_object_id"
"""Key in configs of Keras that identifies one object in several places."""


def bare(layer: Config) -> Config:
    """Returns the layer inside TimeDistributed, or the layer itself."""
    while layer.get("class_name") == "TimeDistributed":
        options = layer.get("config")
        below = options.get("layer") if isinstance(options, Mapping) else None
        if not isinstance(below, Mapping):
            break
        layer = below
    return layer


def told(layer: Config) -> tuple[str, ...]:
    """Returns the marks by which a layer is the same as another; empty if there are none."""
    mark = bare(layer).get(MARK)
    return (str(mark),) if type(mark) is int else ()


def marked(config: dict[str, Any], model: Any) -> dict[str, Any]:
    """Marks layers that occur twice in the config of a live model; changes the config."""
    pairs = list(_pairs(config, model))
    counts = Counter(id(layer) for _, layer in pairs)
    numbers = {own: number for number, own in enumerate(counts, 1)}
    for entry, layer in pairs:
        if counts[id(layer)] > 1:
            entry[MARK] = numbers[id(layer)]
    return config


def held_by(config: dict[str, Any], model: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields the configs of a live model's own layers, and the layers; both of TimeDistributed."""
    layers = {layer.name: layer for layer in model.layers}
    for entry in config["config"].get("layers", ()):
        name = entry.get("name") or entry.get("config", {}).get("name")
        if name in layers:
            yield from _at_steps(entry, layers[name])


def _at_steps(entry: dict[str, Any], layer: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    yield entry, layer
    below = entry["config"].get("layer") if isinstance(entry.get("config"), dict) else None
    if entry.get("class_name") == "TimeDistributed" and isinstance(below, dict):
        yield from _at_steps(below, layer.layer)


def _pairs(config: dict[str, Any], model: Any) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yields the configs of a live model's layers, at any depth, and the layers."""
    for entry, layer in held_by(config, model):
        yield entry, layer
        if entry.get("class_name") in ("Functional", "Sequential", "Model"):
            yield from _pairs(entry, layer)
