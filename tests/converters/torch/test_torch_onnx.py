"""Ports to PyTorch, exported to ONNX by both exporters of torch.onnx, run in onnxruntime.

Every export is traced with one batch and one kind of mask, and run with other batches and masks;
its outputs must be those of the port itself. `OWN` holds every class and function of the torch
templates, and a test fails where a template has one that no case here writes.
"""

import ast
import io
import re
import warnings
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cases import CASES, built
from cases_conv_lstm import convolved
from cases_layers import CASES_LAYERS, MASKED_MEANS, sliding
from covering import cover
from xlstm.converters.codegen.source import template_sources
from xlstm.converters.torch.activations import FUNCTIONS

import xlstm
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import (
    GRU,
    LSTM,
    Activation,
    Attention,
    Bidirectional,
    Conv,
    Input,
    Normalization,
    PRelu,
    SimpleRNN,
    TrainingOnly,
)
from xlstm.verification import inputs

STEPS, TRACED = 3, 3
"""Steps of a sequence, which an export fixes, and rows of the batch that is traced."""

RUN = {1: 3, 7: 1}
"""Rows of a batch -> which kind of mask its first row has; the traced batch starts with kind 0."""


def tensors(source, batch, first):
    """Inputs of a model: a batch whose rows are masked in turn, from kind `first` on."""
    recipe = inputs.Recipe(STEPS, seed=batch, batch=batch, first=first)
    arrays = inputs.make_inputs(source, recipe)
    return [torch.from_numpy(x if x.dtype == bool else x.astype(np.float32)) for x in arrays]


def flat(outputs):
    """Every array of the outputs, those of a state among them, in the order of an export."""
    if isinstance(outputs, torch.Tensor):
        return [outputs.numpy()]
    several = outputs.values() if isinstance(outputs, dict) else outputs
    return [array for one in several for array in flat(one)]


def by_torchscript(port, arguments, names):
    """The export of a trace."""
    file, axes = io.BytesIO(), {name: {0: "batch"} for name in names}
    options = {"input_names": names, "dynamic_axes": axes}
    torch.onnx.export(port, tuple(arguments), file, dynamo=False, **options)
    return file.getvalue()


def by_dynamo(port, arguments, names):
    """The export of a torch.export program."""
    shapes = tuple({0: torch.export.Dim("batch")} for _ in arguments)
    options = {"input_names": names, "dynamic_shapes": shapes, "verbose": False}
    torch.compiler.reset()  # torch 2.13: see `exported`
    made = torch.onnx.export(port, tuple(arguments), dynamo=True, **options)
    return made.model_proto.SerializeToString()


def check_export(source, export):
    """An export of a model's port gives what the port gives, for other batches and masks."""
    port = xlstm.port(source, "torch")
    names = [f"input_{number}" for number in range(len(source.inputs))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters warn of themselves, and of checks of shapes
        made = export(port, tensors(source, TRACED, 0), names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    read = {node.name for node in session.get_inputs()}
    for batch, first in RUN.items():
        arguments = tensors(source, batch, first)
        with torch.inference_mode():
            want = flat(port(*arguments))
        pairs = zip(names, arguments, strict=True)
        got = session.run(None, {name: x.numpy() for name, x in pairs if name in read})
        for mine, own in zip(got, want, strict=True):
            room = 1e-5 * max(1.0, np.abs(np.nan_to_num(own)).max(initial=0.0))
            np.testing.assert_allclose(mine, own, rtol=0, atol=room)


REFUSED = {
    "relu-threshold": "operator threshold, non-zero threshold",
    "function-trunc": "operator 'aten::trunc' to ONNX",
    "function-expm1": "operator 'aten::expm1' to ONNX",
    "cumprod": "operator 'aten::cumprod' to ONNX",
    **dict.fromkeys(
        ("rms_norm", "rms_norm-epsilon", "timed-rms_norm"), "operator 'aten::rms_norm' to ONNX"
    ),
}
"""Case -> why the TorchScript exporter of torch 2.13 refuses it; no cell of ours is among them."""

EVERY = {**CASES, **CASES_LAYERS, **MASKED_MEANS}


@pytest.mark.parametrize(
    "case", dict.fromkeys([*cover(EVERY, registry.adapter("torch").emit), *REFUSED])
)
def test_torchscript_exports_run_as_the_port(case):
    if case not in REFUSED:
        check_export(EVERY[case], by_torchscript)
        return
    with pytest.raises(torch.onnx.errors.OnnxExporterError, match=re.escape(REFUSED[case])):
        check_export(EVERY[case], by_torchscript)


SEQUENCE = {"return_sequences": True}
CELLS = {
    "lstm": LSTM(3, 5, "relu", "hard_sigmoid_keras2", return_sequences=True),
    "gru": GRU(3, 5, "softsign", return_sequences=True, return_state=True),
    "gru_before": GRU(3, 5, "relu", reset_after=False, return_sequences=True),
    "rnn": SimpleRNN(3, 5, "sigmoid"),
    "both": Bidirectional(LSTM(3, 5, "relu", **SEQUENCE), GRU(3, 5, go_backwards=True, **SEQUENCE)),
}


NATIVE = {
    "lstm": LSTM(3, 5, return_sequences=True, zero_output_for_mask=True),
    "gru": GRU(3, 5, return_sequences=True, go_backwards=True),
    "rnn": SimpleRNN(3, 5, return_sequences=True, use_bias=False),
    "both": Bidirectional(LSTM(3, 5), LSTM(3, 5, go_backwards=True)),
}


def cells(specs, *, masked=False):
    """Layers on the same input."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    keep = graph.add("keep", Input((None,), "bool")) if masked else None
    return built(graph, [graph.add(name, spec, [x], mask=keep) for name, spec in specs.items()])


def held_cells():
    """Masked LSTMs whose last cell states are read: a native one, with and without a bias."""
    graph = Builder()
    x, keep = graph.add("x", Input((None, 3))), graph.add("keep", Input((None,), "bool"))
    options = {"return_sequences": True, "return_state": True}
    graph.add("first", LSTM(3, 5, **options), [x], mask=keep)
    states = [Edge("first", 1), Edge("first", 2)]
    second = LSTM(5, 5, use_bias=False, **options)
    graph.add("second", second, [Edge("first")], mask=keep, states=states)
    return built(graph, [Edge(name, n) for name in ("first", "second") for n in range(3)])


def stateful():
    """An own cell and a native one whose states outlive the call, the first one masked."""
    graph = Builder()
    x = graph.add("x", Input((None, 3), batch=TRACED))
    keep = graph.add("keep", Input((None,), "bool", batch=TRACED))
    y = graph.add("first", replace(CELLS["lstm"], stateful=True), [x], mask=keep)
    return built(graph, [graph.add("second", GRU(5, 4, stateful=True), [y])])


def states():
    """Cells that start from states which the caller gives."""
    graph = Builder()
    x, keep = graph.add("x", Input((None, 3))), graph.add("keep", Input((None,), "bool"))
    found = []
    for name in ("lstm", "rnn"):
        spec = CELLS[name]
        shapes = enumerate(spec.state_shapes())
        starts = [graph.add(f"{name}_{n}", Input(shape)) for n, shape in shapes]
        found.append(graph.add(name, spec, [x], mask=keep, states=starts))
    return built(graph, found)


def convolutions(*space, stateful=False):
    """A ConvLSTM of every kind over some axes."""
    graph = Builder()
    batch = TRACED if stateful else None
    x = graph.add("x", Input((STEPS, *space, 2), batch=batch))
    keep = graph.add("keep", Input((STEPS,), "bool", batch=batch))
    spec = convolved(*space, padding="same", stateful=stateful)
    plain = graph.add("plain", replace(spec, strides=(2,) * len(space)), [x])
    graph.add("kept", replace(spec, return_state=True), [x], mask=keep)
    masked = graph.add("masked", spec, [x], mask=keep)
    return built(graph, [plain, masked, Edge("kept", 0), Edge("kept", 2)])


def activations():
    """Every activation, those that PyTorch has as well."""
    graph = Builder()
    x, steps = graph.add("x", Input((6,))), graph.add("steps", Input((None, 3)))
    found = [graph.add(f"{name}_", Activation(name), [x]) for name in FUNCTIONS]
    for name in ("linear", "softmax", "log_softmax"):  # functions where a cell takes them
        found.append(graph.add(f"cell_{name}", SimpleRNN(3, 4, name), [steps]))
    return built(graph, found)


def around():
    """The own layers around recurrent ones, and a convolution that pads itself."""
    graph = Builder()
    x = graph.add("x", Input((None, 2)))
    y = graph.add("y", Input((3, 2)))
    conv = sliding(Conv, 2, 2, (3,), padding="same", strides=(2,))
    found = [graph.add("conv", conv, [x]), graph.add("slopes", PRelu((3, 2)), [y])]
    for number, invert in enumerate((False, True)):
        found.append(graph.add(f"normal_{number}", Normalization(2, invert), [y]))
    for kind in ("GaussianNoise", "GaussianDropout"):
        found.append(graph.add(kind, TrainingOnly(kind, 0.1), [y]))
    return built(graph, found)


def scores():
    """Attention with every kind of learnt score, its masks inputs."""
    graph = Builder()
    x = [graph.add("query", Input((4, 3))), graph.add("value", Input((7, 3)))]
    x += [graph.add("asked", Input((4,), "bool")), graph.add("seen", Input((7,), "bool"))]
    kinds = [(how, True) for how in ("dot", "concat", "additive")] + [("concat", False)]
    found = []
    for how, scaled in kinds:
        name = f"{how}_{scaled}".lower()
        found.append(graph.add(name, Attention(3, how, scaled, "qv"), x))
    return built(graph, found)


HEADS = "heads heads-masks heads-zeros heads-weights heads-weights-lowered heads-weights-zeros"

OWN = {
    "plain": cells(CELLS),
    "masked": cells(CELLS, masked=True),
    "masked-native": cells(NATIVE, masked=True),
    "held_cells": held_cells(),
    "stateful": stateful(),
    "states": states(),
    "conv_lstm1d": convolutions(5),
    "conv_lstm2d": convolutions(3, 4),
    "conv_lstm3d": convolutions(2, 3, 2),
    "conv_lstm-stateful": convolutions(5, stateful=True),
    "activations": activations(),
    "around": around(),
    "scores": scores(),
    **{name: CASES_LAYERS[name] for name in HEADS.split()},
}
"""Cases that between them hold all that the torch templates have."""

TEMPLATES = [
    f"torch/templates/{name}.py"
    for name in ("recurrent", "masks", "layers", "attention", "activations")
]


def defined(source):
    """Names of the classes and functions of an emitted module."""
    kinds = (ast.ClassDef, ast.FunctionDef)
    tree = ast.parse(registry.adapter("torch").emit(source))
    return {item.name for item in tree.body if isinstance(item, kinds)}


def test_every_piece_of_the_templates_is_exported():
    there = set().union(*map(defined, OWN.values()))
    for rank in (1, 2, 3):
        assert {f"ConvLSTM{rank}d", f"MaskedConvLSTM{rank}d"} <= there
    there = {re.sub(r"(ConvLSTM)\dd$", r"\1", name) for name in there}
    listed = [name for file in TEMPLATES for name in template_sources(file)]
    assert {*listed} <= there


@pytest.mark.parametrize("export", [by_torchscript, by_dynamo])
@pytest.mark.parametrize("case", OWN)
def test_own_cells_run_in_onnxruntime(case, export):
    check_export(OWN[case], export)


@pytest.mark.parametrize("export", [by_torchscript, by_dynamo])
def test_masked_native_layers_are_single_nodes(export):
    """nn.LSTM and nn.GRU stay one node of ONNX each, whatever is gathered around them."""
    for case, wanted in (("masked-native", [3, 1]), ("held_cells", [2, 0])):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # exporters warn of themselves
            arguments = tensors(OWN[case], TRACED, 0)
            made = export(xlstm.port(OWN[case], "torch"), arguments, ["x", "keep"])
        kinds = [node.op_type for node in onnx.load_from_string(made).graph.node]
        assert [kinds.count("LSTM"), kinds.count("GRU")] == wanted
