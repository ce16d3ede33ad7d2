"""Counting arrays of others: what names and shapes prove, and what they leave open."""

import dataclasses

import numpy as np
import pytest

import xlstm
from xlstm.errors import UsageError, WeightsError
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, SimpleRNN


def state_dict(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def kinds(ledger):
    return {layer.path: layer.kind for layer in ledger.layers}


def network():
    from torch import nn

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Embedding(50, 8)
            self.lstm = nn.LSTM(8, 16, num_layers=2, bidirectional=True)
            self.gru = nn.GRU(32, 5, bias=False)
            self.rnn = nn.RNN(5, 4)
            self.norm = nn.LayerNorm(4)
            self.head = nn.Linear(4, 3)

    return Network()


def test_a_state_dict_of_a_module_that_nobody_told_about():
    module = network()
    ledger = xlstm.count(state_dict(module))
    assert ledger.total("torch") == sum(p.numel() for p in module.parameters())
    assert kinds(ledger) == {
        "lstm": "LSTM",
        "lstm.l0_reverse": "LSTM",
        "lstm.l1": "LSTM",
        "lstm.l1_reverse": "LSTM",
        "gru": "GRU",
        "rnn": "SimpleRNN",
        "head": "Dense",
        "table.weight": "?",  # a matrix alone may be an embedding or a dense layer
        "norm.weight": "?",
        "norm.bias": "?",
    }
    layers = {layer.path: layer for layer in ledger.layers}
    assert layers["lstm.l1"].params == {"keras": 3136, "torch": 3200, "nnx": 3136, "linen": 3136}
    assert layers["table.weight"].params["keras"] is None
    assert layers["lstm.l1"].tensors["torch"][0].name == "lstm.weight_ih_l1"
    for layer in ledger.layers:
        for d in layer.differences:
            lines = [
                e.delta for e in layer.differences if (e.source, e.target) == (d.source, d.target)
            ]
            assert sum(lines) == layer.params[d.target] - layer.params[d.source]


SPECS = {
    "lstm": LSTM(3, 4),
    "gru": GRU(3, 4, hidden_bias=False),
    "rnn": SimpleRNN(3, 4),
    "head": Dense(3, 4),
}


@pytest.mark.parametrize("framework", ["keras", "torch", "nnx", "linen"])
@pytest.mark.parametrize("name", SPECS)
def test_arrays_of_every_framework(name, framework, tmp_path):
    """The arrays of a port, without the graph that our own files carry."""
    from safetensors.numpy import save_file

    from xlstm.frameworks import registry
    from xlstm.frameworks.model_tensors import tensors
    from xlstm.ir.graph import chain
    from xlstm.ir.source import Source

    shape = (3,) if name == "head" else (None, 3)
    model = chain("m", [(name, SPECS[name], True)], shape, {}, Source("test"))
    adapter = registry.adapter(framework)
    arrays = {t.name: np.ones(t.shape, np.float32) for t in tensors(model, adapter)}
    save_file(arrays, tmp_path / "weights.safetensors")
    np.savez(tmp_path / "weights.npz", **arrays)
    for source in (arrays, tmp_path / "weights.safetensors", tmp_path / "weights.npz"):
        ledger = xlstm.count(source)
        assert kinds(ledger) == {name: SPECS[name].kind}
        assert ledger.total(framework) == sum(a.size for a in arrays.values())


def test_arrays_of_no_framework():
    with pytest.raises(WeightsError, match="load them with layers="):
        xlstm.count({"a": np.ones((2, 3)), "b": np.ones(3)})


def test_shapes_that_fit_no_layer_stay_open():
    arrays = state_dict(network())
    arrays["rnn.weight_hh_l0"] = np.ones((4, 7), np.float32)
    ledger = xlstm.count(arrays)
    assert kinds(ledger)["rnn.weight_hh_l0"] == "?"
    assert ledger.total("torch") == sum(a.size for a in arrays.values())
    assert ledger.total("keras") is None


def norms():
    from torch import nn

    return nn.ModuleDict(
        {
            "lstm": nn.LSTM(3, 4),
            "norm": nn.BatchNorm1d(4),
            "plain": nn.BatchNorm1d(4, affine=False),
        }
    )


def test_statistics_are_no_parameters_of_torch():
    module = norms()
    ledger = xlstm.count(state_dict(module))
    assert ledger.total("torch") == sum(p.numel() for p in module.parameters())
    assert ledger.other("torch") == sum(b.numel() for b in module.buffers())
    assert ledger.collections("torch") == {
        "parameters": ledger.total("torch"),
        "buffers": ledger.other("torch"),
    }
    norm = next(layer for layer in ledger.layers if layer.path == "norm")
    assert norm.kind == "BatchNorm"
    assert norm.params == {"keras": 16, "torch": 8, "nnx": 8, "linen": 8}
    roles = {t.name: t.role for t in norm.tensors["torch"]}
    assert roles["norm.running_var"] == "statistic"
    assert roles["norm.num_batches_tracked"] == "state"


def test_a_flax_checkpoint_with_two_collections(tmp_path):
    """As a training loop writes it: params and batch_stats in one msgpack."""
    import flax.linen as nn
    import jax
    from flax import serialization

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x):
            x = nn.RNN(nn.OptimizedLSTMCell(4), name="lstm")(x)
            return nn.Dense(2, name="head")(nn.BatchNorm(True, name="norm")(x))

    variables = Net().init(jax.random.key(0), np.ones((2, 5, 3), np.float32))
    (tmp_path / "state.msgpack").write_bytes(serialization.to_bytes(variables))
    ledger = xlstm.count(tmp_path / "state.msgpack")
    leaves = {kind: sum(x.size for x in jax.tree.leaves(t)) for kind, t in variables.items()}
    assert ledger.collections("linen") == leaves
    assert (ledger.total("linen"), ledger.other("linen")) == tuple(leaves.values())
    assert "?" not in kinds(ledger).values()


def test_a_training_state_of_flax(tmp_path):
    import flax.linen as nn
    import jax
    import optax
    from flax import serialization
    from flax.training.train_state import TrainState

    module = nn.RNN(nn.OptimizedLSTMCell(4))
    variables = module.init(jax.random.key(0), np.ones((2, 5, 3), np.float32))
    state = TrainState.create(
        apply_fn=module.apply, params={"lstm": variables["params"]}, tx=optax.adam(1e-3)
    )
    (tmp_path / "state.msgpack").write_bytes(serialization.to_bytes(state))
    ledger = xlstm.count(tmp_path / "state.msgpack")
    size = 4 * 4 * (3 + 4 + 1)
    assert kinds(ledger) == {"lstm": "LSTM"}
    assert ledger.total("linen") == size
    assert ledger.optimizer.count == 2 * size + 2
    assert ledger.optimizer_formula() == f"2 x {size} trainable + 2"


STATES = {
    "one": (lambda nn: nn.LSTM(3, 4), ""),
    "both-ways": (lambda nn: nn.LSTM(3, 4, bidirectional=True), "encoder.lstm."),
    "stacked": (lambda nn: nn.GRU(3, 4, 2, bias=False), "gru."),
    "projected": (lambda nn: nn.LSTM(3, 6, 2, bidirectional=True, proj_size=2), ""),
}


def sequences(spec):
    if isinstance(spec, Bidirectional):
        return Bidirectional(sequences(spec.forward), sequences(spec.backward))
    return dataclasses.replace(spec, return_sequences=True)


@pytest.mark.filterwarnings("ignore:LSTM with projections:UserWarning")
@pytest.mark.parametrize("case", STATES)
def test_a_bare_state_dict_is_asked_about_with_what_its_shapes_prove(case):
    import torch

    make, prefix = STATES[case]
    module = make(torch.nn)
    state = {prefix + name: array for name, array in state_dict(module).items()}
    with pytest.raises(UsageError, match="shapes do not say activations") as caught:
        xlstm.load(state)
    text = caught.value.do.split("layers=")[1].removesuffix(", of xlstm.model")
    names = {"LSTM": LSTM, "GRU": GRU, "Bidirectional": Bidirectional}
    layers = {name: sequences(spec) for name, spec in eval(text, names).items()}
    x = torch.linspace(-2, 2, 30).reshape(5, 2, 3)
    want = module(x)[0].transpose(0, 1).detach().numpy()
    got = xlstm.port(xlstm.load(state, layers=layers), "numpy")(x.transpose(0, 1).numpy())
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


def test_arrays_that_prove_nothing_are_asked_about_by_an_example():
    with pytest.raises(UsageError, match=r"pass layers=\{.lstm.: xlstm.model.LSTM\(3, 4\)\}"):
        xlstm.load({"a": np.ones(3)})


@pytest.mark.parametrize("end", ["safetensors", "npz"])
def test_a_file_of_a_bare_state_dict_is_asked_about(end, tmp_path):
    import torch
    from safetensors.numpy import save_file

    state, path = state_dict(torch.nn.LSTM(3, 4)), tmp_path / f"m.{end}"
    save_file(state, path) if end == "safetensors" else np.savez(path, **state)
    with pytest.raises(UsageError, match=rf"m\.{end}: .*LSTM\(3, 4\)"):
        xlstm.load(path)


def test_variables_of_linen_as_they_are():
    import jax
    from flax import linen

    module = linen.Sequential([linen.RNN(linen.OptimizedLSTMCell(4)), linen.Dense(2)])
    variables = module.init(jax.random.key(0), np.ones((1, 5, 3), "float32"))
    ledger = xlstm.count(variables)
    assert ledger.total("linen") == sum(leaf.size for leaf in jax.tree.leaves(variables))
    assert sorted(kinds(ledger).values()) == ["Dense", "LSTM"]
