"""Wrong source: a word of the emitted module replaced, as somebody might mistype it."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any, NamedTuple

import torch

from mutators.causes import CAUSES
from mutators.mutant import Mutant, Port
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model
from xlstm.ir.graph import Model


class Word(NamedTuple):
    """Text to be replaced, what by, and the kind of error that this makes."""

    kind: str
    old: str
    new: str


WORDS = (
    Word("batch_first", ", batch_first=True", ", batch_first=False"),
    Word("activation", "activation=torch.relu", "activation=torch.tanh"),
    Word("activation", "x = torch.relu(", "x = torch.tanh("),
    Word("activation", "x = torch.sigmoid(", "x = torch.tanh("),
    Word("softmax axis", "(x), dim=-1)", "(x), dim=0)"),
    Word("activation", "torch.mul(o, activation(new_c), ", "torch.mul(o, new_c, "),
    Word("activation", 'nonlinearity="relu"', 'nonlinearity="tanh"'),
    Word("hard_sigmoid", "gate=unit_clip, slope=0.2, offset=0.5", "gate=F.hardsigmoid"),
    Word("hard_sigmoid", "gate=F.hardsigmoid", "gate=lambda x: torch.clamp(0.2 * x + 0.5, 0, 1)"),
    Word("hard_sigmoid", "gate=F.hardsigmoid", "gate=torch.sigmoid"),
    Word(
        "hard_sigmoid without its clip",
        "return torch.clamp(x, 0.0, 1.0)",
        "return x",
    ),
    Word(
        "reset_after",
        "n.addmm_(r * h, candidate)",
        "n.add_(r * (h @ candidate))",
    ),
    Word("gates permuted", "o, i, f = ", "o, f, i = "),
    Word("gates permuted", "o, i, f = ", "f, i, o = "),
    Word("gates permuted", "r, z = ", "z, r = "),
    Word("BatchNorm or LayerNorm eps", "eps=0.001", "eps=1e-05"),
    Word("BatchNorm momentum", "momentum=0.01", "momentum=0.99"),
    Word("BatchNorm mode", "return model.eval()", "return model.train()"),
    Word("dropout left on", "return model.eval()", "return model.train()"),
    Word("LeakyReLU slope", "leaky_relu(x, 0.3)", "leaky_relu(x, 0.01)"),
    Word("merge mode", "forward + backward", "forward * backward"),
    Word("merge mode", "forward * backward", "forward + backward"),
    Word("merge mode", "(h[0] + h[1]) / 2", "h[0] + h[1]"),
    Word("half reversed", "backward.flip(1)", "backward"),
    Word("half reversed", "(x.flip(1)", "(x"),
    Word(
        "halves swapped",
        "torch.cat([forward, backward], dim=-1)",
        "torch.cat([backward, forward], dim=-1)",
    ),
    Word("mask ignored", "mask = (x != 0.0).any(dim=-1)", "mask = (x == x).any(dim=-1)"),
    Word("mask ignored", "mask = x != 0\n", "mask = x == x\n"),
    Word(
        "mask zeroed",
        "x = repeat_last(x, mask)",
        "x = repeat_last(x, mask) * mask.unsqueeze(2)",
    ),
    Word("channels order", "x = x.flatten(1)", "x = x.movedim(-1, 1).flatten(1)"),
    Word("direction", "x.flip(1)", "x"),
)
"""What is replaced; a source that does not hold the text has no such mutant."""


def _training(word: Word, text: str) -> bool:
    """Whether leaving training on changes this source in the way that the kind says."""
    norm, drop = "nn.BatchNorm" in text, "nn.Dropout" in text
    return {"BatchNorm mode": norm, "dropout left on": drop and not norm}.get(word.kind, True)


def source_of(text: str) -> ModuleType:
    """A module of this text; it is not registered anywhere."""
    made = ModuleType("mutant")
    made.__file__ = "mutant.py"
    exec(compile(text, "mutant.py", "exec"), made.__dict__)
    return made


def port_of(model: Model, text: str) -> Port:
    """The port that a source text makes with the model's right weights."""
    adapter = registry.adapter("torch")

    def port(dtype: str) -> Any:
        weights = pack_model(model.astype(dtype), adapter)
        torch.manual_seed(0)
        live: Any = adapter.live()
        return live.build(source_of(text), weights, dtype)

    return port


def texts(model: Model) -> Iterator[Mutant]:
    """Our port of a model with one word of its source replaced."""
    emit = registry.adapter("torch").emit
    text = emit(model) if emit else ""
    for word in WORDS:
        if word.old not in text or not _training(word, text):
            continue
        changed = text.replace(word.old, word.new)
        yield Mutant(
            word.kind,
            f"source: {word.old} -> {word.new}",
            model,
            port_of(model, changed),
            port_of(model, text),
            causes=CAUSES[word.kind],
        )
