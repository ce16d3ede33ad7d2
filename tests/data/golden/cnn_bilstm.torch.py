"""A PyTorch module ported from Keras 3.15.1.

Needs torch and safetensors. `load()` gives the model with its trained weights.
"""

import inspect
import json
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
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


def last_valid(y: Tensor, mask: Tensor, before: Tensor | None = None) -> Tensor:
    """The last output of `valid_first` steps; `before` or zeros in a row that has none."""
    count = mask.long().sum(1)
    last = y[torch.arange(mask.shape[0], device=y.device), (count - 1).clamp(min=0)]
    before = torch.zeros_like(last) if before is None else before
    empty = (count == 0).reshape([-1] + [1] * (last.dim() - 1))
    return torch.where(empty, before, last)


class MaskedBidirectionalLast(nn.Module):
    """Two layers over the same steps, the second one from the last to the first."""

    def __init__(self, forward_layer: nn.Module, backward_layer: nn.Module) -> None:
        super().__init__()
        self.forward_layer = forward_layer
        self.backward_layer = backward_layer

    def forward(self, x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The last outputs of both; `mask` says which steps count."""
        forward, _ = self.forward_layer(valid_first(x, mask))
        forward = last_valid(forward, mask)
        backward, _ = self.backward_layer(valid_first(x.flip(1), mask.flip(1)))
        backward = last_valid(backward, mask)
        return forward, backward


class Pretrained(nn.Module):
    """A module that is saved in a folder, as on the Hugging Face hub."""

    _hub_mixin_config = None

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> "Pretrained":
        """The model in `folder`, in evaluation mode, in the dtype of config.json."""
        model, config = cls(), Path(folder, "config.json").read_text("utf-8")
        model._hub_mixin_config = kept = json.loads(config)
        model.to(dtype=getattr(torch, kept["dtype"]))
        model.load_state_dict(load_file(Path(folder, "model.safetensors")))
        model.eval()  # evaluation mode: no dropout, stored statistics
        return model

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes weights, config.json and this file; the folder can be ported on."""
        code, _ = inspect.findsource(Pretrained.save_pretrained)
        beside, state = Path(__file__).with_name("config.json"), self.state_dict()
        config = self._hub_mixin_config or json.loads(beside.read_text("utf-8"))
        if dtypes := [x.dtype for x in state.values() if x.is_floating_point()]:
            dtype = str(reduce(torch.promote_types, dtypes)).removeprefix("torch.")
            config = {**config, "dtype": dtype}
        Path(folder).mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=folder) as work:
            Path(work, "model.py").write_text("".join(code), "utf-8", newline="\n")
            text = json.dumps(config, indent=1) + "\n"
            Path(work, "config.json").write_text(text, "utf-8", newline="\n")
            tensors = {n: x.cpu().contiguous().clone() for n, x in state.items()}
            weights, graph = Path(work, "model.safetensors"), {"xlstm": config["xlstm"]}
            save_file(tensors, weights, graph)
            # the library lets only the owner read a file
            weights.chmod(Path(work, "model.py").stat().st_mode)
            if Path(folder, "model.safetensors").exists():
                Path(folder, "report.json").unlink(missing_ok=True)  # of other weights
            for file in ("model.py", "config.json", "model.safetensors"):
                Path(work, file).replace(Path(folder, file))


class Model(Pretrained):
    """Embedding, 2 bidirectional LSTM, Conv1D, LSTM, Dense.

    (batch, 40), (batch, 128, 2) -> (batch, 1)
    """

    def __init__(self) -> None:
        super().__init__()
        # (batch, 40) -> (batch, 40, 16)
        self.embedding = nn.Embedding(500, 16)
        # (batch, 40, 16) -> (batch, 48)
        self.reader = MaskedBidirectionalLast(
            nn.LSTM(16, 24, batch_first=True), nn.LSTM(16, 24, batch_first=True)
        )
        # (batch, 2, 128) -> (batch, 32, 128)
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
        forward, backward = self.reader(x, mask)
        x = torch.cat([forward, backward], dim=-1)
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
    return build(load_file(Path(folder) / "model.safetensors"), dtype)
