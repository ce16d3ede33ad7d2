"""Graphs in Keras 2's words, and put together by hand, that make no sense: one clear line each."""

import json

import pytest
from make_files import KINDS, h5_file, layer, make, model_config
from refusing import deadline, refused

import xlstm
from xlstm.errors import FileError, UsageError, XlstmError
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import LSTM, Activation, Concatenate, Conv, Dense, Input, Merge, Reshape


def told(**reads):
    """A `config` hook: [LSTM, Dense] as a functional model of Keras 2, with these inbound nodes."""

    def hook(config):
        config["class_name"], own = "Model", config["config"]
        plain = {"input_1": [], "lstm": [node("input_1")], "dense": [node("lstm")]}
        for entry in own["layers"]:
            entry["name"] = entry["config"]["name"]
            entry["inbound_nodes"] = {**plain, **reads}[entry["name"]]
        own["input_layers"] = reads.get("input_layers", [["input_1", 0, 0]])
        own["output_layers"] = reads.get("output_layers", [["dense", 0, 0]])

    return hook


def node(name, output=0, call=0):
    return [[name, call, output, {}]]


def beside(entry, reads):
    """A `config` hook: one more layer, whose output is the model's."""

    def hook(config):
        told(output_layers=[[entry["config"]["name"], 0, 0]])(config)
        entry["name"] = entry["config"]["name"]
        config["config"]["layers"].append({**entry, "inbound_nodes": reads})

    return hook


def refused_any(call):
    """The error that `call` raises, of whatever kind it is: one line that says all four things."""
    with pytest.raises(XlstmError) as caught:
        call()
    return refused(type(caught.value), call)


SHAPES = {
    "steps where there are none": (layer("LSTM", name="next", units=2), [node("dense")]),
    "a window where there are no steps": (
        layer("Conv1D", name="next", filters=2, kernel_size=[2]),
        [node("dense")],
    ),
    "sums of unlike sizes": (layer("Add", name="next"), [node("lstm") + node("dense")]),
    "side by side": (
        layer("Concatenate", name="next", axis=-1),
        [node("input_1") + node("dense")],
    ),
    "another number of values": (
        layer("Reshape", name="next", target_shape=[5]),
        [node("dense")],
    ),
}
"""Layers that what they read does not fit."""

GRAPHS = {
    "a circle": (FileError, told(lstm=[node("dense")]), "circle"),
    "its own output": (FileError, told(lstm=[node("lstm")]), "circle"),
    "a layer that is missing": (FileError, told(dense=[node("nobody")]), "nobody"),
    "an input that is missing": (FileError, told(input_layers=[["nobody", 0, 0]]), "nobody"),
    "an output that is missing": (FileError, told(output_layers=[["nobody", 0, 0]]), "nobody"),
    "output 1 of one": (FileError, told(dense=[node("lstm", 1)]), "output 1 of lstm"),
    "output -1": (FileError, told(dense=[node("lstm", -1)]), "layer dense"),
    "call 1 of one": (FileError, told(dense=[node("lstm", call=1)]), "call 1 of lstm"),
    "nothing read": (FileError, told(lstm=[]), "lstm"),
    "text": (FileError, told(lstm="input_1"), "lstm"),
    "a number": (FileError, told(lstm=[7]), "lstm"),
    "names that are lists": (FileError, told(lstm=[[[["input_1"], 0, 0, {}]]]), "lstm"),
    "an index that is text": (FileError, told(dense=[[["lstm", 0, "0", {}]]]), "dense"),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_of_keras_2_that_make_no_sense(case, tmp_path):
    kind, hook, *words = GRAPHS[case]
    refused(kind, lambda: xlstm.load(h5_file(tmp_path / "bad.h5", config=hook)), *words)


@pytest.mark.parametrize("case", SHAPES)
def test_layers_that_what_they_read_does_not_fit(case, tmp_path):
    path = h5_file(tmp_path / "bad.h5", config=beside(*SHAPES[case]))
    assert "layer next" in str(refused_any(lambda: xlstm.load(path)))


DEEP = {
    "Sequential": ('"layers": [', "]", "models nested at most 16 deep"),
    "TimeDistributed": ('"layer": ', "", "a time axis"),
    "Bidirectional": ('"layer": ', "", "one recurrent layer"),
}
"""Layers that hold others: where these stand, and what is said of twenty."""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("levels", [20, 150, 30_000])
@pytest.mark.parametrize("outer", DEEP)
def test_layers_in_layers_without_end(outer, levels, kind, tmp_path):
    """Written as text: Python's own writer of JSON gives up before the reader has to."""
    opening, closing, why = DEEP[outer]
    before = f'{{"class_name": "{outer}", "config": {{"name": "s", {opening}'
    config = model_config(kind)
    inner, config["config"]["layers"][2] = json.dumps(config["config"]["layers"][2]), "here"
    text = json.dumps(config).replace('"here"', before * levels + inner + f"{closing}}}}}" * levels)

    def members(found):
        return [(name, text.encode() if name == "config.json" else data) for name, data in found]

    def attribute(file):
        file.attrs["model_config"] = text

    hooks = {"keras": {"members": members}, "h5": {"weights": attribute}}
    path = make(kind, tmp_path, **hooks[kind])
    with deadline(10):
        error = refused_any(lambda: xlstm.load(path))
    assert (why if levels == 20 else "levels") in str(error)


BUILT = {
    "a node that is missing": (
        lambda b: b.add("a", Activation("relu"), [Edge("nobody")]),
        "nobody",
    ),
    "an output that is missing": (
        lambda b: b.add("a", Activation("relu"), [Edge("x", 1)]),
        "output 1 of x",
    ),
    "its own output": (lambda b: b.add("a", Activation("relu"), [Edge("a")]), "output 0 of a"),
    "a name twice": (lambda b: b.add("x", Activation("relu"), [Edge("x")]), "names that differ"),
    "too few inputs": (lambda b: b.add("a", Merge("add"), []), "inputs"),
    "too many inputs": (lambda b: b.add("a", Dense(3, 2), [Edge("x")] * 2), "inputs"),
    "other features": (lambda b: b.add("a", Dense(4, 2), [Edge("x")]), "4 features"),
    "no steps": (lambda b: b.add("a", LSTM(3, 2), [b.add("y", Input((3,)))]), "LSTM"),
    "a window larger than what it slides over": (
        lambda b: b.add(
            "a",
            Conv(3, 2, (7,), strides=(1,), dilation=(1,)),
            [b.add("y", Input((5, 3)))],
        ),
        "window (7,)",
    ),
    "unlike sizes": (
        lambda b: b.add("a", Merge("add"), [Edge("x"), b.add("y", Input((None, 4)))]),
        "Merge",
    ),
    "unlike lengths side by side": (
        lambda b: b.add("a", Concatenate(), [b.add("y", Input((5, 3))), b.add("z", Input((6, 3)))]),
        "Concatenate",
    ),
    "another number of values": (
        lambda b: b.add("a", Reshape((5,)), [b.add("y", Input((2, 3)))]),
        "Reshape",
    ),
    "a layer called again that is another": (
        lambda b: b.add("a", Dense(3, 2), [Edge("x")], layer="x"),
        "another layer",
    ),
    "states of another size": (
        lambda b: b.add("a", LSTM(3, 2), [Edge("x")], states=[b.add("h", Input((3,)))] * 2),
        "states (2,), (2,)",
    ),
    "a mask for a layer that obeys none": (
        lambda b: b.add("a", Dense(3, 2), [Edge("x")], mask=Edge("x")),
        "no mask",
    ),
}


@pytest.mark.parametrize("case", BUILT)
def test_graphs_put_together_by_hand_that_make_no_sense(case):
    wire, *words = BUILT[case]
    builder = Builder()
    builder.add("x", Input((None, 3)))
    refused(UsageError, lambda: wire(builder), *words)
