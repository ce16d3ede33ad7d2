"""Live objects of each framework, read and run against the framework itself."""

import numpy as np
import pytest

import xlstm
from xlstm.errors import UnsupportedError, WeightsError
from xlstm.verification.bounds import bounds, judge

RNG = np.random.default_rng(5)
X = RNG.standard_normal((3, 7, 4)).astype("float32")


def check_read(source, x, output):
    """The reference on what was read agrees with what the original computed, in float32."""
    model = xlstm.load(source)
    allowed, exact = (bounds(model, [x], dtype)[0] for dtype in ("float32", "float64"))
    assert judge(np.asarray(output), allowed, exact, "float32").verdict == "rounding"
    return model


def torch_module(kind):
    import torch
    from torch import nn

    torch.manual_seed(0)
    made = {
        "lstm": lambda: nn.LSTM(4, 5, batch_first=True),
        "lstm-no_bias": lambda: nn.LSTM(4, 5, batch_first=True, bias=False),
        "linear": lambda: nn.Linear(4, 3),
        "linear-no_bias": lambda: nn.Linear(4, 3, bias=False),
    }[kind]()
    for parameter in made.parameters():
        nn.init.normal_(parameter, std=0.6)
    return made


@pytest.mark.parametrize("kind", ["lstm", "lstm-no_bias", "linear", "linear-no_bias"])
def test_torch_modules(kind):
    import torch

    module = torch_module(kind)
    x = X if "lstm" in kind else X[:, 0]
    with torch.no_grad():
        output = module(torch.from_numpy(x))
    model = check_read(module, x, output[0] if "lstm" in kind else output)
    report = xlstm.reconcile(model)
    report.check()
    assert report.frameworks["torch"].parameters == sum(p.numel() for p in module.parameters())


def test_both_torch_biases_are_read_folded_and_said(tmp_path):
    module = torch_module("lstm")
    folder = xlstm.save(module, tmp_path / "port", "keras")
    assert "added into the one bias" in (folder / "report.json").read_text()
    back = xlstm.port(xlstm.load(module), "torch").state_dict()
    for name, tensor in module.state_dict().items():
        assert (back[name] == tensor).all()


def nnx_module(kind):
    import jax
    from flax import nnx

    rngs = nnx.Rngs(0)
    made = {
        "LSTMCell": lambda: nnx.RNN(nnx.LSTMCell(4, 5, rngs=rngs), rngs=False),
        "OptimizedLSTMCell": lambda: nnx.RNN(nnx.OptimizedLSTMCell(4, 5, rngs=rngs), rngs=False),
        "relu": lambda: nnx.RNN(
            nnx.LSTMCell(4, 5, activation_fn=nnx.relu, gate_fn=nnx.hard_sigmoid, rngs=rngs),
            rngs=False,
        ),
        "Linear": lambda: nnx.Linear(4, 3, rngs=rngs),
    }[kind]()
    state = nnx.state(made, nnx.Param)
    noise = jax.tree.map(
        lambda a: jax.numpy.asarray(RNG.standard_normal(a.shape) * 0.6, a.dtype), state
    )
    nnx.update(made, noise)
    return made


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell", "relu", "Linear"])
def test_nnx_modules(kind):
    module = nnx_module(kind)
    x = X[:, 0] if kind == "Linear" else X
    zero = np.zeros((3, 5), "float32")
    model = check_read(
        module, x, module(x) if kind == "Linear" else module(x, initial_carry=(zero, zero))
    )
    xlstm.reconcile(model, ("torch", "keras")).check()


@pytest.mark.parametrize("kind", ["LSTMCell", "OptimizedLSTMCell", "Dense"])
def test_linen_modules(kind):
    import flax.linen as nn
    import jax

    module = {
        "LSTMCell": lambda: nn.RNN(nn.LSTMCell(5)),
        "OptimizedLSTMCell": lambda: nn.RNN(nn.OptimizedLSTMCell(5, gate_fn=nn.hard_sigmoid)),
        "Dense": lambda: nn.Dense(3),
    }[kind]()
    x = X[:, 0] if kind == "Dense" else X
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda a: RNG.standard_normal(a.shape).astype("float32") * 0.6, shapes)
    model = check_read((module, variables), x, module.apply(variables, x))
    xlstm.reconcile(model, ("torch",)).check()


def keras_model(*layers, shape=(None, 4)):
    import keras

    keras.utils.set_random_seed(1)
    made = keras.Sequential([keras.Input(shape), *layers], name="live")
    weights = [RNG.standard_normal(w.shape).astype("float32") * 0.6 for w in made.get_weights()]
    made.set_weights(weights)
    return made


def keras_stack():
    from keras import layers

    return keras_model(
        layers.LSTM(5, return_sequences=True, recurrent_activation="hard_sigmoid"),
        layers.Dropout(0.2),
        layers.TimeDistributed(layers.Dense(3, activation="relu")),
        layers.LSTM(4, use_bias=False),
        layers.Dense(2),
        layers.Activation("softmax"),
    )


def test_a_live_keras_model_against_itself():
    source = keras_stack()
    report = xlstm.reconcile(source)
    report.check()
    assert report.frameworks["keras"].what == "the original, on tensorflow"
    assert report.ledger.total("keras") == source.count_params()


@pytest.mark.parametrize("suffix", [".keras", ".h5"])
def test_files_of_this_keras(suffix, tmp_path):
    source = keras_stack()
    file = tmp_path / f"live{suffix}"
    source.save(file)
    np.testing.assert_equal(xlstm.load(file).weights, xlstm.load(source).weights)
    xlstm.reconcile(file, ("keras", "torch")).check()


def test_a_live_keras_layer_is_a_lone_layer():
    from keras import layers

    layer = layers.LSTM(3, return_sequences=True)
    keras_model(layer)
    assert xlstm.load(layer).lone
    assert type(xlstm.port(layer, "torch")).__name__ == "LSTM"


def test_an_unbuilt_layer_is_refused():
    from keras import layers

    with pytest.raises(UnsupportedError, match="call it once first"):
        xlstm.load(layers.LSTM(3))


def test_reading_changes_nothing():
    module = torch_module("lstm")
    before = {name: t.clone() for name, t in module.state_dict().items()}
    model = xlstm.load(module)
    model.weights["lstm"]["kernel"][...] = 0
    for name, tensor in module.state_dict().items():
        assert (tensor == before[name]).all()


def refused():
    import jax.numpy as jnp
    from flax import nnx
    from torch import nn

    rngs = nnx.Rngs(0)
    return {
        "bilinear": nn.Bilinear(2, 3, 1),
        "nnx-function": nnx.LSTMCell(2, 3, gate_fn=jnp.sin, rngs=rngs),
    }


REFUSED = "bilinear nnx-function".split()


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_exact_is_refused_by_name(name):
    with pytest.raises(UnsupportedError):
        xlstm.load(refused()[name])


def test_linen_without_its_variables():
    import flax.linen as nn

    with pytest.raises(WeightsError):
        xlstm.load((nn.Dense(3), {}))
    with pytest.raises(UnsupportedError, match="pair"):
        xlstm.load(nn.Dense(3))


def test_no_process_wide_setting_is_changed():
    import jax
    import keras
    import torch

    before = jax.config.jax_enable_x64, torch.get_default_dtype(), keras.config.floatx()
    xlstm.reconcile(torch_module("lstm"))
    assert before == (jax.config.jax_enable_x64, torch.get_default_dtype(), keras.config.floatx())
