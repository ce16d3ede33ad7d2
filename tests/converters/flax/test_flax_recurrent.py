"""Recurrent layers in Flax NNX and Linen: what the list of cases leaves out."""

import copy
import dataclasses
import pickle
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import CASES, built, explicit_mask, model, trained_weights, with_states
from flax import nnx

import xlstm
from xlstm import reference
from xlstm.errors import WeightsError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import fold_notes, pack_model
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, Input, Masking, Reverse, SimpleRNN
from xlstm.porting.port import build
from xlstm.verification.bounds import bounds, judge
from xlstm.verification.reconcile import generated

FLAX = ("nnx", "linen")


def masked_states(spec):
    """A layer after Masking whose states are inputs; everything it gives is an output."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    masked = graph.add("masking", Masking(), [x])
    shapes = spec.state_shapes()
    starts = [graph.add(f"start_{n}", Input(shape)) for n, shape in enumerate(shapes)]
    graph.add("layer", spec, [masked], mask=Edge("masking", 1), states=starts)
    return built(graph, [Edge("layer", n) for n in range(len(graph.nodes[-1].shapes))])


def stateful_stack():
    """Two stateful layers after Masking; the states of the first are outputs too."""
    graph = Builder()
    x = graph.add("x", Input((None, 3), batch=6))
    x = graph.add("masking", Masking(), [x])
    mask = Edge("masking", 1)
    first = LSTM(3, 5, stateful=True, return_sequences=True, return_state=True)
    x = graph.add("start", first, [x], mask=mask)
    x = graph.add("gru", GRU(5, 4, stateful=True, return_sequences=True), [x], mask=mask)
    x = graph.add("dense", Dense(4, 2), [x])
    return built(graph, [x, Edge("start", 1), Edge("start", 2)])


def turned(first, second, **options):
    """Halves of which the first reads backwards."""
    return Bidirectional(dataclasses.replace(first, go_backwards=True), second, **options)


STATES = {"return_state": True}
SEQUENCE = {"return_sequences": True}
PROJECTED = LSTM(3, 5, projection=2, **SEQUENCE)
MODELS = {
    "turned": model([turned(LSTM(3, 5, **SEQUENCE), GRU(3, 4, **SEQUENCE))], (None, 3)),
    "turned-masked": masked_states(turned(GRU(3, 5, **STATES), LSTM(3, 5, **STATES), merge="none")),
    "every-option": masked_states(
        LSTM(3, 5, go_backwards=True, zero_output_for_mask=True, **STATES)
    ),
    "last-ave": model([Bidirectional(GRU(3, 5), LSTM(3, 5, go_backwards=True), "ave")], (None, 3)),
    "projected": masked_states(dataclasses.replace(PROJECTED, **STATES)),
    "projected-both": model(
        [Bidirectional(PROJECTED, dataclasses.replace(PROJECTED, go_backwards=True))], (None, 3)
    ),
    "softmax-gates": model([GRU(3, 5, "gelu", "softmax", **SEQUENCE), Reverse()], (None, 3)),
    "mask-unread": model([Masking(0.25), Dense(3, 2)], (None, 3)),
    "stateful-stack": stateful_stack(),
}


@pytest.mark.parametrize("name", MODELS)
def test_equal_up_to_rounding(name):
    report = xlstm.reconcile(MODELS[name], FLAX)
    report.check()
    for framework in FLAX:
        own = report.frameworks[framework].parameters
        assert own == report.ledger.total(framework) > 0


def call(ported, *inputs, **options):
    """Calls either kind of port."""
    if isinstance(ported, tuple):
        return ported[0].apply(ported[1], *inputs, **options)
    return ported(*inputs, **options)


def module_of(ported):
    """The module that holds a port's source."""
    holder = ported[0] if isinstance(ported, tuple) else ported
    return sys.modules[type(holder).__module__]


@pytest.mark.parametrize("framework", FLAX)
def test_chunks_equal_the_whole(framework):
    ported = xlstm.port(MODELS["stateful-stack"], framework)
    x = np.random.default_rng(1).standard_normal((2, 12, 3)).astype("float32")
    x[0, 1:3] = 0
    (whole, h, c), after = call(ported, x)
    parts = ported if isinstance(ported, tuple) else (ported,)
    chunks = (x[:, :5], x[:, 5:6], x[:, 6:])
    found = list(module_of(ported).stream(*parts, chunks))
    joined = np.concatenate([outputs[0] for outputs, _ in found], axis=1)
    np.testing.assert_allclose(joined, whole, atol=1e-6)
    last = found[-1][1]
    assert {name: [s.shape for s in states] for name, states in last.items()} == {
        "start": [(2, 5), (2, 5)],
        "gru": [(2, 4)],
    }
    for name, states in after.items():
        for one, other in zip(states, last[name], strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)
    np.testing.assert_array_equal(h, after["start"][0])
    np.testing.assert_array_equal(c, after["start"][1])


@pytest.mark.parametrize("framework", FLAX)
def test_states_go_in_as_they_come_out(framework):
    source = MODELS["stateful-stack"]
    ported = xlstm.port(source, framework)
    rng = np.random.default_rng(2)
    state = {"start": [rng.standard_normal((6, 5)) for _ in "hc"], "gru": [np.ones((6, 4))]}
    (x,), _ = generated.chosen(source)
    given = {name: tuple(map(jnp.asarray, states)) for name, states in state.items()}
    outputs, after = call(ported, jnp.asarray(x), state=given)
    want = reference.run(source, [x], state=state)
    got = [*outputs, *after["start"], *after["gru"]]
    for one, other in zip(got, want, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("framework", FLAX)
def test_states_and_masks_that_do_not_fit(framework):
    x = np.ones((3, 6, 3), "float32")
    one, three = np.zeros((1, 5), "float32"), np.zeros((3, 5), "float32")
    started = xlstm.port(with_states(LSTM(3, 5)), framework)
    for states in ((one, one), (three, one), (np.zeros((3, 4)), three)):
        with pytest.raises(ValueError, match=r"a state of shape \(3, 5\) was expected"):
            call(started, x, *states)
    masked = xlstm.port(explicit_mask(GRU(3, 5)), framework)
    for mask in (np.ones((3, 5), bool), np.ones((1, 6), bool)):
        with pytest.raises(ValueError, match=r"a mask of shape \(3, 6\) was expected"):
            call(masked, x, mask)
    with pytest.raises(ValueError, match=r"keep of shape \(batch, any\) was expected, not \(6,\)"):
        call(masked, x, np.ones(6))
    stateful = xlstm.port(CASES["lstm-stateful"], framework)
    name = CASES["lstm-stateful"].layers[0].name
    for state, words in (
        ({name: (one, one)}, "a state of shape"),
        ({}, "states per layer"),
        ({name: (three,)}, "states per layer"),
    ):
        with pytest.raises(ValueError, match=words):
            call(stateful, x, state=state)


@pytest.mark.parametrize("framework", FLAX)
def test_masks_of_any_dtype(framework):
    ported = xlstm.port(explicit_mask(SimpleRNN(3, 5)), framework)
    mask = np.array([[1, 1, 0, 2, 0, 0]] * 3)
    x = np.ones((3, 6, 3), "float32")
    want = call(ported, x, mask != 0)
    for dtype in ("int32", "float32"):
        np.testing.assert_array_equal(call(ported, x, mask.astype(dtype)), want)


def pickled(ported):
    """A copy by way of pickle."""
    return pickle.loads(pickle.dumps(ported))  # our own bytes, written on this line


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("case", ["gru-both-last", "lstm-masked", "gru_before-both-ave"])
def test_ports_can_be_copied_and_hold_nothing_but_parameters(framework, case):
    ported = xlstm.port(CASES[case], framework)
    x = np.ones((2, 5, 3), "float32")
    # NNX's own cells hold a function that cannot be pickled
    nnx_port = framework == "nnx"
    again = copy.deepcopy(ported) if nnx_port else pickled(ported)
    np.testing.assert_array_equal(call(again, x), call(ported, x))
    if nnx_port:
        left = nnx.to_flat_state(nnx.state(ported))
        assert all(isinstance(variable, nnx.Param) for _, variable in left)
    else:
        assert set(ported[1]) == {"params"}


@pytest.mark.parametrize("case", ["gru-both-last", "lstm-masked", "gru_before-sequence"])
def test_linen_ports_can_be_initialised_anew(case):
    module, variables = xlstm.port(CASES[case], "linen")
    x = jnp.ones((2, 5, 3))
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)


def test_native_cells_wherever_they_are_exact():
    own = {name: registry.adapter(name).own_cell_reason for name in FLAX}
    layers = {name: CASES[f"{name}-sequence"].layers[0] for name in ("lstm", "gru", "simple_rnn")}
    assert [own["linen"](node) for node in layers.values()] == ["", "", ""]
    assert "lacks the bias" in own["nnx"](layers["gru"])
    assert not own["nnx"](CASES["gru-no_hidden_bias"].layers[0])
    before, masked = CASES["gru_before-sequence"].layers[0], CASES["lstm-masked"].layers[1]
    for why in own.values():
        assert "reset gate" in why(before)
        assert "mask" in why(masked)


def folded_biases(source):
    """A GRU whose candidate's two biases are added into one: another function."""
    weights = {}
    for name, layer in source.weights.items():
        bias = layer["bias"].copy()
        bias[0, 2] += bias[1, 2]
        bias[1, 2] = 0
        weights[name] = {**layer, "bias": bias}
    return dataclasses.replace(source, weights=weights)


def verdict(adapter, mutant, source):
    """Word of the worst verdict in float64 of a mutant's port against the true model."""
    arrays, _ = generated.chosen(source)
    outputs = adapter.live().run(build(mutant, adapter, "float64"), arrays, "float64")
    pairs = zip(outputs, bounds(source, arrays, "float64"), strict=True)
    words = {judge(y, allowed, allowed, "float64").verdict for y, allowed in pairs}
    return "different" if "different" in words else words.pop()


# what is written wrongly in the emitted text, and the case that shows it
WRONG_TEXT = {
    "backward-half-ends-last": ("lstm-both-last", "backward[:, 0]", "backward[:, -1]"),
    "not-turned-round": ("lstm-both-masked", "if reverse and not keep_order", "if reverse"),
    "not-read-backwards": ("gru-backwards", "reverse=True", "reverse=False"),
    "mask-ignored": ("gru-masked", "where), keep)", "where), keep | True)"),
    "output-held": ("lstm-masked-zeros", "zero_output=True", "zero_output=False"),
    "carry-confused": ("lstm-states", "checked(start_1", "checked(start_0"),
    "reset-after": ("gru_before-sequence", "r * h", "h"),
    "hidden-bias-lost": ("gru-sequence", "self.bias_hn[...]", "0"),
}


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("name", WRONG_TEXT)
def test_wrong_text_is_caught(framework, name):
    case, old, new = WRONG_TEXT[name]
    adapter = registry.adapter(framework)
    right = adapter.emit(CASES[case])
    if old not in right:
        assert (framework, name) == ("linen", "hidden-bias-lost")  # the native cell has it
        return
    mutant = dataclasses.replace(adapter, emit=lambda _model: right.replace(old, new))
    assert verdict(mutant, CASES[case], CASES[case]) == "different"


@pytest.mark.parametrize("framework", FLAX)
def test_halves_swapped_are_caught(framework):
    adapter = registry.adapter(framework)
    names = adapter.half_names(CASES["gru-both-concat"].layers[0])
    mutant = dataclasses.replace(adapter, half_names=lambda _node: names[::-1])
    assert verdict(mutant, CASES["gru-both-concat"], CASES["gru-both-concat"]) == "different"


@pytest.mark.parametrize("framework", FLAX)
def test_candidate_biases_folded_are_caught(framework):
    source = CASES["gru-sequence"]
    assert verdict(registry.adapter(framework), folded_biases(source), source) == "different"


def test_the_native_gru_cell_of_nnx_refuses_a_hidden_bias_of_the_candidate():
    arrays = pack_model(CASES["gru-sequence"], registry.adapter("torch"))
    arrays = {name.rpartition(".")[2]: array for name, array in arrays.items()}
    with pytest.raises(WeightsError, match="gate n"):
        xlstm.convert_weights(arrays, "torch.GRU", "nnx.GRUCell")


@pytest.mark.parametrize("framework", FLAX)
def test_round_trips_bit_for_bit_where_nothing_is_folded(framework, tmp_path):
    source = CASES["gru-sequence"]
    ((name, weights),) = source.weights.items()
    bias = weights["bias"].copy()
    bias[1, :2] = 0
    source = dataclasses.replace(source, weights={name: {**weights, "bias": bias}})
    again = xlstm.load(xlstm.save(source, tmp_path / "port", framework))
    np.testing.assert_equal(again.weights, source.weights)
    torch_adapter = registry.adapter("torch")
    np.testing.assert_equal(pack_model(again, torch_adapter), pack_model(source, torch_adapter))


@pytest.mark.parametrize("framework", FLAX)
def test_a_fold_names_its_gates(framework):
    (note,) = fold_notes(CASES["gru-sequence"], registry.adapter(framework))
    assert "for gates r and z" in note


def test_trained_weights_have_a_hidden_bias():
    """The cases must tell a GRU's two biases apart."""
    weights = trained_weights(GRU(3, 5), np.random.default_rng(0))
    assert weights["bias"][1].any()
