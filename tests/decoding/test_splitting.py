"""Encoders and step decoders: the same numbers as the training graph, step by step."""

import numpy as np
import pytest
import torch
from cases import encoder_decoder
from decoders import CROSSING, STEPPED

import xlstm
from xlstm.errors import UnsupportedError, UsageError
from xlstm.reference import run

STEPS = 5


def arrays(model, seed=3):
    """Inputs of 3 rows; sources of 7 steps, targets of 5, masked where 0."""
    rng, found = np.random.default_rng(seed), []
    for name in model.inputs:
        shape = model.node(name).shape
        steps = 7 if name == "source" else STEPS
        size = (3, *(steps if n is None else n for n in shape))
        if shape == (None,):
            found.append(rng.integers(1, 7, size).astype(float))
        else:
            found.append(rng.standard_normal(size))
        if name == "target" and shape == (None,):
            # nowhere, at the start and in the middle, all but one
            found[-1] *= [[1] * 5, [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]]
    return found


def computed(part, inputs, to):
    """What a part gives, as a list of arrays."""
    if to == "numpy":
        return run(part, inputs)
    with torch.no_grad():
        found = xlstm.port(part, "torch", dtype="float64")(*map(torch.as_tensor, inputs))
    return [y.numpy() for y in (found if isinstance(found, tuple) else (found,))]


def stepped(parts, given, to, chunks):
    """What the decoder gives for each chunk, its own outputs alone."""
    encoder, decoder = parts
    held = computed(encoder, [given[name] for name in encoder.inputs], to)
    own = [name for name in decoder.inputs if name in given]
    assert list(decoder.inputs[: len(own)]) == own
    assert len(decoder.inputs) == len(own) + len(held)
    found, first = [], 0
    for size in chunks:
        now = [given[name] for name in own]
        fed = [decoder.node(name).shape[0] in (None, 1) for name in own]
        now = [x[:, first : first + size] if step else x for x, step in zip(now, fed, strict=True)]
        outputs = computed(decoder, [*now, *held], to)
        count = len(outputs) - sum(name.startswith("state_") for name in decoder.inputs)
        after = outputs[count:]
        assert [y.shape for y in after] == [y.shape for y in held[: len(after)]]
        held = [*after, *held[len(after) :]]
        found.append(outputs[:count])
        first += size
    return found


def joined(parts, whole):
    """One output of all chunks: laid end to end along its steps, or the last chunk's."""
    for axis in range(1, whole.ndim):
        if sum(y.shape[axis] for y in parts) == whole.shape[axis] == STEPS:
            return np.concatenate(parts, axis=axis)
    return parts[-1]


@pytest.mark.parametrize("to", ["numpy", "torch"])
@pytest.mark.parametrize("name", STEPPED)
def test_step_by_step_equals_the_training_graph(name, to):
    model = STEPPED[name]()
    given = dict(zip(model.inputs, arrays(model), strict=True))
    whole = run(model, list(given.values()))
    parts = xlstm.split(model, "decoder")
    several = "repeat" not in parts[1].names or name == "last steps"
    for chunks in ([1] * STEPS, [2, 3]) if several else ([1] * STEPS,):
        found = stepped(parts, given, to, chunks)
        for number, y in enumerate(whole):
            y_steps = joined([outputs[number] for outputs in found], y)
            np.testing.assert_allclose(y_steps, y, rtol=1e-10, atol=1e-12)


def test_names_and_order_of_what_crosses():
    encoder, decoder = xlstm.split(encoder_decoder(), "decoder")
    assert encoder.inputs == ("source",)
    assert decoder.inputs == ("target", "state_0", "state_1")
    encoder, decoder = xlstm.split(STEPPED["masked attention"](), "decoder")
    states = ["state_0", "state_1"]
    assert decoder.inputs == ("target", *states, "memory_0", "memory_1")
    assert decoder.node("memory_1").spec.dtype == "bool"
    encoder, decoder = xlstm.split(STEPPED["two layers"](), ["decoder_1", "decoder"])
    assert decoder.node("target").shape == (None, 2)
    assert [edge.node for edge in encoder.outputs] == ["encoder_1", "encoder_0"]


def test_prefixes_of_last_outputs():
    model = STEPPED["last steps"]()
    given = dict(zip(model.inputs, arrays(model), strict=True))
    found = stepped(xlstm.split(model, "decoder"), given, "numpy", [1] * STEPS)
    for t, outputs in enumerate(found, start=1):
        whole = run(model, [given["source"], given["target"][:, :t]])
        for y, expected in zip(outputs, whole, strict=True):
            np.testing.assert_allclose(y, expected, rtol=1e-10)


@pytest.mark.parametrize("name", CROSSING)
def test_what_crosses_time_is_refused_by_name(name):
    make, layer = CROSSING[name]
    with pytest.raises(UnsupportedError, match=f"layer {layer} .*keep a state"):
        xlstm.split(make(), "decoder")


@pytest.mark.parametrize(
    ("name", "framework"),
    [
        *(("plain", framework) for framework in ("torch", "nnx", "linen", "keras")),
        *(("masked", framework) for framework in ("torch", "keras")),
        *((name, "torch") for name in ("caption", "masked attention")),
    ],
)
def test_both_parts_port(name, framework):
    for part in xlstm.split(STEPPED[name](), "decoder"):
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
