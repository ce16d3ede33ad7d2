"""Whole modules of PyTorch as people write them, read through torch.fx; refusals by name."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_modules import MODULES, LastStep, made
from torch_modules_more import MORE

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.reference import run


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_read_as_what_it_computes(name):
    module = made(name)
    report = xlstm.reconcile(module, "torch")
    report.check()
    assert report.frameworks["torch"].what == "the original"
    assert report.frameworks["torch"].parameters == report.ledger.total("torch")


@pytest.mark.parametrize("name", MODULES)
def test_the_reference_computes_what_the_module_computes(name):
    module = made(name)
    model = xlstm.load(module)
    inputs = arrays(model)
    own = originals(module.double(), model, inputs)
    for found, want in zip(run(model, inputs), own, strict=True):
        assert found.shape == want.shape
        np.testing.assert_allclose(found, want, rtol=1e-12, atol=1e-12 * np.abs(want).max())


def embedded(model, name):
    reads = (node.spec.kind for node in model.layers for edge in node.inputs if edge.node == name)
    return "Embedding" in reads


def arrays(model):
    rng = np.random.default_rng(1)
    free = (12, 11) if model.name == "ChannelsFirst" else (9, 9)
    found = []
    for name in model.inputs:
        sizes = iter(free)
        shape = [next(sizes) if n is None else n for n in model.node(name).shape]
        x = (
            rng.integers(0, 9, (4, *shape))
            if embedded(model, name)
            else rng.normal(size=(4, *shape))
        )
        found.append(np.asarray(x, np.float64))
    return found


def originals(module, model, inputs):
    """What the module itself gives: time first where it is, ids as whole numbers."""
    late = (
        type(module).__name__ in ("TimeFirstThroughout",)
        or getattr(getattr(module, "gru", None), "batch_first", True) is False
    )
    given = []
    for name, x in zip(model.inputs, inputs, strict=True):
        x = torch.from_numpy(x.swapaxes(0, 1).copy() if late else x)
        given.append(x.long() if embedded(model, name) else x)
    torch.set_default_dtype(torch.float64)  # of the zeros that a module makes
    try:
        with torch.no_grad():
            found = module(*given)
    finally:
        torch.set_default_dtype(torch.float32)
    found = list(found.values()) if isinstance(found, dict) else found
    found = list(found) if isinstance(found, (tuple, list)) else [found]
    found = [y.numpy() for y in found]
    if type(module).__name__ == "TimeFirstThroughout":
        found[0] = found[0].swapaxes(0, 1)
    return found


@pytest.mark.parametrize("framework", ["nnx", "linen", "torch"])
@pytest.mark.parametrize(
    "name", ["last_state", "both_ways", "text", "conv_lstm", "two_inputs", "seq2seq"]
)
def test_ports_agree(name, framework):
    xlstm.reconcile(xlstm.load(made(name)), framework).check()


@pytest.mark.parametrize("name", MORE)
def test_ports_of_more_agree(name):
    xlstm.reconcile(xlstm.load(made(name)), ["torch", "linen"]).check()


class Pair(nn.Module):
    """Layers a and b and a forward that a test gives."""

    def __init__(self, a=None, b=None, forward=None):
        super().__init__()
        self.a = a or nn.LSTM(3, 4, batch_first=True)
        self.b = b or nn.Linear(4, 2)
        self.steps = forward

    def forward(self, x):
        return self.steps(self, x)


def loop(m, x):
    return torch.stack([m.b(m.a(x)[0][:, t]) for t in range(x.size(1))])


def decision(m, x):
    return m.b(m.a(x)[0]) if x.sum() > 0 else m.b(m.a(x)[1][0][-1])


def changed(m, x):
    y = m.b(m.a(x)[0])
    return torch.relu_(y) + y


def thrown_away(m, x):
    y = m.b(m.a(x)[0])
    y.relu_()
    return y


def several(m, x):
    return torch.cummax(m.b(m.a(x)[0]), 1)[0].renorm(1, 1, 1).sort()[0]


def looking(m, x):
    y, weights = m.a(x, x, x)
    return m.b(y), weights


class Unread(LastStep):
    def forward(self, x, lengths):
        return self.head(self.lstm(x)[0])


class Scaled(LastStep):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(4))

    def forward(self, x):
        return self.head(self.lstm(x)[0] * self.scale)


class Packed(LastStep):
    def forward(self, x, lengths):
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True)
        return self.head(self.lstm(packed)[1][0][-1])


def tied():
    module = nn.Sequential(nn.Embedding(4, 3), nn.Linear(3, 3), nn.Linear(3, 4))
    module[2].weight = module[0].weight
    return module


def partly_frozen():
    module = LastStep()
    module.head.bias.requires_grad_(False)
    return module


def hooked():
    module = LastStep()
    module.head.register_forward_hook(lambda *_: None)
    return module


REFUSED = {
    "unread-input": (Unread(), "input lengths, which forward does not read"),
    "power": (
        Pair(forward=lambda m, x: m.b(2 ** m.a(x)[0])),
        "exponent is a tensor; raise a tensor",
    ),
    "decimals": (
        Pair(forward=lambda m, x: m.b(torch.round(m.a(x)[0], decimals=2))),
        "got round_1: the argument decimals=; leave",
    ),
    "dtype": (
        Pair(forward=lambda m, x: m.b(m.a(x)[0].cumsum(1, dtype=torch.float64))),
        "got cumsum: the argument dtype=; leave",
    ),
    "own-parameter": (Scaled(), "the tensor scale itself"),
    "packed": (Packed(), "torch.fx can trace"),
    "tied": (tied(), "one parameter in 0.weight and 2.weight"),
    "frozen": (partly_frozen(), "head .Linear. with some parameters frozen"),
    "hook": (hooked(), "forward hooks of head"),
    "sequential-lstm": (nn.Sequential(nn.LSTM(3, 4), nn.Linear(4, 2)), "all that 0 returns"),
    "loop": (Pair(forward=loop), "loops over time"),
    "decision": (Pair(forward=decision), "decisions on data"),
    "in-place": (Pair(forward=changed), "relu_ changes its input in place"),
    "in-place-unread": (Pair(forward=thrown_away), "relu_ changes its input in place"),
    "operations": (Pair(forward=several), "cummax.*renorm.*sort"),
    "leaves": (
        nn.Sequential(nn.Bilinear(3, 3, 4), nn.PixelShuffle(2), nn.LSTMCell(3, 4)),
        "0 .Bilinear.; 1 .PixelShuffle.; 2 .LSTMCell.",
    ),
    "left-over": (Pair(forward=lambda m, x: m.a(x)[0]), "parameter b.weight, which forward"),
    "batch-mean": (Pair(forward=lambda m, x: m.b(m.a(x)[0]).mean(0)), "over the batch"),
    "all-mean": (Pair(forward=lambda m, x: m.b(m.a(x)[0]).mean()), "mean over all axes"),
    "squeeze": (Pair(forward=lambda m, x: m.b(m.a(x)[0]).squeeze()), "name it: squeeze"),
    "merged": (Pair(forward=lambda m, x: m.b(m.a(x)[0].reshape(-1, 4))), "steps and batch"),
    "features": (Pair(b=nn.Linear(5, 2), forward=lambda m, x: m.b(m.a(x)[0])), "got 4, not 5"),
    "not-batch-first": (
        Pair(
            a=nn.LSTM(3, 4),
            b=nn.LSTM(4, 2, batch_first=True),
            forward=lambda m, x: m.b(m.a(x)[0])[0],
        ),
        "batch_first=True a tensor of 3 axes, the batch being axis 1",
    ),
    "rank": (nn.Sequential(nn.Linear(3, 4), nn.Softmax(dim=1)), "batch, 3. or .*batch, any, 3"),
    "more-axes": (
        nn.Sequential(nn.Softmax(dim=1), nn.Flatten(), nn.Linear(6, 2)),
        "or have more axes",
    ),
    "sizes": (
        nn.Sequential(nn.Conv1d(3, 4, 3, 2), nn.Flatten(), nn.Linear(40, 2)),
        "may have 22 or 21 places",
    ),
    "dropout": (Pair(forward=lambda m, x: m.b(F.dropout(m.a(x)[0]))), "training=self.training"),
    "statistics": (
        nn.Sequential(nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4, track_running_stats=False)),
        "statistics",
    ),
    "attention-mask": (
        Pair(
            a=nn.MultiheadAttention(4, 2, batch_first=True),
            forward=lambda m, x: m.b(m.a(x, x, x, is_causal=True, need_weights=False)[0]),
        ),
        "a mask of attention",
    ),
    "attention-weights": (
        Pair(
            a=nn.MultiheadAttention(4, 2, batch_first=True),
            forward=looking,
        ),
        "weights of a as an output",
    ),
    "einsum-batch": (
        Pair(forward=lambda m, x: torch.einsum("btd,csd->bc", m.b(m.a(x)[0]), m.b(m.a(x)[0]))),
        "which does not leave samples apart",
    ),
    "truth": (Pair(forward=lambda m, x: (m.b(m.a(x)[0]) > 0) + 1), "arithmetic with sizes"),
    "where-endless": (
        Pair(forward=lambda m, x: (lambda y: y.masked_fill(y < 0, -torch.inf))(m.b(m.a(x)[0]))),
        "finite numbers, as -1e9",
    ),
    "std": (Pair(forward=lambda m, x: m.b(m.a(x)[0]).std(1)), "pass correction=0"),
    "softplus": (nn.Sequential(nn.Linear(3, 4), nn.Softplus()), "Softplus"),
    "random-state": (Pair(forward=lambda m, x: m.b(m.a(x, (m.a(x)[0],) * 2)[0])), "initial states"),
    "max-norm": (nn.Sequential(nn.Embedding(4, 3, max_norm=1.0), nn.Linear(3, 2)), "max_norm"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_exact_form_is_refused_by_name(name):
    module, match = REFUSED[name]
    with pytest.raises(UnsupportedError, match=match):
        xlstm.load(module)


def test_a_module_called_twice_is_one_layer():
    model = xlstm.load(made("siamese"))
    one, two = (node for node in model.layers if node.spec.kind == "GRU")
    assert (one.layer, two.layer) == ("", one.name)
    assert len(model.weights) == 1


def test_only_what_is_read_is_returned():
    (lstm,) = (n for n in xlstm.load(made("last_state")).layers if n.spec.kind == "LSTM")
    assert not lstm.spec.return_sequences
    assert not lstm.spec.return_state


def test_channels_stay_last_between_layers_that_want_them_last():
    kinds = [node.spec.kind for node in xlstm.load(made("conv_lstm")).layers]
    assert "Permute" not in kinds


def test_frozen_layers_stay_frozen():
    module = made("last_state")
    module.lstm.requires_grad_(False)
    nodes = {node.name: node.trainable for node in xlstm.load(module).layers}
    assert (nodes["lstm"], nodes["head"]) == (False, True)


def test_reading_changes_nothing():
    module = made("stacked").train()
    before = {name: t.clone() for name, t in module.state_dict().items()}
    xlstm.load(module)
    assert module.training
    assert module.drop.training
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
