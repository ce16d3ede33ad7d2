"""Encoders and step decoders: the same numbers as the training graph, step by step."""

from dataclasses import replace

import numpy as np
import pytest
from cases import built, encoder_decoder

import xlstm
from xlstm.errors import UsageError
from xlstm.model import GRU, LSTM, Bidirectional, Builder, Dense, Edge, Input
from xlstm.reference import run


def arrays(seed=3, steps=5):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((2, 7, 3)), rng.standard_normal((2, steps, 2))


def stepped(decoder, y, states):
    """The decoder called once for every step of `y`."""
    outputs = []
    for t in range(y.shape[1]):
        found = run(decoder, [y[:, t : t + 1], *states])
        outputs.append(found[0])
        states = found[1:]
    return np.concatenate(outputs, axis=1)


def test_step_by_step_equals_the_training_graph():
    model = encoder_decoder()
    x, y = arrays()
    encoder, decoder = xlstm.split(model, "decoder")
    assert encoder.inputs == ("source",)
    assert decoder.inputs == ("target", "state_0", "state_1")
    whole = run(model, [x, y])[0]
    np.testing.assert_allclose(stepped(decoder, y, run(encoder, [x])), whole, rtol=1e-12)


def two_layers():
    """Two stacked decoders whose states come from two encoders, the second one's backwards."""
    graph = Builder()
    x, y = graph.add("source", Input((None, 3))), graph.add("target", Input((9, 2)))
    first = GRU(3, 4, return_sequences=True, return_state=True)
    graph.add("encoder_0", first, [x])
    graph.add("encoder_1", GRU(4, 4, return_state=True), [Edge("encoder_0")])
    decoder = GRU(2, 4, return_sequences=True)
    one = graph.add("decoder_0", decoder, [y], states=[Edge("encoder_0", 1)])
    second = replace(decoder, features=4)
    two = graph.add("decoder_1", second, [one], states=[Edge("encoder_1", 1)])
    return built(graph, [graph.add("dense", Dense(4, 2, "softmax"), [two])])


def test_stacked_decoders_and_a_fixed_length():
    model = two_layers()
    x, y = arrays(steps=9)
    encoder, decoder = xlstm.split(model, ["decoder_0", "decoder_1"])
    assert decoder.node("target").shape == (None, 2)
    whole = run(model, [x, y])[0]
    np.testing.assert_allclose(stepped(decoder, y, run(encoder, [x])), whole, rtol=1e-12)


def test_a_bidirectional_encoder_gives_its_states():
    graph = Builder()
    x, y = graph.add("source", Input((None, 3))), graph.add("target", Input((None, 2)))
    half = LSTM(3, 4, return_state=True)
    graph.add("encoder", Bidirectional(half, replace(half, go_backwards=True)), [x])
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    graph.add("decoder", LSTM(2, 4, return_sequences=True), [y], states=states)
    model = built(graph, [Edge("decoder")])
    x, y = arrays()
    encoder, decoder = xlstm.split(model, "decoder")
    whole = run(model, [x, y])[0]
    np.testing.assert_allclose(stepped(decoder, y, run(encoder, [x])), whole, rtol=1e-12)


@pytest.mark.parametrize("framework", ["torch", "nnx", "linen", "keras"])
def test_both_parts_port(framework):
    for part in xlstm.split(encoder_decoder(), "decoder"):
        xlstm.reconcile(part, [framework]).check()


@pytest.mark.parametrize("name", ["encoder", "dense", "nobody", "source"])
def test_layers_that_no_encoder_feeds(name):
    with pytest.raises(UsageError, match="decoder"):
        xlstm.split(encoder_decoder(), name)


def test_nothing_of_the_model_is_changed():
    model = encoder_decoder()
    before = {name: dict(layer) for name, layer in model.weights.items()}
    xlstm.split(model, "decoder")
    assert {name: dict(layer) for name, layer in model.weights.items()} == before
