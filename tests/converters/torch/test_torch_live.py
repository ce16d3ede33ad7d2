"""Live modules of PyTorch: every option read, run as it is, and written back bit for bit."""

import copy
import dataclasses
import itertools

import numpy as np
import pytest
import torch
from torch import nn

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model, unpack_model

TORCH = registry.adapter("torch")
AXES = "ignore::xlstm.errors.AxesWarning"
"""Its own subject: tests/ir/test_batch_axes.py."""

PROJECTIONS = "ignore:LSTM with projections is not supported with oneDNN:UserWarning"


def randomised(module):
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.6)
    return module


def live_modules():
    classes = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn": nn.RNN}
    options = itertools.product(classes, (1, 3), (False, True), (True, False), (True, False))
    found = {}
    for name, layers, both, bias, batch_first in options:
        words = ["both"] * both + ["no_bias"] * (not bias) + ["time_first"] * (not batch_first)
        found["-".join([name, f"{layers}", *words])] = classes[name](
            4,
            5,
            num_layers=layers,
            bidirectional=both,
            bias=bias,
            batch_first=batch_first,
            dropout=0.3 if layers > 1 else 0.0,
        )
    return {
        **found,
        "rnn-relu": nn.RNN(4, 5, nonlinearity="relu", batch_first=True),
        "lstm-projected": nn.LSTM(4, 5, proj_size=3, batch_first=True),
        "lstm-projected-stack": nn.LSTM(4, 5, 2, proj_size=3, bidirectional=True),
        "lstm_cell": nn.LSTMCell(4, 5),
        "gru_cell-no_bias": nn.GRUCell(4, 5, bias=False),
        "rnn_cell-relu": nn.RNNCell(4, 5, nonlinearity="relu"),
        "linear": nn.Linear(4, 5),
    }


MODULES = live_modules()


@pytest.mark.filterwarnings(PROJECTIONS)
@pytest.mark.filterwarnings(AXES)
@pytest.mark.parametrize("kind", MODULES)
def test_a_live_module_agrees_with_the_reference_and_comes_back_bit_for_bit(kind):
    module = randomised(copy.deepcopy(MODULES[kind]))
    read = xlstm.load(module)
    report = xlstm.reconcile(module, "torch")
    report.check()
    assert report.frameworks["torch"].what == "the original"
    assert report.frameworks["torch"].parameters == report.ledger.total("torch")
    xlstm.reconcile(read, "torch").check()
    back = xlstm.port(read, "torch").state_dict()
    if read.lone and not isinstance(module, nn.RNNCellBase):
        assert list(back) == list(module.state_dict())
    # a stack comes back as a chain: other names, the same arrays in the same order
    for mine, own in zip(back.values(), module.state_dict().values(), strict=True):
        assert mine.numpy().tobytes() == own.numpy().tobytes()


def test_a_stack_is_read_as_a_chain_with_its_dropout():
    read = xlstm.load(MODULES["gru-3-both"])
    assert [node.name for node in read.layers] == [
        "gru_l0",
        "dropout_l0",
        "gru_l1",
        "dropout_l1",
        "gru_l2",
    ]
    assert read.layers[1].spec.rate == 0.3
    assert not read.lone
    assert read.layers[-1].shape == (None, 10)


def test_what_a_reader_should_know_is_noted():
    assert "LSTMCell" in xlstm.load(MODULES["lstm_cell"]).source.notes[0]


def test_a_lone_layer_of_two_directions_is_the_bare_native_module():
    ported = xlstm.port(MODULES["lstm-1-both"], "torch")
    assert type(ported) is nn.LSTM
    assert ported.bidirectional


def with_hook(module):
    module.register_forward_hook(lambda *_: None)
    return module


def with_another_forward(module):
    module.forward = lambda x: x
    return module


def partly_frozen(module):
    module.weight_hh_l0.requires_grad_(False)
    return module


@pytest.mark.filterwarnings("ignore:.*quantized")
@pytest.mark.filterwarnings("ignore:.*weight_norm:FutureWarning")
@pytest.mark.parametrize(
    ("change", "match"),
    [
        (with_hook, "hooks"),
        (with_another_forward, "hooks"),
        (partly_frozen, "requires_grad"),
        (lambda m: nn.utils.weight_norm(m, "weight_hh_l0"), "weight_norm"),
        (lambda m: nn.utils.parametrizations.weight_norm(m, "weight_hh_l0"), "parametrizations"),
        (lambda _: nn.LSTM(2, 3, device="meta"), "load its weights"),
        (lambda _: torch.ao.nn.quantized.dynamic.LSTM(2, 3), "quantized"),
        (lambda _: type("LSTM", (nn.LSTM,), {})(2, 3), "one by one"),
    ],
)
def test_modules_that_compute_something_else_are_refused_by_name(change, match):
    with pytest.raises(UnsupportedError, match=match):
        xlstm.load(change(nn.LSTM(2, 3, batch_first=True)))


CELLS = {"LSTM": "LSTMCell", "GRU": "GRUCell", "RNN": "RNNCell"}


@pytest.mark.parametrize("layer", CELLS)
def test_weights_of_cells_are_those_of_layers_by_other_names(layer):
    module = randomised(getattr(nn, layer)(3, 4))
    arrays = {name: tensor.detach().numpy() for name, tensor in module.named_parameters()}
    found = xlstm.convert_weights(arrays, f"torch.{layer}", f"torch.{CELLS[layer]}")
    for name, array in found.items():
        np.testing.assert_array_equal(array, arrays[f"{name}_l0"])
    getattr(nn, CELLS[layer])(3, 4).load_state_dict(
        {k: torch.from_numpy(v) for k, v in found.items()}
    )


@pytest.mark.parametrize("other", ["nnx", "linen", "keras"])
@pytest.mark.parametrize("kind", ["lstm-3-both", "gru-1", "rnn-3", "lstm-1-both-no_bias"])
def test_round_trips_where_nothing_is_folded(kind, other):
    module = randomised(copy.deepcopy(MODULES[kind]))
    for name, parameter in module.named_parameters():
        if "bias_hh" in name:
            parameter.data.zero_()
    source, adapter = xlstm.load(module), registry.adapter(other)
    there = dataclasses.replace(
        source, weights=unpack_model(source, adapter, pack_model(source, adapter))
    )
    wanted, found = pack_model(source, TORCH), pack_model(there, TORCH)
    assert {name: a.tobytes() for name, a in found.items()} == {
        name: a.tobytes() for name, a in wanted.items()
    }
