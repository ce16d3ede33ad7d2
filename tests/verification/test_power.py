"""A small part of benchmarks/power.py: every kind of error is caught, right ports are not."""

import functools
import importlib.util
import re
import sys
from itertools import islice
from pathlib import Path

import pytest
from mutators import frameworks, texts, torch_mutants
from mutators.causes import CAUSES
from mutators.correct import by_hand, case, first_document, ill_conditioned, live_module
from mutators.mutant import DTYPES, Judge, is_same
from mutators.sources import SOURCES
from mutators.study import is_false_alarm, judged, tried

from xlstm.frameworks import registry
from xlstm.verification.bounds import UNDECIDED

ROOT = Path(__file__).parents[2]

MAKE = {
    "arrays": torch_mutants.arrays,
    "cells": torch_mutants.cells,
    "code": lambda model, _seed: torch_mutants.code(model),
    "texts": lambda model, _seed: texts.texts(model),
    "nnx": lambda model, seed: frameworks.arrays(model, "nnx", seed),
}

SAMPLE = {
    "gates permuted": ["arrays lstm", "arrays gru", "texts gru-before", "nnx lstm-square"],
    "gates permuted in some tensors": ["arrays lstm-square", "arrays gru-before", "nnx gru"],
    "gates of one bias permuted": ["arrays lstm-two-biases", "arrays gru"],
    "gates permuted, biases added up": ["arrays lstm-two-biases", "arrays gru"],
    "kernel transposed": ["arrays lstm-square", "arrays rnn-relu-square", "arrays dense"],
    "recurrent transposed": ["arrays lstm", "arrays rnn", "nnx lstm-square"],
    "kernel reshaped, not transposed": ["arrays gru", "arrays stack"],
    "recurrent reshaped, not transposed": ["arrays lstm"],
    "bias lost": ["arrays lstm", "arrays gru", "nnx lstm-square"],
    "bias doubled": ["arrays lstm", "arrays rnn", "nnx lstm-square"],
    "bias misplaced": ["arrays gru", "arrays lstm"],
    "forget bias added twice": ["arrays lstm", "code lstm-square", "nnx lstm-square"],
    "halves swapped": ["arrays both-lstm", "code both-lstm"],
    "half reversed": ["code both-lstm"],
    "direction": ["code lstm", "code rnn"],
    "out[:, -1] of the backward half": ["code both-lstm-last", "code both-gru-last-ave"],
    "merge mode": ["code both-gru-sum", "code both-rnn-mul"],
    "mask ignored": ["code masked-lstm", "code tagger", "texts masked-gru"],
    "mask zeroed": ["code masked-lstm", "code masked-lstm-last"],
    "batch_first": ["code lstm", "texts lstm"],
    "hard_sigmoid": ["code lstm", "code lstm-hard", "texts lstm-relu-hard_keras2"],
    "hard_sigmoid without its clip": ["code lstm-hard", "texts gru-hard_keras2"],
    "gate activation": ["code gru"],
    "activation": ["code rnn", "code dense"],
    "arrays of a cell of nn.Linear": ["cells lstm", "cells gru-square", "cells both-lstm"],
    "softmax axis": ["code stack", "code tagger"],
    "activation outside": ["code lstm-relu-hard_keras2"],
    "extra activation": ["code gru", "code stack"],
    "state lost": ["code lstm", "code masked-gru"],
    "output late": ["code rnn"],
    "batch_first of one half": ["code both-lstm"],
    "mask of one half ignored": ["code masked-both"],
    "reset_after": ["code gru", "code gru-before"],
    "BatchNorm or LayerNorm eps": ["code image", "code normed"],
    "BatchNorm mode": ["code image", "texts image"],
    "LeakyReLU slope": ["code image"],
    "channels order": ["code image", "texts image"],
    "kernel's channels reversed": ["arrays image"],
    "dropout left on": ["code stack", "code signal"],
    "one bias off by 1e-6": ["arrays lstm", "arrays dense", "nnx gru"],
    "one weight off by 1 to 3 ULP": ["arrays lstm", "arrays dense", "nnx lstm-square"],
}
"""Kind of error -> ports in which one mutant of it is tried."""


@functools.cache
def judge(source, seed):
    return Judge(SOURCES[source](seed))


def mutant(where, kind):
    make, source = where.split()
    seed = 1 if make == "nnx" else 0
    of = judge(source, seed)
    return next(m for m in MAKE[make](of.model, seed) if m.kind == kind), of


def test_every_kind_of_error_is_sampled():
    assert set(SAMPLE) == set(CAUSES) - {"BatchNorm momentum"}
    assert sum(map(len, SAMPLE.values())) >= 60


def test_every_word_that_is_replaced_is_in_a_source():
    emit = registry.adapter("torch").emit
    written = [emit(source(0)) for source in SOURCES.values()]
    assert [word for word in texts.WORDS if not any(word.old in text for text in written)] == []


@pytest.mark.parametrize(
    ("kind", "where"), [(kind, where) for kind, found in SAMPLE.items() for where in found]
)
def test_a_wrong_port_is_caught_and_its_cause_named(kind, where):
    wrong, of = mutant(where, kind)
    found = tried(wrong, of)
    assert found.by_outputs
    assert found.by_weights is not False or not wrong.weights_only
    assert found.named, f"{found.said}, not {wrong.causes}"


def test_another_momentum_is_the_same_function():
    """Why the study leaves it out: it acts in training only."""
    wrong, of = mutant("code image", "BatchNorm momentum")
    assert is_same(wrong)
    assert not tried(wrong, of).by_outputs


def test_the_right_port_is_the_same_function_and_a_nudged_one_is_not():
    """The check that leaves mutants out would see the smallest error."""
    wrong, of = mutant("arrays lstm", "one weight off by 1 to 3 ULP")
    assert not is_same(wrong)
    assert all(of.outputs(wrong.right, "torch")[d].verdict == "rounding" for d in DTYPES)


RIGHTS = [
    *(right for name in list(SOURCES)[::2] for right in by_hand(name, 5)),
    *ill_conditioned(5),
    *(case(name, "torch", 5) for name in ("stack", "gru-both-masked", "batch_norm-stack")),
    *(live_module(name, 5) for name in ("both_ways", "conv_lstm", "seq2seq")),
]
RIGHTS = [right for right in RIGHTS if right.framework == "torch"]


@pytest.mark.parametrize("right", RIGHTS, ids=lambda right: f"{right.kind}-{right.name}")
def test_a_right_port_is_never_called_wrong(right):
    found = judged(right)
    assert not is_false_alarm(found)
    fixed = "steps 100" in right.name  # chaos that no shorter input can tame
    assert fixed or found.verdict != UNDECIDED


def test_the_first_document_reaches_400():
    model, (x,) = first_document(0, 0.6)
    (y,) = Judge(model, [x]).allowed["float64"]
    assert x.max() == 380
    assert abs(y.y).max() > 100


def test_the_benchmark_makes_the_same_ports_for_one_seed(monkeypatch):
    spec = importlib.util.spec_from_file_location("power", ROOT / "benchmarks" / "power.py")
    power = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "power", power)
    spec.loader.exec_module(power)
    assert power.units(3) == power.units(3) != power.units(4)
    unit = power.Unit("A", "code", "rnn", "torch", 0)
    names = [[m.name for m in islice(power.mutants(unit), 3)] for _ in range(2)]
    assert names[0] == names[1]


def test_docs_quote_the_written_figures():
    text = (ROOT / "benchmarks" / "power.md").read_text()
    lines = re.findall(r"^[\d,]+ (?:wrong|right) ports: .*$", text, re.MULTILINE)
    assert len(lines) == 2
    page = " ".join((ROOT / "docs" / "proof.md").read_text().split())
    for line in lines:
        assert " ".join(line.split()) in page
