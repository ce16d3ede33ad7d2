"""Writes recurrent layers as PyTorch source; imports no framework."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass

from xlstm.ir.graph import GRU, LSTM, Bidirectional, ConvLSTM, Recurrent, SimpleRNN
from xlstm.ir.literals import literal
from xlstm.ir.python_source import parse

from ...codegen.source import CallExpr, ModuleSource, assigned, call, statement, template_sources
from ...codegen.variables import NodeVariables
from ..activations import CELLS as ACTIVATION_CELLS
from ..activations import FUNCTIONS
from ..native import reason

CELLS = "torch/templates/recurrent.py"
LAYER_CELLS = "torch/templates/layers.py"


def function(parts: ModuleSource, activation: str) -> str:
    """Expression for an activation; what it needs is added to `parts`."""
    expression, helper = FUNCTIONS[activation]
    if helper:
        parts.use_template(ACTIVATION_CELLS, helper)
    return expression


def kind_of(spec: Recurrent) -> str:
    """PyTorch's name of a layer: LSTM, GRU or RNN."""
    return "RNN" if isinstance(spec, SimpleRNN) else spec.kind


def native_call(spec: Recurrent, *, both: bool = False) -> CallExpr:
    """The native module of a layer, in both directions if asked for."""
    projection = spec.projection if isinstance(spec, LSTM) else 0
    relu = isinstance(spec, SimpleRNN) and spec.activation == "relu"
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
    """Source of the forward pass of a class."""
    (cls,) = parse(text).body
    assert isinstance(cls, ast.ClassDef)
    (found,) = (item for item in cls.body if getattr(item, "name", "") == "forward")
    return ast.get_source_segment(text, found) or ""


def variant(file: str, plain: str, other: str, name: str, of: str = "") -> str:
    """Source of the class `plain` with the docstring and forward pass of `other`, in file `of`."""
    text, changed = template_sources(file)[plain], template_sources(of or file)[other]
    before = _forward(text)
    text = text.replace(text.split('"""')[1], changed.split('"""')[1], 1)
    text = text.replace(f"class {plain}(", f"class {name}(", 1)
    return text.replace(before, _forward(changed).replace("  # type: ignore[override]", ""))


def masked_class(name: str) -> str:
    """Source of an own cell with masks: the cell itself, but for its forward pass."""
    return variant(CELLS, name, "MaskedLSTM" if name == "LSTM" else "MaskedRNN", f"Masked{name}")


def _own_call(spec: Recurrent, parts: ModuleSource, masked: bool) -> CallExpr:
    """Our own cell, for what no native module computes."""
    if isinstance(spec, ConvLSTM):
        return _conv_lstm_call(spec, parts, masked)
    name = kind_of(spec)
    if isinstance(spec, GRU) and not spec.reset_after:
        name = "GRUResetBefore"
    activation = function(parts, spec.activation)
    gate = "torch.sigmoid"
    if isinstance(spec, (LSTM, GRU)):
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


def _conv_lstm_call(spec: ConvLSTM, parts: ModuleSource, masked: bool) -> CallExpr:
    """Our own ConvLSTM, for a number of axes."""
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


def module_of(spec: Recurrent, parts: ModuleSource, masked: bool) -> tuple[list[str], CallExpr]:
    """Why a layer is an own cell, if it is one, as comments; and its constructor."""
    why = reason(spec, masked)
    return ([f"# {why}"], _own_call(spec, parts, masked)) if why else ([], native_call(spec))


@dataclass(frozen=True)
class Walk:
    """One module's way along the time axis.

    Attributes:
        spec: its layer.
        module: expression for it.
        native: whether it is a native module, whose states are (1, batch, units).
        before: variables of the states it starts from; empty for zeros.
        after: variables of its last states, "_" where nobody reads one.
        y: variable of its output.
    """

    spec: Recurrent
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
        """Expressions for the last states, (batch, units)."""
        return [f"{name}.squeeze(0)" if self.native else name for name in self.after]

    def lines(self, site: NodeVariables) -> list[str]:
        """The call."""
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
            axes = len(self.spec.space) if isinstance(self.spec, ConvLSTM) else 0
            out = f"~{site.mask}{turned}" + ".unsqueeze(-1)" * (axes + 1)
            found += statement(f"{self.y} = ", call(f"{self.y}.masked_fill", out, "0.0"), 8)
        return found


def _replacing(site: NodeVariables, word: str, number: int) -> str:
    """A variable for a checked state, the state's own where nothing else needs that."""
    states = (*site.states[:number], *site.states[number + 1 :])
    needed = word in site.busy or word in (*site.inputs, site.mask, *states)
    return site.free(word) if needed else word


def states_before(
    site: NodeVariables, parts: ModuleSource, words: Sequence[str], widths: Sequence[int]
) -> list[str]:
    """Variables of the states that a layer starts from, set in `parts.forward`."""
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
    """Variables for the last states of a layer; they are its last outputs, if it returns them."""
    pairs = zip(words, state_outputs(site, len(words)), strict=True)
    return [site.free(word) if name == "_" and stateful else name for word, name in pairs]


def state_outputs(site: NodeVariables, number: int) -> Sequence[str]:
    """Variables of the outputs that are states, "_" where nobody reads one."""
    returned = len(site.outputs) > number
    return site.outputs[-number:] if returned else ["_"] * number


def return_states(site: NodeVariables, parts: ModuleSource, values: Sequence[str]) -> None:
    """The last states (batch, units) as outputs, and as what outlives the call."""
    final = []
    for name, value in zip(state_outputs(site, len(values)), values, strict=True):
        if name not in ("_", value):
            parts.forward.append(f"        {name} = {value}")
        final.append(value if name == "_" else name)
    if site.node.spec.stateful:  # type: ignore[attr-defined]
        held = call("", *final) if len(final) > 1 else f"({final[0]},)"
        parts.forward += statement(f'after["{site.name}"] = ', held, 8)


def state_widths(spec: Recurrent | Bidirectional) -> list[int]:
    """Size of each state, none where the cell checks its states itself."""
    half = spec.forward if isinstance(spec, Bidirectional) else spec
    if isinstance(half, ConvLSTM):
        return []
    return [shape[-1] or 0 for shape in spec.state_shapes()]


def emit_recurrent(spec: Recurrent, parts: ModuleSource, site: NodeVariables) -> None:
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
