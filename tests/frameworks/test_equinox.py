"""The adapter of `examples/equinox_adapter`: a third party's, installed as a distribution."""

import importlib
import json
import sys
import tomllib

import numpy as np
import pytest
from paths import ROOT

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.frameworks import model_tensors, registry
from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, LSTM, Dense, Dropout, Embedding, SimpleRNN, TimeDistributed
from xlstm.ir.source import Source
from xlstm.testing import conformance

equinox = pytest.importorskip("equinox", reason="Equinox is not installed (it is in the dev extra)")
jax = pytest.importorskip("jax", reason="jax is not installed (Equinox computes with it)")
FOLDER = ROOT / "examples" / "equinox_adapter"
SEQUENCE = {"return_sequences": True}
sys.path.append(str(FOLDER))
CASES = conformance(importlib.import_module("xlstm_equinox.adapter").ADAPTER)


@pytest.fixture(autouse=True)
def _installed(tmp_path_factory, monkeypatch):
    """The adapter with the entry points of its pyproject.toml."""
    project = tomllib.loads((FOLDER / "pyproject.toml").read_text())["project"]
    folder = tmp_path_factory.mktemp("site")
    info = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    (info / "METADATA").write_text(head)
    text = "".join(
        f"[{group}]\n" + "".join(f"{name} = {path}\n" for name, path in rows.items())
        for group, rows in project["entry-points"].items()
    )
    (info / "entry_points.txt").write_text(text)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.syspath_prepend(str(folder))


def model(layers, shape, dtype="float32"):
    """A chain with weights of the size of trained ones, biases included."""
    rng = np.random.default_rng(20)
    named = [(f"{spec.kind.lower()}_{n}", spec, True) for n, spec in enumerate(layers)]
    bare = chain("model", named, shape, {}, Source("torch"), input_dtype=dtype)
    weights = {}
    for tensor in model_tensors.tensors(bare, registry.adapter("torch")):
        array = 0.5 * rng.standard_normal(tensor.shape)
        weights[tensor.name] = array.astype("float32")
    read = model_tensors.unpack_model(bare, registry.adapter("torch"), weights)
    return chain("model", named, shape, read, Source("torch"), input_dtype=dtype)


def words():
    layers = [Embedding(9, 4), LSTM(4, 5, **SEQUENCE), Dropout(0.5), GRU(5, 3), Dense(3, 2, "tanh")]
    return model(layers, (None,), "int32")


def steps():
    layers = [LSTM(4, 5, use_bias=False, **SEQUENCE), TimeDistributed(Dense(5, 3, "softmax"))]
    return model([*layers, GRU(3, 3, use_bias=False, **SEQUENCE), Dense(3, 2)], (None, 4))


@pytest.mark.parametrize("make", [words, steps])
def test_ports_are_equal_counted_and_read_back(make, tmp_path):
    source = make()
    report = xlstm.reconcile(source, ["equinox"])
    report.check()
    assert {v.verdict for v in report.frameworks["equinox"].verdicts.values()} == {"rounding"}
    assert report.frameworks["equinox"].parameters == xlstm.count(source).total("equinox")
    folder = xlstm.save(xlstm.port(source, "equinox"), tmp_path / "port", "equinox")
    xlstm.reconcile(folder, ["equinox", "torch", "nnx"]).check()
    totals = json.loads((folder / "report.json").read_text())["counts"]["totals"]
    assert list(totals) == ["keras", "torch", "nnx", "linen", "equinox"]


def test_ports_are_compiled():
    port = xlstm.port(words(), "equinox")
    x = jax.numpy.arange(6) % 9
    call = xlstm.compile(port, x)
    np.testing.assert_allclose(call(x), port(x), rtol=0, atol=1e-6)
    np.testing.assert_allclose(call(x[:4]), port(x[:4]), rtol=0, atol=1e-6)


def test_a_saved_module_loads_without_xlstm(tmp_path):
    source = words()
    folder = xlstm.save(source, tmp_path / "port", "equinox")
    text = (folder / "model.py").read_text()
    assert "xlstm." not in text
    space = {"__name__": "model", "__file__": str(folder / "model.py")}
    exec(compile(text, "model.py", "exec"), space)
    x = np.arange(12).reshape(3, 4) % 9
    np.testing.assert_array_equal(
        jax.vmap(space["load"]())(x), jax.vmap(xlstm.port(source, "equinox"))(x)
    )


def test_dropout_acts_in_training():
    ported = xlstm.port(model([Dropout(0.25), Dense(2, 2)], (2,)), "equinox")
    assert ported.dropout_0.inference
    ported = equinox.nn.inference_mode(ported, False)
    dropped = ported.dropout_0(np.ones(4000, "float32"), key=jax.random.key(0))
    assert 0.22 < float((dropped == 0).mean()) < 0.28
    assert float(dropped.max()) == pytest.approx(1 / 0.75)
    with pytest.raises(RuntimeError, match="requires a key"):
        ported(np.ones(2, "float32"))
    assert ported(np.ones(2, "float32"), key=jax.random.key(0)).shape == (2,)


@pytest.mark.parametrize("name", ["LSTMCell", "GRUCell", "Linear", "Embedding"])
def test_layers_are_read(name):
    layer = getattr(equinox.nn, name)(7, 4, key=jax.random.key(3))
    read = xlstm.load(layer)
    xlstm.reconcile(read, ["equinox", "nnx", "torch"]).check()
    assert xlstm.count(layer).total("equinox") == sum(x.size for x in jax.tree.leaves(layer))


def test_a_sequential_is_read_and_other_modules_are_refused():
    keys = jax.random.split(jax.random.key(0), 3)
    linear = equinox.nn.Linear(4, 2, key=keys[0])
    table = equinox.nn.Embedding(9, 4, key=keys[1])
    inner = equinox.nn.Sequential([table, linear, equinox.nn.Dropout(0.2)])
    read = xlstm.load(inner)
    assert [node.spec.kind for node in read.layers] == ["Embedding", "Dense", "Dropout"]
    x = np.arange(8).reshape(2, 4)
    found = xlstm.port(read, "numpy")(x.astype("float32"))
    want = jax.vmap(jax.vmap(equinox.nn.inference_mode(inner)))(x)
    np.testing.assert_allclose(found, want, rtol=0, atol=1e-6)
    conv = equinox.nn.Conv1d(3, 4, 2, key=keys[2])
    with pytest.raises(UnsupportedError, match=r"LSTMCell, GRUCell, Linear.* got Conv1d"):
        xlstm.load(conv)
    assert xlstm.count(conv).total("equinox") == 28


REFUSED = {
    "another layer": ([SimpleRNN(3, 4)], "SimpleRNN; this adapter has LSTM, GRU"),
    "an activation": ([Dense(3, 4, "selu")], "activation selu"),
    "options": ([GRU(3, 4, reset_after=False, go_backwards=True)], "go_backwards, reset_after"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_the_rest_is_refused_by_name(case):
    layers, words = REFUSED[case]
    source = model(layers, (None, 3) if case != "an activation" else (3,))
    with pytest.raises(UnsupportedError, match=words):
        xlstm.port(source, "equinox")
    assert words in xlstm.count(source).layers[0].refused["equinox"]


def test_it_is_explained_and_a_mistake_is_found():
    explained = xlstm.explain("GRU", features=2, units=3)
    rows = {row.name: row for row in explained.tensors if row.framework == "equinox"}
    assert rows["bias_n"].shape == (3,)
    source = words()
    arrays = model_tensors.pack_model(source, registry.adapter("equinox"))
    arrays["lstm_1.bias"][5:10] += 1.0
    found = xlstm.diagnose(source, arrays)
    assert not found.ok
    assert "lstm_1: 1 is added to the bias of the forget gate" in str(found)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_it_passes_conformance(case):
    case.run()


def test_its_own_test_is_these_cases():
    text = (FOLDER / "tests" / "test_conformance.py").read_text()
    assert len([line for line in text.splitlines() if line.strip()]) <= 10
    readme = (FOLDER / "README.md").read_text()
    assert text.partition("\n\n")[2].strip() in readme
    space = {"__name__": "test_conformance"}
    exec(compile(text, "test_conformance.py", "exec"), space)  # the example's own file
    (mark,) = space["test_port"].pytestmark
    assert [case.name for case in mark.args[1]] == [case.name for case in CASES]


def test_the_whole_of_it_is_short():
    files = [path for path in FOLDER.rglob("*") if path.suffix in (".py", ".md", ".toml")]
    assert sum(len(path.read_text().splitlines()) for path in files) < 430
