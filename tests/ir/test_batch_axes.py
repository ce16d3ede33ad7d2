"""Sources whose batch is not the first axis: ports are batch first, and say so loudly."""

import json
import sys
import warnings
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from refusing import refused
from torch import nn

import xlstm
from xlstm.errors import AxesWarning, FileError
from xlstm.frameworks import registry
from xlstm.ir.batch_axes import axes_line
from xlstm.ir.graph import Edge
from xlstm.ir.serialize import from_json, to_json
from xlstm.porting.save import report_of


class Net(nn.Module):
    """A recurrent layer and what a test makes of its output."""

    def __init__(self, take, rnn=None, before=None):
        super().__init__()
        self.before = before or nn.Identity()
        self.rnn = rnn or nn.LSTM(2, 4)
        self.head = nn.Linear(8 if self.rnn.bidirectional else 4, 3)
        self.take = take

    def forward(self, x):
        y, state = self.rnn(self.before(x))
        return self.take(self, y, state)


def whole(m, y, _state):
    return m.head(y)


FIRST = {"batch_first": True}
LATE = {
    "whole": (lambda: Net(whole), 1, 1),
    "last": (lambda: Net(lambda m, y, _: m.head(y[-1])), 1, 0),
    "both-stacked": (lambda: Net(whole, nn.GRU(2, 4, 2, bidirectional=True)), 1, 1),
    "given-back": (lambda: Net(lambda m, y, _: m.head(y).transpose(0, 1)), 1, 0),
    "turned": (lambda: Net(lambda m, y, _: m.head(y).transpose(0, 1), nn.GRU(2, 4, **FIRST)), 0, 1),
    "ids": (lambda: Net(whole, before=nn.Embedding(5, 2)), 1, 1),
    "bare": (lambda: nn.RNN(2, 4), 1, 1),
    "plain": (lambda: Net(whole, nn.LSTM(2, 4, **FIRST)), 0, 0),
    "plain-bare": (lambda: nn.LSTM(2, 4, bidirectional=True, **FIRST), 0, 0),
}
"""Module, and the axis that is the batch of its input and of its output."""


def made(name):
    torch.manual_seed(0)
    return LATE[name][0]().eval()


def loud(make):
    """The result of a call, and the warnings of axes that it gave."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        found = make()
    return found, [str(w.message) for w in heard if w.category is AxesWarning]


def first(found):
    return found[0] if isinstance(found, tuple) else found


@pytest.mark.parametrize("name", LATE)
def test_a_port_is_batch_first_and_warns_of_exactly_the_axes_that_were_not(name):
    module, (_, before, after) = made(name), LATE[name]
    port, heard = loud(lambda: xlstm.port(module, "torch"))
    x = torch.randn(3, 5, 2)
    x = (x[..., 0] > 0).long() if name == "ids" else x
    with torch.inference_mode():
        wanted = first(module(x.movedim(0, before))).movedim(after, 0)
        assert torch.allclose(first(port(x)), wanted, atol=1e-6)
    read = xlstm.load(module)
    assert [axis for *_, axis in read.source.input_axes] == [before] * bool(before)
    assert [axis for *_, axis in read.source.output_axes] == [after] * bool(after)
    assert len(heard) == (before + after > 0)
    assert bool(axes_line(read)) == (before + after > 0)


def test_documents_of_the_port_and_reports_say_it_and_a_port_of_the_port_does_not(tmp_path):
    module = made("whole")
    model = xlstm.load(module)
    line = axes_line(model)
    assert "takes (time, batch, 2) and gives (time, batch, 3)" in line
    assert "take (batch, time, 2) and give (batch, time, 3)" in line
    port, heard = loud(lambda: xlstm.port(module, "torch"))
    assert heard == [f"Net: {line}"]
    for text in (type(port).__doc__, sys.modules[type(port).__module__].__doc__):
        assert "(time, batch, 2)" in text
    report = xlstm.reconcile(module, "torch")
    assert report.to_json()["warnings"] == [line]
    assert line[:60] in str(report)
    folder = tmp_path / "port"
    _, heard = loud(lambda: xlstm.save(module, folder, "torch"))
    assert heard == [f"Net: {line}"]
    assert json.loads((folder / "report.json").read_text())["warnings"] == [line]
    again = (port, folder, xlstm.load(folder))
    assert not any(loud(lambda own=own: xlstm.port(own, "torch"))[1] for own in again)
    assert xlstm.proof.verify_folder(folder, ["torch"]).ok


@pytest.mark.parametrize("target", ["torch", "nnx", "linen", "keras"])
def test_every_target_says_it_in_its_source(target):
    for name in ("whole", "bare"):
        adapter = registry.adapter(target)
        text = adapter.emit(xlstm.load(made(name)))
        assert "(time, batch, 2)" in text
        assert "The same call gives other numbers" in text
        assert len(report_of(xlstm.load(made(name)), adapter)["warnings"]) == 1


def test_a_flax_wrapper_with_time_first_says_it():
    module = nnx.RNN(nnx.GRUCell(2, 4, rngs=nnx.Rngs(0)), time_major=True, return_carry=True)
    port, heard = loud(lambda: xlstm.port(module, "nnx"))
    assert len(heard) == 1
    x = jax.random.normal(jax.random.key(0), (3, 5, 2))
    carry, y = module(jnp.swapaxes(x, 0, 1))
    found, state = port(x)
    assert np.allclose(found, jnp.swapaxes(y, 0, 1), atol=1e-6)
    assert np.allclose(state, carry, atol=1e-6)
    assert [axis for *_, axis in xlstm.load(module).source.output_axes] == [1]


def test_a_part_of_a_model_has_the_axes_of_its_own_ends():
    model = xlstm.load(made("whole"))
    encoder = replace(model, outputs=(Edge("rnn"),))
    assert "takes (time, batch, 2). Ports" in axes_line(encoder)
    assert axes_line(replace(encoder, source=replace(model.source, input_axes=()))) == ""


@pytest.mark.parametrize("axes", [[["x"]], ["x"], [["x", 0, "1"]], 3, [["x", 0, 1, 2]]])
def test_axes_of_a_damaged_graph_are_refused(axes):
    graph = json.loads(json.dumps(to_json(xlstm.load(made("whole")))))
    assert from_json(graph, {}, "graph").source == xlstm.load(made("whole")).source
    graph["source"]["input_axes"] = axes
    refused(FileError, lambda: from_json(graph, {}, "graph"), "graph", "port the model again")
