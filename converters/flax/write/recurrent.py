"""Writes recurrent layers as Flax source: native cells in native wrappers wherever exact.

An LSTM's carry is (c, h); canonical states are h and c. Other carries are h alone. A
Bidirectional layer's carry is a pair of these. Initial carries are always passed: the default ones
are float32 for any input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from xlstm.ir import layers as L
from xlstm.ir.literals import literal

from ...codegen.source import Argument, CallExpr, call, statement
from .dialect import CELLS, OWN, WRITERS, Dialect, FlaxLayerWriter

ANY = "        # Any: the declared result of an RNN is a union, with and without its carry"

MERGES = {
    "concat": "concatenate",
    "sum": "jnp.add",
    "mul": "jnp.multiply",
    "ave": "average",
    "none": "pair",
}
"""Merge mode -> its function; names without a dot are our own functions."""


def cell_name(spec: L.LayerSpec, dialect: Dialect) -> str:
    """Returns the class of a layer's cell, "" for a layer that has none."""
    if not isinstance(spec, L.ConvLSTM):
        return dialect.cells.get(spec.weight_kind, "")
    plain = (spec.activation, spec.gate_activation) == ("tanh", "sigmoid")
    ones = {*spec.strides, *spec.dilation} == {1} and spec.padding == "same"
    native = plain and ones and spec.forget_offset == 1 and dialect.conv_lstm
    return "ConvLSTMCell" if native else "PlainConvLSTMCell"


def _class(name: str, at: FlaxLayerWriter) -> str:
    """Returns the expression for a class; adds our own ones to the module, with the reason."""
    if name not in OWN:
        return f"{at.dialect.module}.{name}"
    at.parts.use_template(at.dialect.file, name)
    comment = f"        # {at.dialect.why(name)}"
    if comment not in at.parts.init[-4:]:
        at.parts.init.append(comment)
    return name


def _window(spec: L.ConvLSTM, native: bool) -> tuple[Argument | None, ...]:
    """Returns arguments of a cell of convolutions; the native one's options are the defaults."""
    bias = None if spec.use_bias else ("use_bias", "False")
    if native:
        return literal(spec.window), bias
    offset = ("forget_offset", literal(float(spec.forget_offset)))
    return (
        literal(spec.window),
        bias,
        ("strides", literal(spec.strides)) if {*spec.strides} != {1} else None,
        ("padding", '"VALID"') if spec.padding == "valid" else None,
        ("kernel_dilation", literal(spec.dilation)) if {*spec.dilation} != {1} else None,
        offset if spec.forget_offset else None,
    )


def _cell(spec: L.Recurrent, at: FlaxLayerWriter) -> CallExpr:
    name = cell_name(spec, at.dialect)
    made = _class(name, at)
    gate = getattr(spec, "gate_activation", "sigmoid")
    activation = at.function(spec.activation)
    projection = spec.projection if isinstance(spec, L.LSTM) else 0
    simple = type(spec) is L.SimpleRNN and not at.dialect.functional
    return call(
        made,
        at.sized(spec.features),
        literal(spec.units),
        *(_window(spec, name not in OWN) if isinstance(spec, L.ConvLSTM) else ()),
        ("projection", literal(projection)) if projection else None,
        None if gate == "sigmoid" else ("gate_fn", at.function(gate)),
        None if spec.activation == "tanh" else ("activation_fn", activation),
        # the default dtype of NNX's SimpleCell is float32
        ("dtype", at.dialect.param_dtype) if simple else None,
        *at.dialect.options,
    )


def _rnn(spec: L.Recurrent, at: FlaxLayerWriter, reverse: bool) -> CallExpr:
    """Returns the wrapper that runs along the sequence, from the end if `reverse`."""
    cell = _cell(spec, at)
    back = ("reverse", "True") if reverse else None
    if not at.site.mask:
        return call(f"{at.dialect.module}.RNN", cell, back, *at.dialect.rnn_tail)
    zero = ("zero_output", "True") if spec.zero_output_for_mask else None
    return call(_class("MaskedRNN", at), cell, back, zero)


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


def state_words(spec: L.LayerSpec) -> list[str]:
    """Returns names of the states of a layer, in canonical order.

    >>> state_words(L.LSTM(2, 3)), state_words(L.Dense(2, 3))
    (['h', 'c'], [])
    """
    if isinstance(spec, L.Bidirectional):
        named = zip(("forward", "backward"), spec.halves, strict=True)
        return [f"{half} {state}" for half, own in named for state in state_words(own)]
    return [*"hc"[: spec.states]] if isinstance(spec, L.Recurrent) else []


def _carry(spec: L.Recurrent | L.Bidirectional, at: FlaxLayerWriter) -> CallExpr | str:
    """Returns the initial carry of a layer."""
    sizes, site = _sizes(spec, at.x), at.site
    if spec.stateful:
        return _nest(spec, [f'before["{site.name}"][{n}]' for n in range(len(sizes))])
    if not site.states:
        at.parts.use_template(CELLS, "zeros")
        return _nest(spec, [call("zeros", site.x, *size) for size in sizes])
    if at.parts.computed(site.states):
        return _nest(spec, list(site.states))
    at.parts.use_template(CELLS, "checked")
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
    spec: L.Recurrent | L.Bidirectional, at: FlaxLayerWriter, output: str, states: tuple[str, ...]
) -> None:
    """Writes the line that runs a layer, and lines that store its states."""
    site, target = at.site, _target(spec, states)
    value = at.call(
        call("", site.x, site.mask) if site.mask else site.x,
        ("initial_carry", _carry(spec, at)),
        ("return_carry", "True") if target else None,
    )
    at.parts.forward += statement(f"{target}, {output} = " if target else f"{output} = ", value, 8)
    if not spec.stateful:
        return
    carries = [f"carry{path}" for path in _paths(spec)]
    kept = call("", *carries) if len(carries) > 1 else f"({carries[0]},)"
    at.parts.forward += statement(f'after["{site.name}"] = ', kept, 8)
    for name, path in zip(states, carries, strict=False):
        if name != "_":
            at.parts.forward.append(f"        {name} = {path}")


def _set_module(at: FlaxLayerWriter, module: CallExpr) -> None:
    """Writes the attribute of a layer, as Any where type checkers misjudge its result."""
    if module.name == "MaskedRNN":
        at.set_attribute(module)
        return
    at.parts.init += [] if ANY in at.parts.init else [ANY]
    at.parts.init += statement(f"self.{at.site.name}: Any = ", module, 8)


@WRITERS.of(L.LSTM, L.GRU, L.SimpleRNN, L.ConvLSTM)
def recurrent(spec: L.Recurrent, at: FlaxLayerWriter) -> None:
    """A recurrent layer."""
    _set_module(at, _rnn(spec, at, spec.go_backwards))
    _call(spec, at, at.site.y, at.site.outputs[1:])
    if not spec.return_sequences:
        at.set_output(CallExpr(at.site.y, (":", "-1"), "[]"))


def _merge(spec: L.Bidirectional, at: FlaxLayerWriter) -> CallExpr | str | None:
    """Returns the function that joins the halves' sequences; None for the default one."""
    merge = MERGES[spec.merge]
    if spec.return_sequences and spec.merge == "concat":
        return None
    if "." not in merge:
        at.parts.use_template(CELLS, merge)
    if spec.return_sequences:
        return merge
    at.parts.use_template(CELLS, "last")
    return call("partial", "last", ("merge", merge))


@WRITERS.of(L.Bidirectional)
def bidirectional(spec: L.Bidirectional, at: FlaxLayerWriter) -> None:
    """Two recurrent layers; the native wrapper reverses the second one's sequence back."""
    merge, site = _merge(spec, at), at.site
    module = call(
        f"{at.dialect.module}.Bidirectional",
        *(_rnn(half, at, False) for half in spec.halves),
        None if merge is None else ("merge_fn", merge),
        *at.dialect.rnn_tail,
    )
    _set_module(at, module)
    ends = 2 if spec.merge == "none" else 1
    output = site.y if ends == 1 else f"({', '.join(site.outputs[:2])})"
    if spec.forward.go_backwards:
        # both halves read from the end
        x = f"jnp.flip({site.x}, 1)"
        if site.read(0):
            at.parts.forward.append(f"        {site.y} = {x}")
            x = site.y
        mask = f"jnp.flip({site.mask}, 1)" if site.mask else ""
        at = replace(at, site=replace(site, inputs=(x,), mask=mask))
    _call(spec, at, output, site.outputs[ends:])
