"""Counts apart from the totals: what trains, statistics, collections as each framework has them."""

import json

import pytest
from cases import CASES
from cases_layers import CASES_LAYERS

import xlstm
from xlstm.cli.main import main
from xlstm.counting.ledger import render_counts
from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, BatchNorm, Dense, Normalization, PRelu, TimeDistributed
from xlstm.ir.source import Source

EVERY = {**CASES, **CASES_LAYERS}


def keeps_statistics(model):
    """Whether some layer has numbers that training changes otherwise than by gradients."""
    specs = [
        node.spec.layer if isinstance(node.spec, TimeDistributed) else node.spec
        for node in model.nodes
    ]
    return any(isinstance(spec, (BatchNorm, Normalization)) for spec in specs)


STATISTICS = [name for name, model in EVERY.items() if keeps_statistics(model)]


def sizes(tensors):
    return sum(t.numel() if hasattr(t, "numel") else t.size for t in tensors)


@pytest.mark.parametrize("name", STATISTICS)
def test_torch_parameters_and_buffers(name):
    ledger, module = xlstm.count(EVERY[name]), xlstm.port(EVERY[name], "torch")
    buffers = dict(module.named_buffers())
    assert ledger.total("torch") == sizes(module.parameters())
    assert ledger.trainable("torch") == sizes(p for p in module.parameters() if p.requires_grad)
    assert ledger.other("torch") == sizes(buffers.values())
    assert ledger.collections("torch").get("buffers", 0) == ledger.other("torch")
    held = {t.name: t for layer in ledger.layers for t in layer.tensors["torch"] if t.other}
    assert {n: t.shape for n, t in held.items()} == {n: tuple(b.shape) for n, b in buffers.items()}
    assert all(not t.trainable and t.role in ("statistic", "state") for t in held.values())


@pytest.mark.parametrize("name", STATISTICS)
def test_flax_collections_and_variable_types(name):
    import jax
    from flax import nnx

    ledger = xlstm.count(EVERY[name])
    _, variables = xlstm.port(EVERY[name], "linen")
    want = {kind: sizes(jax.tree.leaves(tree)) for kind, tree in variables.items()}
    assert ledger.collections("linen") == {kind: size for kind, size in want.items() if size}
    state = nnx.to_flat_state(nnx.state(xlstm.port(EVERY[name], "nnx")))
    found = {}
    for _, variable in state:
        kind = type(variable).__name__
        found[kind] = found.get(kind, 0) + variable.get_value().size
    assert ledger.collections("nnx") == {
        k: v for k, v in found.items() if k in ("Param", "BatchStat")
    }


@pytest.mark.parametrize("name", STATISTICS)
def test_keras_trainable_and_not(name):
    ledger, model = xlstm.count(EVERY[name]), xlstm.port(EVERY[name], "keras")
    assert ledger.total("keras") == model.count_params()
    totals = ledger.totals()["keras"]
    assert totals["trainable"] == sum(w.shape.num_elements() for w in model.trainable_weights)
    assert totals["non_trainable"] == totals["total"] - totals["trainable"]
    assert ledger.collections("keras") == {
        kind: totals[part]
        for kind, part in (
            ("trainable_weights", "trainable"),
            ("non_trainable_weights", "non_trainable"),
        )
        if totals[part]
    }


@pytest.mark.parametrize("name", CASES_LAYERS)
def test_differences_add_up_for_the_layers_around(name):
    ledger = xlstm.count(CASES_LAYERS[name])
    for layer in ledger.layers:
        have = [n for n in ledger.frameworks if layer.params[n] is not None]
        for place, a in enumerate(have):
            for b in have[place + 1 :]:
                lines = [d.delta for d in layer.differences if (d.source, d.target) == (a, b)]
                assert sum(lines) == layer.params[b] - layer.params[a]


def test_what_a_statistic_is_and_where_the_other_framework_keeps_it():
    layer = xlstm.count(CASES_LAYERS["batch_norm"]).layers[0]
    reasons = [d.reason for d in layer.differences if (d.source, d.target) == ("keras", "torch")]
    said = "-3: Keras counts this statistic among the parameters (it does not train)"
    assert reasons == [f"{said}; PyTorch keeps it apart, in buffers"] * 2


def test_frozen_layers():
    layers = [("a", Dense(3, 4), False), ("b", Dense(4, 2), True)]
    ledger = xlstm.count(chain("m", layers, (3,), {}, Source("keras")))
    for framework in ledger.frameworks:
        found = ledger.totals()[framework]
        assert (found["trainable"], found["non_trainable"]) == (10, 16)


def test_what_count_prints(capsys, monkeypatch, tmp_path):
    from make_files import make

    file = make("keras", tmp_path)
    assert main(["count", str(file), "--tensors"]) == 0
    lines = capsys.readouterr().out.splitlines()
    rows = [" ".join(line.split()) for line in lines]
    assert "lstm.bias_hh_l0 (16,) bias parameters yes 16" in rows
    assert "params.lstm.cell.hf.bias (4,) bias params yes 4" in rows
    assert main(["count", str(file), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["collections"]["torch"] == {"parameters": 154}
    assert {t["collection"] for t in found["layers"][0]["tensors"]["nnx"]} == {"Param"}


def test_statistics_are_said_below_the_totals():
    from xlstm.counting.ledger import render_counts

    text = render_counts(xlstm.count(CASES_LAYERS["batch_norm"]))
    assert "not trainable: Keras 6" in text
    assert "beside these: PyTorch buffers 7, Flax NNX BatchStat 6, Flax Linen batch_stats 6" in text


def test_native_layers_of_another_number_stand_beside_own_cells():
    import jax
    import torch
    from flax import linen, nnx

    layers = [("gru", GRU(16, 60, return_sequences=True), True), ("slopes", PRelu((5, 60)), True)]
    ledger = xlstm.count(chain("m", layers, (5, 16), {}, Source("keras")))
    gru, slopes = ledger.layers
    cell = nnx.GRUCell(16, 60, rngs=nnx.Rngs(0))
    size = sizes(jax.tree.leaves(nnx.state(cell, nnx.Param)))
    assert {name: one.count for name, one in gru.native.items()} == {"nnx": size}
    real = {
        "torch": sizes(torch.nn.PReLU(60).parameters()),
        "nnx": sizes(jax.tree.leaves(nnx.state(nnx.PReLU(), nnx.Param))),
        "linen": sizes(
            jax.tree.leaves(linen.PReLU().init(jax.random.key(0), jax.numpy.ones((2, 5, 60))))
        ),
    }
    assert {name: one.count for name, one in slopes.native.items()} == real
    assert set(slopes.params.values()) == {300}
    text = " ".join(render_counts(ledger).split())
    assert "gru, Flax NNX: 13,920 of the port's own BiasedGRUCell; nnx.GRUCell itself has" in text
    assert "slopes, PyTorch: 300 of the port's own PReLU; nn.PReLU itself has 60: it has a" in text


def test_a_ledger_prints_the_table_of_the_command(capsys):
    path = xlstm.demo.path()
    ledger = xlstm.count(path)
    assert main(["count", str(path)]) == 0
    assert capsys.readouterr().out == f"{ledger}\n"
    assert repr(ledger) == "<Ledger of 2 layers: keras 2,180, torch 2,260, nnx 2,180, linen 2,180>"


def test_an_explanation_has_a_short_repr():
    found = xlstm.explain("LSTM", features=1, units=20)
    want = "<Explanation: LSTM of n = 20 units on m = 1 feature, 4 n (m + n + 1) = 1,760>"
    assert repr(found) == want


def test_second_biases_are_said_for_the_direction_of_the_port():
    import torch

    gru = xlstm.count(torch.nn.GRU(3, 4, batch_first=True))
    text = " ".join(str(gru).split())
    assert "a port to Flax NNX stores the sum" in text
    assert "from Flax" not in text
    lstm = torch.nn.LSTM(3, 4, batch_first=True)
    assert "a port to Keras stores the sum" in " ".join(str(xlstm.count(lstm)).split())
    demo = " ".join(str(xlstm.count(xlstm.demo.path())).split())
    assert "to the first; a port from one bias sets it to 0" in demo
    both = " ".join(str(xlstm.explain("GRU", features=3, units=4)).split())
    assert "ports from Keras to Flax NNX store the sum, ports from Flax NNX to Keras" in both
    arrays = " ".join(str(xlstm.count(torch.nn.GRU(3, 4).state_dict())).split())
    assert "a port to Flax NNX stores the sum" in arrays
