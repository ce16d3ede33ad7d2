"""Writes recurrent layers as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module.
`LSTM(3, 4, return_sequences=True)`, named a:

    self.a = nn.LSTM(3, 4, batch_first=True)
    x, _ = self.a(x)

A mask holds the state, so a layer runs over the valid steps alone, which are moved to the front:

    x, _ = self.a(valid_first(x, mask))
    x = repeat_last(x, mask)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from itertools import count

from xlstm.ir import layers as L
from xlstm.ir.literals import literal
from xlstm.ir.permutes import OVER_LAST_AXIS

from ...codegen.source import (
    Argument,
    CallExpr,
    ModuleSource,
    call,
    listed,
    statement,
    template_sources,
)
from ..activations import CELLS as ACTIVATION_CELLS
from ..activations import SCALED_GATES
from ..native import is_stacked, native, pair, reads_cell, reason
from .writer import (
    CELLS,
    LAYER_CELLS,
    WRITERS,
    TorchLayerWriter,
    class_source,
    stacked_source,
)

MASKS = "torch/templates/masks.py"


def kind_of(spec: L.Recurrent) -> str:
    """Returns PyTorch's name of a layer: LSTM, GRU or RNN."""
    return "RNN" if isinstance(spec, L.SimpleRNN) else spec.kind


def native_call(spec: L.Recurrent, *, both: bool = False, name: str = "") -> CallExpr:
    """Returns the native module of a layer, in both directions if `both`, or a class like it."""
    projection = spec.projection if isinstance(spec, L.LSTM) else 0
    relu = isinstance(spec, L.SimpleRNN) and spec.activation == "relu"
    return call(
        name or f"nn.{kind_of(spec)}",
        literal(spec.features),
        literal(spec.units),
        ("nonlinearity", '"relu"') if relu else None,
        None if spec.use_bias else ("bias", "False"),
        ("batch_first", "True"),
        ("bidirectional", "True") if both else None,
        ("proj_size", literal(projection)) if projection else None,
    )


def _keeps_cell(spec: L.Recurrent, at: TorchLayerWriter) -> bool:
    """True for a module that takes a mask itself, as its last cell state is read."""
    return bool(at.site.mask) and reads_cell(spec)


def _own_call(spec: L.Recurrent, at: TorchLayerWriter) -> CallExpr:
    """Returns the call of our own cell, where no native module is exact."""
    if isinstance(spec, L.ConvLSTM):
        return _conv_lstm_call(spec, at)
    if native(spec):
        names = ("valid_first", "repeat_last", "last_valid", "MaskedNativeLSTM")
        at.parts.use_template(MASKS, *names)
        return native_call(spec, name="MaskedNativeLSTM")
    name = kind_of(spec)
    if isinstance(spec, L.GRU) and not spec.reset_after:
        name = "GRUResetBefore"
    activation, gates = at.function(spec.activation), list[Argument | None]()
    if isinstance(spec, (L.LSTM, L.GRU)):
        gates = _gate_arguments(spec.gate_activation, at)
    default = spec.activation == "tanh" and name != "RNN"
    mixes = {spec.activation, getattr(spec, "gate_activation", "")} & {*OVER_LAST_AXIS}
    name = f"Masked{name}" if _keeps_cell(spec, at) else name
    _use_cell(name, at)
    return call(
        name,
        literal(spec.features),
        literal(spec.units),
        None if default else ("activation", activation),
        *gates,
        ("elementwise", "False") if mixes else None,
        None if spec.use_bias else ("bias", "False"),
    )


def _gate_arguments(gate: str, at: TorchLayerWriter) -> list[Argument | None]:
    """Returns the arguments for a gate's function, with the slope and offset of its argument."""
    if gate in SCALED_GATES:
        helper, slope, offset = SCALED_GATES[gate]
        at.parts.use_template(ACTIVATION_CELLS, helper)
        return [("gate", helper), ("slope", slope), ("offset", offset)]
    return [None if gate == "sigmoid" else ("gate", at.function(gate))]


def _use_cell(name: str, at: TorchLayerWriter) -> None:
    """Adds the class of an own cell, and the functions and the gradient that it uses."""
    if not name.endswith("RNN"):
        at.parts.use_template(CELLS, "scaled")
    if is_stacked() and not name.startswith("Masked"):
        at.parts.add_helper(stacked_source(name))
        return
    if not name.startswith("Masked"):
        at.parts.use_template(CELLS, "recorded", "scan_steps", "in_own_dtype", "followed")
        at.parts.use_template(CELLS, "replayed", "value_and_slope")
        at.parts.add_helper(class_source(CELLS, f"{name}Sequence"))
    at.parts.add_helper(class_source(CELLS, name))


def _conv_lstm_call(spec: L.ConvLSTM, at: TorchLayerWriter) -> CallExpr:
    """Returns the call of our own ConvLSTM, for a number of axes."""
    name, rank = "MaskedConvLSTM" if _keeps_cell(spec, at) else "ConvLSTM", len(spec.space)
    text = class_source(LAYER_CELLS, name)
    text = text.replace(f"class {name}(", f"class {name}{rank}d(").replace("Conv2d", f"Conv{rank}d")
    text = text.replace(": tuple[int, int]", f": tuple[{', '.join(['int'] * rank)}]")
    text = text.replace("movedim(3, 1)", f"movedim({rank + 1}, 1)")
    text = text.replace("movedim(1, 3)", f"movedim(1, {rank + 1})")
    at.parts.use_template(LAYER_CELLS, "pad_same")
    at.parts.add_helper(text)
    activation, gate = at.function(spec.activation), at.function(spec.gate_activation)
    return call(
        f"{name}{rank}d",
        literal(spec.features),
        literal(spec.units),
        literal(spec.window),
        ("strides", literal(spec.strides)),
        ("same", literal(spec.padding == "same")),
        ("dilation", literal(spec.dilation)),
        None if activation == "torch.tanh" else ("activation", activation),
        None if gate == "torch.sigmoid" else ("gate", gate),
        ("forget_offset", literal(spec.forget_offset)) if spec.forget_offset else None,
        None if spec.use_bias else ("bias", "False"),
    )


def _joined(names: Sequence[str]) -> str:
    """Returns the text of a layer's states, "_" where nothing reads one."""
    if set(names) == {"_"}:
        return "_"
    return f"({', '.join(names)})" if len(names) > 1 else names[0]


def _write_steps(
    spec: L.Recurrent,
    at: TorchLayerWriter,
    module: str,
    before: Sequence[str],
    after: Sequence[str],
    y: str,
    *,
    whole: bool = False,
) -> list[str]:
    """Writes one call of a module along the time axis; returns its last states, (batch, units).

    Args:
        spec: the module's layer.
        at: context.
        module: expression for the module.
        before: variables of the initial states; empty for zeros.
        after: variables of its last states, "_" where nothing reads one.
        y: variable of its output.
        whole: True for a module of two directions, whose states stay as they are.
    """
    mask, turned = at.site.mask, ".flip(1)" if spec.go_backwards else ""
    single = native(spec) and not whole
    axis = ".unsqueeze(0)" if single else ""
    start = _joined([f"{name}{axis}" for name in before]) if before else None
    if mask and not reads_cell(spec):
        _write_valid_steps(spec, at, module, start, [*before[:1]], after[0], y)
        return [*after]
    x = at.x + turned
    value = call(module, x, mask + turned, start) if mask else call(module, x, start)
    at.assign(f"{y}, {_joined(after)}", value)
    if mask and spec.zero_output_for_mask and y != "_":
        at.assign(y, _zeros_where_masked(spec, f"{mask}{turned}", y))
    if y != "_" and not spec.return_sequences:
        at.assign(y, _at_last_step(y))
    return [f"{name}.squeeze(0)" if single else name for name in after]


def _write_valid_steps(
    spec: L.Recurrent,
    at: TorchLayerWriter,
    module: str,
    start: str | None,
    before: Sequence[str],
    h: str,
    y: str,
) -> None:
    """Writes one call over the valid steps; its last h is the last output, or the first h."""
    mask, turned = at.site.mask, ".flip(1)" if spec.go_backwards else ""
    if {h, y} == {"_"}:
        return
    at.parts.use_template(MASKS, "valid_first")
    steps, every = at.site.free("x") if y == "_" else y, mask + turned
    at.assign(f"{steps}, _", call(module, call("valid_first", at.x + turned, every), start))
    if h != "_":
        at.parts.use_template(MASKS, "last_valid")
        at.assign(h, call("last_valid", steps, mask, *before))
    if y == "_":
        return
    last = not spec.return_sequences and not spec.zero_output_for_mask
    name = "last_valid" if last else "repeat_last"
    at.parts.use_template(MASKS, name)
    at.assign(y, call(name, steps, mask if last else every))
    if spec.zero_output_for_mask:
        at.assign(y, _zeros_where_masked(spec, every, y))
        if not spec.return_sequences:
            at.assign(y, _at_last_step(y))


def _at_last_step(y: str) -> CallExpr:
    """Returns the last output of a sequence."""
    return CallExpr(y, (":", "-1"), "[]")


def _zeros_where_masked(spec: L.Recurrent, mask: str, y: str) -> CallExpr:
    """Returns outputs with zeros where the mask is False."""
    axes = len(spec.space) if isinstance(spec, L.ConvLSTM) else 0
    return call(f"{y}.masked_fill", f"~{mask}" + ".unsqueeze(-1)" * (axes + 1), "0.0")


def _states_before(
    spec: L.Recurrent | L.Bidirectional, at: TorchLayerWriter, words: Sequence[str]
) -> list[str]:
    """Returns variables of the initial states of a layer, and writes lines that set them."""
    site, names = at.site, list[str]()
    if not site.states and not spec.stateful:
        return []
    for number, word in enumerate(words):
        # a checked state may have the variable of the state itself, where nothing else reads that
        others = (*site.inputs, site.mask, *site.states[:number], *site.states[number + 1 :])
        names.append(site.free(word) if word in site.busy or word in others else word)
    if not site.states:
        several = ", ".join(names) if len(names) > 1 else f"({names[0]},)"
        at.assign(several, CallExpr("before", (f'"{site.name}"',), "[]"))
        return names
    half = spec.forward if isinstance(spec, L.Bidirectional) else spec
    # ConvLSTM checks its states itself
    if isinstance(half, L.ConvLSTM) or at.parts.computed(site.states):
        return list(site.states)
    at.parts.use_template(CELLS, "checked")
    for name, state, shape in zip(names, site.states, spec.state_shapes(), strict=True):
        at.assign(name, call("checked", state, at.x, literal(shape[-1] or 0)))
    return names


def _states_after(
    spec: L.Recurrent | L.Bidirectional, at: TorchLayerWriter, words: Sequence[str]
) -> list[str]:
    """Returns variables for the last states of a layer; they are its last outputs if returned."""
    pairs = zip(words, _state_outputs(at, len(words)), strict=True)
    return [at.site.free(word) if name == "_" and spec.stateful else name for word, name in pairs]


def _state_outputs(at: TorchLayerWriter, number: int) -> Sequence[str]:
    """Returns variables of the outputs that are states, "_" where nothing reads one."""
    outputs = at.site.outputs
    return outputs[-number:] if len(outputs) > number else ["_"] * number


def _return_states(
    spec: L.Recurrent | L.Bidirectional, at: TorchLayerWriter, values: Sequence[str]
) -> None:
    """Sets the last states (batch, units) as outputs, and as states for the next call."""
    final = []
    for name, value in zip(_state_outputs(at, len(values)), values, strict=True):
        if name != "_":
            at.assign(name, value)
        final.append(value if name == "_" else name)
    if spec.stateful:
        at.assign(f'after["{at.site.name}"]', listed(final))


@WRITERS.of(L.LSTM, L.GRU, L.SimpleRNN, L.ConvLSTM)
def recurrent(spec: L.Recurrent, at: TorchLayerWriter) -> None:
    """A recurrent layer."""
    why = reason(spec, bool(at.site.mask))
    module, y = _own_call(spec, at) if why else native_call(spec), at.y
    if why:
        at.parts.init.append(f"        # {why}")
    at.set_attribute(module)
    words = "hc"[: spec.states]
    before, after = _states_before(spec, at, words), _states_after(spec, at, words)
    ends = _write_steps(spec, at, at.module, before, after, y)
    _return_states(spec, at, ends)


HALVES = ("forward", "backward")


def state_words(spec: L.LayerSpec) -> list[str]:
    """Returns names of the states of a layer: h and c, or forward_h and so on."""
    if isinstance(spec, L.Bidirectional):
        named = zip(HALVES, spec.halves, strict=True)
        return [f"{half}_{state}" for half, own in named for state in state_words(own)]
    return [*"hc"[: spec.states]] if isinstance(spec, L.Recurrent) else []


@WRITERS.of(L.Bidirectional)
def bidirectional(spec: L.Bidirectional, at: TorchLayerWriter) -> None:
    """A bidirectional layer: one native module, or two modules side by side."""
    words = state_words(spec)
    before = _states_before(spec, at, words)
    if pair(at.site.node):
        _write_pair(spec, at, before)
    else:
        _write_two(spec, at, before, _states_after(spec, at, words))


def _needed(spec: L.Bidirectional, at: TorchLayerWriter) -> tuple[bool, bool]:
    """True for each half whose output is needed."""
    read = at.site.read
    return (read(0), read(1)) if spec.merge == "none" else (read(0), read(0))


def _merge(spec: L.Bidirectional, at: TorchLayerWriter, a: str, b: str) -> None:
    """Joins the outputs of both halves to the outputs of the layer."""
    values: dict[str, str | CallExpr] = {
        "concat": call("torch.cat", listed([a, b]), ("dim", "-1")),
        "sum": f"{a} + {b}",
        "mul": f"{a} * {b}",
        "ave": f"({a} + {b}) / 2",
    }
    found = (a, b) if spec.merge == "none" else (values[spec.merge],)
    for y, value in zip(at.site.outputs, found, strict=False):
        if y != "_":
            at.assign(y, value)


def _write_pair(spec: L.Bidirectional, at: TorchLayerWriter, before: Sequence[str]) -> None:
    """Writes one native module with two directions; its states are (2, batch, units)."""
    at.set_attribute(native_call(spec.forward, both=True))
    number, site = spec.forward.states, at.site
    names = [site.free(state) for state in "hc"[:number]]
    for name, *halves in zip(names, before[:number], before[number:], strict=False):
        at.assign(name, call("torch.stack", listed(halves)))
    needed = any(_needed(spec, at))
    sequence = needed and spec.return_sequences
    y = (at.y if at.read(0) else site.free("x")) if sequence else "_"
    ends = _state_outputs(at, 2 * number)
    read = [spec.stateful or {*ends[n::number]} != {"_"} for n in range(number)]
    # the last output of the backward half is at the first step: h contains both
    read[0] = read[0] or (needed and not spec.return_sequences)
    after = [name if is_read else "_" for name, is_read in zip(names, read, strict=True)]
    _write_steps(spec.forward, at, at.module, before and names, after, y, whole=True)
    if sequence and spec.merge == "none":
        at.assign(", ".join(site.outputs[:2]), call(f"{y}.chunk", "2", ("dim", "-1")))
    elif sequence and spec.merge != "concat":
        a, b = map(site.free, HALVES)
        at.parts.forward.append(f"        {a}, {b} = {y}.chunk(2, dim=-1)")
        _merge(spec, at, a, b)
    elif needed and not sequence:
        _merge(spec, at, f"{names[0]}[0]", f"{names[0]}[1]")
    _return_states(spec, at, [f"{name}[{half}]" for half in (0, 1) for name in names])


def _write_two(
    spec: L.Bidirectional, at: TorchLayerWriter, before: Sequence[str], after: Sequence[str]
) -> None:
    """Writes two modules over the same input; the second one's sequence is reversed in time."""
    whys = [reason(half, bool(at.site.mask)) for half in spec.halves]
    at.parts.init += [f"        # {why}" for why in dict.fromkeys(filter(None, whys))]
    pairs = zip(spec.halves, whys, strict=True)
    modules = [_own_call(half, at) if why else native_call(half) for half, why in pairs]
    # an earlier call of the layer may have been written in the other way
    start = f"        {at.module} = "
    earlier = [line for line in at.parts.init if line.startswith(start)]
    as_dict = f"{start}nn.ModuleDict(" in earlier
    if spec.stateful or spec.forward.return_state or before or as_dict:
        if not earlier:
            _set_dict(at, modules)
        item = ".{}_layer" if earlier and not as_dict else '["{}_layer"]'
        _write_halves(spec, at, before, after, item)
        return
    name = _bidirectional_class(spec, at)
    at.set_attribute(call(name, *modules))
    if any(_needed(spec, at)):
        none = spec.merge == "none"
        values = at.site.outputs[:2] if none else [at.site.free(half) for half in HALVES]
        at.assign(", ".join(values), call(at.module, at.x, at.site.mask or None))
        _merge(spec, at, *values)


def _set_dict(at: TorchLayerWriter, modules: Sequence[CallExpr]) -> None:
    """Writes the attribute of two modules that are called one by one, for their states."""
    lines = [f"        {at.module} = nn.ModuleDict(", "            {"]
    for half, module in zip(HALVES, modules, strict=True):
        lines += statement(f'"{half}_layer": ', module, 16, ",")
    at.parts.init += [*lines, "            }", "        )"]


def _write_halves(
    spec: L.Bidirectional,
    at: TorchLayerWriter,
    before: Sequence[str],
    after: Sequence[str],
    item: str,
) -> None:
    """Writes the calls of two modules one after the other, with their states.

    Args:
        spec: the layer.
        at: context.
        before: variables of the initial states; empty for zeros.
        after: variables of the last states.
        item: text that takes a half out of the attribute.
    """
    values, ends = list[str](), list[str]()
    both = at.site.free("both")
    at.assign(both, at.module)
    for word, half, needed in zip(HALVES, spec.halves, _needed(spec, at), strict=True):
        own = slice(len(ends), len(ends) + half.states)
        y, name = at.site.free(word) if needed else "_", both + item.format(word)
        ends += _write_steps(half, at, name, before[own], after[own], y)
        values.append(y)
    if any(_needed(spec, at)):
        turned = ".flip(1)" if spec.return_sequences else ""
        _merge(spec, at, values[0], values[1] + turned)
    _return_states(spec, at, ends)


def _bidirectional_class(spec: L.Bidirectional, at: TorchLayerWriter) -> str:
    """Adds the class of two layers over the same steps; returns its name.

    Its forward pass is that of the layer: with a mask or without, all outputs or the last ones.
    """
    parts = ModuleSource(inputs=["x"])
    mask = "mask" if at.site.mask else ""
    node = replace(at.site, inputs=("x",), mask=mask, outputs=HALVES, busy=frozenset[str]())
    inner = replace(at, parts=parts, site=node)
    for word, half in zip(HALVES, spec.halves, strict=True):
        _write_steps(half, inner, f"self.{word}_layer", [], ["_"] * half.states, word)
    for helper in parts.helpers:
        at.parts.add_helper(helper)
    turned = ".flip(1)" if spec.return_sequences else ""
    lines = [*parts.forward, f"        return forward, backward{turned}"]
    text = template_sources(LAYER_CELLS)["Bidirectional"]
    head, _, _ = text.partition("        forward, _ =")
    every = "Outputs of both, along the steps of `x`"
    words = every if spec.return_sequences else "The last outputs of both"
    if mask:
        head = head.replace("x: Tensor)", "x: Tensor, mask: Tensor)")
        words += "; `mask` says which steps count"
    text = head.replace(every, words) + "\n".join(lines)
    name = f"{'Masked' * bool(mask)}Bidirectional{'' if spec.return_sequences else 'Last'}"
    return _named_class(text, name, at)


def _named_class(text: str, name: str, at: TorchLayerWriter) -> str:
    """Adds a class under a name that no other text has, once; returns the name."""
    for number in count(1):
        own = f"{name}{number}" if number > 1 else name
        text = re.sub(r"^class \w+", f"class {own}", text)
        if text in at.parts.helpers or not any(
            other.startswith(f"class {own}(") for other in at.parts.helpers
        ):
            at.parts.add_helper(text)
            return own
    raise AssertionError("unreachable")
