"""Every row of the table of what ports to what, made in the framework it is read from.

The layers of a kind are one live Keras model, with an output for each row. Arguments are
Keras's own, and no spec of ours is asked for one: a row that no Keras layer reaches has none.
"""

import h5py
import keras
import numpy as np
import pytest
import torch
from test_keras_recurrent import check

import xlstm
from xlstm.counting.support import (
    KERAS,
    KERAS_2,
    LAYERS,
    NNX,
    NOTHING,
    REFUSED,
    TORCH,
    rows,
    verdict,
)
from xlstm.frameworks import registry

ROWS = list(rows())
RNG = np.random.default_rng(31)
BATCH, TIME = 8, 3
KINDS = {
    "LSTM": (keras.layers.LSTM, {"units": 4}, ()),
    "GRU": (keras.layers.GRU, {"units": 4}, ()),
    "GRU, reset_after=False": (keras.layers.GRU, {"units": 4, "reset_after": False}, ()),
    "SimpleRNN": (keras.layers.SimpleRNN, {"units": 4}, ()),
    "ConvLSTM2D": (keras.layers.ConvLSTM2D, {"filters": 4, "kernel_size": 3}, (6, 5)),
}
"""Layer of a row -> Keras's class, its arguments, and the axes between time and features."""

OPTIONS = {
    "as it is": {},
    "last output only": {"return_sequences": False},
    "use_bias=False": {"use_bias": False},
    "activation relu": {"activation": "relu"},
    "any other activation": {"activation": "softsign"},
    "go_backwards": {"go_backwards": True},
    "return_state": {"return_state": True},
    "stateful": {"stateful": True},
    "dropout, recurrent_dropout": {"dropout": 0.1, "recurrent_dropout": 0.1},
    "hard_sigmoid of Keras 3": {"recurrent_activation": "hard_sigmoid"},
    "any other recurrent activation": {"recurrent_activation": "softsign"},
    "initial_state": {},
    "mask": {},
    "mask, return_state": {"return_state": True},
    "mask, zero_output_for_mask": {"zero_output_for_mask": True},
}
"""Option of a row -> Keras's arguments."""

TWICE = {
    "Bidirectional, last output": {"return_sequences": False},
    "Bidirectional, stateful": {"stateful": True},
    "Bidirectional, mask": {},
}
"""The same of rows of both directions, for the half that Keras copies."""


def keras_layer(row, number):
    """The Keras layer of a row, by the words of the row alone."""
    kind, options, _ = KINDS[row.layer]
    name = f"row_{number}"
    options = {"return_sequences": True, **options}
    if row.option in OPTIONS:
        return kind(**{**options, **OPTIONS[row.option]}, name=name)
    if row.option == "Bidirectional, unlike halves":
        other = keras.layers.SimpleRNN if row.layer == "LSTM" else keras.layers.LSTM
        back = other(5, return_sequences=True, go_backwards=True)
        return keras.layers.Bidirectional(kind(**options), backward_layer=back, name=name)
    half = kind(**{**options, **TWICE.get(row.option, {})})
    merge = row.option.removeprefix("Bidirectional, merge ")
    merge = "concat" if merge == row.option else {"none": None}.get(merge, merge)
    return keras.layers.Bidirectional(half, merge_mode=merge, name=name)


def keras_model(found, between):
    """A model with every row's layer on one input; masks and states are inputs of their own."""
    x = keras.Input((TIME, *between, 3), batch_size=BATCH, name="x")
    keep = keras.Input((TIME,), batch_size=BATCH, dtype="bool", name="keep")
    inputs, outputs, drawn = [x, keep], [], [RNG.normal(size=x.shape), RNG.random(keep.shape) > 0.4]
    for number, row in found.items():
        layer, options = keras_layer(row, number), {}
        if row.node.mask:
            options["mask"] = keep
        if row.option == "initial_state":
            # windows of 3 on 6 and 5, nothing around
            shape = (BATCH, *(4, 3) * bool(between), 4)
            starts = [keras.Input(batch_shape=shape) for _ in row.node.states]
            options["initial_state"] = starts
            inputs += starts
            drawn += [RNG.normal(size=start.shape) for start in starts]
        outputs += flat_tensors(layer(x, **options))
    arrays = [a if a.dtype == bool else a.astype("float32") for a in drawn]
    return keras.Model(inputs, outputs), arrays


def flat_tensors(found):
    return list(found) if isinstance(found, (list, tuple)) else [found]


def agreeing(node, row):
    """Asserts that a node that was read is the row's."""
    assert node.spec == row.node.spec, row.option
    assert bool(node.mask) == bool(row.node.mask), row.option
    assert len(node.states) == len(row.node.states), row.option


def numbered(kind, source):
    """The rows of a kind from a source, by their number in the table."""
    return {n: row for n, row in enumerate(ROWS) if row.layer == kind and row.source == source}


def test_every_row_says_where_it_is_read():
    assert {row.layer for row in ROWS} == set(LAYERS) == set(KINDS)
    assert {row.source for row in ROWS} == {KERAS, KERAS_2, TORCH, NNX, NOTHING}


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_keras(kind, tmp_path):
    found = numbered(kind, KERAS)
    model, arrays = keras_model(found, KINDS[kind][2])
    # a relu of windows of 27 numbers gives larger ones
    read = check(model, arrays, tmp_path, 1e-5 if KINDS[kind][2] else 1e-6)
    for number, row in found.items():
        agreeing(read.node(f"row_{number}"), row)
    ports = [ran(read, framework, arrays) for framework in ("numpy", "torch")]
    for want, got in zip(*ports, strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5)


def ran(read, framework, arrays):
    """The outputs of a port, flat; its states are left out."""
    ported = xlstm.port(read, framework)
    tensors = arrays if framework == "numpy" else map(torch.from_numpy, arrays)
    found = ported(*tensors)[0] if read.stateful else ported(*tensors)
    return [np.asarray(output.detach() if framework == "torch" else output) for output in found]


@pytest.mark.parametrize("kind", [row.layer for row in ROWS if row.source == KERAS_2])
def test_rows_of_keras_2(kind, tmp_path):
    """A file says which Keras wrote it, and with it which hard_sigmoid it means."""
    ((_, row),) = numbered(kind, KERAS_2).items()
    layer, options, between = KINDS[kind]
    made = layer(**options, return_sequences=True, recurrent_activation="hard_sigmoid", name="r")
    keras.Sequential([keras.Input((TIME, *between, 3), batch_size=BATCH), made]).save(
        tmp_path / "m.h5"
    )
    with h5py.File(tmp_path / "m.h5", "r+") as file:
        file.attrs["keras_version"] = file["model_weights"].attrs["keras_version"] = "2.15.0"
    agreeing(xlstm.load(tmp_path / "m.h5").node("r"), row)


def test_rows_of_torch_and_flax():
    from flax import nnx

    ((_, row),) = numbered("LSTM", TORCH).items()
    agreeing(xlstm.load(torch.nn.LSTM(3, 4, proj_size=2, batch_first=True)).layers[0], row)
    ((_, row),) = numbered("GRU", NNX).items()
    cell = nnx.GRUCell(3, 4, rngs=nnx.Rngs(0))
    agreeing(xlstm.load(nnx.RNN(cell)).layers[0], row)


def test_a_row_of_nothing_ports_to_nothing():
    """A row that no framework has is refused by every target, not promised."""
    found = [row for row in ROWS if row.source == NOTHING]
    assert found
    for row in found:
        words = {verdict(row.node, registry.adapter(name)).word for name in registry.frameworks()}
        assert words == {REFUSED}, row.option
