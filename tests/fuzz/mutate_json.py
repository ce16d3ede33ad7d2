"""Mutations of JSON texts: values, types and keys, depth, keys that occur twice, huge numbers."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

VALUES: tuple[Any, ...] = (None, True, False, 0, -1, 1, 2, 3.5, -0.0, 1e308, 2**31, 2**63, 10**30)
VALUES += ("", "x", "LSTM", "Lambda", "a/b", "../x", "\n", "\0", "\ud800", "x" * 10_000)
VALUES += ([], {}, [None], [[]], [1, 2], {"class_name": "LSTM"}, {"": 0}, {"config": None})
NAMES = ("class_name", "config", "name", "units", "layers", "module", "inbound_nodes", "dtype", "")
RAW = (
    "NaN",
    "1e999",
    "-1e999",
    "9" * 5000,
    "0." + "0" * 5000 + "1",
    '{"a": 1, "a": 2}',
    "[" * 150 + "]" * 150,
    "[" * 2000 + "]" * 2000,
    '{"a":' * 100_000 + "0" + "}" * 100_000,
    "[" + "{}," * 200_000 + "{}]",
    '"' + "\\u0000" * 20_000 + '"',
    "",
)
"""Texts put in place of a value as they are: what json.dumps would not write."""

MARK = "@raw@"


def _places(data: Any) -> list[tuple[Any, Any]]:
    """Every (container, key or index) of a document."""
    found, todo = [], [data]
    while todo:
        item = todo.pop()
        keys = list(item) if isinstance(item, dict) else range(len(item))
        for key in keys:
            found.append((item, key))
            if isinstance(item[key], dict | list):
                todo.append(item[key])
    return found


def _value(rng: Random) -> Any:
    """One of VALUES, each time a new one: else a later change could put it into itself."""
    return copy.deepcopy(rng.choice(VALUES))


def _change(places: list[tuple[Any, Any]], rng: Random) -> str:
    holder, key = rng.choice(places)
    other, other_key = rng.choice(places)
    how = rng.choice(("value", "value", "raw", "delete", "rename", "copy", "wrap", "twice", "key"))
    if how == "value":
        holder[key] = _value(rng)
    elif how == "raw":
        holder[key] = MARK + str(rng.randrange(len(RAW)))
    elif how == "copy":
        holder[key] = copy.deepcopy(other[other_key])
    elif how == "wrap":
        holder[key] = rng.choice(([holder[key]], {"config": holder[key]}, str(holder[key])))
    elif how == "twice" and isinstance(holder, list):
        holder.append(copy.deepcopy(holder[key]))
    elif how == "key" and isinstance(holder, dict):
        holder[rng.choice(NAMES)] = _value(rng)
    elif how == "rename" and isinstance(holder, dict):
        holder[rng.choice(NAMES)] = holder.pop(key)
    else:
        how = "delete"
        del holder[key]
    return how


def mutated_json(text: bytes, rng: Random) -> tuple[str, bytes]:
    """What was done, and the outcome: one to three changes of a document."""
    data = json.loads(text)
    done = []
    for _ in range(rng.choice((1, 1, 2, 3))):
        places = _places(data) if isinstance(data, dict | list) else []
        if not places:
            data = _value(rng)
            break
        done.append(_change(places, rng))
    changed = json.dumps(data)
    for number, raw in enumerate(RAW):
        changed = changed.replace(f'"{MARK}{number}"', raw)
    return "json " + "+".join(done), changed.encode()
