"""Models of thousands of layers: read, counted, written and run in seconds, whatever their form."""

import numpy as np
import pytest
from cases import built
from many_layers import chain_file
from refusing import deadline

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers import Concatenate, Dense, Dropout, Input, Merge

MANY = 2000
SECONDS = 60  # of a processor: 3 are enough; what grows with the square takes many minutes


@pytest.mark.parametrize("functional", [False, True], ids=["chain", "graph"])
@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_files_of_thousands_of_layers(kind, functional, tmp_path):
    path = chain_file(kind, tmp_path, MANY, functional=functional)
    with deadline(SECONDS):
        model = xlstm.load(path)
    assert len(model.layers) == MANY + 2
    with deadline(SECONDS):
        assert xlstm.count(model).total("keras") == 138 + MANY // 2 * 6


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return xlstm.load(chain_file("h5", tmp_path_factory.mktemp("many"), MANY))


@pytest.mark.parametrize("framework", registry.frameworks())
def test_source_of_thousands_of_layers(framework, model):
    with deadline(SECONDS):
        text = registry.adapter(framework).emit(model)
    compile(text, "model.py", "exec")


def test_a_port_of_thousands_of_layers_runs(model, tmp_path):
    import torch

    x = np.random.default_rng(2).standard_normal((2, 5, 3))
    with deadline(SECONDS):
        ported = xlstm.port(model, "torch", dtype="float64")
        again = xlstm.load(xlstm.save(model, tmp_path / "port", "torch"))
        with torch.no_grad():
            found = ported(torch.from_numpy(x)).numpy()
        wanted = xlstm.port(again, "numpy", dtype="float64")(x)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)


def test_nnx_traces_many_layers_once(tmp_path):
    """Its build is linear in the layers: the counters of draws do not look through the trace."""
    from safetensors.numpy import load_file
    from xlstm.converters.flax.live import nnx

    graph = Builder()
    x = graph.add("x", Input((3,)))
    for n in range(300):
        x = graph.add(f"dense_{n}", Dense(3, 3, "tanh"), [x])
        x = graph.add(f"dropout_{n}", Dropout(0.5), [x])
    model = built(graph, [x])
    with deadline(SECONDS):
        ported = xlstm.port(model, "nnx")
        folder = xlstm.save(model, tmp_path / "port", "nnx")
    held, kept = nnx.weights(ported), load_file(folder / "weights.safetensors")
    assert held.keys() == kept.keys()
    assert len(kept) == 600
    assert all(np.array_equal(held[name], kept[name]) for name in kept)
    x = np.random.default_rng(2).standard_normal((2, 3)).astype(np.float32)
    (found,) = nnx.run(ported, [x], "float32")
    np.testing.assert_allclose(found, xlstm.port(model, "numpy")(x), rtol=0, atol=1e-6)


def shared():
    """A layer called over and over."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    ys = [graph.add("dense", Dense(3, 3), [x])]
    ys += [graph.add(f"again_{n}", Dense(3, 3), [x], layer="dense") for n in range(MANY // 2)]
    return built(graph, [graph.add("joined", Concatenate(), ys)])


def residual():
    """Every second layer reads two before it."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    for n in range(MANY // 2):
        y = graph.add(f"dense_{n}", Dense(3, 3, "tanh"), [x])
        x = graph.add(f"add_{n}", Merge("add"), [x, y])
    return built(graph, [x])


def one_name():
    """Names that are all the same once cleaned."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    for n in range(MANY):
        x = graph.add("a" + " " * n + "b", Dense(3, 3), [x])
    return built(graph, [x])


@pytest.mark.parametrize("make", [shared, residual, one_name])
def test_graphs_of_thousands_of_layers(make):
    model = make()
    with deadline(SECONDS):
        assert len(set(identifiers(model).values())) == len(model.nodes)
        for framework in registry.frameworks():
            compile(registry.adapter(framework).emit(model), "model.py", "exec")
