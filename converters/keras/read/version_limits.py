"""Refuses, or notes, computations of single Keras versions that no spec has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xlstm.errors import UnsupportedError
from xlstm.ir.layers import Bidirectional, LayerSpec, Recurrent

from .context import Config, ReadContext
from .layers.config import halves_of


def check_masked(
    reader: ReadContext, name: str, layer: Config, specs: Sequence[LayerSpec], states: bool
) -> None:
    """Raises UnsupportedError where Keras computes something else with a mask than our layers.

    Args:
        reader: the context of reading.
        name: of a recurrent layer that uses a mask.
        layer: its config.
        specs: its specs.
        states: True if the call names initial states.
    """
    where = reader.where(name)
    for spec, config in _parts(layer, specs):
        if config.get("unroll") and _zeros(spec) and spec.go_backwards:
            want = "a loop where the masked outputs of a layer that goes backwards are zeros"
            got = "unroll=True, where Keras puts the zeros at the steps of the mask turned round"
            raise UnsupportedError(where, want, got, "build the layer with unroll=False")
        held = states or spec.stateful
        if held and reader.era.starts_from_state and not config.get("unroll"):
            want = "zeros at masked steps before the first valid one"
            got = f"Keras {reader.era.version}, which gives the initial state there"
            raise UnsupportedError(where, want, got, "save the model with a newer Keras")
    both = any(isinstance(spec, Bidirectional) and spec.return_sequences for spec in specs)
    if both and reader.era.repeated_both_ways:
        reader.warn(
            f"masked steps of {name}: standalone Keras before 2.4 (this file: "
            f"{reader.era.version}) repeated the last output there; ports give zeros, as tf.keras "
            "and Keras 3 do"
        )
    if both and not reader.era.zeros_in_both_ways:
        reader.warn(
            f"masked steps of {name} repeat the last output, as Keras {reader.era.version} "
            "computes them; tf.keras and Keras 3 give zeros there"
        )


def check_stack(reader: ReadContext, name: str, specs: Sequence[LayerSpec], states: bool) -> None:
    """Raises UnsupportedError if the states of stacked cells have another order."""
    cells = [spec for spec in specs if isinstance(spec, Recurrent)]
    returned = any(spec.return_state for spec in cells)
    if len(cells) > 1 and (states or returned) and reader.era.stacks_states_backwards:
        where, want = reader.where(name), "states in the order of the cells"
        got = f"Keras {reader.era.version}, which turns it round"
        raise UnsupportedError(where, want, got, "save the model with a newer Keras")


def _parts(layer: Config, specs: Sequence[LayerSpec]) -> Iterator[tuple[Recurrent, Config]]:
    """Yields the recurrent layers in a layer, each with its options."""
    options = layer.get("config", {})
    halves = halves_of(options) if layer.get("class_name") == "Bidirectional" else ()
    for spec in specs:
        if isinstance(spec, Bidirectional):
            for half, config in zip(spec.halves, halves, strict=True):
                yield half, config.get("config", {})
        elif isinstance(spec, Recurrent):
            yield spec, options


def _zeros(spec: Recurrent) -> bool:
    return spec.zero_output_for_mask and spec.return_sequences


def check_unmasked(reader: ReadContext, name: str, layer: Config, mask: object) -> None:
    """Raises UnsupportedError for a layer that uses a mask in another way than ours."""
    if mask is not None and layer.get("class_name") == "Softmax":
        where, want = reader.where(name), "a Softmax without a mask, which hides numbers from it"
        raise UnsupportedError(where, want, "a masked input", "build it without the mask")
