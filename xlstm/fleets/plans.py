"""The work that models of one graph share: emitted source, counts, live modules.

In: a model and its target. Out: a `Plan`, from a cache of the graphs that were used last.

    plan = plans.of(model)
    plan.architecture     # digest of the graph without names and weights
    plan.maker(port)      # puts the weights of a port into a module that is built once
"""

from __future__ import annotations

import functools
import hashlib
import json
import sys
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from xlstm.counting.ledger import Ledger, count_model
from xlstm.errors import XlstmError
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import pack_model, unpack_model
from xlstm.ir.graph import Model
from xlstm.ir.layers.custom import Custom, unwrap_time_distributed
from xlstm.ir.lazy_weights import dtypes_of
from xlstm.ir.serialize import from_json, to_json
from xlstm.ir.source import Source
from xlstm.ir.types import Array
from xlstm.porting.port import build, forget_code, module_name
from xlstm.porting.save import PortParts, parts_of
from xlstm.reading.ports import notes_of_model
from xlstm.verification.run import OUR_PORT, Maker

MOST = 32
"""Graphs whose shared work is kept."""

IN_TEXT = ("framework", "version", "input_axes", "output_axes")
"""Fields of a source that are written into model.py."""


@dataclass
class Plan:
    """The shared work of one graph, names included, for one target.

    Attributes:
        adapter: the target.
        architecture: digest of the graph without names and weights.
        parts: of its ports' files.
        ledger: the counts of a port in its target alone.
        modules: dtype -> the live module that has the weights of the last model.
        known: True if this process had the module of model.py before.
        kept: False for a plan that is not used again after its present models.
    """

    adapter: Adapter
    architecture: str
    parts: PortParts
    ledger: Ledger
    modules: dict[str, Any] = field(default_factory=dict)
    known: bool = False
    kept: bool = True

    def __post_init__(self) -> None:
        self.known = module_name(self.parts.text) in sys.modules

    def free(self) -> None:
        """Frees the live modules, and the emitted source unless it was there before.

        Models that still have the plan build them again.
        """
        self.modules.clear()
        if not self.known:
            forget_code(self.parts.text)

    @functools.cached_property
    def counts(self) -> dict[str, int]:
        """Framework -> number of parameters, without frameworks that refuse a layer."""
        totals = {name: self.parts.ledger.total(name) for name in self.parts.ledger.frameworks}
        return {name: total for name, total in totals.items() if total is not None}

    def maker(self, port: Model) -> Maker:
        """The function that puts the weights of a port into the module of its dtype."""
        return lambda live, dtype: (self._module(live, port, dtype), OUR_PORT)

    def _module(self, live: Any, port: Model, dtype: str) -> Any:
        """The module with the weights of a port: the last one's, or a new one.

        A module that fails is not used again.
        """
        made = self.modules.pop(dtype, None)
        if made is None or not hasattr(live, "assign"):
            made = build(port, self.adapter, dtype, self.parts.text)
        else:
            made = live.assign(made, pack_model(port.astype(dtype), self.adapter))
        self.modules[dtype] = made
        return made


class Plans:
    """The plans of the graphs that were used last, for one target."""

    def __init__(self, adapter: Adapter, most: int = MOST) -> None:
        self.adapter, self.most = adapter, most
        self.kept: OrderedDict[str, Plan] = OrderedDict()
        self.freed = 0

    def of(self, model: Model) -> Plan:
        """The plan of a model.

        Raises:
            XlstmError: the target has no exact form of the model.
        """
        key = _digest([_graph(model), *(getattr(model.source, name) for name in IN_TEXT)])
        plan = self.kept.pop(key, None) or self._new(model)
        plan.kept = not _has_custom_layers(model)  # their code may be registered again
        if plan.kept:
            self.kept[key] = plan
        while len(self.kept) > self.most:
            _, old = self.kept.popitem(last=False)
            old.kept = False
            old.free()
            self._free_compiled()
        return plan

    def _free_compiled(self) -> None:
        """Frees what a framework has compiled, after as many graphs as are kept."""
        self.freed += 1
        live = sys.modules.get(self.adapter.live_module)
        if live is not None and hasattr(live, "free_compiled") and self.freed % self.most == 0:
            live.free_compiled()

    def _new(self, model: Model) -> Plan:
        parts, bare = parts_of(model, self.adapter), replace(model, source=_port_source(model))
        _check_graph(bare)
        ledger = count_model(bare, [self.adapter.name])
        return Plan(self.adapter, _digest(_nameless(_graph(model))), parts, ledger)


def as_written(model: Model, adapter: Adapter, packed: Mapping[str, Array]) -> Model:
    """The model that `read_folder` reads from a port with these tensors.

    Args:
        model: the model that is ported.
        adapter: the target.
        packed: what `pack_model` returns for them; the numbers of the file of weights.
    """
    weights = unpack_model(model, adapter, packed)
    return replace(model, weights=weights, source=_port_source(model))


def _port_source(model: Model) -> Source:
    """The source of a model, as its port stores it."""
    notes = notes_of_model(model.source)
    return replace(model.source, notes=notes, optimizer=None, code_warning="")


def _check_graph(model: Model) -> None:
    """Raises unless the graph of a port reads back as it was: then no port of it is read."""
    text = json.dumps(to_json(model))
    back = from_json(json.loads(text), model.weights, model.name)
    if json.dumps(to_json(back)) != text:
        want, do = "a graph that reads back as it was written", "report this"
        raise XlstmError(model.name, want, "another one", do)


def _has_custom_layers(model: Model) -> bool:
    return any(isinstance(unwrap_time_distributed(node.spec), Custom) for node in model.layers)


def _graph(model: Model) -> dict[str, Any]:
    """The graph as plain data, with the dtype and shape of every weight, without its source."""
    graph = to_json(model)
    del graph["source"]
    weights = {
        name: [(tensor, dtype.name) for tensor, dtype in dtypes_of(layer).items()]
        for name, layer in model.weights.items()
    }
    return {**graph, "weights": weights}


def _nameless(graph: Mapping[str, Any]) -> dict[str, Any]:
    """The same with numbers for the names of layers and outputs."""
    numbers = {node["name"]: str(number) for number, node in enumerate(graph["nodes"])}

    def edge(found: list[Any]) -> list[Any]:
        return [numbers[found[0]], *found[1:]]

    nodes = [
        {
            **node,
            "name": "",
            "inputs": [*map(edge, node["inputs"])],
            "mask": node["mask"] and edge(node["mask"]),
            "states": [*map(edge, node["states"])],
            "layer": numbers.get(node["layer"], ""),
        }
        for node in graph["nodes"]
    ]
    return {
        **graph,
        "name": "",
        "nodes": nodes,
        "inputs": [numbers[name] for name in graph["inputs"]],
        "outputs": [*map(edge, graph["outputs"])],
        "keys": len(graph["keys"]),
        "weights": {numbers[name]: found for name, found in graph["weights"].items()},
    }


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data).encode()).hexdigest()[:16]
