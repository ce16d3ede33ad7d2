"""States that a module of PyTorch makes, takes and returns, read through torch.fx."""

import pytest
import torch
from refusing import refused
from torch import nn, zeros

import xlstm
from xlstm.errors import UnsupportedError


class Steps(nn.Module):
    """Two recurrent layers, a dense one, and a forward that a test gives."""

    def __init__(self, forward, **options):
        super().__init__()
        torch.manual_seed(5)
        self.lstm = nn.LSTM(3, 4, batch_first=True, **options)
        self.gru = nn.GRU(4, 4, 2, batch_first=True)
        self.steps = forward
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        self.eval()

    def forward(self, x):
        return self.steps(self, x)


def from_zeros(h, c, k):
    """Both layers, which start from zeros of these makers."""
    return lambda m, x: m.gru(m.lstm(x, (h(x), c(x)))[0], k(x))[0]


MADE = {
    "layers-first": from_zeros(
        lambda x: torch.zeros(1, x.shape[0], 4),
        lambda x: torch.zeros((1, x.size(0), 4), device=x.device),
        lambda x: x.new_zeros(2, x.shape[0], 4),
    ),
    "batch-first": from_zeros(
        lambda x: zeros(x.shape[0], 4).unsqueeze(0),
        lambda x: torch.zeros(x.size(0), 4)[None],
        lambda x: x.new_zeros(x.shape[0], 8).view(2, -1, 4),
    ),
    "turned": from_zeros(
        lambda x: torch.zeros(x.shape[0], 1, 4).transpose(0, 1),
        lambda x: x.new_zeros(x.shape[0], 1, 4).permute(1, 0, 2).contiguous(),
        lambda x: torch.zeros(x.shape[0], 2, 4).to(x.device).transpose(0, 1),
    ),
}


def agrees(source, *inputs):
    """Reads a module, and compares what it gives with what its ports give."""
    report = xlstm.reconcile(source, "torch")
    report.check()
    assert report.frameworks["torch"].what == "the original"
    return xlstm.port(source, "torch")(*inputs)


def batch(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", MADE)
def test_zeros_that_layers_start_from(name):
    source, x, maker = Steps(MADE[name]), batch(2, 5, 3), torch.zeros
    torch.testing.assert_close(agrees(source, x), source(x), atol=1e-6, rtol=1e-5)
    assert torch.zeros is maker


def test_other_numbers_are_no_states():
    source = Steps(from_zeros(*[lambda x: torch.ones(x.shape[0], 1, 4)] * 2, lambda x: None))
    error = refused(UnsupportedError, lambda: xlstm.load(source), "ones", "exact form")
    assert "loops" not in str(error)


def both(m, x):
    y, (h, c) = m.lstm(x)
    return y, (h, c)


RETURNED = {
    "nested": (both, {}),
    "whole": (lambda m, x: m.lstm(x), {"num_layers": 2, "bidirectional": True}),
    "two": (lambda m, x: (m.lstm(x)[1], m.gru(m.lstm(x)[0])), {}),
}


def flattened(found):
    """Outputs as ports give them: states one by one."""
    for part in found if isinstance(found, tuple) else (found,):
        yield from flattened(part) if isinstance(part, tuple) else [part]


def rows(tensors):
    """Sequences as they are, states (layers, batch, n) one by one."""
    return [row for y in tensors for row in ([y] if y.shape[0] == y.shape[1] == 3 else y)]


@pytest.mark.parametrize("name", RETURNED)
def test_states_that_are_returned(name):
    forward, options = RETURNED[name]
    source, x = Steps(forward, **options), batch(3, 3, 3)
    if name != "two":
        del source.gru
    found, want = agrees(source, x), rows(flattened(source(x)))
    assert len(found) == len(want)
    for mine, own in zip(found, want, strict=True):
        torch.testing.assert_close(mine, own, atol=1e-6, rtol=1e-5)
    assert "h of each layer and direction, then c" in " ".join(xlstm.load(source).source.notes)


class Apart(Steps):
    def forward(self, x, h, c):
        return self.lstm(x, (h, c))


class Paired(Steps):
    def forward(self, state, x):
        h, c = state
        y, (h, c) = self.lstm(x, (h, c))
        return y, h[-1], c


class Whole(Steps):
    def forward(self, x, state):
        return self.lstm(x, state)[0]


class Of(nn.Module):
    """A GRU, time first, from a state that is given; another one from what a layer makes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(3)
        self.first, self.start = nn.GRU(3, 4, 2, bidirectional=True), nn.Linear(5, 4)
        self.second = nn.GRU(8, 4)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        self.eval()

    def forward(self, x, z, h):
        y, h = self.first(x, h)
        return self.second(y, torch.tanh(self.start(z)).unsqueeze(0))[0], h


@pytest.mark.parametrize("name", ["apart", "paired", "whole"])
def test_states_that_are_given(name):
    source = {"apart": Apart, "paired": Paired, "whole": Whole}[name](None, num_layers=2)
    del source.gru
    x, h, c = batch(3, 5, 3), batch(2, 3, 4), -batch(2, 3, 4)
    given = {"apart": (x, h, c), "paired": ((h, c), x), "whole": (x, (h, c))}[name]
    mine = [*((x,) if name != "paired" else ()), *h, *c, *((x,) if name == "paired" else ())]
    found, want = agrees(source, *mine), [*flattened(source(*given))]
    found = found if isinstance(found, tuple) else (found,)
    torch.testing.assert_close(found[0], want[0], atol=1e-6, rtol=1e-5)
    names = {"apart": "x h_0 h_1 c_0 c_1", "whole": "x state_h_0 state_h_1 state_c_0 state_c_1"}
    names["paired"] = "state_h_0 state_h_1 state_c_0 state_c_1 x"
    assert " ".join(xlstm.load(source).inputs) == names[name]


@pytest.mark.filterwarnings("ignore::xlstm.errors.AxesWarning")
def test_states_that_a_layer_makes():
    source, x, z, h = Of(), batch(5, 2, 3), batch(2, 5), batch(4, 2, 4)
    found = agrees(source, x.transpose(0, 1), z, *h)
    y, states = source(x, z, h)
    for mine, own in zip(found, [y.transpose(0, 1), *states], strict=True):
        torch.testing.assert_close(mine, own, atol=1e-6, rtol=1e-5)
