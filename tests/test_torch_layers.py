"""The layers around the recurrent ones in PyTorch: exact, counted, and at home in its tools."""

import copy
import dataclasses
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import built, model
from cases_layers import CASES_LAYERS, joined, one, sliding, timed
from graph_cases import GRAPHS

import xlstm
from xlstm import registry
from xlstm.comparing import generated
from xlstm.errors import UnsupportedError
from xlstm.mapping import pack_model, refusals, tensors, unpack_model
from xlstm.model import Builder, Edge, Input
from xlstm.specs import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Conv,
    Dense,
    Embedding,
    Flatten,
    LayerNorm,
    Normalization,
    Pool,
    PRelu,
    Relu,
    Reverse,
    TimeDistributed,
    TrainingOnly,
)

TORCH = registry.adapter("torch")
MODELS = {
    **CASES_LAYERS,
    **{f"graph-{name}": graph for name, graph in GRAPHS.items()},
    "batch_norm-scale": one(BatchNorm(3, center=False), 5, 3),
    "batch_norm-center": one(BatchNorm(3, scale=False), 4, 5, 3),
    "batch_norm-3d": one(BatchNorm(3), 2, 4, 5, 3),
    "batch_norm-4d": one(BatchNorm(3), 2, 2, 4, 5, 3),
    "batch_norm-timed-3d": timed(BatchNorm(3), 2, 2, 4, 5, 3),
    "layer_norm-scale": one(LayerNorm(6, center=False), 5, 6),
    "layer_norm-center": one(LayerNorm(6, scale=False), 5, 6),
    "group_norm-scale": one(LayerNorm(6, center=False, groups=3), 4, 6),
    "prelu-channels": one(PRelu((3,)), 3),
    "timed-prelu-channels": timed(PRelu((3,)), 4, 3),
    "timed-masking": timed(xlstm.model.Masking(), 3, 4, 2),
    "flatten-number": one(Flatten()),
    "pool-any_length": one(Pool("average", (3,), (2,), "same"), None, 3),
    "pool-max-any_length": one(Pool("max", (3, 2), (2, 3), "same"), None, None, 3),
    "conv-any_length-strides": one(
        sliding(Conv, 3, 4, (3, 2), padding="same", strides=(2, 3), dilation=(2, 1)), None, None, 3
    ),
    "normalization-whole_numbers": built(
        *(lambda g: (g, [g.add("norm", Normalization(3), [g.add("x", Input((4, 3), "int32"))])]))(
            Builder()
        )
    ),
}


def ids(dtype, spec=None):
    """Words, and the embedding that reads them."""
    graph = Builder()
    x = graph.add("x", Input((None,), dtype))
    return built(graph, [graph.add("words", spec or Embedding(9, 4), [x])])


def named(name):
    """A small graph whose layers have long names."""
    graph = Builder()
    x = graph.add("x", Input((6, 5, 3)))
    edges = [x]
    specs = {
        "conv": sliding(Conv, 3, 3, (3, 2), "relu", padding="same"),
        "pool": Pool("average", (2, 2), (1, 1), "same"),
        "largest": Pool("max", (2, 2), (1, 1), "same"),
        "norm": BatchNorm(3),
        "groups": LayerNorm(3, groups=3),
        "dropout": TrainingOnly("SpatialDropout2D", 0.5),
        "slopes": PRelu((1, 1, 3)),
        "relu": Relu(3.0, 0.25, 1.0),
        "line": xlstm.model.Affine(2.0, -1.0),
        "turned": Reverse(),
        "part": xlstm.model.Slice(1, 0, -1),
        "padded": xlstm.model.Pad((0, 1), (0, 0)),
        "nothing": xlstm.model.Function("abs"),
        "timed": TimeDistributed(LSTM(3, 3, return_sequences=True)),
        "dense": Dense(3, 3, "softmax"),
    }
    for kind, spec in specs.items():
        edges += [graph.add(f"{name}_{kind}", spec, edges[-1:])]
    edges = [edge for edge in edges if graph.shape(edge) == graph.shape(x)]
    total = graph.add(f"{name}_sum", xlstm.model.Merge("average"), edges)
    less = graph.add(f"{name}_less", xlstm.model.Merge("maximum"), edges[:2])
    joined_ = graph.add(f"{name}_joined", xlstm.model.Concatenate(), [total, less])
    return built(graph, [joined_])


MODELS |= {
    f"ids-{dtype}-{type(spec).__name__}": ids(dtype, spec)
    for dtype in ("int32", "float32")
    for spec in (Embedding(9, 4), Embedding(9, 4, mask_zero=True))
}
MODELS |= {f"names-{n}": named("layer" + "_name" * n) for n in (1, 3, 5, 7, 9, 11)}


def tensors_of(source, dtype="float32"):
    arrays = generated.make(source)
    return [torch.from_numpy(x if x.dtype == bool else x.astype(dtype)) for x in arrays]


def flat(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


@pytest.mark.parametrize("name", MODELS)
def test_equal_up_to_rounding(name):
    source = MODELS[name]
    report = xlstm.reconcile(source, "torch")
    report.check()
    found = report.frameworks["torch"]
    assert {dtype: v.verdict for dtype, v in found.verdicts.items()} == {
        "float32": "rounding",
        "float64": "rounding",
    }
    assert found.parameters == report.ledger.total("torch")


@pytest.mark.parametrize("name", MODELS)
def test_weights_come_back_bit_for_bit(name):
    source = MODELS[name]
    packed = pack_model(source, TORCH)
    assert [(t.name, t.shape) for t in tensors(source, TORCH)] == [
        (name, array.shape) for name, array in packed.items()
    ]
    for layer, hub in unpack_model(source, TORCH, packed).items():
        for tensor, array in hub.items():
            original = source.weights[layer][tensor]
            np.testing.assert_array_equal(array[: len(original)] if array.ndim else array, original)


@pytest.mark.parametrize("name", MODELS)
def test_state_dicts_load_strictly(name):
    ported = xlstm.port(MODELS[name], "torch")
    held = {n for n in ported.state_dict() if not n.endswith("num_batches_tracked")}
    assert held == set(pack_model(MODELS[name], TORCH))
    ported.load_state_dict(ported.state_dict(), strict=True)


def test_modules_are_lint_clean_and_formatted(tmp_path):
    for name, source in MODELS.items():
        (tmp_path / f"{name.replace('-', '_')}.py").write_text(TORCH.emit(source))
    for args in (["check"], ["format", "--check", "--diff"]):
        command = [sys.executable, "-m", "ruff", *args, "--isolated", tmp_path]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr
