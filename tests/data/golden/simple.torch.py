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
    return build(load_file(Path(folder) / "model.safetensors"), dtype)
