"""Writes bidirectional layers as PyTorch source; imports no framework."""

from __future__ import annotations

import re
from collections.abc import Sequence

from xlstm.ir.graph import Bidirectional

from ...codegen.source import CallExpr, ModuleSource, call, listed, statement
from ...codegen.variables import NodeVariables
from ..native import pair
from .recurrent import (
    Walk,
    module_of,
    native_call,
    return_states,
    state_outputs,
    state_widths,
    states_after,
    states_before,
)

HALVES = ("forward", "backward")


def emit_bidirectional(spec: Bidirectional, parts: ModuleSource, site: NodeVariables) -> None:
    """A bidirectional layer: one native module, or two modules side by side."""
    named = zip(HALVES, spec.halves, strict=True)
    words = [f"{half}_{state}" for half, own in named for state in "hc"[: own.states]]
    before = states_before(site, parts, words, state_widths(spec))
    if pair(site.node):
        _emit_pair(spec, parts, site, before)
    else:
        _emit_two(spec, parts, site, before, states_after(site, words, spec.stateful))


def _needed(spec: Bidirectional, site: NodeVariables) -> tuple[bool, bool]:
    """Whether anything needs the output of each half."""
    return (site.read(0), site.read(1)) if spec.merge == "none" else (site.read(0),) * 2


def _merge(spec: Bidirectional, parts: ModuleSource, site: NodeVariables, a: str, b: str) -> None:
    """The outputs of the layer from those of its halves."""
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
    spec: Bidirectional, parts: ModuleSource, site: NodeVariables, before: Sequence[str]
) -> None:
    """One native module with two directions; its states are (2, batch, units)."""
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


def _states_read(spec: Bidirectional, site: NodeVariables) -> list[bool]:
    """Whether each kind of state, h and c, is needed after the call."""
    number = spec.forward.states
    ends = state_outputs(site, 2 * number)
    read = [spec.stateful or {*ends[n::number]} != {"_"} for n in range(number)]
    # the last output of the backward half is at the first step: h has both
    last = any(_needed(spec, site)) and not spec.return_sequences
    return [read[0] or last, *read[1:]]


def _split(spec: Bidirectional, parts: ModuleSource, site: NodeVariables, y: str) -> None:
    """The outputs of the layer from the sequence `y`, in which the halves lie side by side."""
    if spec.merge == "none":
        parts.forward.append(f"        {', '.join(site.outputs[:2])} = {y}.chunk(2, dim=-1)")
    elif spec.merge != "concat":
        a, b = map(site.free, HALVES)
        parts.forward.append(f"        {a}, {b} = {y}.chunk(2, dim=-1)")
        _merge(spec, parts, site, a, b)


def _held(variable: str, name: str, lines: Sequence[str]) -> list[str]:
    """The line that holds a module in a variable, unless an earlier call left it there."""
    line = f"        {variable} = self.{name}"
    if line not in lines:
        return [line]
    since = "\n".join(lines[lines.index(line) + 1 :])
    return [line] if re.search(rf"\b{variable}\b(?!\[\")", since) else []


def _emit_two(
    spec: Bidirectional,
    parts: ModuleSource,
    site: NodeVariables,
    before: Sequence[str],
    after: Sequence[str],
) -> None:
    """Two modules over the same input, the second one's sequence turned round in time."""
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
