"""`repair` corrects weights and options of any suspect, and leaves the suspect as it was."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from cases import model
from mutators import frameworks, torch_mutants
from mutators.sources import SOURCES
from safetensors.numpy import load_file, save_file

import xlstm
from xlstm.cli.main import main
from xlstm.diagnosing import repair
from xlstm.diagnosis.state import EVERY, Effort
from xlstm.errors import UsageError
from xlstm.frameworks import registry
from xlstm.ir.layers import GRU, LSTM, Activation, BatchNorm, Dense

KINDS = ("lstm-square", "gru", "both-lstm", "stack")


def live(framework):
    return registry.adapter(framework).live()


@pytest.fixture(scope="module")
def source():
    return model([LSTM(3, 4, activation="tanh"), Dense(4, 2)], (None, 3))


def swapped(state, name="weight_hh_l0"):
    """A state dict whose gates are in the order i g f o in one tensor."""
    key = next(n for n in state if n.endswith(name))
    blocks = state[key].reshape(4, -1, state[key].shape[1])
    return state | {key: blocks[[0, 2, 1, 3]].reshape(state[key].shape)}


@pytest.mark.parametrize("kind", KINDS)
def test_every_wrong_weight_of_a_torch_port_is_corrected(kind):
    wrong = [*torch_mutants.arrays(SOURCES[kind](0), 0)][::9]
    left = [m.name for m in wrong if not repair(m.model, m.port("float32"), effort=0).ok]
    assert wrong
    assert not left


@pytest.mark.parametrize("kind", ["lstm-square", "gru"])
def test_cells_of_linear_are_corrected_in_the_order_that_their_code_reads(kind):
    wrong = [m for m in torch_mutants.cells(SOURCES[kind](0), 0) if m.weights_only][::9]
    left = [m.name for m in wrong if not repair(m.model, m.port("float32"), effort=0).ok]
    assert wrong
    assert not left


@pytest.mark.parametrize("framework", ["keras", "nnx", "linen"])
def test_wrong_weights_of_other_frameworks_are_corrected(framework):
    wrong = [*frameworks.arrays(SOURCES["gru"](1), framework, 1)][::12]
    left = [m.name for m in wrong if not repair(m.model, m.port("float32"), effort=0).ok]
    assert wrong
    assert not left


@pytest.mark.parametrize("framework", ["torch", "keras", "nnx", "linen"])
def test_a_live_suspect_has_its_own_numbers_again(framework, source):
    port = xlstm.port(source, framework)
    own = live(framework).weights(port)
    name = next(iter(own))
    port = live(framework).assign(port, own | {name: own[name] * 2})
    before = live(framework).weights(port)
    found = repair(source, port)
    assert found.ok
    assert found.changed == (name,)
    np.testing.assert_allclose(found.arrays[name], own[name], rtol=1e-6)
    after = live(framework).weights(port)
    assert {n: x.tobytes() for n, x in after.items()} == {n: x.tobytes() for n, x in before.items()}
    assert not xlstm.diagnose(source, port, effort=0).ok


@pytest.mark.parametrize("framework", ["torch", "keras", "nnx", "linen"])
def test_statistics_of_a_normalization_are_corrected(framework):
    truth = model([LSTM(3, 4, return_sequences=True), BatchNorm(4), Dense(4, 2)], (None, 3))
    port = xlstm.port(truth, framework)
    own = live(framework).weights(port)
    wrong = [n for n in own if n.endswith(("mean", "var", "variance"))]
    assert len(wrong) == 2
    changed = {n: x[::-1].copy() if n in wrong else x for n, x in own.items()}
    assert not xlstm.same(truth, changed)
    assert xlstm.same(truth, own)
    assert repair(truth, changed, effort=0).changed == tuple(n for n in own if n in wrong)
    found = repair(truth, live(framework).assign(port, changed), effort=0)
    assert found.ok
    assert {*found.changed} == {*wrong}


def test_corrected_arrays_load_into_the_module(source):
    module = xlstm.port(source, "torch")
    right = {n: t.clone() for n, t in module.state_dict().items()}
    wrong = swapped({n: t.numpy() for n, t in right.items()})
    module.load_state_dict({n: torch.from_numpy(x) for n, x in wrong.items()})
    found = repair(source, module)
    module.load_state_dict({n: torch.from_numpy(x) for n, x in found.arrays.items()})
    assert xlstm.diagnose(source, module).ok
    assert {n: x.dtype for n, x in found.arrays.items()} == dict.fromkeys(right, np.float32)


class Twice(torch.nn.Module):
    """A port with wrong weights and a wrong line."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return 2 * self.inner(x)


def test_a_mistake_in_code_stays_and_is_said(source):
    inner = xlstm.port(source, "torch")
    state = swapped({n: t.numpy() for n, t in inner.state_dict().items()})
    inner.load_state_dict({n: torch.from_numpy(x) for n, x in state.items()})
    found = repair(source, Twice(inner))
    assert not found
    assert len(found.changed) == 1
    assert found.code
    assert str(found).startswith("Not equal yet: 1 tensor corrected, 1 difference left.")
    assert "to change by hand: " in str(found)


def test_a_state_dict_gets_the_layout_of_its_framework(source):
    state = {n: t.numpy() for n, t in xlstm.port(source, "torch").state_dict().items()}
    name = next(n for n in state if n.endswith("weight_ih_l0"))
    found = repair(source, state | {name: np.ascontiguousarray(state[name].T)})
    assert found.ok
    assert found.arrays[name].shape == state[name].shape
    np.testing.assert_array_equal(found.arrays[name], state[name])


def test_integers_become_the_numbers_of_the_truth(source):
    state = {n: t.numpy() for n, t in xlstm.port(source, "torch").state_dict().items()}
    found = repair(source, {n: (100 * x).astype(np.int64) for n, x in state.items()})
    assert found.ok
    assert {x.dtype.kind for x in found.arrays.values()} == {"f"}


def test_biases_that_the_truth_lacks_become_zeros():
    without = model([GRU(3, 4, use_bias=False), Dense(4, 2, use_bias=False)], (None, 3))
    withs = dataclasses.replace(without)
    module = torch.nn.GRU(3, 4)
    state = {f"gru.{n}": t.detach().numpy() for n, t in module.state_dict().items()}
    state |= {"dense.weight": np.ones((2, 4), np.float32), "dense.bias": np.ones(2, np.float32)}
    found = repair(withs, state)
    zeros = [n for n in found.arrays if "bias" in n]
    assert len(zeros) == 3
    assert not any(found.arrays[n].any() for n in zeros)


def test_options_of_a_graph_are_corrected(source):
    first, last = source.layers
    spec = dataclasses.replace(first.spec, activation="relu")
    nodes = tuple(dataclasses.replace(n, spec=spec) if n is first else n for n in source.nodes)
    found = repair(source, dataclasses.replace(source, nodes=nodes))
    assert found.ok
    assert found.changed == ()
    assert "by options alone" in found.summary()
    assert found.model.node(first.name).spec.activation == "tanh"
    assert found.model.node(last.name).spec == last.spec


def test_a_right_port_needs_no_repair(source):
    found = repair(source, xlstm.port(source, "torch"))
    assert found.ok
    assert found.changed == ()
    assert found.summary() == "Equal up to rounding: there is nothing to correct."


def test_a_function_has_no_tensors_to_correct(source):
    with pytest.raises(UsageError, match="whose tensors have names"):
        repair(source, lambda x: x)


def test_another_layer_is_left_to_the_user(source):
    other = model([LSTM(3, 4), Dense(4, 2), Activation("tanh")], (None, 3))
    found = repair(source, other)
    assert not found.ok
    assert found.code


@pytest.fixture
def wrong_folder(source, tmp_path):
    """A ported folder with wrong numbers."""
    folder = xlstm.save(source, tmp_path / "wrong", "torch")
    path = folder / "model.safetensors"
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        metadata = json.loads(file.read(size))["__metadata__"]
    save_file(swapped(load_file(path)), path, metadata)
    return folder


def test_a_folder_is_corrected_into_a_new_folder(source, wrong_folder, tmp_path, capsys):
    right = xlstm.save(source, tmp_path / "right", "torch")
    out = tmp_path / "new" / "corrected"
    words = ["diagnose", str(right), str(wrong_folder), "--fix", "-o", str(out)]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert said.startswith("Equal now: 1 tensor corrected.")
    assert "written: " in said
    assert (out / "model.py").read_text() == (right / "model.py").read_text()
    assert xlstm.same(right, out)
    assert not xlstm.same(right, wrong_folder)


def test_arrays_are_corrected_into_a_file(source, wrong_folder, tmp_path, capsys):
    right = xlstm.save(source, tmp_path / "right", "torch")
    bare = tmp_path / "bare.safetensors"
    save_file(swapped(load_file(right / "model.safetensors")), bare)
    out = tmp_path / "out"
    words = ["diagnose", str(right), str(bare), "--fix", "-o", str(out)]
    assert main([*words, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["ok"], said["folder"]) == (True, str(out))
    want = load_file(right / "model.safetensors")
    got = load_file(out / "corrected.safetensors")
    assert {n: x.tobytes() for n, x in got.items()} == {n: x.tobytes() for n, x in want.items()}


def test_weights_without_code_are_not_called_the_whole_port(source, wrong_folder, tmp_path, capsys):
    bare, out = tmp_path / "bare.safetensors", tmp_path / "out"
    save_file(load_file(wrong_folder / "model.safetensors"), bare)
    right = xlstm.save(source, tmp_path / "right", "torch")
    assert main(["diagnose", str(right), str(bare), "--fix", "-o", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[-2:] == [
        "compared: weights alone; no code ran with them",
        f"written: {out} (corrected.safetensors)",
    ]


def test_what_is_right_is_not_written(source, tmp_path, capsys):
    right = xlstm.save(source, tmp_path / "right", "torch")
    out = tmp_path / "out"
    assert main(["diagnose", str(right), str(right), "--fix", "-o", str(out)]) == 0
    assert "nothing to correct" in capsys.readouterr().out
    assert not out.exists()


def test_what_is_not_equal_is_not_written(source, tmp_path, capsys):
    right = xlstm.save(source, tmp_path / "right", "torch")
    other = model([LSTM(3, 4), Dense(4, 2), Activation("tanh")], (None, 3))
    wrong = xlstm.save(other, tmp_path / "wrong", "torch")
    out = tmp_path / "out"
    assert main(["diagnose", str(right), str(wrong), "--fix", "-o", str(out)]) == 1
    assert "nothing was written" in capsys.readouterr().out
    assert not out.exists()


@pytest.mark.parametrize(
    "words", [["--fix"], ["-o", "out"], ["--fix", "-o", "there"]], ids=["fix", "folder", "there"]
)
def test_the_options_are_checked_first(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "there").mkdir()
    demo = str(xlstm.demo.path())
    assert main(["diagnose", demo, demo, *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_an_effort_of_zero_may_try_pairs():
    """The first pair of mistakes is tried before the budget is looked at."""
    said = []
    effort = Effort(scale=0.0, tell=said.append)
    for _ in range(EVERY):
        effort.spend((), paired=True)
    assert effort.without_pairs
    assert said == [f"[3/3] looking for the cause: {EVERY} tried, 100% of the pairs of mistakes"]


def test_a_graph_of_no_framework_is_written_as_arrays(source, tmp_path):
    """Nothing tells in which framework its owner would want the code."""
    first = source.layers[0]
    kernel = source.weights[first.name]["kernel"]
    own = {**source.weights[first.name], "kernel": kernel * 2}
    wrong = dataclasses.replace(source, weights={**source.weights, first.name: own})
    found = repair(source, wrong)
    assert (found.ok, found.framework) == (True, "")
    folder = found.save(tmp_path / "out")
    assert [file.name for file in folder.iterdir()] == ["corrected.safetensors"]
    written = load_file(folder / "corrected.safetensors")[f"{first.name}.kernel"]
    np.testing.assert_array_equal(written, kernel)
