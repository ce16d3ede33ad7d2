"""Layers around the recurrent ones, read from files and live models of the Keras that is here."""

import keras
import numpy as np
import pytest
from keras_layer_models import LAYER_MODELS
from keras_operation_models import OPERATION_MODELS
from layer_cases_others import OTHERS
from layer_cases_windows import WINDOWS
from refusing import refused
from test_reference_layers import fill, inputs_of

import xlstm
from xlstm.errors import UnsupportedError, UsageError, WeightsError
from xlstm.ir.layers import Permute

L = keras.layers

pytestmark = pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask")

CASES = {name: case for name, case in (WINDOWS | OTHERS).items() if not case.masks}
"""Layers of Keras, and the specs that do the same one after the other."""


def model_of(case):
    """A functional model of one layer."""
    layer = case.make()
    kind = "int32" if case.kind == "ids" else "float32"
    symbols = [keras.Input(shape, dtype=kind) for shape in case.shapes]
    joins = hasattr(layer, "_merge_function") or isinstance(layer, L.Attention)
    y = layer(*([symbols] if joins else symbols), **case.calls)
    fill(layer, case, np.random.default_rng(0))
    return keras.Model(symbols, y)


def agree(model, source, inputs):
    """Whether what is read computes what Keras does, in float32."""
    chain = isinstance(model, keras.Sequential)
    given = inputs[0] if chain else keras.tree.pack_sequence_as(model.input, inputs)
    want = model(given, training=False)
    got = xlstm.port(source, "numpy")(*inputs)
    want, got = (y if isinstance(y, (list, tuple)) else [y] for y in (want, got))
    want = [np.asarray(y) for y in want]
    for a, b in zip(got, want, strict=True):
        top = max(np.abs(np.nan_to_num(b)).max(), 1e-3)
        np.testing.assert_allclose(a, b, rtol=0, atol=3e-6 * top)


@pytest.mark.parametrize("name", CASES)
def test_layer_of_a_file(name, tmp_path):
    case = CASES[name]
    model = model_of(case)
    model.save(tmp_path / "m.keras")
    read = xlstm.load(tmp_path / "m.keras")
    np.testing.assert_equal(xlstm.load(model).weights, read.weights)
    agree(model, tmp_path / "m.keras", inputs_of(case, np.random.default_rng(0)))


def words():
    return np.array([[3, 1, 4, 0, 0], [0, 2, 2, 1, 0], [1, 2, 3, 4, 5], [0, 0, 0, 0, 0]], "int32")


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal((4, *shape)).astype("float32")


def attended():
    """A value with a mask, a query without one; then the other way round."""
    a, b = keras.Input((5,), dtype="int32"), keras.Input((6, 4))
    e = L.Embedding(7, 4, mask_zero=True)(a)
    found = [L.Attention(use_scale=True)([b, e]), L.Attention()([e, b])]
    found += [L.AdditiveAttention()([b, e]), L.Attention(score_mode="concat")([b, e])]
    return keras.Model([a, b], found), [words(), numbers(6, 4)]


def heads(dropout):
    """Masks of query and value; a mask after attention is the query's."""

    def make():
        a, b = keras.Input((5,), dtype="int32"), keras.Input((6, 4))
        e = L.Embedding(7, 4, mask_zero=True)(a)
        own = L.MultiHeadAttention(2, 3, dropout=dropout)(e, e, use_causal_mask=True)
        e = L.Embedding(7, 4, mask_zero=True)(a)
        other = L.MultiHeadAttention(2, 3, value_dim=2, output_shape=5)(b, e)
        return keras.Model([a, b], [L.LSTM(3)(own), other]), [words(), numbers(6, 4)]

    return make


def joined():
    """One mask comes to a sum and to a concatenation on all ways, or on one only."""
    a, b = keras.Input((5,), dtype="int32"), keras.Input((5, 4))
    e = L.Embedding(7, 4, mask_zero=True)(a)
    both = L.Concatenate()([e, L.Dense(3)(e)])
    found = [L.LSTM(3)(both), L.GRU(3)(L.Add()([e, e])), L.GRU(3)(L.Add()([e, b]))]
    found += [L.GRU(3)(L.Concatenate()([e, b])), L.GlobalAveragePooling1D()(L.Dropout(0.2)(e))]
    found += [L.GlobalMaxPooling1D()(e), L.LSTM(3)(L.Conv1D(3, 2, padding="causal")(e))]
    return keras.Model([a, b], found), [words(), numbers(5, 4)]


def given_mask():
    """The mask that somebody computes from an input."""
    a = keras.Input((5,))
    x = L.Dense(3)(keras.ops.expand_dims(a, -1))
    y = L.LSTM(4)(x, mask=keras.ops.not_equal(a, 2))
    return keras.Model(a, y), [words().astype("float32")]


def operations():
    """What lies between layers of functional models."""
    # Keras on TensorFlow adds (batch, 1, 1) along the last axis where that is as long as the batch
    a, b, ops = keras.Input((5, 4)), keras.Input((5, 4)), keras.ops
    y = 3 / (abs(a) * 2 + 1 - b * b + 20) + (1 - a) / 2
    y = ops.concatenate([y, b], axis=-1)[:, 1:4:2]
    last, y = y[:, -1], ops.transpose(y, (0, 2, 1))
    y = ops.relu(ops.mean(ops.reshape(y, (-1, 2, 8)), axis=1, keepdims=True)) + y[:, :1, :1]
    y = ops.softmax(ops.squeeze(y, 1), axis=-1) ** 2
    z = ops.leaky_relu(ops.gelu(last)) + ops.sum(ops.expand_dims(last, 1), axis=[1])
    z = ops.flip(ops.sigmoid(z), 1)[..., None]
    turned = [
        ops.tanh(b[:, ::-1]),
        b[:, -1:-5:-2, 3:0:-1],
        b[..., 2::-2],
        L.SpatialDropout1D(0.2)(b),
    ]
    turned += [ops.swapaxes(a, 1, 2), ops.moveaxis(ops.expand_dims(b, 1), 1, -1)]
    turned += [ops.matmul(a, ops.swapaxes(b, 1, 2)), ops.log_softmax(last)]
    return keras.Model([a, b], [y, z, *turned]), [numbers(5, 4), numbers(5, 4, seed=1)]


def shared():
    """One LSTM, one Embedding and one nested model, each called twice."""
    a, b = (keras.Input((5,), dtype="int32") for _ in "ab")
    embedding, lstm = L.Embedding(7, 4, mask_zero=True), L.LSTM(3, return_sequences=True)
    x, h = keras.Input((5, 3)), keras.Input((3,))
    last = L.GRU(3, name="last")(x, initial_state=h)
    inner = keras.Model([x, h], [L.BatchNormalization()(last), L.Dense(2)(x)], name="inner")
    p, q = (lstm(embedding(t)) for t in (a, b))
    one, two = inner([p, q[:, 0]]), inner([q, p[:, 1]])
    model = keras.Model([a, b], [L.Subtract()([one[0], two[0]]), L.Dot(2)([one[1], two[1]])])
    return model, [words(), words()[::-1].copy()]


def nested():
    """Models in models, one of them frozen, and one of them at every time step."""
    one = keras.Sequential(
        [keras.Input((6, 2)), L.Conv1D(3, 2), L.BatchNormalization(), L.LSTM(4)], name="one"
    )
    one.layers[0].trainable = False
    inside = keras.Sequential([keras.Input((3, 6, 2)), L.TimeDistributed(one), L.GRU(3)])
    deep = keras.Sequential([keras.Input((3, 6, 2)), L.Dropout(0.1), inside, L.Dense(2)])
    return deep, [numbers(3, 6, 2)]


def steps_masked():
    """Words in sentences: the mask of the words reaches the layer that reads them."""
    a = keras.Input((3, 5), dtype="int32")
    e = L.Embedding(7, 4, mask_zero=True)(a)
    y = L.TimeDistributed(L.LSTM(3))(e)
    sentences = np.stack([words(), words()[::-1], words()], axis=1)
    return keras.Model(a, y), [sentences]


def first_channels():
    """channels_first, taken apart into permutations."""
    x = keras.Input((2, 6, 5))
    y = L.ZeroPadding2D(1, data_format="channels_first")(x)
    y = L.MaxPooling2D(2, data_format="channels_first")(y)
    y = L.BatchNormalization(axis=1)(y)
    return keras.Model(x, L.Flatten(data_format="channels_first")(y)), [numbers(2, 6, 5)]


def twice_stateful():
    x = keras.Input(batch_shape=(4, 5, 3))
    lstm = L.LSTM(3, stateful=True, return_sequences=True)
    return keras.Model(x, lstm(lstm(x))), [numbers(5, 3)]


GRAPHS = {
    "attention": attended,
    "heads": heads(0.0),
    "heads-dropout": heads(0.2),
    "masks of several": joined,
    "a mask of its own": given_mask,
    "operations": operations,
    "shared": shared,
    "nested": nested,
    "steps with masks": steps_masked,
    "channels_first": first_channels,
    **OPERATION_MODELS,
    **LAYER_MODELS,
}


def trained(model):
    """Weights of trained scale: no bias zero, no statistics of an untrained layer."""
    rng = np.random.default_rng(3)
    for variable in model.weights:
        value = 0.5 * rng.standard_normal(variable.shape)
        variable.assign(abs(value) + 0.3 if "variance" in variable.path else value)
    for layer in model.layers:
        if isinstance(layer, L.Normalization):
            layer.finalize_state()
    return model


@pytest.mark.parametrize("end", ["keras", "h5", "live"])
@pytest.mark.parametrize("name", GRAPHS)
def test_graph(name, end, tmp_path):
    model, inputs = GRAPHS[name]()
    source = trained(model)
    if end != "live":
        source = tmp_path / f"m.{end}"
        model.save(source)
    agree(model, source, inputs)


def test_weights_of_nested_models_by_path_and_by_name(tmp_path):
    """The files' orders differ: the frozen layer's arrays come last in HDF5."""
    model = trained(nested()[0])
    model.save(tmp_path / "m.keras")
    model.save(tmp_path / "m.h5")
    read = [xlstm.load(source) for source in (tmp_path / "m.keras", tmp_path / "m.h5", model)]
    for other in read[1:]:
        np.testing.assert_equal(other.weights, read[0].weights)
        assert other.nodes == read[0].nodes
    total = sum(array.size for layer in read[0].weights.values() for array in layer.values())
    assert total == model.count_params()


def test_a_shared_layer_is_one_layer():
    model = shared()[0]
    read = xlstm.load(model)
    owners = {node.name: node.layer for node in read.layers if node.layer}
    assert len([name for name in owners if "lstm" in name]) == 1
    assert owners["inner/last/1"] == "inner/last"
    total = sum(array.size for layer in read.weights.values() for array in layer.values())
    assert total == model.count_params()
    refused(UnsupportedError, lambda: xlstm.load(twice_stateful()[0]), "stateful layer called once")


def test_masks_that_layers_join():
    """Files of Keras 3 say how; what Softmax does with masks is refused."""
    a, b = keras.Input((5,)), keras.Input((5,))
    x, y = L.Embedding(7, 4, mask_zero=True)(a), L.Embedding(7, 4, mask_zero=True)(b)
    for layer in (L.Add(), L.Multiply(), L.Concatenate(), L.Concatenate(axis=1)):
        model = keras.Model([a, b], L.LSTM(3)(layer([x, y])))
        agree(model, model, [words().astype("float32"), words()[::-1].astype("float32")])
        xlstm.load(keras.Model([a, b], L.Dense(3)(layer([x, y]))))  # nothing obeys it
    model = keras.Model(a, L.Softmax()(L.Embedding(7, 5, mask_zero=True)(a)))
    refused(UnsupportedError, lambda: xlstm.load(model), "Softmax without a mask")


NUMBERS = {
    "1025 of mean": lambda: L.Normalization(mean=[0.0] * 1025, variance=[1.0] * 1025),
    "axes of known sizes": lambda: L.UnitNormalization([1, 2]),
}


@pytest.mark.parametrize("said", NUMBERS)
def test_numbers_that_no_constant_holds_are_refused(said):
    x = keras.Input((None, 1025))
    refused(UnsupportedError, lambda: xlstm.load(keras.Model(x, NUMBERS[said]()(x))), said)


def test_a_norm_that_drops_masks():
    """RMSNormalization of Keras 3.15 has no supports_masking."""
    layers = [L.Embedding(7, 4, mask_zero=True), L.RMSNormalization(), L.LSTM(3)]
    with pytest.warns(UserWarning, match="does not support masking"):
        model = keras.Sequential([keras.Input((5,)), *layers])
    read = xlstm.load(model)
    assert [node.mask for node in read.layers] == [None] * 3


@pytest.mark.parametrize("axis", [1, [1, -1], [-1, 1]])
def test_a_scale_along_another_axis_than_the_norm_is_refused(axis):
    """Keras 3.15 multiplies the last axes by it, and its backend on PyTorch others."""
    model = keras.Model(x := keras.Input((4, 4, 4)), L.RMSNormalization(axis=axis)(x))
    refused(UnsupportedError, lambda: xlstm.load(model), "the axis of the scale", "the last axes")


def test_a_mask_that_attention_takes_off_is_refused():
    """Keras 3.15 does so to its inputs while it runs, so that the second does not see the mask."""
    a = keras.Input((5,))
    e = L.Embedding(7, 4, mask_zero=True)(a)
    y = L.MultiHeadAttention(2, 3)(e, e)
    model = keras.Model(a, L.MultiHeadAttention(2, 3)(L.Add()([e, y]), e))
    refused(UnsupportedError, lambda: xlstm.load(model), "removes the masks")


def test_every_layer_that_is_not_known_is_named_at_once():
    x = keras.Input((6, 6, 2))
    y = L.Resizing(8, 8, name="up")(L.CenterCrop(4, 4, name="cut")(x))
    inner = keras.Sequential([keras.Input(y.shape[1:]), L.Lambda(lambda z: z, name="inside")])
    model = keras.Model(x, keras.ops.tensordot(inner(y), inner(y), axes=4))
    words = ["Resizing (up)", "CenterCrop (cut)", "Lambda (inside)", "operation tensordot"]
    refused(UnsupportedError, lambda: xlstm.load(model), *words)


class Wired(keras.Model):
    """A model whose wiring no config holds."""

    def __init__(self):
        super().__init__()
        self.lstm = L.LSTM(3, name="rnn")
        self.end = L.Dense(2, name="end")
        self.same = L.Lambda(lambda x: x, name="same")

    def call(self, x):
        return self.end(self.same(self.lstm(x)))


def test_of_a_subclassed_model_the_layers_are_ported(tmp_path):
    model = Wired()
    model(numbers(5, 4))
    words = ["rnn (LSTM), end (Dense)", "wiring is yours", "same (Lambda)", 'get_layer("rnn")']
    refused(UnsupportedError, lambda: xlstm.load(model), *words)
    model.save(tmp_path / "wired.keras")
    refused(UnsupportedError, lambda: xlstm.load(tmp_path / "wired.keras"), "wiring is yours")
    own = type("Own", (keras.Sequential,), {"call": lambda self, x: x})
    chain = own([keras.Input((5, 4)), L.GRU(2, name="gru")])
    refused(UnsupportedError, lambda: xlstm.load(chain), "keras Own", "known: gru (GRU)")
    lstm, dense = (xlstm.port(model.get_layer(name), "numpy") for name in ("rnn", "end"))
    got = dense(lstm(numbers(5, 4)))
    np.testing.assert_allclose(got, model(numbers(5, 4)), rtol=0, atol=1e-6)


def test_the_part_up_to_a_layer(tmp_path):
    x, labels = keras.Input((5, 3), name="x"), keras.Input((5,), name="labels")
    y = L.Dense(4, activation="softmax", name="softmax")(L.LSTM(6, return_sequences=True)(x))
    loss = L.Lambda(lambda both: both[0][..., 0] - both[1], name="ctc")([y, labels])
    whole = trained(keras.Model([x, labels], L.Dense(2)(loss)))
    for end in ("keras", "h5"):
        path = tmp_path / f"m.{end}"
        whole.save(path)
        refused(UnsupportedError, lambda path=path: xlstm.load(path), "Lambda (ctc)", "until=")
        part = xlstm.load(path, until="softmax")
        assert part.inputs == ("x",)
        want = keras.Model(x, y).predict(numbers(5, 3), verbose=0)
        got = xlstm.port(part, "numpy")(numbers(5, 3))
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
        refused(UsageError, lambda path=path: xlstm.load(path, until="nobody"), "nobody", "softmax")
    got = xlstm.port(xlstm.load(whole, until="softmax"), "numpy")(numbers(5, 3))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-6)
    refused(UsageError, lambda: xlstm.load(whole, until="nobody"), "nobody", "softmax")
    both = {"until": "softmax", "keras_version": "2.1"}
    refused(UsageError, lambda: xlstm.load(whole, **both), "keras_version")
    refused(UsageError, lambda: xlstm.load({}, until="softmax"), "until")


def test_arrays_whose_layer_nothing_says(tmp_path):
    import h5py

    path = tmp_path / "m.h5"
    trained(nested()[0]).save(path)
    with h5py.File(path, "r+") as file:
        groups = list(file["model_weights"].values())
        group = max(groups, key=lambda group: len(group.attrs["weight_names"]))
        names = [str(name) for name in group.attrs["weight_names"]]
        for number, name in enumerate(names):
            group[f"array_{number}/kernel"] = group[name][()]
        group.attrs["weight_names"] = [f"array_{number}/kernel" for number in range(len(names))]
    refused(WeightsError, lambda: xlstm.load(path), "names that show the layer")


def test_channels_first_where_keras_adds_the_bias_along_the_wrong_axis():
    layer = L.Conv1D(4, 2, padding="same", data_format="channels_first")
    model = keras.Sequential([keras.Input((3, 4)), layer])
    refused(UnsupportedError, lambda: xlstm.load(model), "adds the bias along the last axis")
    orders = [
        spec.order
        for spec in (node.spec for node in xlstm.load(first_channels()[0]).layers)
        if isinstance(spec, Permute)
    ]
    # once for all of its layers
    assert orders == [(2, 3, 1)]
