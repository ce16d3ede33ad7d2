"""Numbers that others published, out of our ports: Keras's own tests of its recurrent layers.

Keras 3.15, keras/src/layers/rnn/*_test.py (Apache-2.0): kernels of 0.01, recurrent kernels of 0.02,
biases of 0.03 (1.0 in the forget gate, where unit_forget_bias is left at its default).
"""

from dataclasses import replace

import numpy as np
import pytest

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Input, SimpleRNN
from xlstm.ir.source import Source
from xlstm.slots import shape, unpack

TARGETS = ("numpy", "torch", "nnx", "linen", "keras")
WIDE = np.arange(72.0).reshape(3, 6, 4)
SMALL = np.arange(24.0).reshape(2, 4, 3)
SQUARE = np.arange(24.0).reshape(2, 3, 4)
START = np.array([[0.0, 1.0], [2.0, 3.0]])
RIGHT = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], bool)
LEFT = np.array([[0, 1, 1, 1], [0, 0, 1, 1]], bool)
MIDDLE = np.array([[1, 1, 0, 1], [1, 0, 0, 1]], bool)
SEQUENCE = {"return_sequences": True}


def weights(spec, forget=1.0):
    """Keras's test weights of a layer, read by Keras's own table."""
    found = {}
    for before, part in spec.weighted_parts:
        name = {"GRU, reset_after=False": "GRU, reset_after=False"}.get(part.weight_kind, part.kind)
        table = registry.table(f"keras.{name}")
        values = {"kernel": 0.01, "recurrent_kernel": 0.02, "bias": 0.03}
        arrays = {
            slot.name: np.full(shape(slot, table.kind, part.sizes()), values[slot.name], np.float32)
            for slot in table.present_slots(part.missing_tensors())
        }
        if isinstance(part, LSTM) and part.use_bias:
            arrays["bias"][part.units : 2 * part.units] = forget
        hub = unpack(table, arrays, part.sizes(), part.missing_tensors())
        found |= {before + tensor: array for tensor, array in hub.items()}
    return found


def model_of(spec, x, starts=0, mask=False, forget=1.0):
    """A model of one layer; `starts` states and a mask as further inputs where asked for."""
    graph = Builder()
    batch = len(x)
    edges = [graph.add("x", Input(x.shape[1:], batch=batch))]
    names = [f"start_{n}" for n in range(starts)]
    states = [graph.add(name, Input((spec_units(spec),), batch=batch)) for name in names]
    keep = graph.add("keep", Input(x.shape[1:2], "bool", batch=batch)) if mask else None
    graph.add("layer", spec, edges, mask=keep, states=states)
    inputs = ("x", *names, *(["keep"] if mask else []))
    outputs = tuple(Edge("layer", n) for n in range(len(graph.nodes[-1].shapes)))
    held = {"layer": weights(spec, forget)}
    return Model("published", graph.nodes, inputs, outputs, held, Source("published"))


def spec_units(spec):
    return (spec.forward if isinstance(spec, Bidirectional) else spec).units


def check(target, model, inputs, *expected, rtol=2e-6):
    """The outputs of a port, (batch, ...): one number given for a row is that of all its units."""
    adapter = registry.adapter(target)
    if target == "numpy":
        found = xlstm.port(model, target)(*inputs)
        found = [found] if len(model.outputs) == 1 else list(found)
    else:
        found = adapter.live().run(xlstm.port(model, target), inputs, "float32")
    for y, want in zip(found, expected, strict=False):
        want = np.asarray(want)
        wide = want if want.ndim == y.ndim else np.broadcast_to(want[..., None], y.shape)
        np.testing.assert_allclose(y, wide, rtol=rtol, atol=2e-7)


LAST = {
    "lstm": (LSTM(4, 3), [0.6288687, 0.86899155, 0.9460773]),
    "lstm-backwards": (LSTM(4, 3, go_backwards=True), [0.35622165, 0.74789524, 0.8872726]),
    "lstm-no_bias": (LSTM(4, 3, use_bias=False), [0.54986924, 0.86226785, 0.9443936]),
    "gru": (GRU(4, 3), [0.5217289, 0.6371659, 0.39384964]),
    "gru-backwards": (GRU(4, 3, go_backwards=True), [0.24406259, 0.611516, 0.3928808]),
    "gru-reset_before": (GRU(4, 3, reset_after=False), [0.51447755, 0.6426879, 0.40208298]),
    "gru-no_bias": (GRU(4, 3, use_bias=False), [0.49988455, 0.64701194, 0.4103359]),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", LAST)
def test_last_output(case, target):
    spec, want = LAST[case]
    check(target, model_of(spec, WIDE), [WIDE], want)


@pytest.mark.parametrize("target", TARGETS)
def test_no_unit_forget_bias(target):
    model = model_of(LSTM(4, 3), WIDE, forget=0.03)
    check(target, model, [WIDE], [0.57019705, 0.8661914, 0.9459622])


@pytest.mark.parametrize("target", TARGETS)
def test_simple_rnn(target):
    check(target, model_of(SimpleRNN(4, 4), SQUARE), [SQUARE], [0.405432, 0.73605347])
    back = SimpleRNN(4, 4, go_backwards=True)
    check(target, model_of(back, SQUARE), [SQUARE], [0.11144729, 0.5528889])


STARTED = {
    "lstm": (LSTM(3, 2), 2, [[0.20574439, 0.3558822], [0.64930826, 0.66276]]),
    "lstm-backwards": (
        LSTM(3, 2, go_backwards=True),
        2,
        [[0.13281618, 0.2790356], [0.5839337, 0.5992567]],
    ),
    "gru": (GRU(3, 2), 1, [[0.23774096, 0.33508456], [0.83659905, 1.0227708]]),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", STARTED)
def test_initial_state(case, target):
    spec, count, want = STARTED[case]
    check(target, model_of(spec, SMALL, starts=count), [SMALL, *[START] * count], want)


MASKED = {
    "lstm": (LSTM(3, 2), RIGHT, [0.11755939, 0.28556206]),
    "lstm-backwards": (LSTM(3, 2, go_backwards=True), LEFT, [0.15341201, 0.3844719]),
    "gru": (GRU(3, 2), MIDDLE, [0.19393763, 0.30818558]),
    "gru-backwards": (GRU(3, 2, go_backwards=True), MIDDLE, [0.11669192, 0.28380975]),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", MASKED)
def test_mask(case, target):
    spec, mask, want = MASKED[case]
    check(target, model_of(spec, SMALL, mask=True), [SMALL, mask], want)


@pytest.mark.parametrize("target", TARGETS)
def test_masked_sequence(target):
    first = [0.0158891, 0.05552048, 0.11755939, 0.11755939]
    model = model_of(LSTM(3, 2, **SEQUENCE), SMALL[:1], mask=True)
    check(target, model, [SMALL[:1], RIGHT[:1]], [first])


@pytest.mark.parametrize("target", ["numpy", "torch", "nnx", "linen"])
def test_masked_sequence_with_zeros(target):
    spec = LSTM(3, 2, zero_output_for_mask=True, **SEQUENCE)
    first = [0.0158891, 0.05552048, 0.11755939, 0]
    check(target, model_of(spec, SMALL[:1], mask=True), [SMALL[:1], RIGHT[:1]], [first])


def both(spec, merge="concat"):
    return Bidirectional(spec, replace(spec, go_backwards=True), merge)


@pytest.mark.parametrize("target", TARGETS)
def test_bidirectional_states(target):
    model = model_of(both(LSTM(3, 2, return_state=True)), SMALL)
    states = [
        [0.1990008, 0.52335435],
        [0.35567185, 1.0492687],
        [0.12659755, 0.44717982],
        [0.2501858, 0.941473],
    ]
    y = np.repeat(np.transpose([states[0], states[2]]), 2, axis=1)
    check(target, model, [SMALL], y, *states)


@pytest.mark.parametrize("target", TARGETS)
def test_bidirectional_initial_states(target):
    want = [
        [0.20794602, 0.4577124, 0.14046375, 0.48191673],
        [0.6682636, 0.6711909, 0.60943645, 0.60950446],
    ]
    starts = [k * START for k in (1, 2, 3, 4)]
    check(target, model_of(both(LSTM(3, 2)), SMALL, starts=4), [SMALL, *starts], want)


@pytest.mark.parametrize("target", TARGETS)
def test_simple_rnn_masked(target):
    model = model_of(SimpleRNN(3, 4), SMALL, mask=True)
    check(target, model, [SMALL, MIDDLE], [0.32951632, 0.61799484], rtol=1e-5)
    model = model_of(SimpleRNN(3, 2, **SEQUENCE), SMALL, mask=True)
    want = [
        [0.0599281, 0.15122814, 0.15122814, 0.32394567],
        [0.3969304, 0.3969304, 0.3969304, 0.608085],
    ]
    check(target, model, [SMALL, MIDDLE], want)


@pytest.mark.parametrize("target", TARGETS)
def test_bidirectional_simple_rnn(target):
    halves = [0.39687276, 0.7237238], [0.10004295, 0.53391594]
    spec = both(SimpleRNN(4, 2))
    want = np.repeat(np.transpose(halves), 2, axis=1)
    check(target, model_of(spec, SQUARE), [SQUARE], want)
    check(target, model_of(replace(spec, merge="none"), SQUARE), [SQUARE], *halves)
    mean = [0.24845785, 0.6288199]
    check(target, model_of(replace(spec, merge="ave"), SQUARE), [SQUARE], mean)


@pytest.mark.parametrize("target", TARGETS)
def test_bidirectional_product(target):
    model = model_of(both(SimpleRNN(4, 2), "mul"), SQUARE)
    other = {"backward_kernel": 0.03, "backward_recurrent": 0.02, "backward_bias": 0.01}
    held = dict(model.weights["layer"])
    held |= {name: np.full_like(held[name], value) for name, value in other.items()}
    model = replace(model, weights={"layer": held})
    check(target, model, [SQUARE], [0.08374989, 0.6740834])


@pytest.mark.parametrize("target", TARGETS)
def test_bidirectional_sum_of_gru(target):
    model = model_of(both(GRU(4, 2, **SEQUENCE), "sum"), SQUARE)
    want = [[0.20937867, 0.34462988, 0.40290534], [0.59829646, 0.6734641, 0.6479671]]
    check(target, model, [SQUARE], want)


def twice(target, model, x):
    """The second output of a stateful port, called twice with the same input."""
    ported = xlstm.port(model, target)
    if target == "keras":
        ported(x)
        return np.asarray(ported(x))
    if target == "torch":
        import torch

        x = torch.tensor(x, dtype=torch.float32)
    if target == "linen":
        module, variables = ported
        _, state = module.apply(variables, x)
        return np.asarray(module.apply(variables, x, state=state)[0])
    _, state = ported(x)
    y, _ = ported(x, state=state)
    return y.detach().numpy() if target == "torch" else np.asarray(y)


STATEFUL = {
    "lstm": (LSTM(4, 4, stateful=True), SQUARE, [0.3124785, 0.6863672]),
    "gru": (GRU(4, 4, stateful=True), SQUARE, [0.29542392, 0.5885018]),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", STATEFUL)
def test_stateful_called_twice(case, target):
    spec, x, want = STATEFUL[case]
    found = twice(target, model_of(spec, x), x.astype(np.float32))
    np.testing.assert_allclose(found, np.broadcast_to(np.array(want)[:, None], (2, 4)), rtol=2e-6)


@pytest.mark.parametrize("target", TARGETS)
def test_stateful_bidirectional_called_twice(target):
    spec = both(LSTM(3, 2, stateful=True))
    want = [[0.26234663] * 2 + [0.16959146] * 2, [0.6137073] * 2 + [0.5381646] * 2]
    found = twice(target, model_of(spec, SMALL), SMALL.astype(np.float32))
    np.testing.assert_allclose(found, want, rtol=2e-6)
