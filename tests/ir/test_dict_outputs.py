"""Models whose outputs are a dict: every port gives a dict of the same keys, sorted."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
import torch
from paths import DATA
from refusing import refused

import xlstm
from xlstm.errors import FileError, UnsupportedError
from xlstm.ir.serialize import from_json, to_json

X = [np.ones((2, 7, 3), "float32"), np.ones((2, 7, 2), "float32")]

HOSTILE = 'q"\nimport os'


def two_heads():
    """A live model; neither inputs nor outputs are in the order of their keys."""
    keras.utils.set_random_seed(3)
    a, b = keras.Input((7, 3), name="a"), keras.Input((7, 2), name="b")
    q, y = keras.layers.LSTM(4, name="l")(a), keras.layers.Dense(2, name="d")(b)
    return keras.Model({"b": b, "a": a}, {HOSTILE: q, "b": y})


@pytest.fixture(scope="module", params=["live", "keras", "h5"])
def source(request, tmp_path_factory):
    model = two_heads()
    if request.param == "live":
        return model
    path = tmp_path_factory.mktemp("dict") / f"model.{request.param}"
    model.save(path)
    return path


def outputs(source, framework):
    ported = xlstm.port(source, framework)
    if framework == "torch":
        return ported(*map(torch.from_numpy, X))
    if framework == "linen":
        return ported[0].apply(ported[1], *X)
    return ported(X) if framework == "keras" else ported(*X)


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_dict_stays_a_dict_in_every_port(source):
    assert xlstm.load(source).keys == ("b", HOSTILE)
    assert xlstm.load(source).inputs == ("a", "b")
    truth = two_heads()({"a": X[0], "b": X[1]})
    for framework in ("torch", "nnx", "linen", "keras", "numpy"):
        found = outputs(source, framework)
        assert list(found) == ["b", HOSTILE]
        for key in truth:
            value = found[key].detach() if framework == "torch" else found[key]
            assert np.allclose(value, truth[key], atol=1e-6)


def test_the_ports_are_equal_and_keep_the_keys_in_their_folders(tmp_path):
    model = two_heads()
    xlstm.reconcile(model).check()
    for framework in ("torch", "nnx", "linen", "keras"):
        xlstm.save(model, tmp_path / framework, framework)
        assert xlstm.load(tmp_path / framework).keys == ("b", HOSTILE)
        assert "\nimport os" not in (tmp_path / framework / "model.py").read_text()
    assert xlstm.load(xlstm.port(model, "torch")).keys == ("b", HOSTILE)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")
def test_torchscript_takes_a_dict():
    ported = xlstm.port(two_heads(), "torch")
    given = [torch.from_numpy(x) for x in X]
    found, want = torch.jit.script(ported)(*given), ported(*given)
    assert list(found) == list(want)
    assert all(torch.equal(found[key], want[key]) for key in want)


def test_one_output_in_a_dict_is_a_dict():
    x = keras.Input((5, 3))
    model = keras.Model(x, {"only": keras.layers.GRU(2)(x)})
    assert list(xlstm.port(model, "numpy")(np.ones((1, 5, 3)))) == ["only"]
    assert list(xlstm.port(model, "torch")(torch.ones(1, 5, 3))) == ["only"]


def test_a_nested_model_with_a_dict_is_read_by_its_keys():
    x = keras.Input((5, 3))
    inner = keras.Model(x, {"z": keras.layers.GRU(2)(x), "a": keras.layers.LSTM(4)(x)})
    a = keras.Input((5, 3))
    found = inner(a)
    model = xlstm.load(keras.Model(a, [found["z"], found["a"]]))
    assert model.keys == ()
    assert [model.shape(edge) for edge in model.outputs] == [(2,), (4,)]


@pytest.mark.parametrize("deep", [{"q": ["y", "z"], "b": "z"}, ["y", ["z", "y"]]])
def test_deeper_structures_are_refused_by_name(deep):
    x = keras.Input((5, 3))
    held = {"y": keras.layers.GRU(2)(x), "z": keras.layers.GRU(2)(x)}
    model = keras.Model(x, keras.tree.map_structure(held.get, deep))
    name = "'q'" if isinstance(deep, dict) else "number 1"
    refused(UnsupportedError, lambda: xlstm.load(model), "outputs", f"as {name}")


class TwoHeads(torch.nn.Module):
    """Gives its outputs by names that are not sorted."""

    def __init__(self):
        super().__init__()
        self.l = torch.nn.LSTM(3, 4, batch_first=True)
        self.d = torch.nn.Linear(4, 2)

    def forward(self, x):
        h = self.l(x)[0]
        return {"z": h, "a": self.d(h)}


def test_a_dict_of_a_torch_module():
    torch.manual_seed(0)
    source = TwoHeads().eval()
    x = torch.ones(2, 5, 3)
    want, found = source(x), xlstm.port(source, "numpy")(x.numpy())
    assert list(found) == ["a", "z"]
    assert all(np.allclose(found[key], want[key].detach(), atol=1e-6) for key in want)
    xlstm.reconcile(source, ["torch", "nnx"]).check()


def test_hidden_states_and_causes_of_a_model_with_a_dict_are_looked_at():
    torch.manual_seed(0)
    right, wrong = TwoHeads().eval(), TwoHeads().eval()
    assert xlstm.reconcile(right, "torch", states=True).ok
    assert xlstm.diagnose(right, right).ok
    wrong.load_state_dict(right.state_dict())
    wrong.d.bias.data += 1
    assert [found.layer for found in xlstm.diagnose(right, wrong).findings] == ["d"]


@pytest.mark.parametrize("keys", [["b"], ["b", "a"], ["a", "a"], [1, 2], "ab"])
def test_keys_of_a_graph_are_checked(keys):
    model = xlstm.load(DATA / "k3" / "seq2seq.keras")
    model = replace(model, outputs=model.outputs * 2)
    data = json.loads(json.dumps(to_json(model) | {"keys": keys}))
    refused(FileError, lambda: from_json(data, model.weights, "graph"), "keys")
