"""`diagnose` says in the suspect's own names which numbers are wrong, and what they are instead."""

import numpy as np
import pytest
import torch
from cases import model

import xlstm
from xlstm.frameworks.registry import adapter
from xlstm.ir.graph import chain
from xlstm.ir.layers import GRU, LSTM, Dense
from xlstm.ir.source import Source

rng = np.random.default_rng(3)


def some(*shape):
    return rng.normal(0, 0.6, shape).astype(np.float32)


WEIGHTS = {
    "gru": {"kernel": some(3, 4, 4), "recurrent": some(3, 4, 4), "bias": some(2, 3, 4)},
    "dense": {"kernel": some(4, 4), "bias": some(4)},
    "last": {"kernel": some(4, 4), "bias": some(4)},
}
LAYERS = [("gru", GRU(4, 4), True), ("dense", Dense(4, 4), True), ("last", Dense(4, 4), True)]
TRUTH = chain("m", LAYERS, (5, 4), WEIGHTS, Source("keras"))
KERNEL = WEIGHTS["dense"]["kernel"]


def state(**changed):
    """The state dict of the port, some of its tensors changed."""
    held = {
        name: tensor.clone() for name, tensor in xlstm.port(TRUTH, "torch").state_dict().items()
    }
    for name, change in changed.items():
        (name,) = (own for own in held if own.endswith(name.replace("__", ".")))
        held[name] = change(held[name])
    return held


def put(place, value):
    def change(tensor):
        tensor[place] = value
        return tensor

    return change


def test_the_first_wrong_number_is_told_by_the_suspects_own_name_and_place():
    (finding,) = xlstm.diagnose(TRUTH, state(weight_ih_l0=put((9, 2), 7.0))).findings
    assert "1 of 48 differ" in finding.text
    assert "(the first at weight_ih_l0[9, 2])" in finding.text
    (finding,) = xlstm.diagnose(TRUTH, state(dense__weight=put((1, 3), 7.0))).findings
    assert "(the first at weight[1, 3])" in finding.text


@pytest.mark.parametrize(
    ("words", "change"),
    [
        ("They are a's times 2.5.", lambda w: 2.5 * w),
        ("They are a's, its inputs in another order.", lambda w: w[:, [1, 0, 3, 2]]),
        ("They are a's in another order.", lambda w: w.flip(1).roll(1, 0)),
        (
            "They are the numbers of a's `last.weight`.",
            lambda _w: torch.from_numpy(WEIGHTS["last"]["kernel"].T.copy()),
        ),
    ],
)
def test_what_a_wrong_tensor_holds_is_said(words, change):
    (finding,) = xlstm.diagnose(TRUTH, state(dense__weight=change)).findings
    assert finding.cause == "other-weights"
    assert words in finding.text


def test_numbers_that_are_nothing_known_are_not_explained():
    wrong = torch.from_numpy(some(4, 4))
    (finding,) = xlstm.diagnose(TRUTH, state(dense__weight=lambda _w: wrong)).findings
    assert "They are" not in finding.text


def test_a_transposed_block_of_each_gate_is_said_to_be_one():
    (finding,) = xlstm.diagnose(
        TRUTH, state(weight_hh_l0=lambda w: torch.cat([gate.T for gate in w.chunk(3)]))
    ).findings
    assert finding.text == "In your `gru.weight_hh_l0` each gate's 4 x 4 block is transposed."


def test_gates_are_told_in_the_words_of_both_sides():
    def keras(tensor):
        r, z, n = tensor.chunk(3)
        return torch.cat([z, r, n])

    names = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
    (finding,) = xlstm.diagnose(TRUTH, state(**dict.fromkeys(names, keras))).findings
    assert "hold z r n, as Keras does (z r h in its letters); PyTorch reads r z n." in finding.text


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (True, lambda w: torch.nextafter(w, 2 * w)),
        (False, lambda w: w * (1 + 6e-7)),
        (False, lambda w: w * (1 + 4e-6)),
    ],
    ids=["rounding", "more", "much more"],
)
def test_no_factor_is_said_that_prints_as_1(words, change):
    (finding,) = xlstm.diagnose(TRUTH, state(dense__weight=change)).findings
    assert "16 of 16 differ" in finding.text
    assert "They are a's" not in finding.text
    assert ("They agree to float32 rounding." in finding.text) == words


COUNTED = {
    "torch": "60 of 60 sums differ",
    "keras": "60 of 60 sums differ",  # two rows: one for each product
    "nnx": "60 of 60 differ",
    "linen": "60 of 60 differ",
}


def biases_moved(truth, framework):
    arrays = adapter(framework).live().weights(xlstm.port(truth, framework))
    rng = np.random.default_rng(4)
    moved = {n: rng.normal(size=a.shape) if "bias" in n else a for n, a in arrays.items()}
    (finding,) = xlstm.diagnose(truth, moved).findings
    return finding.text


@pytest.mark.parametrize("framework", COUNTED)
def test_numbers_are_counted_in_the_suspects_own_biases(framework):
    gru, lstm = (model([layer(3, 15)], (None, 3)) for layer in (GRU, LSTM))
    assert COUNTED[framework] in biases_moved(gru, framework)
    sums = " sums" if framework == "torch" else ""
    assert f"60 of 60{sums} differ" in biases_moved(lstm, framework)


@pytest.mark.parametrize("alone", [True, False], ids=["weights alone", "module"])
def test_a_model_that_was_trained_further_is_one_finding(alone):
    module, gen = xlstm.port(TRUTH, "torch"), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for tensor in module.parameters():
            tensor += 0.01 * torch.randn(tensor.shape, generator=gen)
    found = xlstm.diagnose(TRUTH, module.state_dict() if alone else module)
    (finding,) = found.findings
    assert not found.ok
    assert finding.cause == "other-weights"
    assert finding.text.startswith("All 8 weight tensors differ, by up to 0.0")
    assert finding.text.endswith("b was trained further or apart.")
    assert "gru.weight_ih_l0" in finding.tensor
    assert "last.bias" in finding.tensor
    assert 0 < finding.before < 0.1


def test_some_tensors_with_other_numbers_are_told_one_by_one():
    def other(tensor):
        return tensor + torch.linspace(0.1, 0.2, tensor.numel()).reshape(tensor.shape)

    changed = dict.fromkeys(("weight_ih_l0", "weight_hh_l0", "dense__weight"), other)
    found = xlstm.diagnose(TRUTH, state(**changed)).findings
    assert len(found) == 3
    assert all(finding.fix == "Copy it again." for finding in found)
