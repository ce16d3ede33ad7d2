"""Hand-written ports, kept as texts in `texts/`, and the Keras models that they port.

A text has two parts, divided by `# --- port ---`. The first makes the Keras model (`truth`), and
its inputs where they are not normal numbers (`inputs`). The second is what somebody wrote by hand:
`port` takes the weights of every layer, as Keras's `get_weights` gives them; it gives the suspect.

A comment `#: NAME, ...` at the end of a line names the Keras layers that a mistake in this line
concerns, and in those below it up to the next such comment. They are cut off before the code runs.

>>> program("torch_no_bias").layers_at("        k, r = w")
('lstm',)
"""

from __future__ import annotations

import functools
import linecache
import re
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

FOLDER = Path(__file__).parent / "texts"
BORDER = "# --- port ---\n"
MARK = re.compile(r"[ ]*#: (?P<layers>[\w, ]+)$", re.MULTILINE)
TOLERANCE = 1e-5
"""Largest difference of a right port: two float32 programs that round in other places."""

Arrays = list[np.ndarray]


@dataclass(frozen=True)
class Program:
    """One right port: the text that makes the Keras model, and the text of the port."""

    name: str
    truth: str
    port: str

    def layers_at(self, found: str | int) -> tuple[str, ...]:
        """Names of the Keras layers that the line at an offset, or with a text, concerns."""
        at = self.port.index(found) if isinstance(found, str) else found
        end = self.port.index("\n", at)
        marks = MARK.findall(self.port[:end])
        return tuple(marks[-1].split(", ")) if marks else ()


@functools.cache
def program(name: str) -> Program:
    """Reads one program by its name."""
    truth, port = (FOLDER / f"{name}.txt").read_text(encoding="utf-8").split(BORDER)
    return Program(name, truth, port)


def names() -> tuple[str, ...]:
    """Names of all programs, sorted."""
    return tuple(sorted(path.stem for path in FOLDER.glob("*.txt")))


class Truth:
    """The Keras model of one program, built once, for any number of sets of weights."""

    def __init__(self, source: Program):
        space = execute(source.truth, f"truth_of_{source.name}")
        self.model = space["truth"]()
        self.inputs_of: Callable[[Any, int], Any] = space.get("inputs", self.normal)

    @property
    def input_names(self) -> tuple[str, ...]:
        """Names of the model's inputs."""
        return tuple(tensor.name for tensor in self.model.inputs)

    def normal(self, rng: np.random.Generator, samples: int) -> Arrays:
        """Normal numbers for each input of the model."""
        shapes = [(samples, *tensor.shape[1:]) for tensor in self.model.inputs]
        return [rng.normal(size=shape).astype("float32") for shape in shapes]

    def inputs(self, seed: int, samples: int) -> Arrays:
        """Seeded arrays, one per input, the first axis `samples` long."""
        made = self.inputs_of(np.random.default_rng([seed, samples]), samples)
        return made if isinstance(made, list) else [made]

    def set_weights(self, seed: int) -> dict[str, Arrays]:
        """Gives the model weights of trained size, and returns them by layer."""
        rng = np.random.default_rng(seed)
        self.model.set_weights([trained(rng, v.path, v.shape) for v in self.model.weights])
        layers = (layer for layer in self.model.layers if layer.weights)
        return {layer.name: layer.get_weights() for layer in layers}

    def outputs(self, inputs: Arrays) -> Arrays:
        """Runs the Keras model."""
        return listed(self.model(inputs if len(inputs) > 1 else inputs[0]))


@functools.cache
def truth(name: str) -> Truth:
    """The Keras model of one program; every call returns the same."""
    return Truth(program(name))


def trained(rng: np.random.Generator, path: str, shape: tuple[int, ...]) -> np.ndarray:
    """Random weights of the size that training leaves, biases not zero; float32."""
    kind = path.rsplit("/", 1)[-1]
    drawn = rng.normal(size=shape)
    if "variance" in kind:
        drawn = 0.3 * np.abs(drawn) + 0.02
    elif kind == "gamma":
        drawn = 1 + 0.4 * drawn
    elif kind == "bias" or len(shape) == 1:
        drawn = 0.5 * drawn
    elif kind != "embeddings":
        fan_in = shape[0] if len(shape) == 2 else int(np.prod(shape[:-1]))
        drawn = drawn * min(1.2, 1.6 / fan_in**0.5)
    return drawn.astype("float32")


def execute(text: str, name: str) -> dict[str, Any]:
    """Runs a text as a module of that name, whose source Python's tools find; returns its names."""
    text = MARK.sub("", text)
    module = types.ModuleType(name)
    module.__file__ = f"<{name}>"
    linecache.cache[module.__file__] = (len(text), None, text.splitlines(keepends=True), name)
    sys.modules[name] = module
    exec(compile(text, module.__file__, "exec"), module.__dict__)
    return module.__dict__


def suspect(port: str, weights: dict[str, Arrays], name: str = "hand_port") -> Any:
    """Runs the text of a port, and gives it copies of the weights; what is not loaded is seeded."""
    if "torch" in port:
        import torch

        torch.manual_seed(0)
    return execute(port, name)["port"]({k: [a.copy() for a in w] for k, w in weights.items()})


def run(model: Any, inputs: Arrays) -> Arrays:
    """Runs a suspect on numpy arrays; returns its outputs as numpy arrays.

    A suspect is a PyTorch or NNX module, a pair of a Linen module and its variables, or a function.
    """
    if isinstance(model, tuple):
        module, variables = model
        return listed(module.apply(variables, *inputs))
    if not hasattr(model, "named_parameters"):
        return listed(model(*inputs))
    import torch

    with torch.no_grad():
        return listed(model(*(torch.from_numpy(a) for a in inputs)))


def listed(outputs: Any) -> Arrays:
    """Turns one output or several into a list of numpy arrays."""
    several = outputs if isinstance(outputs, list | tuple) else [outputs]
    return [np.asarray(a) for a in several]


def difference(expected: Arrays, got: Arrays) -> float:
    """Largest difference, as a share of the expected numbers where those are above 1.

    Other shapes, another number of outputs and NaN differ infinitely.
    """
    if [a.shape for a in expected] != [a.shape for a in got]:
        return float("inf")
    gaps = [
        np.abs(a.astype(float) - b) / max(1.0, np.abs(a).max())
        for a, b in zip(expected, got, strict=True)
    ]
    largest = max(float(gap.max()) for gap in gaps)
    return largest if np.isfinite(largest) else float("inf")
