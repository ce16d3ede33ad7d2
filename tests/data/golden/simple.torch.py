"""A PyTorch module ported from Keras 3.15.1.

Needs torch and safetensors. `load()` gives the model with its trained weights.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


class Model(nn.Module):
    """LSTM, Dense.

    (batch, time, 1) -> (batch, 1)
    """

    def __init__(self) -> None:
        super().__init__()
        # (batch, time, 1) -> (batch, 20)
        self.lstm = nn.LSTM(1, 20, batch_first=True)
        # (batch, 20) -> (batch, 1)
        self.forecast = nn.Linear(20, 1)

    def forward(self, x: Tensor) -> Tensor:
        """One output for a batch of inputs (batch, time, 1)."""
        torch._assert(
            x.dim() == 3, f"x: expected shape (batch, time, 1), got {x.dim()} axes"
        )
        x, _ = self.lstm(x)
        x = x[:, -1]
        x = self.forecast(x)
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
