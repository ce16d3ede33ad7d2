"""A whole model's tensors in one framework: names, shapes, and hub weights both ways."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from xlstm.adapter import Adapter
from xlstm.errors import UnsupportedError, WeightsError
from xlstm.identifiers import identifiers
from xlstm.layout import Slot, Table, folds, pack, shape, unpack
from xlstm.model import Array, Model, Node, Spec


@dataclass(frozen=True)
class Tensor:
    """One framework tensor of a model: whose it is, its full name and its shape."""

    node: Node
    slot: Slot
    name: str
    shape: tuple[int, ...]


class _Placed(NamedTuple):
    """A layer with weights, its table, and the path before its slots' names."""

    node: Node
    core: Spec
    table: Table
    before: str


def _placed(model: Model, adapter: Adapter, without: Container[str] = ()) -> Iterator[_Placed]:
    names = identifiers(model)
    for node in model.layers:
        if node.name in without:
            continue
        table = adapter.table(node.spec)
        if table is None:
            continue
        bare = model.lone and adapter.bare(node.spec)
        before = adapter.root if bare else f"{adapter.root}{names[node.name]}.{table.inside}"
        yield _Placed(node, node.spec.core, table, before)


def refusals(model: Model, adapter: Adapter) -> dict[str, str]:
    """Layers that a framework has no form of, and the reason."""
    found = {}
    for node in model.layers:
        try:
            adapter.table(node.spec)
        except UnsupportedError as error:
            found[node.name] = str(error)
    return found


def tensors(model: Model, adapter: Adapter, without: Container[str] = ()) -> Iterator[Tensor]:
    """Every tensor of the port of `model` to a framework, in order; needs no weights.

    Args:
        model: any model.
        adapter: the framework.
        without: names of layers to leave out.

    Raises:
        UnsupportedError: the framework has no form of a layer that is not left out.
    """
    for node, core, table, before in _placed(model, adapter, without):
        for slot in table.active(core.absent()):
            size = shape(slot, table.kind, core.sizes())
            yield Tensor(node, slot, before + slot.name, size)


def pack_model(model: Model, adapter: Adapter) -> dict[str, Array]:
    """All weights as the framework's tensors, by full name."""
    packed: dict[str, Array] = {}
    for node, core, table, before in _placed(model, adapter):
        arrays = pack(table, model.weights[node.name], core.sizes(), core.absent())
        packed |= {before + name: array for name, array in arrays.items()}
    return packed


def unpack_model(
    model: Model, adapter: Adapter, arrays: Mapping[str, Array]
) -> dict[str, dict[str, Array]]:
    """Hub weights of every layer from the framework's tensors by full name.

    Raises:
        WeightsError: tensors missing, left over or of a wrong shape.
    """
    hub, used = {}, set[str]()
    for node, core, table, before in _placed(model, adapter):
        names = {slot.name for slot in table.active(core.absent())}
        mine = {name: arrays[before + name] for name in names if before + name in arrays}
        used |= {before + name for name in mine}
        hub[node.name] = unpack(table, mine, core.sizes(), core.absent(), f"layer {node.name}")
    left = ", ".join(sorted(set(arrays) - used))
    if left:
        raise WeightsError(
            model.name, "every tensor used once", f"left over: {left}", "remove them"
        )
    return hub


def fold_notes(model: Model, adapter: Adapter) -> list[str]:
    """A line for each layer whose two biases this framework's single bias has to add up."""
    return [
        f"{node.name}: both biases are not zero; they are added into the one bias that "
        f"{adapter.title} keeps, rounded once in the stored dtype"
        for node, _, table, _ in _placed(model, adapter)
        if "s" in table.kind.tensors["bias"]
        and table.sides == 1
        and folds(model.weights[node.name].get("bias"))
    ]
