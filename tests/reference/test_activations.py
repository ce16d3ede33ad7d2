"""Every activation in every framework against formulas in 40 digits."""

import functools
import importlib.util
import json

import mpmath
import numpy as np
import pytest
from mpmath import mpf
from xlstm.converters.codegen.source import template_sources
from xlstm.converters.flax import activations as flax_activations
from xlstm.converters.keras import activations as keras_activations
from xlstm.converters.torch import activations as torch_activations

from xlstm.errors import UnsupportedError
from xlstm.ir.activation_names import ACTIVATIONS
from xlstm.reference.activations import FUNCTIONS, PIECES, UNSATURATED
from xlstm.reference.coverage import Coverage

DTYPES = ("float32", "float64")

LIMIT = 8
"""Units in the last place of the larger one of argument and result that a framework may err by."""

VECTORS = ("softmax", "log_softmax")


def clip(x, low, high):
    return max(mpf(low), min(mpf(high), x))


def sigmoid(x):
    return 1 / (1 + mpmath.exp(-x))


def elu(x):
    return x if x > 0 else mpmath.expm1(x)


def tanh_gelu(x):
    inner = mpmath.sqrt(2 / mpmath.pi) * (x + mpf("0.044715") * x**3)
    return x / 2 * (1 + mpmath.tanh(inner))


def selu(x):
    alpha, scale = mpf("1.67326324235437728481704"), mpf("1.05070098735548049341933")
    return scale * (x if x > 0 else alpha * mpmath.expm1(x))


TRUE = {
    "linear": lambda x: x,
    "tanh": mpmath.tanh,
    "sigmoid": sigmoid,
    "relu": lambda x: max(x, mpf(0)),
    "hard_sigmoid": lambda x: clip((x + 3) / 6, 0, 1),
    "hard_sigmoid_keras2": lambda x: clip((2 * x + 5) / 10, 0, 1),
    "elu": elu,
    "selu": selu,
    "celu": elu,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "softsign": lambda x: x / (1 + abs(x)),
    "silu": lambda x: x * sigmoid(x),
    "gelu": lambda x: x * mpmath.ncdf(x),
    "gelu_tanh": tanh_gelu,
    "mish": lambda x: x * mpmath.tanh(mpmath.log1p(mpmath.exp(x))),
    "exponential": mpmath.exp,
    "leaky_relu": lambda x: max(x, x / 5),
    "leaky_relu_01": lambda x: max(x, x / 100),
    "relu6": lambda x: clip(x, 0, 6),
    "hard_tanh": lambda x: clip(x, -1, 1),
    "hard_silu": lambda x: x * clip((x + 3) / 6, 0, 1),
    "log_sigmoid": lambda x: mpmath.log(sigmoid(x)),
    "tanh_shrink": lambda x: x - mpmath.tanh(x),
    "soft_shrink": lambda x: mpmath.sign(x) * max(abs(x) - mpf("0.5"), mpf(0)),
    "hard_shrink": lambda x: x if abs(x) > 0.5 else mpf(0),
    "squareplus": lambda x: (x + mpmath.sqrt(x * x + 4)) / 2,
    "sparse_plus": lambda x: x if x > 1 else clip(x + 1, 0, 2) ** 2 / 4,
    "sparse_sigmoid": lambda x: clip((x + 1) / 2, 0, 1),
}


def grid(name):
    """Numbers that float32 holds: everywhere, near zero, at the edges of pieces and beside them."""
    edges = np.array([0, 0.5, 1, 2.5, 3, 6, 8, 16, 20], "float32")
    edges = np.concatenate([edges, -edges])
    beside = [np.nextafter(edges[edges != 0], np.float32(to)) for to in (-np.inf, np.inf)]
    tiny = np.logspace(-8, -1, 15)
    normal = np.random.default_rng(0).standard_normal(300) * 3
    x = np.concatenate([np.linspace(-30, 30, 301), normal, tiny, -tiny, edges, *beside])
    x = x.astype("float32").astype("float64")
    return x[: len(x) // 6 * 6].reshape(-1, 6) if name in VECTORS else x


@functools.cache
def truth(name):
    """The activation on its grid, rounded once; longdouble where that is wider."""
    x = grid(name)
    with mpmath.workdps(40):
        if name in VECTORS:
            e = [[mpmath.exp(mpf(v)) for v in row] for row in x.tolist()]
            flat = [v / mpmath.fsum(row) for row in e for v in row]
            flat = list(map(mpmath.log, flat)) if name == "log_softmax" else flat
        else:
            flat = [TRUE[name](mpf(v)) for v in x.tolist()]
        high = np.array([float(v) for v in flat])
        low = np.array([float(v - mpf(h)) for v, h in zip(flat, high.tolist(), strict=True)])
    return (high.astype(np.longdouble) + low).reshape(x.shape)


def error(y, name, least=0.0):
    """Largest error in terms of the largest of argument, result and `least`."""
    x, want = np.abs(grid(name)), truth(name)
    if name in VECTORS:
        x = x.max(axis=-1, keepdims=True)
    unit = np.maximum(np.maximum(x, np.abs(want) if not least else 0), least)
    assert y.shape == want.shape
    wrong = np.abs(y.astype(np.longdouble) - want)
    return float((wrong / np.where(unit > 0, unit, 1)).max())


def check(y, name, dtype, limit=LIMIT):
    assert y.dtype == dtype
    assert error(y, name) <= limit * np.finfo(dtype).eps


def module(tmp_path, name, head, cells, functions):
    """A module as emitted ones are: imports, the helpers of a file as text, and `functions`."""
    text = "\n\n".join([head, *template_sources(cells).values(), *functions])
    path = tmp_path / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_table_has_every_activation():
    written = {*keras_activations.NAMES, *keras_activations.STOCK}
    for names in (FUNCTIONS, torch_activations.FUNCTIONS, flax_activations.FUNCTIONS, written):
        assert set(names) == set(ACTIVATIONS)
    assert set(TRUE) | set(VECTORS) == set(ACTIVATIONS)
    assert {*PIECES, *UNSATURATED} <= set(ACTIVATIONS)
    assert len(set(ACTIVATIONS)) == len(ACTIVATIONS)


@pytest.mark.parametrize("cells", ["torch", "flax", "keras"])
def test_no_helper_is_there_for_nothing(cells):
    tables = {
        "torch": torch_activations.FUNCTIONS,
        "flax": flax_activations.FUNCTIONS,
        "keras": keras_activations.STOCK,
    }
    texts = template_sources(f"{cells}/templates/activations.py")
    helpers = {helper for _, helper in tables[cells].values() if helper}
    if cells == "torch":
        helpers |= {helper for helper, _, _ in torch_activations.SCALED_GATES.values()}
    assert set(texts) == helpers
    # emitted code keeps to the formatter's own width
    assert max(len(line) for text in texts.values() for line in text.splitlines()) <= 88


@pytest.mark.parametrize("dtype", [*DTYPES, "longdouble"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_reference(name, dtype):
    y = FUNCTIONS[name](grid(name).astype(dtype))
    assert y.dtype == dtype
    # its erf has the digits of float64
    digits = "float64" if (name, dtype) == ("gelu", "longdouble") else dtype
    assert error(y, name) <= 2.5 * np.finfo(digits).eps


@pytest.mark.parametrize("dtype", [*DTYPES, "longdouble"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_reference_takes_what_is_large_small_and_empty(name, dtype):
    large = float(np.finfo(dtype).max) if dtype != "longdouble" else 1e300
    x = np.array([[-large / 4, large / 4, 0.0, -1e30, 1e-30]], dtype)
    y = FUNCTIONS[name](x)
    assert not np.isnan(y).any()
    assert np.isfinite(y).all() or name == "exponential"
    if name not in VECTORS:
        assert FUNCTIONS[name](x[:0]).shape == (0, 5)
        assert FUNCTIONS[name](x[0, 0]).shape == ()


@pytest.mark.parametrize(("name", "edge"), [(n, e) for n, edges in PIECES.items() for e in edges])
def test_pieces_meet_where_the_table_says(name, edge):
    h = 1e-4
    below, above = (
        FUNCTIONS[name](np.array([edge + side * n * h for n in (1, 2, 3)])) for side in (-1, 1)
    )
    value = abs(above[0] - below[0]) > 100 * h
    slope = abs((above[1] - above[0]) + (below[1] - below[0])) > 1e-3 * h
    bend = abs(np.diff(above, 2) - np.diff(below, 2)) > 1e-3 * h * h
    assert value or slope or bend


def test_coverage_knows_where_smooth_ones_show_their_formula():
    coverage = Coverage()
    coverage.see("dense", "outputs", "gelu", np.array([-9.0, 9.0]))
    assert coverage.unexercised() == ["gelu from -5 to +5 of dense (outputs): not reached"]


@pytest.fixture(scope="module")
def torch_code(tmp_path_factory):
    functions = [
        f"def f_{name}(x: Tensor) -> Tensor:\n    return {expression}(x)"
        for name, (expression, _) in torch_activations.FUNCTIONS.items()
    ]
    head = "import torch\nfrom torch import Tensor\nfrom torch.nn import functional as F"
    path = tmp_path_factory.mktemp("torch")
    return module(path, "torch_code", head, torch_activations.CELLS, functions)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_torch(name, dtype, torch_code):
    import torch

    x = torch.from_numpy(grid(name).astype(dtype))
    check(getattr(torch_code, f"f_{name}")(x).numpy(), name, dtype)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_torch_scripts(name, torch_code):
    import torch

    f = getattr(torch_code, f"f_{name}")
    x = torch.from_numpy(grid(name))
    assert torch.equal(torch.jit.script(f)(x), f(x))


@pytest.fixture(scope="module")
def flax_code(tmp_path_factory):
    functions = [
        f"{dialect}_{name} = {expression.format(m=dialect)}"
        for dialect in ("nn", "nnx")
        for name, (expression, _) in flax_activations.FUNCTIONS.items()
    ]
    head = "import jax\nimport jax.numpy as jnp\nfrom flax import linen as nn\nfrom flax import nnx"
    path = tmp_path_factory.mktemp("flax")
    return module(path, "flax_code", head, flax_activations.CELLS, functions)


def in_jax(function, name, dtype):
    import jax

    with jax.enable_x64(dtype == "float64"):
        return np.asarray(function(jax.numpy.asarray(grid(name).astype(dtype))))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dialect", ["nn", "nnx"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_flax(name, dialect, dtype, flax_code):
    check(in_jax(getattr(flax_code, f"{dialect}_{name}"), name, dtype), name, dtype)


def jax_function(path):
    import jax

    return functools.reduce(getattr, path.split(".")[1:], jax)


@pytest.mark.parametrize(("path", "name"), flax_activations.LIVE)
def test_live_flax_function(path, name):
    from xlstm.converters.flax.live.common import activation

    fn = jax_function(path)
    assert activation(fn, "here") == activation(functools.partial(fn), "here") == name
    check(in_jax(fn, name, "float64"), name, "float64")


@pytest.mark.parametrize(("path", "keyword", "value", "name"), flax_activations.LIVE_OPTIONS)
def test_live_flax_function_with_options(path, keyword, value, name):
    from xlstm.converters.flax.live.common import activation

    fn = functools.partial(jax_function(path), **{keyword: value})
    assert activation(fn, "here") == name
    check(in_jax(fn, name, "float64"), name, "float64")


def test_live_flax_function_that_is_unknown():
    import jax
    from xlstm.converters.flax.live.common import activation

    for fn in (lambda x: x, functools.partial(jax.nn.leaky_relu, negative_slope=0.3), jax.nn.glu):
        with pytest.raises(UnsupportedError, match="leaky_relu"):
            activation(fn, "here")


@pytest.fixture(scope="module")
def keras_code(tmp_path_factory):
    functions = [
        f"def stock_{name}(dtype, rank):\n    return {expression.format(rank='rank')}"
        for name, (expression, _) in keras_activations.STOCK.items()
    ]
    path = tmp_path_factory.mktemp("keras")
    head = "import keras\nimport numpy as np"
    return module(path, "keras_code", head, keras_activations.CELLS, functions)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_keras(name, dtype, keras_code):
    import keras

    on_tensorflow = keras.backend.backend() == "tensorflow"
    if dtype == "float64" and not on_tensorflow:
        pytest.skip("Keras computes float64 in float32 on this backend")
    if name in keras_activations.NAMES:
        function = keras.activations.get(keras_activations.NAMES[name])
    else:
        function = getattr(keras_code, f"stock_{name}")(dtype, grid(name).ndim + 1)
    x = keras.ops.convert_to_tensor(grid(name)[None].astype(dtype))
    y = keras.ops.convert_to_numpy(function(x))[0]
    table = {"float32": "INEXACT_FLOAT32", "float64": "INEXACT_FLOAT64"}[dtype]
    inexact = getattr(keras_activations, table)
    if name == "gelu_tanh" and dtype == "float64" and on_tensorflow:
        check(y, name, dtype)  # the stock layers of a port; the row is for Keras's own operation
        y = keras.ops.convert_to_numpy(keras.ops.gelu(x, approximate=True))[0]
    if name in inexact and on_tensorflow:
        assert y.dtype == dtype
        assert inexact[name][1] / 4 < error(y, name, least=1.0) <= inexact[name][1]
        assert error(y, name) > LIMIT * np.finfo(dtype).eps  # else the row is no longer needed
    else:
        check(y, name, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", keras_activations.STOCK)
def test_keras_opens_stock_layers_and_so_do_we(name, dtype, keras_code, tmp_path):
    import keras

    if dtype == "float64" and keras.backend.backend() != "tensorflow":
        pytest.skip("Keras computes float64 in float32 on this backend")
    stock = getattr(keras_code, f"stock_{name}")
    layers = [
        keras.Input((5, 3), dtype=dtype),
        keras.layers.LSTM(
            4,
            activation=stock(dtype, 2),
            recurrent_activation=stock(dtype, 2),
            return_sequences=True,
            dtype=dtype,
        ),
        keras.layers.Dense(3, activation=stock(dtype, 3), dtype=dtype),
    ]
    model = keras.Sequential(layers)
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype(dtype)
    want = model.predict_on_batch(x)
    assert want.dtype == dtype
    assert model.count_params() == 4 * 4 * (3 + 4 + 1) + (4 + 1) * 3
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    # TensorFlow rounds the numbers of a loaded Rescaling to float32
    np.testing.assert_allclose(again.predict_on_batch(x), want, rtol=0, atol=1e-7)
    _, lstm, dense = json.loads(model.to_json())["config"]["layers"]
    for config in (lstm["config"]["recurrent_activation"], dense["config"]["activation"]):
        assert keras_activations.stock_form(config) == name
