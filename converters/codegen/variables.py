"""Names of local variables for the tensors of a model in the emitted forward pass.

In: a model. Out: NodeVariables for each node.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from xlstm.ir import layers as L
from xlstm.ir.graph import Edge, Model, Node
from xlstm.ir.identifiers import identifiers
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.literals import in_words

TAKEN = frozenset(
    """
    F after before carry checked fitting pad_same
    inputs jax jnp keras last_valid lax linen math nn nnx np repeat_last start state torch
    valid_first
    train bidirectional unit both_ways Any Callable Iterable Iterator Mapping Path State partial
    celu exponential gelu gelu_tanh hard_shrink hard_sigmoid_keras2 hard_silu hard_tanh leaky_relu
    linear log_sigmoid log_softmax mish relu6 silu soft_shrink softmax softplus softsign sparse_plus
    sparse_sigmoid sparsemax squareplus tanh_shrink leaky_relu_01 zeros
    """.split()
)
"""Names that emitted modules already use."""


@dataclass(frozen=True)
class NodeVariables:
    """Variables that one node reads and writes in the emitted forward pass.

    Attributes:
        node: the node.
        name: attribute of its module.
        inputs: variables of its inputs.
        mask: variable of its mask, "" for none.
        states: variables of its initial states; empty for zeros.
        outputs: variables of its outputs, "_" where nothing reads one.
        busy: variables that are still needed while the layer is written.
    """

    node: Node
    name: str
    inputs: tuple[str, ...]
    mask: str
    states: tuple[str, ...]
    outputs: tuple[str, ...]
    busy: Container[str] = frozenset()

    @property
    def x(self) -> str:
        """Variable of the first input."""
        return self.inputs[0]

    @property
    def y(self) -> str:
        """Variable of the first output."""
        return self.outputs[0]

    def read(self, number: int) -> bool:
        """True if something reads an output."""
        return self.outputs[number] != "_"

    def free(self, word: str) -> str:
        """Returns an unused variable for an intermediate value: the word, numbered if needed."""
        own = {*self.inputs, self.mask, *self.states, *self.outputs, *TAKEN}
        return _first_free(word, word, AnyOf((self.busy, own)))


@dataclass(frozen=True)
class AnyOf(Container[str]):
    """Several sets of names as one, without a copy."""

    sets: tuple[Container[str], ...]

    def __contains__(self, name: object) -> bool:
        return any(name in names for names in self.sets)


def _first_free(word: str, base: str, taken: Container[str]) -> str:
    """Returns the word, or `base` with the first free number."""
    if word not in taken:
        return word
    return next(name for n in count(2) if (name := f"{base}_{n}") not in taken)


def _words(spec: L.LayerSpec) -> tuple[str, ...]:
    """Returns names for the outputs of a layer."""
    if isinstance(spec, L.TimeDistributed):
        return _words(spec.layer)
    if isinstance(spec, L.Masking) or (isinstance(spec, L.Embedding) and spec.mask_zero):
        return "x", "mask"
    if isinstance(spec, L.Recurrent):
        return ("x", *"hc"[: spec.states]) if spec.return_state else ("x",)
    if isinstance(spec, L.Bidirectional):
        second = ("backward",) if spec.merge == "none" else ()
        pairs = zip(("forward", "backward"), spec.halves, strict=True)
        states = [f"{half}_{s}" for half, own in pairs for s in "hc"[: own.states]]
        return ("x", *second, *(states if spec.forward.return_state else ()))
    return ("x",)


def _named(node: Node) -> tuple[str, ...]:
    """Returns names for the outputs of a node; a registered layer may have any number."""
    words = _words(node.spec)
    return (*words, *(f"output_{number}" for number in range(len(words), len(node.shapes))))


def _free(word: str, name: str, busy: Container[str]) -> str:
    """Returns a variable for an output `word` of the layer `name`: the word alone if it is free."""
    own, taken = name if word == "x" else f"{name}_{word}", AnyOf((busy, TAKEN))
    first = next((c for c in (word, own) if c not in taken), f"{own}_")
    return _first_free(first, own, taken)


def _texts(model: Model) -> set[str]:
    """Returns names that the texts of registered layers define, which no variable may hide."""
    specs = [unwrap_time_distributed(node.spec) for node in model.layers]
    codes = [
        c for spec in specs if isinstance(spec, L.Custom) for c in spec.registered.code.values()
    ]
    return {name for code in codes for name in code.names}


def inputs_of(model: Model) -> dict[Edge, str]:
    """Returns variables of the model's inputs: x for a single one, else their own names."""
    if len(model.inputs) == 1:
        return {Edge(model.inputs[0]): "x"}
    names, found, taken = identifiers(model), dict[Edge, str](), _texts(model)
    for name in model.inputs:
        own = names[name]
        while own in TAKEN or own in taken:
            own += "_"
        found[Edge(name)] = own
        taken.add(own)
    return found


def places(model: Model) -> Iterator[NodeVariables]:
    """Yields every layer with the variables it reads and writes.

    A chain uses x throughout; other tensors have the name of their layer.
    """
    names, several = identifiers(model), {*model.outputs} if len(model.outputs) > 1 else set()
    last = {edge: number for number, node in enumerate(model.nodes) for edge in node.reads}
    last |= dict.fromkeys(model.outputs, len(model.nodes))
    ended: dict[int, list[Edge]] = {}
    for edge, number in last.items():
        ended.setdefault(number, []).append(edge)
    hidden, starts = _texts(model), {*model.inputs}
    variables = {edge: name for edge, name in inputs_of(model).items() if edge in last}
    busy = {*variables.values()}
    for number, node in enumerate(model.nodes):
        if node.name in starts:
            continue
        done = ended.get(number, [])
        busy -= {variables[edge] for edge in done}
        reads = {variables[edge] for edge in node.reads}
        outputs: list[str] = []
        for output, word in enumerate(_named(node)):
            read = Edge(node.name, output) in last
            # a new variable must not replace one that is read later: states before the second half
            # runs, a mask and the states of its layer
            around = [] if node.mask is None else [node.mask, *node.states]
            first = not output or isinstance(node.spec, L.Recurrent)
            kept = {variables[edge] for edge in around} if first else reads
            taken = AnyOf((busy, kept, {*outputs}, hidden))
            # one of several outputs of the model has the name of its layer
            if _named(node) == ("x",) and Edge(node.name) in several:
                word = names[node.name]
            outputs.append(_free(word, names[node.name], taken) if read else "_")
        yield NodeVariables(
            node,
            names[node.name],
            tuple(variables[edge] for edge in node.inputs),
            "" if node.mask is None else variables[node.mask],
            tuple(variables[edge] for edge in node.states),
            tuple(outputs),
            busy,
        )
        for edge in done:
            del variables[edge]
        written = ((Edge(node.name, output), name) for output, name in enumerate(outputs))
        variables |= {edge: name for edge, name in written if edge in last}
        busy |= {name for name in outputs if name != "_"}


def state_sentences(
    model: Model, inputs: Sequence[str], words_of: Callable[[L.LayerSpec], list[str]]
) -> list[str]:
    """Returns sentences that say which inputs are states, and of which layers.

    They contain no names but identifiers.

    Args:
        model: the model.
        inputs: variables of its inputs.
        words_of: layer -> the framework's names of its states.
    """
    names, variables = identifiers(model), dict(zip(model.inputs, inputs, strict=True))
    sentences = []
    for node in model.layers:
        pairs = zip(node.states, words_of(node.spec) if node.states else [], strict=True)
        found = [(variables[edge.node], word) for edge, word in pairs if edge.node in variables]
        if found:
            ours, theirs = map(in_words, zip(*found, strict=True))
            verb = "are" if len(found) > 1 else "is"
            sentences.append(f"{ours} {verb} the {theirs} that {names[node.owner]} starts from.")
    return sentences
