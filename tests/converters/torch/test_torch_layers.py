"""The layers around the recurrent ones in PyTorch: exact, counted, and at home in its tools."""

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import built
from cases_layers import CASES_LAYERS, MASKED_MEANS, one, sliding, timed
from graph_cases import GRAPHS
from torch_tools import check_tools, flat, tensors_of

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model, refusals, tensors, unpack_model
from xlstm.ir import layers as specs
from xlstm.ir.graph import Builder, chain
from xlstm.ir.layers import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Conv,
    Dense,
    Embedding,
    Flatten,
    Input,
    LayerNorm,
    Normalization,
    Pool,
    PRelu,
    Relu,
    Reverse,
    RMSNorm,
    TimeDistributed,
    TrainingOnly,
)
from xlstm.ir.source import Source
from xlstm.verification.reconcile import generated

TORCH = registry.adapter("torch")
MODELS = {
    **CASES_LAYERS,
    **MASKED_MEANS,
    **{f"graph-{name}": graph for name, graph in GRAPHS.items()},
    "batch_norm-scale": one(BatchNorm(3, center=False), 5, 3),
    "batch_norm-center": one(BatchNorm(3, scale=False), 4, 5, 3),
    "batch_norm-3d": one(BatchNorm(3), 2, 4, 5, 3),
    "batch_norm-4d": one(BatchNorm(3), 2, 2, 4, 5, 3),
    "batch_norm-timed-3d": timed(BatchNorm(3), 2, 2, 4, 5, 3),
    "layer_norm-scale": one(LayerNorm(6, center=False), 5, 6),
    "layer_norm-center": one(LayerNorm(6, scale=False), 5, 6),
    "group_norm-scale": one(LayerNorm(6, center=False, groups=3), 4, 6),
    "group_norm-center": one(LayerNorm(6, scale=False, groups=3), 4, 5, 6),
    "rms_norm-bare": one(RMSNorm(6, 1e-3, scale=False), 5, 6),
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
        "scaled": xlstm.model.Affine(1 / 255, 1 / 3),
        "capped": Relu(6.5, 0.30000001192092896),
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


def shared(masked_first, spec):
    """A recurrent layer called twice, once with a mask."""
    graph = Builder()
    x, keep = graph.add("x", Input((None, 3))), graph.add("keep", Input((None,), "bool"))
    y = graph.add("layer", spec, [x], mask=keep if masked_first else None)
    other = None if masked_first else keep
    return built(graph, [y, graph.add("again", spec, [x], mask=other, layer="layer")])


HALF = {"return_sequences": True}
SHARED = {
    "gru": GRU(3, 4),
    "both": Bidirectional(LSTM(3, 4, **HALF), LSTM(3, 4, go_backwards=True, **HALF)),
}
MODELS |= {
    f"shared-{name}-{first}": shared(first, spec)
    for name, spec in SHARED.items()
    for first in (False, True)
}
MODELS |= {
    f"ids-{dtype}-{type(spec).__name__}": ids(dtype, spec)
    for dtype in ("int32", "float32")
    for spec in (Embedding(9, 4), Embedding(9, 4, mask_zero=True))
}
MODELS |= {f"names-{n}": named("layer" + "_name" * n) for n in (1, 3, 5, 7, 9, 11)}


@pytest.mark.parametrize("name", MODELS)
def test_equal_up_to_rounding(name):
    source = MODELS[name]
    arrays = generated.make(source)
    if name in MASKED_MEANS:
        arrays[1][..., 0] = True
    report = xlstm.reconcile(source, "torch", arrays if name in MASKED_MEANS else None)
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


TOOLS = {
    case: MODELS[case]
    for case in (
        "batch_norm-stack",
        "conv2d-same-strides",
        "pool-average-1d-same-2-3",
        "residual",
        "embedding-mask",
        "attention-additive-scaled-masks",
        "heads-all_masks",
        "heads-zeros",
        "timed-states",
        "timed-lstm-mask",
        "shared",
        "conv_lstm1d-mask",
        "normalization-invert",
        "dot-cosine",
        "conv-any_length-strides",
        "batch_norm-scale",
        "group_norm-center",
    )
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self:UserWarning")  # export, nn.LSTM
@pytest.mark.parametrize("name", TOOLS)
def test_torch_tools_work_on_ports(name):
    check_tools(xlstm.port(TOOLS[name], "torch"), tensors_of(TOOLS[name]))


NATIVE = ["batch_norm-stack", "conv2d-same-strides", "residual", "heads", "timed-states"]


@pytest.mark.parametrize("name", NATIVE)
def test_native_layers_are_traced(name):
    ported, inputs = xlstm.port(MODELS[name], "torch"), tensors_of(MODELS[name])
    traced = torch.fx.symbolic_trace(ported)
    for mine, own in zip(flat(traced(*inputs)), flat(ported(*inputs)), strict=True):
        assert torch.equal(mine, own)


REACHED = ["shared", "residual", "heads-masks", "conv_lstm1d", "batch_norm"]
REACHED += ["group_norm", "group_norm-center"]


@pytest.mark.parametrize("name", REACHED)
def test_gradients_reach_every_parameter(name):
    ported = xlstm.port(MODELS[name], "torch").train()
    sum(y.square().sum() for y in flat(ported(*tensors_of(MODELS[name])))).backward()
    for parameter in ported.parameters():
        assert parameter.grad.isfinite().all()
        # a bias of all keys moves no weight of attention
        assert parameter.grad.any()


def test_shared_layers_are_one_module():
    ported = xlstm.port(MODELS["shared"], "torch")
    assert [name for name, _ in ported.named_children()] == ["words", "reader", "norm", "dense"]
    assert xlstm.count(MODELS["shared"], ["torch"]).total("torch") == sum(
        p.numel() for p in ported.parameters()
    )


def test_statistics_are_buffers():
    source = MODELS["batch_norm"]
    ported, ledger = xlstm.port(source, "torch"), xlstm.count(source, ["torch"])
    assert sum(p.numel() for p in ported.parameters()) == ledger.total("torch") == 6
    assert ledger.other("torch") == 7  # with num_batches_tracked
    (norm,) = ported.children()
    assert norm.momentum == 0.01
    assert norm.num_batches_tracked == 0


def last_word():
    """The row of the last of some words, and whether it is one."""
    graph = Builder()
    x = graph.add("x", Input((None,), "int64"))
    last = graph.add("last", specs.Slice(0, -1, drop=True), [x])
    return built(graph, [graph.add("words", Embedding(2**24 + 2, 1), [last])])


def test_whole_numbers_beyond_float32_find_their_row():
    source = last_word()
    x = torch.tensor([[3, 2**24], [3, 2**24 + 1]])
    table = source.weights["words"]["table"]
    assert xlstm.port(source, "torch")(x).ravel().tolist() == table[2**24 :][:2].ravel().tolist()


def test_fractions_of_row_numbers_are_cut_off():
    ported = xlstm.port(ids("int32"), "torch")
    rows = ported(torch.tensor([[1, 8]]))
    assert torch.equal(rows, ported(torch.tensor([[1.9, 8.0]])))


def test_what_nothing_reads_is_not_computed():
    graph = Builder()
    x = graph.add("x", Input((4, 6, 3)))
    for name, spec in {
        "timed": TimeDistributed(LSTM(3, 2)),
        "pool": Pool("average", (2, 2), (1, 1), "same"),
        "relu": Relu(3.0, 0.5, 0.2),
    }.items():
        graph.add(name, spec, [x])
    source = built(graph, [graph.add("dense", Dense(3, 2), [x])])
    xlstm.reconcile(source, "torch").check()
    forward = TORCH.emit(source).split("def forward")[1].split("def build")[0]
    assert "self.timed" not in forward
    assert "pool" not in forward


@pytest.mark.parametrize("rank", [1, 2, 3])
def test_spatial_dropout_drops_whole_channels(rank):
    source = one(TrainingOnly(f"SpatialDropout{rank}D", 0.5), *(4,) * rank, 8)
    ported, x = xlstm.port(source, "torch"), torch.ones(3, *(4,) * rank, 8)
    torch.manual_seed(0)
    dropped = ported.train()(x).flatten(1, -2)
    assert torch.equal(dropped, dropped[:, :1].expand_as(dropped))
    assert set(dropped.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(ported.eval()(x), x)


@pytest.mark.parametrize("layer", ["GaussianNoise", "GaussianDropout", "AlphaDropout"])
def test_noise_is_for_training(layer):
    ported, x = xlstm.port(one(TrainingOnly(layer, 0.2), 4), "torch"), torch.randn(4000, 4)
    assert torch.equal(ported(x), x)
    assert abs(ported.train()(x).mean() - x.mean()) < 0.1
    assert not torch.equal(ported(x), x)


@pytest.mark.parametrize(
    ("name", "number"),
    [("global-average-mask", 1), ("heads-masks", 2), ("heads-masks", 3), ("conv_lstm1d-mask", 1)],
)
def test_masks_of_another_shape_are_refused(name, number):
    ported, inputs = xlstm.port(MODELS[name], "torch"), tensors_of(MODELS[name])
    for wrong in (inputs[number][:, :1], inputs[number][:1]):
        with pytest.raises(ValueError, match="mask: expected shape"):
            ported(*inputs[:number], wrong, *inputs[number + 1 :])


def test_states_of_another_shape_are_refused():
    ported, (x,) = (
        xlstm.port(MODELS["conv_lstm1d-stateful"], "torch"),
        tensors_of(MODELS["conv_lstm1d-stateful"]),
    )
    y, state = ported(x)
    again, _ = ported(x, state=state)
    assert not torch.equal(y, again)
    ((name, (h, c)),) = state.items()
    for wrong in ({name: (h[:1], c)}, {name: (h, c[:, :1])}, {name: (h,)}, {}):
        with pytest.raises(ValueError, match="state: expected shapes"):
            ported(x, state=wrong)


def test_frozen_layers_stay_frozen():
    plain = MODELS["shared"]
    nodes = tuple(dataclasses.replace(n, trainable=n.spec.kind != "BatchNorm") for n in plain.nodes)
    ported = xlstm.port(dataclasses.replace(plain, nodes=nodes), "torch")
    held = {name for name, p in ported.named_parameters() if not p.requires_grad}
    assert held == {"norm.weight", "norm.bias"}


def test_all_that_is_refused_is_named_at_once():
    specs = [LSTM(3, 4, peepholes=True, return_sequences=True), LSTM(4, 3, peepholes=True)]
    names = [("lstm_0", specs[0], True), ("lstm_1", specs[1], True)]
    source = chain("case", names, (None, 3), {}, Source("case"))
    assert set(refusals(source, TORCH)) == {"lstm_0", "lstm_1"}
    with pytest.raises(UnsupportedError, match="peepholes"):
        xlstm.port(source, "torch")


@pytest.mark.parametrize("name", MASKED_MEANS)
def test_a_mean_of_nothing_is_no_number(name):
    source = MASKED_MEANS[name]
    x, keep = tensors_of(source, "float64")
    found = xlstm.port(source, "torch", dtype="float64")(x, torch.zeros_like(keep))
    assert found.isnan().all()
    want = xlstm.port(source, "numpy", dtype="float64")(x.numpy(), keep.numpy())
    mine = xlstm.port(source, "torch", dtype="float64")(x, keep).numpy()
    np.testing.assert_allclose(mine, want, rtol=1e-12, atol=1e-12)
