"""Ports to Keras 3: what is exact, what is refused, and what a bare Keras makes of model.keras."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from cases import CASES, built, model
from graph_cases import GRAPHS, graph
from processes import WAIT
from refusing import refused

import xlstm
from xlstm import reference
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import LSTM, Bidirectional, Dense, Input, Masking, SimpleRNN, TimeDistributed
from xlstm.porting.port import build
from xlstm.verification import inputs
from xlstm.verification.bounds import bounds, judge, worst_of

KERAS = registry.adapter("keras")

SEQUENCE = {"return_sequences": True}
MASKED = "lstm-masked-explicit"
BOTH = Bidirectional(LSTM(3, 4, **SEQUENCE), LSTM(3, 4, go_backwards=True, **SEQUENCE))


def unbatched():
    """A stateful model of no batch size."""
    source = model([LSTM(3, 4, stateful=True)], (None, 3))
    return dataclasses.replace(
        source, nodes=(dataclasses.replace(source.nodes[0], spec=Input((None, 3))), source.nodes[1])
    )


def unread(b):
    """A layer beside the one that gives the output."""
    x = b.add("x", Input((None, 3)))
    found = b.add("first", LSTM(3, 4), [x])
    b.add("second", LSTM(3, 4), [x])
    return found


REFUSED = {
    "projection": (model([LSTM(3, 4, projection=2)], (None, 3)), "LSTM with projection"),
    "peepholes": (CASES["lstm-last"], "LSTM with peepholes"),
    "stateful": (unbatched(), "stateful without a batch size"),
    "unread": (graph(unread), "nothing reads"),
    "time_distributed-both": (
        model([TimeDistributed(dataclasses.replace(BOTH, merge="none"))], (None, 4, 3)),
        "any number of time steps",
    ),
}
"""All that ports to Keras refuse, and what the error says; every one of CASES has a port."""

FILES = {
    case: {**CASES, **GRAPHS}[case]
    for case in """
        lstm-relu-hard_sigmoid_keras2 gru-both-stateful gru-masked-explicit mask-returned
        mask-turned old-gru shared simple_rnn-masked-backwards unlike-masked-ave unlike-dense
        gelu_tanh encoder_decoder stack gru_before-last gru-no_hidden_bias lstm-masked-zeros
        lstm-stateful lstm-both-none gru-both-masked lstm-both-states mask-two masked-states
        mask-not_obeyed mask-now_and_then reverse stateful-branches stateful-returned
        unlike-returned-none unlike-stateful-dense swapped dropout time_distributed-lstm
    """.split()
}
"""Models that are written to files, one of every kind."""

ELSEWHERE = 8
"""So many of them, the first ones, are opened on slow backends and in float32 too."""


SEVERAL_STATES = ("stateful-branches", "unlike-stateful-dense")
"""Keras keeps their layers, and so their states, in an order of its own."""


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_are_equal_up_to_rounding(case):
    report = xlstm.reconcile(GRAPHS[case], "keras")
    report.check()
    found = report.frameworks["keras"]
    assert found.parameters == report.ledger.total("keras") > 0
    assert {v.verdict for v in found.verdicts.values()} == {"rounding"}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_layer_and_way_out(case):
    source, words = REFUSED[case]
    if case == "peepholes":
        node = source.nodes[-1]
        seen = dataclasses.replace(node, spec=dataclasses.replace(node.spec, peepholes=True))
        source = dataclasses.replace(source, nodes=(source.nodes[0], seen))
    name = source.nodes[-1].name
    refused(UnsupportedError, lambda: xlstm.port(source, "keras"), "port to Keras", name, words)


def long_names(source, rng):
    """The same model with names of all lengths."""
    names = {
        node.name: f"{node.name}_{'abc_' * 20}"[: rng.integers(5, 60)] + str(number)
        for number, node in enumerate(source.nodes)
    }

    def edges(found):
        return tuple(Edge(names[edge.node], edge.output) for edge in found)

    nodes = tuple(
        dataclasses.replace(
            node,
            name=names[node.name],
            inputs=edges(node.inputs),
            mask=edges([node.mask])[0] if node.mask else None,
            states=edges(node.states),
            layer=names.get(node.layer, ""),
        )
        for node in source.nodes
    )
    weights = {names[name]: layer for name, layer in source.weights.items()}
    given = tuple(names[name] for name in source.inputs)
    return dataclasses.replace(
        source, nodes=nodes, inputs=given, outputs=edges(source.outputs), weights=weights
    )


def test_source_is_lint_clean_and_formatted_whatever_the_names(tmp_path):
    rng = np.random.default_rng(0)
    for case, source in {**CASES, **GRAPHS}.items():
        for number, named in enumerate([source, *(long_names(source, rng) for _ in range(3))]):
            text = KERAS.emit(named)
            (tmp_path / f"{case.replace('-', '_')}_{number}.py").write_text(text)
    for command in (["check"], ["format", "--check", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", tmp_path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


BARE = """
import json, sys, warnings
warnings.simplefilter("error", UserWarning)
import keras, numpy as np
sys.modules["xlstm"] = None
for case in json.loads(sys.argv[1]):
    data = dict(np.load(f"{case}.npz"))
    given, wanted = ([data[k] for k in sorted(data) if k[0] == letter] for letter in "xy")
    model = keras.models.load_model(f"{case}/model.keras")
    found = keras.tree.flatten(model.predict_on_batch(given[0] if len(given) == 1 else given))
    assert len(found) == len(wanted), case
    for y, z in zip(found, wanted):
        np.testing.assert_allclose(y, z, 1e-4, 1e-5, case)
print("equal")
"""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders written by `save`, with inputs and what the reference gives for them."""
    folder = tmp_path_factory.mktemp("saved")
    for case, source in FILES.items():
        xlstm.save(source, folder / case, "keras")
        given = inputs.make(source)
        wanted = reference.run(source, given)[: len(source.outputs)]
        arrays = {f"x{n:02}": x for n, x in enumerate(given)}
        np.savez(folder / f"{case}.npz", **arrays, **{f"y{n:02}": y for n, y in enumerate(wanted)})
    return folder


@pytest.mark.parametrize("backend", ["tensorflow", "torch", "jax"])
def test_a_bare_keras_opens_model_keras_and_computes_the_same(backend, saved, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    cases = list(FILES) if backend == "tensorflow" else list(FILES)[:ELSEWHERE]
    command = [sys.executable, "-c", BARE, json.dumps(cases)]
    done = subprocess.run(command, cwd=saved, capture_output=True, text=True, timeout=WAIT)
    assert done.stdout.endswith("equal\n"), done.stdout + done.stderr


def test_saved_folders_load_again(saved):
    for case, source in FILES.items():
        again = xlstm.load(saved / case)
        assert (again.nodes, again.inputs, again.outputs) == (
            source.nodes,
            source.inputs,
            source.outputs,
        )
        np.testing.assert_equal(pack_model(again, KERAS), pack_model(source, KERAS))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_originals_run_in_both_precisions(dtype, saved):
    """What Keras itself makes of a file, its dtype rewritten, against the reference."""
    live = KERAS.live()
    several = list(FILES) if dtype == "float64" else list(FILES)[:ELSEWHERE]
    for case in several:
        if case in SEVERAL_STATES:
            continue
        source = FILES[case]
        given = inputs.make(source)
        mine, exact = (bounds(source, given, name) for name in (dtype, "float64"))
        opened = live.open_native(saved / case / "model.keras", dtype)
        for found in (opened, live.in_dtype(opened, dtype)):
            outputs = live.run(found, given, dtype)
            pairs = zip(outputs, mine, exact, strict=True)
            verdict = worst_of([judge(y, own, sharp, dtype) for y, own, sharp in pairs])
            assert verdict.verdict == "rounding", (case, verdict)


def test_weights_are_named_by_layer_and_half():
    names = set(pack_model(CASES["gru-both-concat"], KERAS))
    halves = ("forward_layer", "backward_layer")
    kinds = ("kernel", "recurrent_kernel", "bias")
    assert names == {f"bidirectional_0.{half}.{kind}" for half in halves for kind in kinds}
    for case, source in {**FILES, **GRAPHS}.items():
        held = KERAS.live().weights(build(source, KERAS))
        packed = pack_model(source, KERAS)
        assert list(held) != [], case
        for name, array in packed.items():
            np.testing.assert_array_equal(held.pop(name), array, name)
        assert not held, case


@pytest.mark.parametrize("case", ["lstm-stateful", "gru-both-states", "lstm-both-unlike", "stack"])
def test_there_and_back_gives_the_same_arrays(case, tmp_path):
    """Keras -> torch -> Keras, bit for bit: one bias is split into two and folded again."""
    source = CASES[case]
    first = xlstm.save(source, tmp_path / "keras", "keras")
    second = xlstm.save(first, tmp_path / "torch", "torch")
    third = xlstm.save(second, tmp_path / "again", "keras")
    name = "weights.safetensors"
    arrays = [pack_model(xlstm.load(folder), KERAS) for folder in (first, third)]
    np.testing.assert_equal(*arrays)
    assert (first / "model.py").read_text().partition('"""\n')[2] == (
        (third / "model.py").read_text().partition('"""\n')[2]
    )
    assert (first / name).stat().st_size == (third / name).stat().st_size


def test_chunks_of_a_stateful_model_equal_the_whole():
    source = CASES["gru-both-stateful"]
    stateful = CASES["lstm-stateful"]
    ported = xlstm.port(stateful, "keras")
    (x,) = inputs.make(stateful)
    whole = np.array(ported(x))
    for layer in ported.layers:
        layer.reset_state()
    parts = [np.array(ported(part)) for part in (x[:, :5], x[:, 5:6], x[:, 6:])]
    np.testing.assert_allclose(np.concatenate(parts, 1), whole, 0, 1e-6)
    live = KERAS.live()
    once, again = (live.run(build(source, KERAS), inputs.make(source), "float32") for _ in "ab")
    np.testing.assert_equal(once, again)  # every run starts anew


def test_long_sequences_are_compiled():
    """Beyond some length TensorFlow's loop is compiled; both ways give the same."""
    source = CASES["gru-masked-explicit"]
    given = inputs.make(source, 100)
    ported, live = build(source, KERAS, "float64"), KERAS.live()
    (long,) = live.run(ported, given, "float64")
    (short,) = live.run(ported, [x[:, :60] for x in given], "float64")
    np.testing.assert_allclose(long[:, :60], short, 0, 1e-12)
    (wanted,) = reference.run(source, given)
    np.testing.assert_allclose(long, wanted, 0, 1e-12)


def test_layers_that_are_not_trained_stay_so():
    frozen = model([BOTH, LSTM(8, 3), TimeDistributed(Dense(3, 2))][:2], (None, 3))
    nodes = tuple(dataclasses.replace(node, trainable=False) for node in frozen.nodes)
    assert xlstm.port(frozen, "keras").count_params() > 0
    ported = xlstm.port(dataclasses.replace(frozen, nodes=nodes), "keras")
    assert not ported.trainable_weights
    assert len(ported.weights) == 9


def test_masks_of_numbers_count_where_they_are_not_zero():
    source = CASES["lstm-masked-explicit"]
    x, keep = inputs.make(source)
    ported = xlstm.port(source, "keras")
    wanted = np.array(ported([x, keep]))
    for numbers in (keep * np.float32(0.5), keep.astype("int32") * 2):
        np.testing.assert_array_equal(ported([x, numbers]), wanted)


def test_layers_may_be_called_as_what_the_source_itself_uses():
    old = LSTM(3, 4, "tanh", "hard_sigmoid_keras2", **SEQUENCE)
    both = Bidirectional(old, dataclasses.replace(old, go_backwards=True))
    apart = Bidirectional(old, SimpleRNN(3, 2, go_backwards=True, **SEQUENCE))
    b = Builder()
    x, y = b.add("inputs", Input((None, 3))), b.add("keras", Input((None, 3)))
    x, y = b.add("make", Dense(3, 3), [x]), b.add("model", Dense(3, 3), [y])
    found = [b.add("bidirectional", both, [x]), b.add("both_ways", apart, [y])]
    found += [b.add("variables", Dense(8, 2), found[:1]), b.add("dtype", Dense(6, 2), found[1:])]
    found += [b.add("layer", both, [x]), b.add("Any", apart, [y])]
    last = b.add("weights", Dense(6, 2), found[-1:])
    xlstm.reconcile(built(b, [*found[:-1], last]), "keras").check()


def test_inputs_and_outputs_in_dicts_go_by_their_sorted_names():
    import keras

    b, a = keras.Input((None, 2), name="b"), keras.Input((3,), name="a")
    found = {"z": keras.layers.LSTM(3)(b), "y": keras.layers.Dense(2)(a)}
    original = keras.Model({"b": b, "a": a}, found)
    live = KERAS.live()
    for steps in (5, 100):
        arrays = [np.ones((4, 3)), np.ones((4, steps, 2))]
        for dtype in ("float32", "float64"):
            outputs = live.run(live.in_dtype(original, dtype), arrays, dtype)
            assert [(y.shape, y.dtype) for y in outputs] == [((4, 2), dtype), ((4, 3), dtype)]


@pytest.mark.parametrize("wrong", ["states", "batch", "mask"])
def test_states_and_masks_of_a_wrong_size_are_errors(wrong):
    case = {"states": "lstm-states", "batch": "lstm-stateful", "mask": "lstm-masked-explicit"}[
        wrong
    ]
    source = CASES[case]
    x, *more = inputs.make(source)
    given = {
        "states": [x, *(state[:3] for state in more)],
        "batch": x[:3],
        "mask": [x, *(mask[:, :5] for mask in more)],
    }
    with pytest.raises(Exception, match=r"must be equal|batch size|5 elements"):
        xlstm.port(source, "keras").predict_on_batch(given[wrong])


def test_inexact_operations_of_tensorflow_are_named():
    live = KERAS.live()
    source = model([Masking(), LSTM(3, 4, "gelu"), Dense(4, 2, "tanh")], (None, 3))
    (found,) = live.inexact_for(source, "float64").items()
    assert found[0].startswith("gelu of lstm_1: tf.nn.gelu")
    assert 1e-9 < found[1] < 1e-8
    assert not live.inexact_for(source, "float32")
    assert not live.inexact_for(CASES["stack"], "float64")


def test_what_a_reopened_file_loses_is_noted(tmp_path):
    """Keras keeps no dtype of a model that is an activation."""
    for case, lost in (("lstm-relu-hard_sigmoid_keras2", True), ("lstm-last", False)):
        folder = xlstm.save(CASES[case].astype("float64"), tmp_path / case, "keras")
        report = (folder / "report.json").read_text()
        assert ("reopens activations" in report) is lost
    single = xlstm.save(CASES["stack"], tmp_path / "single", "keras")
    assert "reopens" not in (single / "report.json").read_text()
