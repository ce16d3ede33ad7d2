"""Writes recurrent layers as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module.
`LSTM(3, 4, return_sequences=True)`, named a:

    self.a = nn.LSTM(3, 4, batch_first=True)
    x, _ = self.a(x)
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass

from xlstm.ir import layers as L
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse

from ...codegen.source import (
    CallExpr,
    ModuleSource,
    assigned,
    call,
    listed,
    statement,
    template_sources,
)
from ...codegen.variables import NodeVariables
from ..activations import CELLS as ACTIVATION_CELLS
from ..activations import FUNCTIONS
from ..native import pair, reason

CELLS = "torch/templates/recurrent.py"
LAYER_CELLS = "torch/templates/layers.py"


def function(parts: ModuleSource, activation: str) -> str:
    """Returns the expression for an activation; adds its helper to `parts`."""
    expression, helper = FUNCTIONS[activation]
    if helper:
        parts.use_template(ACTIVATION_CELLS, helper)
    return expression


def kind_of(spec: L.Recurrent) -> str:
    """Returns PyTorch's name of a layer: LSTM, GRU or RNN."""
    return "RNN" if isinstance(spec, L.SimpleRNN) else spec.kind


def native_call(spec: L.Recurrent, *, both: bool = False) -> CallExpr:
    """Returns the native module of a layer, in both directions if `both`."""
    projection = spec.projection if isinstance(spec, L.LSTM) else 0
    relu = isinstance(spec, L.SimpleRNN) and spec.activation == "relu"
    return call(
        f"nn.{kind_of(spec)}",
        literal(spec.features),
        literal(spec.units),
        ("nonlinearity", '"relu"') if relu else None,
        None if spec.use_bias else ("bias", "False"),
        ("batch_first", "True"),
        ("bidirectional", "True") if both else None,
        ("proj_size", literal(projection)) if projection else None,
    )


def _forward(text: str) -> str:
    """Returns the source of the forward pass of a class."""
    (cls,) = parse(text).body
    assert isinstance(cls, ast.ClassDef)
    (found,) = (item for item in cls.body if getattr(item, "name", "") == "forward")
    return ast.get_source_segment(text, found) or ""


def variant(file: str, plain: str, other: str, name: str, of: str = "") -> str:
    """Returns the source of class `plain` with the docstring and forward pass of `other`."""
    text, changed = template_sources(file)[plain], template_sources(of or file)[other]
    before = _forward(text)
    text = text.replace(text.split('"""')[1], changed.split('"""')[1], 1)
    text = text.replace(f"class {plain}(", f"class {name}(", 1)
    return text.replace(before, _forward(changed).replace("  # type: ignore[override]", ""))


def masked_class(name: str) -> str:
    """Returns the source of an own cell with masks: the cell with another forward pass."""
    return variant(CELLS, name, "MaskedLSTM" if name == "LSTM" else "MaskedRNN", f"Masked{name}")


def _own_call(spec: L.Recurrent, parts: ModuleSource, masked: bool) -> CallExpr:
    """Returns the call of our own cell, where no native module is exact."""
    if isinstance(spec, L.ConvLSTM):
        return _conv_lstm_call(spec, parts, masked)
    name = kind_of(spec)
    if isinstance(spec, L.GRU) and not spec.reset_after:
        name = "GRUResetBefore"
    activation = function(parts, spec.activation)
    gate = "torch.sigmoid"
    if isinstance(spec, (L.LSTM, L.GRU)):
        gate = function(parts, spec.gate_activation)
    text = masked_class(name) if masked else template_sources(CELLS)[name]
    if text not in parts.helpers:
        parts.helpers.append(text)
    default = spec.activation == "tanh" and name != "RNN"
    return call(
        f"Masked{name}" if masked else name,
        literal(spec.features),
        literal(spec.units),
        None if default else ("activation", activation),
        None if gate == "torch.sigmoid" else ("gate", gate),
        None if spec.use_bias else ("bias", "False"),
    )


def _conv_lstm_call(spec: L.ConvLSTM, parts: ModuleSource, masked: bool) -> CallExpr:
    """Returns the call of our own ConvLSTM, for a number of axes."""
    name, rank = "MaskedConvLSTM" if masked else "ConvLSTM", len(spec.space)
    text = template_sources(LAYER_CELLS)["ConvLSTM"]
    text = variant(LAYER_CELLS, "ConvLSTM", name, name) if masked else text
    text = text.replace(f"class {name}(", f"class {name}{rank}d(").replace("Conv2d", f"Conv{rank}d")
    text = text.replace(": tuple[int, int]", f": tuple[{', '.join(['int'] * rank)}]")
    text = text.replace("movedim(3, 1)", f"movedim({rank + 1}, 1)")
    text = text.replace("movedim(1, 3)", f"movedim(1, {rank + 1})")
    parts.use_template(LAYER_CELLS, "pad_same")
    if text not in parts.helpers:
        parts.helpers.append(text)
    activation, gate = function(parts, spec.activation), function(parts, spec.gate_activation)
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


def module_of(spec: L.Recurrent, parts: ModuleSource, masked: bool) -> tuple[list[str], CallExpr]:
    """Returns comments that say why a layer is an own cell, if it is one, and its constructor."""
    why = reason(spec, masked)
    return ([f"# {why}"], _own_call(spec, parts, masked)) if why else ([], native_call(spec))


@dataclass(frozen=True)
class Walk:
    """One call of a module along the time axis.

    Attributes:
        spec: its layer.
        module: expression for it.
        native: True for a native module, whose states are (1, batch, units).
        before: variables of the initial states; empty for zeros.
        after: variables of its last states, "_" where nothing reads one.
        y: variable of its output.
    """

    spec: L.Recurrent
    module: str
    native: bool
    before: Sequence[str]
    after: Sequence[str]
    y: str

    def _states(self, names: Sequence[str]) -> str:
        if set(names) == {"_"}:
            return "_"
        return f"({', '.join(names)})" if self.spec.states > 1 else names[0]

    @property
    def last(self) -> list[str]:
        """Returns expressions for the last states, (batch, units)."""
        return [f"{name}.squeeze(0)" if self.native else name for name in self.after]

    def lines(self, site: NodeVariables) -> list[str]:
        """Returns the lines of the call."""
        turned = ".flip(1)" if self.spec.go_backwards else ""
        axis = ".unsqueeze(0)" if self.native else ""
        states = [f"{name}{axis}" for name in self.before]
        value = call(
            self.module,
            site.x + turned,
            site.mask + turned if site.mask else None,
            self._states(states) if states else None,
        )
        found = statement(f"{self.y}, {self._states(self.after)} = ", value, 8)
        if site.mask and self.spec.zero_output_for_mask and self.y != "_":
            axes = len(self.spec.space) if isinstance(self.spec, L.ConvLSTM) else 0
            out = f"~{site.mask}{turned}" + ".unsqueeze(-1)" * (axes + 1)
            found += statement(f"{self.y} = ", call(f"{self.y}.masked_fill", out, "0.0"), 8)
        return found


def _replacing(site: NodeVariables, word: str, number: int) -> str:
    """Returns a variable for a checked state, the state's own where nothing else reads that."""
    states = (*site.states[:number], *site.states[number + 1 :])
    needed = word in site.busy or word in (*site.inputs, site.mask, *states)
    return site.free(word) if needed else word


def states_before(
    site: NodeVariables, parts: ModuleSource, words: Sequence[str], widths: Sequence[int]
) -> list[str]:
    """Returns variables of the initial states of a layer, set in `parts.forward`."""
    if not site.states and not site.node.spec.stateful:  # type: ignore[attr-defined]
        return []
    names = [_replacing(site, word, n) for n, word in enumerate(words)]
    if site.states:
        if not widths or parts.computed(site.states):
            return list(site.states)
        parts.use_template(CELLS, "checked")
        for name, state, width in zip(names, site.states, widths, strict=True):
            value = call("checked", state, site.x, literal(width))
            parts.forward += statement(f"{name} = ", value, 8)
    else:
        several = ", ".join(names) if len(names) > 1 else f"({names[0]},)"
        held = CallExpr("before", (f'"{site.name}"',), "[]")
        parts.forward += statement(f"{several} = ", held, 8)
    return names


def states_after(site: NodeVariables, words: Sequence[str], stateful: bool) -> list[str]:
    """Returns variables for the last states of a layer; they are its last outputs if returned."""
    pairs = zip(words, state_outputs(site, len(words)), strict=True)
    return [site.free(word) if name == "_" and stateful else name for word, name in pairs]


def state_outputs(site: NodeVariables, number: int) -> Sequence[str]:
    """Returns variables of the outputs that are states, "_" where nothing reads one."""
    returned = len(site.outputs) > number
    return site.outputs[-number:] if returned else ["_"] * number


def return_states(site: NodeVariables, parts: ModuleSource, values: Sequence[str]) -> None:
    """Sets the last states (batch, units) as outputs, and as states for the next call."""
    final = []
    for name, value in zip(state_outputs(site, len(values)), values, strict=True):
        if name not in ("_", value):
            parts.forward.append(f"        {name} = {value}")
        final.append(value if name == "_" else name)
    if site.node.spec.stateful:  # type: ignore[attr-defined]
        held = call("", *final) if len(final) > 1 else f"({final[0]},)"
        parts.forward += statement(f'after["{site.name}"] = ', held, 8)


def state_widths(spec: L.Recurrent | L.Bidirectional) -> list[int]:
    """Returns the size of each state; empty where the cell checks its states itself."""
    half = spec.forward if isinstance(spec, L.Bidirectional) else spec
    if isinstance(half, L.ConvLSTM):
        return []
    return [shape[-1] or 0 for shape in spec.state_shapes()]


def emit_recurrent(spec: L.Recurrent, parts: ModuleSource, site: NodeVariables) -> None:
    """A recurrent layer."""
    comments, module = module_of(spec, parts, bool(site.mask))
    parts.init += [f"        {line}" for line in comments]
    parts.init += statement(f"self.{site.name} = ", module, 8)
    words = "hc"[: spec.states]
    before = states_before(site, parts, words, state_widths(spec))
    after = states_after(site, words, spec.stateful)
    walk = Walk(spec, f"self.{site.name}", not comments, before, after, site.y)
    parts.forward += walk.lines(site)
    if not spec.return_sequences and site.read(0):
        parts.forward += assigned(site.y, f"{site.y}[:, -1]")
    return_states(site, parts, walk.last)


HALVES = ("forward", "backward")


def emit_bidirectional(spec: L.Bidirectional, parts: ModuleSource, site: NodeVariables) -> None:
    """A bidirectional layer: one native module, or two modules side by side."""
    named = zip(HALVES, spec.halves, strict=True)
    words = [f"{half}_{state}" for half, own in named for state in "hc"[: own.states]]
    before = states_before(site, parts, words, state_widths(spec))
    if pair(site.node):
        _emit_pair(spec, parts, site, before)
    else:
        _emit_two(spec, parts, site, before, states_after(site, words, spec.stateful))


def _needed(spec: L.Bidirectional, site: NodeVariables) -> tuple[bool, bool]:
    """True for each half whose output is needed."""
    return (site.read(0), site.read(1)) if spec.merge == "none" else (site.read(0),) * 2


def _merge(spec: L.Bidirectional, parts: ModuleSource, site: NodeVariables, a: str, b: str) -> None:
    """Joins the outputs of both halves to the outputs of the layer."""
    values: dict[str, str | CallExpr] = {
        "concat": call("torch.cat", listed([a, b]), ("dim", "-1")),
        "sum": f"{a} + {b}",
        "mul": f"{a} * {b}",
        "ave": f"({a} + {b}) / 2",
    }
    found = (a, b) if spec.merge == "none" else (values[spec.merge],)
    for y, value in zip(site.outputs, found, strict=False):
        if y not in ("_", value):
            parts.forward += statement(f"{y} = ", value, 8)


def _emit_pair(
    spec: L.Bidirectional, parts: ModuleSource, site: NodeVariables, before: Sequence[str]
) -> None:
    """Writes one native module with two directions; its states are (2, batch, units)."""
    parts.init += statement(f"self.{site.name} = ", native_call(spec.forward, both=True), 8)
    number = spec.forward.states
    names = [site.free(state) for state in "hc"[:number]]
    for name, *halves in zip(names, before[:number], before[number:], strict=False):
        parts.forward += statement(f"{name} = ", call("torch.stack", listed(halves)), 8)
    sequence = any(_needed(spec, site)) and spec.return_sequences
    y = (site.y if site.read(0) else site.free("x")) if sequence else "_"
    read = _states_read(spec, site)
    after = [name if read[n] else "_" for n, name in enumerate(names)]
    walk = Walk(spec.forward, f"self.{site.name}", False, before and names, after, y)
    parts.forward += walk.lines(site)
    if sequence:
        _split(spec, parts, site, y)
    elif any(_needed(spec, site)):
        _merge(spec, parts, site, f"{names[0]}[0]", f"{names[0]}[1]")
    return_states(site, parts, [f"{name}[{half}]" for half in (0, 1) for name in names])


def _states_read(spec: L.Bidirectional, site: NodeVariables) -> list[bool]:
    """True for each kind of state, h and c, that is needed after the call."""
    number = spec.forward.states
    ends = state_outputs(site, 2 * number)
    read = [spec.stateful or {*ends[n::number]} != {"_"} for n in range(number)]
    # the last output of the backward half is at the first step: h contains both
    last = any(_needed(spec, site)) and not spec.return_sequences
    return [read[0] or last, *read[1:]]


def _split(spec: L.Bidirectional, parts: ModuleSource, site: NodeVariables, y: str) -> None:
    """Splits the sequence `y`, in which the halves are side by side, into the layer's outputs."""
    if spec.merge == "none":
        parts.forward.append(f"        {', '.join(site.outputs[:2])} = {y}.chunk(2, dim=-1)")
    elif spec.merge != "concat":
        a, b = map(site.free, HALVES)
        parts.forward.append(f"        {a}, {b} = {y}.chunk(2, dim=-1)")
        _merge(spec, parts, site, a, b)


def _held(variable: str, name: str, lines: Sequence[str]) -> list[str]:
    """Returns the line that assigns a module to a variable, unless an earlier call did."""
    line = f"        {variable} = self.{name}"
    if line not in lines:
        return [line]
    since = "\n".join(lines[lines.index(line) + 1 :])
    return [line] if re.search(rf"\b{variable}\b(?!\[\")", since) else []


def _emit_two(
    spec: L.Bidirectional,
    parts: ModuleSource,
    site: NodeVariables,
    before: Sequence[str],
    after: Sequence[str],
) -> None:
    """Writes two modules over the same input; the second one's sequence is reversed in time."""
    start = len(parts.init)
    parts.init += [f"        self.{site.name} = nn.ModuleDict(", "            {"]
    both = site.free("both")
    parts.forward += _held(both, site.name, parts.forward)
    values, ends = list[str](), list[str]()
    for word, half, needed in zip(HALVES, spec.halves, _needed(spec, site), strict=True):
        comments, module = module_of(half, parts, bool(site.mask))
        lines = [f"                {line}" for line in comments]
        parts.init += [line for line in lines if line not in parts.init[start:]]
        parts.init += statement(f'"{word}_layer": ', module, 16, ",")
        own = slice(len(ends), len(ends) + half.states)
        y = site.free(word) if needed else "_"
        walk = Walk(half, f'{both}["{word}_layer"]', not comments, before[own], after[own], y)
        parts.forward += walk.lines(site)
        values.append(y if spec.return_sequences else f"{y}[:, -1]")
        ends += walk.last
    parts.init += ["            }", "        )"]
    turned = ".flip(1)" if spec.return_sequences else ""
    if any(_needed(spec, site)):
        _merge(spec, parts, site, values[0], values[1] + turned)
    return_states(site, parts, ends)
