"""Which local variable each tensor of a model goes by in the emitted forward pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xlstm.identifiers import identifiers
from xlstm.model import (
    Bidirectional,
    Custom,
    Edge,
    Embedding,
    Masking,
    Model,
    Node,
    Recurrent,
    Spec,
    TimeDistributed,
)
from xlstm.specs.custom import inside

TAKEN = frozenset(
    """
    F after before carry checked fitting pad_same start_shapes
    inputs jax jnp keras lax linen math nn nnx np start state torch
    train bidirectional unit both_ways Any Callable Iterable Iterator Mapping Path State partial
    celu exponential gelu gelu_tanh hard_shrink hard_sigmoid_keras2 hard_silu hard_tanh leaky_relu
    linear log_sigmoid log_softmax mish relu6 silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus tanh_shrink leaky_relu_01 zeros
    """.split()
)
"""Names that emitted modules use for something else."""


@dataclass(frozen=True)
class Site:
    """One node's place in the emitted forward pass: the variables that it reads and writes.

    Attributes:
        node: the node.
        name: attribute that holds its module.
        inputs: variables of its inputs.
        mask: variable of its mask, "" for none.
        states: variables of its initial states; empty for zeros.
        outputs: variables of its outputs, "_" where nobody reads one.
        busy: variables that hold what is still needed.
    """

    node: Node
    name: str
    inputs: tuple[str, ...]
    mask: str
    states: tuple[str, ...]
    outputs: tuple[str, ...]
    busy: frozenset[str] = frozenset()

    @property
    def x(self) -> str:
        """Variable of the first input."""
        return self.inputs[0]

    @property
    def y(self) -> str:
        """Variable of the first output."""
        return self.outputs[0]

    def read(self, number: int) -> bool:
        """Whether anything reads an output."""
        return self.outputs[number] != "_"

    def free(self, word: str) -> str:
        """A variable for something on the way: the word, numbered where it is not free."""
        busy = {*self.busy, *self.inputs, self.mask, *self.states, *self.outputs, *TAKEN}
        names = (word, *(f"{word}_{number}" for number in range(2, len(busy) + 3)))
        return next(name for name in names if name not in busy)


def _words(spec: Spec) -> tuple[str, ...]:
    """What the outputs of a layer are called."""
    if isinstance(spec, TimeDistributed):
        return _words(spec.layer)
    if isinstance(spec, Masking) or (isinstance(spec, Embedding) and spec.mask_zero):
        return "x", "mask"
    if isinstance(spec, Recurrent):
        return ("x", *"hc"[: spec.states]) if spec.return_state else ("x",)
    if isinstance(spec, Bidirectional):
        second = ("backward",) if spec.merge == "none" else ()
        pairs = zip(("forward", "backward"), spec.halves, strict=True)
        states = [f"{half}_{s}" for half, own in pairs for s in "hc"[: own.states]]
        return ("x", *second, *(states if spec.forward.return_state else ()))
    return ("x",)


def _named(node: Node) -> tuple[str, ...]:
    """What the outputs of a node are called; a registered layer may have any number."""
    words = _words(node.spec)
    return (*words, *(f"output_{number}" for number in range(len(words), len(node.shapes))))


def _free(word: str, name: str, busy: set[str]) -> str:
    """A variable for an output `word` of the layer `name`: the word alone where it is free."""
    own = name if word == "x" else f"{name}_{word}"
    candidates = [word, own, f"{own}_"]
    candidates += [f"{own}_{number}" for number in range(2, len(busy) + 3)]
    return next(c for c in candidates if c not in busy and c not in TAKEN)


def _texts(model: Model) -> set[str]:
    """Names that the texts of registered layers define, which no variable may hide."""
    specs = [inside(node.spec) for node in model.layers]
    codes = [c for spec in specs if isinstance(spec, Custom) for c in spec.registered.code.values()]
    return {name for code in codes for name in code.names}


def inputs_of(model: Model) -> dict[Edge, str]:
    """Variables of the model's inputs: x if there is one, else their own names."""
    if len(model.inputs) == 1:
        return {Edge(model.inputs[0]): "x"}
    names, found, hidden = identifiers(model), dict[Edge, str](), _texts(model)
    for name in model.inputs:
        own = names[name]
        while own in TAKEN or own in hidden or own in found.values():
            own += "_"
        found[Edge(name)] = own
    return found


def places(model: Model) -> Iterator[Site]:
    """Every layer with the variables it reads and writes.

    A chain goes by the name x throughout; what lives beside it is called after its layer.
    """
    names = identifiers(model)
    last = {edge: number for number, node in enumerate(model.nodes) for edge in node.reads}
    last |= dict.fromkeys(model.outputs, len(model.nodes))
    hidden = _texts(model)
    held = {edge: name for edge, name in inputs_of(model).items() if edge in last}
    for number, node in enumerate(model.nodes):
        if node.name in model.inputs:
            continue
        busy = {name for edge, name in held.items() if last[edge] > number}
        reads = {held[edge] for edge in node.reads}
        outputs: list[str] = []
        for output, word in enumerate(_named(node)):
            read = Edge(node.name, output) in last
            # what is written first must not be what is still read: states before the second half
            # runs, a mask before the layer that it belongs to
            kept = set[str]() if not output or isinstance(node.spec, Recurrent) else reads
            taken = busy | kept | set(outputs) | hidden
            outputs.append(_free(word, names[node.name], taken) if read else "_")
        yield Site(
            node,
            names[node.name],
            tuple(held[edge] for edge in node.inputs),
            "" if node.mask is None else held[node.mask],
            tuple(held[edge] for edge in node.states),
            tuple(outputs),
            frozenset(busy),
        )
        written = {Edge(node.name, output): name for output, name in enumerate(outputs)}
        held = {edge: name for edge, name in held.items() if last[edge] > number}
        held |= {edge: name for edge, name in written.items() if edge in last}
