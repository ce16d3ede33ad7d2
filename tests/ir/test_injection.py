"""No text of a graph becomes code: payloads in every field of every spec, through every emitter."""

import ast
import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from cases import CASES
from cases_layers import CASES_LAYERS
from custom_texts import WEIGH, registered
from custom_texts import told as layers_told
from payloads import CODE, MARK, PAYLOADS, POLYGLOT, check, comments, evils, forged, forgeries

import xlstm
from xlstm import LayerCode
from xlstm.errors import UsageError, XlstmError
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Edge, Model, Node
from xlstm.ir.layers import SPECS, Custom, Dense, Input, LayerSpec, Norm, Recurrent
from xlstm.ir.layers.fields import check_fields, checks
from xlstm.ir.literals import literal, named
from xlstm.ir.serialize import from_json, spec_from_json, spec_to_json, to_json
from xlstm.ir.source import Optimizer, Source

TARGETS = [name for name in registry.names() if registry.adapter(name).emit is not None]

GRAPH = (Edge, Node, Model, Source, Optimizer)


def below(cls: type) -> set[type]:
    """All classes that inherit from one."""
    return {cls}.union(*map(below, cls.__subclasses__()))


def parts(spec: LayerSpec) -> set[LayerSpec]:
    """A spec and the specs inside it."""
    inner = [getattr(spec, item.name) for item in dataclasses.fields(spec)]
    return {spec}.union(*(parts(own) for own in inner if isinstance(own, LayerSpec)))


def weigh() -> LayerSpec:
    shapes = ((3, 4), (4,), (4,))
    return Custom("Weigh", '{"units": 4}', "uses", ("W", "b", "u"), shapes)


def richest() -> dict[str, LayerSpec]:
    """The spec of each kind that says the most, of all that are tested."""
    models = [*CASES.values(), *CASES_LAYERS.values()]
    specs = {spec for model in models for node in model.nodes for spec in parts(node.spec)}
    return {spec.kind: spec for spec in sorted(specs, key=lambda spec: len(repr(spec)))}


RICHEST = richest()
KINDS = [*SPECS]


def spec_of(kind: str) -> LayerSpec:
    return weigh() if kind == "Custom" else RICHEST[kind]


@pytest.fixture(autouse=True)
def layers_of_users():
    with registered():
        yield


def test_every_spec_can_be_in_a_graph():
    classes = {cls for cls in below(LayerSpec) if cls.__module__.startswith("xlstm.ir.layers")}
    assert {*SPECS.values()} == classes - {LayerSpec, Norm, Recurrent}


@pytest.mark.parametrize("cls", [*SPECS.values(), *GRAPH], ids=lambda cls: cls.__name__)
def test_every_field_has_a_check(cls):
    wanted = [*cls._fields] if cls is Edge else [item.name for item in dataclasses.fields(cls)]
    assert [name for name, _, _ in checks(cls)] == wanted


@dataclass
class Text:
    field: str


@dataclass
class Texts:
    field: tuple[str, ...] = ()


@dataclass
class Perhaps:
    field: str | None = None


@dataclass
class Named:
    field: dict[str, int]


@dataclass
class Anything:
    field: Any


@dataclass
class Listed:
    field: list[int]


@pytest.mark.parametrize("cls", [Text, Texts, Perhaps, Named, Anything, Listed])
def test_a_text_without_a_rule_is_an_error_of_ours(cls):
    with pytest.raises(TypeError, match="has no check"):
        check_fields(cls({}))


def test_no_spec_goes_without_the_check_of_its_fields():
    with pytest.raises(TypeError, match="write check"):
        type("Forgetful", (Dense,), {"__post_init__": lambda _self: None})


@pytest.mark.parametrize("kind", KINDS)
def test_no_option_takes_a_payload(kind):
    spec = spec_of(kind)
    for item in dataclasses.fields(spec):
        for payload in PAYLOADS.values():
            for evil in evils(getattr(spec, item.name), payload):
                with pytest.raises(XlstmError) as caught:
                    replace(spec, **{item.name: evil})
                assert str(caught.value).isprintable()


WRONG = [*PAYLOADS.values(), True, -1, 1.5, 10**400, None, [], {}, [[]], [None], [True], [10**9]]
WRONG += [{"kind": "Input", "shape": [3], "dtype": CODE, "batch": None}, {"kind": CODE}]


@pytest.mark.parametrize("kind", KINDS)
def test_options_in_a_file_have_their_types(kind):
    """Whatever JSON has in the place of an option, it is refused or of the option's type."""
    data = spec_to_json(spec_of(kind))
    for name, value in data.items():
        for wrong in [*WRONG, [value], *([*value, w] for w in WRONG if type(value) is tuple)]:
            with contextlib.suppress(XlstmError):
                check_fields(spec_from_json({**data, name: wrong}, "file"))


def graph(*names: str) -> Model:
    """Two inputs and a layer with two calls, all named; a dict of outputs."""
    first, second, third, fourth, *keys, title = names
    built = Builder()
    for name in (first, second):
        built.add(name, Input((3,)))
    spec = Dense(3, 2)
    built.add(third, spec, [Edge(first)])
    built.add(fourth, spec, [Edge(second)], layer=third)
    weights = {third: {"kernel": np.ones((3, 2), "f4"), "bias": np.ones(2, "f4")}}
    said = Source("keras", *[title] * 3, notes=(title,), warnings=(title,))
    ends = (Edge(third), Edge(fourth))
    return Model(title, built.nodes, (first, second), ends, weights, said, keys=tuple(keys))


FREE = {
    Edge: {"node"},
    Node: {"name", "layer"},
    Model: {"name", "inputs", "keys"},
    Source: {"version", "container", "file", "notes", "warnings", "code_warning"},
    Optimizer: set(),
}
"""Fields of a graph that have any text; what reaches source is an identifier, or quoted."""


@pytest.mark.parametrize("cls", GRAPH[1:], ids=lambda cls: cls.__name__)
def test_only_names_in_a_graph_are_free(cls):
    model = graph("a", "b", "c", "d", "k", "l", "m")
    whole = {Model: model, Node: model.nodes[-1], Source: model.source}
    thing = whole.get(cls, Optimizer("Adam", (1, 2)))
    for item in dataclasses.fields(cls):
        for payload in PAYLOADS.values():
            for evil in evils(getattr(thing, item.name), payload):
                free = item.name in FREE[cls] and (isinstance(evil, tuple) or evil == payload)
                if not free or type(evil) is not type(getattr(thing, item.name)):
                    with pytest.raises(XlstmError):
                        replace(thing, **{item.name: evil})


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", PAYLOADS)
def test_names_in_a_graph_reach_source_as_names_or_constants(case, target):
    payload = PAYLOADS[case]
    model = graph(*(f"{payload}{n}" for n in range(4)), *sorted([payload, f"{payload}1"]), payload)
    text = registry.adapter(target).emit(model)
    check(text, named=True)
    assert MARK not in comments(text)
    again = from_json(json.loads(json.dumps(to_json(model))), model.weights, "file")
    assert again.keys == model.keys
    assert registry.adapter(target).emit(again) == text


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", PAYLOADS)
def test_options_of_registered_layers_are_constants(case, target):
    def arguments(config, _shapes):
        return {"units": config["units"], "features": {config["units"]: [config["units"]]}}

    code = {target: LayerCode(WEIGH[target], arguments)}
    xlstm.register_layer("Weigh", **{**layers_told()["Weigh"], **code}, overwrite=True)
    built = Builder()
    x = built.add("x", Input((None, 3)))
    spec = replace(weigh(), config=json.dumps({"units": PAYLOADS[case]}))
    model = Model("m", built.nodes, ("x",), (built.add("weigh", spec, [x]),), {}, Source(""))
    text = registry.adapter(target).emit(replace(model, nodes=built.nodes))
    check(text)
    assert MARK not in comments(text)
    assert literal(PAYLOADS[case]) in text


def told(spec: LayerSpec) -> tuple[Any, ...]:
    """The kind of a spec, the options that are not left alone, and its choices."""
    found: list[Any] = [spec.kind]
    for item in dataclasses.fields(spec):
        value = getattr(spec, item.name)
        if isinstance(value, LayerSpec):
            found.append(told(value))
        elif value != item.default:
            found.append((item.name, value if isinstance(value, str) else None))
    return tuple(found)


MOST = 8
"""Specs of a kind that are forged."""


def forms() -> list[tuple[str, Model, int]]:
    """Case, model and place of specs of every kind, that say different things."""
    seen: set[tuple[Any, ...]] = set()
    counts = Counter[str]()
    found = []
    for case, model in {**CASES, **CASES_LAYERS}.items():
        for number, node in enumerate(model.nodes):
            key = told(node.spec)
            if key not in seen and counts[node.spec.kind] < MOST:
                seen.add(key)
                counts[node.spec.kind] += 1
                found.append((case, model, number))
    assert {*counts} == {*SPECS} - {"Custom"}
    return found


def forged_models() -> Iterator[tuple[str, str, Model]]:
    """Models with one option of one layer forged."""
    for case, model, number in forms():
        node = model.nodes[number]
        for field, spec in forgeries(node.spec, POLYGLOT):
            nodes = [*model.nodes]
            nodes[number] = forged(node, "spec", spec)
            yield case, f"{spec.kind}.{field}", replace(model, nodes=tuple(nodes))


@pytest.mark.parametrize("target", TARGETS)
def test_fields_that_slipped_through_are_quoted(target):
    """Specs are forged behind the back of their checks: what is emitted is refused, or quoted."""
    emit, wrong, made = registry.adapter(target).emit, [], 0
    for case, field, model in forged_models():
        try:
            check(emit(model))
        except (XlstmError, TypeError, ValueError, LookupError, AttributeError):
            continue
        except (AssertionError, SyntaxError) as error:
            wrong.append(f"{case}, {field}: {error}"[:300])
        made += 1
    assert not wrong, "\n".join(wrong)
    assert made > 500, "most texts are still made: their emitters quote"


BARE = [PAYLOADS[case] for case in ("expression", "newline", "semicolon", "braces", "import")]


@pytest.mark.parametrize("payload", [*BARE, POLYGLOT])
def test_a_payload_that_is_written_as_it_is_would_be_found(payload):
    with pytest.raises((AssertionError, SyntaxError, ValueError)):
        check(f"x = {payload}\n")


@pytest.mark.parametrize("case", PAYLOADS)
def test_a_literal_is_a_constant_and_no_name(case):
    payload = PAYLOADS[case]
    found = literal({payload: (payload, [payload])})
    check(f"x = {found}\n")
    assert ast.literal_eval(found) == {payload: (payload, [payload])}
    assert found.isprintable()
    with pytest.raises(UsageError):
        named(payload)
