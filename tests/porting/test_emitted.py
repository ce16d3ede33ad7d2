"""The source that ports are made of: clean, self-contained, and friendly to each framework."""

import functools
import inspect
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from cases import CASES, model
from torch_tools import check_tools

import xlstm
from xlstm.files.port_folder import weights_of
from xlstm.frameworks import registry
from xlstm.ir.layers import LSTM, Dense, Embedding, Flatten, Pool
from xlstm.porting.port import code_of

FRAMEWORKS = registry.frameworks()
FRAMEWORK_CASES = ["stack", "lone-dense", "lstm-relu-hard_sigmoid_keras2"]


def ruff(*args):
    command = [sys.executable, "-m", "ruff", *args, "--isolated"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_every_emitted_module_is_lint_clean_and_formatted(framework, tmp_path):
    for case, source in CASES.items():
        text = registry.adapter(framework).emit(source)
        (tmp_path / f"{case.replace('-', '_')}.py").write_text(text)
    for found in (ruff("check", tmp_path), ruff("format", "--check", "--diff", tmp_path)):
        assert found.returncode == 0, found.stdout + found.stderr


RUN = {
    "torch": "import torch; m = load(); y = m(torch.ones(2, 6, 3)).detach().numpy()",
    "nnx": "from flax import nnx; import jax.numpy as jnp, numpy; m = load(); "
    "y = numpy.array(nnx.jit(lambda m, x: m(x))(m, jnp.ones((2, 6, 3))))",
    "linen": "import jax.numpy as jnp, numpy; m, v = load(); "
    "y = numpy.array(m.apply(v, jnp.ones((2, 6, 3))))",
    "keras": "import numpy, keras; x = numpy.ones((2, 6, 3), 'float32'); m = load(); "
    "y = m.predict(x, verbose=0); m = keras.models.load_model('model.keras'); "
    "z = m.predict(x, verbose=0); "
    "assert abs(y - z).max() == 0",
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_saved_folder_runs_where_xlstm_cannot_be_imported(framework, tmp_path):
    folder = xlstm.save(CASES["stack"], tmp_path / "port", framework)
    code = (
        "import sys; sys.modules['xlstm'] = None; sys.path.insert(0, '.')\n"
        f"from model import load\n{RUN[framework]}\nprint(y.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    got = json.loads(done.stdout.splitlines()[-1])
    want = xlstm.port(CASES["stack"], "numpy")(np.ones((2, 6, 3)))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_folder_ports_on(framework, tmp_path):
    source = CASES["stack"]
    again = xlstm.load(xlstm.save(source, tmp_path / "port", framework))
    assert again.nodes == source.nodes
    for other in FRAMEWORKS:
        np.testing.assert_equal(
            xlstm.load(xlstm.save(again, tmp_path / other, other)).weights.keys(),
            source.weights.keys(),
        )
    x = np.random.default_rng(0).standard_normal((2, 5, 3))
    outputs = [xlstm.port(m, "numpy", dtype="float64")(x) for m in (source, again)]
    np.testing.assert_array_equal(*outputs)


def test_weights_are_named_as_torch_names_them(tmp_path):
    from safetensors.numpy import load_file

    folder = xlstm.save(CASES["stack"], tmp_path / "port", "torch")
    ported = xlstm.port(CASES["stack"], "torch")
    assert set(load_file(weights_of(folder))) == set(ported.state_dict())


def test_linen_variables_have_the_native_tree():
    import jax

    module, variables = xlstm.port(CASES["stack"], "linen")
    shapes = jax.eval_shape(module.init, jax.random.key(0), np.ones((1, 6, 3), "float32"))
    assert jax.tree.map(lambda a: a.shape, shapes) == jax.tree.map(lambda a: a.shape, variables)


def test_emitted_text_is_what_save_writes(tmp_path):
    for framework in FRAMEWORKS:
        folder = xlstm.save(CASES["stack"], tmp_path / framework, framework)
        code = code_of(CASES["stack"], registry.adapter(framework))
        assert (folder / "model.py").read_text() == inspect.getsource(code)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self:UserWarning")  # export, nn.LSTM
@pytest.mark.parametrize("case", FRAMEWORK_CASES)
def test_torch_tools_work_on_a_port(case, tmp_path):
    import torch

    ported = xlstm.port(CASES[case], "torch")
    x = torch.randn(2, 6, 3, generator=torch.Generator().manual_seed(0))
    torch.save(ported, tmp_path / "m.pt")
    check_tools(ported, [x], torch.load(tmp_path / "m.pt", weights_only=False))


def test_a_lone_layer_is_the_bare_native_module():
    from flax import nnx
    from torch import nn

    assert type(xlstm.port(CASES["lone-lstm"], "torch")) is nn.LSTM
    assert type(xlstm.port(CASES["lone-dense"], "torch")) is nn.Linear
    assert type(xlstm.port(CASES["lone-dense"], "nnx")) is nnx.Linear
    assert type(xlstm.port(CASES["lone-lstm-last"], "torch")) is not nn.LSTM


def test_dropout_acts_in_training_only():
    import jax
    import jax.numpy as jnp
    import torch

    source = CASES["stack"]
    x = np.ones((2, 6, 3), "float32")
    module = xlstm.port(source, "torch")
    calm = module(torch.from_numpy(x))
    assert torch.equal(module(torch.from_numpy(x)), calm)
    assert not torch.equal(module.train()(torch.from_numpy(x)), calm)
    ported = xlstm.port(source, "nnx")
    still = ported(jnp.asarray(x))
    ported.train()
    assert not (ported(jnp.asarray(x)) == still).all()
    linen, variables = xlstm.port(source, "linen")
    noisy = linen.apply(variables, x, train=True, rngs={"dropout": jax.random.key(0)})
    assert not (noisy == linen.apply(variables, x)).all()


def test_nnx_ports_without_dropout_hold_parameters_only():
    from flax import nnx

    ported = xlstm.port(CASES["time_distributed"], "nnx")
    assert not nnx.to_flat_state(nnx.state(ported, nnx.RngState))


def test_untrainable_layers_stay_so(tmp_path):
    import dataclasses

    plain = model([LSTM(3, 4), Dense(4, 2)], (None, 3))
    frozen = dataclasses.replace(plain.nodes[1], trainable=False)
    mixed = dataclasses.replace(plain, nodes=(plain.nodes[0], frozen, plain.nodes[2]))
    ported = xlstm.port(mixed, "torch")
    assert {n for n, p in ported.named_parameters() if p.requires_grad} == {
        "dense_1.weight",
        "dense_1.bias",
    }
    keras_port = xlstm.port(mixed, "keras")
    assert len(keras_port.trainable_weights) == 2
    folder = xlstm.save(mixed, tmp_path / "port", "nnx")
    assert "not trainable" in (folder / "report.json").read_text()
    assert xlstm.count(mixed).totals()["torch"]["non_trainable"] == 4 * 4 * (3 + 4 + 2)


def test_stored_dtype_is_kept_and_computation_is_at_least_float32(tmp_path):
    from safetensors.numpy import load_file

    half = CASES["dense"].astype("float16")
    folder = xlstm.save(half, tmp_path / "port", "torch")
    assert {a.dtype.name for a in load_file(weights_of(folder)).values()} == {"float16"}
    assert {p.dtype for p in xlstm.port(half, "torch").parameters()} == {
        __import__("torch").float32
    }
    double = xlstm.port(CASES["dense"].astype("float64"), "torch")
    assert {p.dtype for p in double.parameters()} == {__import__("torch").float64}


RANKS = {
    "sequence": (model([LSTM(3, 4, return_sequences=True)], (None, 3)), (2, 5, 3)),
    "ids": (model([Embedding(7, 3), LSTM(3, 4)], (5,)), (2, 5)),
    "image": (model([Pool("max", (2, 2), (2, 2)), Flatten()], (4, 6, 3)), (2, 4, 6, 3)),
}
"""A model for each kind of input, and a shape that fits. Layers alone would take other ranks."""


def runner(framework, ported):
    """A function of one array that runs a port; compiled where the framework compiles."""
    import jax
    import torch
    from flax import nnx

    if framework == "torch":
        return lambda x: ported(torch.from_numpy(x))
    if framework == "nnx":
        return functools.partial(nnx.jit(lambda m, x: m(x)), ported)
    if framework == "linen":
        return functools.partial(jax.jit(ported[0].apply), ported[1])
    return ported


@pytest.mark.parametrize("kind", RANKS)
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_an_input_of_another_rank_is_refused(framework, kind):
    source, shape = RANKS[kind]
    run = runner(framework, xlstm.port(source, framework))
    run(np.ones(shape, "float32"))
    # Keras takes or drops a last axis of one number, which is exact
    sizes = {"sequence": "time, 3", "ids": "5", "image": "4, 6, 3"}[kind]
    text = f"(batch, {sizes})"
    if framework == "keras":
        text = f"Expected shape {text.replace('batch', 'None').replace('time', 'None')}"
    for wrong in (shape[1:], (*shape, 2)):
        with pytest.raises((ValueError, AssertionError), match=re.escape(text)):
            run(np.ones(wrong, "float32"))
