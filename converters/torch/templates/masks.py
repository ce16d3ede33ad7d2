"""Masks around native layers, copied as text into emitted modules.

A mask holds the state, so a layer runs over the valid steps alone, moved to the front. Nothing
here branches on data: one trace or export serves every mask.
"""

import torch
from torch import Tensor, nn


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
        options = self.bias, 1, 0.0, self.training, False, True
        y, _, c = torch.lstm(steps, (h, c), weights, *options)
        h = last_valid(y, mask, h.squeeze(0)).unsqueeze(0)
        return repeat_last(y, mask), (h, c)
