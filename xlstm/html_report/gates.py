"""The gate layout of a model's recurrent layers: one picture of `explain` for each size.

In: a Model. Out: explanations with the layers that they are about.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

from xlstm.counting.explain import CONVOLVED, Explanation, explain
from xlstm.errors import UnsupportedError
from xlstm.html_report.markup import Html, element, short
from xlstm.ir import layers as L
from xlstm.ir.graph import Model
from xlstm.ir.layers.custom import unwrap_time_distributed

MOST = 6
"""Most pictures of a page; each has 10 to 20 kB."""


def gate_pictures(model: Model) -> tuple[list[Html], list[str]]:
    """Returns a figure for each size of a recurrent layer, and lines about those without one."""
    groups: dict[str, tuple[dict[str, Any], list[str]]] = {}
    left = []
    for node in model.layers:
        spec = unwrap_time_distributed(node.spec)
        if node.layer or not isinstance(spec, (L.Recurrent, L.Bidirectional)):
            continue
        options = _options(spec)
        if options is None:
            left.append(f"{short(node.name, 60)}: its form has no picture.")
            continue
        groups.setdefault(repr(options), (options, []))[1].append(node.name)
    every = [*groups.values()]
    if len(every) > MOST:
        left.append(f"Not drawn: {len(every) - MOST} more sizes of recurrent layers.")
    return [*_figures(every[:MOST])], left


def _figures(groups: list[tuple[dict[str, Any], list[str]]]) -> Iterator[Html]:
    for options, names in groups:
        found = explain(**options)
        more = f" and {len(names) - 1} more" if names[1:] else ""
        yield _figure(found, f"{short(names[0], 60)}{more}: {found.title}")


def _figure(found: Explanation, caption: str) -> Html:
    try:
        picture = found.to_svg()
    except UnsupportedError as error:
        return element("p", f"{caption}: {error.got}.")
    # as an image: styles and names inside an inline SVG apply to the whole page
    data = base64.b64encode(picture.encode()).decode()
    _, _, rest = picture.partition('height="')
    image = element(
        "img",
        src=f"data:image/svg+xml;base64,{data}",
        alt=f"Tensors and gates of {found.title}, to scale: {found.formula} = {found.numbers}",
        width="390",
        height=rest.partition('"')[0],
    )
    return element("figure", element("figcaption", caption), image)


def _options(spec: Any) -> dict[str, Any] | None:
    """The call of `explain` for a layer; None for a form that it has no words for."""
    if not isinstance(spec, L.Bidirectional):
        return _of_one(spec)
    first, second = map(_of_one, spec.halves)
    return {**first, "bidirectional": True} if first and first == second else None


def _of_one(spec: L.Recurrent) -> dict[str, Any] | None:
    """The call of `explain` for one direction."""
    found: dict[str, Any] = {"layer": spec.kind, "features": spec.features, "units": spec.units}
    found["use_bias"] = spec.use_bias
    if isinstance(spec, L.ConvLSTM):
        name = f"ConvLSTM{len(spec.space)}D"
        return {**found, "layer": name, "kernel_size": spec.window} if name in CONVOLVED else None
    if isinstance(spec, L.LSTM):
        return {**found, "projection": spec.projection or None, "peepholes": spec.peepholes}
    if isinstance(spec, L.GRU):
        return {**found, "reset_after": spec.reset_after} if spec.hidden_bias else None
    return found if spec.kind == "SimpleRNN" else None
