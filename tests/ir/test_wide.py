"""Layers of very many inputs: no signs between them that Python's parser would nest too deeply."""

import numpy as np
import pytest
from xlstm.converters.codegen.source import WIDEST

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Model
from xlstm.ir.layers import Concatenate, Input, Merge
from xlstm.ir.source import Source

COUNT = 300
HOWS = ["add", "average", "multiply", "maximum", "minimum"]


def merged(how, count, name="x"):
    graph = Builder()
    edges = [graph.add(name, Input((3,)))] + [
        graph.add(f"x{n}", Input((3,))) for n in range(1, count)
    ]
    y = graph.add("y", Concatenate() if how == "concatenate" else Merge(how), edges)
    names = tuple(edge.node for edge in edges)
    return Model("wide", graph.nodes, names, (y,), {}, Source("keras", "3.15.1"))


@pytest.mark.parametrize("how", [*HOWS, "concatenate"])
@pytest.mark.parametrize("to", ["torch", "nnx", "linen", "keras"])
def test_source_of_many_inputs_is_python(how, to):
    model = merged(how, 4000)
    compile(registry.adapter(to).emit(model), "model.py", "exec")


@pytest.mark.parametrize("how", HOWS)
def test_many_inputs_are_merged_in_their_order(how):
    model = merged(how, COUNT, name="reduce")  # as the function that emitted code imports
    xs = [*np.random.default_rng(COUNT).uniform(0.5, 1.5, (COUNT, 2, 3)).astype("float32")]
    xlstm.reconcile(model, ["torch", "nnx"], xs).check()


@pytest.mark.parametrize("how", HOWS)
def test_few_inputs_have_signs_between_them(how):
    for count in (WIDEST, WIDEST + 1):
        text = registry.adapter("torch").emit(merged(how, count))
        _, _, own = text.partition("class Model")
        assert ("reduce(" in own) == (count > WIDEST)
