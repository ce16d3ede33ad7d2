"""Small files whose graphs, names or numbers would cost much, by hand: name -> function(path).

Each function writes one file that is small and valid as a container. What it asks of a reader grows
with a number that the file decides: layers, calls of nested models, inputs, characters, digits.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

Config = dict[str, Any]
MANY = 20_000
LEVELS = 16
VERSION = "3.15.1"
GATES = {"recurrent_activation": "sigmoid", "activation": "tanh", "use_bias": True}
LOOP = {
    **dict.fromkeys(("return_state", "go_backwards", "stateful", "unroll"), False),
    "return_sequences": True,
}


def archive(path: Path, config: Config | str) -> None:
    """A `.keras` archive without weights, compressed."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        file.create_group("layers")
    text = config if isinstance(config, str) else json.dumps(config)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        zipped.writestr("metadata.json", json.dumps({"keras_version": VERSION}))
        zipped.writestr("config.json", text)
        zipped.writestr("model.weights.h5", stream.getvalue())


def whole(path: Path, config: Config) -> None:
    """An HDF5 file of Keras 2 without weights."""
    with h5py.File(path, "w") as file:
        file.attrs["model_config"] = json.dumps(config)
        root = file.create_group("model_weights")
        root.attrs["layer_names"] = np.array([], "S1")
        root.attrs["keras_version"] = "2.15.0"


def layer(kind: str, name: str, calls: list[Any] | None = None, **options: Any) -> Config:
    """A layer of a graph, as Keras writes it; `calls` are its inbound nodes."""
    return {
        "module": "keras.layers",
        "class_name": kind,
        "config": {"name": name, **options},
        "registered_name": None,
        "name": name,
        "inbound_nodes": calls or [],
    }


def start(name: str = "x", shape: tuple[Any, ...] = (None, 3)) -> Config:
    """An input layer."""
    return layer("InputLayer", name, batch_shape=[*shape], dtype="float32")


def tensor(name: str, call: int = 0) -> Config:
    """An output of a layer, in Keras 3's words."""
    return {"class_name": "__keras_tensor__", "config": {"keras_history": [name, call, 0]}}


def on(*names: Any) -> Config:
    """A call on these layers, in a list where there are several; a pair names a call too."""
    read = [tensor(*([name] if isinstance(name, str) else name)) for name in names]
    return {"args": [read if len(read) > 1 else read[0]], "kwargs": {}}


def graph(layers: list[Config], last: str, call: int = 0, name: str = "m") -> Config:
    """A functional model of layers that start with its inputs."""
    starts = [item["name"] for item in layers if item["class_name"] == "InputLayer"]
    own = {
        "name": name,
        "layers": layers,
        "input_layers": [[start, 0, 0] for start in starts],
        "output_layers": [[last, call, 0]],
    }
    return {"module": "keras", "class_name": "Functional", "config": own, "registered_name": None}


def chain(layers: list[Config], shape: tuple[Any, ...] = (None, 3)) -> Config:
    """A Sequential model."""
    own = {"name": "m", "layers": [start("x", shape), *layers]}
    return {"module": "keras", "class_name": "Sequential", "config": own, "registered_name": None}


def relu(name: str, calls: list[Any] | None = None) -> Config:
    """A layer without weights."""
    return layer("Activation", name, calls, activation="relu")


def nested(levels: int = LEVELS, name: str = "n", old: bool = False) -> Config:
    """Models that call the one inside them twice: 2**levels layers when written out."""
    read = (lambda n, c=0: [[n, c, 0, {}]]) if old else (lambda n, c=0: on((n, c)))
    model = graph([start(), relu("r", [read("x")])], "r")
    for level in range(levels):
        own = f"{name}{level}"
        inner = {**model, "name": own, "inbound_nodes": [read("x"), read(own, int(old))]}
        inner["config"] = {**model["config"], "name": own}
        model = graph([start(), inner], own, 2)
    return model


def nested_in_steps(levels: int = LEVELS) -> Config:
    """The same, each model at every step of another axis."""
    model = graph([start("x", (None, 3)), relu("r", [on("x")])], "r")
    for level in range(levels):
        own, shape = f"n{level}", (None, *(2,) * (level + 1), 3)
        inner = {**model, "config": {**model["config"], "name": f"m{level}"}}
        wrapped = layer("TimeDistributed", own, [on("x"), on((own, 0))], layer=inner)
        model = graph([start("x", shape), wrapped], own, 1)
    return model


def long_paths(levels: int = LEVELS, characters: int = 10_000, number: int = 1000) -> Config:
    """Layers in models in models of long names: each path has all of them."""
    inside = [relu(f"r{n}", [on(f"r{n - 1}" if n else "x")]) for n in range(number)]
    model = graph([start(), *inside], f"r{number - 1}")
    for level in range(levels):
        own = f"{level}" + "n" * characters
        inner = {**model, "name": own, "inbound_nodes": [on("x")]}
        inner["config"] = {**model["config"], "name": own}
        model = graph([start(), inner], own, 1)
    return model


def many(number: int = MANY) -> Config:
    """A chain."""
    return chain([relu(f"r{n}") for n in range(number)])


def many_calls(number: int = MANY, turned: bool = False) -> Config:
    """A chain told as a graph; `turned`: the last layer first."""
    layers = [relu(f"r{n}", [on(f"r{n - 1}" if n else "x")]) for n in range(number)]
    return graph([start(), *(layers[::-1] if turned else layers)], f"r{number - 1}")


def one_layer(number: int = MANY) -> Config:
    """One layer, called over and over."""
    return graph(
        [start(), relu("r", [on("x"), *(on(("r", n)) for n in range(number))])], "r", number
    )


def one_old_layer(number: int = MANY) -> Config:
    """The same as Keras 2 writes it."""
    calls = [[["x", 0, 0, {}]], *([["r", n, 0, {}]] for n in range(number))]
    return graph([start(), relu("r", calls)], "r", number)


def repeated_reads(number: int = MANY) -> Config:
    """Two sums, the last one first, that read what is before them again and again."""
    calls = [[[name, 0, 0, {}]] * number for name in ("a", "x")]
    return graph([layer("Add", "b", calls[:1]), layer("Add", "a", calls[1:]), start()], "b")


def one_sum(number: int = MANY) -> Config:
    """Many inputs that are added up."""
    names = [f"x{n}" for n in range(number)]
    return graph([*map(start, names), layer("Add", "sum", [on(*names)])], "sum")


def sums(number: int = MANY) -> Config:
    """Every layer reads the two before it."""
    layers, names = [], ["x", "x"]
    for n in range(number):
        layers.append(layer("Add", f"a{n}", [on(*names[-2:])]))
        names.append(f"a{n}")
    return graph([start(), *layers], names[-1])


def largest(number: int = 1000) -> Config:
    """The largest of many inputs, each with a mask of its own."""
    layers = [layer("Masking", f"m{n}", [on("x")], mask_value=float(n)) for n in range(number)]
    names = [item["name"] for item in layers]
    join = layer("Maximum", "y", [on(*names)])
    return graph([start("x", (None, None, 3)), *layers, join], "y")


def outputs(number: int = MANY) -> Config:
    """Many outputs."""
    found = graph([start(), *(relu(f"r{n}", [on("x")]) for n in range(number))], "r0")
    found["config"]["output_layers"] = [[f"r{n}", 0, 0] for n in range(number)]
    return found


def doubled(times: int = 24) -> Config:
    """Every layer puts what it reads beside itself: 3 * 2**times numbers in the end."""
    layers, before = [], "x"
    for n in range(times):
        layers.append(layer("Concatenate", f"c{n}", [on(before, before)], axis=-1))
        before = f"c{n}"
    return graph([start("x", (None, 3)), *layers], before)


def operation(kind: str, name: str, node: Config) -> Config:
    """An operation of Keras 3."""
    found = layer(kind, name, [node])
    return {**found, "module": "keras.src.ops.numpy"}


def masks(times: int = 60) -> Config:
    """Masks joined with themselves, over and over: 2**times where each is looked at anew."""
    compared = {"args": [tensor("ids"), 0.0], "kwargs": {}}
    layers = [operation("NotEqual", "m", compared)]
    for n in range(times):
        before = tensor(layers[-1]["name"])
        layers.append(operation("LogicalOr", f"o{n}", {"args": [before, before], "kwargs": {}}))
    options = {"units": 2, "name": "lstm", **GATES, **LOOP}
    call = {"args": [tensor("x")], "kwargs": {"mask": tensor(layers[-1]["name"])}}
    lstm = layer("LSTM", calls=[call], **options)
    starts = [start("x", (None, None, 3)), start("ids", (None, None))]
    return graph([*starts, *layers, lstm], "lstm")


def repeated(times: int) -> Config:
    """A vector repeated."""
    return chain([layer("RepeatVector", "again", n=times)])


def reshaped(digits: int) -> Config:
    """A shape whose sizes have so many digits."""
    return chain([layer("Reshape", "shape", target_shape=[10**digits, 10**digits])])


def units(digits: int, kind: str = "Dense") -> Config:
    """A layer of 10**digits units."""
    return chain([layer(kind, "dense", units=10**digits)])


def rank(axes: int = MANY) -> Config:
    """A tensor of many axes."""
    return chain([layer("Flatten", "flat")], (None, *(1,) * axes))


def moves(number: int = MANY) -> Config:
    """Layers that move axes forth and back, and many between."""
    pool = layer("MaxPooling1D", "p", pool_size=[1], strides=[1], data_format="channels_first")
    again = layer("MaxPooling1D", "q", pool_size=[1], strides=[1], data_format="channels_first")
    return chain([pool, *(relu(f"r{n}") for n in range(number)), again], (None, 4, 3))


def cells(number: int = MANY) -> Config:
    """An RNN of many cells."""
    found = [
        {"class_name": "LSTMCell", "config": {"name": f"c{n}", "units": 3, **GATES}}
        for n in range(number)
    ]
    stack = {"class_name": "StackedRNNCells", "config": {"name": "s", "cells": found}}
    return chain([layer("RNN", "rnn", cell=stack, **LOOP)], (None, None, 3))


def models(number: int = MANY // 4) -> Config:
    """Many small models side by side in one."""
    found, before = [], "x"
    for n in range(number):
        inner = graph([start(), relu("r", [on("x")])], "r", name=f"n{n}")
        found.append({**inner, "name": f"n{n}", "inbound_nodes": [on(before)]})
        before = f"n{n}"
    return graph([start(), *found], before, 1)


def named(characters: int) -> Config:
    """A layer of a long name."""
    return chain([relu("n" * characters)])


def _keras(make: Callable[..., Config], *args: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: archive(path, make(*args, **options))


def _h5(make: Callable[..., Config], *args: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: whole(path, make(*args, **options))


CASES: dict[str, Callable[[Path], None]] = {
    "nested-twice": _keras(nested),
    "nested-twice-h5": _h5(nested, old=True),
    "nested-in-steps": _keras(nested_in_steps),
    "nested-long-names": _keras(long_paths),
    "nested-side-by-side": _keras(models),
    "chain-20000": _keras(many),
    "graph-20000": _keras(many_calls),
    "graph-20000-turned": _keras(many_calls, turned=True),
    "calls-20000": _keras(one_layer),
    "old-calls-20000": _keras(one_old_layer),
    "reads-20000": _keras(repeated_reads),
    "inputs-20000": _keras(one_sum),
    "masked-inputs-1000": _keras(largest),
    "sums-20000": _keras(sums),
    "outputs-20000": _keras(outputs),
    "cells-20000": _keras(cells),
    "moves-20000": _keras(moves),
    "axes-20000": _keras(rank),
    "doubled-24": _keras(doubled, 24),
    "doubled-20000": _keras(doubled, MANY),
    "masks-doubled": _keras(masks),
    "masks-20000": _keras(masks, MANY),
    "repeat-10000000": _keras(repeated, 10**7),
    "shape-of-4000-digits": _keras(reshaped, 4000),
    "units-of-4000-digits": _keras(units, 4000),
    "lstm-of-4000-digits": _keras(units, 4000, "LSTM"),
    "name-10000000": _keras(named, 10_000_000),
}
"""Name -> what writes such a file at a path."""
