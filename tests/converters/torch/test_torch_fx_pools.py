"""Poolings of modules read through torch.fx, and inputs whose sizes nothing tells."""

import pytest
import torch
from refusing import refused
from test_torch_fx_states import agrees, batch
from torch import nn

import xlstm
from xlstm.errors import UnsupportedError


def network(*layers):
    """A network with random numbers everywhere, its statistics too."""
    torch.manual_seed(8)
    made = nn.Sequential(*layers)
    for own in made.modules():
        for parameter in own.parameters(recurse=False):
            nn.init.normal_(parameter, std=0.5)
        if isinstance(own, nn.BatchNorm2d):
            own.running_mean.normal_()
            own.running_var.uniform_(0.5, 2)
    return made.eval()


POOLS = {
    "max3d": ((2, 4, 5, 6), [nn.Conv3d(2, 3, 2), nn.MaxPool3d(2, 1)]),
    "average3d": ((2, 4, 5, 6), [nn.Conv3d(2, 3, 2), nn.AvgPool3d(2, (1, 2, 1), padding=1)]),
    "all3d": ((2, 4, 5, 3), [nn.Conv3d(2, 3, 2), nn.AdaptiveMaxPool3d(1), nn.Flatten()]),
    "stem": ((2, 8, 7), [nn.Conv2d(2, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]),
    "even": ((2, 8, 7), [nn.Conv2d(2, 3, 2), nn.ReLU(), nn.MaxPool2d(3, 1, padding=1)]),
    "even-signed": ((2, 8, 7), [nn.Conv2d(2, 3, 2), nn.AvgPool2d(3, 1, 1)]),
    "filled": (
        (2, 9),
        [nn.Unflatten(1, (2, 9)), nn.Conv1d(2, 3, 2), nn.MaxPool1d(2, ceil_mode=True)],
    ),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools(name):
    shape, layers = POOLS[name]
    source, x = network(*layers), batch(3, *shape)
    x = x.flatten(1) if name == "filled" else x
    torch.testing.assert_close(agrees(source, x), source(x), atol=1e-6, rtol=1e-5)


REFUSED = {
    "padding": (nn.MaxPool2d(3, 2, padding=1), "padding=1", "a ReLU before it"),
    "uncounted": (nn.AvgPool2d(3, 2, 1, count_include_pad=False), "padding=1", "count_include_pad"),
    "ceil": (nn.MaxPool2d(2, ceil_mode=True), "ceil_mode=True", "any size"),
    "dilation": (nn.MaxPool2d(2, dilation=2), "dilation=2; use dilation=1"),
    "indices": (nn.MaxPool2d(2, return_indices=True), "return_indices=True"),
    "divisor": (nn.AvgPool2d(2, divisor_override=3), "divisor_override=3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_pools_without_an_exact_form(name):
    pool, *words = REFUSED[name]
    refused(UnsupportedError, lambda: xlstm.load(network(nn.Conv2d(2, 3, 2), pool)), *words)


def test_windows_that_ceil_mode_fills_up():
    layers = nn.Unflatten(1, (2, 10)), nn.Conv1d(2, 3, 2), nn.MaxPool1d(2, ceil_mode=True)
    refused(UnsupportedError, lambda: xlstm.load(network(*layers)), "along 9 places")


LAYERS = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()


def test_sizes_that_nothing_tells_are_said_in_front():
    error = refused(
        UnsupportedError,
        lambda: xlstm.load(network(*LAYERS, nn.Linear(36, 2))),
        "sizes of an input that 36 features do not determine",
        "nn.Unflatten(1, (3, 32, 32))",
    )
    assert "got do not" not in str(error)
    source, x = network(nn.Unflatten(1, (3, 8, 8)), *LAYERS, nn.Linear(36, 2)), batch(3, 192)
    torch.testing.assert_close(agrees(source, x), source(x), atol=1e-6, rtol=1e-5)
