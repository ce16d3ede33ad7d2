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
