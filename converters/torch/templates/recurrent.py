"""Own cells for PyTorch, copied as text into emitted modules; plain as a textbook.

The parameters of a cell are named and shaped as those of the native layer of its kind; its states
are (batch, hidden). An emitted class stands by itself, with the text of all that it inherits here.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, list[Tensor]]


def checked(state: Tensor, x: Tensor, units: int) -> Tensor:
    """`state`, if it is (batch, units); a sum would stretch another without a word."""
    wanted = [x.shape[0], units]
    if list(state.shape) != wanted:
        raise ValueError(f"state: expected shape {wanted}, got {list(state.shape)}")
    return state


def start(state: State | None, shapes: dict[str, list[list[int]]], x: Tensor) -> State:
    """The states that a call starts from, (batch, *shape) each: those given, or zeros."""
    batch = list(x.shape[:1])
    wanted = {name: [batch + shape for shape in own] for name, own in shapes.items()}
    if state is None:
        return {name: [x.new_zeros(s) for s in own] for name, own in wanted.items()}
    found = {name: [list(s.shape) for s in own] for name, own in state.items()}
    fits = len(found) == len(wanted)
    for name, own in wanted.items():
        fits = fits and name in found and len(found[name]) == len(own)
        for n in range(len(own) if fits else 0):
            fits = fits and found[name][n] == own[n]
    if not fits:
        raise ValueError(f"state: expected shapes {wanted}, got {found}")
    return state


def valid_first(x: Tensor, mask: Tensor) -> Tensor:
    """The steps of `x` where `mask` is True, at the front of each row; zeros behind them."""
    if mask.shape != x.shape[:2]:
        wanted, got = list(x.shape[:2]), list(mask.shape)
        raise ValueError(f"mask: expected shape {wanted}, got {got}")
    steps = x.flatten(2).flatten(0, 1)
    batch, time = mask.shape[0], mask.shape[1]
    starts = time * torch.arange(batch, device=x.device).unsqueeze(1)
    # masked steps go to a row behind all others, which is cut off
    rows = torch.where(mask, starts + mask.long().cumsum(1) - 1, batch * time)
    front = x.new_zeros(batch * time + 1, steps.shape[1])
    return front.index_copy(0, rows.flatten(), steps)[:-1].reshape(x.shape)


def repeat_last(y: Tensor, mask: Tensor) -> Tensor:
    """Outputs of `valid_first` steps, back where `mask` is True, repeated elsewhere.

    There is nothing to repeat before the first valid step: zeros.
    """
    batch, time = mask.shape[0], mask.shape[1]
    starts = (time + 1) * torch.arange(batch, device=y.device).unsqueeze(1)
    rows = starts + mask.long().cumsum(1)
    outputs = torch.cat([torch.zeros_like(y[:, :1]), y], dim=1).flatten(0, 1)
    return outputs.index_select(0, rows.flatten()).reshape(y.shape)


def last_valid(y: Tensor, mask: Tensor, before: Tensor | None = None) -> Tensor:
    """The last output of `valid_first` steps; `before` or zeros in a row that has none."""
    count = mask.long().sum(1)
    last = y[torch.arange(mask.shape[0], device=y.device), (count - 1).clamp(min=0)]
    before = torch.zeros_like(last) if before is None else before
    empty = (count == 0).reshape([-1] + [1] * (last.dim() - 1))
    return torch.where(empty, before, last)


class LSTM(nn.Module):
    """`nn.LSTM(batch_first=True)` with other activations; its parameters are the same."""

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

    def forward(
        self,
        x: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) -> (batch, time, hidden) and the last states (h, c)."""
        zeros = x.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        outputs: list[Tensor] = []
        for step in self.project(x).unbind(1):
            h, c = self.step(step, h, c)
            outputs.append(h)
        return torch.stack(outputs, dim=1), (h, c)

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, in one matrix product."""
        bias = self.bias_ih_l0
        if bias is not None and self.bias_hh_l0 is not None:
            bias = bias + self.bias_hh_l0
        return F.linear(x, self.weight_ih_l0, bias)

    def step(self, step: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The states after one step."""
        gates = torch.addmm(step, h, self.weight_hh_l0.t())
        gates = gates.view(-1, 4, self.hidden_size)
        g = self.activation(gates[:, 2])
        # one call for the three gates; what it makes of g is not used
        i, f, _, o = self.gate(gates).unbind(1)
        c = f * c + i * g
        return o * self.activation(c), c


class MaskedLSTM(LSTM):
    """An LSTM whose states a masked step leaves alone."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        mask: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) and a mask (batch, time), True where a step counts."""
        if mask.shape != x.shape[:2]:
            wanted, got = list(x.shape[:2]), list(mask.shape)
            raise ValueError(f"mask: expected shape {wanted}, got {got}")
        zeros = x.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        x = x.masked_fill(~mask.unsqueeze(2), 0.0)  # NaN would reach the gradients
        outputs: list[Tensor] = []
        for t, step in enumerate(self.project(x).unbind(1)):
            keep = mask[:, t, None]
            new_h, new_c = self.step(step, h, c)
            h, c = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
            outputs.append(h)
        # there is nothing to repeat before the first step that counts
        empty = mask.long().cumsum(1).unsqueeze(2) == 0
        return torch.stack(outputs, dim=1).masked_fill(empty, 0.0), (h, c)


class MaskedNativeLSTM(nn.LSTM):
    """`nn.LSTM(batch_first=True)` whose states a masked step leaves alone."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        mask: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) and a mask (batch, time), True where a step counts."""
        units = self.hidden_size
        zeros = x.new_zeros(1, x.shape[0], units)
        h, c = (zeros, zeros) if state is None else state
        # a feature that is 1 behind the valid steps shuts the input gate, whose sigmoid
        # is 0 there, and opens the forget gate, whose sigmoid is 1: c stays as it is
        times = torch.arange(x.shape[1], device=x.device)
        behind = (times >= mask.long().sum(1, keepdim=True)).to(x.dtype).unsqueeze(2)
        steps = torch.cat([valid_first(x, mask), behind], dim=2)
        shut, rest = x.new_full((units, 1), -3e4), x.new_zeros(2 * units, 1)
        column = torch.cat([shut, -shut, rest])
        weights = [torch.cat([self.weight_ih_l0, column], dim=1), self.weight_hh_l0]
        if self.bias:
            weights += [self.bias_ih_l0, self.bias_hh_l0]
        # has bias, layers, dropout, training, bidirectional, batch first
        options = self.bias, 1, 0.0, False, False, True
        y, _, c = torch.lstm(steps, (h, c), weights, *options)
        h = last_valid(y, mask, h.squeeze(0)).unsqueeze(0)
        return repeat_last(y, mask), (h, c)


class GRU(nn.Module):
    """`nn.GRU(batch_first=True)` with other activations; its parameters are the same."""

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
        self.weight_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(3 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None
        self.bias_hh_l0 = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state."""
        h = x.new_zeros(x.shape[0], self.hidden_size) if state is None else state
        outputs: list[Tensor] = []
        for step in self.project(x).unbind(1):
            h = self.step(step, h)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, in one matrix product."""
        steps = F.linear(x, self.weight_ih_l0, self.bias_ih_l0)
        return steps.unflatten(2, (3, self.hidden_size))

    def step(self, step: Tensor, h: Tensor) -> Tensor:
        """The state after one step."""
        hidden = F.linear(h, self.weight_hh_l0, self.bias_hh_l0)
        hidden = hidden.view(-1, 3, self.hidden_size)
        r, z = self.gate(step[:, :2] + hidden[:, :2]).unbind(1)
        n = self.activation(step[:, 2] + r * hidden[:, 2])
        return torch.lerp(n, h, z)  # (1 - z) * n + z * h


class GRUResetBefore(GRU):
    """`nn.GRU(batch_first=True)` that resets h, not its product; parameters are the same."""

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, in one matrix product."""
        bias = self.bias_ih_l0
        if bias is not None and self.bias_hh_l0 is not None:
            bias = bias + self.bias_hh_l0
        steps = F.linear(x, self.weight_ih_l0, bias)
        return steps.unflatten(2, (3, self.hidden_size))

    def step(self, step: Tensor, h: Tensor) -> Tensor:
        """The state after one step."""
        units = self.hidden_size
        gates, candidate = self.weight_hh_l0.t().split([2 * units, units], dim=1)
        r, z = self.gate(step[:, :2] + (h @ gates).view(-1, 2, units)).unbind(1)
        n = self.activation(torch.addmm(step[:, 2], r * h, candidate))
        return torch.lerp(n, h, z)  # (1 - z) * n + z * h


class RNN(nn.Module):
    """`nn.RNN(batch_first=True)` with another activation; its parameters are the same."""

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

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state."""
        h = x.new_zeros(x.shape[0], self.hidden_size) if state is None else state
        outputs: list[Tensor] = []
        for step in self.project(x).unbind(1):
            h = self.step(step, h)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, in one matrix product."""
        bias = self.bias_ih_l0
        if bias is not None and self.bias_hh_l0 is not None:
            bias = bias + self.bias_hh_l0
        return F.linear(x, self.weight_ih_l0, bias)

    def step(self, step: Tensor, h: Tensor) -> Tensor:
        """The state after one step."""
        return self.activation(torch.addmm(step, h, self.weight_hh_l0.t()))
