"""PyTorch written by hand from a model's description, as a careful person would, or not quite.

No code of the product takes part: `Net` reads specs and hub arrays (their axes are documented in
`xlstm.ir.graph`) and computes in plain PyTorch. A wrong port is a `Net` of a wrong description
(another activation, no mask), or one in which `wrong` names a slip of the code itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from xlstm.ir.graph import Edge, Model, Node

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": lambda x: x,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softmax": lambda x: torch.softmax(x, -1),
    "hard_sigmoid": lambda x: torch.clamp(x / 6 + 0.5, 0, 1),
    "hard_sigmoid_keras2": lambda x: torch.clamp(x / 5 + 0.5, 0, 1),
    "hard_sigmoid_unclipped": lambda x: x / 6 + 0.5,
    "hard_sigmoid_keras2_unclipped": lambda x: x / 5 + 0.5,
    "elu": F.elu,
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "leaky_relu": lambda x: F.leaky_relu(x, 0.2),
    "leaky_relu_01": lambda x: F.leaky_relu(x, 0.01),
    "softplus": lambda x: torch.logaddexp(x, torch.zeros_like(x)),
}

LOST = {"no state": (0, 1), "h alone": (1,), "c alone": (0,)}
"""Slip -> the states that a loop does not hand on, by number."""

GATES = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1}

Weights = Mapping[str, np.ndarray[Any, Any]]


class Loop(nn.Module):
    """A recurrent layer step by step, with the names of PyTorch's own parameters."""

    def __init__(self, spec: Any, wrong: str = "") -> None:
        super().__init__()
        rows = GATES[spec.kind] * spec.units
        self.spec, self.wrong = spec, wrong
        self.act = ACTIVATIONS[spec.activation]
        self.gate = ACTIVATIONS[getattr(spec, "gate_activation", "linear")]
        self.make(rows)

    def make(self, rows: int) -> None:
        """Makes the parameters."""
        self.weight_ih_l0 = nn.Parameter(torch.zeros(rows, self.spec.features))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(rows, self.spec.units))
        if self.spec.use_bias:
            self.bias_ih_l0 = nn.Parameter(torch.zeros(rows))
            self.bias_hh_l0 = nn.Parameter(torch.zeros(rows))

    def biases(self) -> tuple[Tensor, Tensor]:
        if self.spec.use_bias:
            return self.bias_ih_l0, self.bias_hh_l0
        zeros = self.weight_ih_l0.new_zeros(len(self.weight_ih_l0))
        return zeros, zeros

    def lstm(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        b, d = self.biases()
        i, f, g, o = (x @ self.weight_ih_l0.T + b + h @ self.weight_hh_l0.T + d).chunk(4, 1)
        f = f + 1 if self.wrong == "forget bias twice" else f
        c = self.gate(f) * c + self.gate(i) * self.act(g)
        return self.gate(o) * self.act(c), c

    def gru(self, x: Tensor, h: Tensor) -> Tensor:
        b, d = self.biases()
        r, z, n = (x @ self.weight_ih_l0.T + b).chunk(3, 1)
        u_r, u_z, u_n = self.weight_hh_l0.chunk(3)
        d_r, d_z, d_n = d.chunk(3)
        r, z = self.gate(r + h @ u_r.T + d_r), self.gate(z + h @ u_z.T + d_z)
        if self.spec.reset_after:
            n = self.act(n + r * (h @ u_n.T + d_n))
        else:
            n = self.act(n + (r * h) @ u_n.T + d_n)
        return (1 - z) * n + z * h

    def advance(self, x: Tensor, states: list[Tensor]) -> list[Tensor]:
        if self.spec.kind == "LSTM":
            return list(self.lstm(x, *states))
        if self.spec.kind == "GRU":
            return [self.gru(x, *states)]
        b, d = self.biases()
        return [self.act(x @ self.weight_ih_l0.T + b + states[0] @ self.weight_hh_l0.T + d)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, T, I) -> the outputs of every step in the order in which they are read."""
        zeros = x.new_zeros(len(x), self.spec.units)
        states, y, outputs = [zeros] * self.spec.states, zeros, []
        order = range(x.shape[1])[:: -1 if self.spec.go_backwards else 1]
        for t in order:
            before, after = y, self.advance(x[:, t], states)
            if mask is None:
                states, y = after, after[0]
            else:
                keep = mask[:, t, None]
                states = [torch.where(keep, a, b) for a, b in zip(after, states, strict=True)]
                held = zeros if self.spec.zero_output_for_mask else y
                y = torch.where(keep, after[0], held)
            outputs.append(before if self.wrong == "output late" else y)
            lost = LOST.get(self.wrong, ())
            states = [zeros if number in lost else s for number, s in enumerate(states)]
        return torch.stack(outputs, 1)


LINEAR = {
    "wx.weight": "weight_ih_l0",
    "wh.weight": "weight_hh_l0",
    "wx.bias": "bias_ih_l0",
    "wh.bias": "bias_hh_l0",
}
"""Parameters of a loop over two Linears -> those of a loop."""


class LinearLoop(Loop):
    """The same loop, its parameters in one Linear for the input and one for h."""

    def make(self, rows: int) -> None:
        """Makes the parameters."""
        self.wx = nn.Linear(self.spec.features, rows, bias=self.spec.use_bias)
        self.wh = nn.Linear(self.spec.units, rows, bias=self.spec.use_bias)

    weight_ih_l0 = property(lambda self: self.wx.weight)
    weight_hh_l0 = property(lambda self: self.wh.weight)
    bias_ih_l0 = property(lambda self: self.wx.bias)
    bias_hh_l0 = property(lambda self: self.wh.bias)


class Native(nn.Module):
    """A recurrent layer of PyTorch itself; its parameters have the same names."""

    def __init__(self, spec: Any, wrong: str = "") -> None:
        super().__init__()
        kind = {"LSTM": nn.LSTM, "GRU": nn.GRU, "SimpleRNN": nn.RNN}[spec.kind]
        more = {"nonlinearity": spec.activation} if spec.kind == "SimpleRNN" else {}
        first = wrong != "batch first"
        own = kind(spec.features, spec.units, bias=spec.use_bias, batch_first=first, **more)
        self.backwards = spec.go_backwards
        self.core = own

    def forward(self, x: Tensor) -> Tensor:
        out, _ = self.core(x.flip(1) if self.backwards else x)
        return out


def is_native(spec: Any, mask: Any) -> bool:
    """Whether PyTorch has the layer itself."""
    if mask is not None or not getattr(spec, "reset_after", True):
        return False
    if spec.kind == "SimpleRNN":
        return spec.activation in ("tanh", "relu")
    return (spec.activation, spec.gate_activation) == ("tanh", "sigmoid")


def recurrent(spec: Any, mask: Any, wrong: str, native: bool | None) -> nn.Module:
    """The module of one recurrent layer."""
    if native is None:
        return LinearLoop(spec, wrong)
    slip = wrong in ("forget bias twice", "output late", *LOST)
    return (Native if native and is_native(spec, mask) and not slip else Loop)(spec, wrong)


def torch_names(weights: Weights, before: str = "") -> dict[str, Tensor]:
    """Hub arrays of a recurrent layer as PyTorch's: gates stacked in rows, two biases."""
    kernel, matrix = weights[f"{before}kernel"], weights[f"{before}recurrent"]
    found = {"weight_ih_l0": _rows(kernel), "weight_hh_l0": _rows(matrix)}
    if f"{before}bias" in weights:
        bias = weights[f"{before}bias"].reshape(len(weights[f"{before}bias"]), -1)
        found["bias_ih_l0"] = bias[0]
        found["bias_hh_l0"] = bias[1] if len(bias) == 2 else np.zeros_like(bias[0])
    return {name: torch.from_numpy(np.array(array)) for name, array in found.items()}


def _rows(kernel: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[gate, in, out] or [in, out] -> (gate x out, in)."""
    gates = kernel if kernel.ndim == 3 else kernel[None]
    return gates.transpose(0, 2, 1).reshape(-1, gates.shape[1])


def _load(module: nn.Module, held: Mapping[str, Tensor]) -> None:
    core = module.core if isinstance(module, Native) else module
    if isinstance(module, LinearLoop):
        held = {own: held[name] for own, name in LINEAR.items() if name in held}
    core.load_state_dict(held)


class Net(nn.Module):
    """The layers of a model one after the other, with its weights.

    Args:
        model: what is ported; the right port is that of the true model.
        wrong: layer -> the slip in its code.
        weights: the weights, where they are not the model's own.
        native: whether PyTorch's own recurrent layers are used where there are some; None for
            loops over Linears.
    """

    def __init__(
        self,
        model: Model,
        wrong: Mapping[str, str] | None = None,
        weights: Mapping[str, Weights] | None = None,
        native: bool | None = True,
    ) -> None:
        super().__init__()
        self.model, self.wrong = model, dict(wrong or {})
        held = weights or model.weights
        for node in model.layers:
            module = _module(node, self.wrong.get(node.name, ""), held.get(node.owner, {}), native)
            if module is not None:
                setattr(self, node.name, module)
        self.eval()

    def forward(self, *inputs: Tensor) -> Any:
        """The model's outputs."""
        values: dict[Edge, Any] = {
            Edge(name): x for name, x in zip(self.model.inputs, inputs, strict=True)
        }
        for node in self.model.layers:
            values |= self.call(node, values)
        found = tuple(values[edge] for edge in self.model.outputs)
        return found[0] if len(found) == 1 else found

    def call(self, node: Node, values: dict[Edge, Any]) -> dict[Edge, Any]:
        """What one layer gives."""
        x = values[node.inputs[0]]
        mask = None if node.mask is None else values[node.mask]
        module, slip = getattr(self, node.name, None), self.wrong.get(node.name, "")
        name = node.spec.kind
        if name == "Bidirectional":
            return {Edge(node.name): _both(node.spec, module, x, mask, slip)}
        if name in GATES:
            y = module(x) if isinstance(module, Native) else module(x, mask)
            y = y if node.spec.return_sequences else y[:, -1]
            return {Edge(node.name): _then(slip)(y)}
        if name == "Masking":
            keep = (x != node.spec.value).any(-1)
            return {Edge(node.name): x * keep[..., None], Edge(node.name, 1): keep}
        if name == "Embedding":
            return {Edge(node.name): module(x.long()), Edge(node.name, 1): x != 0}
        return {Edge(node.name): _plain(node.spec, module, x, slip)}


def _then(slip: str) -> Callable[[Tensor], Tensor]:
    """What is done after a layer: nothing, but for the slip of one more activation."""
    return ACTIVATIONS[slip.removeprefix("then ") if slip.startswith("then ") else "linear"]


def _module(node: Node, wrong: str, held: Weights, native: bool | None) -> nn.Module | None:
    spec: Any = node.spec
    if spec.kind in GATES:
        made = recurrent(spec, node.mask, wrong, native)
        _load(made, torch_names(held))
        return made
    if spec.kind == "Bidirectional":
        sides = ("forward", "backward")
        own = [wrong.removesuffix(f" of {side} half") for side in sides]
        halves = [
            recurrent(half, node.mask, slip, native)
            for half, slip in zip(spec.halves, own, strict=True)
        ]
        for half, before in zip(halves, ("forward_", "backward_"), strict=True):
            _load(half, torch_names(held, before))
        return nn.ModuleDict({"forward_layer": halves[0], "backward_layer": halves[1]})
    return _other(spec.layer if spec.kind == "TimeDistributed" else spec, held)


def _other(spec: Any, held: Weights) -> nn.Module | None:
    arrays = {name: torch.from_numpy(np.array(array)) for name, array in held.items()}
    if spec.kind == "Dense":
        made: nn.Module = nn.Linear(spec.features, spec.units, bias=spec.use_bias)
        state = {"weight": arrays["kernel"].T, "bias": arrays.get("bias")}
    elif spec.kind == "Embedding":
        made, state = nn.Embedding(spec.rows, spec.units), {"weight": arrays["table"]}
    elif spec.kind == "Conv":
        kind = (nn.Conv1d, nn.Conv2d)[len(spec.window) - 1]
        made = kind(spec.features, spec.units, spec.window, bias=spec.use_bias)
        state = {"weight": arrays["kernel"].movedim((-1, -2), (0, 1)), "bias": arrays.get("bias")}
    elif spec.kind == "BatchNorm":
        made = nn.BatchNorm1d(spec.features, spec.epsilon, 1 - spec.momentum)
        names = {"weight": "gamma", "bias": "beta"}
        names |= {"running_mean": "mean", "running_var": "variance"}
        state = {own: arrays[name] for own, name in names.items()}
        state["num_batches_tracked"] = torch.tensor(0)
    elif spec.kind == "LayerNorm":
        made = nn.LayerNorm(spec.features, spec.epsilon)
        state = {"weight": arrays["gamma"], "bias": arrays["beta"]}
    else:
        return nn.Dropout(spec.rate) if spec.kind == "Dropout" else None
    made.load_state_dict({name: array for name, array in state.items() if array is not None})
    return made


def _both(spec: Any, halves: Any, x: Tensor, mask: Tensor | None, wrong: str) -> Tensor:
    forward, backward = halves["forward_layer"], halves["backward_layer"]
    own = None if wrong == "mask of backward alone" else mask
    a = forward(x) if isinstance(forward, Native) else forward(x, own)
    own = None if wrong == "mask of forward alone" else mask
    b = backward(x) if isinstance(backward, Native) else backward(x, own)
    if spec.return_sequences:
        b = b if wrong == "backward half not turned" else b.flip(1)
    else:
        a, b = a[:, -1], b[:, 0 if wrong == "last index of both" else -1]
    a, b = (b, a) if wrong == "halves swapped" else (a, b)
    merges = {"sum": a + b, "mul": a * b, "ave": (a + b) / 2}
    y = torch.cat([a, b], -1) if spec.merge == "concat" else merges[spec.merge]
    return _then(wrong)(y)


def _plain(spec: Any, module: Any, x: Tensor, wrong: str) -> Tensor:
    spec = spec.layer if spec.kind == "TimeDistributed" else spec
    if spec.kind in ("Dense", "Activation"):
        y = module(x) if spec.kind == "Dense" else x
        if wrong.startswith("softmax over axis "):
            return torch.softmax(y, int(wrong[-1]))
        return _then(wrong)(ACTIVATIONS[spec.activation](y))
    if spec.kind == "Relu":
        return F.leaky_relu(x, spec.slope)
    if spec.kind == "Flatten":
        first = x.movedim(-1, 1) if wrong == "channels first" else x
        return first.flatten(1)
    if spec.kind == "BatchNorm":
        return module(x.flatten(0, -2)).view_as(x)
    if spec.kind == "Conv":
        return _conv(spec, module, x, wrong)
    return x if module is None else module(x)


def _conv(spec: Any, module: Any, x: Tensor, wrong: str) -> Tensor:
    if wrong == "channels first":  # the axes' sizes are right, the numbers' order is not
        x = x.reshape(len(x), x.shape[-1], *x.shape[1:-1])
    else:
        x = x.movedim(-1, 1)
    if spec.padding == "causal":
        x = F.pad(x, (spec.window[0] - 1, 0))
    return ACTIVATIONS[spec.activation](module(x).movedim(1, -1))
