"""A batch of models gives what `xlstm port` gives for each of them, one by one."""

import importlib
import json
import math
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from paths import ROOT

from xlstm import load, save
from xlstm.cli.port import port_file
from xlstm.fleets import plans, work
from xlstm.fleets.entry import FleetEntry, FleetJob
from xlstm.fleets.storage import open_target
from xlstm.fleets.work import do_models
from xlstm.frameworks import registry
from xlstm.ir.graph import chain
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Embedding,
    Masking,
    SimpleRNN,
)
from xlstm.ir.source import Source
from xlstm.porting.port import module_name
from xlstm.reading.ports import read_folder
from xlstm.testing.trained_weights import trained_weights
from xlstm.verification.folder import verify_folder
from xlstm.verification.progress import silent

TORCH = registry.adapter("torch")


@pytest.fixture
def target(tmp_path):
    return open_target(str(tmp_path / "target"))


def do(target, entries, to="torch", **options):
    """The rows of a batch that is verified."""
    job = FleetJob(to, **{"verify": True, **options})
    target.check(job)
    return do_models(job, target, entries)


def report_of(target, name, aside=False):
    return json.loads(Path(target.port_path(name, aside), "report.json").read_text())


def entry(path):
    return FleetEntry(path.name, str(path), "1", 1)


CHAINS = {
    "lstm": ((None, 3), [LSTM(3, 6), Dense(6, 2)]),
    "gru": ((None, 3), [GRU(3, 5, reset_after=True, return_sequences=True), Activation("relu")]),
    "masked": ((7, 3), [Masking(0.0), Bidirectional(LSTM(3, 4), LSTM(3, 4, go_backwards=True))]),
    "words": ((None,), [Embedding(20, 4, mask_zero=True), GRU(4, 5, reset_after=True)]),
    "stateful": ((None, 3), [LSTM(3, 5, stateful=True)]),
    "chaos": ((40, 3), [SimpleRNN(3, 32)]),
    "growing": ((None, 3), [SimpleRNN(3, 8, activation="exponential")]),
}
"""Name of an architecture -> the shape of its input, and its layers."""


def model(kind, seed, gain=1.0, prefix=""):
    """A model with weights of its own."""
    rng, (shape, specs) = np.random.default_rng(seed), CHAINS[kind]
    names = [f"{prefix}{spec.kind.lower()}_{number}" for number, spec in enumerate(specs)]
    weights = {
        name: found
        for name, spec in zip(names, specs, strict=True)
        if (found := trained_weights(spec, rng, gain))
    }
    batch = 6 if kind == "stateful" else None
    layers = [(name, spec, True) for name, spec in zip(names, specs, strict=True)]
    return chain(f"{prefix}{kind}", layers, shape, weights, Source("keras", "3.15.1"), batch=batch)


def with_nan(one):
    """The model with one weight that is no number."""
    weights = {layer: {n: a.copy() for n, a in own.items()} for layer, own in one.weights.items()}
    next(iter(next(iter(weights.values())).values())).flat[0] = np.nan
    return replace(one, weights=weights)


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    """Sources of several architectures: three of each, some odd, and files of Keras 2."""
    folder = tmp_path_factory.mktemp("zoo")
    for kind in [*CHAINS][:5]:
        for seed in range(3):
            save(model(kind, seed), folder / f"{kind}_{seed}", "torch")
    for kind, gains in {"chaos": (1.0, 8.0), "growing": (0.1, 1.0, 40.0)}.items():
        for gain in gains:
            save(model(kind, 4, gain), folder / f"{kind}_{gain:g}", "torch")
    save(model("lstm", 3, prefix="other_"), folder / "lstm_named", "torch")
    save(with_nan(model("lstm", 6)), folder / "lstm_nan", "torch")
    return folder


@pytest.fixture(scope="module")
def keras_2(tmp_path_factory):
    """Two files of each of three genuine files of Keras 2, with other weights."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    try:
        templates = dict(importlib.import_module("fleet_zoo").keras_2_templates())
    finally:
        sys.path.remove(str(ROOT / "benchmarks"))
    folder, rng = tmp_path_factory.mktemp("keras_2"), np.random.default_rng(0)
    for name in ("k224_lstm", "mask_k212_bi_seq", "tfk221_gru_none"):
        for number in range(2):
            templates[name].copy(folder / f"{name}_{number}.h5", rng)
    return folder


def same(a, b, where=""):
    """Asserts that plain data are equal, floats up to rounding."""
    if isinstance(a, dict):
        assert [*a] == [*b], where
        for key in a:
            same(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), where
        for number, pair in enumerate(zip(a, b, strict=True)):
            same(*pair, f"{where}[{number}]")
    elif isinstance(a, float):
        assert a == b or math.isclose(a, b, rel_tol=1e-6), where
    else:
        assert a == b, where


def alone(path, folder, to="torch"):
    """The report that `xlstm port` writes for one source, in the place of the fleet's port."""
    options = {"progress": silent}
    found = port_file(
        str(path), to, folder, read={}, overwrite=False, verified=True, options=options
    )
    report = json.loads((found.folder / "report.json").read_text())
    shutil.rmtree(found.folder)
    return report


def test_reports_are_those_of_xlstm_port(zoo, keras_2, target):
    sources = sorted([*zoo.iterdir(), *keras_2.iterdir()])
    rows = do(target, [entry(path) for path in sources])
    assert [row.name for row in rows] == [path.name for path in sources]
    assert target.rows() == {row.name: row for row in rows}
    assert not target.unfinished()
    for path, row in zip(sources, rows, strict=True):
        found = report_of(target, row.name)
        shutil.rmtree(target.port_path(row.name))
        wanted = alone(path, Path(target.port_path(row.name)))
        same(found, wanted, row.name)
        assert row.outcome == ("equal" if wanted["verification"]["ok"] else "undecided")
        verdicts = wanted["verification"]["frameworks"]["torch"]
        same(row.verdicts, {dtype: verdicts[dtype] for dtype in ("float32", "float64")})
        assert row.sha256 == wanted["source"]["sha256"]
        assert row.counts["torch"] == wanted["counts"]["totals"]["torch"]["total"]
    found = {row.name: row for row in rows}
    assert found["lstm_nan"].outcome == "undecided"
    assert {found[f"lstm_{n}"].architecture for n in ("0", "2", "named", "nan")} == {
        found["lstm_1"].architecture
    }
    assert len({row.architecture for row in rows}) == len(CHAINS) + 3
    assert len({row.weights for row in rows}) == len(rows)
    assert [found[name].outcome for name in ("chaos_1", "chaos_8")] == ["equal", "undecided"]


def test_models_get_inputs_that_can_be_decided_for_them(zoo, target):
    names = ["growing_0.1", "growing_1", "growing_40"]
    sources = [zoo / name for name in names]
    rows = do(target, [entry(path) for path in sources])
    assert [row.outcome for row in rows] == ["equal"] * 3
    reports = [report_of(target, row.name)["verification"] for row in rows]
    steps = [found["recipe"]["inputs"][0]["shape"][1] for found in reports]
    assert steps[0] == 16 > steps[1] > 0
    assert any("inputs below zero: not reached" in line for line in rows[2].unexercised)


def test_ports_verify_and_load(zoo, target):
    sources = [zoo / "words_0", zoo / "words_1"]
    do(target, [entry(path) for path in sources])
    for path in sources:
        folder = Path(target.port_path(path.name))
        assert verify_folder(folder).ok
        assert read_folder(folder).weights.keys() == load(path).weights.keys()


@pytest.mark.parametrize("to", ["nnx", "linen", "keras"])
def test_other_targets(to, zoo, target):
    sources = [zoo / f"{kind}_{n}" for kind in ("gru", "stateful") for n in range(2)]
    rows = do(target, [entry(path) for path in sources], to)
    for path, row in zip(sources, rows, strict=True):
        found = report_of(target, row.name)
        shutil.rmtree(target.port_path(row.name))
        wanted = alone(path, Path(target.port_path(row.name)), to)
        for report in (found, wanted):  # another run may round otherwise
            report["proof"]["hashes"].pop("model.keras", None)  # it has the time of its writing
            for part in report["verification"]["frameworks"][to].values():
                if isinstance(part, dict):
                    part.update(max_abs=0.0, max_rel=0.0, max_ulp=0.0, ratio=0.0, step=0)
        same(found, wanted, row.name)
        assert row.outcome == "equal"


def test_without_verification(zoo, target):
    (row,) = do(target, [entry(zoo / "lstm_0")], verify=False)
    assert row.outcome == "ported"
    assert not row.verdicts
    assert report_of(target, "lstm_0")["verification"] == "not verified"


def test_wrong_weights_of_one_model(zoo, target, monkeypatch):
    shift = plans.Plan._module

    def wrong(self, live, port, dtype):
        made = shift(self, live, port, dtype)
        if np.array_equal(port.weights["lstm_0"]["bias"], bad):
            next(made.parameters()).data.add_(1e-3)
        return made

    bad = read_folder(zoo / "lstm_1").weights["lstm_0"]["bias"]
    monkeypatch.setattr(plans.Plan, "_module", wrong)
    names = [f"lstm_{n}" for n in range(3)]
    entries = [entry(zoo / n) for n in names]
    # a module that is used once alone is right: the shared one was at fault, not the port
    rows = do(target, entries)
    assert [row.outcome for row in rows] == ["equal"] * 3
    monkeypatch.setattr(work, "reconcile", lambda port, *_, **__: next(kept))
    usual, reports = work.reconcile_each, []

    def each(*args):
        for report in usual(*args):
            reports.append(report)
            yield report

    kept = (report for report in reports if not report.ok)
    monkeypatch.setattr(work, "reconcile_each", each)
    rows = do(target, entries)
    assert [row.outcome for row in rows] == ["equal", "different", "equal"]
    part = report_of(target, "lstm_1", aside=True)["verification"]["frameworks"]["torch"]
    assert part["weights"] == "lstm_0: kernel is not the source's"


def test_wrong_code_is_different_and_aside(zoo, target):
    def emit(one):
        return TORCH.emit(one).replace("x = self.dense_1(x)", "x = self.dense_1(x) * 1.001")

    names = ["lstm_0", "lstm_1", "words_0"]
    with registry.temporarily(replace(TORCH, emit=emit)):
        rows = do(target, [entry(zoo / n) for n in names])
    assert [row.outcome for row in rows] == ["different", "different", "equal"]
    for name in names[:2]:
        assert not Path(target.port_path(name)).exists()
        assert report_of(target, name, aside=True)["verification"]["ok"] is False


def test_a_port_that_does_not_run_is_failed(zoo, target):
    def emit(one):
        return TORCH.emit(one).replace("x = self.dense_1(x)", "x = self.dens(x)")

    with registry.temporarily(replace(TORCH, emit=emit)):
        rows = do(target, [entry(zoo / "lstm_0")])
    assert rows[0].outcome == "failed"
    assert "dens" in rows[0].error["got"]


def test_faults_are_the_rows_of_their_models_alone(zoo, target, tmp_path, monkeypatch):
    broken = tmp_path / "broken.h5"
    broken.write_bytes(b"\x89HDF\r\n\x1a\n" + b"\0" * 50)
    large = replace(entry(zoo / "lstm_2"), name="large", path=str(broken), size=2**40)
    usual = type(target).put_port

    def put_port(self, name, fill, aside=False):
        def full(folder):
            fill(folder)
            raise OSError(28, "No space left on device")

        return usual(self, name, full if name == "lstm_1" else fill, aside)

    monkeypatch.setattr(type(target), "put_port", put_port)
    gone = replace(entry(broken), name="gone", path=str(tmp_path / "gone.h5"))
    entries = [entry(zoo / "lstm_0"), entry(broken), large, entry(zoo / "lstm_1"), gone]
    job = FleetJob("torch", verify=True)
    target.check(job)
    rows = do_models(job, target, entries, worker="w", attempt=2)
    found = {row.name: row for row in rows}
    outcomes = {"lstm_0": "equal", "broken.h5": "refused", "large": "refused", "lstm_1": "failed"}
    outcomes["gone"] = "failed"  # its content is not known
    assert {name: row.outcome for name, row in found.items()} == outcomes
    for name in ("broken.h5", "large", "lstm_1"):
        assert all(found[name].error[part] for part in ("where", "expected", "got", "do"))
    assert "No space left" in found["lstm_1"].error["got"]
    assert {(row.worker, row.attempt) for row in rows} == {("w", 2)}
    assert [row.job for row in rows] == [job.digest(entry) for entry in entries]
    assert all(row.peak_memory > 0 for row in rows)


def test_a_layer_without_an_exact_form_is_refused(target):
    path = ROOT / "tests" / "data" / "k3" / "lambda.keras"
    rows = do(target, [entry(path)], verify=False)
    assert rows[0].outcome == "refused"
    assert "Lambda" in " ".join(rows[0].error.values())


def test_one_by_one_if_they_cannot_be_verified_together(zoo, target, monkeypatch):
    usual, calls = work.reconcile_each, []

    def fails(models, *rest):
        calls.append(len(models))
        if len(models) > 1:
            raise MemoryError
        return usual(models, *rest)

    monkeypatch.setattr(work, "reconcile_each", fails)
    names = ["gru_0", "gru_1", "gru_2"]
    rows = do(target, [entry(zoo / n) for n in names])
    assert calls == [3, 1, 1, 1]
    assert [row.outcome for row in rows] == ["equal"] * 3


def test_too_large_to_verify(zoo, target):
    (row,) = do(target, [entry(zoo / "gru_0")], memory=1000)
    assert row.outcome == "undecided"
    assert row.unexercised[0].startswith("not verified: that would need")
    assert report_of(target, "gru_0")["verification"] == row.unexercised[0]


def test_the_plans_that_were_used_last_are_kept():
    known = plans.Plans(TORCH, most=2)
    first = known.of(model("lstm", 0))
    assert known.of(model("lstm", 1)) is first
    known.of(model("gru", 0))
    assert known.of(model("lstm", 2)) is first
    known.of(model("words", 0))
    assert len(known.kept) == 2
    assert known.of(model("lstm", 0)) is first
    named = known.of(model("lstm", 0, prefix="other_"))
    assert named is not first
    assert named.architecture == first.architecture
    assert known.of(model("stateful", 0)).architecture != first.architecture


@pytest.mark.parametrize("to", ["nnx", "linen"])
def test_compiled_code_is_freed_after_many_graphs(to, monkeypatch):
    adapter, calls = registry.adapter(to), []
    live, known = adapter.live(), plans.Plans(adapter, most=2)
    usual = live.free_compiled
    monkeypatch.setattr(live, "free_compiled", lambda: calls.append(usual()))
    one = model("gru", 0)
    plan = known.of(one)
    made, _ = plan.maker(one)(live, "float32")
    before = live.run(made, [np.ones((2, 4, 3), "float32")], "float32")
    for number in range(4):
        known.of(model("gru", 0, prefix=f"n{number}_"))
    assert len(calls) == 1
    again, _ = plan.maker(one)(live, "float32")
    after = live.run(again, [np.ones((2, 4, 3), "float32")], "float32")
    np.testing.assert_array_equal(before[0], after[0])


def test_more_graphs_in_a_batch_than_are_kept(zoo, target, monkeypatch):
    monkeypatch.setattr(work, "_PLANS", {"torch": plans.Plans(TORCH, most=1)})
    before = {*sys.modules}
    names = ["chaos_1", "growing_1", "lstm_named", "lstm_1", "lstm_2"]
    rows = do(target, [entry(zoo / name) for name in names])
    assert [row.outcome for row in rows] == ["equal"] * 5
    left = [name for name in {*sys.modules} - before if name.startswith("xlstm_port_")]
    assert len(left) <= 1


def test_the_code_of_old_plans_is_freed():
    known = plans.Plans(TORCH, most=1)
    one, other = (model("gru", 0, prefix=f"{word}_") for word in ("first", "second"))
    name = module_name(known.of(one).parts.text)
    live, dtype = TORCH.live(), "float32"
    made, _ = known.of(one).maker(one)(live, dtype)
    assert name in sys.modules
    again, _ = known.of(one).maker(model("gru", 1, prefix="first_"))(live, dtype)
    assert again is made
    known.of(other)
    assert name not in sys.modules
    assert len(known.kept) == 1


def test_a_port_reads_back_as_it_is_verified(zoo, target):
    for name in ("lstm_0", "masked_1", "words_2"):
        do(target, [entry(zoo / name)], verify=False)
        source = load(zoo / name)
        packed = plans.pack_model(source, TORCH)
        mine = plans.as_written(source, TORCH, packed)
        back = read_folder(Path(target.port_path(name)))
        assert replace(mine, weights={}) == replace(back, weights={})
        for layer, own in back.weights.items():
            for tensor, array in own.items():
                assert array.tobytes() == mine.weights[layer][tensor].tobytes()


def test_a_model_that_hangs_ends_its_process():
    code = (
        "import time\nfrom xlstm.fleets.work import limit_time\n"
        "with limit_time(9): pass\nwith limit_time(0.3): time.sleep(20)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert "Timeout" in done.stderr
