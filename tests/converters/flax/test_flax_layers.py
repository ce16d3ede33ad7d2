"""The layers around the recurrent ones, and ConvLSTM, in Flax NNX and Linen."""

import dataclasses
import subprocess
import sys

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import built, model
from cases_layers import CASES_LAYERS, MASKED_MEANS, joined
from flax import nnx

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model, refusals, tensors, unpack_model
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import (
    LSTM,
    ConvLSTM,
    Dense,
    Dropout,
    Embedding,
    GlobalPool,
    Input,
    Masking,
    MultiHeadAttention,
    PRelu,
    TrainingOnly,
)
from xlstm.porting.port import build
from xlstm.verification.bounds import bounds, judge
from xlstm.verification.reconcile import generated

FLAX = ("nnx", "linen")


def check(report):
    """Equal up to rounding, and as many parameters as the ledger says."""
    report.check()
    for framework in FLAX:
        column = report.frameworks[framework]
        assert {v.verdict for v in column.verdicts.values()} == {"rounding"}
        assert column.parameters == report.ledger.total(framework)


@pytest.mark.parametrize("case", CASES_LAYERS)
def test_equal_up_to_rounding(case):
    check(xlstm.reconcile(CASES_LAYERS[case], FLAX))


@pytest.mark.parametrize("case", MASKED_MEANS)
def test_means_over_what_counts(case):
    source = MASKED_MEANS[case]
    x, mask = generated.make(source)
    mask[..., 0] = True
    check(xlstm.reconcile(source, FLAX, [x, mask]))


def test_a_mean_over_nothing_is_no_number():
    source = MASKED_MEANS["global-average-mask"]
    x, mask = np.ones((2, 4, 3), "float32"), np.array([[1, 0, 1, 0], [0, 0, 0, 0]])
    for framework in FLAX:
        y = call(xlstm.port(source, framework), x, mask)
        np.testing.assert_array_equal(np.isnan(y), [[False] * 3, [True] * 3])


@pytest.mark.parametrize("framework", FLAX)
def test_a_place_that_is_not_there_is_no_number(framework):
    ported = xlstm.port(CASES_LAYERS["slice-third"], framework)
    assert np.isnan(call(ported, np.ones((2, 2, 3), "float32"))).all()


@pytest.mark.parametrize("framework", FLAX)
def test_weights_come_back_bit_for_bit(framework):
    adapter = registry.adapter(framework)
    for case, source in CASES_LAYERS.items():
        packed = pack_model(source, adapter)
        shapes = {t.name: t.shape for t in tensors(source, adapter)}
        assert shapes == {name: array.shape for name, array in packed.items()}, case
        for name, layer in unpack_model(source, adapter, packed).items():
            for tensor, array in layer.items():
                original = source.weights[name][tensor]
                if tensor.endswith("bias") and array.shape != original.shape:
                    assert not array[1:].any(), case
                    array = array[:1]
                if (
                    tensor.endswith("bias") and original.ndim == 3 == len(original) + 1
                ):  # a GRU's two biases, partly added
                    array, original = array[:, 2], original[:, 2]
                np.testing.assert_array_equal(array, original, case)


def renamed(source, length):
    """The same model with names as long as this."""
    names = {
        node.name: f"{node.name}_{'y' * length}"[: length - 1] + str(number % 10)
        for number, node in enumerate(source.nodes)
    }

    def edges(found):
        return tuple(Edge(names[edge.node], edge.output) for edge in found)

    nodes = tuple(
        dataclasses.replace(
            node,
            name=names[node.name],
            inputs=edges(node.inputs),
            mask=edges([node.mask])[0] if node.mask else None,
            states=edges(node.states),
            layer=names.get(node.layer, ""),
        )
        for node in source.nodes
    )
    inputs, weights = map(names.get, source.inputs), source.weights.items()
    return dataclasses.replace(
        source,
        nodes=nodes,
        inputs=tuple(inputs),
        outputs=edges(source.outputs),
        weights={names[name]: layer for name, layer in weights},
    )


@pytest.mark.parametrize("length", [0, 25, 40])
def test_emitted_text_is_clean_and_formatted(length, tmp_path):
    sources = [*CASES_LAYERS.values(), *MASKED_MEANS.values()]
    sources = [renamed(source, length) for source in sources] if length else sources
    for framework in FLAX:
        emit = registry.adapter(framework).emit
        for number, source in enumerate(sources):
            (tmp_path / f"{framework}_{number}.py").write_text(emit(source))
    for command in (["check"], ["format", "--check"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--isolated", str(tmp_path)]
        found = subprocess.run(ruff, capture_output=True, text=True)
        assert not found.returncode, found.stdout


def call(ported, *inputs, **options):
    """Calls either kind of port."""
    if isinstance(ported, tuple):
        return ported[0].apply(ported[1], *inputs, **options)
    return ported(*inputs)


@pytest.mark.parametrize("framework", FLAX)
def test_a_shared_layer_is_there_once(framework):
    source = CASES_LAYERS["shared"]
    text = registry.adapter(framework).emit(source)
    assert text.count("self.words = ") == text.count("self.dense = ") == 1
    assert text.count("self.words(") == text.count("self.dense(") == 2
    assert "self.dense_again" not in text
    names = {t.name.removeprefix("params.") for t in tensors(source, registry.adapter(framework))}
    assert not any("again" in name for name in names)


def test_statistics_are_a_collection_of_their_own():
    source = CASES_LAYERS["batch_norm"]
    (name,) = source.weights
    named = [t.name for t in tensors(source, registry.adapter("linen"))]
    stats = [f"batch_stats.{name}.{part}" for part in ("mean", "var")]
    assert named == [f"params.{name}.scale", f"params.{name}.bias", *stats]
    ledger = xlstm.count(source, FLAX)
    for framework in FLAX:
        assert (ledger.total(framework), ledger.other(framework)) == (6, 6)
    _, variables = xlstm.port(source, "linen")
    assert set(variables) == {"params", "batch_stats"}
    ported = xlstm.port(source, "nnx")
    kept = nnx.state(ported, nnx.BatchStat)
    np.testing.assert_array_equal(kept[name]["mean"][...], source.weights[name]["mean"])


def test_training_moves_the_statistics():
    source = CASES_LAYERS["batch_norm"]
    ((name, weights),) = source.weights.items()
    x = np.random.default_rng(0).standard_normal((4, 5, 3)).astype("float32")
    want = 0.99 * weights["mean"] + 0.01 * x.mean(axis=(0, 1))
    module, variables = xlstm.port(source, "linen")
    _, moved = module.apply(variables, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(moved["batch_stats"][name]["mean"], want, atol=1e-6)
    ported = xlstm.port(source, "nnx")
    still = ported(x)
    ported.train()
    assert np.abs(ported(x) - still).max() > 0.01
    np.testing.assert_allclose(getattr(ported, name).mean[...], want, atol=1e-6)


DROPS = {
    "dropout": model([Dropout(0.5)], (50, 4)),
    "spatial": model([TrainingOnly("SpatialDropout1D", 0.5)], (50, 4)),
    "heads": joined(MultiHeadAttention(2, 4, 4, 3, 3, 3, 3, dropout=0.5), (9, 3), (9, 3)),
    "heads-zeros": joined(
        MultiHeadAttention(2, 4, 3, 3, 3, 3, 3, causal=True, blind="zeros", dropout=0.5),
        *((9, 3), (9, 3)),
    ),
}


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("name", DROPS)
def test_dropout_acts_in_training_only(framework, name):
    source = DROPS[name]
    inputs = [np.ones((2, *source.node(given).shape), "float32") for given in source.inputs]
    ported = xlstm.port(source, framework)
    still = call(ported, *inputs)
    if framework == "nnx":
        ported.train()
        trained = call(ported, *inputs)
    else:
        key = {"dropout": jax.random.key(0)}
        trained = call(ported, *inputs, train=True, rngs=key)
    assert np.abs(trained - still).max() > 0.01
    if name == "spatial":  # a channel goes as a whole
        np.testing.assert_array_equal(trained, np.broadcast_to(trained[:, :1], trained.shape))


@pytest.mark.parametrize("framework", FLAX)
def test_row_numbers_of_any_dtype(framework):
    source = model([Embedding(9, 4)], (3,))
    (table,) = (layer["table"] for layer in source.weights.values())
    ported = xlstm.port(source, framework)
    for ids in (np.array([[0, 3, 8]]), np.array([[0.0, 3.9, 8.0]]), np.array([[0, 3, 8]], "uint8")):
        np.testing.assert_array_equal(call(ported, ids), table[[[0, 3, 8]]])
    assert np.isnan(call(ported, np.array([[1, 2, 9]]))[0, 2]).all()


def test_row_numbers_stay_whole():
    """Float32 knows no 2**24 + 1."""
    for framework in FLAX:
        text = registry.adapter(framework).emit(CASES_LAYERS["embedding-mask"])
        assert "x = jnp.asarray(x)\n" in text


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("case", ["batch_norm-stack", "shared", "conv_lstm2d", "timed-both"])
def test_ported_folders_load_again(framework, case, tmp_path):
    source = CASES_LAYERS[case]
    again = xlstm.load(xlstm.save(source, tmp_path / "port", framework))
    adapter = registry.adapter(framework)
    np.testing.assert_equal(pack_model(again, adapter), pack_model(source, adapter))


@pytest.mark.parametrize(
    "case", ["batch_norm-stack", "prelu", "heads-key", "attention-dot-scaled-masks"]
)
def test_linen_ports_can_be_initialised_anew(case):
    source = CASES_LAYERS[case]
    module, variables = xlstm.port(source, "linen")
    inputs = [jnp.asarray(x) for x in generated.make(source)]
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, variables)


def test_native_layers_wherever_they_are_exact():
    native = ("conv1d-same-dilation", "depthwise2d", "batch_norm", "group_norm", "embedding")
    for framework in FLAX:
        own = registry.adapter(framework).own_cell_reason
        for case in native:
            assert not own(CASES_LAYERS[case].layers[0]), case
        assert "one slope" in own(CASES_LAYERS["prelu"].layers[0])
        assert "one size" in own(CASES_LAYERS["heads-sizes"].layers[0])
        pooled = model([Masking(), GlobalPool("average")], (None, 3)).nodes
        assert not own(dataclasses.replace(pooled[2], mask=Edge(pooled[1].name, 1)))
    linen, nnx_own = (registry.adapter(name).own_cell_reason for name in ("linen", "nnx"))
    assert not linen(CASES_LAYERS["heads-masks"].layers[0])
    assert "float32 only" in nnx_own(CASES_LAYERS["heads-masks"].layers[0])
    assert not linen(CASES_LAYERS["conv_lstm1d-offset"].layers[0])
    assert "forget gate" in linen(CASES_LAYERS["conv_lstm1d"].layers[0])


def test_a_stateful_layer_called_twice_is_refused():
    graph = Builder()
    x = graph.add("x", Input((None, 3), batch=2))
    spec = LSTM(3, 3, stateful=True, return_sequences=True)
    y = graph.add("lstm", spec, [x])
    source = built(graph, [graph.add("again", spec, [y], layer="lstm")])
    for framework in FLAX:
        assert set(refusals(source, registry.adapter(framework))) == {"again"}
        with pytest.raises(UnsupportedError, match="called a second time"):
            xlstm.port(source, framework)


# what is written wrongly in the emitted text, and the case that shows it
WRONG_TEXT = {
    "not-causal": ("conv1d-causal-plain", "CAUSAL", "SAME"),
    "padding-counted": ("pool-average-1d-same-3-2", ", count_include_pad=False", ""),
    "epsilon": ("batch_norm", "epsilon=0.001", "epsilon=0.00101"),
    "query-mask-lost": ("heads-masks", "[:, None, :, None]", "[:, None, :, None] | True"),
    "cropped-elsewhere": ("crop", "[:, 1:]", "[:, :-1]"),
    "forget-offset": ("conv_lstm1d-offset-valid", "forget_offset=1.0", "forget_offset=0.0"),
}


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("name", WRONG_TEXT)
def test_wrong_text_is_caught(framework, name):
    case, old, new = WRONG_TEXT[name]
    source, adapter = CASES_LAYERS[case], registry.adapter(framework)
    right = adapter.emit(source)
    assert old in right
    mutant = dataclasses.replace(adapter, emit=lambda _model: right.replace(old, new))
    arrays, _ = generated.chosen(source)
    outputs = adapter.live().run(build(source, mutant, "float64"), arrays, "float64")
    (allowed,) = bounds(source, arrays, "float64")
    assert judge(outputs[0], allowed, allowed, "float64").verdict == "different"


CELLS = {
    "1d": (nn.ConvLSTMCell(3, (3,)), (2, 4, 5, 2)),
    "2d-no_bias": (nn.ConvLSTMCell(3, (3, 2), use_bias=False), (2, 3, 4, 5, 2)),
}


@pytest.mark.parametrize("name", CELLS)
def test_live_conv_lstm_cells(name):
    cell, shape = CELLS[name]
    x = np.random.default_rng(0).standard_normal(shape).astype("float32")
    module = nn.RNN(cell)
    variables = module.init(jax.random.key(0), x)
    source = xlstm.load((module, variables))
    spec = source.layers[0].spec
    assert isinstance(spec, ConvLSTM)
    assert spec.forget_offset == 1
    for framework in FLAX:
        y = call(xlstm.port(source, framework), x)
        np.testing.assert_allclose(y, module.apply(variables, x), atol=1e-6)


def test_live_conv_lstm_cells_that_shrink_are_refused():
    module = nn.RNN(nn.ConvLSTMCell(3, (3,), padding="VALID"))
    variables = {"params": {"cell": {"ih": {"kernel": jnp.ones((3, 2, 12))}}}}
    with pytest.raises(UnsupportedError, match="keep the states' size"):
        xlstm.load((module, variables))


def test_names_of_helpers_are_no_variables():
    """A layer called like a function that the text calls must not hide it."""
    graph = Builder()
    x = graph.add("x", Input((4, 3)))
    named = [graph.add(name, PRelu((4, 3)), [x]) for name in ("unit", "zeros", "seen", "batch")]
    normed = graph.add("norm", xlstm.model.UnitNorm(), [named[0]])
    y = graph.add("lstm", LSTM(3, 3, return_sequences=True), [normed])
    joined_up = graph.add("all", xlstm.model.Merge("add"), [*named, y])
    source = built(graph, [graph.add("dense", Dense(3, 2), [joined_up]), *named])
    check(xlstm.reconcile(source, FLAX))
