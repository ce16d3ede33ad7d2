"""How Flax source writes operations between layers; imports no framework."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlstm.converters.flax_dialect import At
from xlstm.converters.flax_layers import number
from xlstm.converters.source import call, listed

from xlstm.specs import Along, Clip, Compare, Constant, Spec, Where
from xlstm.specs.operations import COMPARISONS


def clip(spec: Clip, at: At) -> None:
    """Between bounds."""
    low = None if spec.low is None else ("min", number(spec.low))
    high = None if spec.high is None else ("max", number(spec.high))
    at.put(call("jnp.clip", at.x, low, high))


def compare(spec: Compare, at: At) -> None:
    """1 or 0, numbers of the input's dtype."""
    terms = [*at.site.inputs, *([] if spec.value is None else [number(spec.value)])]
    at.put(call(f"{call(f'jnp.{spec.how}', *terms)}.astype", f"{at.x}.dtype"))


def where(spec: Where, at: At) -> None:
    """One of two."""
    condition, *rest = at.site.inputs
    given = iter(rest)
    yes, no = (next(given) if value is None else number(value) for value in (spec.yes, spec.no))
    at.put(call("jnp.where", f"{condition} != 0", yes, no))


def along(spec: Along, at: At) -> None:
    """Sums so far, or places, numbers of the input's dtype."""
    found = call(f"jnp.{spec.how}", at.x, ("axis", f"{at.axis(spec.axis)}"))
    at.put(found if spec.how == "cumsum" else call(f"{found}.astype", f"{at.x}.dtype"))


def constant(spec: Constant, at: At) -> None:
    """With fixed numbers."""
    name = at.site.free("constant")
    at.write(name, call("jnp.array", listed(map(number, spec.values)), f"{at.x}.dtype"))
    shaped = name if len(spec.shape) == 1 else f"{name}.reshape{spec.shape}"
    terms = (shaped, at.x) if spec.first else (at.x, shaped)
    found = call(f"jnp.{spec.how}", *terms)
    at.put(call(f"{found}.astype", f"{at.x}.dtype") if spec.how in COMPARISONS else found)


OPERATIONS: dict[type[Spec], Callable[[Any, At], None]] = {
    Along: along,
    Clip: clip,
    Compare: compare,
    Constant: constant,
    Where: where,
}
"""Operation -> what writes it."""
