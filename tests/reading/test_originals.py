"""What a comparison runs: the original where its framework opens it, and what ports really hold."""

import dataclasses
import json
import shutil
import tomllib
from pathlib import Path

import numpy as np
import pytest
from cases import CASES, model
from processes import run

import xlstm
from xlstm.errors import UnsupportedError, WeightsError
from xlstm.files.port_folder import KEY, weights_of
from xlstm.frameworks import registry
from xlstm.ir.layers import LSTM, Dense, Input

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["demo.net", "demo.h5", "demo"])
def test_keras_opens_its_own_file_whatever_it_is_called(name, tmp_path):
    file = tmp_path / name
    shutil.copy(xlstm.demo.path(), file)
    report = xlstm.reconcile(file, "keras")
    report.check()
    assert report.frameworks["keras"].what == "the original, on tensorflow"


def test_a_file_that_keras_cannot_open_is_our_port_and_says_so():
    """Keras 3.15 cannot read back the bfloat16 arrays of its own old HDF5 format."""
    from paths import DATA

    report = xlstm.reconcile(DATA / "k3" / "dtype.h5", "keras")
    assert report.frameworks["keras"].what.startswith("our port (Keras does not open the file: ")
    report.check()


@pytest.mark.parametrize("version", ["3.13.1", "3.12.3", "3.9", "3.13"])
def test_a_keras_without_the_fixes_is_handed_no_file(version, monkeypatch):
    import keras

    def opens(*_args, **_options):
        raise AssertionError("the file was handed to Keras")

    monkeypatch.setattr(keras, "__version__", version)
    monkeypatch.setattr(keras.models, "load_model", opens)
    report = xlstm.reconcile(xlstm.demo.path(), "keras")
    report.check()
    what = report.frameworks["keras"].what
    assert what.startswith("our port (Keras does not open the file: Keras: expected 3.13.2")
    assert version in what


@pytest.mark.parametrize("version", ["3.13.2", "3.14.0.dev20260101", "3.15.1", "4.0.0"])
def test_a_keras_with_the_fixes_opens_files(version, monkeypatch):
    import keras

    monkeypatch.setattr(keras, "__version__", version)
    report = xlstm.reconcile(xlstm.demo.path(), "keras")
    assert report.frameworks["keras"].what == "the original, on tensorflow"


def test_the_extra_installs_a_keras_with_the_fixes():
    from xlstm.converters.keras.live.model import OPENS_FROM

    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = f"keras>={'.'.join(map(str, OPENS_FROM))}"
    assert wanted in extras["optional-dependencies"]["keras"]


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_backends_on_which_keras_leaves_float64(backend, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    code = (
        "import sys, xlstm; r = xlstm.reconcile(xlstm.demo.path(), 'keras'); "
        "print(r.ok, r.frameworks['keras'].verdicts['float64'].detail)"
    )
    done = run(code)
    assert done.stdout.startswith("True not run: keras.ops."), done.stdout + done.stderr


def test_a_live_torch_module_is_run_itself():
    import torch

    module = torch.nn.Linear(3, 2)
    report = xlstm.reconcile(module, "torch")
    report.check()
    assert report.frameworks["torch"].what == "the original"


def test_hooks_and_mixed_freezing_are_refused():
    import torch

    hooked = torch.nn.Linear(3, 2)
    hooked.register_forward_hook(lambda _module, _args, y: y * 2)
    with pytest.raises(UnsupportedError, match="hooks"):
        xlstm.load(hooked)
    mixed = torch.nn.LSTM(3, 2, batch_first=True)
    mixed.bias_hh_l0.requires_grad_(False)
    with pytest.raises(UnsupportedError, match="requires_grad=False"):
        xlstm.load(mixed)


def test_flax_layers_that_compute_something_else_are_refused():
    import flax.linen as nn
    import jax.numpy as jnp
    from flax import nnx

    class Loud(nnx.Linear):
        def __call__(self, x):
            return 2 * super().__call__(x)

    rngs = nnx.Rngs(0)
    ones = nn.initializers.ones_init()
    for source in (
        Loud(3, 2, rngs=rngs),
        nnx.Linear(3, 2, dtype=jnp.bfloat16, rngs=rngs),
        (nn.RNN(nn.LSTMCell(2, carry_init=ones)), lstm_variables()),
    ):
        with pytest.raises(UnsupportedError):
            xlstm.load(source)


def lstm_variables():
    import flax.linen as nn
    import jax

    return nn.RNN(nn.LSTMCell(2)).init(jax.random.key(0), np.ones((1, 2, 3), "float32"))


def test_a_port_that_holds_other_weights_is_found(monkeypatch):
    """Where all gates are saturated, outputs cannot show it; the weights can."""
    live = registry.adapter("torch").live()
    build = live.build

    def wrong(code, weights, dtype):
        return build(code, {**weights, "dense_0.bias": weights["dense_0.bias"] + 1}, dtype)

    monkeypatch.setattr(live, "build", wrong)
    plain = model([Dense(3, 2, "relu")], (3,))
    bias = {"bias": np.float32([-1e9, -1e9])}
    dead = dataclasses.replace(plain, weights={"dense_0": {**plain.weights["dense_0"], **bias}})
    shifted = dataclasses.replace(dead, weights={"dense_0": {**dead.weights["dense_0"]}})
    shifted.weights["dense_0"]["bias"] = np.float32([-1.0, -2.0])
    report = xlstm.reconcile(shifted, "torch")
    assert report.frameworks["torch"].weights == "dense_0: bias is not the source's"
    assert not report.ok


def test_saturated_gates_are_named():
    plain = CASES["lstm-last"]
    full = {**plain.weights["lstm_0"]}
    full["bias"] = np.full_like(full["bias"], 1e6)
    stuck = dataclasses.replace(plain, weights={"lstm_0": full})
    lines = xlstm.reconcile(stuck, "torch").unexercised
    assert any(line.startswith("sigmoid from -16 to +16 of lstm_0 (gates)") for line in lines)


@pytest.mark.parametrize("framework", ["linen", "nnx"])
def test_a_bias_that_flax_trained_on_is_not_dropped(framework, tmp_path):
    import safetensors
    from safetensors.numpy import load_file, save_file

    folder = xlstm.save(CASES["lstm-no_bias"], tmp_path / "port", framework)
    with safetensors.safe_open(weights_of(folder), "numpy") as opened:
        metadata = opened.metadata()
    arrays = {
        k: a + (1 if k.endswith("bias") else 0) for k, a in load_file(weights_of(folder)).items()
    }
    save_file(arrays, weights_of(folder), metadata)
    assert json.loads(metadata[KEY])["to"] == framework
    with pytest.raises(WeightsError, match="use_bias"):
        xlstm.load(folder)


def test_numbers_below_the_smallest_normal_one_are_no_alarm():
    tiny = model([Dense(3, 2)], (3,))
    weights = {"dense_0": {t: a * np.float32(1e-39) for t, a in tiny.weights["dense_0"].items()}}
    small = dataclasses.replace(tiny, weights=weights)
    for verdict in xlstm.reconcile(small, ("torch", "nnx")).frameworks.values():
        assert verdict.verdicts["float32"].verdict == "rounding"


def test_nothing_compared_is_undecided():
    huge = model([Dense(1, 1), Dense(1, 1)], (1,))
    weights = {n: {**w, "kernel": np.float32([[1e25]])} for n, w in huge.weights.items()}
    report = xlstm.reconcile(dataclasses.replace(huge, weights=weights), "torch")
    assert report.frameworks["torch"].verdicts["float32"].verdict == "undecided"


def test_inputs_of_integers():
    plain = model([LSTM(3, 4)], (None, 3))
    node = dataclasses.replace(plain.nodes[0], spec=Input((None, 3), "int32"))
    whole = dataclasses.replace(plain, nodes=(node, *plain.nodes[1:]))
    xlstm.reconcile(whole, ("torch", "nnx")).check()
    import torch

    assert xlstm.port(whole, "torch")(torch.ones(1, 2, 3, dtype=torch.int64)).shape == (1, 4)


def test_natural_calls_work():
    x = np.ones((2, 2, 3)).tolist()
    xlstm.reconcile(CASES["lstm-last"], "torch", inputs=x).check()
    import torch

    module = xlstm.port(CASES["dense"], "torch", dtype=torch.float64)
    assert module.dense_0.weight.dtype == torch.float64


@pytest.mark.parametrize("zero", ["bias_ih_l0", "bias_hh_l0", None])
def test_two_torch_biases_of_which_one_is_zero_are_no_alarm(zero):
    import torch

    torch.manual_seed(0)
    module = torch.nn.LSTM(3, 2, batch_first=True)
    if zero:
        torch.nn.init.zeros_(getattr(module, zero))
    xlstm.reconcile(xlstm.load(module), ("keras", "torch", "nnx", "linen")).check()


def test_a_second_bias_that_is_not_zero_is_found():
    from xlstm.frameworks.model_tensors import first_gap, pack_model

    plain, adapter = CASES["lstm-last"], registry.adapter("torch")
    arrays = pack_model(plain, adapter)
    assert first_gap(plain, adapter, arrays, "float32") == ""
    arrays["lstm_0.bias_hh_l0"] = arrays["lstm_0.bias_hh_l0"] + 1
    assert "bias is not the source's" in first_gap(plain, adapter, arrays, "float32")


def test_a_ported_folder_is_not_called_a_file_that_keras_cannot_open(tmp_path):
    folder = xlstm.save(xlstm.demo.path(), tmp_path / "port", "torch")
    report = xlstm.reconcile(folder, "keras")
    report.check()
    assert report.frameworks["keras"].what == "our port"


def test_what_was_written_is_read_back(tmp_path):
    from xlstm.porting.save import check_written

    folder = xlstm.save(CASES["dense"], tmp_path / "port", "torch")
    adapter = registry.adapter("torch")
    check_written(CASES["dense"], folder, adapter)
    with pytest.raises(WeightsError, match=r"dense_0\.weight"):
        check_written(CASES["dense"].astype("float64"), folder, adapter)
