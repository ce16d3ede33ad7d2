"""`same` compares two models of any kind, up to layout and framework."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from cases import model
from safetensors.numpy import load_file, save_file

import xlstm
from xlstm.cli.main import main
from xlstm.errors import UsageError
from xlstm.ir.layers import GRU, LSTM, Clip, Dense, Dropout, Relu, UnitNorm


@pytest.fixture(scope="module")
def source():
    return model([LSTM(3, 4), Dense(4, 2)], (None, 3))


@pytest.fixture(scope="module")
def folders(source, tmp_path_factory):
    place = tmp_path_factory.mktemp("ports")
    return {name: xlstm.save(source, place / name, name) for name in ("torch", "nnx", "linen")}


@pytest.mark.parametrize("first", ["torch", "nnx", "linen"])
@pytest.mark.parametrize("second", ["torch", "nnx", "linen"])
def test_ports_of_one_model_are_the_same(first, second, folders):
    found = xlstm.same(folders[first], folders[second])
    assert found
    assert found.weights == "identical"
    assert found.summary() == "The same model: the weights and the outputs are equal."


def test_a_state_dict_is_the_same_in_either_place(folders, tmp_path):
    bare = tmp_path / "bare.safetensors"
    save_file(load_file(folders["torch"] / "model.safetensors"), bare)
    for a, b in ((folders["linen"], bare), (bare, folders["linen"])):
        found = xlstm.same(a, b)
        assert found.weights == "identical"
        assert "nothing was run" in found.summary()
    assert xlstm.same(bare, folders["linen"]).a.startswith("bare")


def test_two_state_dicts_are_compared_by_name(folders):
    state = load_file(folders["torch"] / "model.safetensors")
    name = next(iter(state))
    assert xlstm.same(state, dict(state))
    found = xlstm.same(state, state | {name: state[name] + 1})
    assert not found
    assert f"{name} differs by up to 1" in str(found)
    assert "has shape" in str(xlstm.same(state, state | {name: state[name][:1]}))
    with pytest.raises(UsageError, match="the same names"):
        xlstm.same(state, {f"x.{n}": x for n, x in state.items()})


def finer(source):
    """The same model in float64, with digits that float32 does not have."""
    weights = {
        layer: {n: x.astype(np.float64) * (1 + 1e-9) for n, x in own.items()}
        for layer, own in source.weights.items()
    }
    return dataclasses.replace(source, weights=weights)


def test_float32_of_float64_is_the_rounding_of_one_file(source):
    found = xlstm.same(finer(source), source)
    assert found
    assert found.weights == "rounded"
    assert "up to the rounding of one file" in found.summary()


def test_half_precision_is_another_model(source, folders):
    state = load_file(folders["torch"] / "model.safetensors")
    found = xlstm.same(source, {n: x.astype(np.float16) for n, x in state.items()})
    assert not found
    assert found.weights == "different"


def test_one_ulp_is_another_model(source, folders):
    state = load_file(folders["torch"] / "model.safetensors")
    name = next(n for n in state if n.endswith("weight_hh_l0"))
    moved = state[name].copy()
    moved[0, 0] = np.nextafter(moved[0, 0], np.float32(9))
    found = xlstm.same(source, state | {name: moved})
    assert not found
    assert found.weights == "different"


def test_another_activation_is_another_model(source):
    other = model([LSTM(3, 4, activation="relu"), Dense(4, 2)], (None, 3))
    found = xlstm.same(source, other)
    assert not found
    assert "the outputs differ" in found.summary()
    assert "xlstm diagnose" in str(found)


OPTIONS = {
    "stateful": ([LSTM(3, 4, stateful=True)], [LSTM(3, 4)]),
    "one-stateful": ([GRU(3, 4, stateful=True, return_sequences=True), GRU(4, 4, stateful=True)],
                     [GRU(3, 4, return_sequences=True), GRU(4, 4, stateful=True)]),
    "relu-top": ([LSTM(3, 4), Relu(1e6)], [LSTM(3, 4), Relu(2e6)]),
    "relu-no-top": ([LSTM(3, 4), Relu(1e6)], [LSTM(3, 4), Relu()]),
    "clip": ([LSTM(3, 4), Clip(-5.0, 5.0)], [LSTM(3, 4), Clip(-5.0, 6.0)]),
    "floor": ([LSTM(3, 4), UnitNorm(floor=1e-12)], [LSTM(3, 4), UnitNorm(floor=1e-3)]),
}  # fmt: skip
"""Layers of two models that no output of one run tells apart."""


@pytest.mark.parametrize("name", OPTIONS)
def test_options_that_no_output_shows_make_another_model(name):
    a, b = (model(layers, (None, 3)) for layers in OPTIONS[name])
    a = dataclasses.replace(a, weights=b.weights)
    found = xlstm.same(a, b)
    assert not found
    assert found.weights == "identical"
    assert found.summary() == "Different models: the weights are equal; options of layers differ."
    assert found.to_json()["options"] == [*found.options]
    assert found.options[0] in str(found)
    assert xlstm.same(a, a)


def test_options_of_training_are_the_same_model():
    a, b = (model([LSTM(3, 4, dropout=r), Dropout(r)], (None, 3)) for r in (0.2, 0.5))
    assert xlstm.same(a, b)


def poisoned(source, number):
    """The model with one number of its last bias replaced."""
    layer = source.layers[-1].name
    bias = source.weights[layer]["bias"].copy()
    bias[0] = number
    weights = {**source.weights, layer: {**source.weights[layer], "bias": bias}}
    return dataclasses.replace(source, weights=weights)


@pytest.mark.parametrize("number", [np.nan, np.inf])
def test_weights_that_are_no_numbers_hide_no_other_difference(number, source):
    wrong = poisoned(source, number)
    state = {n: t.numpy() for n, t in xlstm.port(wrong, "torch").state_dict().items()}
    name = next(n for n in state if n.endswith(".bias"))
    assert xlstm.same(wrong, state)
    found = xlstm.same(wrong, state | {name: state[name] + np.array([0, 9], np.float32)})
    assert not found
    assert "1 of 2 differ, by up to 9" in str(found)


def test_a_model_of_nan_is_itself(source):
    weights = {n: {t: x * np.nan for t, x in own.items()} for n, own in source.weights.items()}
    wrong = dataclasses.replace(source, weights=weights)
    assert xlstm.same(wrong, wrong).summary() == (
        "The same model: the weights are equal; nothing was run."
    )
    other = model([LSTM(3, 4, activation="relu"), Dense(4, 2)], (None, 3))
    assert not xlstm.same(wrong, dataclasses.replace(other, weights=weights))


def test_arrays_of_integers_are_another_model(source, folders):
    state = load_file(folders["torch"] / "model.safetensors")
    whole = {n: (100 * x).astype(np.int64) for n, x in state.items()}
    assert xlstm.same(source, whole).weights == "different"


def test_the_command(folders, capsys):
    words = ["same", str(folders["torch"]), str(folders["nnx"])]
    assert main(words) == 0
    assert capsys.readouterr().out.startswith("The same model")
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["same"], said["weights"], said["a"]) == (True, "identical", "torch")
    assert main(["same", str(folders["torch"]), str(xlstm.demo.path())]) == 1
    assert capsys.readouterr().out.startswith("Different models")


def test_the_command_imports_no_framework(folders):
    code = (
        "import sys; from xlstm.cli.main import main; main(sys.argv[1:]);"
        "print(*{'torch', 'jax', 'keras', 'tensorflow'} & {*sys.modules})"
    )
    words = ["same", str(folders["torch"]), str(folders["nnx"])]
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "", done.stdout + done.stderr
