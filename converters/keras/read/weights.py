"""Assigns the arrays of a Keras file to layers, halves or cells, and finds their form.

In: the stored arrays of a layer and its specs. Out: canonical tensors for each spec.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from xlstm.errors import FileError, UsageError, WeightsError
from xlstm.files.description import UNMARKED, Stored
from xlstm.ir import layers as L
from xlstm.ir.kinds import KINDS
from xlstm.ir.layers.custom import unwrap_time_distributed
from xlstm.ir.lazy_weights import Latest, LazyWeight, LazyWeights, joined, renamed
from xlstm.ir.types import Array
from xlstm.slots import Slot, Table, check, gather, identity_table, slots_by_tensor, unpack

from ..slots import DEFAULT, FORMS, TABLES, turned
from ..versions import KERAS1_NAME
from .context import Config, ReadContext, dtype_policy, registered_name
from .custom_layers import taken
from .layers.config import STACK, cells_of, class_of, halves_of, inner, snake

CELLED = frozenset("LSTM GRU SimpleRNN RNN ConvLSTM1D ConvLSTM2D ConvLSTM3D".split())
"""Classes whose variables are below their cell in new weights files."""

HEADS = ("query", "key", "value", "output")

PARTED: dict[str, tuple[tuple[str, str], ...]] = {
    "MultiHeadAttention": tuple(
        (f"{part}_dense", "attention_output/" if part == "output" else f"{part}/") for part in HEADS
    )
}
"""Class -> paths of its variables in new weights files, and the prefix of their names."""

IN_ORDER = {
    "SeparableConv1D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "SeparableConv2D": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "Normalization": ("mean", "variance", "count"),
}
"""Names of variables in new weights files, for classes with more than those of one table."""

BESIDE = {"Normalization": ("count",)}
"""Variables that a trained layer does not use."""


class Owner(NamedTuple):
    """One layer, half or cell that owns variables.

    Attributes:
        layer: its config; that of the whole layer if it is not wrapped.
        path: from the layer's group to its variables in new weights files.
        word: the part of names in old files that identifies it, "" for a single owner.
        start: True if such a part only starts with the word.
    """

    layer: Config
    path: str
    word: str = ""
    start: bool = False

    def named_in(self, parts: Sequence[str], last: str) -> bool:
        """True if the name of an array, split into path and last part, names this owner."""
        if self.start:
            return any(part.startswith(self.word) for part in (*parts, last))
        return self.word in parts


def owners(layer: Config, major: int) -> list[Owner]:
    """Returns the owners of variables in a layer: itself, the one inside, two halves, or cells."""
    kind, config = str(layer.get("class_name")), layer.get("config", {})
    if kind == "TimeDistributed":
        inside = owners(inner(config, "layer"), major)
        return [owner._replace(path=f"layer/{owner.path}".rstrip("/")) for owner in inside]
    if kind == "Bidirectional":
        halves = zip(("forward", "backward"), halves_of(config), strict=True)
        return [_half(side, half, major) for side, half in halves]
    if kind == "RNN" and config["cell"].get("class_name") == STACK:
        cells = cells_of(layer)
        stems = numbered([snake(str(cell.get("class_name"))) for cell in cells])
        words = [_name(cell) for cell in cells] if len(cells) > 1 else [""]
        found = zip(cells, stems, words, strict=True)
        return [Owner(cell, f"cell/cells/{stem}", word) for cell, stem, word in found]
    return [Owner(layer, _below(kind))]


def _below(kind: str) -> str:
    return "cell" if class_of({"class_name": kind}) in CELLED else ""


def _half(side: str, layer: Config, major: int) -> Owner:
    below = _below(str(layer.get("class_name")))
    path = f"{side}_layer/{below}".rstrip("/")
    # Keras 3 writes the names of the layers; before, both get a prefix
    return Owner(layer, path, _name(layer)) if major > 2 else Owner(layer, path, f"{side}_", True)


def _name(layer: Config) -> str:
    return str(layer.get("config", {}).get("name", layer.get("class_name")))


def numbered(stems: Sequence[str]) -> list[str]:
    """Numbers names as Keras does: lstm, gru, lstm_1.

    >>> numbered(["lstm", "gru", "lstm"])
    ['lstm', 'gru', 'lstm_1']
    """
    found, counts = [], Counter[str]()
    for stem in stems:
        found.append(f"{stem}_{counts[stem]}" if counts[stem] else stem)
        counts[stem] += 1
    return found


def leaf(name: str, major: int, deep: bool = False) -> str:
    """Returns the variable in an array's HDF5 name: kernel for "lstm/lstm_cell/kernel:0".

    With `deep`, the name includes the layer around the variable: "query/kernel".
    """
    parts = name.split(":")[0].split("/")
    found = KERAS1_NAME.search(parts[-1]) if major == 1 else None
    return found[1] if found else "/".join(parts[-1 - deep :])


def sort_nested(reader: ReadContext, every: Iterable[tuple[str, ...]]) -> None:
    """Assigns arrays that old HDF5 files store under a nested model to the layers inside it.

    Args:
        reader: the context of reading.
        every: names of every layer inside a nested model, those of the models around it first.

    Raises:
        WeightsError: an array whose name identifies no layer.
    """
    if not reader.description.by_name:
        return
    nested: dict[str, dict[Home, None]] = {}
    for home in every:
        nested.setdefault(home[0], {})[home] = None
    for outer, found in nested.items():
        arrays, owned = reader.take(outer), dict[Home, list[Stored]]()
        for home in found:
            if not arrays and reader.description.weights.get(home[-1]):
                reader.give("/".join(home), reader.take(home[-1]))  # Keras 1
        homes = Homes(found)
        for array in arrays:
            owned.setdefault(homes.of(reader, outer, array.name), []).append(array)
        for home, own in owned.items():
            reader.give("/".join(home), (*reader.take("/".join(home)), *own))


Home = tuple[str, ...]
"""Names of a layer inside nested models, those of the models around it first."""


class Homes:
    """The layers inside a nested model, by their own names."""

    def __init__(self, homes: Iterable[Home]) -> None:
        self._named: dict[str, list[Home]] = {}
        for home in homes:
            self._named.setdefault(home[-1], []).append(home)
        self._lengths = {len(name) for name in self._named}

    def of(self, reader: ReadContext, outer: str, name: str) -> Home:
        """Returns the layer of an array: the one whose name comes last in its path.

        Raises:
            WeightsError: none, or several.
        """
        *parts, last = name.split(":")[0].split("/")
        places = {part: place for place, part in enumerate(parts, 1)}
        if not parts:
            places = {last[:n]: n for n in self._lengths if last[n : n + 1] == "_"}
        homes = [(deep, home) for own, deep in places.items() for home in self._named.get(own, ())]
        reader.budget.spend("steps", len(homes) + len(places), reader.file)
        found: dict[tuple[int, int], list[Home]] = {}
        for deep, home in homes:
            around = sum(other in parts for other in home[1:-1])
            found.setdefault((deep, around), []).append(home)
        best = found[max(found)] if found else []
        if len(best) != 1:
            where, want = reader.where(outer), "names that show the layer of each array"
            raise WeightsError(where, want, name, "save the model as .keras")
        return best[0]


@dataclass(frozen=True)
class WeightSorter:
    """Assigns the arrays of one layer to the owners inside it.

    Attributes:
        reader: the context of reading.
        name: of the layer.
        group: its path in new weights files.
        owners: possible owners of arrays.
    """

    reader: ReadContext
    name: str
    group: str
    owners: Sequence[Owner]

    def arrays(self, specs: Sequence[L.LayerSpec]) -> list[dict[str, Stored]]:
        """Returns the arrays of every owner by slot name; `specs` are the owners'.

        Raises:
            WeightsError: an array without a clear owner, or two arrays of one name.
        """
        if not self.reader.description.by_name:
            return [
                _in_order(self.reader, f"{self.group}/{owner.path}".rstrip("/"), owner, spec)
                for owner, spec in zip(self.owners, specs, strict=False)
            ]
        stored = self.reader.take(self.name)
        sorted_: list[list[Stored]] = [[] for _ in self.owners]
        for array in stored:
            sorted_[self._owner(array.name)].append(array)
        pairs = zip(self.owners, sorted_, strict=True)
        return [self._named(arrays, str(owner.layer.get("class_name"))) for owner, arrays in pairs]

    def _named(self, stored: Sequence[Stored], kind: str) -> dict[str, Stored]:
        found = {leaf(s.name, self.reader.weights_major, kind in PARTED): s for s in stored}
        if len(found) != len(stored):
            got = "left over: " + ", ".join(s.name for s in stored if s not in found.values())
            where = self.reader.where(self.name)
            do = "save the model as .keras; Keras 3.0 wrote such .h5 arrays over one another"
            raise WeightsError(where, "arrays of different names", got, do)
        return found

    def _owner(self, name: str) -> int:
        """Returns the number of an array's owner; file order is no proof: frozen ones come last."""
        if len(self.owners) == 1:
            return 0
        *parts, last = name.split("/")
        own = self.name.split("/")[-1]
        parts = parts[parts.index(own) + 1 :] if own in parts else parts
        found = [n for n, owner in enumerate(self.owners) if owner.named_in(parts, last)]
        if len(found) != 1:
            where, want = self.reader.where(self.name), "different names for its halves or cells"
            raise WeightsError(where, want, name, "save the model again")
        return found[0]


def _in_order(reader: ReadContext, path: str, owner: Owner, spec: L.LayerSpec) -> dict[str, Stored]:
    """Returns the numbered arrays of a new weights file by slot name, in the table's order."""
    kind = str(owner.layer.get("class_name"))
    if kind in PARTED:
        return {
            before + name: array
            for below, before in PARTED[kind]
            for name, array in zip(("kernel", "bias"), reader.take(f"{path}/{below}"), strict=False)
        }
    stored = reader.take(path)
    slots = TABLES[_default(spec)].present_slots(spec.missing_tensors()) if spec.sizes() else ()
    names = list(IN_ORDER.get(kind) or (slot.name for slot in slots))
    names += [f"variable {n}" for n in range(len(names), len(stored))]
    return dict(zip(names, stored, strict=False))


def _default(spec: L.LayerSpec) -> str:
    """Returns the name of the table that this Keras has for a spec."""
    return DEFAULT[
        spec.weight_kind if spec.weight_kind in DEFAULT else KINDS[spec.weight_kind].name
    ]


def _form(spec: L.LayerSpec, arrays: Mapping[str, Stored], layer: Config, where: str) -> str:
    """Returns the one form of a layer, of all eras, that fits these arrays by name and shape."""
    own = spec.weight_kind if spec.weight_kind in FORMS else KINDS[spec.weight_kind].name
    first = layer.get("config", {}).get("dim_ordering") == "th"
    # a square kernel has the same shape in both orders
    names = [name for name in FORMS[own] if name.endswith(" th") <= first]
    names.sort(key=lambda name: first and not name.endswith(" th"))
    for name in names:
        with contextlib.suppress(WeightsError):
            check(TABLES[name], arrays, spec.sizes(), spec.missing_tensors(), where)
            return name
    # none fits: the form with these names has the clearest error
    named = [n for n in names if _slots(TABLES[n], spec) == set(arrays)]
    check(TABLES[(named or names)[0]], arrays, spec.sizes(), spec.missing_tensors(), where)
    return names[0]


def _slots(table: Table, spec: L.LayerSpec) -> set[str]:
    return {slot.name for slot in table.present_slots(spec.missing_tensors())}


def _hub(
    reader: ReadContext, spec: L.LayerSpec, arrays: Mapping[str, Stored], owner: Owner, where: str
) -> Mapping[str, Array]:
    """Returns the canonical tensors of one owner."""
    policy = dtype_policy(owner.layer.get("config", {}).get("dtype"))
    if any(s.dtype == UNMARKED for s in arrays.values()) and "bfloat16" not in policy:
        raise FileError(where, f"numbers of {policy}", "opaque pairs of bytes", "check the file")
    arrays = {k: a for k, a in arrays.items() if k not in BESIDE.get(spec.kind, ())}
    if isinstance(spec, L.Custom):
        read = {key: stored.load() for key, stored in arrays.items()}
        return unpack(identity_table(spec.hub), read, spec.sizes(), where=where)
    if isinstance(spec, L.Norm):
        arrays = {k: _flat(a) for k, a in arrays.items()}
    form = _form(spec, arrays, owner.layer, where)
    if form != _default(spec):
        reader.note(f"{where}: weights in the form {form}")
    if form.startswith("CuDNN"):
        _check_cudnn(reader, spec, where)
    table = turned(TABLES[form]) if _is_turned(reader, spec, where) else TABLES[form]
    if reader.description.lazy and not spec.missing_tensors():
        return _unread(reader.latest, table, spec, arrays, where)
    read = {key: stored.load() for key, stored in arrays.items()}
    return unpack(table, read, spec.sizes(), spec.missing_tensors(), where)


def _unread(
    latest: Latest, table: Table, spec: L.LayerSpec, arrays: Mapping[str, Stored], where: str
) -> LazyWeights:
    """As `unpack` of a layer without missing tensors; arrays are read when a tensor is used."""
    sizes = spec.sizes()
    check(table, arrays, sizes, frozenset(), where)

    def tensor(name: str, slots: list[Slot]) -> LazyWeight:
        own = {slot.name: arrays[slot.name] for slot in slots}
        dtype = np.result_type(*(stored.zeros() for stored in own.values()))

        def load() -> Array:
            read = {key: stored.load() for key, stored in own.items()}
            return gather(table, name, slots, read, sizes)

        return LazyWeight(dtype, load)

    by_tensor = slots_by_tensor(table, frozenset())
    return LazyWeights({name: tensor(name, slots) for name, slots in by_tensor.items()}, latest)


def _check_cudnn(reader: ReadContext, spec: L.LayerSpec, where: str) -> None:
    """Warns if a layer's activations are not cuDNN's, which trained these weights."""
    reader.from_cudnn.add(where)
    for option, want in (("activation", "tanh"), ("gate_activation", "sigmoid")):
        if (got := getattr(spec, option)) != want:
            reader.warn(f"{where}: weights that cuDNN trained with {want}, in a layer with {got}")


def _flat(stored: Stored) -> Stored:
    """Returns numbers of any number of axes with a single axis."""
    if len(stored.shape) == 1:
        return stored
    size = math.prod(stored.shape)
    return replace(stored, shape=(size,), load=lambda: stored.load().reshape(size))


def _is_turned(reader: ReadContext, spec: L.LayerSpec, where: str) -> bool:
    """True if kernels are stored flipped, as in Theano.

    Raises:
        UsageError: a file that does not name the layout of its kernels.
    """
    windows = (L.Conv, L.ConvTranspose, L.DepthwiseConv, L.ConvLSTM)
    if not isinstance(spec, windows) or reader.weights_major > 2:
        return False
    if all(size == 1 for size in spec.window):
        return False
    backend = reader.backend
    if reader.weights_major == 1 and not backend:
        do = 'pass kernel_layout="tensorflow" or kernel_layout="theano"'
        raise UsageError(where, "a file that says the order of its kernels", "no backend in it", do)
    return backend == "theano"


def read_weights(
    reader: ReadContext, name: str, layer: Config, specs: Sequence[L.LayerSpec], group: str
) -> Iterator[Mapping[str, Array]]:
    """Yields the canonical weights of each of a layer's specs.

    Raises:
        WeightsError: arrays that are missing, unused, or of a wrong shape.
    """
    where = reader.where(name)
    specs = list(specs)
    if reader.description.alone:
        yield from ({} for _ in specs)
        return
    own = unwrap_time_distributed(specs[0])
    if isinstance(own, L.Custom):
        arrays = dict(zip(own.names, taken(reader, name, group), strict=True))
        yield _hub(reader, own, arrays, Owner(layer, ""), where) if arrays else {}
        return
    parts = [part for spec in specs for part in spec.weighted_parts]
    if not parts:
        if stored := reader.take(name if reader.description.by_name else group):
            got = ", ".join(array.name for array in stored)
            raise FileError(where, "no weights", got, "check the file")
        yield from ({} for _ in specs)
        return
    owned = owners(layer, reader.weights_major)
    found = WeightSorter(reader, name, group, owned).arrays([part for _, part in parts])
    if len(owned) == 1 and len(parts) == 2:
        owned, found = owned * 2, list(_in_two(found[0]))
    left = zip(parts, found, owned, strict=True)
    for spec in specs:
        canonical: list[Mapping[str, Array]] = []
        for _ in spec.weighted_parts:
            (before, part), arrays, owner = next(left)
            read = _hub(reader, part, arrays, owner, where)
            canonical.append(renamed(read, {tensor: before + tensor for tensor in read}))
        yield joined(canonical)


def _in_two(arrays: Mapping[str, Stored]) -> Iterator[dict[str, Stored]]:
    """Yields the arrays of a separable convolution: of the depthwise part, then the rest."""
    yield {name: array for name, array in arrays.items() if name == "depthwise_kernel"}
    yield {name: array for name, array in arrays.items() if name != "depthwise_kernel"}


def trainable_of(layer: Config, specs: Sequence[L.LayerSpec]) -> list[bool]:
    """Returns True for each of a layer's specs that trains: the layer, and all that it wraps."""
    config = layer.get("config", {})
    own = bool(config.get("trainable", True))
    if registered_name(layer):
        return [own]
    if "cell" in config:
        stack = bool(config["cell"].get("config", {}).get("trainable", True))
        return [own and stack and trainable_of(cell, specs[:1])[0] for cell in cells_of(layer)]
    below = halves_train(layer)
    return [own and (not below or any(below))] * len(specs)


def halves_train(layer: Config) -> list[bool]:
    """Returns True for each layer inside another that trains."""
    config = layer.get("config", {})
    below = [] if registered_name(layer) else [config.get(k) for k in ("layer", "backward_layer")]
    return [trainable_of(item, [L.LayerSpec()])[0] for item in below if isinstance(item, Mapping)]
