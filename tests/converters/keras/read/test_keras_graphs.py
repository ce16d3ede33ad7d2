"""Graphs of Keras models in every era's words: what reads what, masks, states, and bad ones."""

import contextlib
from dataclasses import replace

import numpy as np
import pytest
from make_files import keras_file
from paths import DATA
from refusing import refused

import xlstm
from xlstm.cli.inspect import inspect
from xlstm.errors import FileError, UnsupportedError, WeightsError
from xlstm.files import describe
from xlstm.frameworks import registry

RECORDED = [
    "k122/seq_cpu.h5",
    "k122/seq_gpu.h5",
    "k212/cudnn_twin.h5",
    "k212/stacked.h5",
    "k224/gru.h5",
    "mask_k212/bi_last.h5",
    "mask_k212/bi_seq.h5",
    "tfk221/bi_conv_lstm.h5",
    "tfk221/bi_lstm_states.h5",
    "tfk221/first_conv_lstm.h5",
    "tfk221/frozen.h5",
    "tfk221/gru_none.h5",
    "tfk221/lstm_mask_states.h5",
    "tfk221/stack_mask.h5",
    "tfk221/stack_states.h5",
]
"""Files with what their own Keras computed; those of tfk221 were made with tf_keras 2.21."""


@pytest.mark.parametrize("file", RECORDED)
def test_outputs_of_the_keras_that_wrote_it(file):
    saved = np.load((DATA / file).with_suffix(".npz"))
    model = xlstm.load(DATA / file)
    found = xlstm.port(model, "numpy")(*[saved[key] for key in saved if key.startswith("x")])
    found = found if isinstance(found, tuple) else (found,)
    wanted = [saved[key] for key in saved if key.startswith("y")]
    for got, want in zip(found, wanted, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=5e-7)
    assert "can be ported" in inspect(DATA / file)


def test_cudnn_layers_compute_what_their_twins_do():
    """cudnn_twin.h5 is what Keras 2.12 itself made of cudnn.h5."""
    x = np.load(DATA / "k212" / "cudnn_twin.npz")["x"]
    cudnn, twin = (xlstm.load(DATA / "k212" / f"{name}.h5") for name in ("cudnn", "cudnn_twin"))
    np.testing.assert_allclose(
        xlstm.port(cudnn, "numpy")(x), xlstm.port(twin, "numpy")(x), rtol=0, atol=5e-7
    )
    assert any("CuDNNGRU" in note for note in cudnn.source.notes)


def test_cudnn_inside_both_ways():
    (node,) = xlstm.load(DATA / "k212" / "bicudnn.h5").layers
    assert node.spec.forward.kind == "LSTM"
    weights = xlstm.load(DATA / "k212" / "bicudnn.h5").weights[node.name]
    assert weights["backward_bias"].shape == (2, 4, 4)


def test_the_operations_of_a_mask_are_the_masking_layer():
    """Keras 3 writes any(x != -1) beside the Masking layer."""
    import keras

    path = DATA / "k3" / "masking_func.keras"
    model = xlstm.load(path)
    assert [node.spec.kind for node in model.layers] == [
        "Masking",
        "Bidirectional",
        "LSTM",
        "Dense",
    ]
    assert [node.mask for node in model.layers] == [None, ("masking", 1), ("masking", 1), None]
    x = np.random.default_rng(3).standard_normal((4, 5, 3)).astype("float32")
    x[1, 3:] = x[2, :2] = x[3] = -1.0
    want = np.asarray(keras.models.load_model(path, compile=False)(x))
    np.testing.assert_allclose(xlstm.port(model, "numpy")(x), want, rtol=0, atol=1e-6)
    assert "Any (operation)" in inspect(path)


def test_states_of_another_layer():
    model = xlstm.load(DATA / "k3" / "seq2seq.keras")
    encoder, decoder, _ = model.layers
    assert decoder.states == ((encoder.name, 1), (encoder.name, 2))
    assert model.inputs == ("input_layer_7", "input_layer_8")
    text = inspect(DATA / "k3" / "seq2seq.keras")
    assert "reads input_layer_8, lstm_5[1], lstm_5[2]" in " ".join(text.split())


def test_inputs_of_a_dict_come_in_the_order_of_their_keys(tmp_path):
    import keras

    b, a = keras.Input((7, 3), name="b"), keras.Input((7, 2), name="a")
    y = keras.layers.LSTM(4, return_state=True)(b)[1:]
    model = keras.Model({"b": b, "a": a}, keras.layers.LSTM(4)(a, initial_state=y))
    model.save(tmp_path / "dict.keras")
    assert xlstm.load(tmp_path / "dict.keras").inputs == ("a", "b")


def test_data_given_by_name_and_by_place():
    import keras

    x, h = keras.Input((7, 3)), keras.Input((4,))
    layer = keras.layers.GRU(4)
    for outputs in (layer(sequences=x, initial_state=h), keras.layers.GRU(4)(x, [h])):
        model = xlstm.load(keras.Model([x, h], outputs))
        assert model.layers[0].states == ((model.inputs[1], 0),)


def functional(**calls):
    """A `config` hook: [LSTM, Dense] as a functional model, calls changed as given."""

    def hook(config):
        config["class_name"], own = "Functional", config["config"]
        reads = {"input_1": [], "lstm": [call("input_1")], "dense": [call("lstm")]}
        for layer in own["layers"]:
            layer["name"] = layer["config"]["name"]
            layer["inbound_nodes"] = {**reads, **calls}[layer["name"]]
        ends = {"input_layers": ["input_1", 0, 0], "output_layers": [["dense", 0, 0]]}
        own.update({key: calls.get(key, value) for key, value in ends.items()})

    return hook


def tensor(layer, output=0):
    history = {"shape": [None, 3], "keras_history": [layer, 0, output]}
    return {"class_name": "__keras_tensor__", "config": history}


def call(layer, **kwargs):
    return {"args": [tensor(layer)], "kwargs": kwargs}


def change(number, **options):
    """A `config` hook: the functional model with other options of one layer."""

    def hook(config):
        functional()(config)
        config["config"]["layers"][number]["config"].update(options)

    return hook


def of_length(steps, *mask):
    """A `config` hook: the LSTM with a mask of a given shape."""

    def hook(config):
        functional(lstm=[call("input_1", mask=tensor("keep"))])(config)
        own = config["config"]
        own["layers"][0]["config"]["batch_shape"] = [None, steps, 3]
        options = {"name": "keep", "dtype": "bool", "batch_shape": [None, *mask]}
        own["layers"].append({"class_name": "InputLayer", "name": "keep", "config": options})
        own["input_layers"] = [["input_1", 0, 0], ["keep", 0, 0]]

    return hook


def twice(config):
    functional()(config)
    config["config"]["layers"][2]["name"] = "lstm"


TIMES = [call("input_1"), call("input_1")]


def stateful_twice(config):
    functional(lstm=TIMES, output_layers=[["lstm", 0, 0], ["lstm", 1, 0]])(config)
    layers = config["config"]["layers"]
    layers[0]["config"]["batch_shape"][0] = 2
    layers[1]["config"]["stateful"] = True


ARRAY = {"class_name": "__numpy__", "config": {}}

BAD = {
    "a circle": (FileError, functional(lstm=[call("dense")]), "circle"),
    "its own output": (FileError, functional(lstm=[call("lstm")]), "circle"),
    "a dangling name": (FileError, functional(dense=[call("nobody")]), "nobody"),
    "a missing output": (FileError, functional(dense=[call("lstm", x=None) | {
        "args": [tensor("lstm", 1)]}]), "output 1 of lstm"),
    "another call": (FileError, functional(output_layers=[["dense", 1, 0]]), "call 1 of dense"),
    "no outputs": (FileError, functional(output_layers=[]), "output_layers"),
    "an input that is none": (FileError, functional(input_layers=["lstm", 0, 0]), "inputs input_1"),
    "a call too many of a stateful layer": (UnsupportedError, stateful_twice, "called once"),
    "calls of another form": (FileError, functional(lstm="input_1"), "list of calls"),
    "a call of text": (FileError, functional(lstm=["input_1"]), "list of inputs"),
    "a history of numbers": (FileError, functional(lstm=[{"args": [
        {"class_name": "__keras_tensor__", "config": {"keras_history": [1, 2]}}]}]), "comes from"),
    "a constant": (UnsupportedError, functional(lstm=[call("input_1", initial_state=[ARRAY])]),
                   "layer lstm, initial_state", "a constant (__numpy__)"),
    "one state of two": (FileError, functional(lstm=[call("input_1", initial_state=[
        tensor("input_1")])]), "layer lstm", "2 initial states"),
    "states of another shape": (FileError, functional(lstm=[call("input_1", initial_state=[
        tensor("input_1"), tensor("input_1")])]), "states (4,), (4,)"),
    "data as a mask": (UnsupportedError, functional(lstm=[call("input_1", mask=tensor(
        "input_1"))]), "layer lstm", "computed by input_1"),
    "a mask of another length": (FileError, of_length(5, 6), "layer lstm", "a mask (batch, 5)"),
    "a mask of another rank": (FileError, of_length(5, 5, 1), "layer lstm", "a mask (batch, 5)"),
    "two masks": (FileError, functional(lstm=[call("input_1", mask=[tensor("input_1")] * 2)]),
                  "one mask"),
    "two inputs": (UnsupportedError, functional(dense=[{"args": [[tensor("lstm")] * 2],
                                                        "kwargs": {}}]), "one input"),
    "an argument twice": (FileError, functional(lstm=[call("input_1", sequences=tensor(
        "input_1"))]), "named once"),
    "an argument too many": (UnsupportedError, functional(dense=[{"args": [
        tensor("lstm"), None, None], "kwargs": {}}]), "3 arguments"),
    "an argument nobody knows": (UnsupportedError, functional(lstm=[call(
        "input_1", constants=[tensor("input_1")])]), "constants"),
    "two of one name": (FileError, twice, "names that differ"),
    "ragged": (UnsupportedError, change(0, ragged=True), "ragged=True"),
    "sparse": (UnsupportedError, change(0, sparse=True), "sparse=True"),
    "no shape": (FileError, change(0, batch_shape=None), "an input shape"),
    "time_major": (UnsupportedError, change(1, time_major=True), "time_major=True"),
    "constants": (UnsupportedError, change(1, num_constants=1), "num_constants=1"),
    "stateful": (FileError, change(1, stateful=True), "layer lstm", "batch size"),
    "units": (WeightsError, change(1, units=5), "layer lstm", "kernel (3, 16) for (3, 20)"),
    "states returned as numbers": (FileError, change(1, return_state=7), "return_state=7"),
}  # fmt: skip


def stack(cells, *, registered=None, **options):
    """A `config` hook: stacked cells in place of the LSTM."""

    def hook(config):
        cell = {"class_name": "StackedRNNCells", "config": {"cells": cells, **options}}
        config["config"]["layers"][1] = {
            "module": "keras.layers",
            "class_name": "RNN",
            "registered_name": registered,
            "config": {"name": "lstm", "cell": cell},
        }

    return hook


CELL = {"class_name": "LSTMCell", "config": {"name": "c", "units": 4, "activation": "tanh"}}
MINE = {**CELL, "module": "my_cells"}

BAD |= {
    "a stack of none": (FileError, stack([]), "layer lstm", "no cells"),
    "a stack of text": (FileError, stack(["LSTMCell"]), "layer lstm"),
    "a cell of one's own": (UnsupportedError, stack([CELL, MINE]), "RNN(LSTMCell, LSTMCell)"),
    "another cell": (UnsupportedError, stack([{**CELL, "class_name": "PeepholeLSTMCell"}]),
                     "RNN(PeepholeLSTMCell)"),
    "an RNN of one's own": (UnsupportedError, stack([CELL], registered="my>RNN"), "my>RNN"),
    "an option of a stack": (FileError, stack([CELL], reverse_state_order=True), "reverse_state"),
    "a cell that lacks options": (FileError, stack([CELL]), "recurrent_activation"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_graphs_that_make_no_sense(case, tmp_path):
    kind, hook, *words = BAD[case]
    path = keras_file(tmp_path / "bad.keras", config=hook)
    refused(kind, lambda: xlstm.load(path), *words)
    assert "lstm" in inspect(path)


def test_noise_that_is_always_on_is_refused(tmp_path):
    def hook(config):
        functional(lstm=[call("input_1", training=True)])(config)
        config["config"]["layers"][1]["config"]["recurrent_dropout"] = 0.3

    path = keras_file(tmp_path / "noise.keras", config=hook)
    refused(UnsupportedError, lambda: xlstm.load(path), "training=True", "recurrent_dropout=0.3")


def both(**options):
    """A `config` hook: the LSTM both ways, of some options."""

    def hook(config):
        layer = config["config"]["layers"][1]
        back = {**layer, "config": {**layer["config"], "go_backwards": True, "name": "back"}}
        inside = {"name": "both", "layer": layer, "backward_layer": back, "merge_mode": "sum"}
        for key, value in options.items():
            half, _, option = key.partition("__")
            target = inside[half]["config"] if option else inside
            target[option or half] = value
        config["config"]["layers"][1] = {
            "module": "keras.layers",
            "class_name": "Bidirectional",
            "config": inside,
        }

    return hook


BOTH = {
    "both backwards": (FileError, both(layer__go_backwards=True), "go_backwards=True in both"),
    "merge_mode": (UnsupportedError, both(merge_mode="max"), "layer both", "'max'"),
    "a merge_mode of a list": (FileError, both(merge_mode=["sum"]), "layer both"),
    "widths": (FileError, both(backward_layer__units=5), "layer both", "halves of one width"),
    "sequences": (FileError, both(layer__return_sequences=True), "halves of one return_sequences"),
    "activation": (UnsupportedError, both(backward_layer__activation="glu"),
        "layer both, layer back"),
    "no layer": (FileError, both(layer=None), "layer both", "complete layer config"),
    "a Dense": (UnsupportedError, both(layer__units=2, layer={
        "class_name": "Dense", "config": {"name": "d", "units": 2}}),
        "inside Bidirectional", "Dense"),
    "arrays": (WeightsError, both(), "layer both", "no kernel"),
}  # fmt: skip


@pytest.mark.parametrize("case", BOTH)
def test_halves_that_make_no_sense(case, tmp_path):
    kind, hook, *words = BOTH[case]
    path = keras_file(tmp_path / "bad.keras", config=hook)
    refused(kind, lambda: xlstm.load(path), *words)
    assert "Bidirectional" in inspect(path)


def test_halves_nested_in_halves_take_no_time(tmp_path):
    """Each level would be read twice."""

    def hook(config):
        layer = config["config"]["layers"][1]
        for _ in range(60):
            layer = {"class_name": "Bidirectional", "config": {"name": "both", "layer": layer}}
        config["config"]["layers"][1] = layer

    path = keras_file(tmp_path / "deep.keras", config=hook)
    refused(UnsupportedError, lambda: xlstm.load(path), "inside Bidirectional")


def read(file, version, change):
    """A genuine file read as that of another version, its layers changed."""
    with contextlib.closing(describe(DATA / file)) as described:
        layers = described.config["config"]["layers"]
        change({layer["class_name"]: layer["config"] for layer in layers})
        return registry.adapter("keras").read_file(replace(described, version=version))


@pytest.mark.parametrize(
    ("version", "repeated"),
    [
        ("2.3.1", True),
        ("2.1.6-tf", True),
        ("2.2.4-tf", False),
        ("2.3.0-tf", False),
        ("2.4.0", False),
    ],
)
def test_masked_steps_both_ways_are_zeros_from_keras_2_on(version, repeated):
    """Keras as a package of its own repeats the last output, which the port says and does not."""
    model = read("mask_k212/bi_seq.h5", version, lambda layers: None)
    assert model.layers[1].spec.forward.zero_output_for_mask
    assert model.layers[1].spec.backward.zero_output_for_mask
    said = [line for line in model.source.warnings if "standalone Keras before 2.4" in line]
    assert bool(said) == repeated


def test_a_mask_and_states_in_keras_before_2_3_are_refused():
    """Masked steps before the first valid one give the initial state there."""

    def stateful(layers):
        layers["InputLayer"]["batch_input_shape"][0] = 2
        layers["Bidirectional"]["layer"]["config"]["stateful"] = True

    read("mask_k212/bi_seq.h5", "2.12.0", stateful)
    call = lambda: read("mask_k212/bi_seq.h5", "2.2.4", stateful)  # noqa: E731
    refused(UnsupportedError, call, "layer bidirectional", "initial state")


def test_states_of_stacked_cells_in_another_order_are_refused():
    def nothing(layers):
        pass

    assert len(read("tfk221/stack_states.h5", "2.2.4-tf", nothing).layers) == 3
    call = lambda: read("tfk221/stack_states.h5", "2.1.6", nothing)  # noqa: E731
    refused(UnsupportedError, call, "layer rnn", "turns it round")


def test_a_gru_that_does_not_say_reset_after():
    def forget(layers):
        layers["GRU"].pop("reset_after", None)

    model = read("k224/gru.h5", "2.1.2", forget)
    assert not model.layers[0].spec.reset_after


def test_arrays_that_name_no_half():
    with contextlib.closing(describe(DATA / "tfk221" / "frozen.h5")) as described:
        ((name, arrays),) = [item for item in described.weights.items() if item[1]]
        plain = tuple(replace(a, name=f"{name}/{n}/kernel:0") for n, a in enumerate(arrays))
        changed = replace(described, weights={name: plain})
        call = lambda: registry.adapter("keras").read_file(changed)  # noqa: E731
        refused(WeightsError, call, "different names for its halves or cells")
