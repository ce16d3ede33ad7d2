"""Somebody else's framework, added by CONTRIBUTING's recipe: one folder and one entry point."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from cases import CASES

import xlstm
from xlstm.counting import tensor_rows
from xlstm.counting.ledger import render_counts
from xlstm.errors import UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import trained_layer
from xlstm.ir.graph import chain
from xlstm.ir.layers import Attention, Dropout, MultiHeadAttention

TOY = Path(__file__).parents[1] / "toy_framework"
MODEL = CASES["lstm-tanh-sigmoid"]


@pytest.fixture
def toyml(tmp_path, monkeypatch):
    """ToyML and its adapter as an installed distribution."""
    info = tmp_path / "xlstm_toyml-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xlstm-toyml\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xlstm.adapters]\ntoyml = toyml_adapter:ADAPTER\n")
    monkeypatch.syspath_prepend(str(TOY))
    monkeypatch.syspath_prepend(str(tmp_path))
    import toyml

    return toyml


@pytest.fixture
def layer(toyml):
    """A layer of ToyML with weights."""
    rng = np.random.default_rng(0)
    shapes = ((20, 3), (20, 5), (20,))
    return toyml.LSTM(*(rng.standard_normal(shape).astype("float32") for shape in shapes))


@pytest.mark.usefixtures("toyml")
def test_it_is_listed_counted_and_proven():
    assert "toyml" in registry.names()
    ledger = xlstm.count(MODEL, ["keras", "torch", "toyml"])
    assert ledger.total("toyml") == ledger.total("keras")
    report = xlstm.reconcile(MODEL, ["toyml"])
    report.check()
    assert report.frameworks["toyml"].parameters == 4 * 5 * (3 + 5 + 1)


def test_its_objects_are_read_and_ported(layer):
    x = np.random.default_rng(1).standard_normal((2, 6, 3)).astype("float32")
    ported = xlstm.port(layer, "numpy")
    np.testing.assert_allclose(ported(x), layer(x), rtol=0, atol=1e-6)


def test_it_is_called_as_it_is_or_as_its_adapter_says(layer, monkeypatch):
    x = np.random.default_rng(1).standard_normal((2, 6, 3)).astype("float32")
    assert xlstm.compile(layer) is layer
    import toyml_live

    def compiled(port, examples):
        assert port is layer
        assert len(examples) == 1
        return lambda x: [port(x)]

    monkeypatch.setattr(toyml_live, "compiled", compiled, raising=False)
    np.testing.assert_array_equal(xlstm.compile(layer, x)(x)[0], layer(x))


@pytest.mark.usefixtures("toyml")
def test_it_is_saved_and_ports_on(tmp_path):
    folder = xlstm.save(MODEL, tmp_path / "port", "toyml")
    np.testing.assert_equal(xlstm.load(folder).weights, MODEL.weights)


@pytest.mark.usefixtures("toyml")
def test_its_refusals_are_its_own():
    with pytest.raises(UnsupportedError, match="port to ToyML"):
        xlstm.port(CASES["dense"], "toyml")


DROPPED = chain(
    "dropped",
    [("lstm", xlstm.model.LSTM(3, 5, return_sequences=True), True), ("drop", Dropout(0.5), True)],
    (None, 3),
    {"lstm": next(iter(MODEL.weights.values()))},
    xlstm.model.Source("keras"),
)


@pytest.mark.usefixtures("toyml")
def test_it_says_that_it_leaves_dropout_out(tmp_path):
    folder = xlstm.save(DROPPED, tmp_path / "port", "toyml")
    notes = json.loads((folder / "report.json").read_text())["notes"]
    assert "drop: Dropout computes something else in training, which ToyML leaves out" in notes
    folder = xlstm.save(DROPPED, tmp_path / "torch", "torch")
    assert "leaves out" not in (folder / "report.json").read_text()


@pytest.mark.usefixtures("toyml")
def test_an_adapter_that_drops_dropout_without_a_word_is_refused(tmp_path, monkeypatch):
    import toyml_adapter

    silent = dataclasses.replace(toyml_adapter.ADAPTER, training={})
    monkeypatch.setattr(toyml_adapter, "ADAPTER", silent)
    words = "layer drop: .*Dropout, and the adapter of ToyML does not say what ports do in training"
    for call in (xlstm.port, lambda source, to: xlstm.save(source, tmp_path / "port", to)):
        with pytest.raises(UnsupportedError, match=words):
            call(DROPPED, "toyml")
    assert not (tmp_path / "port").exists()
    xlstm.port(MODEL, "toyml")


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_dropout_of_attention_weights_is_a_layer_of_training(dropout):
    for spec in (
        Attention(4, dropout=dropout),
        MultiHeadAttention(4, 4, 4, 2, 2, 2, 4, dropout=dropout),
    ):
        assert trained_layer(spec) == ("Dropout" if dropout else "")


@pytest.mark.usefixtures("toyml")
def test_what_it_refuses_is_null_in_the_counts_with_the_reason():
    ledger = xlstm.count(CASES["time_distributed"], ["keras", "toyml"])
    assert ledger.totals()["toyml"]["total"] is None
    assert ledger.to_json()["layers"][1]["params"]["toyml"] is None
    assert "port to ToyML" in ledger.layers[1].refused["toyml"]
    assert "port to ToyML" in render_counts(ledger)
    assert ledger.total("keras") is not None


OWN = ("keras", "torch", "nnx", "linen")


def test_nobody_has_to_name_it(layer, tmp_path):
    assert xlstm.count(MODEL).frameworks == (*OWN, "toyml")
    folder = xlstm.save(layer, tmp_path / "port", "torch")
    report = json.loads((folder / "report.json").read_text())
    assert report["counts"]["totals"]["toyml"]["total"] == 180
    explained = xlstm.explain("LSTM", features=3, units=5)
    assert {row.framework for row in explained.tensors} == {*OWN, "toyml"}
    assert explained.columns[-1] == tensor_rows.Column("toyml", "ToyML", 180)
    assert "ToyML" in str(explained)
    assert "ToyML" in explained.to_markdown()


def test_its_arrays_are_known_by_their_names(layer):
    arrays = {"lstm.w": layer.w, "lstm.u": layer.u, "lstm.b": layer.b}
    assert xlstm.count(arrays).total("toyml") == 180
    spec = xlstm.model.LSTM(3, 5, return_sequences=True)
    model = xlstm.load(arrays, layers={"lstm": spec})
    assert model.source.framework == "toyml"
    np.testing.assert_equal(model.weights["lstm"], xlstm.load(layer).weights["lstm"])


def test_a_mistake_in_its_layer_is_found(toyml, layer):
    wrong = toyml.LSTM(layer.w, layer.u, layer.b.copy())
    wrong.b[5:10] += 1
    found = xlstm.diagnose(layer, wrong)
    assert not found.ok
    assert "forget" in str(found) or "gate f" in str(found)
    assert xlstm.diagnose(layer, {"w": layer.w, "u": layer.u, "b": layer.b}).ok
    found = xlstm.diagnose(layer, {"w": layer.w, "u": layer.u, "b": wrong.b})
    assert not found.ok


def test_without_its_distribution_nothing_has_it():
    assert xlstm.count(MODEL).frameworks == OWN
    assert tuple(registry.frameworks()) == OWN


@pytest.mark.usefixtures("toyml")
def test_a_broken_distribution_is_named(tmp_path):
    entry = tmp_path / "xlstm_toyml-1.dist-info" / "entry_points.txt"
    entry.write_text("[xlstm.adapters]\ntoyml = toyml_gone:ADAPTER\n")
    with pytest.raises(UsageError, match="No module named 'toyml_gone'; correct or uninstall x"):
        xlstm.count(MODEL)


def test_without_its_distribution_it_is_unknown():
    with pytest.raises(UsageError, match="one of keras, torch, nnx, linen, numpy"):
        xlstm.port(MODEL, "toyml")


def test_the_recipe_names_every_file_of_the_toy():
    recipe = (TOY.parents[1] / "CONTRIBUTING.md").read_text()
    for name in ("toyml_adapter.py", "toyml_live.py", "[project.entry-points", "xlstm.adapters"):
        assert name in recipe
