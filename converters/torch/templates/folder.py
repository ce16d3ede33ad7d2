"""The base class that saves and loads a port, copied as text into emitted modules.

Its methods have the names of the Hugging Face hub. The hub's mixin replaces them where it is the
first base; it keeps `_hub_mixin_config`, and so the graph, in config.json.
"""

import inspect
import json
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from torch import nn


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
