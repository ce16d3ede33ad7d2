"""A PyTorch module ported from Keras 3.15.1.

Needs torch and safetensors. `load()` gives the model with its trained weights.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn


def checked(state: Tensor, x: Tensor, units: int) -> Tensor:
    """`state`, if it is (batch, units); a sum would stretch another without a word."""
    wanted = [x.shape[0], units]
    if list(state.shape) != wanted:
        raise ValueError(f"state: expected shape {wanted}, got {list(state.shape)}")
    return state


class Model(nn.Module):
    """2 LSTM, Dense.

    (batch, time, 71), (batch, time, 93) -> (batch, time, 93), (batch, 64), (batch, 64)
    """

    def __init__(self) -> None:
        super().__init__()
        # (batch, time, 71) -> (batch, 64)
        self.encoder = nn.LSTM(71, 64, batch_first=True)
        # (batch, time, 93) -> (batch, time, 64)
        self.decoder = nn.LSTM(93, 64, batch_first=True)
        # (batch, time, 64) -> (batch, time, 93)
        self.characters = nn.Linear(64, 93)

    def forward(self, english: Tensor, french: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The outputs for a batch of inputs."""
        torch._assert(
            english.dim() == 3,
            f"english: expected shape (batch, time, 71), got {english.dim()} axes",
        )
        torch._assert(
            french.dim() == 3,
            f"french: expected shape (batch, time, 93), got {french.dim()} axes",
        )
        _, (h, c) = self.encoder(english)
        h = h.squeeze(0)
        c = c.squeeze(0)
        h = checked(h, french, 64)
        c = checked(c, french, 64)
        x, (h, c) = self.decoder(french, (h.unsqueeze(0), c.unsqueeze(0)))
        h = h.squeeze(0)
        c = c.squeeze(0)
        characters = torch.softmax(self.characters(x), dim=-1)
        return characters, h, c


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
