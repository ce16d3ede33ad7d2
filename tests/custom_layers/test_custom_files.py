"""Registered layers where files keep them: at every step, in models inside, with layers inside."""

import numpy as np
import pytest
from custom_texts import WEIGH, registered
from paths import CORPUS, needs_corpus
from refusing import refused

import xlstm
from xlstm.errors import UnsupportedError


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


def block_class(keras):
    """A layer with a weight of its own, two layers inside it and something random."""

    class Block(keras.layers.Layer):
        def __init__(self, n, **options):
            super().__init__(**options)
            self.n = n
            self.last = keras.layers.Dense(n, name="last")
            self.first = keras.layers.Dense(n, name="first")
            self.drop = keras.layers.Dropout(0.3)

        def build(self, input_shape):
            self.share = self.add_weight(name="share", shape=(self.n,))
            self.first.build(input_shape)
            self.last.build(input_shape)

        def call(self, x):
            return self.share * self.last(self.drop(self.first(x)))

        def get_config(self):
            return {**super().get_config(), "n": self.n}

    return Block


def block(_config, w, x):
    return w["share"] * ((x @ w["first"] + w["a"]) @ w["last"] + w["b"])


BLOCK = {
    "reference": block,
    "output_shape": lambda _config, shape: shape,
    "mask": "stops",
}
BY_NAME = ("share", "first", "a", "last", "b")
"""New files keep layers inside others by their names; h5 files as the class makes them."""

AS_MADE = ("share", "last", "b", "first", "a")


@pytest.fixture(scope="module")
def model(keras):
    """A layer at every step, one in a model inside, one with layers inside; a Lambda."""
    found = {}
    exec(WEIGH["keras"], found)
    keras.utils.set_random_seed(5)
    own, each = found["Weigh"](2, name="own"), found["Weigh"](3, name="each_one")
    inner = keras.Sequential([own, keras.layers.Dense(3, name="dense")], name="inner")
    triple = keras.layers.Lambda(lambda x: 3 * x, name="triple")
    x = keras.Input((5, 7, 4))
    y = keras.layers.TimeDistributed(each, name="each")(x)
    y = block_class(keras)(4, name="block")(y)
    y = keras.layers.TimeDistributed(triple, name="triples")(y)
    return keras.Model(x, [keras.layers.LSTM(3, name="lstm")(y), inner(y)])


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize("end", ["keras", "h5", "weights.h5"])
def test_every_container_gives_the_same_weights(end, model, tmp_path):
    file, options = tmp_path / f"m.{end}", {}
    if end == "weights.h5":
        model.save_weights(file)
        (tmp_path / "m.json").write_text(model.to_json())
        options = {"architecture": tmp_path / "m.json", "keras_version": "3.15"}
    else:
        model.save(file)
    with registered():
        xlstm.register_layer("Block", weights=AS_MADE, **BLOCK)
        try:
            live = xlstm.load(model)
            names = AS_MADE if end == "h5" else BY_NAME
            xlstm.register_layer("Block", weights=names, **BLOCK, overwrite=True)
            read = xlstm.load(file, **options)
        finally:
            xlstm.unregister_layer("Block")
    assert set(read.weights) == set(live.weights) == {"each", "block", "lstm", "inner/own", *DENSE}
    for layer, tensors in live.weights.items():
        for tensor, array in tensors.items():
            np.testing.assert_array_equal(read.weights[layer][tensor], array)
    notes = [note for note in read.source.notes if "layer block" in note]
    assert len(notes) == 1
    assert "share is " in notes[0]


DENSE = ["inner/dense"]


def test_the_original_runs_in_float64_with_all_that_is_inside(model):
    with registered():
        xlstm.register_layer("Block", weights=AS_MADE, **BLOCK)
        try:
            report = xlstm.reconcile(model, ["keras"])
            read = xlstm.load(model)
            error = refused(UnsupportedError, lambda: xlstm.port(read, "linen"), "without linen=")
            assert "block" in error.where
        finally:
            xlstm.unregister_layer("Block")
    report.check()
    verdicts = report.frameworks["keras"].verdicts
    assert {found.verdict for found in verdicts.values()} == {"rounding"}
    assert verdicts["float64"].max_abs < 1e-13


def test_a_port_leaves_the_classes_that_keras_knows_alone(keras, model):
    before = dict(keras.saving.get_custom_objects())
    assert "mine>Weigh" in before
    inside = keras.Sequential([keras.Input((5, 4)), *model.get_layer("inner").layers])
    with registered():
        ported = xlstm.port(inside, "keras")
        assert type(ported.layers[0]).__module__.startswith("xlstm_port_")
        xlstm.reconcile(ported, ["keras"]).check()
    assert dict(keras.saving.get_custom_objects()) == before


def test_a_lambda_inside_another_layer_is_refused_by_its_own_name(model):
    error = refused(UnsupportedError, lambda: xlstm.load(model), "xlstm.register_layer")
    assert "TimeDistributed(Lambda:triple) (triples)" in error.got
    for word in ("TimeDistributed(mine>Weigh) (each)", "Block (block)", "mine>Weigh (own)"):
        assert word in error.got


MDN = """
import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MDN(nn.Module):
    \"\"\"The parameters of a mixture of normal distributions.\"\"\"

    def __init__(self, features: int, size: int, mixtures: int) -> None:
        super().__init__()
        for name, width in (("mus", size), ("sigmas", size), ("pis", 1)):
            wide = width * mixtures
            self.register_parameter(name, nn.Parameter(torch.empty(features, wide)))
            self.register_parameter(f"{name}_b", nn.Parameter(torch.empty(wide)))

    def forward(self, x: Tensor) -> Tensor:
        mus = x @ self.mus + self.mus_b
        sigmas = F.elu(x @ self.sigmas + self.sigmas_b) + 1 + 1e-7
        return torch.cat([mus, sigmas, x @ self.pis + self.pis_b], dim=-1)
"""


def mdn(_config, w, x):
    s = x @ w["sigmas"] + w["sigmas_b"]
    s = np.where(s > 0, s, np.expm1(np.minimum(s, 0))) + 1 + 1e-7
    return np.concatenate([x @ w["mus"] + w["mus_b"], s, x @ w["pis"] + w["pis_b"]], axis=-1)


def mdn_sizes(config, shapes):
    sizes = {"size": config["output_dimension"], "mixtures": config["num_mixtures"]}
    return {"features": shapes["mus"][0], **sizes}


REAL = {
    "mdrnn_keras2.2.5.h5": ("mus", "mus_b", "sigmas", "sigmas_b", "pis", "pis_b"),
    "mdrnn_keras2.15.keras": ("mus", "mus_b", "pis", "pis_b", "sigmas", "sigmas_b"),
}
"""Files of one project that differ in the order of a layer's tensors."""


@needs_corpus
@pytest.mark.parametrize("name", REAL)
def test_the_layer_of_a_real_model(name):
    file = CORPUS / "impsy-mdrnn" / name
    refused(UnsupportedError, lambda: xlstm.load(file), "MDN", "xlstm.register_layer")
    told = {
        "reference": mdn,
        "output_shape": lambda c, s: (*s[:-1], c["num_mixtures"] * (2 * c["output_dimension"] + 1)),
        "mask": "stops",
        "torch": xlstm.LayerCode(MDN, mdn_sizes),
    }
    for order in REAL.values():
        xlstm.register_layer("MDN", weights=order, **told)
        try:
            report = xlstm.reconcile(file, ["torch"])
        finally:
            xlstm.unregister_layer("MDN")
        assert report.ledger.total("torch") == 13881
        assert report.ok == (order == REAL[name]), "the wrong order does not pass"
