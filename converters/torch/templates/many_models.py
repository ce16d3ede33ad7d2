"""Many models of one architecture in one call, copied as text into emitted modules.

Letters of axes: M models, T time, B batch, H hidden, G gates x hidden. A layer is written for one
model; `vmap` adds the axis M. Recurrent layers have loops of their own for that axis: a step of
all models of a chunk is one batched product.
"""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional as F

from .recurrent import GRU, LSTM, RNN, GRUResetBefore

RANKS: tuple[int, ...] = ()
Model: Any = nn.Module


class ForEachModel(torch.autograd.Function):
    """Calls a loop over many models; for one model it adds an axis of length 1."""

    @staticmethod
    def forward(
        loop: Callable[..., tuple[Tensor, ...]],
        *tensors: Tensor,
    ) -> tuple[Tensor, ...]:
        """Tensors of one model -> its outputs."""
        found = loop(*(x.unsqueeze(0) for x in tensors))
        return tuple(y.squeeze(0) for y in found)

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:  # type: ignore[no-untyped-def]
        """Saves nothing: with gradients, the layers record every step instead."""

    @staticmethod
    def vmap(info, in_dims, loop, *tensors):  # type: ignore[no-untyped-def]
        """Tensors of many models -> their outputs, the axis of models first."""
        pairs = zip(tensors, in_dims[1:], strict=True)
        many = [
            x.expand(info.batch_size, *x.shape) if axis is None else x.movedim(axis, 0)
            for x, axis in pairs
        ]
        found = loop(*many)
        return found, (0,) * len(found)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Returns x @ weight.T + bias, which is one batched product for many models."""
    if bias is None or torch.is_grad_enabled():
        return F.linear(x, weight, bias)
    (y,) = ForEachModel.apply(products, x, weight, bias)
    return y


def products(x_MTBI: Tensor, weight_MGI: Tensor, bias_MG: Tensor) -> tuple[Tensor]:
    """Returns x @ weight.T + bias of every model."""
    rows_MRI, weight_MIG = x_MTBI.flatten(1, 2), weight_MGI.transpose(1, 2)
    y_MRG = torch.baddbmm(bias_MG.unsqueeze(1), rows_MRI, weight_MIG)
    return (y_MRG.unflatten(1, x_MTBI.shape[1:3]),)


def lstm_loop(
    steps_MTBG: Tensor,
    weight_MHG: Tensor,
    h_MBH: Tensor,
    c_MBH: Tensor,
    *,
    gate: Callable[[Tensor], Tensor],
    activation: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of an LSTM: the output of each, and the last states."""
    units, weight_MHG = weight_MHG.shape[1], weight_MHG.contiguous()
    y_MTBH = steps_MTBG.new_empty(*steps_MTBG.shape[:3], units)
    sums = torch.empty_like(steps_MTBG[:, 0])
    sums_oif, sums_g = sums.split([3 * units, units], dim=-1)
    gates = torch.empty_like(sums_oif)
    (o, i, f), h, c = gates.chunk(3, dim=-1), h_MBH, c_MBH.clone()
    for step, y in zip(steps_MTBG.unbind(1), y_MTBH.unbind(1), strict=True):
        torch.baddbmm(step, h, weight_MHG, out=sums)
        gates.copy_(gate(sums_oif))
        c.mul_(f).addcmul_(i, activation(sums_g))
        h = torch.mul(o, activation(c), out=y)
    return y_MTBH, h.clone(), c


def lstm_joined_loop(
    x_MTBI: Tensor,
    weight_MKG: Tensor,
    h_MBH: Tensor,
    c_MBH: Tensor,
    *,
    gate: Callable[[Tensor], Tensor],
    activation: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """All steps of an LSTM: the output of each, and the last states.

    A step has one product, of 1, the input and h side by side (K). The rows of the
    weight are the bias and the kernels of both.
    """
    count, length, batch, width = x_MTBI.shape
    units, weight_MKG = h_MBH.shape[2], weight_MKG.contiguous()
    side = x_MTBI.new_ones(count, batch, 1 + width + units)
    _, side_x, h = side.split([1, width, units], dim=-1)
    sums = side.new_empty(count, batch, 4 * units)
    sums_oif, sums_g = sums.split([3 * units, units], dim=-1)
    gates = torch.empty_like(sums_oif)
    (o, i, f), c = gates.chunk(3, dim=-1), c_MBH.clone()
    y_MTBH = side.new_empty(count, length, batch, units)
    h.copy_(h_MBH)
    for x, y in zip(x_MTBI.unbind(1), y_MTBH.unbind(1), strict=True):
        side_x.copy_(x)
        torch.bmm(side, weight_MKG, out=sums)
        gates.copy_(gate(sums_oif))
        c.mul_(f).addcmul_(i, activation(sums_g))
        y.copy_(torch.mul(o, activation(c), out=h))
    return y_MTBH, h.clone(), c


class StackedLSTM(LSTM):
    """`nn.LSTM(batch_first=True)`, for `vmap` over models; its parameters are the same.

    A gate is gate(slope * x + offset), with slope and offset inside weights and bias.
    """

    def forward(
        self,
        x: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) -> (batch, time, hidden) and the last states (h, c)."""
        weight = self.order(self.weight_hh_l0).t()
        zeros = weight.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        functions = {"gate": self.gate, "activation": self.activation}
        if torch.is_grad_enabled() or not self.elementwise:
            y, h, c = self.unroll(self.project(x), weight, h, c)
        elif x.shape[2] > self.hidden_size:  # a wide kernel is read once only
            loop = partial(lstm_loop, **functions)
            y, h, c = ForEachModel.apply(loop, self.project(x), weight, h, c)
        else:
            kernel = self.order(self.weight_ih_l0).t()
            bias = self.project(x.new_zeros(1, 1, x.shape[2]))[0]
            weights = torch.cat([bias, kernel, weight])
            loop = partial(lstm_joined_loop, **functions)
            y, h, c = ForEachModel.apply(loop, x.transpose(0, 1), weights, h, c)
        return y.transpose(0, 1), (h, c)


def gru_loop(
    steps_MTBG: Tensor,
    weight_MHG: Tensor,
    bias_MG: Tensor,
    h_MBH: Tensor,
    *,
    gate: Callable[[Tensor], Tensor],
    activation: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """All steps of a GRU: the output of each, and the last state."""
    units, weight_MHG = weight_MHG.shape[1], weight_MHG.contiguous()
    y_MTBH = steps_MTBG.new_empty(*steps_MTBG.shape[:3], units)
    hidden = torch.empty_like(steps_MTBG[:, 0])
    hidden_rz, hidden_n = hidden.split([2 * units, units], dim=-1)
    gates = torch.empty_like(hidden_rz)
    (r, z), h, bias_M1G = gates.chunk(2, dim=-1), h_MBH, bias_MG.unsqueeze(1)
    every = steps_MTBG.split([2 * units, units], dim=-1)
    parts = zip(*(x.unbind(1) for x in (*every, y_MTBH)), strict=True)
    for x_rz, x_n, y in parts:
        torch.baddbmm(bias_M1G, h, weight_MHG, out=hidden)
        gates.copy_(gate(hidden_rz.add_(x_rz)))
        n = activation(torch.addcmul(x_n, r, hidden_n))
        h = torch.lerp(n, h, z, out=y)
    return y_MTBH, h.clone()


class StackedGRU(GRU):
    """`nn.GRU(batch_first=True)`, for `vmap` over models; its parameters are the same.

    A gate is gate(slope * x + offset), with slope and offset inside weights and bias.
    """

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state."""
        steps, (weight, bias) = self.project(x), self.recurrent()
        h = steps.new_zeros(x.shape[0], self.hidden_size) if state is None else state
        if torch.is_grad_enabled() or not self.elementwise:
            y, h = self.unroll(steps, weight, bias, h)
        else:
            loop = partial(gru_loop, gate=self.gate, activation=self.activation)
            y, h = ForEachModel.apply(loop, steps, weight, bias, h)
        return y.transpose(0, 1), h


def gru_reset_before_loop(
    steps_MTBG: Tensor,
    gates_MHG: Tensor,
    candidate_MHH: Tensor,
    h_MBH: Tensor,
    *,
    gate: Callable[[Tensor], Tensor],
    activation: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """All steps of a GRU that resets h: the output of each, and the last state."""
    units, candidate_MHH = candidate_MHH.shape[1], candidate_MHH.contiguous()
    gates_MHG, h = gates_MHG.contiguous(), h_MBH
    y_MTBH = steps_MTBG.new_empty(*steps_MTBG.shape[:3], units)
    every = steps_MTBG.split([2 * units, units], dim=-1)
    gates = steps_MTBG.new_empty(*h.shape[:2], 2 * units)
    r, z = gates.chunk(2, dim=-1)
    parts = zip(*(x.unbind(1) for x in (*every, y_MTBH)), strict=True)
    for x_rz, x_n, y in parts:
        gates.copy_(gate(torch.baddbmm(x_rz, h, gates_MHG)))
        n = activation(torch.baddbmm(x_n, r * h, candidate_MHH))
        h = torch.lerp(n, h, z, out=y)
    return y_MTBH, h.clone()


class StackedGRUResetBefore(GRUResetBefore):
    """A GRU that resets h, not its product, for `vmap` over models.

    A gate is gate(slope * x + offset), with slope and offset inside weights and bias.
    """

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state."""
        steps, (gates, candidate) = self.project(x), self.recurrent()
        h = steps.new_zeros(x.shape[0], self.hidden_size) if state is None else state
        if torch.is_grad_enabled() or not self.elementwise:
            y, h = self.unroll(steps, gates, candidate, h)
        else:
            functions = {"gate": self.gate, "activation": self.activation}
            loop = partial(gru_reset_before_loop, **functions)
            y, h = ForEachModel.apply(loop, steps, gates, candidate, h)
        return y.transpose(0, 1), h


def rnn_loop(
    steps_MTBH: Tensor,
    weight_MHH: Tensor,
    h_MBH: Tensor,
    *,
    activation: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """All steps of an RNN: the output of each, and the last state."""
    weight_MHH, h = weight_MHH.contiguous(), h_MBH
    y_MTBH = torch.empty_like(steps_MTBH)
    for step, y in zip(steps_MTBH.unbind(1), y_MTBH.unbind(1), strict=True):
        h = y.copy_(activation(torch.baddbmm(step, h, weight_MHH)))
    return y_MTBH, h.clone()


class StackedRNN(RNN):
    """`nn.RNN(batch_first=True)`, for `vmap` over models; its parameters are the same."""

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state."""
        steps, (weight,) = self.project(x), self.recurrent()
        h = steps.new_zeros(x.shape[0], self.hidden_size) if state is None else state
        if torch.is_grad_enabled() or not self.elementwise:
            y, h = self.unroll(steps, weight, h)
        else:
            loop = partial(rnn_loop, activation=self.activation)
            y, h = ForEachModel.apply(loop, steps, weight, h)
        return y.transpose(0, 1), h


class Stack(nn.Module):
    """Many models of one architecture: `each` is one model with the weights of all.

    Its parameters have the names of one model's, and the axis of models first.
    """

    def __init__(self, count: int, chunk: int) -> None:
        super().__init__()
        self.count = count
        self.chunk = chunk
        self.each = Model()
        for module in self.each.modules():
            for tensors in (module._parameters, module._buffers):
                for name, one in tensors.items():
                    if one is not None:
                        many = one.detach().new_zeros(count, *one.shape)
                        is_parameter = isinstance(one, nn.Parameter)
                        tensors[name] = nn.Parameter(many) if is_parameter else many

    def forward(self, *inputs: Tensor) -> Any:
        """The outputs of all models, (models, batch, ...).

        An input is (batch, ...) for all models, or (models, batch, ...), one for each.
        """
        axes = [self.axis(x, rank) for x, rank in zip(inputs, RANKS, strict=True)]
        tensors = dict(self.each.named_parameters()) | dict(self.each.named_buffers())
        run, found = torch.func.vmap(self.run, in_dims=(0, *axes)), []
        for start in range(0, self.count, self.chunk):
            part = slice(start, start + self.chunk)
            weights = {name: tensor[part] for name, tensor in tensors.items()}
            pairs = zip(inputs, axes, strict=True)
            own = [x if axis is None else x[part] for x, axis in pairs]
            found.append(run(weights, *own))
        return joined(found)

    def run(self, weights: Mapping[str, Tensor], *inputs: Tensor) -> Any:
        """The outputs of one model with these weights."""
        return torch.func.functional_call(self.each, dict(weights), inputs)

    def axis(self, x: Tensor, rank: int) -> int | None:
        """The axis of models of an input, None for one input of all models."""
        if x.dim() == rank:
            return None
        if x.dim() != rank + 1 or len(x) != self.count:
            wanted = f"{rank} axes, or {rank + 1} with {self.count} models first"
            raise ValueError(f"input: expected {wanted}, got {list(x.shape)}")
        return 0


def joined(parts: list[Any]) -> Any:
    """Outputs of chunks of models as outputs of all; tuples and dicts item by item."""
    first = parts[0]
    if isinstance(first, dict):
        return {name: joined([part[name] for part in parts]) for name in first}
    if isinstance(first, tuple):
        return tuple(map(joined, map(list, zip(*parts, strict=True))))
    return torch.cat(parts) if len(parts) > 1 else first


def chunk_for(size: int) -> int:
    """Models of `size` bytes that two thirds of a second cache hold, at least 1."""
    cache = 2**20  # bytes, on systems that do not say
    file = Path("/sys/devices/system/cpu/cpu0/cache/index2/size")
    if file.exists():
        cache = int(file.read_text().strip().removesuffix("K")) * 1024
    return max(1, 2 * cache // 3 // max(1, size))


def build(
    weights: Mapping[str, Tensor],
    dtype: torch.dtype = torch.float32,
    chunk: int | None = None,
) -> Stack:
    """All models with these weights, by name, in evaluation mode."""
    count = len(next(iter(weights.values())))
    size = sum(x.numel() for x in weights.values()) // count * dtype.itemsize
    stack = Stack(count, chunk or chunk_for(size))
    stack.to(dtype)
    stack.each.load_state_dict(weights)
    stack.eval()  # evaluation mode, no code is evaluated
    return stack


def load(
    folder: str | Path = Path(__file__).parent,
    dtype: torch.dtype = torch.float32,
    chunk: int | None = None,
) -> Stack:
    """All models with the trained weights that lie in `folder`."""
    return build(load_file(Path(folder) / "stacked.safetensors"), dtype, chunk)
