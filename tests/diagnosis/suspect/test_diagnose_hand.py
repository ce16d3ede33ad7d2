"""`diagnose` on ports written by hand: cells in loops, one bias, masks left out or packed."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import xlstm
from xlstm.errors import FileError
from xlstm.ir.graph import Edge, chain
from xlstm.ir.layers import GRU, LSTM, Dense, Embedding, Masking
from xlstm.ir.source import Source

rng = np.random.default_rng(20)


def some(*shape):
    return rng.normal(0, 0.6, shape).astype(np.float32)


def masked():
    """Masking of -1, an LSTM of 4 units, a Dense of 2."""
    weights = {
        "lstm": {"kernel": some(4, 3, 4), "recurrent": some(4, 4, 4), "bias": some(1, 4, 4)},
        "dense": {"kernel": some(4, 2), "bias": some(2)},
    }
    layers = [("masking", Masking(-1.0), True), ("lstm", LSTM(3, 4), True)]
    layers += [("dense", Dense(4, 2), True)]
    return chain("m", layers, (5, 3), weights, Source("keras"))


def rows(array):
    """A hub tensor with gates as PyTorch has it, (4n, ...) in the order i f g o."""
    return torch.from_numpy(np.concatenate([gate.T for gate in array]))


class ByHand(nn.Module):
    """The port of `masked`, with an own cell of one bias, or PyTorch's layer and packing."""

    def __init__(self, model, packed=False):
        super().__init__()
        own, head = model.weights["lstm"], model.weights["dense"]
        kernel, recurrent, bias = own["kernel"], own["recurrent"], own["bias"][0]
        self.packed, self.head = packed, nn.Linear(4, 2)
        self.cell = nn.LSTM(3, 4, batch_first=True) if packed else nn.Module()
        end = "_l0" if packed else ""
        values = {f"weight_ih{end}": rows(kernel), f"weight_hh{end}": rows(recurrent)}
        values["bias_ih_l0" if packed else "bias"] = torch.from_numpy(bias.ravel())
        for name, value in values.items():
            setattr(self.cell, name, nn.Parameter(value))
        if packed:
            nn.init.zeros_(self.cell.bias_hh_l0)
        self.head.weight = nn.Parameter(torch.from_numpy(head["kernel"].T.copy()))
        self.head.bias = nn.Parameter(torch.from_numpy(head["bias"]))

    def forward(self, x):
        if self.packed:
            lengths = (x != -1).any(-1).sum(1).clamp(min=1)
            pack = nn.utils.rnn.pack_padded_sequence
            x = pack(x, lengths.cpu(), batch_first=True, enforce_sorted=False)
            return self.head(self.cell(x)[1][0][-1])
        h = c = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            cell = self.cell
            gates = x[:, t] @ cell.weight_ih.T + h @ cell.weight_hh.T + cell.bias
            i, f, g, o = gates.chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return self.head(h)


@pytest.mark.parametrize("packed", [False, True], ids=["left out", "packed"])
def test_masking_left_out_or_packed(packed):
    """The padding's own numbers are read, which Keras's Masking turns into zeros."""
    model = masked()
    found = xlstm.diagnose(model, ByHand(model, packed))
    assert found.causes == ("mask-ignored",)
    assert found.findings[0].layer == "masking"
    assert ("packed" in found.findings[0].text) == packed
    assert not found.unexplained


def test_packed_after_an_embedding():
    """A mask that comes from an embedding, packed."""
    weights = {
        "emb": {"table": some(7, 3)},
        "lstm": {"kernel": some(4, 3, 4), "recurrent": some(4, 4, 4), "bias": some(1, 4, 4)},
        "dense": {"kernel": some(4, 2), "bias": some(2)},
    }
    layers = [("emb", Embedding(7, 3, mask_zero=True), True), ("lstm", LSTM(3, 4), True)]
    layers += [("dense", Dense(4, 2), True)]
    model = chain("m", layers, (5,), weights, Source("keras"))
    mask = {"lstm": Edge("emb", 1)}
    nodes = tuple(replace(node, mask=mask.get(node.name)) for node in model.nodes)
    model = replace(model, nodes=nodes)
    table = torch.from_numpy(weights["emb"]["table"])
    port = ByHand(model, packed=True).double()

    def run(ids):
        ids = torch.from_numpy(ids).long()
        lengths = (ids != 0).sum(1).clamp(min=1)
        pack = nn.utils.rnn.pack_padded_sequence
        x = pack(table[ids].double(), lengths, batch_first=True, enforce_sorted=False)
        return port.head(port.cell(x)[1][0][-1]).detach().numpy()

    found = xlstm.diagnose(model, run)
    assert found.causes == ("mask-ignored",)
    assert "packed" in found.findings[0].text


def test_one_bias_of_a_cell_is_the_bias():
    """The arrays of a right port with one bias are a's, and are called as they are."""
    model = masked()
    state = ByHand(model).state_dict()
    assert xlstm.diagnose(model, state).ok
    state["cell.bias"] = state["cell.bias"].roll(4)
    found = xlstm.diagnose(model, state)
    assert "`cell.bias`" in found.findings[0].text


def test_altered_arrays_are_not_called_those_of_a():
    """Another mistake beside them hides neither that the arrays differ nor what they are called."""
    model = masked()
    port = ByHand(model)
    with torch.no_grad():
        port.cell.weight_hh.copy_(port.cell.weight_hh.T.clone().reshape(16, 4))
    found = xlstm.diagnose(model, port)
    assert set(found.causes) == {"reshaped", "mask-ignored"}
    assert not any("Your arrays are a's" in one.text for one in found.findings)
    assert any("`cell.weight_hh`" in one.text for one in found.findings)


def test_cells_are_called_by_their_own_names():
    """Two GRU cells: their names hold no layer's number."""
    weights = {
        name: {"kernel": some(3, 3, 3), "recurrent": some(3, 3, 3), "bias": some(2, 3, 3)}
        for name in ("one", "two")
    }
    layers = [(name, GRU(3, 3, return_sequences=True), True) for name in weights]
    model = chain("m", layers, (4, 3), weights, Source("keras"))
    state = {}
    for number, own in enumerate(weights.values()):
        turned = {name: np.roll(array, 1, axis=-3 if array.ndim > 2 and name != "bias" else -2)
                  for name, array in own.items()}  # fmt: skip
        state[f"cells.{number}.weight_ih"] = rows(turned["kernel"])
        state[f"cells.{number}.weight_hh"] = rows(turned["recurrent"])
        for side, name in enumerate(("bias_ih", "bias_hh")):
            state[f"cells.{number}.{name}"] = torch.from_numpy(turned["bias"][side].ravel())
    found = xlstm.diagnose(model, state)
    assert found.causes == ("gate-order",)
    assert "`cells.0.weight_ih`" in found.findings[0].text
    assert "`cells.1.weight_ih`" in found.findings[1].text


def test_inputs_of_other_shapes_are_named():
    """A model of other features is not one that gives no output."""
    head = {"dense": {"kernel": some(2, 2), "bias": some(2)}}
    other = chain("o", [("dense", Dense(2, 2), True)], (2,), head, Source("keras"))
    found = xlstm.diagnose(masked(), other)
    assert found.causes == ("inputs",)
    assert "(5, 3)" in found.findings[0].text
    assert "(2,)" in found.findings[0].text


def test_python_source_is_refused_with_the_way_out(tmp_path: Path):
    """No code of a file is run: the module is to be passed in Python."""
    path = tmp_path / "port.py"
    path.write_text("import torch\n")
    with pytest.raises(FileError, match=r"xlstm\.diagnose\(a, your_module\)"):
        xlstm.diagnose(masked(), path)
