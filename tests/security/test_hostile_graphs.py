"""Small files that ask for much work: refused before it is done, or read in linear time."""

from __future__ import annotations

import contextlib

import hostile_graphs as hostile
import pytest
from counted_work import exponent

import xlstm
from xlstm.errors import XlstmError

REFUSED = {
    "nested-twice": "expanded nodes",
    "nested-twice-h5": "expanded nodes",
    "nested-in-steps": "expanded nodes",
    "nested-long-names": "4,096 characters",
    "masked-inputs-1000": "expanded nodes",
    "sums-20000": "500,000 values",
    "doubled-20000": "500,000 values",
    "masks-20000": "500,000 values",
    "axes-20000": "64 whole numbers",
    "shape-of-4000-digits": "4,001 digits",
    "units-of-4000-digits": "4,001 digits",
    "lstm-of-4000-digits": "4,001 digits",
    "name-10000000": "bytes",
}
"""Case -> words of its refusal. The others are read."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_grow_is_refused_in_one_line(name, tmp_path):
    path = tmp_path / "m.keras"
    hostile.CASES[name](path)
    with pytest.raises(XlstmError, match=REFUSED[name]) as caught:
        xlstm.load(path)
    assert str(caught.value).isprintable()


GROWING = {
    "chain": hostile.many,
    "calls": hostile.many_calls,
    "one-layer": hostile.one_layer,
    "old-one-layer": hostile.one_old_layer,
    "reads": hostile.repeated_reads,
    "inputs": hostile.one_sum,
    "outputs": hostile.outputs,
    "cells": hostile.cells,
    "moves": hostile.moves,
}


@pytest.mark.parametrize("name", GROWING)
def test_the_work_of_reading_grows_with_the_number_of_layers(name, tmp_path):
    def make(number):
        path = tmp_path / f"{number}.keras"
        hostile.archive(path, GROWING[name](number))
        read(path)
        return lambda: read(path)

    def read(path):
        # a stack of cells is understood as a whole before its weights are missed
        missed = pytest.raises(XlstmError, match="no kernel")
        with missed if name == "cells" else contextlib.nullcontext():
            xlstm.load(path)

    assert exponent(make, (200, 800)) <= 1.1
