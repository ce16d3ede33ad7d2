"""Views of batch and steps end to end, sizes unpacked, and states as one tensor, by torch.fx."""

import pytest
import torch
from refusing import refused
from test_torch_fx_states import agrees, batch
from torch import nn
from torch.nn import functional as F

import xlstm
from xlstm.errors import UnsupportedError

TWO = {"num_layers": 2, "bidirectional": True}


class Views(nn.Module):
    """An LSTM, a dense layer, and a forward that a test gives."""

    def __init__(self, forward, width=4, more=None, **options):
        super().__init__()
        torch.manual_seed(6)
        self.lstm, self.dense = nn.LSTM(3, 4, batch_first=True, **options), nn.Linear(width, 3)
        self.more = more or nn.Identity()
        self.steps = forward
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        self.eval()

    def forward(self, x):
        return self.steps(self, x)


def apart(m, x):
    b, s, _ = x.shape
    return m.dense(m.lstm(x)[0].reshape(b * s, -1)).view(b, s, -1)


def guessed(m, x):
    y = m.more(F.relu(m.lstm(x)[0].contiguous().view(-1, 4)) * 2)
    return torch.softmax(m.dense(y), dim=1).view(x.size(0), -1, 3)


def sized(m, x):
    y = m.lstm(x)[0]
    laid = y.reshape(y.size(0) * y.size(1), y.size(2))
    return m.dense(m.more(laid) + laid).view(-1, y.size(1), 3)


def before(m, x):
    b, s, f = x.shape
    return m.lstm(torch.tanh(m.dense(x.view(b * s, f))).view(b, s, 3))[0]


def picked(m, x):
    h = m.lstm(x)[1][0].view(2, 2, x.size(0), 4)[-1]
    return m.dense(torch.cat([h[0], h[1]], 1))


class Video(nn.Module):
    """Frames through windows, every step by itself."""

    def __init__(self, end):
        super().__init__()
        torch.manual_seed(7)
        norm = nn.BatchNorm2d(3)
        self.frames = nn.Sequential(nn.Conv2d(2, 3, (2, 3), padding=1), norm, nn.ReLU())
        self.pool, self.end = nn.MaxPool2d(3, 2, padding=1), end
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.5)
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        self.eval()

    def forward(self, x):
        b, t, c, h, w = x.shape
        return self.lstm(self.end(self.pool(self.frames(x.view(b * t, c, h, w)))).view(b, t, -1))[0]


class Turned(Video):
    """Frames on their side, which a view does not do."""

    def forward(self, x):
        b, t, c, h, w = x.shape
        return self.lstm(self.end(self.pool(self.frames(x.view(b * t, c, w, h)))).view(b, t, -1))[0]


class Mean(nn.Module):
    """Over the places of a frame."""

    def forward(self, x):
        return x.mean(dim=(2, 3))


class Flat(nn.Module):
    """A pooling, and its axes laid end to end by the batch's size."""

    def forward(self, x):
        y = F.adaptive_avg_pool2d(x, 1)
        return y.view(y.size(0), -1)


ENDS = {"pool": nn.Sequential(nn.AdaptiveMaxPool2d(1), nn.Flatten()), "mean": Mean()}
ENDS |= {"flat": nn.Sequential(nn.AdaptiveAvgPool2d(1), Flat())}


@pytest.mark.parametrize("name", ENDS)
def test_frames_of_videos(name):
    source, x = Video(ENDS[name]), batch(2, 4, 2, 6, 7)
    torch.testing.assert_close(agrees(source, x), source(x), atol=1e-6, rtol=1e-5)
    kinds = [node.spec.kind for node in xlstm.load(source).layers]
    assert kinds.count("TimeDistributed") >= 3


def test_frames_in_another_order_are_refused():
    words = "two sizes that are not known, in another order", "view it as"
    refused(UnsupportedError, lambda: xlstm.load(Turned(ENDS["pool"])), *words)


GOOD = {
    "apart": (apart, {}),
    "guessed": (guessed, {"more": nn.LayerNorm(4)}),
    "sized": (sized, {"more": nn.BatchNorm1d(4)}),
    "before": (before, {"width": 3}),
    "permuted": (
        lambda m, x: m.dense(m.lstm(x)[1][0].permute(1, 0, 2).reshape(x.size(0), -1)),
        {"width": 8, "num_layers": 2},
    ),
    "transposed": (
        lambda m, x: m.dense(m.lstm(x)[1][1].transpose(0, 1).reshape(x.shape[0], -1)),
        {"width": 16, **TWO},
    ),
    "picked": (picked, {"width": 8, **TWO}),
    "one": (lambda m, x: m.dense(m.lstm(x)[1][0].view(-1, 4)), {}),
    "some": (
        lambda m, x: m.dense(m.lstm(x)[1][0][-2:].transpose(0, 1).flatten(1)),
        {"width": 8, **TWO},
    ),
    "all": (lambda m, x: m.dense(m.lstm(x)[1][0]).transpose(0, 1), {"num_layers": 2}),
}


@pytest.mark.parametrize("name", GOOD)
def test_views(name):
    forward, options = GOOD[name]
    source, x = Views(forward, **options), batch(3, 6, 3)
    for norm in source.modules():
        if isinstance(norm, nn.BatchNorm1d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
    torch.testing.assert_close(agrees(source, x), source(x), atol=1e-6, rtol=1e-5)


def test_axes_that_come_apart_again_are_never_joined():
    kinds = [node.spec.kind for node in xlstm.load(Views(apart)).layers]
    assert kinds == ["LSTM", "Dense"]


def mixed(m, x):
    b, s, _ = x.shape
    return m.dense(m.lstm(x)[0].reshape(s * b, -1)).view(b, s, -1)


def swapped(m, x):
    b, s, _ = x.shape
    return m.dense(m.lstm(x)[0].reshape(b * s, -1)).view(s, b, -1)


def left(m, x):
    return m.dense(m.lstm(x)[0].reshape(-1, 4))


def averaged(m, x):
    return m.dense(m.lstm(x)[0].reshape(-1, 4)).mean(0)


def recurred(m, x):
    b, s, f = x.shape
    return m.dense(m.lstm(m.lstm(x)[0][..., :3].reshape(b * s, 1, f))[0]).view(b, s, -1)


BAD = {
    "mixed": (mixed, {}, "no product of the first sizes"),
    "swapped": (swapped, {}, "takes batch and steps apart in another way"),
    "left": (left, {}, "steps and batch end to end as an output", "again"),
    "averaged": (averaged, {}, "mean over batch and steps end to end"),
    "recurred": (recurred, {}, "LSTM over batch and steps end to end"),
    "layers-mixed": (
        lambda m, x: m.dense(m.lstm(x)[1][0].reshape(x.size(0), -1)),
        {"width": 8, "num_layers": 2},
        "the batch not first",
        "permute it to the front",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_views_that_mix_are_refused(name):
    forward, options, *words = BAD[name]
    refused(UnsupportedError, lambda: xlstm.load(Views(forward, **options)), *words)
