"""Hand-written ports kept as texts: the right ones equal Keras, each text edit makes one wrong.

`benchmarks/blind_power.py --check` does the same for every set of weights and every pair.
"""

import re

import pytest
from hand_ports import checking, study
from hand_ports.edits import UNSEEN, Edit, Pair, edits, pair, pair_names, places
from hand_ports.programs import names, program, suspect, truth

CHECKED = study.by_program(study.sample(130, 3))


@pytest.mark.parametrize("name", names())
def test_right_ports_equal_keras(name):
    assert checking.right(name, [1], (1, 8, 64)) == []


@pytest.mark.parametrize("name", CHECKED)
def test_wrong_ports_differ_from_keras(name):
    assert checking.wrong(name, CHECKED[name], 0) == []


def test_there_are_many_ways_of_writing_and_many_kinds_of_mistakes():
    kinds = {name.split("/")[1] for name in pair_names()}
    assert len(names()) >= 40
    assert len(kinds) >= 100
    assert len(pair_names()) >= 500
    assert len(set(pair_names())) == len(pair_names())
    assert kinds <= set(edits())


def test_texts_of_pairs_are_programs_with_one_change():
    assert not {*pair_names()} & {*pair_names(UNSEEN)}
    for name in (*pair_names(), *pair_names(UNSEEN)):
        found = pair(name)
        assert found.id == name
        assert found.port != program(found.program).port
        compile(found.port, name, "exec")


def test_words_are_expressions():
    for edit in edits().values():
        assert edit.words
        assert all(re.compile(word) for word in edit.words)


@pytest.mark.parametrize("name", names())
def test_comments_name_layers_of_keras(name):
    keras = truth(name)
    known = {layer.name for layer in keras.model.layers} | {"input", *keras.input_names}
    for edit in edits().values():
        for found in places(edit, program(name)):
            assert found.layers, found.id
            assert set(found.layers) <= known, found.id


def test_weights_that_are_not_loaded_are_seeded():
    found = pair("torch_relu_between/bias-hh-not-zeroed/0")
    weights = truth("torch_relu_between").set_weights(0)
    first, second = (suspect(found.port, weights).lstm.bias_hh_l0 for _ in range(2))
    assert first.any()
    assert (first == second).all()


@pytest.mark.parametrize(
    ("layer", "text", "named"),
    [
        ("lstm", "the gates i and f are exchanged", True),
        ("encoder/lstm", "the gates i and f are exchanged", True),
        ("dense", "the gates i and f are exchanged", False),
        ("lstm_1", "the gates i and f are exchanged", False),
        ("lstm", "the kernel is transposed", False),
        ("x", "the gates i and f are exchanged", False),
    ],
)
def test_a_cause_is_named_by_its_words_and_its_layer(layer, text, named):
    edit = Edit("kind", "gates:i<->f", ("gate", "swap|exchang"), ())
    assert Pair("program", edit, 0, ("lstm",), "").named(layer, text, ["x"]) is named


def test_findings_beside_the_true_cause_are_counted():
    edit = Edit("kind", "gates:i<->f", ("gate", "swap|exchang"), ())
    found = Pair("program", edit, 0, ("input", "lstm"), "")
    said = study.Answer(
        "different",
        (
            study.Said("x", "order", "gates exchanged"),
            study.Said("dense", "bias", "lost"),
        ),
    )
    row = study.judged(found, said, inputs=["x"])
    assert (row.caught, row.named, row.beside) == (True, True, ("bias",))
    right = study.Row("program", study.Answer("equal"), 0, 8)
    total = study.tallies([row, right], "program")["program"]
    assert (total.pairs, total.caught, total.named, total.beside) == (1, 1, 1, 1)
    assert total.verdicts == {"equal": 1}
