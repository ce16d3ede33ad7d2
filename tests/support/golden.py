"""Three models whose emitted source and tests are kept as text: diffs show a change of style.

`python tests/support/golden.py` writes the texts anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from cases import built

from xlstm.frameworks import registry
from xlstm.frameworks.port_tests import PortTests
from xlstm.handover.golden import golden_of
from xlstm.ir.graph import Builder, Edge, Model
from xlstm.ir.layers import (
    LSTM,
    Bidirectional,
    Concatenate,
    Conv,
    Dense,
    Dropout,
    Embedding,
    Input,
    Pool,
)
from xlstm.ir.source import Source

FOLDER = Path(__file__).parents[1] / "data" / "golden"
"""Where the texts lie, one for each model and framework."""

FOLDER_OF_TESTS = FOLDER.with_name("golden_tests")
"""Folder of the texts of their tests; pytest looks for no tests there."""


def simple() -> Model:
    """A chain of one LSTM and a Dense layer."""
    graph = Builder()
    x = graph.add("passengers", Input((None, 1)))
    x = graph.add("lstm", LSTM(1, 20), [x])
    return built(graph, [graph.add("forecast", Dense(20, 1), [x])])


def seq2seq() -> Model:
    """A decoder whose states start where the encoder's end; its own last states are outputs."""
    graph = Builder()
    english = graph.add("english", Input((None, 71)))
    french = graph.add("french", Input((None, 93)))
    graph.add("encoder", LSTM(71, 64, return_state=True), [english])
    spec = LSTM(93, 64, return_sequences=True, return_state=True)
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    x = graph.add("decoder", spec, [french], states=states)
    characters = graph.add("characters", Dense(64, 93, "softmax"), [x])
    return built(graph, [characters, Edge("decoder", 1), Edge("decoder", 2)])


def cnn_bilstm() -> Model:
    """Padded words read in both directions, beside a curve that a convolution reads first."""
    graph = Builder()
    words, curve = graph.add("words", Input((40,))), graph.add("curve", Input((128, 2)))
    x = graph.add("embedding", Embedding(500, 16, mask_zero=True), [words])
    half = LSTM(16, 24)
    both = Bidirectional(half, replace(half, go_backwards=True))
    read = graph.add("reader", both, [x], mask=Edge("embedding", 1))
    conv = Conv(2, 32, (5,), "relu", strides=(1,), dilation=(1,), padding="same")
    x = graph.add("conv", conv, [curve])
    x = graph.add("pool", Pool("max", (4,), (4,)), [x])
    half = LSTM(32, 24, return_sequences=True)
    x = graph.add("bilstm", Bidirectional(half, replace(half, go_backwards=True)), [x])
    x = graph.add("last", LSTM(48, 12), [graph.add("dropout", Dropout(0.3), [x])])
    x = graph.add("joined", Concatenate(), [read, x])
    return built(graph, [graph.add("label", Dense(60, 1, "sigmoid"), [x])])


MODELS = (simple, seq2seq, cnn_bilstm)


def texts() -> Iterator[tuple[Path, str]]:
    """Every kept file, and the text that is emitted now."""
    for make in MODELS:
        model = replace(make(), name=make.__name__, source=Source("keras", "3.15.1"))
        for name in registry.frameworks():
            adapter = registry.adapter(name)
            yield FOLDER / f"{model.name}.{name}.py", adapter.emit(model)
            golden = golden_of(model, adapter)
            tests = PortTests(model, golden.outputs, golden.dtypes, golden.alone, golden.parts)
            yield FOLDER_OF_TESTS / f"{model.name}.{name}.py", adapter.emit_tests(tests)


if __name__ == "__main__":
    for path, text in texts():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
