"""`diagnose` on code that is wrong around or inside right weights, written as people write it."""

from dataclasses import replace

import pytest
import torch
from cases import model
from torch import nn

import xlstm
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Activation,
    Bidirectional,
    Dense,
    Masking,
    Softmax,
    TimeDistributed,
)

SEQUENCE = {"return_sequences": True}


def both(half):
    return Bidirectional(half, replace(half, go_backwards=True))


class Code(nn.Module):
    """Some modules, which take a truth's arrays in order, and a function of them."""

    def __init__(self, truth, run, traced=False, **modules):
        super().__init__()
        self.run, self.traced = run, traced
        for name, module in modules.items():
            setattr(self, name, module)
        arrays = xlstm.port(truth, "torch").state_dict().values()
        for own, array in zip(self.state_dict().values(), arrays, strict=True):
            own.copy_(array)

    def forward(self, x):
        if not self.traced and x.sum() > 1e30:  # a decision on data, which torch.fx cannot trace
            return x
        return self.run(self, x)


def lstm(**options):
    return nn.LSTM(3, 4, batch_first=True, **options)


HEADS = {
    "in TimeDistributed": [TimeDistributed(Dense(4, 5, "softmax"))],
    "of a Dense": [Dense(4, 5, "softmax")],
    "Activation": [Dense(4, 5), Activation("softmax")],
    "Softmax": [Dense(4, 5), Softmax()],
    "Softmax in TimeDistributed": [Dense(4, 5), TimeDistributed(Softmax())],
    "logarithm": [Dense(4, 5, "log_softmax")],
}


@pytest.mark.parametrize("head", HEADS)
def test_the_axis_of_a_softmax(head):
    """Softmax over the batch or over time is told from softmax over the units."""
    truth = model([LSTM(3, 4, **SEQUENCE), *HEADS[head]], (None, 3))
    soft = torch.log_softmax if head == "logarithm" else torch.softmax
    for axis, words in enumerate(("axis 0, the batch", "axis 1, time", "")):

        def run(m, x, axis=axis):
            return soft(m.head(m.lstm(x)[0]), axis)

        code = Code(truth, run, traced=axis < 1, lstm=lstm(), head=nn.Linear(4, 5))
        found = xlstm.diagnose(truth, code)
        assert found.causes == (("softmax-axis",) if words else ())
        assert not found.unexplained
        assert not words or words in found.findings[0].text
        assert not words or "dim=-1" in found.findings[0].fix


def test_a_softmax_over_the_samples_of_a_batch():
    truth = model([LSTM(3, 4), Dense(4, 5, "softmax")], (None, 3))
    modules = {"lstm": lstm(), "head": nn.Linear(4, 5)}
    code = Code(truth, lambda m, x: m.head(m.lstm(x)[0][:, -1]).softmax(0), **modules)
    (finding,) = xlstm.diagnose(truth, code).findings
    assert (finding.cause, finding.layer) == ("softmax-axis", "dense_1")


NATIVE = {LSTM: nn.LSTM, GRU: nn.GRU}


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "not traced"])
@pytest.mark.parametrize("kind", NATIVE)
def test_an_activation_applied_to_the_output_of_native_layers(kind, traced):
    """relu(nn.LSTM(x)) for relu inside the cell, in every layer of a stack."""
    truth = model([kind(3, 4, "relu", **SEQUENCE), kind(4, 4, "relu"), Dense(4, 2)], (None, 3))

    def run(m, x):
        return m.head(torch.relu(m.two(torch.relu(m.one(x)[0]))[0][:, -1]))

    one, two = (NATIVE[kind](m, 4, batch_first=True) for m in (3, 4))
    code = Code(truth, run, traced, one=one, two=two, head=nn.Linear(4, 2))
    found = xlstm.diagnose(truth, code)
    assert [one.cause for one in found.findings] == ["activation-outside"] * 2
    assert not found.unexplained
    assert "relu is applied" in found.findings[0].text.lower()


def test_gates_and_activation_of_a_native_layer_both_other_ones():
    truth = model([LSTM(3, 4, "relu", "hard_sigmoid_keras2"), Dense(4, 2)], (None, 3))
    modules = {"lstm": lstm(), "head": nn.Linear(4, 2)}
    code = Code(truth, lambda m, x: m.head(m.lstm(x)[0][:, -1].relu()), **modules)
    (finding,) = xlstm.diagnose(truth, code).findings
    assert finding.cause == "activation-outside"
    assert "its gates are sigmoid" in finding.text


def test_advice_names_what_a_native_layer_has_no_option_for():
    """nn.GRU has no reset_after and no other gates: advice to set them leads nowhere."""
    truth = model([GRU(3, 4, "tanh", "hard_sigmoid_keras2", reset_after=False)], (None, 3))
    code = Code(truth, lambda m, x: m.gru(x)[0][:, -1], gru=nn.GRU(3, 4, batch_first=True))
    found = xlstm.diagnose(truth, code)
    assert found.causes == ("hard-sigmoid", "reset-after")
    want = "nn.GRU has no option for it. `xlstm port A --to torch -o FOLDER` writes a class"
    assert [one.fix.startswith(want) for one in found.findings] == [True, True]


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "not traced"])
@pytest.mark.parametrize("name", ["relu", "tanh"])
def test_one_more_activation_after_a_recurrent_layer(name, traced):
    truth = model([LSTM(3, 4, **SEQUENCE), LSTM(4, 4), Dense(4, 2)], (None, 3))

    def run(m, x):
        return m.head(getattr(torch, name)(m.two(m.one(x)[0])[0][:, -1]))

    modules = {"one": lstm(), "two": nn.LSTM(4, 4, batch_first=True), "head": nn.Linear(4, 2)}
    found = xlstm.diagnose(truth, Code(truth, run, traced, **modules))
    assert [(one.cause, one.layer) for one in found.findings] == [("extra-activation", "lstm_1")]
    assert not found.unexplained


def test_softmax_of_softmax():
    truth = model([Dense(3, 4, "softmax")], (3,))
    code = Code(truth, lambda m, x: m.head(x).softmax(-1).softmax(-1), head=nn.Linear(3, 4))
    assert xlstm.diagnose(truth, code).causes == ("extra-activation",)


def loop(cell, x, *, carry=(True, True), late=False, mask=None, back=False):
    """A cell step by step; `carry` says which states are handed on."""
    zeros = x.new_zeros(len(x), cell.hidden_size)
    lone = isinstance(cell, nn.GRUCell)
    h = c = zeros
    found = [zeros] * x.shape[1]
    for t in range(x.shape[1])[:: -1 if back else 1]:
        before = h
        h, c = (cell(x[:, t], h), c) if lone else cell(x[:, t], (h, c))
        if mask is not None:
            h = torch.where(mask[:, t, None], h, before)
        found[t] = before if late else h
        h, c = (s if keep else zeros for s, keep in zip((h, c), carry, strict=True))
    return torch.stack(found, 1)


CELLS = {LSTM: nn.LSTMCell, GRU: nn.GRUCell}
LOOPS = {
    "right": ({}, ()),
    "no state": ({"carry": (False, False)}, ("state-lost",)),
    "h alone": ({"carry": (True, False)}, ("state-lost",)),
    "c alone": ({"carry": (False, True)}, ("state-lost",)),
    "late": ({"late": True}, ("shifted-output",)),
}


@pytest.mark.parametrize("name", LOOPS)
@pytest.mark.parametrize("kind", CELLS)
def test_a_loop_over_a_cell(kind, name):
    options, causes = LOOPS[name]
    causes = () if kind is GRU and name == "h alone" else causes  # it has no c
    truth = model([kind(3, 4, **SEQUENCE), Dense(4, 2)], (None, 3))
    modules = {"cell": CELLS[kind](3, 4), "head": nn.Linear(4, 2)}
    code = Code(truth, lambda m, x: m.head(loop(m.cell, x, **options)), **modules)
    found = xlstm.diagnose(truth, code)
    assert found.causes == causes
    assert not found.unexplained


def test_which_state_a_loop_does_not_hand_on():
    truth = model([LSTM(3, 4), Dense(4, 2)], (None, 3))
    modules = {"cell": nn.LSTMCell(3, 4), "head": nn.Linear(4, 2)}
    code = Code(truth, lambda m, x: m.head(loop(m.cell, x, carry=(True, False))[:, -1]), **modules)
    (finding,) = xlstm.diagnose(truth, code).findings
    assert "carries h and not c" in finding.text


@pytest.mark.parametrize("steps", [1, -1])
def test_outputs_that_were_rolled(steps):
    truth = model([LSTM(3, 4, **SEQUENCE), Dense(4, 2)], (None, 3))
    modules = {"lstm": lstm(), "head": nn.Linear(4, 2)}
    code = Code(truth, lambda m, x: m.head(m.lstm(x)[0].roll(steps, 1)), **modules)
    found = xlstm.diagnose(truth, code)
    assert found.causes == ("shifted-output",)
    assert ("late" if steps > 0 else "early") in found.findings[0].text


MASKED = model([Masking(0.0), both(GRU(3, 4, **SEQUENCE)), Dense(8, 2)], (None, 3))


@pytest.mark.parametrize(
    "obeyed", [(True, True), (True, False), (False, True)], ids=["both", "forward", "backward"]
)
def test_a_mask_that_one_half_obeys(obeyed):
    def run(m, x):
        mask = (x != 0).any(-1)
        a = loop(m.a, x, mask=mask if obeyed[0] else None)
        b = loop(m.b, x, mask=mask if obeyed[1] else None, back=True)
        return m.head(torch.cat([a, b], -1))

    cells = {"a": nn.GRUCell(3, 4), "b": nn.GRUCell(3, 4)}
    found = xlstm.diagnose(MASKED, Code(MASKED, run, **cells, head=nn.Linear(8, 2)))
    assert found.causes == (() if all(obeyed) else ("mask-ignored",))
    assert not found.unexplained
    if not all(obeyed):
        half = "backward" if obeyed[0] else "forward"
        assert f"Your {half} half does not obey the mask" in found.findings[0].text


@pytest.mark.parametrize("traced", [True, False], ids=["traced", "not traced"])
@pytest.mark.parametrize("first", [(True, False), (False, True)], ids=["backward", "forward"])
def test_one_half_without_batch_first(first, traced):
    """The backward half as an nn.GRU of its own, on the sequence turned round."""
    truth = model([both(GRU(3, 4, **SEQUENCE)), Dense(8, 2)], (None, 3))

    def run(m, x):
        return m.head(torch.cat([m.a(x)[0], m.b(x.flip(1))[0].flip(1)], -1))

    a, b = (nn.GRU(3, 4, batch_first=one) for one in first)
    found = xlstm.diagnose(truth, Code(truth, run, traced, a=a, b=b, head=nn.Linear(8, 2)))
    assert found.causes == ("batch-first",)
    assert f"Your {'backward' if first[0] else 'forward'} half" in found.findings[0].text


def test_a_lone_backward_layer_without_batch_first():
    truth = model([LSTM(3, 4, go_backwards=True), Dense(4, 2)], (None, 3))
    modules = {"lstm": nn.LSTM(3, 4), "head": nn.Linear(4, 2)}
    code = Code(truth, lambda m, x: m.head(m.lstm(x.flip(1))[0][:, -1]), **modules)
    assert xlstm.diagnose(truth, code).causes == ("batch-first",)


def test_an_activation_between_layers_beside_another_mistake():
    """What the first layer gives is right, and what the second one is given is not."""
    truth = model([LSTM(3, 4, **SEQUENCE), LSTM(4, 4), Dense(4, 2)], (None, 3))

    def run(m, x):
        return m.head(m.two(m.one(x)[0].relu())[0][:, 0])

    modules = {"one": lstm(), "two": nn.LSTM(4, 4, batch_first=True), "head": nn.Linear(4, 2)}
    found = xlstm.diagnose(truth, Code(truth, run, **modules))
    wanted = [("extra-activation", "lstm_0"), ("first-step", "lstm_1")]
    assert [(one.cause, one.layer) for one in found.findings] == wanted
    assert not found.unexplained


def test_a_layer_with_its_activation_outside_before_one_that_has_another():
    truth = model([GRU(3, 4, "relu", **SEQUENCE), GRU(4, 4, "relu"), Dense(4, 2)], (None, 3))

    def run(m, x):
        return m.head(m.two(m.one(x)[0].relu())[0][:, -1])

    one, two = (nn.GRU(features, 4, batch_first=True) for features in (3, 4))
    code = Code(truth, run, one=one, two=two, head=nn.Linear(4, 2))
    found = xlstm.diagnose(truth, code)
    wanted = [("activation-outside", "gru_0"), ("activation", "gru_1")]
    assert [(one.cause, one.layer) for one in found.findings] == wanted
