"""Own cells for PyTorch, copied as text into emitted modules; plain as a textbook.

The parameters of a cell are named and shaped as those of the native layer of its kind; its states
are (batch, hidden). An emitted class stands by itself, with the text of all that it inherits here.

A cell has its equations twice. Its `step` is for scripts, exports, and all that follows operations.
Otherwise the `Sequence` class beside it runs: the same into buffers, with a gradient of its own.
"""

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor, nn
from torch.nn import functional as F

State = dict[str, list[Tensor]]


def checked(state: Tensor, x: Tensor, units: int) -> Tensor:
    """`state`, if it is (batch, units); a sum would stretch another without a word."""
    wanted = [x.shape[0], units]
    if list(state.shape) != wanted:
        raise ValueError(f"state: expected shape {wanted}, got {list(state.shape)}")
    return state


def start(state: State | None, shapes: dict[str, list[list[int]]], x: Tensor) -> State:
    """The states that a call starts from, (batch, *shape) each: those given, or zeros."""
    batch = list(x.shape[:1])
    wanted = {name: [batch + shape for shape in own] for name, own in shapes.items()}
    if state is None:
        return {name: [x.new_zeros(s) for s in own] for name, own in wanted.items()}
    found = {name: [list(s.shape) for s in own] for name, own in state.items()}
    fits = len(found) == len(wanted)
    for name, own in wanted.items():
        fits = fits and name in found and len(found[name]) == len(own)
        for n in range(len(own) if fits else 0):
            fits = fits and found[name][n] == own[n]
    if not fits:
        raise ValueError(f"state: expected shapes {wanted}, got {found}")
    return state


def scaled(rows: Tensor, gates: int, slope: float, offset: float = 0.0) -> Tensor:
    """Rows of a weight or bias; the first ones, of gates, as slope * rows + offset."""
    if slope == 1.0 and offset == 0.0:
        return rows
    first = slope * rows[:gates]
    if offset != 0.0:
        first = first + offset
    return torch.cat([first, rows[gates:]])


def recorded(*tensors: Tensor) -> bool:
    """True where a graph or a transform has to follow every operation of a step."""
    duals = map(torch.autograd.forward_ad.unpack_dual, tensors)
    return bool(
        torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or torch.compiler.is_compiling()
        or torch._C._are_functorch_transforms_active()  # vmap and its like
        or torch._C._len_torch_dispatch_stack()  # make_fx, a counter of operations
        or any(dual.tangent is not None for dual in duals)
    )


def scan_steps(
    step: Callable[..., Tensor | tuple[Tensor, ...]],
    steps: Tensor,
    weights: tuple[Tensor, ...],
    states: tuple[Tensor, ...],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """H of every step, and the last states, for exports: one loop of any length."""
    from torch._higher_order_ops import scan  # a prototype, far too slow elsewhere

    # scan wants tensors that share nothing: it mixes up two states that are one
    weights = tuple(weight.clone() for weight in weights)
    states = tuple(state.clone() for state in states)

    def body(
        before: tuple[Tensor, ...],
        x: Tensor,
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        after = step(x, *weights, *before)
        after = after if isinstance(after, tuple) else (after,)
        return after, after[0].clone()

    last, y = scan(body, states, steps)
    return y, last


def in_own_dtype(method: Callable[..., object]) -> Callable[..., object]:
    """`method` of a Sequence, without autocast: its tensors have one dtype already."""

    @wraps(method)
    def run(ctx: object, *tensors: Tensor) -> object:
        device = tensors[0].device.type
        known = torch.amp.is_autocast_available(device)
        if not known or not torch.is_autocast_enabled(device):
            return method(ctx, *tensors)
        with torch.autocast(device, enabled=False):
            return method(ctx, *tensors)

    return run


def followed(*slopes: Tensor) -> bool:
    """True within a backward pass that is derived again, or that vmap runs for many."""
    # a tensor of vmap has no storage of its own
    return torch.is_grad_enabled() or not all(map(torch._C._has_storage, slopes))


def replayed(
    unroll: Callable[..., tuple[Tensor, ...]],
    inputs: tuple[Tensor, ...],
    slopes: tuple[Tensor, ...],
    past: Tensor | float = 0.0,
) -> list[Tensor | None]:
    """Gradients by a record of every step; `past` is what steps have of the states."""
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        steps, *others = inputs
        inputs = (steps - past, *(part.view_as(part) for part in others))
        outputs = unroll(*inputs)
    # without a step no output need have a gradient
    ends = [n for n, end in enumerate(outputs) if end.requires_grad]
    moved = [part for part in inputs if part.requires_grad]
    found = iter(
        torch.autograd.grad(
            [outputs[n] for n in ends],
            moved,
            [slopes[n] for n in ends],
            create_graph=again,
            allow_unused=True,
        )
    )
    return [next(found) if part.requires_grad else None for part in inputs]


def value_and_slope(
    function: Callable[[Tensor], Tensor],
    x: Tensor,
) -> tuple[Tensor, Tensor]:
    """An elementwise function of `x`, and its derivative."""
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        y = function(x)
        (slope,) = torch.autograd.grad(y.sum(), x)
    # that of the identity is one number, stretched, into which nothing can be written
    return y.detach(), slope.contiguous()


class LSTMSequence(torch.autograd.Function):
    """All steps of an LSTM, with a gradient of its own; to record each is slow."""

    @staticmethod
    @in_own_dtype
    def forward(ctx, steps, weight, h_0, c_0, gate, activation, unroll):  # type: ignore[no-untyped-def]
        """The output of every step and the last states; `steps` become all their sums."""
        # before and after each step
        hs = steps.new_empty(steps.shape[0] + 1, *h_0.shape)
        cs = torch.empty_like(hs)
        hs[0], cs[0] = h, c = h_0, c_0
        sums = steps.unflatten(2, (4, weight.shape[0]))
        parts = steps, sums[:, :, :3], sums[:, :, 3], hs[1:], cs[1:]
        every = zip(*(part.unbind(0) for part in parts), strict=True)
        for step, gates, g, new_h, new_c in every:
            step.addmm_(h, weight)
            o, i, f = gate(gates).unbind(1)
            torch.mul(f, c, out=new_c).addcmul_(i, activation(g))
            torch.mul(o, activation(new_c), out=new_h)
            h, c = new_h, new_c
        starts = (part if part.requires_grad else None for part in (h_0, c_0))
        ctx.save_for_backward(steps, weight, hs, cs, *starts)
        ctx.gate, ctx.activation, ctx.unroll = gate, activation, unroll
        return hs[1:].clone(), hs[-1].clone(), cs[-1].clone()

    @staticmethod
    @in_own_dtype
    def backward(ctx, dy, dh, dc):  # type: ignore[no-untyped-def]
        """Slopes of all steps at once; the loop has what needs the step after."""
        steps, weight, hs, cs, h_0, c_0 = ctx.saved_tensors
        if followed(dy, dh, dc):
            states = hs[0] if h_0 is None else h_0, cs[0] if c_0 is None else c_0
            inputs, slopes = (steps, weight, *states), (dy, dh, dc)
            past = (hs[:-1] @ weight).detach()
            return *replayed(ctx.unroll, inputs, slopes, past), None, None, None
        sums = steps.unflatten(2, (4, weight.shape[0]))
        gates, slopes = value_and_slope(ctx.gate, sums[:, :, :3])
        (o, i, f), (o_slope, i_slope, f_slope) = gates.unbind(2), slopes.unbind(2)
        g, g_slope = value_and_slope(ctx.activation, sums[:, :, 3])
        a, a_slope = value_and_slope(ctx.activation, cs[1:])
        # h = o * a by the sum of o; c = i * g + f * (c before) by the other sums
        by_sums = [a * o_slope, g * i_slope, cs[:-1] * f_slope, i * g_slope]
        d = torch.stack(by_sums, dim=2)
        d_sums = d.flatten(2)
        parts = dy, o * a_slope, f, d[:, :, 0], d[:, :, 1:], d_sums
        every = [*zip(*(part.unbind(0) for part in parts), strict=True)]
        for dy_t, h_by_c, f_t, by_h, by_c, d_t in reversed(every):
            dh = dh + dy_t
            dc = torch.addcmul(dc, dh, h_by_c)
            by_h *= dh
            by_c *= dc.unsqueeze(1)
            dh, dc = d_t @ weight.t(), dc * f_t
        d_weight = hs[:-1].flatten(0, 1).t() @ d_sums.flatten(0, 1)
        return d_sums, d_weight, dh, dc, None, None, None


class LSTM(nn.Module):
    """`nn.LSTM(batch_first=True)` with other activations; its parameters are the same.

    A gate is gate(slope * x + offset), with slope and offset inside weights and bias.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        gate: Callable[[Tensor], Tensor] = torch.sigmoid,
        slope: float = 1.0,
        offset: float = 0.0,
        elementwise: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.activation = activation
        self.gate = gate
        self.slope = slope
        self.offset = offset
        self.elementwise = elementwise
        self.weight_ih_l0 = nn.Parameter(torch.zeros(4 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(4 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(4 * hidden_size)) if bias else None
        self.bias_hh_l0 = nn.Parameter(torch.zeros(4 * hidden_size)) if bias else None

    def forward(
        self,
        x: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) -> (batch, time, hidden) and the last states (h, c)."""
        steps, weight = self.project(x), self.order(self.weight_hh_l0).t().contiguous()
        zeros = steps.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        if steps.dtype != weight.dtype:  # autocast
            weight, h, c = weight.to(steps.dtype), h.to(steps.dtype), c.to(steps.dtype)
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            y, h, c = self.unroll(steps, weight, h, c)
        elif torch.compiler.is_exporting():
            y, (h, c) = scan_steps(self.step, steps, (weight,), (h, c))
        elif recorded(steps, weight, h, c) or not self.elementwise:
            y, h, c = self.unroll(steps, weight, h, c)
        else:
            functions = self.gate, self.activation, self.unroll
            y, h, c = LSTMSequence.apply(steps, weight, h, c, *functions)
        return y.transpose(0, 1), (h, c)

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, (time, batch, 4 * hidden), in one product."""
        bias = x.new_zeros(4 * self.hidden_size)
        if self.bias_ih_l0 is not None and self.bias_hh_l0 is not None:
            bias = self.bias_ih_l0 + self.bias_hh_l0
        bias = self.order(bias, self.offset)
        return F.linear(x.transpose(0, 1), self.order(self.weight_ih_l0), bias)

    def order(self, rows: Tensor, offset: float = 0.0) -> Tensor:
        """Rows of i, f, g, o as the loop has them, o, i, f, g: gates side by side."""
        rows = rows.roll(self.hidden_size, 0)
        return scaled(rows, 3 * self.hidden_size, self.slope, offset)

    def unroll(
        self,
        steps: Tensor,
        weight: Tensor,
        h: Tensor,
        c: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The output of every step and the last states, by operations of their own."""
        outputs = [h]
        for step in steps.unbind(0):
            h, c = self.step(step, weight, h, c)
            outputs.append(h)
        return torch.stack(outputs)[1:], h, c

    def step(
        self,
        step: Tensor,
        weight: Tensor,
        h: Tensor,
        c: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The states after one step."""
        o, i, f, g = torch.addmm(step, h, weight).chunk(4, dim=1)
        c = torch.addcmul(self.gate(f) * c, self.gate(i), self.activation(g))
        return self.gate(o) * self.activation(c), c


class MaskedLSTM(LSTM):
    """An LSTM whose states a masked step leaves alone."""

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        mask: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """(batch, time, input) and a mask (batch, time), True where a step counts."""
        if mask.shape != x.shape[:2]:
            wanted, got = list(x.shape[:2]), list(mask.shape)
            raise ValueError(f"mask: expected shape {wanted}, got {got}")
        x = x.masked_fill(~mask.unsqueeze(2), 0.0)  # NaN would reach the gradients
        steps, weight = self.project(x), self.order(self.weight_hh_l0).t().contiguous()
        zeros = steps.new_zeros(x.shape[0], self.hidden_size)
        h, c = (zeros, zeros) if state is None else state
        if steps.dtype != weight.dtype:  # autocast
            weight, h, c = weight.to(steps.dtype), h.to(steps.dtype), c.to(steps.dtype)
        outputs = [h]
        for t, step in enumerate(steps.unbind(0)):
            keep = mask[:, t, None]
            new_h, new_c = self.step(step, weight, h, c)
            h, c = torch.where(keep, new_h, h), torch.where(keep, new_c, c)
            outputs.append(h)
        # there is nothing to repeat before the first step that counts
        empty = mask.long().cumsum(1).unsqueeze(2) == 0
        return torch.stack(outputs, dim=1)[:, 1:].masked_fill(empty, 0.0), (h, c)


class GRUSequence(torch.autograd.Function):
    """All steps of a GRU, with a gradient of its own; to record each is slow."""

    @staticmethod
    @in_own_dtype
    def forward(ctx, steps, weight, bias, h_0, gate, activation, unroll):  # type: ignore[no-untyped-def]
        """The output of every step and the last state."""
        # before and after each step
        hs = steps.new_empty(steps.shape[0] + 1, *h_0.shape)
        hs[0] = h = h_0
        hidden = steps.new_empty(len(h_0), 3, weight.shape[0])
        flat, gates, hidden_n = hidden.flatten(1), hidden[:, :2], hidden[:, 2]
        x = steps.unflatten(2, (3, weight.shape[0]))
        parts = x[:, :, :2], x[:, :, 2], hs[1:]
        every = zip(*(part.unbind(0) for part in parts), strict=True)
        for x_gates, x_n, new_h in every:
            torch.addmm(bias, h, weight, out=flat)
            r, z = gate(gates.add_(x_gates)).unbind(1)
            n = activation(torch.addcmul(x_n, r, hidden_n))
            h = torch.lerp(n, h, z, out=new_h)
        h_0 = h_0 if h_0.requires_grad else None
        ctx.save_for_backward(steps, weight, bias, hs, h_0)
        ctx.gate, ctx.activation, ctx.unroll = gate, activation, unroll
        return hs[1:].clone(), hs[-1].clone()

    @staticmethod
    @in_own_dtype
    def backward(ctx, dy, dh):  # type: ignore[no-untyped-def]
        """Slopes of all steps at once; the loop has what needs the step after."""
        steps, weight, bias, hs, h_0 = ctx.saved_tensors
        if followed(dy, dh):
            inputs = steps, weight, bias, hs[0] if h_0 is None else h_0
            return *replayed(ctx.unroll, inputs, (dy, dh)), None, None, None
        before, units = hs[:-1], weight.shape[0]
        x = steps.unflatten(2, (3, units))
        hidden = (before @ weight + bias).unflatten(2, (3, units))
        gates, slopes = value_and_slope(ctx.gate, (x + hidden)[:, :, :2])
        (r, z), (r_slope, z_slope) = gates.unbind(2), slopes.unbind(2)
        hidden_n = hidden[:, :, 2]
        sums = torch.addcmul(x[:, :, 2], r, hidden_n)
        n, n_slope = value_and_slope(ctx.activation, sums)
        n_slope *= 1 - z
        # h by the sums of r and z, by the hidden part of n, and by n's sum
        by_r, by_z = n_slope * hidden_n * r_slope, (before - n) * z_slope
        d = torch.stack([by_r, by_z, n_slope * r, n_slope], dim=2)
        d_hidden = d[:, :, :3].flatten(2)
        every = [*zip(*(part.unbind(0) for part in (dy, z, d, d_hidden)), strict=True)]
        for dy_t, z_t, d_t, d_hidden_t in reversed(every):
            dh = dh + dy_t
            d_t *= dh.unsqueeze(1)
            dh = torch.addmm(dh * z_t, d_hidden_t, weight.t())
        d_steps = torch.cat([d[:, :, :2], d[:, :, 3:]], dim=2).flatten(2)
        d_weight = before.flatten(0, 1).t() @ d_hidden.flatten(0, 1)
        return d_steps, d_weight, d_hidden.sum((0, 1)), dh, None, None, None


class GRU(nn.Module):
    """`nn.GRU(batch_first=True)` with other activations; its parameters are the same.

    A gate is gate(slope * x + offset), with slope and offset inside weights and bias.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: Callable[[Tensor], Tensor] = torch.tanh,
        gate: Callable[[Tensor], Tensor] = torch.sigmoid,
        slope: float = 1.0,
        offset: float = 0.0,
        elementwise: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.activation = activation
        self.gate = gate
        self.slope = slope
        self.offset = offset
        self.elementwise = elementwise
        self.weight_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(3 * hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None
        self.bias_hh_l0 = nn.Parameter(torch.zeros(3 * hidden_size)) if bias else None

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state."""
        steps, (weight, bias) = self.project(x), self.recurrent()
        h = steps.new_zeros(x.shape[0], self.hidden_size) if state is None else state
        if steps.dtype != weight.dtype:  # autocast
            weight, bias = weight.to(steps.dtype), bias.to(steps.dtype)
            h = h.to(steps.dtype)
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            y, h = self.unroll(steps, weight, bias, h)
        elif torch.compiler.is_exporting():
            y, (h,) = scan_steps(self.step, steps, (weight, bias), (h,))
        elif recorded(steps, weight, bias, h) or not self.elementwise:
            y, h = self.unroll(steps, weight, bias, h)
        else:
            functions = self.gate, self.activation, self.unroll
            y, h = GRUSequence.apply(steps, weight, bias, h, *functions)
        return y.transpose(0, 1), h

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, (time, batch, 3 * hidden), in one product."""
        bias = x.new_zeros(3 * self.hidden_size)
        if self.bias_ih_l0 is not None:
            bias = self.bias_ih_l0
        bias = self.order(bias, self.offset)
        return F.linear(x.transpose(0, 1), self.order(self.weight_ih_l0), bias)

    def recurrent(self) -> tuple[Tensor, Tensor]:
        """Weight and bias of the product with the state."""
        bias = self.weight_hh_l0.new_zeros(3 * self.hidden_size)
        if self.bias_hh_l0 is not None:
            bias = self.bias_hh_l0
        weight = self.order(self.weight_hh_l0).t().contiguous()
        return weight, self.order(bias)

    def order(self, rows: Tensor, offset: float = 0.0) -> Tensor:
        """Rows of r, z, n as the loop has them."""
        return scaled(rows, 2 * self.hidden_size, self.slope, offset)

    def unroll(
        self,
        steps: Tensor,
        weight: Tensor,
        bias: Tensor,
        h: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The output of every step and the last state, by operations of their own."""
        outputs = [h]
        for step in steps.unbind(0):
            h = self.step(step, weight, bias, h)
            outputs.append(h)
        return torch.stack(outputs)[1:], h

    def step(self, step: Tensor, weight: Tensor, bias: Tensor, h: Tensor) -> Tensor:
        """The state after one step."""
        # flatten changes nothing, but torch.onnx takes a step of a script for 3-D
        x_r, x_z, x_n = step.flatten(1).chunk(3, dim=1)
        h_r, h_z, h_n = torch.addmm(bias, h, weight).chunk(3, dim=1)
        n = self.activation(torch.addcmul(x_n, self.gate(x_r + h_r), h_n))
        z = self.gate(x_z + h_z)
        # (1 - z) * n + z * h; autocast may have changed the dtype of an activation
        return torch.lerp(n.to(h.dtype), h, z.to(h.dtype))


class GRUResetBeforeSequence(torch.autograd.Function):
    """All steps of a GRU, with a gradient of its own; to record each is slow."""

    @staticmethod
    @in_own_dtype
    def forward(ctx, steps, gates, candidate, h_0, gate, activation, unroll):  # type: ignore[no-untyped-def]
        """The output of every step and the last state; `steps` become all their sums."""
        # before and after each step
        hs = steps.new_empty(steps.shape[0] + 1, *h_0.shape)
        hs[0] = h = h_0
        sums = steps.unflatten(2, (3, len(candidate)))
        parts = sums[:, :, :2].flatten(2), sums[:, :, :2], sums[:, :, 2], hs[1:]
        every = zip(*(part.unbind(0) for part in parts), strict=True)
        for step, both, n, new_h in every:
            step.addmm_(h, gates)
            r, z = gate(both).unbind(1)
            n.addmm_(r * h, candidate)
            h = torch.lerp(activation(n), h, z, out=new_h)
        h_0 = h_0 if h_0.requires_grad else None
        ctx.save_for_backward(steps, gates, candidate, hs, h_0)
        ctx.gate, ctx.activation, ctx.unroll = gate, activation, unroll
        return hs[1:].clone(), hs[-1].clone()

    @staticmethod
    @in_own_dtype
    def backward(ctx, dy, dh):  # type: ignore[no-untyped-def]
        """Slopes of all steps at once; the loop has what needs the step after."""
        steps, gates, candidate, hs, h_0 = ctx.saved_tensors
        before, units = hs[:-1], len(candidate)
        sums = steps.unflatten(2, (3, units))
        if followed(dy, dh):
            reset = ctx.gate(sums[:, :, 0]) * before
            past = torch.cat([before @ gates, reset @ candidate], dim=2).detach()
            inputs = steps, gates, candidate, hs[0] if h_0 is None else h_0
            return *replayed(ctx.unroll, inputs, (dy, dh), past), None, None, None
        both, slopes = value_and_slope(ctx.gate, sums[:, :, :2])
        (r, z), (r_slope, z_slope) = both.unbind(2), slopes.unbind(2)
        n, n_slope = value_and_slope(ctx.activation, sums[:, :, 2])
        # r * (h before) by the sum of r; h by the sums of z and n
        by_sums = [before * r_slope, (before - n) * z_slope, (1 - z) * n_slope]
        d = torch.stack(by_sums, dim=2)
        d_gates, d_n = d[:, :, :2].flatten(2), d[:, :, 2]
        parts = dy, r, z, d[:, :, 0], d[:, :, 1:], d_gates, d_n
        every = [*zip(*(part.unbind(0) for part in parts), strict=True)]
        for dy_t, r_t, z_t, by_reset, by_h, d_gates_t, d_n_t in reversed(every):
            dh = dh + dy_t
            by_h *= dh.unsqueeze(1)
            d_reset = d_n_t @ candidate.t()
            by_reset *= d_reset
            dh = torch.addcmul(dh * z_t, d_reset, r_t).addmm(d_gates_t, gates.t())
        d_weight = before.flatten(0, 1).t() @ d_gates.flatten(0, 1)
        d_candidate = (r * before).flatten(0, 1).t() @ d_n.flatten(0, 1)
        return d.flatten(2), d_weight, d_candidate, dh, None, None, None


class GRUResetBefore(GRU):
    """`nn.GRU(batch_first=True)` that resets h, not its product; parameters are the same.

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
        if steps.dtype != gates.dtype:  # autocast
            gates, candidate = gates.to(steps.dtype), candidate.to(steps.dtype)
            h = h.to(steps.dtype)
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            y, h = self.unroll(steps, gates, candidate, h)
        elif torch.compiler.is_exporting():
            y, (h,) = scan_steps(self.step, steps, (gates, candidate), (h,))
        elif recorded(steps, gates, candidate, h) or not self.elementwise:
            y, h = self.unroll(steps, gates, candidate, h)
        else:
            functions = self.gate, self.activation, self.unroll
            y, h = GRUResetBeforeSequence.apply(steps, gates, candidate, h, *functions)
        return y.transpose(0, 1), h

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, (time, batch, 3 * hidden), in one product."""
        bias = x.new_zeros(3 * self.hidden_size)
        if self.bias_ih_l0 is not None and self.bias_hh_l0 is not None:
            bias = self.bias_ih_l0 + self.bias_hh_l0
        bias = self.order(bias, self.offset)
        return F.linear(x.transpose(0, 1), self.order(self.weight_ih_l0), bias)

    def recurrent(self) -> tuple[Tensor, Tensor]:
        """Weights of the products with the state, of r and z, and with the reset one."""
        weight = self.order(self.weight_hh_l0).t().contiguous()
        return weight[:, : 2 * self.hidden_size], weight[:, 2 * self.hidden_size :]

    def unroll(
        self,
        steps: Tensor,
        gates: Tensor,
        candidate: Tensor,
        h: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The output of every step and the last state, by operations of their own."""
        outputs = [h]
        for step in steps.unbind(0):
            h = self.step(step, gates, candidate, h)
            outputs.append(h)
        return torch.stack(outputs)[1:], h

    def step(self, step: Tensor, gates: Tensor, candidate: Tensor, h: Tensor) -> Tensor:
        """The state after one step."""
        x, x_n = step.split([2 * self.hidden_size, self.hidden_size], dim=1)
        r, z = torch.addmm(x, h, gates).chunk(2, dim=1)
        n = self.activation(torch.addmm(x_n, self.gate(r) * h, candidate))
        # (1 - z) * n + z * h; autocast may have changed the dtype of an activation
        return torch.lerp(n.to(h.dtype), h, self.gate(z).to(h.dtype))


class RNNSequence(torch.autograd.Function):
    """All steps of an RNN, with a gradient of its own; to record each is slow."""

    @staticmethod
    @in_own_dtype
    def forward(ctx, steps, weight, h_0, activation, unroll):  # type: ignore[no-untyped-def]
        """The output of every step and the last state; `steps` become their sums."""
        # before and after each step
        hs = steps.new_empty(steps.shape[0] + 1, *h_0.shape)
        hs[0] = h = h_0
        for step, new_h in zip(steps.unbind(0), hs[1:].unbind(0), strict=True):
            h = new_h.copy_(activation(step.addmm_(h, weight)))
        h_0 = h_0 if h_0.requires_grad else None
        ctx.save_for_backward(steps, weight, hs, h_0)
        ctx.activation, ctx.unroll = activation, unroll
        return hs[1:].clone(), hs[-1].clone()

    @staticmethod
    @in_own_dtype
    def backward(ctx, dy, dh):  # type: ignore[no-untyped-def]
        """Slopes of all steps at once; the loop has what needs the step after."""
        steps, weight, hs, h_0 = ctx.saved_tensors
        if followed(dy, dh):
            h_0 = hs[0] if h_0 is None else h_0
            past = (hs[:-1] @ weight).detach()
            inputs = steps, weight, h_0
            return *replayed(ctx.unroll, inputs, (dy, dh), past), None, None
        _, d = value_and_slope(ctx.activation, steps)
        for dy_t, d_t in reversed([*zip(dy.unbind(0), d.unbind(0), strict=True)]):
            d_t *= dh + dy_t
            dh = d_t @ weight.t()
        d_weight = hs[:-1].flatten(0, 1).t() @ d.flatten(0, 1)
        return d, d_weight, dh, None, None


class RNN(nn.Module):
    """`nn.RNN(batch_first=True)` with another activation; its parameters are the same."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        activation: Callable[[Tensor], Tensor],
        elementwise: bool = True,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.hidden_size = hidden_size
        self.activation = activation
        self.elementwise = elementwise
        self.weight_ih_l0 = nn.Parameter(torch.zeros(hidden_size, input_size))
        self.weight_hh_l0 = nn.Parameter(torch.zeros(hidden_size, hidden_size))
        self.bias_ih_l0 = nn.Parameter(torch.zeros(hidden_size)) if bias else None
        self.bias_hh_l0 = nn.Parameter(torch.zeros(hidden_size)) if bias else None

    def forward(
        self,
        x: Tensor,
        state: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """(batch, time, input) -> (batch, time, hidden) and the last state."""
        steps, (weight,) = self.project(x), self.recurrent()
        h = steps.new_zeros(x.shape[0], self.hidden_size) if state is None else state
        if steps.dtype != weight.dtype:  # autocast
            weight, h = weight.to(steps.dtype), h.to(steps.dtype)
        if torch.jit.is_scripting():  # pyright: ignore[reportPrivateImportUsage]
            y, h = self.unroll(steps, weight, h)
        elif torch.compiler.is_exporting():
            y, (h,) = scan_steps(self.step, steps, (weight,), (h,))
        elif recorded(steps, weight, h) or not self.elementwise:
            y, h = self.unroll(steps, weight, h)
        else:
            y, h = RNNSequence.apply(steps, weight, h, self.activation, self.unroll)
        return y.transpose(0, 1), h

    def project(self, x: Tensor) -> Tensor:
        """The input's part of every step, (time, batch, hidden), in one product."""
        bias = self.bias_ih_l0
        if bias is not None and self.bias_hh_l0 is not None:
            bias = bias + self.bias_hh_l0
        return F.linear(x.transpose(0, 1), self.weight_ih_l0, bias)

    def recurrent(self) -> tuple[Tensor]:
        """The weight of the product with the state."""
        return (self.weight_hh_l0.t().contiguous(),)

    def unroll(self, steps: Tensor, weight: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The output of every step and the last state, by operations of their own."""
        outputs = [h]
        for step in steps.unbind(0):
            h = self.step(step, weight, h)
            outputs.append(h)
        return torch.stack(outputs)[1:], h

    def step(self, step: Tensor, weight: Tensor, h: Tensor) -> Tensor:
        """The state after one step."""
        return self.activation(torch.addmm(step, h, weight))
