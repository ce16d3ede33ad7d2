"""Wrong weights: the arrays of a live PyTorch port, changed by plain indexing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from xlstm.ir.types import Array

State = dict[str, Array]


@dataclass(frozen=True)
class Group:
    """The tensors of one recurrent layer, or of one half.

    Attributes:
        before: what their names start with.
        after: what they end with, "" or "_reverse".
        gates: the gates in PyTorch's order, "" where there is one.
        units: number of units.
    """

    before: str
    after: str
    gates: str
    units: int

    def name(self, tensor: str) -> str:
        return f"{self.before}{tensor}_l0{self.after}"

    def kernels(self) -> tuple[str, str]:
        return self.name("weight_ih"), self.name("weight_hh")

    def biases(self) -> tuple[str, str]:
        return self.name("bias_ih"), self.name("bias_hh")


def groups(state: Mapping[str, Array]) -> list[Group]:
    """The recurrent layers of a state dict."""
    found = []
    for name, array in state.items():
        before, marker, after = name.partition("weight_hh_l0")
        if marker:
            rows, units = array.shape
            found.append(Group(before, after, {4: "ifgo", 3: "rzn", 1: ""}[rows // units], units))
    return found


@dataclass(frozen=True)
class Change:
    """One wrong state dict: the kind of error, which one, where, and the arrays."""

    kind: str
    name: str
    layer: str
    state: State
    words: str = ""


def blocks(array: Array, group: Group) -> Array:
    """(gates x units, ...) -> (gates, units, ...)."""
    return array.reshape(-1, group.units, *array.shape[1:])


def permuted(array: Array, group: Group, order: str) -> Array:
    """The gates in another order."""
    places = [group.gates.index(gate) for gate in order]
    return blocks(array, group)[places].reshape(array.shape)


def transposed(array: Array, group: Group) -> Array:
    """Every gate's matrix transposed, where it is square."""
    return blocks(array, group).swapaxes(1, 2).reshape(array.shape)


def reshaped(array: Array, _group: Group) -> Array:
    """What `.reshape` gives where Keras's (in, gates x units) needed a transposition."""
    return np.ascontiguousarray(array.T).reshape(array.shape)


def _orders(group: Group) -> list[str]:
    orders = ("".join(order) for order in itertools.permutations(group.gates))
    return [order for order in orders if order != group.gates]


def gates(state: State, group: Group, rng: np.random.Generator) -> Iterator[Change]:
    """Gates in another order, in all tensors and in some."""
    orders = _orders(group)
    if not orders:
        return
    every = [*group.kernels(), *group.biases()]
    parts = {
        "all": every,
        "kernel": every[:1],
        "recurrent": every[1:2],
        "bias": every[2:],
        "kernels": every[:2],
    }
    for part, names in parts.items():
        for order in rng.permutation(orders)[: 3 if part == "all" else 1]:
            present = [name for name in names if name in state]
            changed = {name: permuted(state[name], group, order) for name in present}
            kind = "gates permuted" if part == "all" else "gates permuted in some tensors"
            yield Change(kind, f"{part} {order}", group.before, state | changed, order)


def sides(state: State, group: Group, rng: np.random.Generator) -> Iterator[Change]:
    """Gates in another order, but for one bias; both biases added up in another order."""
    first, second = group.biases()
    orders = _orders(group)
    if not orders or first not in state or not state[second].any():
        return
    order = str(rng.choice(orders))
    every = [*group.kernels(), first, second]
    moved = {name: permuted(state[name], group, order) for name in every}
    whole = {first: moved[first] + moved[second], second: np.zeros_like(moved[second])}
    parts = {"all but the second": every[:3], "first": [first], "second": [second]}
    for part, names in parts.items():
        changed = {name: moved[name] for name in names}
        kind, name = "gates of one bias permuted", f"{part} {order}"
        yield Change(kind, name, group.before, state | changed, order)
    kind = "gates permuted, biases added up"
    yield Change(kind, order, group.before, state | moved | whole, order)


def matrices(state: State, group: Group, _rng: np.random.Generator) -> Iterator[Change]:
    """Matrices transposed, or reshaped instead of transposed."""
    for name, what in zip(group.kernels(), ("kernel", "recurrent"), strict=True):
        array = state[name]
        if array.shape[1] == group.units:
            changed = {name: transposed(array, group)}
            yield Change(f"{what} transposed", what, group.before, state | changed)
        changed = {name: reshaped(array, group)}
        if not group.gates and array.shape[0] == array.shape[1]:
            continue  # one square matrix: that is its transposition
        yield Change(f"{what} reshaped, not transposed", what, group.before, state | changed)


def biases(state: State, group: Group, rng: np.random.Generator) -> Iterator[Change]:
    """Biases lost, doubled, or in the wrong place."""
    first, second = group.biases()
    if first not in state:
        return
    b, c = state[first], state[second]
    zeros, before, n = np.zeros_like(b), group.before, group.units
    # gates of a GRU but the last: there both biases are one sum
    yield Change("bias lost", "all", before, state | {first: zeros, second: zeros})
    if group.gates == "rzn" and c.any():
        yield Change("bias lost", "second", before, state | {second: zeros})
        yield Change("bias misplaced", "sides swapped", before, state | {first: c, second: b})
        yield Change("bias misplaced", "folded", before, state | {first: b + c, second: zeros})
    yield Change("bias doubled", "first", before, state | {first: b + b})
    yield Change("bias doubled", "both sides", before, state | {first: b + c, second: b + c})
    if group.gates:
        rolled = {first: np.roll(b, n), second: np.roll(c, n)}
        yield Change("bias misplaced", "next gate", before, state | rolled)
        one = b.copy()
        gate = int(rng.integers(len(group.gates)))
        one[gate * n : (gate + 1) * n] = 0
        yield Change("bias lost", f"gate {group.gates[gate]}", before, state | {first: one})
    if group.gates == "ifgo":
        one = b.copy()
        one[n : 2 * n] += 1
        yield Change("forget bias added twice", "+1", before, state | {first: one})


def small(state: State, name: str, layer: str, rng: np.random.Generator) -> Iterator[Change]:
    """One number of a tensor a little off."""
    array = state[name].copy()
    place = tuple(int(rng.integers(size)) for size in array.shape)
    off = array.copy()
    off[place] += np.float32(1e-6)
    if "bias" in name:
        yield Change("one bias off by 1e-6", f"{name}{place}", layer, state | {name: off})
        return
    for _ in range(int(rng.integers(1, 4))):
        array[place] = np.nextafter(array[place], np.float32(np.inf))
    yield Change("one weight off by 1 to 3 ULP", f"{name}{place}", layer, state | {name: array})


def halves(state: State, found: list[Group], _rng: np.random.Generator) -> Iterator[Change]:
    """The weights of the two directions exchanged."""
    for a, b in itertools.pairwise(found):
        pair = (a.before.replace("forward_layer", "backward_layer"), a.after + "_reverse")
        if b.before != pair[0] and (b.before, b.after) != (a.before, pair[1]):
            continue
        tensors = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        names = [(a.name(t), b.name(t)) for t in tensors if a.name(t) in state]
        if all(state[x].shape == state[y].shape for x, y in names):
            swapped = {x: state[y] for pair in names for x, y in (pair, pair[::-1])}
            yield Change("halves swapped", "weights", a.before, state | swapped)


def plain(state: State, name: str, _rng: np.random.Generator) -> Iterator[Change]:
    """Errors of layers that are no recurrent ones."""
    layer, _, tensor = name.rpartition(".")
    array = state[name]
    bias = f"{layer}.bias"
    norm = f"{layer}.running_mean" in state
    if tensor == "weight" and array.ndim == 2 and bias in state and not norm:
        if array.shape[0] == array.shape[1]:
            changed = {name: np.ascontiguousarray(array.T)}
            yield Change("kernel transposed", "dense", layer, state | changed)
        else:
            changed = {name: np.ascontiguousarray(array.T).reshape(array.shape)}
            yield Change("kernel reshaped, not transposed", "dense", layer, state | changed)
        zeros = np.zeros_like(state[bias])
        yield Change("bias lost", "dense", layer, state | {bias: zeros})
        yield Change("bias doubled", "dense", layer, state | {bias: 2 * state[bias]})
    if tensor == "weight" and array.ndim > 2:
        changed = {name: np.ascontiguousarray(array[:, ::-1])}
        yield Change("kernel's channels reversed", "in", layer, state | changed)


def changes(state: State, seed: int) -> Iterator[Change]:
    """Every wrong state dict made from a right one, some at random.

    Args:
        state: the right one, as arrays of float32; it is not changed.
        seed: of what is chosen.
    """
    rng = np.random.default_rng([seed, 1])
    found = groups(state)
    yield from halves(state, found, rng)
    for group in found:
        yield from gates(state, group, rng)
        yield from sides(state, group, np.random.default_rng([seed, 7]))
        yield from matrices(state, group, rng)
        yield from biases(state, group, rng)
    for name in state:
        if state[name].dtype == np.float32:
            yield from plain(state, name, rng)
            yield from small(state, name, name.rpartition(".")[0], rng)
