"""Files of Keras on Theano: kernels turned round, and zeros in other places than TensorFlow's."""

import numpy as np
import pytest
from make_files import h5_file, layer
from refusing import refused

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.ir.layers import Conv, Pad

RNG = np.random.default_rng(5)
STEPS, FEATURES, FILTERS = 7, 2, 3


def file_of(path, entry, arrays, backend="theano", steps=STEPS, features=FEATURES):
    """A file of one layer, of Keras 2."""
    name = entry["config"]["name"]

    def config(found):
        start = layer("InputLayer", name="input", batch_input_shape=[None, steps, features])
        found["config"]["layers"] = [start, entry]

    def weights(file):
        root = file["model_weights"]
        for old in ("lstm", "dense"):
            del root[old]
        root.attrs["layer_names"] = np.array([name], "S")
        group = root.create_group(name)
        group.attrs["weight_names"] = np.array([f"{name}/{n}:0" for n in arrays], "S")
        for n, array in arrays.items():
            group[f"{name}/{n}:0"] = array
        for place in (file, root):
            place.attrs["backend"] = backend

    return h5_file(path / f"{backend}.h5", config=config, weights=weights, version="2.1.6")


def conv(window, strides=1, **more):
    options = {"filters": FILTERS, "kernel_size": [window], "strides": [strides]}
    options |= {"padding": "same", "activation": "linear", "use_bias": True, **more}
    return layer("Conv1D", name="conv", **options)


def kernel(window):
    kernel = RNG.standard_normal((window, FEATURES, FILTERS)).astype("float32")
    return {"kernel": kernel, "bias": RNG.standard_normal(FILTERS).astype("float32")}


@pytest.mark.parametrize("strides", [1, 2, 3])
@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
def test_same_is_half_the_window_before(window, strides, tmp_path):
    arrays = kernel(window)
    path = file_of(tmp_path, conv(window, strides), arrays)
    x = RNG.standard_normal((2, STEPS, FEATURES))
    around = ((0, 0), (window // 2, window - 1), (0, 0))
    steps = np.pad(x, around)
    turned = arrays["kernel"][::-1].astype("float64")
    wanted = [
        np.einsum("bqc,qcf->bf", steps[:, t : t + window], turned) + arrays["bias"]
        for t in range(0, STEPS, strides)
    ]
    model = xlstm.load(path)
    found = xlstm.port(model, "numpy", dtype="float64")(x)
    np.testing.assert_allclose(found, np.stack(wanted, 1), rtol=0, atol=1e-12)
    xlstm.reconcile(model, ["torch"]).check()
    assert model.weights.keys() == {"conv"}


def test_tensorflow_pads_as_ever(tmp_path):
    model = xlstm.load(file_of(tmp_path, conv(2, 2), kernel(2), "tensorflow"))
    assert [type(node.spec) for node in model.layers] == [Conv]
    model = xlstm.load(file_of(tmp_path, conv(2, 2), kernel(2)))
    assert [type(node.spec) for node in model.layers] == [Pad, Conv]


def test_gaps_in_even_windows_are_refused(tmp_path):
    path = file_of(tmp_path, conv(2, dilation_rate=[2]), kernel(2))
    refused(UnsupportedError, lambda: xlstm.load(path), "layer conv", "window of (2,)")


@pytest.mark.parametrize(
    ("window", "strides", "fits"), [(2, 2, False), (3, 1, True), (3, 3, False)]
)
def test_pools_are_refused_where_they_differ(window, strides, fits, tmp_path):
    options = {"pool_size": [window], "strides": [strides], "padding": "same"}
    path = file_of(tmp_path, layer("MaxPooling1D", name="pool", **options), {})
    if fits:
        assert xlstm.load(path).layers[0].shape == (STEPS, FEATURES)
    else:
        refused(UnsupportedError, lambda: xlstm.load(path), "layer pool", f"window of ({window},)")
