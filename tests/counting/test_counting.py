"""Counts of arrays by name: cells, shared memory, modules that cannot be read, cells of TF 1."""

import numpy as np
import pytest
import torch
from torch import nn

import xlstm
from xlstm.counting.ledger import render_counts
from xlstm.errors import UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.recognise import spec_of
from xlstm.slots import shape


def numbers(module):
    return sum(p.numel() for p in module.parameters())


def state_dict(module):
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def check_differences(ledger):
    """The lines of every layer add up to the difference between its counts."""
    for layer in ledger.layers:
        have = [name for name in ledger.frameworks if layer.params[name] is not None]
        for place, a in enumerate(have):
            for b in have[place + 1 :]:
                lines = [d.delta for d in layer.differences if (d.source, d.target) == (a, b)]
                assert sum(lines) == layer.params[b] - layer.params[a], (layer.path, a, b)


CELLS = {
    "LSTMCell": lambda: nn.LSTMCell(3, 4),
    "GRUCell": lambda: nn.GRUCell(3, 4),
    "RNNCell": lambda: nn.RNNCell(3, 4),
    "no-bias": lambda: nn.LSTMCell(3, 4, bias=False),
}


@pytest.mark.parametrize("name", CELLS)
def test_the_weights_of_a_cell_are_parameters_that_train(name, tmp_path):
    from safetensors.numpy import save_file

    cell = CELLS[name]()
    arrays = {f"net.{key}": array for key, array in state_dict(cell).items()}
    save_file(arrays, tmp_path / "cell.safetensors")
    for source in (arrays, tmp_path / "cell.safetensors"):
        ledger = xlstm.count(source)
        (layer,) = ledger.layers
        assert {(t.trainable, t.collection) for t in layer.tensors["torch"]} == {
            (True, "parameters")
        }
        assert ledger.total("torch") == ledger.trainable("torch") == numbers(cell)
        assert ledger.other("torch") == 0
        check_differences(ledger)


OURS = ("BiasedGRUCell", "ResetFirstGRUCell", "ProjectedLSTMCell")
"""Cells that only ports have, which are read with their code."""

TABLES = [
    (framework, name)
    for framework in registry.frameworks()
    for name, table in registry.adapter(framework).tables.items()
    if name not in OURS and spec_of(table.kind.name, {"i": 3, "h": 4, "j": 4}, True)
]


@pytest.mark.parametrize(("framework", "name"), TABLES)
def test_every_table_of_a_recurrent_layer_is_counted_as_it_lies_there(framework, name):
    """Among them the twelve arrays of Keras 1, and cells that no port uses."""
    adapter = registry.adapter(framework)
    table = adapter.tables[name]
    sizes = {"i": 3, "h": 4, "j": 4}
    shapes = {slot.name: shape(slot, table.kind, sizes) for slot in table.slots}
    before = f"{adapter.root}net.{table.prefix}"
    ledger = xlstm.count({before + key: np.ones(size) for key, size in shapes.items()})
    assert "?" not in {layer.kind for layer in ledger.layers}
    assert ledger.total(framework) == sum(np.prod(size) for size in shapes.values())
    assert ledger.trainable(framework) == ledger.total(framework)
    check_differences(ledger)


class Tied(nn.Module):
    """An embedding whose rows are the weights of the last layer, and a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(11, 4)
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.out = nn.Linear(4, 11)
        self.out.weight = self.emb.weight

    def forward(self, x):
        return self.out(self.lstm(self.emb(x))[0])


def test_a_tensor_of_two_names_counts_once_and_is_named(tmp_path):
    from safetensors.torch import save_model

    module = Tied()
    save_model(module, tmp_path / "tied.safetensors")
    sources = (module, module.state_dict(), state_dict(module), tmp_path / "tied.safetensors")
    for source in sources:
        ledger = xlstm.count(source)
        assert ledger.total("torch") == ledger.trainable("torch") == numbers(module)
        out = next(layer for layer in ledger.layers if layer.path == "out")
        assert set(out.params.values()) == {4 * 11 + 11}
        assert ledger.total("keras") is None  # an embedding is not proven, nor that it is tied
        said = "emb.weight is out.weight: one tensor of 44 numbers, counted once"
        assert said in ledger.notes
        check_differences(ledger)
    assert said in render_counts(ledger)


def test_loading_finds_the_tensors_that_save_model_left_out(tmp_path):
    from safetensors.torch import save_model

    from xlstm.ir.layers import Dense

    module = nn.ModuleDict({"a": nn.Linear(3, 3), "b": nn.Linear(3, 3)})
    module["b"].weight = module["a"].weight
    save_model(module, tmp_path / "two.safetensors")
    model = xlstm.load(tmp_path / "two.safetensors", layers={"a": Dense(3, 3), "b": Dense(3, 3)})
    x = torch.ones(2, 3)
    got = xlstm.port(model, "numpy")(x.numpy())
    want = module["b"](module["a"](x)).detach().numpy()
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_layers_that_share_some_tensors_or_all():
    one, two = nn.LSTM(3, 4), nn.LSTM(3, 4)
    two.weight_hh_l0 = one.weight_hh_l0
    module = nn.ModuleDict({"one": one, "again": one, "two": two})
    ledger = xlstm.count(module)
    assert ledger.total("torch") == numbers(module)
    layers = {layer.path: layer.params for layer in ledger.layers}
    assert set(layers["again"].values()) == {0}
    assert layers["two"] == {"keras": None, "torch": 144 - 64, "nnx": None, "linen": None}
    check_differences(ledger)


def test_views_that_overlap_are_no_one_tensor_and_transposed_ones_are():
    big = torch.ones(4, 3)
    arrays = {"a.weight": big, "a.bias": torch.ones(4), "b.weight": big.T, "c.weight": big[:2]}
    ledger = xlstm.count(arrays)
    assert ledger.total("torch") == 12 + 4 + 6
    assert any(note.startswith("b.weight is a.weight") for note in ledger.notes)


def test_variables_of_keras_and_flax_that_are_shared():
    import jax.numpy as jnp
    import keras
    from flax import nnx

    layer = keras.layers.Dense(4)
    layer.build((None, 3))
    arrays = {f"{name}/{v.name}": v for name in ("one", "two") for v in layer.weights}
    assert xlstm.count(arrays).total("keras") == layer.count_params()

    class Net(nnx.Module):
        def __init__(self):
            self.one = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
            self.two = nnx.Linear(3, 4, rngs=nnx.Rngs(1))
            self.two.kernel = self.one.kernel

    module = Net()
    size = 3 * 4 + 4 + 4
    for source in (module, nnx.state(module)):
        assert xlstm.count(source).total("nnx") == size
    # arrays of JAX never change: parameters that start from one array train apart
    zeros = {"kernel": jnp.zeros((3, 4)), "bias": jnp.zeros(4)}
    assert xlstm.count({"params": {"one": zeros, "two": zeros}}).total("linen") == 32


def linen_module():
    import jax
    from flax import linen

    class Scanned(linen.Module):
        @linen.compact
        def __call__(self, x):
            scan = linen.scan(
                linen.OptimizedLSTMCell,
                variable_broadcast="params",
                split_rngs={"params": False},
                in_axes=1,
                out_axes=1,
            )
            cell = scan(4, name="cell")
            carry = cell.initialize_carry(jax.random.key(0), x[:, 0].shape)
            y = cell(carry, x)[1][:, -1]
            return linen.Dense(2, name="head")(linen.BatchNorm(True, name="norm")(y))

    module = Scanned()
    variables = module.init(jax.random.key(0), np.ones((1, 5, 3), "float32"))
    size = {kind: sum(x.size for x in jax.tree.leaves(t)) for kind, t in variables.items()}
    return "linen", (module, variables), size["params"], size["batch_stats"]


def nnx_module():
    import jax
    from flax import nnx

    class Net(nnx.Module):
        def __init__(self, rngs):
            self.rnn = nnx.RNN(nnx.OptimizedLSTMCell(3, 4, rngs=rngs), rngs=rngs)
            self.norm = nnx.BatchNorm(4, rngs=rngs)
            self.drop = nnx.Dropout(0.5, rngs=rngs)
            self.head = nnx.Linear(4, 2, rngs=rngs)

    module = Net(nnx.Rngs(0))
    sizes = (
        sum(x.size for x in jax.tree.leaves(nnx.state(module, kind)))
        for kind in (nnx.Param, nnx.BatchStat)
    )
    return "nnx", module, *sizes


def keras_module():
    import keras

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm, self.head = keras.layers.LSTM(4), keras.layers.Dense(2)
            self.norm = keras.layers.BatchNormalization()

        def call(self, x):
            found = self.norm(self.lstm(x))
            return self.head(found) if keras.ops.sum(found) > 0 else self.head(-found)

    module = Own()
    module(np.ones((1, 5, 3), "float32"))
    return "keras", module, module.count_params(), 0


class Loop(nn.Module):
    """A loop over time, which no trace follows, a packed sequence and a buffer."""

    def __init__(self):
        super().__init__()
        self.cell, self.fc = nn.LSTMCell(3, 4), nn.Linear(4, 1)
        self.lstm, self.norm = nn.LSTM(3, 4, 2, bidirectional=True), nn.BatchNorm1d(4)
        self.fc.bias.requires_grad_(False)
        self.register_buffer("seen", torch.zeros(5), persistent=False)

    def forward(self, x):
        h = c = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            h, c = self.cell(x[:, t], (h, c))
        return self.fc(h)


def torch_module():
    module = Loop()
    return "torch", module, numbers(module), sum(b.numel() for b in module.buffers())


MODULES = {"linen": linen_module, "nnx": nnx_module, "keras": keras_module, "torch": torch_module}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_cannot_be_ported_is_counted(name):
    framework, module, total, other = MODULES[name]()
    with pytest.raises(UnsupportedError):
        xlstm.load(module)
    ledger = xlstm.count(module)
    assert (ledger.total(framework), ledger.other(framework)) == (total, other)
    assert {"LSTM", "Dense", "BatchNorm"} <= {layer.kind for layer in ledger.layers}
    assert any("it cannot be read" in note for note in ledger.notes)
    assert xlstm.count(module, ["torch"]).frameworks == ("torch",)
    check_differences(ledger)


def test_frozen_parameters_of_such_a_module():
    ledger = xlstm.count(Loop())
    assert ledger.total("torch") - ledger.trainable("torch") == 1


def test_a_state_of_nnx_with_the_keys_of_random_numbers():
    from flax import nnx

    _, module, total, other = nnx_module()
    ledger = xlstm.count(nnx.state(module))
    assert (ledger.total("nnx"), ledger.other("nnx")) == (total, other)


def test_modules_without_weights_to_be_seen_are_refused_as_before():
    import keras

    class Own(keras.Model):
        def call(self, x):
            return x

    for module in (nn.LazyLinear(3), Own()):
        with pytest.raises(UnsupportedError):
            xlstm.count(module)


def test_parameters_that_require_gradients_and_such_without_numbers():
    module = nn.LSTM(3, 4)
    assert xlstm.count(dict(module.named_parameters())).total("torch") == 144
    assert xlstm.count(module.to(torch.bfloat16).state_dict()).total("torch") == 144
    assert xlstm.count(nn.LSTM(3, 4, device="meta").state_dict()).total("torch") == 144


def test_columns_are_those_that_were_asked_for():
    ledger = xlstm.count(nn.LSTM(3, 4).state_dict(), ["keras", "torch"])
    assert set(ledger.layers[0].params) == set(ledger.frameworks) == {"keras", "torch"}
    assert xlstm.count(nn.LSTM(3, 4).state_dict(), ["keras"]).total("keras") == 128


def test_names_twice_and_mappings_that_hold_themselves():
    own = {}
    own["own"] = own
    for source in ({"a": {"b": np.ones(3)}, "a.b": np.ones(3)}, own):
        with pytest.raises(UsageError):
            xlstm.count(source)


def ones(*size):
    return np.ones(size, "float32")


def test_cells_of_tensorflow_1():
    """Kernels of the input on top of those of the state, as BasicLSTMCell and GRUCell keep them."""
    m, n = 3, 4
    lstm = {"kernel": ones(m + n, 4 * n), "bias": ones(4 * n)}
    gru = {
        "gates/kernel": ones(m + n, 2 * n),
        "gates/bias": ones(2 * n),
        "candidate/kernel": ones(m + n, n),
        "candidate/bias": ones(n),
    }
    arrays = {f"rnn/basic_lstm_cell/{key}": array for key, array in lstm.items()}
    arrays |= {f"rnn/multi_rnn_cell/cell_1/lstm_cell/{key}:0": a + 0 for key, a in lstm.items()}
    arrays |= {f"fw/gru_cell/{key}": array for key, array in gru.items()}
    arrays |= {"dense/kernel": ones(n, 2), "dense/bias": ones(2)}
    ledger = xlstm.count(arrays)
    assert [layer.kind for layer in ledger.layers] == [
        "Dense",
        "LSTM of TensorFlow 1",
        "LSTM of TensorFlow 1",
        "GRU of TensorFlow 1",
    ]
    assert ledger.total("keras") == sum(array.size for array in arrays.values())
    lstm_of_keras, lstm_of_torch = 4 * n * (m + n + 1), 4 * n * (m + n + 2)
    assert (ledger.layers[1].params["keras"], ledger.layers[1].params["torch"]) == (
        lstm_of_keras,
        lstm_of_torch,
    )
    check_differences(ledger)


@pytest.mark.parametrize(
    "more", [{"w_f_diag": ones(4)}, {"projection/kernel": ones(4, 2)}, {"kernel": ones(4, 16)}]
)
@pytest.mark.parametrize("cell", ["basic_lstm_cell", "lstm_cell_2", "layer_norm_basic_lstm_cell"])
def test_what_is_no_plain_cell_of_tensorflow_1_is_not_proven(cell, more):
    arrays = {"kernel": ones(7, 16), "bias": ones(16), **more}
    arrays = {f"rnn/{cell}/{key}": array for key, array in arrays.items()}
    ledger = xlstm.count({**arrays, "dense/kernel": ones(3, 2), "dense/bias": ones(2)})
    kinds = {layer.path: layer.kind for layer in ledger.layers}
    assert kinds.pop("dense") == "Dense"
    assert set(kinds.values()) == {"?"}
    assert ledger.total("keras") == sum(array.size for array in arrays.values()) + 8
    assert ledger.total("torch") is None
