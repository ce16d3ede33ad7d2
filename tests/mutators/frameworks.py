"""Wrong ports in Keras and Flax: the arrays of one live port, changed and put back.

One object serves all mutants of a model, so that nothing is compiled anew; it holds the arrays of
the mutant that was asked for last.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mutators.causes import CAUSES
from mutators.mutant import Mutant
from xlstm.frameworks import registry
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.porting.port import build

State = dict[str, Array]
Change = Callable[[State], State]


def put(framework: str, made: Any, arrays: State) -> Any:
    """The live object holding these arrays; for Linen a new pair around the same module."""
    if framework == "linen":
        return made[0], _tree(arrays)
    if framework == "nnx":
        return _put_nnx(made, arrays)
    for name, variable in registry.adapter("keras").live().variables(made).items():  # type: ignore[attr-defined]
        variable.assign(arrays[name])
    return made


def _put_nnx(made: Any, arrays: State) -> Any:
    import jax
    from flax import nnx

    with jax.enable_x64(True):
        for path, param in nnx.to_flat_state(nnx.state(made, (nnx.Param, nnx.BatchStat))):
            param.set_value(jax.numpy.asarray(arrays[".".join(map(str, path))]))
    return made


def _tree(arrays: State) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, array in arrays.items():
        *before, last = name.split(".")
        below = tree
        for part in before:
            below = below.setdefault(part, {})
        below[last] = array
    return tree


@dataclass(frozen=True)
class Layer:
    """The tensors of one recurrent layer or half, by the part that they have in it.

    Attributes:
        path: what all their names start with.
        gates: number of gates.
        kernel, recurrent: names; one a gate where the framework keeps them apart.
        bias: names, likewise.
    """

    path: str
    gates: int
    kernel: tuple[str, ...]
    recurrent: tuple[str, ...]
    bias: tuple[str, ...]


def layers(framework: str, state: State) -> list[Layer]:
    """The recurrent layers of a port."""
    find = {"keras": _keras, "nnx": _nnx, "linen": _linen}[framework]
    return [layer for name in state if (layer := find(state, name)) is not None]


def _keras(state: State, name: str) -> Layer | None:
    path, marker, _ = name.partition("recurrent_kernel")
    if not marker:
        return None
    gates = state[name].shape[1] // state[name].shape[0]
    return Layer(path, gates, (f"{path}kernel",), (name,), (f"{path}bias",))


def _nnx(state: State, name: str) -> Layer | None:
    path, marker, _ = name.partition("dense_h.kernel")
    if not marker:
        return None
    gates = state[name].shape[1] // state[name].shape[0]
    bias = tuple(f"{path}{end}" for end in ("dense_i.bias", "dense_h.bias"))
    held = tuple(own for own in bias if own in state)
    return Layer(path, gates, (f"{path}dense_i.kernel",), (name,), held)


def _linen(state: State, name: str) -> Layer | None:
    found = re.fullmatch(r"(.*\.)(h|hi|hr)\.kernel", name)
    if not found:
        return None
    path, own = found.groups()
    gates = {"h": [""], "hi": list("ifgo"), "hr": list("rzn")}[own]
    kernels = [tuple(f"{path}{side}{g}.kernel" for g in gates) for side in "ih"]
    bias = [tuple(f"{path}{side}{g}.bias" for g in gates) for side in "ih"]
    held = next((names for names in bias if all(n in state for n in names)), ())
    return Layer(path, len(gates), kernels[0], kernels[1], held)


def on(names: tuple[str, ...], act: Callable[[Array], Array]) -> Change:
    """A change of the columns of some tensors, put side by side where each gate has its own."""

    def change(state: State) -> State:
        if not names:
            return state
        whole = np.concatenate([state[name] for name in names], axis=-1)
        parts = np.split(np.ascontiguousarray(act(whole)), len(names), axis=-1)
        return state | dict(zip(names, parts, strict=True))

    return change


def both(*changes: Change) -> Change:
    """Several changes, one after the other."""

    def change(state: State) -> State:
        for act in changes:
            state = act(state)
        return state

    return change


def _columns(order: tuple[int, ...]) -> Callable[[Array], Array]:
    def act(array: Array) -> Array:
        apart = array.reshape(*array.shape[:-1], len(order), -1)
        return apart[..., list(order), :].reshape(array.shape)

    return act


def _turned(gates: int) -> Callable[[Array], Array]:
    def act(array: Array) -> Array:
        apart = array.reshape(len(array), gates, -1)
        return apart.swapaxes(0, 2).reshape(array.shape)

    return act


def _forget(array: Array) -> Array:
    found = array.copy()
    n = found.shape[-1] // 4
    found[..., n : 2 * n] += 1
    return found


def _nudged(rng: np.random.Generator, by: float) -> Callable[[Array], Array]:
    """One number a little larger: by `by`, or by the smallest step of float32."""
    seed = int(rng.integers(2**31))

    def act(array: Array) -> Array:
        found = array.copy()
        place = np.random.default_rng(seed).integers(found.size)
        was = np.float32(found.flat[place])
        now = was + np.float32(by) if by else np.nextafter(was, np.float32(np.inf))
        found.flat[place] += np.float64(now) - np.float64(was)
        return found

    return act


def errors(
    layer: Layer, state: State, rng: np.random.Generator
) -> Iterator[tuple[str, str, Change]]:
    """Wrong arrays of one recurrent layer: kind, which one, the change."""
    orders = [o for o in itertools.permutations(range(layer.gates)) if list(o) != sorted(o)]
    for order in rng.permutation(np.array(orders))[:3] if orders else ():
        act = _columns(tuple(int(n) for n in order))
        parts = [layer.kernel, layer.recurrent, layer.bias]
        where = "".join(map(str, order))
        yield "gates permuted", where, both(*(on(part, act) for part in parts))
        yield "gates permuted in some tensors", f"kernel {where}", on(layer.kernel, act)
    m, n = state[layer.kernel[0]].shape[0], state[layer.recurrent[0]].shape[0]
    turn = _turned(layer.gates)
    yield "recurrent transposed", "", on(layer.recurrent, turn)
    if m == n:
        yield "kernel transposed", "", on(layer.kernel, turn)
    yield "bias lost", "", on(layer.bias, np.zeros_like)
    yield "bias doubled", "", on(layer.bias, lambda b: b + b)
    if layer.gates == 4:
        yield "forget bias added twice", "", on(layer.bias, _forget)
    yield "one weight off by 1 to 3 ULP", "kernel", on(layer.kernel, _nudged(rng, 0.0))
    yield "one weight off by 1 to 3 ULP", "recurrent", on(layer.recurrent, _nudged(rng, 0.0))
    yield "one bias off by 1e-6", "", on(layer.bias, _nudged(rng, 1e-6))


def _exchanged(a: Layer, b: Layer) -> Change:
    pairs = zip((*a.kernel, *a.recurrent, *a.bias), (*b.kernel, *b.recurrent, *b.bias), strict=True)
    held = list(pairs)

    def change(state: State) -> State:
        found = dict(state)
        for x, y in held:
            found[x], found[y] = state[y], state[x]
        return found

    return change


def others(state: State) -> Iterator[tuple[str, str, Change]]:
    """Wrong arrays of dense layers."""
    for name in state:
        path, _, tensor = name.rpartition(".")
        if tensor == "kernel" and "dense_" in path and state[name].ndim == 2 and "cell" not in path:
            if state[name].shape[0] == state[name].shape[1]:
                yield "kernel transposed", path, on((name,), np.transpose)
            yield "bias lost", path, on((f"{path}.bias",), np.zeros_like)


class Ports:
    """The live ports of one model to one framework, built once a precision."""

    def __init__(self, model: Model, framework: str) -> None:
        self.model, self.framework = model, framework
        self.adapter = registry.adapter(framework)
        self.live: Any = self.adapter.live()
        self.made: dict[str, tuple[Any, State]] = {}

    def state(self, dtype: str) -> State:
        """The right arrays."""
        return self._held(dtype)[1]

    def _held(self, dtype: str) -> tuple[Any, State]:
        if dtype not in self.made:
            made = build(self.model, self.adapter, dtype)
            self.made[dtype] = made, self.live.weights(made)
        return self.made[dtype]

    def port(self, change: Change) -> Callable[[str], Any]:
        """The port with its arrays changed."""

        def made(dtype: str) -> Any:
            live, right = self._held(dtype)
            return put(self.framework, live, change(right))

        return made


def arrays(model: Model, framework: str, seed: int) -> Iterator[Mutant]:
    """Wrong arrays in our port to Keras, NNX or Linen."""
    rng = np.random.default_rng([seed, 2])
    ports = Ports(model, framework)
    state = ports.state("float32")
    found = layers(framework, state)
    every = [(layer.path, *error) for layer in found for error in errors(layer, state, rng)]
    if len(found) == 2 and "forward" in found[0].path + found[1].path:
        every.append((found[0].path, "halves swapped", "weights", _exchanged(*found)))
    every += [(name, kind, name, change) for kind, name, change in others(state)]
    for path, kind, name, change in every:
        layer = next((n.name for n in model.layers if f"{n.name}." in f"{path}."), "")
        right = ports.port(lambda same: same)
        what = f"{path}: {name}"
        wrong = ports.port(change)
        causes = CAUSES[kind]
        yield Mutant(kind, what, model, wrong, right, framework, layer, causes, weights_only=True)
