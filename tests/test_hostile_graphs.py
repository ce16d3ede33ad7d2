"""Small files that ask for much work: refused before it is done, or read in linear time."""

from __future__ import annotations

import hostile_graphs as hostile
import pytest
from counted_work import exponent, lines
from refusing import refused

import xlstm
from xlstm import registry
from xlstm.budget import Budget
from xlstm.errors import FileError, UnsupportedError
from xlstm.inspecting import inspect
from xlstm.tables import render_counts

REFUSED = {
    "nested-twice": ("expanded nodes", "196,607"),
    "nested-twice-h5": ("expanded nodes", "196,607"),
    "nested-in-steps": ("expanded nodes", "196,607"),
    "nested-long-names": ("characters",),
    "shape-of-4000-digits": ("Reshape.shape",),
    "units-of-4000-digits": ("units",),
    "lstm-of-4000-digits": ("units",),
    "name-10000000": ("characters",),
    "axes-20000": ("layer x", "64 whole numbers"),
    "doubled-200": ("layer c30", "2,147,483,647 places"),
}
"""Case -> words of its refusal. The others are read."""
