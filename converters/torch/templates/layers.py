"""Layers and functions that PyTorch has not, copied as text into emitted modules."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def pad_same(
    x: Tensor,
    window: list[int],
    strides: list[int],
    dilation: list[int],
    value: float = 0.0,
) -> Tensor:
    """(batch, channels, *space) padded so that ceil(size / stride) windows fit."""
    pads: list[int] = []
    for axis in range(len(window) - 1, -1, -1):
        reach = (window[axis] - 1) * dilation[axis] + 1
        left_over = -x.shape[axis + 2] % strides[axis]
        total = max(reach - strides[axis] + left_over, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def fitting(mask: Tensor, x: Tensor) -> Tensor:
    """`mask`, if it is (batch, time) as `x` is; a product would stretch another."""
    if mask.shape != x.shape[:-1]:
        wanted, got = list(x.shape[:-1]), list(mask.shape)
        raise ValueError(f"mask: expected shape {wanted}, got {got}")
    return mask


class PReLU(nn.Module):
    """Slopes of their own below zero; `weight` has the shape of a sample, or 1 to share."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full(shape, 0.25))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, *shape) -> (batch, *shape)."""
        return torch.where(x >= 0, x, self.weight * x)


class Normalization(nn.Module):
    """(x - mean) / standard deviation along the last axis, with numbers kept from data."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.mean = nn.Buffer(torch.zeros(features))
        self.variance = nn.Buffer(torch.ones(features))

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) -> (..., features)."""
        return (x - self.mean) / self.variance.sqrt().clamp(min=1e-7)


class Denormalization(Normalization):
    """mean + x * standard deviation along the last axis, with numbers kept from data."""

    def forward(self, x: Tensor) -> Tensor:
        """(..., features) -> (..., features)."""
        return self.mean + x * self.variance.sqrt().clamp(min=1e-7)


class GaussianNoise(nn.Module):
    """Adds normal numbers in training."""

    def __init__(self, stddev: float) -> None:
        super().__init__()
        self.stddev = stddev

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training:
            return x
        return x + self.stddev * torch.randn_like(x)


class GaussianDropout(nn.Module):
    """Multiplies by normal numbers of mean 1 in training."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.stddev = (rate / (1 - rate)) ** 0.5

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        if not self.training:
            return x
        return x * (1 + self.stddev * torch.randn_like(x))


class DotScores(nn.Module):
    """Scores of queries and keys: their product times a number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """(batch, queries, size), (batch, keys, size) -> (batch, queries, keys)."""
        return query @ key.transpose(1, 2) * self.scale


class ConcatScores(nn.Module):
    """Scores of queries and keys, by the tanh of their sum."""

    def __init__(self) -> None:
        super().__init__()
        self.attention_scale = nn.Parameter(torch.ones(()))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """(batch, queries, size), (batch, keys, size) -> (batch, queries, keys)."""
        pairs = query.unsqueeze(2) + key.unsqueeze(1)
        return self.attention_scale * torch.tanh(pairs).sum(dim=-1)


class ScaledConcatScores(nn.Module):
    """Scores of queries and keys, by the tanh of their scaled sum."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))
        self.attention_scale = nn.Parameter(torch.ones(()))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """(batch, queries, size), (batch, keys, size) -> (batch, queries, keys)."""
        pairs = query.unsqueeze(2) + key.unsqueeze(1)
        return self.attention_scale * torch.tanh(self.scale * pairs).sum(dim=-1)


class AdditiveScores(nn.Module):
    """Scores of queries and keys (Bahdanau et al. 2015)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(features))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """(batch, queries, size), (batch, keys, size) -> (batch, queries, keys)."""
        pairs = query.unsqueeze(2) + key.unsqueeze(1)
        return torch.tanh(pairs) @ self.scale


class ConvLSTM(nn.Module):
    """An LSTM whose products are convolutions (Shi et al. 2015), channels last."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        window: tuple[int, int],
        *,
        strides: tuple[int, int],
        same: bool,
        dilation: tuple[int, int],
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        gate: Callable[[Tensor], Tensor] = torch.sigmoid,
        forget_offset: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.window = list(window)
        self.strides = list(strides)
        self.same = same
        self.dilation = list(dilation)
        self.ones = [1] * len(window)
        self.activation = activation
        self.gate = gate
        self.forget_offset = forget_offset
        self.conv_ih = nn.Conv2d(
            input_size, 4 * hidden_size, window, strides, dilation=dilation, bias=bias
        )
        self.conv_hh = nn.Conv2d(hidden_size, 4 * hidden_size, window, bias=False)

    def forward(
        self,
        x: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, *space, input) -> (batch, time, *space, hidden) and (h, c)."""
        steps = self.project(x)
        h, c = self.start(steps[:, 0], state)
        outputs: list[Tensor] = []
        for step in steps.unbind(1):
            h, c = self.step(step, h, c)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)

    def start(
        self,
        step: Tensor,
        state: tuple[Tensor, Tensor] | None,
    ) -> tuple[Tensor, Tensor]:
        """The states to start from: those given, or zeros."""
        zeros = torch.zeros_like(step[..., : self.hidden_size])
        h, c = (zeros, zeros) if state is None else state
        if h.shape != zeros.shape or c.shape != zeros.shape:
            wanted, got = list(zeros.shape), [list(h.shape), list(c.shape)]
            raise ValueError(f"state: expected shape {wanted} twice, got {got}")
        return h, c

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, in one convolution."""
        flat = x.flatten(0, 1).movedim(3, 1)
        if self.same:
            flat = pad_same(flat, self.window, self.strides, self.dilation)
        flat = self.conv_ih(flat).movedim(1, 3)
        return flat.reshape(x.shape[:2] + flat.shape[1:])

    def step(self, step: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The states after one step."""
        around = pad_same(h.movedim(3, 1), self.window, self.ones, self.ones)
        gates = step + self.conv_hh(around).movedim(1, 3)
        i, f, g, o = gates.chunk(4, dim=-1)
        f = self.gate(f + self.forget_offset)
        c = f * c + self.gate(i) * self.activation(g)
        return self.gate(o) * self.activation(c), c


class MaskedConvLSTM(ConvLSTM):
    """A ConvLSTM whose states a masked step leaves alone."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        mask: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """As without a mask, (batch, time), which is True where a step counts."""
        if mask.shape != x.shape[:2]:
            wanted, got = list(x.shape[:2]), list(mask.shape)
            raise ValueError(f"mask: expected shape {wanted}, got {got}")
        counts = mask.reshape(list(mask.shape) + [1] * (x.dim() - 2))
        # NaN would reach the gradients
        steps = self.project(x.masked_fill(~counts, 0.0))
        h, c = self.start(steps[:, 0], state)
        outputs: list[Tensor] = []
        for t, step in enumerate(steps.unbind(1)):
            keep = mask[:, t].reshape([-1] + [1] * (h.dim() - 1))
            new_h, new_c = self.step(step, h, c)
            h, c = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
            outputs.append(h)
        # there is nothing to repeat before the first step that counts
        empty = mask.long().cumsum(1) == 0
        empty = empty.reshape(list(mask.shape) + [1] * (h.dim() - 1))
        return torch.stack(outputs, dim=1).masked_fill(empty, 0.0), (h, c)


class Bidirectional(nn.Module):
    """Two layers over the same steps, the second one from the last to the first."""

    def __init__(self, forward_layer: nn.Module, backward_layer: nn.Module) -> None:
        super().__init__()
        self.forward_layer = forward_layer
        self.backward_layer = backward_layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Outputs of both, along the steps of `x`."""
        forward, _ = self.forward_layer(x)
        backward, _ = self.backward_layer(x.flip(1))
        return forward, backward.flip(1)
