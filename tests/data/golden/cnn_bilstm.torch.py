"""A PyTorch module ported from Keras 3.15.1.

Needs torch and safetensors. `load()` gives the model with its trained weights.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F


class MaskedLSTM(nn.Module):
    """An LSTM whose states a masked step leaves alone."""

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
        mask: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) and a mask (batch, time), True where a step counts."""
        if mask.shape != x.shape[:2]:
            wanted, got = list(x.shape[:2]), list(mask.shape)
            raise ValueError(f"mask: expected shape {wanted}, got {got}")
        zeros = x.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        outputs: list[Tensor] = []
        for t, step in enumerate(self.project(x).unbind(1)):
            keep = mask[:, t, None]
            new_h, new_c = self.step(step, h, c)
            h, c = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
            outputs.append(h)
        # there is nothing to repeat before the first step that counts
        empty = mask.long().cumsum(1).unsqueeze(2) == 0
        return torch.stack(outputs, dim=1).masked_fill(empty, 0.0), (h, c)

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


class Model(nn.Module):
    """Embedding, 2 bidirectional LSTM, Conv1D, LSTM, Dense.

    (batch, 40), (batch, 128, 2) -> (batch, 1)
    """

    def __init__(self) -> None:
        super().__init__()
        # (batch, 40) -> (batch, 40, 16)
        self.embedding = nn.Embedding(500, 16)
        # (batch, 40, 16) -> (batch, 48)
        self.reader = nn.ModuleDict(
            {
                # nn.LSTM knows no masks
                "forward_layer": MaskedLSTM(16, 24),
                "backward_layer": MaskedLSTM(16, 24),
            }
        )
        # (batch, 128, 2) -> (batch, 32, 128)
        self.conv = nn.Conv1d(2, 32, 5, padding="same")
        # (batch, 32, 128) -> (batch, 32, 32)
        self.pool = nn.MaxPool1d(4)
        # (batch, 32, 32) -> (batch, 32, 48)
        self.bilstm = nn.LSTM(32, 24, batch_first=True, bidirectional=True)
        # (batch, 32, 48) -> (batch, 32, 48)
        self.dropout = nn.Dropout(0.3)
        # (batch, 32, 48) -> (batch, 12)
        self.last = nn.LSTM(48, 12, batch_first=True)
        # (batch, 60) -> (batch, 1)
        self.label = nn.Linear(60, 1)

    def forward(self, words: Tensor, curve: Tensor) -> Tensor:
        """One output for a batch of inputs."""
        torch._assert(
            words.dim() == 2,
            f"words: expected shape (batch, 40), got {words.dim()} axes",
        )
        torch._assert(
            curve.dim() == 3,
            f"curve: expected shape (batch, 128, 2), got {curve.dim()} axes",
        )
        mask = words != 0
        x = self.embedding(words.long())
        both = self.reader
        forward, _ = both["forward_layer"](x, mask)
        backward, _ = both["backward_layer"](x.flip(1), mask.flip(1))
        x = torch.cat([forward[:, -1], backward[:, -1]], dim=-1)
        conv = torch.relu(self.conv(curve.transpose(1, 2)))
        pool = self.pool(conv).transpose(1, 2)
        bilstm, _ = self.bilstm(pool)
        dropout = self.dropout(bilstm)
        last, _ = self.last(dropout)
        last = last[:, -1]
        x = torch.cat([x, last], dim=-1)
        x = torch.sigmoid(self.label(x))
        return x


def build(weights: Mapping[str, Tensor], dtype: torch.dtype = torch.float32) -> Model:
    """The model with these weights, by name, in evaluation mode."""
    model = Model().to(dtype)
    model.load_state_dict(weights)
    return model.eval()


def load(
    folder: str | Path = Path(__file__).parent, dtype: torch.dtype = torch.float32
) -> Model:
    """The model with the trained weights that lie in `folder`."""
    return build(load_file(Path(folder) / "weights.safetensors"), dtype)
