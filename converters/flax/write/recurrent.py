"""Writes recurrent layers as Flax source: native cells in native wrappers wherever exact.

An LSTM's carry is (c, h); canonical states are h and c. Other carries are h alone. A
Bidirectional layer's carry is a pair of these. Initial carries are always passed: the default ones
are float32 for any input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from xlstm.ir import layers as L
from xlstm.ir.graph import Node
from xlstm.ir.literals import literal

from ...codegen.source import Argument, CallExpr, ModuleSource, assigned, call, statement
from ...codegen.variables import NodeVariables
from .dialect import CELLS, Dialect, function

OWN = {
    "BiasedGRUCell": "{m}.GRUCell lacks the bias of the candidate's recurrent product",
    "ResetFirstGRUCell": "{m}.GRUCell's reset gate acts after the recurrent product",
    "ProjectedLSTMCell": "{m}.LSTMCell's h is as wide as its c",
    "PlainConvLSTMCell": "{m} has no ConvLSTMCell that adds nothing to the forget gate",
    "MaskedRNN": "{m}.RNN can mask the end of a sequence only",
}
"""Our own classes -> the reason for each."""

ANY = "        # Any: the declared result of an RNN is a union, with and without its carry"

MERGES = {
    "concat": "concatenate",
    "sum": "jnp.add",
    "mul": "jnp.multiply",
    "ave": "average",
    "none": "pair",
}
"""Merge mode -> its function; names without a dot are our own functions."""


def own(dialect: Dialect) -> Callable[[Node], str]:
    """Returns a function that gives the reason for our own class, "" for native ones."""

    def why(node: Node) -> str:
        spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
        halves = spec.halves if isinstance(spec, L.Bidirectional) else (spec,)
        names = {_cell_name(half, dialect): None for half in halves}
        names |= {"MaskedRNN": None} if node.mask else {}
        reasons = (OWN[name].format(m=dialect.module) for name in names if name in OWN)
        return "; ".join(reasons)

    return why


def _own(dialect: Dialect, parts: ModuleSource, name: str) -> str:
    """Adds an own class to the module, and a comment with the reason."""
    parts.use_template(dialect.file, name)
    comment = f"        # {OWN[name].format(m=dialect.module)}"
    if comment not in parts.init[-4:]:
        parts.init.append(comment)
    return name


def _cell_name(spec: L.LayerSpec, dialect: Dialect) -> str:
    """Returns the class of a layer's cell, "" for a layer that has none."""
    if not isinstance(spec, L.ConvLSTM):
        return dialect.cells.get(spec.weight_kind, "")
    plain = (spec.activation, spec.gate_activation) == ("tanh", "sigmoid")
    ones = {*spec.strides, *spec.dilation} == {1} and spec.padding == "same"
    native = plain and ones and spec.forget_offset == 1 and dialect.conv_lstm
    return "ConvLSTMCell" if native else "PlainConvLSTMCell"


def _window(spec: L.ConvLSTM, native: bool) -> tuple[Argument | None, ...]:
    """Returns arguments of a cell of convolutions; the native one's options are the defaults."""
    offset = ("forget_offset", literal(float(spec.forget_offset)))
    options = (
        ("strides", literal(spec.strides)) if {*spec.strides} != {1} else None,
        ("padding", '"VALID"') if spec.padding == "valid" else None,
        ("kernel_dilation", literal(spec.dilation)) if {*spec.dilation} != {1} else None,
        offset if spec.forget_offset else None,
    )
    bias = None if spec.use_bias else ("use_bias", "False")
    return (literal(spec.window), bias, *(() if native else options))


def _cell(spec: L.Recurrent, dialect: Dialect, parts: ModuleSource) -> CallExpr:
    name = _cell_name(spec, dialect)
    native = name not in OWN
    name = f"{dialect.module}.{name}" if native else _own(dialect, parts, name)
    gate = getattr(spec, "gate_activation", "sigmoid")
    activation = function(dialect, parts, spec.activation)
    projection = spec.projection if isinstance(spec, L.LSTM) else 0
    return call(
        name,
        literal(spec.features) if dialect.sized else None,
        literal(spec.units),
        *(_window(spec, native) if isinstance(spec, L.ConvLSTM) else ()),
        ("projection", literal(projection)) if projection else None,
        None if gate == "sigmoid" else ("gate_fn", function(dialect, parts, gate)),
        None if spec.activation == "tanh" else ("activation_fn", activation),
        # the default dtype of NNX's SimpleCell is float32
        ("dtype", dialect.param_dtype) if dialect.sized and type(spec) is L.SimpleRNN else None,
        ("param_dtype", dialect.param_dtype),
        *dialect.tail,
    )


def _rnn(
    spec: L.Recurrent, dialect: Dialect, parts: ModuleSource, masked: bool, reverse: bool
) -> CallExpr:
    """Returns the wrapper that runs along the sequence, from the end if `reverse`."""
    cell = _cell(spec, dialect, parts)
    back = ("reverse", "True") if reverse else None
    if not masked:
        return call(f"{dialect.module}.RNN", cell, back, *dialect.rnn_tail)
    zero = ("zero_output", "True") if spec.zero_output_for_mask else None
    return call(_own(dialect, parts, "MaskedRNN"), cell, back, zero)


def _nest(spec: L.Recurrent | L.Bidirectional, states: Sequence[CallExpr | str]) -> CallExpr | str:
    """Returns texts of all states, in canonical order, as Flax's carry."""
    if isinstance(spec, L.Bidirectional):
        first = spec.forward.states
        halves = (spec.forward, states[:first]), (spec.backward, states[first:])
        return call("", *(_nest(half, own) for half, own in halves))
    return call("", *reversed(states)) if len(states) > 1 else states[0]


def _paths(spec: L.Recurrent | L.Bidirectional) -> list[str]:
    """Returns the place of each state in a carry, in canonical order."""
    if isinstance(spec, L.Bidirectional):
        return [f"[{n}]{path}" for n, half in enumerate(spec.halves) for path in _paths(half)]
    return ["[1]", "[0]"] if spec.states == 2 else [""]


def _carry(
    spec: L.Recurrent | L.Bidirectional, parts: ModuleSource, site: NodeVariables
) -> CallExpr | str:
    """Returns the initial carry of a layer."""
    sizes = _sizes(spec, site.x)
    if spec.stateful:
        return _nest(spec, [f'before["{site.name}"][{n}]' for n in range(len(sizes))])
    if not site.states:
        parts.use_template(CELLS, "zeros")
        return _nest(spec, [call("zeros", site.x, *size) for size in sizes])
    if parts.computed(site.states):
        return _nest(spec, list(site.states))
    parts.use_template(CELLS, "checked")
    pairs = zip(site.states, sizes, strict=True)
    return _nest(spec, [call("checked", state, site.x, *size) for state, size in pairs])


def _sizes(spec: L.Recurrent | L.Bidirectional, x: str) -> list[list[str]]:
    """Returns texts of the sizes of one sample of every state, for the input x."""
    if isinstance(spec, L.Bidirectional):
        return [size for half in spec.halves for size in _sizes(half, x)]
    if not isinstance(spec, L.ConvLSTM):
        return [[literal(shape[-1])] for shape in spec.state_shapes()]
    space = [
        _places(spec, axis, f"{x}.shape[{axis + 2}]") if size is None else literal(size)
        for axis, size in enumerate(spec.state_space)
    ]
    return [[*space, literal(spec.units)]] * 2


def _places(spec: L.ConvLSTM, axis: int, size: str) -> str:
    """Returns the text for the number of windows along an axis of unknown size."""
    stride = spec.strides[axis] or 1
    reach = ((spec.window[axis] or 1) - 1) * (spec.dilation[axis] or 1)
    if spec.padding == "same":
        return size if stride == 1 else f"-(-{size} // {literal(stride)})"
    left = f"{size} - {literal(reach)}" if reach else size
    more = literal(reach + 1)
    return left if stride == 1 else f"({size} - {more}) // {literal(stride)} + 1"


def _target(spec: L.Recurrent | L.Bidirectional, states: tuple[str, ...]) -> str:
    """Returns the target of a carry's assignment, for variables of the states; "" if unread."""
    if spec.stateful:
        return "carry"
    if all(state == "_" for state in states):
        return ""
    if isinstance(spec, L.Bidirectional):
        first = spec.forward.states
        halves = (spec.forward, states[:first]), (spec.backward, states[first:])
        return f"({', '.join(_target(half, own) or '_' for half, own in halves)})"
    return f"({states[1]}, {states[0]})" if len(states) > 1 else states[0]


def _call(
    spec: L.Recurrent | L.Bidirectional,
    parts: ModuleSource,
    site: NodeVariables,
    output: str,
    states: tuple[str, ...],
) -> None:
    """Writes the line that runs a layer, and lines that store its states."""
    target = _target(spec, states)
    x = call("", site.x, site.mask) if site.mask else site.x
    value = call(
        f"self.{site.name}",
        x,
        ("initial_carry", _carry(spec, parts, site)),
        ("return_carry", "True") if target else None,
    )
    parts.forward += statement(f"{target}, {output} = " if target else f"{output} = ", value, 8)
    if not spec.stateful:
        return
    held = [f"carry{path}" for path in _paths(spec)]
    kept = call("", *held) if len(held) > 1 else f"({held[0]},)"
    parts.forward += statement(f'after["{site.name}"] = ', kept, 8)
    for name, path in zip(states, held, strict=False):
        if name != "_":
            parts.forward.append(f"        {name} = {path}")


def _init(parts: ModuleSource, site: NodeVariables, module: CallExpr) -> None:
    """Writes the attribute of a layer, as Any where type checkers misjudge its result."""
    if module.name == "MaskedRNN":
        parts.init += statement(f"self.{site.name} = ", module, 8)
        return
    parts.init += [] if ANY in parts.init else [ANY]
    parts.init += statement(f"self.{site.name}: Any = ", module, 8)


def recurrent(
    spec: L.Recurrent, dialect: Dialect, parts: ModuleSource, site: NodeVariables
) -> None:
    """Writes an LSTM, GRU or SimpleRNN."""
    module = _rnn(spec, dialect, parts, bool(site.mask), spec.go_backwards)
    _init(parts, site, module)
    _call(spec, parts, site, site.y, site.outputs[1:])
    if not spec.return_sequences and site.read(0):
        parts.forward += assigned(site.y, f"{site.y}[:, -1]")


def _merge(spec: L.Bidirectional, parts: ModuleSource) -> CallExpr | str | None:
    """Returns the function that joins the halves' sequences; None for the default one."""
    merge = MERGES[spec.merge]
    if spec.return_sequences and spec.merge == "concat":
        return None
    if "." not in merge:
        parts.use_template(CELLS, merge)
    if spec.return_sequences:
        return merge
    parts.use_template(CELLS, "last")
    return call("partial", "last", ("merge", merge))


def bidirectional(
    spec: L.Bidirectional, dialect: Dialect, parts: ModuleSource, site: NodeVariables
) -> None:
    """Writes two recurrent layers; the native wrapper reverses the second one's sequence back."""
    merge = _merge(spec, parts)
    module = call(
        f"{dialect.module}.Bidirectional",
        *(_rnn(half, dialect, parts, bool(site.mask), False) for half in spec.halves),
        None if merge is None else ("merge_fn", merge),
        *dialect.rnn_tail,
    )
    _init(parts, site, module)
    ends = 2 if spec.merge == "none" else 1
    output = site.y if ends == 1 else f"({', '.join(site.outputs[:2])})"
    if spec.forward.go_backwards:
        site = _flipped(parts, site)
    _call(spec, parts, site, output, site.outputs[ends:])


def _flipped(parts: ModuleSource, site: NodeVariables) -> NodeVariables:
    """Returns the layer reading from the end, as both halves do if the first is reversed."""
    x = f"jnp.flip({site.x}, 1)"
    if site.read(0):
        parts.forward.append(f"        {site.y} = {x}")
        x = site.y
    mask = f"jnp.flip({site.mask}, 1)" if site.mask else ""
    return replace(site, inputs=(x,), mask=mask)
