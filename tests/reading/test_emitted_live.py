"""What a ported folder's own `load()` gives is read back as what it was written from."""

import numpy as np
import pytest
from cases import CASES, built
from emitted_sources import module_of

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import GRU, BatchNorm, Dense, Input, Masking

FLAX = ("nnx", "linen")


def small():
    """An own cell, statistics, and a native layer."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    x = graph.add("masking", Masking(), [x])
    spec = GRU(3, 4, reset_after=False, return_sequences=True)
    x = graph.add("gru", spec, [x], mask=Edge("masking", 1))
    x = graph.add("norm", BatchNorm(4), [x])
    return built(graph, [graph.add("dense", Dense(4, 2, "softmax"), [x])])


def loaded(folder):
    """The object that the folder's `load()` gives, in a module that nobody knows by name."""
    return module_of(folder).load()


def alike(found, wanted):
    assert found.nodes == wanted.nodes
    assert found.weights.keys() == wanted.weights.keys()
    for name, layer in wanted.weights.items():
        for tensor, array in layer.items():
            np.testing.assert_array_equal(found.weights[name][tensor], array)


@pytest.mark.parametrize("framework", ["torch", *FLAX])
def test_what_load_gives_is_read(framework, tmp_path):
    folder = xlstm.save(small(), tmp_path / "port", framework)
    live = loaded(folder)
    alike(xlstm.load(live), xlstm.load(folder))
    assert xlstm.load(live).source.container.startswith("live port to ")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(np.float32)
    wanted = xlstm.port(small(), "numpy")(x)
    np.testing.assert_array_equal(xlstm.port(live, "numpy")(x), wanted)


@pytest.mark.parametrize("name", sorted(CASES)[::9])
@pytest.mark.parametrize("framework", ["torch", "linen"])
def test_every_kind_of_module(framework, name, tmp_path):
    if CASES[name].lone:
        pytest.skip("a native layer, without a class of ours")
    folder = xlstm.save(CASES[name], tmp_path / "port", framework)
    alike(xlstm.load(loaded(folder)), xlstm.load(folder))


def test_the_weights_are_those_of_the_object(tmp_path):
    import torch

    folder = xlstm.save(small(), tmp_path / "port", "torch")
    live = loaded(folder)
    with torch.no_grad():
        live.dense.bias += 1
    found, before = xlstm.load(live), xlstm.load(folder)
    np.testing.assert_array_equal(
        found.weights["dense"]["bias"], before.weights["dense"]["bias"] + 1
    )


def test_layers_that_were_replaced_are_refused(tmp_path):
    import torch

    folder = xlstm.save(small(), tmp_path / "port", "torch")
    live = loaded(folder)
    live.norm = torch.nn.BatchNorm1d(4, eps=0.5)
    with pytest.raises(UnsupportedError, match=r"load the folder .*port"):
        xlstm.load(live)
    live = loaded(folder)
    live.dense.register_forward_hook(lambda _module, _inputs, y: 2 * y)
    with pytest.raises(UnsupportedError, match=r"load the folder .*port"):
        xlstm.load(live)


@pytest.mark.parametrize("framework", FLAX)
def test_a_changed_file_is_refused_with_the_folder(framework, tmp_path):
    folder = xlstm.save(small(), tmp_path / "port", framework)
    text = (folder / "model.py").read_text()
    (folder / "model.py").write_text(text.replace("softmax(", "log_softmax("))
    with pytest.raises(UnsupportedError, match=r"load the folder .*port"):
        xlstm.load(loaded(folder))


@pytest.mark.parametrize("framework", FLAX)
def test_code_that_the_file_had_before_is_refused(framework, tmp_path):
    folder = xlstm.save(small(), tmp_path / "port", framework)
    text = (folder / "model.py").read_text()
    (folder / "model.py").write_text(text.replace("softmax(", "log_softmax("))
    live = loaded(folder)
    (folder / "model.py").write_text(text)
    with pytest.raises(UnsupportedError, match=r"load the folder .*port"):
        xlstm.load(live)


def test_a_changed_file_of_torch_is_traced(tmp_path):
    graph = Builder()
    x = graph.add("dense", Dense(3, 2, "tanh"), [graph.add("x", Input((3,)))])
    folder = xlstm.save(built(graph, [x]), tmp_path / "port", "torch")
    text = (folder / "model.py").read_text()
    (folder / "model.py").write_text(text.replace("torch.tanh(", "torch.relu("))
    activations = [getattr(n.spec, "activation", "") for n in xlstm.load(loaded(folder)).layers]
    assert "relu" in activations
    assert "tanh" not in activations
