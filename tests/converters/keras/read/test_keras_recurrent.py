"""Recurrent layers of live Keras 3, in memory and saved in both forms, against Keras itself."""

import numpy as np
import pytest

import xlstm
from xlstm.errors import UnsupportedError

RNG = np.random.default_rng(8)
X = RNG.standard_normal((6, 7, 3)).astype("float32")
KEEP = np.arange(42).reshape(6, 7) % 5 > 1


def masked(value):
    """No mask, then right, left, middle, all and single masked steps: a row each."""
    x = X.copy()
    x[1, 5:] = x[2, :2] = x[3, 3:5] = x[4] = x[5, [0, 3, 6]] = value
    return x


def state(*sizes):
    return [RNG.standard_normal((6, size)).astype("float32") for size in sizes]


def trained(model):
    """Fills a model with numbers of trained scale; biases are not zero."""
    for w in model.weights:
        gain = 0.5 if len(w.shape) == 1 or "bias" in w.name else w.shape[0] ** -0.5
        w.assign(RNG.standard_normal(w.shape) * gain)
    return model


def flat(outputs):
    import keras

    return [np.asarray(y) for y in keras.tree.flatten(outputs)]


def check(model, inputs, tmp_path, atol=1e-6):
    """The numpy port of a model, of its .keras and of its .h5 gives what the model gives."""
    trained(model)
    want = flat(model(inputs if len(inputs) > 1 else inputs[0], training=False))
    files = [tmp_path / "model.keras", tmp_path / "model.h5"]
    for file in files:
        model.save(file)
    live = xlstm.load(model)
    outputs = xlstm.port(live, "numpy")(*inputs)
    outputs = outputs[0] if live.stateful else outputs
    for got, y in zip(flat(outputs), want, strict=True):
        np.testing.assert_allclose(got, y, rtol=0, atol=atol)
    for file in files:
        read = xlstm.load(file)
        assert read.nodes == live.nodes
        assert read.outputs == live.outputs
        np.testing.assert_equal(read.weights, live.weights)
    return live


def sequential(*layers, batch=None):
    import keras

    return keras.Sequential([keras.Input((7, 3), batch_size=batch), *layers])


def layers():
    import keras

    return keras.layers


def masking(value=0.0):
    return layers().Masking(value, name="masking")


SEQUENCE = {"return_sequences": True}

OPTIONS = {
    "last": {},
    "sequence": SEQUENCE,
    "backwards": {"go_backwards": True, **SEQUENCE},
    "backwards-last": {"go_backwards": True},
    "no_bias": {"use_bias": False},
    "unroll": {"unroll": True, **SEQUENCE},
    "zeros": {"zero_output_for_mask": True, **SEQUENCE},
    "zeros-last": {"zero_output_for_mask": True},
    "zeros-backwards": {"zero_output_for_mask": True, "go_backwards": True, **SEQUENCE},
    "relu": {"activation": "relu"},
    "dropout": {"dropout": 0.2, "recurrent_dropout": 0.1},
}

OWN = {
    "LSTM": {"hard_sigmoid": {"recurrent_activation": "hard_sigmoid", "unit_forget_bias": False}},
    "GRU": {
        "before": {"reset_after": False},
        "before-no_bias": {"reset_after": False, "use_bias": False},
        "hard_sigmoid": {"recurrent_activation": "hard_sigmoid"},
    },
    "SimpleRNN": {},
}
"""Options of one kind alone."""

SINGLE = {
    f"{kind}-{name}": (kind, options)
    for kind, own in OWN.items()
    for name, options in {**OPTIONS, **own}.items()
}


@pytest.mark.parametrize("mask", [None, 0.0, -1.5], ids=["whole", "masked", "masked-other"])
@pytest.mark.parametrize("case", SINGLE)
def test_options(case, mask, tmp_path):
    kind, options = SINGLE[case]
    layer = getattr(layers(), kind)(4, **options)
    before = [] if mask is None else [masking(mask)]
    x = X if mask is None else masked(mask)
    check(sequential(*before, layer), [x], tmp_path)


KINDS = list(OWN)
COUNT = {"LSTM": 2, "GRU": 1, "SimpleRNN": 1}


@pytest.mark.parametrize("merge", ["concat", "sum", "mul", "ave"])
@pytest.mark.parametrize("kind", KINDS)
def test_both_ways(kind, merge, tmp_path):
    both, own = layers().Bidirectional, getattr(layers(), kind)
    model = sequential(
        masking(),
        both(own(4, return_sequences=True), merge_mode=merge),
        both(own(3), merge_mode=merge),
    )
    first, second = check(model, [masked(0.0)], tmp_path).layers[1:]
    assert first.spec.forward.zero_output_for_mask
    assert not second.spec.forward.zero_output_for_mask


@pytest.mark.parametrize("kind", KINDS)
def test_both_ways_apart(kind, tmp_path):
    import keras

    x = keras.Input((7, 3))
    both = layers().Bidirectional(
        getattr(layers(), kind)(4, return_sequences=True), merge_mode=None
    )
    a, b = both(masking()(x))
    model = keras.Model(x, [b, a, layers().LSTM(3)(b)])
    live = check(model, [masked(0.0)], tmp_path)
    assert live.layers[-1].mask == ("masking", 1)


@pytest.mark.parametrize("sequence", [True, False], ids=["sequence", "last"])
def test_unlike_halves(sequence, tmp_path):
    forward = layers().LSTM(4, return_sequences=sequence)
    backward = layers().GRU(5, return_sequences=sequence, go_backwards=True, name="mine")
    model = sequential(masking(), layers().Bidirectional(forward, backward_layer=backward))
    check(model, [masked(0.0)], tmp_path)


def test_a_frozen_half_is_not_mistaken_for_the_other(tmp_path):
    """HDF5 files list the weights that do not train after the others."""
    model = sequential(layers().Bidirectional(layers().LSTM(4, return_sequences=True)))
    model.layers[0].forward_layer.trainable = False
    live = check(model, [X], tmp_path)
    assert any("one half" in note for note in live.source.notes)


@pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("kind", KINDS)
def test_states_as_inputs_and_outputs(kind, mask, tmp_path):
    """With states given, Keras 3 does not hand a Masking layer's mask to the layer."""
    import keras

    x = keras.Input((7, 3))
    starts = [keras.Input((4,)) for _ in range(COUNT[kind])]
    layer = getattr(layers(), kind)(4, return_sequences=True, return_state=True)
    data = masking()(x) if mask else x
    model = keras.Model([x, *starts], layer(data, initial_state=starts))
    live = check(model, [masked(0.0), *state(*[4] * COUNT[kind])], tmp_path)
    assert live.layers[-1].mask is None
    assert len(live.outputs) == 1 + COUNT[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_states_of_both_ways(kind, tmp_path):
    import keras

    x = keras.Input((7, 3))
    starts = [keras.Input((4,)) for _ in range(2 * COUNT[kind])]
    own = getattr(layers(), kind)(4, return_sequences=True, return_state=True)
    outputs = layers().Bidirectional(own)(x, initial_state=starts)
    check(keras.Model([x, *starts], outputs), [X, *state(*[4] * len(starts))], tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_a_mask_of_its_own_input(kind, tmp_path):
    """Also together with states, and carried on to the next layer."""
    import keras

    x, keep = keras.Input((7, 3)), keras.Input((7,), dtype="bool")
    starts = [keras.Input((4,)) for _ in range(COUNT[kind])]
    layer = getattr(layers(), kind)
    y = layer(4, return_sequences=True)(x, mask=keep, initial_state=starts)
    y = layers().Dense(3)(layers().Dropout(0.5)(y))
    model = keras.Model([x, keep, *starts], layer(5, go_backwards=True)(y))
    live = check(model, [X, KEEP, *state(*[4] * COUNT[kind])], tmp_path)
    assert live.layers[0].mask == live.layers[-1].mask == (live.inputs[1], 0)


def test_a_mask_of_numbers_is_read_as_yes_and_no(tmp_path):
    import keras

    x, keep = keras.Input((7, 3)), keras.Input((7,), dtype="int32")
    model = keras.Model([x, keep], layers().LSTM(4)(x, mask=keep))
    live = check(model, [X, KEEP.astype("int32") * 3], tmp_path)
    assert live.node(live.inputs[1]).spec.dtype == "bool"


@pytest.mark.parametrize("kind", KINDS)
def test_stateful(kind, tmp_path):
    own = getattr(layers(), kind)
    model = sequential(
        own(4, stateful=True, return_sequences=True),
        layers().Bidirectional(own(3, stateful=True)),
        batch=6,
    )
    live = check(model, [X], tmp_path)
    assert live.node(live.inputs[0]).spec.batch == 6
    _, first = xlstm.port(live, "numpy")(X)
    again, _ = xlstm.port(live, "numpy")(X, state=first)
    np.testing.assert_allclose(again, np.asarray(model(X)), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_cell_inside_rnn_is_the_layer(kind, tmp_path):
    cell = getattr(layers(), f"{kind}Cell")
    model = sequential(
        masking(),
        layers().RNN(cell(4), return_sequences=True),
        layers().Bidirectional(layers().RNN(cell(5), return_sequences=True)),
        layers().RNN(cell(3), go_backwards=True),
    )
    live = check(model, [masked(0.0)], tmp_path)
    assert [node.spec.kind for node in live.layers] == ["Masking", kind, "Bidirectional", kind]


def cells():
    own = layers()
    return [own.LSTMCell(4), own.GRUCell(5), own.LSTMCell(3), own.SimpleRNNCell(4)]


STACKS = {name: OPTIONS[name] for name in ("last", "sequence", "backwards", "backwards-last")} | {
    "zeros": OPTIONS["zeros"],
    "zeros-backwards": OPTIONS["zeros-backwards"],
}


@pytest.mark.parametrize("mask", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("options", STACKS)
def test_stacked_cells(options, mask, tmp_path):
    before = [masking()] if mask else []
    model = sequential(*before, layers().RNN(cells(), name="stack", **STACKS[options]))
    live = check(model, [masked(0.0)], tmp_path)
    names = [node.name for node in live.layers if node.name[-1].isdigit()]
    assert names == ["stack/0", "stack/1", "stack/2", "stack/3"]


def test_states_of_stacked_cells(tmp_path):
    import keras

    x = keras.Input((7, 3))
    starts = [[keras.Input((size,)) for size in own] for own in ((4, 4), (5,), (3, 3), (4,))]
    rnn = layers().RNN(cells(), return_sequences=True, return_state=True)
    outputs = keras.tree.flatten(rnn(x, initial_state=starts))
    model = keras.Model([x, *keras.tree.flatten(starts)], outputs)
    live = check(model, [X, *state(4, 4, 5, 3, 3, 4)], tmp_path)
    assert [len(node.states) for node in live.layers] == [2, 1, 2, 1]


def test_stateful_stacked_cells(tmp_path):
    model = sequential(layers().RNN(cells(), stateful=True), batch=6)
    assert len(check(model, [X], tmp_path).stateful) == 4


def test_one_cell_in_a_list(tmp_path):
    model = sequential(layers().RNN([layers().LSTMCell(4)], return_sequences=True))
    check(model, [X], tmp_path)


def test_masks_go_on_through_every_layer_that_keeps_the_steps(tmp_path):
    own = layers()
    model = sequential(
        masking(),
        own.LSTM(4, return_sequences=True),
        own.Dropout(0.3),
        own.Dense(5, "relu"),
        own.Activation("tanh"),
        own.TimeDistributed(own.Dense(3)),
        own.GRU(4, return_sequences=True, go_backwards=True),
        own.LSTM(3),
        own.Dense(2),
    )
    live = check(model, [masked(0.0)], tmp_path)
    assert all(n.mask == ("masking", 1) for n in live.layers if n.spec.kind in ("LSTM", "GRU"))


@pytest.mark.parametrize("kind", [*KINDS, "Bidirectional", "RNN"])
def test_a_layer_alone(kind):
    own = layers()
    made = {
        "Bidirectional": lambda: own.Bidirectional(own.LSTM(4)),
        "RNN": lambda: own.RNN(cells()),
    }.get(kind, lambda: getattr(own, kind)(4, return_sequences=True))()
    made(X)
    trained(made)
    live = xlstm.load(made)
    assert live.lone == (kind != "RNN")
    np.testing.assert_allclose(xlstm.port(live, "numpy")(X), np.asarray(made(X)), atol=1e-6)


def test_unrolled_zeros_backwards_are_refused():
    """Keras puts those zeros at the steps of the mask turned round."""
    inner = layers().LSTM(4, return_sequences=True, unroll=True)
    model = sequential(masking(), layers().Bidirectional(inner, name="both"))
    with pytest.raises(UnsupportedError, match=r"layer both: .*unroll=True.*unroll=False"):
        xlstm.load(model)
    read = xlstm.port(xlstm.load(sequential(layers().Bidirectional(inner))), "numpy")
    assert read(X).shape == (6, 7, 8)


def test_constant_states_are_those_of_every_sample_or_refused():
    import keras

    x = keras.Input((7, 3))
    ones = [keras.ops.ones((6, 4))]
    model = keras.Model(x, layers().GRU(4, name="gru")(x, initial_state=ones))
    found = xlstm.port(xlstm.load(model), "numpy")(X)
    np.testing.assert_allclose(found, model.predict(X, verbose=0), rtol=0, atol=5e-7)
    own = [keras.ops.convert_to_tensor(np.arange(24.0, dtype="float32").reshape(6, 4))]
    model = keras.Model(x, layers().GRU(4, name="gru")(x, initial_state=own))
    with pytest.raises(UnsupportedError, match=r"layer gru, initial_state: .*a constant"):
        xlstm.load(model)


def test_a_subclass_of_model_is_refused():
    import keras

    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.lstm = layers().LSTM(4)

        def call(self, x):
            return self.lstm(x)

    model = Own()
    model(X)
    with pytest.raises(UnsupportedError, match="Sequential or functional"):
        xlstm.load(model)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "nested"])
def test_a_sequential_returns_every_output_of_its_last_layer(kind, tmp_path):
    """Keras 3 does; Keras 2 takes layers of one output only."""
    import keras

    own, options = layers(), {"return_sequences": True, "return_state": True}
    made = {
        "RNN": lambda: own.RNN([own.LSTMCell(4), own.GRUCell(3)], **options),
        "Bidirectional": lambda: own.Bidirectional(own.GRU(4, **options), merge_mode=None),
        "nested": lambda: keras.Sequential([own.LSTM(4, **options)]),
    }
    last = made[kind]() if kind in made else getattr(own, kind)(4, **options)
    model = sequential(own.Dense(3), last)
    live = check(model, [X], tmp_path)
    assert len(live.outputs) == len(model.outputs) > 1
