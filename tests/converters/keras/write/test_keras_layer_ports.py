"""Ports to Keras 3 of the layers around the recurrent ones: exact, refused, and in bare Keras."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from cases import model
from cases_layers import CASES_LAYERS, heads
from cases_transposed import BOTH
from covering import cover
from keras_layer_cases import ALL, LAYERS, MASKS, MORE, NOT_HERE, SEEN
from processes import WAIT
from refusing import refused
from test_keras_ports import BARE, long_names

import xlstm
from xlstm import reference
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import check_model, pack_model
from xlstm.ir.layers import (
    LSTM,
    Affine,
    BatchNorm,
    Conv,
    Dense,
    DepthwiseConv,
    GlobalPool,
    PRelu,
    Relu,
    TimeDistributed,
    TrainingOnly,
)
from xlstm.porting.port import build
from xlstm.verification import inputs
from xlstm.verification.bounds import bounds, judge, worst_of

KERAS = registry.adapter("keras")


def is_refused(source):
    try:
        check_model(source, KERAS)
        KERAS.emit(source)
    except UnsupportedError:
        return True
    return False


def some_seen(source):
    """Inputs none of whose rows is masked altogether: of such a row everything is in doubt."""
    rng = np.random.default_rng(3)
    found = []
    for _ in source.inputs:
        ids = rng.integers(1, 9, (6, 7))
        ids[1, 4:] = ids[2, :3] = ids[3, 2:5] = 0
        found.append(ids.astype(np.float32))
    return found


@pytest.mark.parametrize("case", [*MASKS, *MORE, *LAYERS])
def test_equal_up_to_rounding(case):
    report = xlstm.reconcile(ALL[case], "keras", some_seen(ALL[case]) if case in SEEN else None)
    report.check()
    found = report.frameworks["keras"]
    assert found.parameters == report.ledger.total("keras")
    assert {v.verdict for v in found.verdicts.values()} == {"rounding"}


def test_what_is_not_here_is_refused():
    assert {name for name, case in CASES_LAYERS.items() if is_refused(case)} == NOT_HERE


def window(kind, *sizes, **options):
    ones = (1,) * len(sizes[2])
    return kind(*sizes, **{"strides": ones, "dilation": ones, **options})


REFUSED = {
    "strides": (
        model([window(Conv, 3, 4, (2,), strides=(2,), dilation=(2,))], (9, 3)),
        "strides together with dilation",
    ),
    "transposed-strides": (BOTH["strides-dilation"], "strides together with dilation"),
    "transposed-more": (BOTH["more-than-strides"], "not below the strides"),
    "transposed-even": (BOTH["even-same"], "output_padding 0 of an even window"),
    "depthwise-3d": (
        model([window(DepthwiseConv, 2, 1, (2, 2, 2))], (3, 4, 5, 2)),
        "over three axes",
    ),
    "depthwise-strides": (
        model([window(DepthwiseConv, 2, 1, (2, 2), strides=(1, 2))], (5, 6, 2)),
        "strides that differ",
    ),
    "slope": (model([Relu(slope=-0.5)], (5, 3)), "slope -0.5"),
    "spatial_dropout": (model([TrainingOnly("SpatialDropout2D", 0.5)], (5, 3)), "of 3 axes"),
    "offset": (CASES_LAYERS["conv_lstm1d-offset"], "an offset"),
    "any_size": (CASES_LAYERS["conv_lstm1d-any_length"], "any size"),
    "blind": (
        heads("v", blind="zeros"),
        'blind="zeros"',
    ),
    "steps": (
        model([TimeDistributed(LSTM(2, 3, return_state=True))], (None, 6, 2)),
        "any number of time steps",
    ),
    "length": (
        model([TimeDistributed(LSTM(2, 3, return_state=True))], (3, None, 2)),
        "any length",
    ),
    "axes": (model([GlobalPool("max")], (2, 2, 2, 2, 3)), "5 axes"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_name_layer_and_way_out(case):
    source, words = REFUSED[case]
    name = source.layers[-1].name
    refused(UnsupportedError, lambda: xlstm.port(source, "keras"), "port to Keras", name, words)


def test_source_is_lint_clean_and_formatted_whatever_the_names(tmp_path):
    rng = np.random.default_rng(0)
    for case, source in ALL.items():
        for number, named in enumerate([source, *(long_names(source, rng) for _ in range(3))]):
            text = KERAS.emit(named)
            (tmp_path / f"{case.replace('-', '_')}_{number}.py").write_text(text)
    for command in (["check"], ["format", "--check", "--diff"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", tmp_path],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr


BLIND = {
    name for name in ALL if name.startswith("attention-") and name.endswith(("masks", "causal"))
}
"""Queries of theirs that see no value get weights of which float32 keeps nothing."""


IN_BOTH = ["affine", "normalization", "transformer", "shared", "relu-all", "batch_norm-stack"]
SEEING = {name: source for name, source in ALL.items() if name not in BLIND}
NAMES = {*IN_BOTH, *cover(ALL, KERAS.emit), *cover(SEEING, KERAS.emit)}
FILES = {name: source for name, source in ALL.items() if name in NAMES}
"""Models that are written to files: they show every layer and every argument that we write."""


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Folders written by `save`, with inputs and what the reference gives for them."""
    folder = tmp_path_factory.mktemp("saved")
    for case, source in FILES.items():
        xlstm.save(source, folder / case, "keras")
        given = some_seen(source) if case in SEEN else inputs.make(source)
        wanted = reference.run(source, given)[: len(source.outputs)]
        arrays = {f"x{n:02}": x for n, x in enumerate(given)}
        np.savez(folder / f"{case}.npz", **arrays, **{f"y{n:02}": y for n, y in enumerate(wanted)})
    return folder


def test_a_bare_keras_opens_model_keras_and_computes_the_same(saved):
    names = json.dumps([name for name in FILES if name in SEEING])
    command = [sys.executable, "-c", BARE, names]
    done = subprocess.run(command, cwd=saved, capture_output=True, text=True, timeout=WAIT)
    assert done.stdout.endswith("equal\n"), done.stdout + done.stderr


def test_saved_folders_load_again(saved):
    for case, source in FILES.items():
        again = xlstm.load(saved / case)
        assert (again.nodes, again.outputs) == (source.nodes, source.outputs), case
        np.testing.assert_equal(pack_model(again, KERAS), pack_model(source, KERAS))


@pytest.mark.parametrize("case", IN_BOTH)
def test_files_run_in_both_precisions(case, saved):
    """What Keras itself makes of a file, its dtype rewritten, against the reference."""
    live, source = KERAS.live(), ALL[case]
    given = some_seen(source) if case in SEEN else inputs.make(source)
    for dtype in ("float32", "float64"):
        mine, exact = (bounds(source, given, name) for name in (dtype, "float64"))
        opened = live.open_native(saved / case / "model.keras", dtype)
        outputs = live.run(opened, given, dtype)
        pairs = zip(outputs, mine, exact, strict=True)
        verdict = worst_of([judge(y, own, sharp, dtype) for y, own, sharp in pairs])
        assert verdict.verdict == "rounding", (case, verdict)


def test_weights_come_back_bit_for_bit():
    live = KERAS.live()
    for case, source in ALL.items():
        held = live.weights(build(source, KERAS))
        packed = pack_model(source, KERAS)
        assert held.keys() == packed.keys(), case
        for name, array in packed.items():
            np.testing.assert_array_equal(held[name], array, name)


def test_what_tensorflow_computes_inexactly_is_named():
    live = KERAS.live()
    sources = {
        "heads-sizes": "1 / sqrt(key_dim)",
        "relu-slope": "leaky_relu rounds its slope",
        "elu": "loses digits near 0",
    }
    for case, words in sources.items():
        (found,) = live.inexact_for(ALL[case], "float64").items()
        assert words in found[0]
        assert 0 < found[1] < 1e-7
    assert not live.inexact_for(CASES_LAYERS["heads"], "float64")  # 1 / 2 needs no rounding
    pooled = live.inexact("float64", CASES_LAYERS["pool-max-3d-valid-2-2"])
    assert "MaxPooling3D of pool_0" in pooled
    assert not live.inexact("float32", CASES_LAYERS["pool-max-3d-valid-2-2"])
    assert not live.inexact("float64", CASES_LAYERS["pool-max-2d-valid-2-1"])


def test_layers_that_are_not_trained_stay_so():
    source = model([window(Conv, 3, 4, (2,)), BatchNorm(4), TimeDistributed(PRelu((4,)))], (9, 3))
    nodes = tuple(dataclasses.replace(node, trainable=False) for node in source.nodes)
    ported = xlstm.port(dataclasses.replace(source, nodes=nodes), "keras")
    assert not ported.trainable_weights
    assert len(xlstm.port(source, "keras").trainable_weights) == 5


def test_what_a_reopened_file_loses_is_noted(tmp_path):
    source = model([Affine(0.1), Dense(3, 2)], (3,)).astype("float64")
    folder = xlstm.save(source, tmp_path / "affine", "keras")
    assert "reopens constants" in (folder / "report.json").read_text()
