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


def checked(state: Tensor, x: Tensor, units: int) -> Tensor:
    """`state`, if it is (batch, units); a sum would stretch another without a word."""
    wanted = [x.shape[0], units]
    if list(state.shape) != wanted:
        raise ValueError(f"state: expected shape {wanted}, got {list(state.shape)}")
    return state


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
    return build(load_file(Path(folder) / "model.safetensors"), dtype)
