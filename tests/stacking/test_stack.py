"""`xlstm.stack`: as the single ports and the reference, for every target; refusals by name."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, model
from cases_layers import CASES_LAYERS
from stacks import flat, inputs, padded, siblings

import xlstm
from xlstm.errors import NotEqualError, UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.ir.layers import GRU, LSTM, Dense, Dropout
from xlstm.stacking import reconcile
from xlstm.testing.models import chained, ids_masked

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")

LARGEST = 2e-6
"""Most that outputs of stacks and of single ports may differ by, relative to the largest one."""

MIXED = chained(
    [
        LSTM(3, 5, "tanh", "hard_sigmoid", return_sequences=True),
        Dropout(0.5),
        GRU(5, 4, reset_after=False),
        Dense(4, 2, "softmax"),
    ],
    (None, 3),
)

SOME = {
    "mixed": MIXED,
    "wide": chained([LSTM(9, 4, use_bias=False), Dense(4, 2)], (None, 9)),
    "ids": ids_masked(),
    **{
        name: CASES[name]
        for name in (
            *("lstm-sequence", "lstm-masked", "lstm-masked-backwards", "lstm-masked-zeros"),
            *("lstm-masked-explicit", "lstm-states", "lstm-no_bias", "lstm-lone"),
            *("lstm-both-concat", "lstm-both-none", "lstm-both-masked", "lstm-both-last"),
            *("gru-sequence", "gru-masked-last", "gru-both-ave", "gru_before-sequence"),
            *("gru_before-masked", "simple_rnn-sequence", "simple_rnn-masked-zeros"),
            *("lstm-relu-masked", "gru-tanh-hard_sigmoid_keras2-before", "encoder_decoder"),
        )
    },
    **{name: CASES_LAYERS[name] for name in ("batch_norm", "layer_norm", "conv1d-same-plain")},
}
"""Models of every kind that stacks have code for, and of some that they have none for."""

FEW = ("mixed", "ids", "lstm-both-none", "lstm-lone")
"""Those that XLA compiles, which takes seconds. Their single side is the float64 reference."""

RUNS = [(to, name) for to in ("torch", "numpy") for name in SOME]
RUNS += [("nnx", name) for name in FEW] + [("linen", "mixed")]


def called(stacked, to, arrays):
    if to != "torch":
        return flat(stacked(*arrays))
    with torch.no_grad():
        return flat(stacked(*map(torch.from_numpy, arrays)))


@pytest.mark.parametrize(("to", "name"), RUNS)
def test_equal_to_single_ports(to, name):
    every = siblings(SOME[name])
    stacked, live = xlstm.stack(every, to, chunk=2), registry.adapter(to).live()
    for lead in ((), (len(every),)) if to in ("torch", "numpy") else ((len(every),),):
        arrays = inputs(SOME[name], *lead)
        if "masked" in name and "explicit" not in name:
            arrays = [padded(arrays[0]), *arrays[1:]]
        found = called(stacked, to, arrays)
        for number, one in enumerate(every.values()):
            own = [x[number] if lead else x for x in arrays]
            if to == "torch":
                wanted = live.run(xlstm.port(one, to), own, "float32")
            else:
                dtype = "float32" if to == "numpy" else "float64"
                wanted = flat(xlstm.port(one, "numpy", dtype=dtype)(*own))
            # a lone native layer returns its states as well
            for y, expected in zip(found, wanted, strict=False):
                assert y[number].shape == expected.shape
                most = LARGEST * max(1, np.abs(expected).max())
                np.testing.assert_allclose(y[number], expected, rtol=0, atol=most)


@pytest.mark.parametrize("to", ["torch", "numpy", "nnx"])
def test_every_model_equals_the_reference(to):
    report = reconcile(xlstm.stack(siblings(MIXED), to, chunk=2))
    report.check()
    assert report
    assert [*report.verdicts] == ["m0", "m1", "m2"]
    assert report.summary().startswith("All 3 models in ")
    assert report.to_json()["models"]["m1"]["float64"]["verdict"] == "rounding"


def test_two_models_that_are_mixed_up_are_named(monkeypatch):
    live = registry.adapter("torch").live()
    stacked, run = xlstm.stack(siblings(MIXED), "torch"), live.run_stack

    def swapped(*arguments):
        return [y[[0, 2, 1]] for y in run(*arguments)]

    monkeypatch.setattr(live, "run_stack", swapped)
    report = reconcile(stacked)
    assert report.unequal() == ["m1", "m2"]
    assert "m1" in str(report)
    with pytest.raises(NotEqualError, match="2 unequal: m1, m2"):
        report.check()


@pytest.mark.parametrize("to", ["torch", "numpy"])
def test_any_chunk_gives_the_same(to):
    every, arrays = siblings(MIXED, 5), inputs(MIXED, 5)
    one, *others = (called(xlstm.stack(every, to, chunk=n), to, arrays)[0] for n in (1, 2, 5, 9))
    for other in others:
        np.testing.assert_allclose(one, other, rtol=0, atol=LARGEST)


def test_gradients_equal_those_of_single_ports():
    every, (x,) = siblings(MIXED), map(torch.from_numpy, inputs(MIXED))
    stacked = xlstm.stack(every, "torch", chunk=2)
    stacked(x).square().sum().backward()
    gradients = dict(stacked.each.named_parameters())
    for number, one in enumerate(every.values()):
        port = xlstm.port(one, "torch")
        port(x).square().sum().backward()
        for name, parameter in port.named_parameters():
            found = gradients[name].grad[number]
            np.testing.assert_allclose(found, parameter.grad, rtol=0, atol=1e-5)


def test_float64_and_dtype():
    every, (x,) = siblings(MIXED), inputs(MIXED)
    stacked = xlstm.stack(every, "torch", dtype="float64")
    y = stacked(torch.from_numpy(x).double())
    assert y.dtype == torch.float64
    assert next(stacked.parameters()).dtype == torch.float64


def test_layer_names_may_differ():
    a, b = (chained([LSTM(3, 4)], (None, 3), seed=seed) for seed in (1, 2))
    nodes = (b.nodes[0], replace(b.nodes[1], name="rnn"))
    other = replace(b, nodes=nodes, outputs=(b.outputs[0]._replace(node="rnn"),))
    other = replace(other, weights={"rnn": b.weights["lstm_0"]})
    y = xlstm.stack([a, other], "numpy")(*inputs(a))
    np.testing.assert_allclose(y[1], xlstm.port(b, "numpy")(*inputs(a)), atol=LARGEST)


def test_paths_name_the_models(tmp_path):
    for name in ("berlin", "paris"):
        xlstm.save(chained([LSTM(3, 4)], (None, 3)), tmp_path / name, "torch")
    stacked = xlstm.stack([tmp_path / "berlin", tmp_path / "paris"], "torch")
    assert [*xlstm.unstack(stacked)] == ["berlin", "paris"]


OTHERS = {
    "units": ([LSTM(3, 6)], "units 4 in layer lstm_0 .LSTM., got 6"),
    "activation": ([LSTM(3, 4, "relu")], "activation tanh in layer lstm_0 .LSTM., got relu"),
    "kind": ([GRU(3, 4)], "layer lstm_0 .LSTM., got GRU"),
    "more": ([LSTM(3, 4), Dense(4, 4)], "1 layers, got 2"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_another_graph_is_named(name):
    layers, message = OTHERS[name]
    every = {"a": chained([LSTM(3, 4)], (None, 3)), "b": chained(layers, (None, 3))}
    with pytest.raises(UsageError, match=f"model b: expected {message}"):
        xlstm.stack(every, "numpy")


def test_refused_layers():
    with pytest.raises(UnsupportedError, match=r"layer lstm_0.*stateful=True"):
        xlstm.stack([CASES["lstm-stateful"]], "torch")
    with pytest.raises(UnsupportedError, match="a graph without weights"):
        xlstm.stack([model([Dropout(0.5)], (3,))], "numpy")
    attention = next(m for n, m in CASES_LAYERS.items() if "heads" in n and m.weights)
    with pytest.raises(UnsupportedError, match="MultiHeadAttention"):
        xlstm.stack([attention], "torch")
    with pytest.raises(UsageError, match="float32 or float64, got bfloat16"):
        xlstm.stack([MIXED], "numpy", dtype="bfloat16")


def test_wrong_arguments():
    with pytest.raises(UsageError, match="at least one model"):
        xlstm.stack([])
    with pytest.raises(UsageError, match="several models, got one path"):
        xlstm.stack("a.keras")
    for chunk in (0, True, 2.5, "x", float("nan"), float("inf")):
        with pytest.raises(UsageError, match="at least 1, got"):
            xlstm.stack([MIXED], chunk=chunk)
    with pytest.raises(UsageError, match="different names, got two of one name as text"):
        xlstm.stack({1: MIXED, "1": MIXED})
    with pytest.raises(UsageError, match="for to=, got keras"):
        xlstm.stack([MIXED], "keras")
    stacked = xlstm.stack([MIXED, MIXED], "numpy")
    with pytest.raises(UsageError, match="3 axes, or 4 with 2 models first"):
        stacked(np.zeros((3, 1, 6, 3)))
    with pytest.raises(UsageError, match="1 inputs, got 2"):
        stacked(np.zeros((1, 6, 3)), np.zeros((1, 6, 3)))
    for to in ("torch", "nnx"):
        many, x = xlstm.stack([MIXED, MIXED], to), np.zeros((3, 1, 6, 3), np.float32)
        with pytest.raises(ValueError, match="3 axes, or 4 with 2 models first"):
            many(torch.from_numpy(x) if to == "torch" else x)


@pytest.mark.parametrize("to", ["torch", "nnx", "linen"])
def test_emitted_code_is_formatted_and_clean(to, tmp_path):
    adapter = registry.adapter(to).stacks()
    for number, name in enumerate(("mixed", "lstm-both-masked", "simple_rnn-masked-zeros")):
        text = adapter.emit(SOME[name])
        (tmp_path / f"model_{number}.py").write_text(text)
        assert "xlstm" not in text
    ruff = [sys.executable, "-m", "ruff"]
    for words in (["format", "--check"], ["check", "--select", "F,I"]):
        command = [*ruff, *words, "--isolated", "--line-length", "88", str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout
