"""Training checkpoints: what an optimizer keeps is no parameter, whichever optimizer it is."""

import inspect
import io

import numpy as np
import optax
import pytest
import torch
from torch import nn

import xlstm
from xlstm.counting.ledger import render_counts

TORCH = sorted(
    name
    for name, found in vars(torch.optim).items()
    if inspect.isclass(found) and found is not torch.optim.Optimizer
    if issubclass(found, torch.optim.Optimizer)
)


class Net(nn.Module):
    def __init__(self, bias=True):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, bias=bias)
        self.fc = nn.Linear(4, 2, bias=bias)


def elements(state):
    """Numbers in the tensors of a state, wherever they lie."""
    if isinstance(state, torch.Tensor):
        return state.numel()
    found = state.values() if isinstance(state, dict) else state
    return sum(map(elements, found)) if isinstance(state, (dict, list, tuple)) else 0


def trained(name):
    """A module and its optimizer after one step."""
    kind = getattr(torch.optim, name)
    module = Net(bias=name != "Muon")  # which takes matrices alone
    options = {"momentum": 0.9} if name == "SGD" else {}
    optimizer = kind(module.parameters(), lr=1e-3, **options)

    def loss():
        for p in module.parameters():
            p.grad = torch.ones_like(p)
            p.grad = p.grad.to_sparse() if name == "SparseAdam" else p.grad
        return torch.tensor(1.0)

    optimizer.step(loss)
    return module, optimizer


@pytest.mark.parametrize("name", TORCH)
def test_checkpoints_with_any_optimizer_of_pytorch(name):
    module, optimizer = trained(name)
    size, kept = sum(p.numel() for p in module.parameters()), elements(optimizer.state_dict())
    plain = {"epoch": 7, "loss": 0.25, "best": np.float64(0.5), "name": "net"}
    checkpoint = {
        **plain,
        "model_state_dict": module.state_dict(),
        "anything": optimizer.state_dict(),  # told by its form, whatever it is called
        "lr_schedulers": [{"milestones": [30, 60], "last_epoch": 7}],
    }
    file = io.BytesIO()
    torch.save(checkpoint | {"best": 0.5}, file)
    file.seek(0)
    for source in (checkpoint, torch.load(file, weights_only=True)):
        ledger = xlstm.count(source)
        assert ledger.total("torch") == ledger.trainable("torch") == size
        assert (ledger.optimizer.count if ledger.optimizer else 0) == kept > 0
        assert all(t in ledger.notes[-1] for t in plain)
        assert f"optimizer: {kept:,} values" in render_counts(ledger)


def test_moments_are_told_in_a_file_that_has_flat_names(tmp_path):
    from safetensors.torch import save_file

    module, optimizer = trained("AdamW")
    arrays = {f"model.{name}": tensor for name, tensor in module.state_dict().items()}
    for number, state in optimizer.state_dict()["state"].items():
        arrays |= {f"optimizer.state.{number}.{key}": t for key, t in state.items()}
    save_file(arrays, tmp_path / "checkpoint.safetensors")
    ledger = xlstm.count(tmp_path / "checkpoint.safetensors")
    assert ledger.total("torch") == 154
    assert ledger.optimizer.count == 2 * 154 + 6
    assert ledger.optimizer_formula() == "2 x 154 trainable + 6"


def test_a_model_that_is_called_an_optimizer_is_a_model():
    state = {f"optimizer.lstm.{key}": t for key, t in nn.LSTM(3, 4).state_dict().items()}
    assert xlstm.count(state).total("torch") == 144


def test_slots_of_tensorflow_1():
    cell = {"kernel": np.ones((7, 16), "float32"), "bias": np.ones(16, "float32")}
    arrays = {f"rnn/basic_lstm_cell/{key}": array for key, array in cell.items()}
    slots = {f"{name}/Adam{n}": a + 1 for name, a in arrays.items() for n in ("", "_1")}
    powers = {f"{name}_power": np.array(0.9, "float32") for name in ("beta1", "beta2")}
    ledger = xlstm.count({**arrays, **slots, **powers})
    assert [(layer.kind, layer.params["torch"]) for layer in ledger.layers] == [
        ("LSTM of TensorFlow 1", 144)
    ]
    assert ledger.optimizer_formula() == "2 x 128 trainable + 2"


OPTAX = (
    "adabelief adafactor adagrad adam adamax amsgrad lamb lion novograd rmsprop sm3 yogi".split()
)


@pytest.mark.parametrize("name", OPTAX)
def test_training_states_with_optimizers_of_optax(name, tmp_path):
    from flax import serialization

    size = {"kernel": np.ones((3, 4), "float32"), "bias": np.ones(4, "float32")}
    params = {"head": size, "tail": {key: array + 1 for key, array in size.items()}}
    state = {"params": params, "opt_state": getattr(optax, name)(1e-3).init(params), "step": 3}
    path = tmp_path / "state.msgpack"
    path.write_bytes(serialization.to_bytes(state | {"step": np.array(3)}))
    for source in (state, path):
        ledger = xlstm.count(source, ["linen"])
        assert ledger.total("linen") == ledger.trainable("linen") == 32
        assert ledger.optimizer.count >= 32 // 2


def keras_optimizers():
    import keras

    kinds = {
        name: kind
        for name, kind in vars(keras.optimizers).items()
        if inspect.isclass(kind) and issubclass(kind, keras.optimizers.Optimizer)
    }
    around = ("Optimizer", "LossScaleOptimizer", "MultiOptimizer")
    found = {name: kind() for name, kind in kinds.items() if name not in around}
    return found | {"LossScale": keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam())}


def test_variables_of_every_optimizer_of_keras_by_their_paths():
    import keras

    model = keras.Sequential([keras.Input((6, 3)), keras.layers.LSTM(4), keras.layers.Dense(2)])
    for name, optimizer in keras_optimizers().items():
        optimizer.build(model.trainable_variables)
        # Adafactor has numbers called "bias" alone, and of several variables of one path
        own = {v.path: v for v in optimizer.variables if "/" in v.path}
        found = {v.path: v for v in model.weights} | own
        kept = sum(v.shape.num_elements() for v in own.values())
        for source in (found, {path: np.array(v) for path, v in found.items()}):
            ledger = xlstm.count(source)
            assert ledger.total("keras") == model.count_params(), name
            assert ledger.optimizer.count == kept, name
