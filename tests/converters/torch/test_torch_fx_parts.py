"""Parts and bounds of tensors read through torch.fx, and what stops a trace."""

import flax.linen as linen
import jax
import numpy as np
import pytest
import torch
from flax import nnx
from refusing import refused
from torch import nn
from torch.nn.utils import rnn

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.ir.layers import RMSNorm


class Does(nn.Module):
    """An LSTM, and something done with what it gives."""

    def __init__(self, what):
        super().__init__()
        torch.manual_seed(4)
        self.lstm = nn.LSTM(3, 7, batch_first=True)
        self.what = [what]

    def forward(self, x):
        return self.what[0](self.lstm(x)[0])


def last(parts):
    return torch.cat([parts[-1].tanh(), parts[1]], 2)


def glu(parts):
    a, b = parts
    return a * b.sigmoid()


PARTS = {
    "chunk": lambda y: torch.cat(y.chunk(3, -1)[::-1], -1),
    "chunk-more": lambda y: torch.cat(torch.chunk(y[:, -1], 5, dim=1), 1),
    "split": lambda y: last(y.split(2, dim=2)),
    "split-listed": lambda y: torch.split(y, [1, 4, 2], 2)[1],
    "unpacked": lambda y: glu(y[:, -1, :6].chunk(2, -1)),
    "clamp": lambda y: y.clamp(-0.05, 0.03),
    "clamp-apart": lambda y: y.clamp(0.01, 0.5),
    "clamp-words": lambda y: torch.clamp(y, max=0.03),
    "clamp-low": lambda y: torch.clip(y, min=-0.03),
    "clamp-zero": lambda y: y.clamp(min=0, max=0.03),
}


@pytest.mark.parametrize("name", PARTS)
def test_parts_and_bounds(name):
    source = Does(PARTS[name]).eval()  # evaluation mode of PyTorch: no dropout
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(1))
    xlstm.reconcile(source, ["torch", "nnx"]).check()
    found = xlstm.port(source, "torch")(x)
    assert torch.allclose(found, source(x), atol=1e-6)


class RootMeanSquares(nn.Module):
    """Norms with the epsilon of a dtype, over two axes, without a scale, and in a flat batch."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.norm, self.both = nn.RMSNorm(4), nn.RMSNorm((5, 4), eps=0.1)
        self.bare = nn.RMSNorm(4, eps=1e-3, elementwise_affine=False)

    def forward(self, x):
        y = self.norm(self.lstm(x)[0])
        flat = self.norm(y.reshape(-1, 4)).view(y.size(0), -1, 4)
        return self.both(y), self.bare(y[:, -1]), flat


def test_root_mean_squares():
    torch.manual_seed(0)
    module = RootMeanSquares()
    with torch.no_grad():
        for norm in (module.norm, module.both):
            norm.weight.add_(0.3 * torch.randn_like(norm.weight))
    read = xlstm.load(module)
    specs = [getattr(node.spec, "layer", node.spec) for node in read.layers]
    single = float(np.finfo("float32").eps)
    found = sorted(spec.epsilon for spec in specs if isinstance(spec, RMSNorm))
    assert found == [single, single, 1e-3, 0.1]
    assert any("eps=None" in note and "1.19e-07" in note for note in read.source.notes)
    x = np.random.default_rng(0).standard_normal((3, 5, 3)).astype("float32")
    xlstm.reconcile(module, ["torch", "nnx", "linen"], [x]).check()
    assert module.norm.eps is None


class Spread(nn.Module):
    """The spread of an LSTM's outputs, as torch's overloads spell it."""

    def __init__(self, call):
        super().__init__()
        self.lstm, self.call = nn.LSTM(3, 4, batch_first=True), call

    def forward(self, x):
        """Calls the function."""
        return self.call(self.lstm(x)[0])


SPREADS = {
    "unbiased-by-place": lambda y: y.std(-1, False),
    "unbiased-true": lambda y: y.std(-1, True),
    "both-by-place": lambda y: torch.var(y, -1, False, True),
    "unbiased-by-name": lambda y: torch.var(y, -1, unbiased=False),
    "correction-none": lambda y: torch.std(y, -1, correction=None),
    "correction": lambda y: torch.std(y, -1, correction=0, keepdim=True),
}


@pytest.mark.parametrize("name", SPREADS)
def test_arguments_of_a_spread_are_taken_in_the_order_of_torch(name):
    torch.manual_seed(0)
    module, x = Spread(SPREADS[name]).eval(), torch.randn(2, 6, 3)  # mode of PyTorch: no dropout
    np.testing.assert_allclose(
        xlstm.port(module, "numpy")(x.numpy()), module(x).detach().numpy(), rtol=1e-5, atol=1e-7
    )


def test_a_spread_over_all_numbers_is_refused():
    refused(UnsupportedError, lambda: xlstm.load(Spread(lambda y: y.std(False))), "all numbers")


def test_an_epsilon_of_mixed_dtypes_is_refused():
    """PyTorch takes the epsilon of the input's dtype, the weight may have another."""
    module = nn.Sequential(nn.Linear(3, 4), nn.RMSNorm(4).double())
    refused(UnsupportedError, lambda: xlstm.load(module), "eps=None", "several dtypes")


def test_an_epsilon_that_depends_on_the_version_is_refused():
    for norm in (nn.RMSNorm(4, elementwise_affine=False), nn.RMSNorm(4).bfloat16()):
        module = nn.Sequential(nn.Linear(3, 4).to(getattr(norm.weight, "dtype", None)), norm)
        refused(UnsupportedError, lambda module=module: xlstm.load(module), "eps=None", "set eps")


BAD = {
    "tensor": (lambda y: y.clamp(max=y[:, :1]), "other bounds than numbers"),
    "batch": (lambda y: y.chunk(2)[0], "batch"),
    "time": (lambda y: y.chunk(2, 1)[0], "unknown size", "fixed places"),
    "packed": (
        lambda y: rnn.pack_padded_sequence(y, y[:, 0, 0], batch_first=True),
        "pack_padded_sequence",
        "remove the packing",
    ),
    "branch": (lambda y: y if y.sum() > 0 else -y, "if y.sum() > 0", "decisions on data"),
}


@pytest.mark.parametrize("name", BAD)
def test_refusals(name):
    what, *words = BAD[name]
    error = refused(UnsupportedError, lambda: xlstm.load(Does(what)), *words)
    assert "__cuda_array_interface__" not in str(error)


@pytest.mark.parametrize("name", ["nnx", "linen"])
def test_what_a_sequential_of_flax_may_hold_is_said(name):
    if name == "nnx":
        source = nnx.LayerNorm(3, rngs=nnx.Rngs(0))
    else:
        module = linen.LayerNorm()
        source = module, module.init(jax.random.key(0), np.ones((1, 3)))
    words = ("Embed, Conv, ConvTranspose, BatchNorm, LayerNorm, GroupNorm, RMSNorm, Dropout",)
    refused(UnsupportedError, lambda: xlstm.load(source), *words)
