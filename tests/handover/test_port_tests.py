"""Tests that lie in the folder of a port pass without xlstm, and fail for other weights."""

import ast
import dataclasses
import shutil
import subprocess
import sys

import numpy as np
import pytest
from cases import CASES, built
from cases_layers import CASES_LAYERS
from emitted_sources import module_of
from paths import CORPUS, DATA, needs_corpus
from port_folders import run_tests
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import xlstm
from xlstm.cli.main import main
from xlstm.errors import UsageError
from xlstm.files.port_folder import weights_of
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import refusals
from xlstm.frameworks.port_tests import PortTests
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import LSTM, Bidirectional, Dense, Embedding, Input
from xlstm.verification.run import output_names

FRAMEWORKS = registry.frameworks()

PROOF = {"test_port.py", "golden.safetensors", "port.intoto.json"}

SMALL = {
    "keras1": DATA / "k122" / "seq_cpu.h5",
    "keras2": DATA / "k212" / "stacked.h5",
    "gru": DATA / "k224" / "gru.h5",
    "masks": DATA / "mask_k212" / "bi_last.h5",
    "states": DATA / "tfk221" / "stack_states.h5",
    "seq2seq": DATA / "k3" / "seq2seq.keras",
    "lone": CASES["lone-lstm"],
    "keys": CASES_LAYERS["keys-stateful"],
}
"""Files of five versions of Keras; a native layer that returns states; a dict of outputs."""


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_they_pass_where_there_is_no_xlstm(framework, tmp_path):
    folders = [
        xlstm.save(source, tmp_path / name, framework, with_tests=True)
        for name, source in SMALL.items()
    ]
    found = run_tests(tmp_path, folders)
    assert found.blocked
    assert not found.failed, found.text
    assert {name: count >= 2 for name, count in found.passed.items()} == dict.fromkeys(SMALL, True)
    assert all((folder / "golden.safetensors").stat().st_size < 10**6 for folder in folders)


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_keras_on_other_backends_runs_float32_alone(backend, tmp_path):
    folder = xlstm.save(DATA / "k224" / "gru.h5", tmp_path / "gru", "keras", with_tests=True)
    found = run_tests(tmp_path, [folder], KERAS_BACKEND=backend)
    assert not found.failed, found.text
    assert found.passed == {"gru": 2}


REAL = {
    "rasa": "k2.1-rasa-masking-lstm/keras_model.h5",
    "maintenance": "k2.0-predictive-maintenance/binary_model.h5",
    "encoder": "k2.0-seq2seq-eng-fra-char/encoder.h5",
    "countnet": "k1.2-countnet/RNN_keras1.2.2.h5",
    "census": "eras-ethnicolr-census/census2010_keras2.1.6.h5",
}


@needs_corpus
def test_five_real_models(tmp_path):
    for name, file in REAL.items():
        words = ["port", CORPUS / file, "--to", "torch", "-o", tmp_path / name, "--with-tests"]
        assert main([*map(str, words), "--quiet"]) == 0
    found = run_tests(tmp_path, [tmp_path / name for name in REAL])
    assert found.blocked
    assert not found.failed, found.text
    assert set(found.passed) == set(REAL)


def words():
    """Embedded words, read in both directions, then by two layers of the same size."""
    graph = Builder()
    x = graph.add("words", Input((None,)))
    x = graph.add("embedding", Embedding(30, 8, mask_zero=True), [x])
    half = LSTM(8, 6, return_sequences=True)
    both = Bidirectional(half, dataclasses.replace(half, go_backwards=True))
    x = graph.add("both", both, [x], mask=Edge("embedding", 1))
    x = graph.add("first", LSTM(12, 12, return_sequences=True), [x])
    x = graph.add("second", LSTM(12, 12, return_sequences=True), [x])
    return built(graph, [graph.add("label", Dense(12, 3), [x])])


def swapped(w, first, second):
    """Exchanges tensors whose names differ in one part."""
    names = {n: n.replace(first, second) for n in w if first in n}
    return {**w, **{a: w[b] for a, b in names.items()}, **{b: w[a] for a, b in names.items()}}


def gates(w, name, order):
    return {**w, name: np.concatenate([np.split(w[name], 4)[n] for n in order])}


MISTAKES = {
    "gates_exchanged": lambda w: gates(w, "first.weight_ih_l0", [0, 2, 1, 3]),
    "blocks_transposed": lambda w: {
        **w,
        "first.weight_hh_l0": np.concatenate([b.T for b in np.split(w["first.weight_hh_l0"], 4)]),
    },
    "bias_of_zeros": lambda w: {**w, "second.bias_ih_l0": 0 * w["second.bias_ih_l0"]},
    "one_weight_moved": lambda w: {
        **w,
        "second.weight_hh_l0": w["second.weight_hh_l0"] + 0.01 * np.eye(48, 12, dtype="float32"),
    },
    "one_bias_moved": lambda w: {
        **w,
        "label.bias": w["label.bias"] + np.array([0, 1e-4, 0], "float32"),
    },
    "layers_exchanged": lambda w: swapped(w, "first.", "second."),
    "directions_exchanged": lambda w: swapped(w, "forward_layer", "backward_layer"),
    "half_precision": lambda w: {n: x.astype("float16").astype("float32") for n, x in w.items()},
    "rows_shifted": lambda w: {**w, "embedding.weight": np.roll(w["embedding.weight"], 1, 0)},
    "forget_bias_added": lambda w: {
        **w,
        "first.bias_hh_l0": w["first.bias_hh_l0"] + np.repeat([0, 1, 0, 0], 12).astype("float32"),
    },
    "units_exchanged": lambda w: {**w, "label.weight": w["label.weight"][:, ::-1].copy()},
}
"""Mistakes in a file of weights of PyTorch."""


def rewritten(folder, change):
    """Puts other weights into a folder; the graph in the metadata stays."""
    with safe_open(weights_of(folder), "numpy") as file:
        metadata = file.metadata()
    before = load_file(weights_of(folder))
    after = {name: np.ascontiguousarray(x) for name, x in change(before).items()}
    assert any(after[name].tobytes() != before[name].tobytes() for name in before)
    save_file(after, weights_of(folder), metadata)


MORE = {
    "bias_far_off": lambda w: {**w, "label.bias": w["label.bias"] + np.float32(0.5)},
    "not_a_number": lambda w: {**w, "label.bias": w["label.bias"] * np.float32("nan")},
}
"""Mistakes whose messages are read."""


@pytest.fixture(scope="module")
def outcome(tmp_path_factory):
    """The results of a right folder, and of one for each mistake."""
    here = tmp_path_factory.mktemp("mistakes")
    right = xlstm.save(words(), here / "right", "torch", with_tests=True)
    for name, change in {**MISTAKES, **MORE}.items():
        rewritten(shutil.copytree(right, here / name), change)
    return run_tests(here, [right, *(here / name for name in (*MISTAKES, *MORE))])


def test_they_fail_for_every_mistake_in_the_weights(outcome):
    wrong = [*MISTAKES, *MORE]
    # in both precisions, and for a row alone
    counts = {name: len(texts) for name, texts in outcome.failed.items()}
    assert counts == dict.fromkeys(wrong, 3), outcome.text
    assert outcome.passed == {"right": 3}


@needs_corpus
@pytest.mark.parametrize("name", ["rasa", "maintenance", "countnet"])
def test_every_tensor_of_a_real_model_counts(name, tmp_path):
    first = xlstm.save(CORPUS / REAL[name], tmp_path / "port", "torch", with_tests=True)
    tensors = sorted(load_file(weights_of(first)))
    folders = [shutil.copytree(first, tmp_path / f"t{number}") for number in range(len(tensors))]
    for folder, tensor in zip(folders, tensors, strict=True):
        rewritten(folder, lambda w, tensor=tensor: {**w, tensor: w[tensor] + np.float32(1e-3)})
    assert set(run_tests(tmp_path, folders).failed) == {folder.name for folder in folders}


def test_a_failure_names_output_step_difference_and_limit(outcome):
    for text in outcome.failed["bias_far_off"]:
        assert "output 'label', time step " in text
        assert "difference 0.5, allowed " in text
        assert "Far beyond rounding: weights or code are not those that were ported." in text
        assert "xlstm port FOLDER --to torch -o NEW --with-tests" in text


def test_weights_that_are_not_numbers(outcome):
    for text in outcome.failed["not_a_number"]:
        assert "NaN or infinity where the reference has none" in text


def test_a_small_mistake_is_called_small(outcome):
    assert all("Small: weights in half precision" in s for s in outcome.failed["half_precision"])


def test_a_port_that_was_trained_on_fails_by_its_numbers(tmp_path):
    import torch

    folder = xlstm.save(words(), tmp_path / "port", "torch", with_tests=True)
    model = module_of(folder).Model.from_pretrained(folder)
    with torch.no_grad():
        model.label.bias += 0.1
    model.save_pretrained(folder)
    (text, *_) = run_tests(tmp_path, [folder]).failed["port"]
    assert "If the weights were trained on, that is expected" in text
    again = tmp_path / "again"
    assert main(["port", str(folder), "--to", "nnx", "-o", str(again), "--with-tests"]) == 0
    assert not run_tests(tmp_path, [again]).failed


def test_a_large_output_is_there_in_part(tmp_path):
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    x = graph.add("lstm", LSTM(3, 4, return_sequences=True), [x])
    model = built(graph, [graph.add("words", Dense(4, 5000), [x])])
    folder = xlstm.save(model, tmp_path / "port", "torch", with_tests=True)
    assert (folder / "golden.safetensors").stat().st_size < 10**6
    said = "682 of its 5000 units are compared"
    assert said in (folder / "test_port.py").read_text().replace("\n", " ")
    assert said in (folder / "report.json").read_text()
    assert not run_tests(tmp_path, [folder]).failed
    rewritten(folder, lambda w: {**w, "lstm.bias_ih_l0": w["lstm.bias_ih_l0"] * np.float32(1.001)})
    assert run_tests(tmp_path, [folder]).failed


def test_large_inputs_have_fewer_rows(tmp_path):
    graph = Builder()
    x = graph.add("x", Input((100, 600)))
    model = built(graph, [graph.add("lstm", LSTM(600, 2), [x])])
    folder = xlstm.save(model, tmp_path / "port", "torch", with_tests=True)
    golden = load_file(folder / "golden.safetensors")
    assert golden["input.0"].shape == (1, 100, 600)
    assert "ROW" not in (folder / "test_port.py").read_text()
    assert not run_tests(tmp_path, [folder]).failed


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_emitted_test_is_lint_clean_and_formatted(framework, tmp_path):
    adapter = registry.adapter(framework)
    cases = {**CASES, **CASES_LAYERS}
    refused = 0
    for number, model in enumerate(cases.values()):
        if refusals(model, adapter):
            refused += 1
            continue
        names = tuple(output_names(model))
        tests = PortTests(model, names, ("float32", "float64"), 1 if number % 2 else None)
        (tmp_path / f"case_{number}.py").write_text(adapter.emit_tests(tests))
    assert refused < len(cases) // 2
    for command in (["check"], ["format", "--check", "--diff"]):
        words = [sys.executable, "-m", "ruff", *command, "--isolated", str(tmp_path)]
        found = subprocess.run(words, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


HOSTILE = '"""\nimport os; os.system("touch pwned") #'


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_names_of_a_file_are_text(framework, tmp_path):
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    model = built(graph, [graph.add(HOSTILE, LSTM(3, 4), [x])])
    folder = xlstm.save(model, tmp_path / "port", framework, with_tests=True)
    text = (folder / "test_port.py").read_text()
    names = [item for item in ast.walk(ast.parse(text)) if isinstance(item, ast.Name)]
    assert not {"os", "system"} & {item.id for item in names}
    if framework == "torch":  # the others have the same text around their `run`
        assert not run_tests(tmp_path, [folder]).failed
        assert not list(tmp_path.rglob("pwned"))


def test_the_same_model_gives_the_same_bytes(tmp_path):
    first, second = (
        xlstm.save(words(), tmp_path / name, "torch", with_tests=True) for name in ("a", "b")
    )
    for name in ("test_port.py", "golden.safetensors"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_a_model_that_rounding_decides_has_no_tests(tmp_path):
    source = CASES["stack"]
    layers = {n: {t: x * np.nan for t, x in own.items()} for n, own in source.weights.items()}
    model = dataclasses.replace(source, weights=layers)
    with pytest.raises(UsageError, match="rounding alone may change every step"):
        xlstm.save(model, tmp_path / "port", "torch", with_tests=True)
    assert not list(tmp_path.iterdir())
