"""`diagnose` on recurrent cells that people write of `nn.Linear`."""

import re

import pytest
import torch
from cases import model
from torch import nn

import xlstm
from xlstm.ir.layers import GRU, LSTM, Dense

GATES = {LSTM: "ifgo", GRU: "rzn"}
OTHER = {LSTM: "ifog", GRU: "zrn"}
WORDS = {"i": "input_gate", "f": "forget_gate", "g": "cell_gate", "o": "output_gate"}


def linear(weight, bias=None):
    made = nn.Linear(*reversed(weight.shape), bias=bias is not None)
    with torch.no_grad():
        made.weight.copy_(weight)
        if bias is not None:
            made.bias.copy_(bias)
    return made


def fused(arrays, _gates):
    """One Linear for x and one for h."""
    w, u, b, d = arrays
    return {"wx": linear(w, b), "wh": linear(u, d if d.any() else None)}


def unnamed(arrays, gates):
    """The same by names that say nothing."""
    return dict(zip(("alpha", "beta"), fused(arrays, gates).values(), strict=True))


def apart(arrays, gates):
    """The same once for every gate."""
    made = {}
    for gate, w, u, b, d in zip(gates, *(array.chunk(len(gates)) for array in arrays), strict=True):
        made |= {f"W_{gate}": linear(w, b), f"U_{gate}": linear(u, d if d.any() else None)}
    return made


def joined(arrays, _gates):
    """One Linear of [x, h]."""
    w, u, b, _ = arrays
    return {"gates": linear(torch.cat([w, u], 1), b)}


def turned(arrays, _gates):
    """One Linear of [h, x]."""
    w, u, b, _ = arrays
    return {"gates": linear(torch.cat([u, w], 1), b)}


def words(arrays, gates):
    """A Linear of [x, h] for every gate."""
    w, u, b, _ = arrays
    rows = zip(gates, torch.cat([w, u], 1).chunk(len(gates)), b.chunk(len(gates)), strict=True)
    return {WORDS[gate]: linear(weight, bias) for gate, weight, bias in rows}


class Cell(nn.Module):
    """A layer of one cell: `held` is the order of the gates in its arrays, `read` in its code."""

    def __init__(self, kind, form, arrays, held, read):
        super().__init__()
        gates = GATES[kind]
        blocks = [[array.chunk(len(gates))[gates.index(g)] for g in held] for array in arrays]
        for name, module in form([torch.cat(rows) for rows in blocks], held).items():
            setattr(self, name, module)
        self.kind, self.form, self.read, self.names = kind, form, read, list(self._modules)

    def products(self, x, h):
        own = [getattr(self, name) for name in self.names]
        if self.form in (fused, unnamed):
            pairs = [
                layer(y).chunk(len(self.read), 1) for layer, y in zip(own, (x, h), strict=True)
            ]
        elif self.form is apart:
            pairs = [[layer(x) for layer in own[::2]], [layer(h) for layer in own[1::2]]]
        else:
            z = torch.cat([h, x] if self.form is turned else [x, h], 1)
            found = [layer(z) for layer in own] if len(own) > 1 else own[0](z).chunk(4, 1)
            pairs = [found, [0 * part for part in found]]
        return dict(zip(self.read, zip(*pairs, strict=True), strict=True))

    def forward(self, x):
        h = c = x.new_zeros(len(x), 4)
        found = []
        for t in range(x.shape[1]):
            z = self.products(x[:, t], h)
            if self.kind is LSTM:
                i, f, g, o = (sum(z[gate]) for gate in "ifgo")
                c = f.sigmoid() * c + i.sigmoid() * g.tanh()
                h = o.sigmoid() * c.tanh()
            else:
                r, u = (sum(z[gate]).sigmoid() for gate in "rz")
                h = (1 - u) * (z["n"][0] + r * z["n"][1]).tanh() + u * h
            found.append(h)
        return torch.stack(found, 1)


class Port(nn.Module):
    def __init__(self, truth, kind, form, held="", read=""):
        super().__init__()
        *layer, weight, bias = xlstm.port(truth, "torch").state_dict().values()
        held = held or GATES[kind]
        self.rnn = Cell(kind, form, layer, held, read or held)
        self.head = linear(weight, bias)

    def forward(self, x):
        return self.head(self.rnn(x))


def truth_of(kind, features=3):
    return model([kind(features, 4, return_sequences=True), Dense(4, 2)], (None, features))


def check_names(found, suspect):
    """Every tensor that a sentence names is one of the suspect's."""
    for finding in found.findings:
        named = re.findall(r"`(.*?)`", finding.text)
        assert {name.partition("[")[0] for name in named} <= suspect.state_dict().keys()


FORMS = [(LSTM, form) for form in (fused, apart, joined, turned, words)]
FORMS += [(GRU, fused), (GRU, apart)]
IDS = [f"{kind.__name__}-{form.__name__}" for kind, form in FORMS]


@pytest.mark.parametrize(("kind", "form"), FORMS, ids=IDS)
def test_a_right_cell_is_paired_and_equal(kind, form):
    truth = truth_of(kind)
    for held in (GATES[kind], OTHER[kind]):
        right = Port(truth, kind, form, held)
        for suspect in (right, right.state_dict()):
            found = xlstm.diagnose(truth, suspect)
            assert found.ok, str(found)
            assert "weights" in found.compared


@pytest.mark.parametrize(("kind", "form"), FORMS, ids=IDS)
def test_a_cell_that_reads_its_gates_in_another_order(kind, form):
    truth = truth_of(kind)
    wrong = Port(truth, kind, form, read=OTHER[kind])
    found = xlstm.diagnose(truth, wrong)
    assert found.causes == ("gate-order",)
    assert not found.unexplained
    held, read = (" ".join(orders[kind]) for orders in (GATES, OTHER))
    assert f"hold {held}; your code reads {read}." in found.findings[0].text
    check_names(found, wrong)


@pytest.mark.parametrize(("kind", "form"), FORMS, ids=IDS)
def test_a_bias_that_a_cell_lost(kind, form):
    truth = truth_of(kind)
    wrong = Port(truth, kind, form)
    with torch.no_grad():
        for name, parameter in wrong.rnn.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    for suspect in (wrong, wrong.state_dict()):
        found = xlstm.diagnose(truth, suspect)
        assert found.causes == ("lost-bias",)
        assert "`rnn." in found.findings[0].text
        check_names(found, wrong)


def test_one_tensor_of_a_cell_in_another_order():
    truth = truth_of(LSTM, 4)  # as many features as units: names alone tell the tensors apart
    wrong = Port(truth, LSTM, fused)
    with torch.no_grad():
        i, f, g, o = wrong.rnn.wh.weight.clone().chunk(4)
        wrong.rnn.wh.weight.copy_(torch.cat([i, f, o, g]))
    (finding,) = xlstm.diagnose(truth, wrong).findings
    assert finding.text == "Your `rnn.wh.weight` holds i f o g; its other tensors hold i f g o."
    assert finding.fix == "Reorder rows 9-12 and 13-16."


def test_names_and_shapes_that_prove_nothing_are_not_paired_and_not_made_up():
    truth = truth_of(LSTM, 4)
    assert xlstm.diagnose(truth, Port(truth, LSTM, unnamed)).ok
    wrong = Port(truth, LSTM, unnamed, read="ifog")
    found = xlstm.diagnose(truth, wrong)
    assert found.causes == ("gate-order",)
    text = found.findings[0].text
    assert text == (
        "The gates of your kernel, recurrent kernel and bias are in the order i f o g; "
        "a has i f g o."
    )
    left = " ".join(one.text for one in xlstm.diagnose(truth, wrong.state_dict()).unexplained)
    assert "rnn.alpha.weight" in left


def test_a_black_box_has_no_names():
    truth = truth_of(GRU)
    wrong = Port(truth, GRU, fused, read="zrn")
    found = xlstm.diagnose(truth, lambda x: wrong(torch.from_numpy(x).float()))
    assert found.causes == ("gate-order",)
    assert "`" not in found.findings[0].text
