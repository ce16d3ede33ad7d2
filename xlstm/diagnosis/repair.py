"""Repairs a suspect from the truth, and compares again.

In: the truth and a suspect. Out: the suspect's arrays with the truth's numbers, by the suspect's
own names, and the diagnosis of what is left.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from xlstm.diagnosis.diagnose import diagnose, made_inputs
from xlstm.diagnosis.hypothesis import Part, parts
from xlstm.diagnosis.pairing.tensors import Key, Paired, pair_arrays, pair_nodes, turned_slot
from xlstm.diagnosis.result import Diagnosis
from xlstm.diagnosis.suspect.models import Suspect, suspect
from xlstm.errors import UsageError, WeightsError
from xlstm.files.arrays.safe_tensors_writer import write_safetensors
from xlstm.files.description import Stored
from xlstm.files.port_folder import has_port
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import pack_model
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.graph import Model
from xlstm.ir.types import Array
from xlstm.porting.save import atomic_folder, write
from xlstm.reading.load import load
from xlstm.reading.ports import target_of
from xlstm.reference import run as reference
from xlstm.slots import Table, pack, shape
from xlstm.verification.inputs import MEMORY, Limits, check_memory
from xlstm.verification.progress import Tell, silent
from xlstm.verification.report import Compared
from xlstm.verification.user_inputs import arrays_for

Arrays = dict[str, Array]

Diagnose = Callable[[Any], Diagnosis]
"""Diagnoses a suspect against the truth."""

ONES = ("gamma", "variance")
"""Tensors that do nothing where they are ones; all others do nothing where they are zeros."""

ARRAYS = "corrected.safetensors"
"""Name of the file of a corrected state dict."""

RUNS = 4
"""Runs of the truth and the suspect whose values are in memory at a time."""


@dataclass(frozen=True, repr=False)
class Repair(Compared):
    """A suspect's corrected weights, and what is left to do.

    Attributes:
        arrays: all tensors of the suspect by its own names, in its own shapes and dtypes;
            integers become floats.
        changed: names of the tensors that have other numbers than before.
        before: the diagnosis of the suspect as it was.
        after: the diagnosis of the suspect with `arrays`.
        model: the corrected graph, with the truth's options; None where b is code or plain arrays.
        framework: the framework of `model` and of the names, "" if it is not known.
    """

    arrays: Mapping[str, Array]
    changed: tuple[str, ...]
    before: Diagnosis
    after: Diagnosis
    model: Model | None = None
    framework: str = ""

    @property
    def ok(self) -> bool:
        """True if the corrected suspect is equal to the truth up to rounding."""
        return self.after.ok

    @property
    def code(self) -> tuple[str, ...]:
        """Returns what has to be changed by hand: a text for each mistake that is left."""
        left = [f"{found.text} {found.fix}".strip() for found in self.after.findings]
        return (*left, *(found.text for found in self.after.unexplained))

    def summary(self) -> str:
        """Returns one line: equal now or before, or how much is left."""
        if self.before.ok:
            return "Equal up to rounding: there is nothing to correct."
        count = len(self.changed)
        written = f"{count} tensor{'s' * (count != 1)} corrected"
        if self.ok:
            options = "" if count else ", by options alone"
            return f"Equal now: {written}{options}."
        left = len(self.code)
        return f"Not equal yet: {written}, {left} difference{'s' * (left != 1)} left."

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Writes the corrected suspect into a new folder, all files or none.

        A suspect that was read as a graph becomes a port in its own framework, with `model.py`.
        Of any other, `corrected.safetensors` has its tensors by its own names.

        Raises:
            UsageError: the folder exists or cannot be made.
        """
        target = Path(os.fspath(folder))
        adapter = registry.adapter(self.framework) if self.framework else None
        with atomic_folder(target, overwrite=False) as work:
            if self.model is not None and adapter is not None and adapter.emit:
                write(self.model, work, adapter)
            else:
                tensors = [_stored(*pair) for pair in self.arrays.items()]
                write_safetensors(work / ARRAYS, tensors, {})
        return target

    def to_json(self) -> dict[str, Any]:
        """Returns the repair as plain data, without the arrays."""
        both = {"before": self.before.to_json(), "after": self.after.to_json()}
        return {"ok": self.ok, "changed": [*self.changed], "code": [*self.code], **both}

    def __str__(self) -> str:
        lines = [self.summary()]
        lines += [f"corrected: {name}" for name in self.changed]
        lines += [f"to change by hand: {text}" for text in self.code]
        if self.after.compared == ("weights",):
            lines += ["compared: weights alone; no code ran with them"]
        return "\n".join(lines)


def repair(
    a: Any,
    b: Any,
    inputs: Any = None,
    *,
    memory: float = MEMORY,
    effort: float = 1.0,
    progress: Tell = silent,
) -> Repair:
    """Gives a suspect the truth's weights and options, and diagnoses it again.

    Every tensor of `b` whose place in `a` is known by names and shapes gets a's numbers, in b's
    own layout. Code is not changed: what is wrong there stays in `after`, with its advice. `b`
    itself has its own numbers again when this returns.

    Args:
        a: the truth: anything that `xlstm.load` takes.
        b: the suspect, as in `xlstm.diagnose`.
        inputs: as in `xlstm.diagnose`.
        memory: as in `xlstm.diagnose`.
        effort: as in `xlstm.diagnose`.
        progress: as in `xlstm.diagnose`.

    Returns:
        The repair; `.ok` is True if `b` with `.arrays` is equal to `a`.

    Raises:
        XlstmError: as `xlstm.diagnose`; or the tensors of `b` are not known.

    >>> from xlstm.model import Dense, Source, chain
    >>> def model(*rows):
    ...     return chain("m", [("dense", Dense(2, 2, use_bias=False), True)], (2,),
    ...                  {"dense": {"kernel": np.array(rows)}}, Source("keras"))
    >>> print(repair(model([1.0, 2.0], [3.0, 4.0]), model([1.0, 3.0], [2.0, 4.0])))
    Equal now: 1 tensor corrected.
    corrected: dense.kernel
    """

    def diagnosed(other: Any) -> Diagnosis:
        return diagnose(a, other, inputs, memory=memory, effort=effort, progress=progress)

    before = diagnosed(b)
    with unmoved:
        truth, other = load(a), suspect(b, a)
    if other.model is not None and other.run is None:
        return _of_graph(truth, other.model, _framework(b, other.model), before, diagnosed)
    old = dict(other.arrays or {})
    if not old:
        want, do = "a suspect whose tensors have names", "pass the model or its state dict"
        raise UsageError("repair", want, other.title, do)
    if before.ok:
        return Repair(old, (), before, before)
    paired = pair_arrays(truth, old, [other.adapter] if other.adapter else None)
    if other.run is None:
        new = _corrected(truth, _plain(truth, paired), old)
        return Repair(new, _changed(old, new), before, diagnosed(new))
    made = arrays_for(truth, inputs) if inputs is not None else None
    limits = Limits(check_memory(memory), RUNS)
    made = made if made is not None else made_inputs(truth, other, limits)
    new, after = _of_code(truth, b, other, paired, made, diagnosed)
    return Repair(new, _changed(old, new), before, after)


def _stored(name: str, array: Array) -> Stored:
    return Stored(name, array.shape, array.dtype.name, lambda: array)


def _of_graph(
    truth: Model, model: Model, framework: str, before: Diagnosis, diagnosed: Diagnose
) -> Repair:
    """The repair of a file or folder: its layers with the truth's options and weights."""
    adapter = registry.adapter(framework) if framework else None
    old = _named(model, adapter)
    if before.ok:
        return Repair(old, (), before, before, model, framework)
    corrected = _like(truth, model)
    new, after = _named(corrected, adapter), diagnosed(corrected)
    return Repair(new, _changed(old, new), before, after, corrected, framework)


def _framework(b: Any, model: Model) -> str:
    """The framework of a suspect that was read as a graph: of a port, its target."""
    if isinstance(b, (str, os.PathLike)) and has_port(Path(b)):
        return target_of(Path(b)).name
    known = model.source.framework in registry.names()
    return model.source.framework if known else ""


def _named(model: Model, adapter: Adapter | None) -> Arrays:
    """The tensors of a model by the names of its framework, or by our own."""
    if adapter is not None:
        return pack_model(model, adapter)
    layers = model.weights.items()
    return {f"{layer}.{name}": np.asarray(x) for layer, own in layers for name, x in own.items()}


def _like(truth: Model, model: Model) -> Model:
    """A model whose paired layers have the truth's options and weights."""
    theirs = {other: mine for mine, other in pair_nodes(truth, model).items()}
    nodes = []
    for node in model.nodes:
        mine = theirs.get(getattr(node, "owner", ""))
        nodes.append(replace(node, spec=truth.node(mine).spec) if mine else node)
    weights = {other: truth.weights.get(mine, {}) for other, mine in theirs.items()}
    return replace(model, nodes=tuple(nodes), weights={**model.weights, **weights})


def _plain(truth: Model, paired: Paired) -> Paired:
    """Pairs of arrays without code, in the framework's own axes: no code wants others."""
    layouts = {}
    for (owner, before), table in paired.layouts.items():
        turned = {name for at, name in paired.turned if at == owner}
        slots = [turned_slot(s) if before + s.tensor in turned else s for s in table.slots]
        layouts[owner, before] = replace(table, slots=tuple(slots))
    return replace(paired, layouts=layouts)


def _corrected(truth: Model, paired: Paired, old: Mapping[str, Array]) -> Arrays:
    """The suspect's arrays with the truth's numbers where their place is known."""
    new = {name: np.array(array) for name, array in old.items()}
    for (owner, before), table in paired.layouts.items():
        node = truth.node(owner)
        part = next(part for part in parts(node.spec) if part.before == before)
        for slot, array in _packed(truth, owner, part, table).items():
            _put(new, paired.names[owner, before, slot], array)
    return new


def _packed(truth: Model, owner: str, part: Part, table: Table) -> Arrays:
    """One part's tensors in a layout; nothing where that layout cannot hold the truth's."""
    own = truth.weights.get(owner, {})
    hub = {n.removeprefix(part.before): x for n, x in own.items() if n.startswith(part.before)}
    absent, sizes = part.spec.missing_tensors(), part.spec.sizes()
    try:
        found = pack(table, hub, sizes, absent)
    except WeightsError:
        return {}
    for slot in table.slots:
        # a's layer has no such tensor: b's must do nothing
        if slot.tensor in absent:
            found[slot.name] = np.full(shape(slot, table.kind, sizes), float(slot.tensor in ONES))
    return found


def _put(arrays: Arrays, name: str, array: Array) -> None:
    """Writes a tensor, or columns of one: `cell.weight[:, 3:]`."""
    columns = re.fullmatch(r"(.*)\[:, (\d*):(\d*)\]", name)
    whole = columns[1] if columns else name
    if arrays[whole].dtype.kind != "f":
        arrays[whole] = arrays[whole].astype(array.dtype)  # integers would cut the numbers off
    if columns is None:
        arrays[name] = np.asarray(array, arrays[name].dtype).reshape(array.shape)
        return
    start, stop = (int(n) if n else None for n in columns.groups()[1:])
    arrays[whole][:, start:stop] = array


def _changed(old: Mapping[str, Array], new: Mapping[str, Array]) -> tuple[str, ...]:
    """Names of the tensors with other numbers."""
    return tuple(n for n in new if n not in old or not _same(np.asarray(old[n]), new[n]))


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def _of_code(
    truth: Model,
    b: Any,
    other: Suspect,
    paired: Paired,
    inputs: list[Array],
    diagnosed: Diagnose,
) -> tuple[Arrays, Diagnosis]:
    """The arrays with which a live suspect comes nearest to the truth, and its diagnosis then."""
    assert other.adapter is not None
    assert other.arrays is not None
    live: Any = other.adapter.live()
    if not hasattr(live, "assign"):
        got, do = f"the adapter of {other.adapter.title} without it", "pass b's arrays by name"
        raise UsageError("repair", "an adapter with `assign`", got, do)
    old = dict(other.arrays)
    tried = [_corrected(truth, one, old) for one in _readings(paired)]
    wanted = reference(truth, inputs) if tried[1:] else []

    def distance(arrays: Arrays) -> float:
        live.assign(b, arrays)
        return _distance(other, inputs, wanted)

    try:
        best = min(tried, key=distance) if tried[1:] else tried[0]
        return best, diagnosed(live.assign(b, best))
    finally:
        live.assign(b, old)


def _readings(paired: Paired) -> Iterator[Paired]:
    """The pairs, with every order in which the code of a cell may read its gates.

    The names of a framework's own layers tell that order; those of a cell of b's own do not.
    """
    yield paired
    gates = {table.kind.gates for table in paired.tables.values()}
    for order in itertools.permutations(gates.pop()) if len(gates) == 1 else ():
        layouts = {key: _in_order(paired, key, "".join(order)) for key in paired.layouts}
        yield replace(paired, layouts=layouts)


def _in_order(paired: Paired, key: Key, order: str) -> Table:
    """A part's slots, with another order of the gates where they are a cell of b's own."""
    table = paired.layouts[key]
    if key not in paired.tables:
        return table
    slots = (replace(slot, gates=order if slot.gates else "") for slot in table.slots)
    return replace(table, slots=tuple(slots))


def _distance(other: Suspect, inputs: list[Array], wanted: list[Array]) -> float:
    """The largest difference of a suspect's outputs; infinity where they have other shapes."""
    assert other.run is not None
    found = other.run(inputs, "float32", quiet=True).outputs
    if [y.shape for y in found] != [y.shape for y in wanted]:
        return float("inf")
    gaps = (np.abs(x - y).max(initial=0.0) for x, y in zip(found, wanted, strict=True))
    return max(map(float, gaps), default=0.0)
