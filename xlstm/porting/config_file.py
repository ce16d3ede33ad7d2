"""The content of config.json beside a port, for frameworks whose users expect such a file.

In: a model and its target. Out: plain data, with the graph that `xlstm.reading.ports` reads.
"""

from __future__ import annotations

import json
from typing import Any

from xlstm._version import VERSION
from xlstm.files.port_folder import KEY
from xlstm.frameworks.adapter import Adapter
from xlstm.ir.graph import Model
from xlstm.ir.serialize import to_json


def graph_entry(model: Model, adapter: Adapter) -> str:
    """The target and the graph, as the metadata of the weights and config.json store them."""
    return json.dumps({"to": adapter.name, "graph": to_json(model)})


def config_of(model: Model, adapter: Adapter, dtype: str = "", entry: str = "") -> dict[str, Any]:
    """The content of config.json, empty for a target without it.

    Args:
        model: the model that is ported.
        adapter: the target.
        dtype: dtype that the port computes in; "" for that of the emitted `load`.
        entry: what `graph_entry` returns for them, if it is known.
    """
    if adapter.config is None:
        return {}
    own = {**adapter.config(model), **({"dtype": dtype} if dtype else {})}
    return {**own, "xlstm_version": VERSION, KEY: entry or graph_entry(model, adapter)}
