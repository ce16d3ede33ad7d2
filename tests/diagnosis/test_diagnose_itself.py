"""Every model that can be read equals itself and its port, and one mistake alone is named."""

import copy
import dataclasses

import numpy as np
import pytest
import torch
import torch_modules
from cases import model
from cases_layers import CASES_LAYERS
from torch import nn
from torch.nn import functional

import xlstm
from xlstm.ir.layers import LSTM, Activation, Dense, Masking, SimpleRNN

# a port of a module with the time first says that its own batch is
pytestmark = pytest.mark.filterwarnings("ignore::xlstm.errors.AxesWarning")

SEQUENCE = {"return_sequences": True}


@pytest.mark.parametrize("name", torch_modules.MODULES)
def test_a_module_is_equal_to_itself_and_to_its_port(name):
    module = torch_modules.made(name)
    for other in (module, xlstm.port(module, "torch")):
        found = xlstm.diagnose(module, other)
        assert found.ok, str(found)
        assert not found.notes


def test_a_layer_of_every_kind_is_equal_to_itself():
    found = {name: xlstm.diagnose(source, source) for name, source in CASES_LAYERS.items()}
    assert not {name: str(one) for name, one in found.items() if not one.ok}


def layers(*specs):
    return model(list(specs), (None, 3))


def with_weights(other, source):
    """A model with another one's weights, layer by layer."""
    held = [w for w in source.weights.values() if w]
    owners = [name for name, w in other.weights.items() if w]
    return dataclasses.replace(other, weights=dict(zip(owners, held, strict=True)))


def pairs_of(activation):
    """A layer with an activation inside, and one with it as a layer after it."""
    inside = layers(LSTM(3, 4), Dense(4, 6, activation), Dense(6, 2))
    after = layers(LSTM(3, 4), Dense(4, 6), Activation(activation), Dense(6, 2))
    return inside, with_weights(after, inside)


@pytest.mark.parametrize("activation", ["relu", "softmax", "sigmoid", "elu"])
def test_an_activation_inside_a_layer_is_one_after_it(activation):
    inside, after = pairs_of(activation)
    for a, b in ((inside, after), (after, inside)):
        found = xlstm.diagnose(a, b)
        assert found.ok, str(found)


def test_another_activation_after_a_layer_is_named_once():
    inside, _ = pairs_of("relu")
    wrong = with_weights(pairs_of("tanh")[1], inside)
    for a, b in ((inside, wrong), (wrong, inside)):
        (finding,) = xlstm.diagnose(a, b).findings
        assert finding.cause == "activation"
        assert "tanh" in finding.text
        assert "relu" in finding.text


class Hand(nn.Module):
    """Two recurrent layers and a head, as people write them, with the weights of a truth."""

    def __init__(self, truth, between=lambda x: x, head=lambda x: x, pick=lambda x: x[:, -1]):
        super().__init__()
        made = xlstm.port(truth, "torch").state_dict()
        self.one = nn.RNN(3, 4, batch_first=True)
        self.two = nn.RNN(4, 4, batch_first=True)
        self.fc = nn.Linear(4, 2)
        own = self.state_dict()
        for name, tensor in zip(own, made.values(), strict=True):
            own[name].copy_(tensor)
        self.between, self.head, self.pick = between, head, pick

    def forward(self, x):
        x, _ = self.one(x)
        x, _ = self.two(self.between(x))
        return self.head(self.fc(self.pick(x)))


DEEP = layers(SimpleRNN(3, 4, **SEQUENCE), SimpleRNN(4, 4), Dense(4, 2, "softmax"))
PADDED = layers(Masking(0.0), SimpleRNN(3, 4, **SEQUENCE), SimpleRNN(4, 4), Dense(4, 2, "softmax"))
SOFT = {"head": lambda y: functional.softmax(y, dim=-1)}
ONE_MISTAKE = {
    "none": (DEEP, SOFT, []),
    "relu between": (DEEP, {**SOFT, "between": torch.relu}, [("simplernn_0", "extra-activation")]),
    "turned": (DEEP, {**SOFT, "between": lambda x: x.flip(1)}, [("simplernn_1", "go-backwards")]),
    "no softmax": (DEEP, {}, [("dense_2", "activation")]),
    "mask": (PADDED, SOFT, [("masking_0", "mask-ignored")]),
}


@pytest.mark.parametrize("name", ONE_MISTAKE)
def test_nothing_is_named_beside_the_one_mistake(name):
    truth, options, expected = ONE_MISTAKE[name]
    found = xlstm.diagnose(truth, Hand(truth, **options))
    assert [(f.layer, f.cause) for f in found.findings] == expected, str(found)
    assert not found.unexplained


def test_a_unit_that_never_fires_makes_no_port_wrong():
    truth = layers(SimpleRNN(3, 4, "relu"), Dense(4, 2, "sigmoid"))
    held = {name: dict(tensors) for name, tensors in truth.weights.items()}
    for tensor, number in (("kernel", 0), ("recurrent", 0), ("bias", -3)):
        held["simplernn_0"][tensor] = np.array(held["simplernn_0"][tensor])
        held["simplernn_0"][tensor][..., 0] = number
    truth = dataclasses.replace(truth, weights=held)
    after = layers(SimpleRNN(3, 4, "relu"), Dense(4, 2), Activation("sigmoid"))
    found = xlstm.diagnose(truth, with_weights(after, truth))
    assert found.unexercised
    assert found.ok, str(found)


def numbers_of(module):
    """A GRU's or LSTM's own arrays, by their names."""
    return {name: tensor.numpy() for name, tensor in module.state_dict().items()}


def seeded(module):
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    return module.eval()


def lstm_of_numpy(held, order):
    """An LSTM in float64 whose two biases were added up in float32."""
    bias = held["bias_ih_l0"] + held["bias_hh_l0"]
    kernels = [held[name].astype(float).T for name in ("weight_ih_l0", "weight_hh_l0")]

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def forward(x):
        h = c = np.zeros((len(x), kernels[1].shape[0]))
        found = []
        for step in np.asarray(x, float).swapaxes(0, 1):
            z = np.split(step @ kernels[0] + h @ kernels[1] + bias.astype(float), 4, 1)
            i, f, g, o = (z[number] for number in order)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            found.append(h)
        return np.stack(found, 1)

    return forward


def test_biases_that_were_added_in_float32_are_no_mistake():
    source = seeded(nn.LSTM(3, 4, batch_first=True))
    right = xlstm.diagnose(source, lstm_of_numpy(numbers_of(source), (0, 1, 2, 3)))
    assert right.ok, str(right)
    assert [note.cause for note in right.notes] == ["float32"]
    wrong = xlstm.diagnose(source, lstm_of_numpy(numbers_of(source), (0, 1, 3, 2)))
    assert wrong.causes == ("gate-order",)
    assert wrong.findings[0].text.startswith("This would explain it: ")


def test_a_bias_off_by_one_rounding_is_no_mistake():
    truth = layers(LSTM(3, 4), Dense(4, 2))
    ported = xlstm.port(truth, "torch")
    bias = ported.state_dict()["dense_1.bias"]
    bias[0] = torch.nextafter(bias[0], torch.tensor(9.0))
    assert xlstm.diagnose(truth, ported).ok
    bias[0] += 1e-6
    assert xlstm.diagnose(truth, ported).causes == ("other-weights",)


def equinox(held):
    """Arrays of Equinox's GRU: one bias, and that of h's product for n alone."""
    both = held["bias_ih_l0"], held["bias_hh_l0"]
    return {
        "cell.weight_ih": held["weight_ih_l0"],
        "cell.weight_hh": held["weight_hh_l0"],
        "cell.bias": np.concatenate([both[0][:8] + both[1][:8], both[0][8:]]),
        "cell.bias_n": both[1][8:],
    }


def test_arrays_of_equinox():
    source = seeded(nn.GRU(3, 4, batch_first=True))
    arrays = equinox(numbers_of(source))
    assert xlstm.diagnose(source, arrays).ok
    lost = {**arrays, "cell.bias_n": 0 * arrays["cell.bias_n"]}
    assert xlstm.diagnose(source, lost).causes == ("lost-bias",)


def test_nothing_is_lost_while_arrays_beside_it_are_unread():
    source = seeded(nn.GRU(3, 4, batch_first=True))
    arrays = equinox(numbers_of(source))
    odd = {name.replace("bias", "offset"): array for name, array in arrays.items()}
    found = xlstm.diagnose(source, odd)
    assert not found.findings
    assert "cell.offset, cell.offset_n" in found.unexplained[0].text


class Flipped(nn.RNN):
    """A layer whose output is turned round in time."""

    def forward(self, x):
        y, h = super().forward(x)
        return y.flip(1), h


def test_two_findings_that_cancel_are_none():
    for head, expected in ((SOFT["head"], []), (lambda y: y, [("dense_2", "activation")])):
        other = Hand(DEEP, lambda x: x.flip(1), head)
        other.one.__class__ = Flipped
        found = xlstm.diagnose(DEEP, other)
        assert [(f.layer, f.cause) for f in found.findings] == expected, str(found)


class Turned(nn.Module):
    """A layer that has batch_first, and is given time first all the same."""

    def __init__(self, after=lambda y: y, turn=True):
        super().__init__()
        self.lstm = seeded(nn.LSTM(3, 4, batch_first=True))
        self.after, self.turn = after, turn

    def forward(self, x):
        y, _ = self.lstm(x.swapaxes(0, 1) if self.turn else x)
        return self.after(y.swapaxes(0, 1) if self.turn else y)


def test_a_module_is_not_said_to_be_what_it_is_not():
    truth = seeded(nn.LSTM(3, 4, batch_first=True))
    (finding,) = xlstm.diagnose(truth, Turned()).findings
    assert finding.cause == "batch-first"
    assert "batch_first is True" in finding.text
    (finding,) = xlstm.diagnose(truth, Turned(torch.relu, turn=False)).findings
    assert finding.cause == "extra-activation"


def test_time_first_is_a_mistake_where_the_truth_has_the_batch_first():
    late = seeded(torch_modules.MODULES["time_first_throughout"]())
    ported = xlstm.port(late, "torch")
    assert xlstm.diagnose(late, late).ok
    assert not xlstm.diagnose(ported, late).ok


class Normalised(nn.Module):
    """An LSTM and an RMSNorm, whose epsilon follows the dtype that it runs in."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 8, batch_first=True)
        self.norm = nn.RMSNorm(8)

    def forward(self, x):
        return self.norm(self.lstm(x)[0])


def test_an_epsilon_that_follows_the_dtype_is_that_of_the_weights():
    torch.manual_seed(0)
    module = Normalised().eval()  # evaluation mode of PyTorch
    assert xlstm.diagnose(module, copy.deepcopy(module)).ok
    other = copy.deepcopy(module)
    with torch.no_grad():
        other.norm.weight.mul_(2.0)
    assert [f.cause for f in xlstm.diagnose(module, other).findings] == ["scaled-weights"]
