"""Own cells and functions for PyTorch, copied as text into emitted modules; plain as a textbook."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def linear(x: Tensor) -> Tensor:
    """X itself."""
    return x


def softmax(x: Tensor) -> Tensor:
    """Softmax over the last axis."""
    return torch.softmax(x, dim=-1)


def hard_sigmoid_keras2(x: Tensor) -> Tensor:
    """clip(0.2 x + 0.5, 0, 1), the hard_sigmoid of Keras 1 and 2."""
    return torch.clamp(0.2 * x + 0.5, 0.0, 1.0)


class LSTM(nn.Module):
    """`nn.LSTM(batch_first=True)` with other activations; parameters and results alike."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        gate: Callable[[Tensor], Tensor] = torch.sigmoid,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.activation = activation
        self.gate = gate
        self.weight_ih_l0 = nn.Parameter(torch.zeros(4 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(4 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(4 * hidden_size)) if bias else None
        self.bias_hh_l0 = nn.Parameter(torch.zeros(4 * hidden_size)) if bias else None

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) -> (batch, time, hidden) and the last states (h, c)."""
        h = c = x.new_zeros(x.shape[0], self.hidden_size)
        outputs: list[Tensor] = []
        # the input's part of every step in one matrix product
        for step in F.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(1):
            step = step + F.linear(h, self.weight_hh_l0, self.bias_hh_l0)
            i, f, g, o = step.chunk(4, dim=1)
            c = self.gate(f) * c + self.gate(i) * self.activation(g)
            h = self.gate(o) * self.activation(c)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)


class RNN(nn.Module):
    """`nn.RNN(batch_first=True)` with another activation; parameters and results alike."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: Callable[[Tensor], Tensor],
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.activation = activation
        self.weight_ih_l0 = nn.Parameter(torch.zeros(hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(hidden_size)) if bias else None
        self.bias_hh_l0 = nn.Parameter(torch.zeros(hidden_size)) if bias else None

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state h."""
        h = x.new_zeros(x.shape[0], self.hidden_size)
        outputs: list[Tensor] = []
        # the input's part of every step in one matrix product
        for step in F.linear(x, self.weight_ih_l0, self.bias_ih_l0).unbind(1):
            h = self.activation(step + F.linear(h, self.weight_hh_l0, self.bias_hh_l0))
            outputs.append(h)
        return torch.stack(outputs, dim=1), h
