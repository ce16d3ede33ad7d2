"""The text of emitted PyTorch modules, as its reader sees it: comments, names, no idle lines."""

import dataclasses

import pytest
import torch
from cases import CASES, built, model
from cases_layers import sliding

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder
from xlstm.ir.layers import (
    LSTM,
    Bidirectional,
    Conv,
    Dense,
    Input,
    Permute,
    Pool,
    TimeDistributed,
)

EMIT = registry.adapter("torch").emit


def comments(source):
    """The comment above each attribute of a module, by the attribute's name."""
    lines = EMIT(source).splitlines()
    found = {}
    for number, line in enumerate(lines):
        if line.startswith("        self.") and " = " in line:
            name = line.split(" = ")[0].strip().removeprefix("self.")
            found[name] = lines[number - 1].strip()
    return found


def test_shapes_stand_in_the_axes_that_a_module_sees():
    conv = sliding(Conv, 3, 4, (3,))
    source = model([conv, LSTM(4, 5, return_sequences=True), Pool("max", (2,), (2,))], (9, 3))
    assert comments(source) == {
        "conv_0": "# (batch, 3, 9) -> (batch, 4, 7)",
        "lstm_1": "# (batch, 7, 4) -> (batch, 7, 5)",
        "pool_2": "# (batch, 5, 7) -> (batch, 5, 3)",
    }


def test_steps_that_are_joined_with_the_batch_are_named():
    timed = TimeDistributed(sliding(Conv, 3, 4, (3,)))
    found = comments(model([timed, TimeDistributed(Dense(4, 2))], (5, 9, 3)))
    assert [*found.values()] == [
        "# (batch * 5, 3, 9) -> (batch * 5, 4, 7)",
        "# (batch, 5, 7, 4) -> (batch, 5, 7, 2)",
    ]


def test_axes_that_stay_are_not_permuted():
    text = EMIT(model([Permute((1, 2)), Dense(3, 2)], (4, 3)))
    assert "permute" not in text
    assert "permute" in EMIT(model([Permute((2, 1, 3)), Dense(3, 2)], (4, 5, 3)))


def test_every_output_has_the_name_of_its_layer():
    graph = Builder()
    x = graph.add("x", Input((4,)))
    first = graph.add("mood", Dense(4, 2, "softmax"), [x])
    text = EMIT(built(graph, [first, graph.add("topic", Dense(4, 3), [x])]))
    assert "return mood, topic" in text


def halves(activation="relu", **options):
    """Both directions of an LSTM that is an own cell."""
    half = LSTM(3, 5, activation, return_sequences=True, **options)
    return Bidirectional(half, dataclasses.replace(half, go_backwards=True))


def test_two_directions_of_one_form_share_a_class():
    again = dataclasses.replace(halves().forward, features=10)
    both = Bidirectional(again, dataclasses.replace(again, go_backwards=True))
    text = EMIT(model([halves(), both], (None, 3)))
    assert text.count("class Bidirectional(") == 1
    assert text.count("= Bidirectional(") == 2


def test_two_directions_of_other_forms_have_classes_by_other_names():
    """The half that comes first goes backwards in one of them."""
    again = dataclasses.replace(halves().backward, features=10)
    turned = Bidirectional(again, dataclasses.replace(again, go_backwards=False))
    source = model([halves(), turned], (None, 3))
    text = EMIT(source)
    assert "class Bidirectional(" in text
    assert "class Bidirectional2(" in text
    xlstm.reconcile(source, "torch").check()


def called_twice(states_first, masked):
    """A layer of two directions that starts from states in one of its calls alone."""
    graph = Builder()
    x, keep = graph.add("x", Input((None, 3))), graph.add("keep", Input((None,), "bool"))
    starts = [graph.add(f"start_{n}", Input((5,))) for n in range(4)]
    own, other = (starts, []) if states_first else ([], starts)
    mask = keep if masked else None
    y = graph.add("both", halves(), [x], states=own, mask=mask)
    return built(graph, [y, graph.add("again", halves(), [x], states=other, layer="both")])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
@pytest.mark.parametrize("states_first", [True, False])
@pytest.mark.parametrize("masked", [True, False])
def test_a_shared_layer_may_start_from_states_in_one_call(states_first, masked):
    source = called_twice(states_first, masked)
    xlstm.reconcile(source, "torch").check()
    torch.jit.script(xlstm.port(source, "torch"))


def test_state_dicts_have_the_names_of_the_halves():
    port = xlstm.port(CASES["gru_before-both-masked"], "torch")
    assert {name.split(".")[1] for name in port.state_dict()} == {"forward_layer", "backward_layer"}
