"""Ports in bfloat16 and float16, and verdicts on them with bounds of their own."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
from cases import CASES, built, masked, model
from cases_layers import CASES_LAYERS
from refusing import refused
from test_mutants import GATE_PAIRS, broken, swap_gates

import xlstm
from xlstm.cli.main import main
from xlstm.errors import UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder
from xlstm.ir.layers import GRU, LSTM, Attention, Dense, Embedding, Input, SimpleRNN
from xlstm.ir.precision import DTYPES, HALF, LARGEST, cast, emulated
from xlstm.verification.bounds import DIFFERENT, FAILED, ROUNDING, UNDECIDED
from xlstm.verification.reconcile import generated
from xlstm.verification.run import port_maker, run, trial

FRAMEWORKS = registry.frameworks()
DEMO = str(xlstm.demo.path())
SMALL = model([LSTM(3, 5, return_sequences=True), GRU(5, 4), Dense(4, 2)], (None, 3))
SQUARE = model([LSTM(5, 5, return_sequences=True)], (None, 5))
EVERY = {**CASES, **CASES_LAYERS}

CAUGHT = {dtype: [DIFFERENT] for dtype in HALF}

RIGHT = {dtype: [ROUNDING] for dtype in HALF}

NO_KERNEL = {"pool-average-3d-valid-2-2", "pool-average-3d-same-2-2"}
"""Cases that PyTorch itself has no half precision for on a processor."""


def verdicts(found, framework):
    return {d: found.frameworks[framework].verdicts[d].verdict for d in HALF}


def details(found, framework, dtype):
    return found.frameworks[framework].verdicts[dtype].detail


def judged(source, mutant, adapter):
    """Words of the verdicts on a port of `mutant` as a port of `source`."""
    one = trial(source, generated.chosen(source)[0], "made", dtypes=HALF)
    found = run(adapter, [one], port_maker(mutant, adapter)).verdicts["made"]
    return {dtype: [v.verdict for v in every] for dtype, every in found.items()}


@pytest.mark.parametrize("dtype", HALF)
def test_casts_are_those_of_a_framework(dtype):
    import torch

    rng = np.random.default_rng(0)
    x = rng.standard_normal(4096).astype("float32") * np.float32(10.0) ** rng.integers(-9, 6, 4096)
    ends = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 3.4e38, 65519.0, 65520.0, 1e-45])
    x = np.concatenate([x, ends.astype("float32")])
    want = torch.from_numpy(x).to(getattr(torch, dtype)).float().numpy()
    np.testing.assert_array_equal(cast(x, dtype).astype("float32"), want)


@pytest.mark.parametrize("dtype", HALF)
def test_everything_that_numpy_makes_of_emulated_numbers_is_rounded(dtype):
    rng = np.random.default_rng(0)
    x = emulated(rng.standard_normal((4, 4)), dtype)
    made = (
        x @ x,
        np.where(x > 0, x, 0) * 0.1,
        x.mean(axis=0),
        np.exp(x),
        np.concatenate([x, x]) / 3,
    )
    for y in made:
        plain = np.asarray(y)
        assert plain.dtype == np.float32
        np.testing.assert_array_equal(plain, cast(plain, dtype))
    assert (x > 0).dtype == bool


def test_float16_ends_before_its_largest_number():
    x = emulated(np.array([150.0, 300.0]), "float16")
    assert np.isfinite(x * x * 0.5).tolist() == [True, False]
    assert np.isfinite(cast(np.array([65504.0, 65520.0]), "float16")).tolist() == [True, False]


@pytest.mark.parametrize("dtype", HALF)
def test_ports_hold_and_compute_in_half_precision(dtype):
    import jax
    import torch
    from flax import nnx

    x = np.ones((2, 6, 3), "float32")
    ported = xlstm.port(SMALL, "torch", dtype=dtype)
    own = getattr(torch, dtype)
    assert {p.dtype for p in ported.parameters()} == {own}
    assert ported(torch.from_numpy(x).to(own)).dtype == own
    assert {p.dtype for p in xlstm.port(SMALL, "torch", dtype=own).parameters()} == {own}
    ported = xlstm.port(SMALL, "nnx", dtype=dtype)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(nnx.state(ported))} == {dtype}
    assert str(ported(jax.numpy.asarray(x)).dtype) == dtype
    module, variables = xlstm.port(SMALL, "linen", dtype=dtype)
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(variables)} == {dtype}
    assert str(module.apply(variables, x).dtype) == dtype
    ported = xlstm.port(SMALL, "keras", dtype=dtype)
    assert {str(v.dtype) for v in ported.weights} == {dtype}
    assert {layer.compute_dtype for layer in ported.layers} == {dtype}


def test_the_source_is_not_changed():
    before = {n: {t: a.copy() for t, a in w.items()} for n, w in SMALL.weights.items()}
    xlstm.port(SMALL, "torch", dtype="bfloat16")
    for name, layer in SMALL.weights.items():
        for tensor, array in layer.items():
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array, before[name][tensor])


def test_numpy_and_other_dtypes_are_refused():
    for dtype in HALF:
        refused(UsageError, lambda d=dtype: xlstm.port(SMALL, "numpy", dtype=d), dtype, "float64")
    refused(UsageError, lambda: xlstm.port(SMALL, "torch", dtype="float8"), "bfloat16", "float8")


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_framework_is_right_in_half_precision(framework):
    source = masked(LSTM(3, 5, "relu", "hard_sigmoid_keras2", return_sequences=True))
    found = xlstm.reconcile(source, framework, half=True)
    assert found.ok, found
    assert [*found.frameworks[framework].verdicts] == [*DTYPES, *HALF]


def test_only_where_it_is_asked_for():
    found = xlstm.reconcile(SMALL, "torch").to_json()["frameworks"]["torch"]
    assert set(found) == {"float32", "float64", "version", "what", "weights"}


@pytest.mark.parametrize("case", [*EVERY][::8])
def test_right_ports_raise_no_false_alarm(case):
    """The worst of all cases in PyTorch uses 0.4 of its bound."""
    source, adapter = EVERY[case], registry.adapter("torch")
    one = trial(source, generated.chosen(source)[0], "made", dtypes=HALF)
    found = run(adapter, [one], port_maker(source, adapter))
    assert not found.weights
    for verdict in itertools.chain(*found.verdicts["made"].values()):
        assert verdict.ratio < 0.5
        assert verdict.verdict != DIFFERENT
        if verdict.verdict == FAILED:
            assert case in NO_KERNEL or "scores lowered" in verdict.detail


@pytest.mark.parametrize("gates", GATE_PAIRS, ids="".join)
def test_swapped_gates_are_caught(gates):
    adapter = broken("torch", lambda slot: swap_gates(slot, *gates))
    assert judged(SQUARE, SQUARE, adapter) == CAUGHT


CHANGES = {
    "lost-bias": ("bias", np.zeros_like),
    "transposed-recurrent": ("recurrent", lambda a: np.ascontiguousarray(a.swapaxes(-1, -2))),
    "transposed-kernel": ("kernel", lambda a: np.ascontiguousarray(a.swapaxes(-1, -2))),
    "bias-off-by-a-tenth": ("bias", lambda a: a + np.float32(0.1)),
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("change", CHANGES)
def test_wrong_weights_are_caught(framework, change):
    tensor, wrong = CHANGES[change]
    weights = {
        name: {t: wrong(a) if t == tensor else a for t, a in layer.items()}
        for name, layer in SQUARE.weights.items()
    }
    mutant = dataclasses.replace(SQUARE, weights=weights)
    adapter = registry.adapter(framework)
    assert judged(SQUARE, mutant, adapter) == CAUGHT


@pytest.mark.parametrize("wrong", ["sigmoid", "hard_sigmoid"])
def test_the_other_gates_are_caught(wrong):
    right = model([LSTM(5, 5, gate_activation="hard_sigmoid_keras2")], (None, 5))
    spec = dataclasses.replace(right.layers[0].spec, gate_activation=wrong)
    nodes = (right.nodes[0], dataclasses.replace(right.nodes[1], spec=spec))
    mutant = dataclasses.replace(right, nodes=nodes)
    adapter = registry.adapter("torch")
    found = judged(right, mutant, adapter)
    # a hard_sigmoid is nearer to the sigmoid than three digits tell
    assert found["float16"] == [DIFFERENT]
    assert found["bfloat16"] == [DIFFERENT if wrong == "hard_sigmoid" else ROUNDING]


@pytest.mark.parametrize("where", ["outputs", "inside", "weights"])
def test_numbers_that_float16_has_not_are_no_failure(where):
    source = model([Dense(3, 4, "relu"), Dense(4, 2)], (3,))
    big, small = np.float32(1e5), np.float32(1e-5)
    factors = {"outputs": (big, 1), "inside": (big, small), "weights": (small, big)}[where]
    weights = {
        name: {t: a * factor for t, a in layer.items()}
        for (name, layer), factor in zip(source.weights.items(), factors, strict=True)
    }
    found = xlstm.reconcile(dataclasses.replace(source, weights=weights), "torch", half=True)
    assert verdicts(found, "torch") == {"bfloat16": ROUNDING, "float16": UNDECIDED}
    assert f"{LARGEST['float16']:g}" in details(found, "torch", "float16")
    assert not found.ok


def test_chaos_is_not_judged():
    wild = model([SimpleRNN(4, 64, return_sequences=True)], (30, 4), gain=3)
    found = xlstm.reconcile(wild, "torch", half=True).frameworks["torch"].verdicts
    for dtype in HALF:
        assert found[dtype].verdict in (ROUNDING, UNDECIDED)
        assert found[dtype].undecidable_from is not None
    assert found["bfloat16"].undecidable_from <= found["float16"].undecidable_from


@pytest.mark.parametrize("framework", ["torch", "nnx", "keras"])
def test_row_numbers_stay_whole(framework):
    """bfloat16 has no 257."""
    source = model([Embedding(500, 4, mask_zero=True), LSTM(4, 3)], (7,))
    assert max(generated.chosen(source)[0][0].ravel()) > 257
    assert judged(source, source, registry.adapter(framework)) == RIGHT


def hidden_values():
    graph = Builder()
    x = graph.add("x", Input((5, 4)))
    return built(graph, [graph.add("look", Attention(4, causal=True), [x, x])])


def test_lowered_scores_are_refused_where_float16_has_not_the_number():
    source = hidden_values()
    for framework in ("torch", "nnx", "linen"):
        refused(
            UnsupportedError,
            lambda to=framework: xlstm.port(source, to, dtype="float16"),
            "look",
            "bfloat16",
        )
        xlstm.port(source, framework, dtype="bfloat16")
    found = xlstm.reconcile(source, ["torch", "keras"], half=True)
    assert verdicts(found, "torch") == {"bfloat16": ROUNDING, "float16": FAILED}
    assert "scores lowered" in details(found, "torch", "float16")
    assert verdicts(found, "keras") == dict.fromkeys(HALF, ROUNDING)


def test_hidden_states_and_more_shapes_in_half_precision():
    small = model([LSTM(2, 3)], (3, 2))
    found = xlstm.reconcile(small, "torch", half=True, states=True, thorough=True)
    assert found.ok, found
    part = found.frameworks["torch"]
    assert set(part.layers) == {*DTYPES, *HALF}
    assert all(set(every) == {*DTYPES, *HALF} for every in part.shapes.values())
    json.dumps(found.to_json(), allow_nan=False)


def test_shapes_that_half_precision_cannot_decide_are_made_milder():
    source = model([LSTM(3, 5)], (None, 3))
    found = xlstm.reconcile(source, "torch", half=True, thorough=True)
    assert found.ok, found
    shapes = found.frameworks["torch"].shapes
    large = [label for label in shapes if "scale 256" in label]
    assert len(large) == 1, "wide precisions keep it"
    milder = [line for line in found.unexercised if line.endswith(" instead")]
    assert {*DTYPES} <= set(shapes[large[0]])
    for line in milder:
        label = line.partition("compared with ")[2].removesuffix(" instead")
        assert shapes[label].keys() <= set(HALF)
    seen = {label for label, every in shapes.items() if every.keys() <= set(HALF)}
    assert len(seen) == len(milder)


def test_the_originals_run_in_half_precision():
    import torch

    torch.manual_seed(0)
    lstm = torch.nn.LSTM(3, 4, batch_first=True)
    found = xlstm.reconcile(lstm, "torch", half=True)
    assert found.ok, found
    assert lstm.weight_ih_l0.dtype == torch.float32
    found = xlstm.reconcile(DEMO, "keras", half=True)
    assert found.ok, found
    assert "the original" in found.frameworks["keras"].what


def test_on_the_command_line(capsys, tmp_path):
    assert main(["verify", DEMO, "--frameworks", "torch", "--half", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["frameworks"]["torch"]
    assert {found[dtype]["verdict"] for dtype in (*DTYPES, *HALF)} == {ROUNDING}
    assert found["float32"]["bound"] < found["float16"]["bound"] < found["bfloat16"]["bound"]
    folder = str(xlstm.save(DEMO, tmp_path / "port", "torch"))
    assert main(["verify", folder, "--half"]) == 0
    shown = capsys.readouterr().out
    assert all(dtype in shown for dtype in HALF)
