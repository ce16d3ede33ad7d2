"""Recurrent layers in PyTorch: what the list of cases leaves out, ports in use, bad input."""

import dataclasses

import numpy as np
import pytest
import torch
from cases import CASES, RECURRENT, built, masked, model, with_states
from torch_tools import check_tools, tensors_of

import xlstm
from xlstm import reference
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Edge, chain
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Input, Masking, Reverse
from xlstm.ir.source import Source
from xlstm.porting.port import build
from xlstm.verification.bounds import DIFFERENT, bounds, judge
from xlstm.verification.reconcile import DTYPES, generated

TORCH = registry.adapter("torch")
PROJECTIONS = "ignore:LSTM with projections is not supported with oneDNN:UserWarning"
STATEFUL = [case for case, source in CASES.items() if source.stateful]
SEQUENCE = {"return_sequences": True}


def masked_states(spec):
    """A layer with a mask and initial states, all of whose outputs are read."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    starts = [graph.add(f"start_{n}", Input(s)) for n, s in enumerate(spec.state_shapes())]
    graph.add("masking", Masking(-1.0), [x])
    mask = Edge("masking", 1)
    graph.add("layer", spec, [Edge("masking")], mask=mask, states=starts)
    return built(graph, [Edge("layer", n) for n in range(len(graph.nodes[-1].shapes))])


def two_stateful(batch=6):
    """Two stateful layers, one of them masked, and two outputs."""
    graph = Builder()
    x = graph.add("x", Input((None, 3), batch=batch))
    keep = graph.add("keep", Input((None,), "bool", batch=batch))
    options = {"stateful": True, "return_sequences": True}
    y = graph.add("first", LSTM(3, 4, return_state=True, **options), [x], mask=keep)
    z = graph.add("second", GRU(4, 5, **options), [y])
    return built(graph, [z, Edge("first", 1)])


def whole_numbers():
    """A model of integers, which become floats on their way in."""
    graph = Builder()
    x = graph.add("x", Input((None, 3), "int32"))
    return built(graph, [graph.add("gru", GRU(3, 5), [x])])


def both(spec, merge="concat"):
    return Bidirectional(spec, dataclasses.replace(spec, go_backwards=True), merge)


def first_backwards(spec):
    """The half that comes first is the one that goes backwards."""
    return Bidirectional(dataclasses.replace(spec, go_backwards=True), spec)


STATES = {
    name: dataclasses.replace(spec, return_state=True, return_sequences=False)
    for name, spec in RECURRENT.items()
}
MODELS = {
    "projection": model([LSTM(3, 5, projection=2, **SEQUENCE)], (None, 3)),
    "projection-both-last": model([both(LSTM(3, 5, projection=2))], (None, 3)),
    "projection-states": with_states(LSTM(3, 5, projection=2, return_state=True)),
    "projection-masked": masked(LSTM(3, 5, projection=2, **SEQUENCE)),
    "projection-stateful": model([LSTM(3, 5, projection=2, stateful=True)], (None, 3)),
    "two_stateful": two_stateful(),
    "reverse": model([Reverse(), LSTM(3, 5)], (None, 3)),
    "whole_numbers": whole_numbers(),
    **{f"{name}-masked-states": masked_states(spec) for name, spec in STATES.items()},
    **{
        f"{name}-first_backwards": model([first_backwards(s)], (None, 3))
        for name, s in RECURRENT.items()
    },
    **{
        f"{name}-both-masked-states-{merge}": masked_states(both(spec, merge))
        for name, spec in STATES.items()
        for merge in ("ave", "none")
    },
}


@pytest.mark.filterwarnings(PROJECTIONS)
@pytest.mark.parametrize("name", MODELS)
def test_options_together(name):
    report = xlstm.reconcile(MODELS[name], "torch")
    report.check()
    assert report.frameworks["torch"].parameters == report.ledger.total("torch")


TOOLS = [
    "lstm-masked",
    "gru_before-both-masked",
    "simple_rnn-both-unlike",
    "gru-states",
    "lstm-both-none",
]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:The tensor attributes self:UserWarning")  # export, nn.LSTM
@pytest.mark.parametrize("case", TOOLS)
def test_torch_tools_work_on_recurrent_ports(case):
    check_tools(xlstm.port(CASES[case], "torch"), tensors_of(CASES[case]))


@pytest.mark.parametrize(
    "case", ["lstm-stateful", "gru-stateful", "gru_before-stateful", "simple_rnn-stateful"]
)
def test_a_stream_of_chunks_equals_the_whole(case):
    ported = xlstm.port(CASES[case], "torch", dtype="float64")
    stream = __import__(type(ported).__module__).stream
    (x,) = tensors_of(CASES[case], "float64")
    whole, final = ported(x)
    *chunks, (last, state) = stream(ported, x.split([5, 1, 10], dim=1))
    together = torch.cat([y for y, _ in chunks] + [last], dim=1)
    torch.testing.assert_close(together, whole, rtol=0, atol=1e-14)
    for mine, own in zip(state.values(), final.values(), strict=True):
        torch.testing.assert_close(mine, own, rtol=0, atol=1e-14)


@pytest.mark.parametrize("case", STATEFUL)
def test_a_second_call_starts_where_the_first_ended(case):
    source = CASES[case]
    ported = xlstm.port(source, "torch", dtype="float64")
    (x,) = tensors_of(source, "float64")
    name = source.stateful[0].name
    _, state = ported(x[:, :9])
    found, _ = ported(x[:, 9:], state=state)
    want = reference.run(
        source.astype("float64"),
        [x[:, 9:].numpy()],
        state={name: [s.detach().numpy() for s in state[name]]},
    )
    np.testing.assert_allclose(found.detach().numpy(), want[0], rtol=0, atol=1e-13)
    assert not torch.allclose(found, ported(x[:, 9:])[0])
    # another batch size is as good
    assert ported(x[:2])[0].shape[0] == 2


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
def test_a_scripted_stateful_port_carries_its_states():
    """Layers with one state and with two, one of them masked; wrong states are refused as well."""
    ported = xlstm.port(MODELS["two_stateful"], "torch")
    x, keep = tensors_of(MODELS["two_stateful"])
    scripted, state, own = torch.jit.script(ported), None, None
    for number in (0, 5, 9):
        mine, state = scripted(x[:, number : number + 4], keep[:, number : number + 4], state)
        wanted, own = ported(x[:, number : number + 4], keep[:, number : number + 4], own)
        for found, want in zip([*mine, *state["first"]], [*wanted, *own["first"]], strict=True):
            torch.testing.assert_close(found, want, rtol=0, atol=1e-6)
    with pytest.raises(torch.jit.Error, match="state: expected shapes"):
        scripted(x, keep, {"first": state["first"]})


def test_arguments_that_are_states_are_named():
    text = TORCH.emit(CASES["lstm-both-states"])
    assert "start_0, start_1, start_2 and start_3 are the forward_h, forward_c, backward_h" in text
    assert "start_0 is the h that layer starts from." in TORCH.emit(CASES["gru-states"])


def test_a_stream_of_several_inputs():
    source = MODELS["two_stateful"]
    ported = xlstm.port(source, "torch", dtype="float64")
    x, keep = tensors_of(source, "float64")
    keep = torch.ones_like(keep)  # a masked step at a chunk's start has no output to repeat
    (whole, h), _ = ported(x, keep)
    stream = __import__(type(ported).__module__).stream
    pairs = zip(x.split(4, dim=1), keep.split(4, dim=1), strict=True)
    found = list(stream(ported, pairs))
    torch.testing.assert_close(torch.cat([y for (y, _), _ in found], 1), whole)
    torch.testing.assert_close(found[-1][0][1], h)


def test_states_of_another_shape_are_refused():
    ported = xlstm.port(MODELS["two_stateful"], "torch")
    x, keep = tensors_of(MODELS["two_stateful"])
    _, state = ported(x, keep)
    wrong = [
        {"first": state["first"]},
        {**state, "third": state["second"]},
        {name: tuple(s[:2] for s in own) for name, own in state.items()},
        {**state, "first": state["first"][:1]},
        {**state, "second": (state["second"][0][:, :1],)},
    ]
    for other in wrong:
        with pytest.raises(ValueError, match="state: expected shapes"):
            ported(x, keep, state=other)


@pytest.mark.parametrize("case", ["lstm-states", "gru_before-states", "gru-both-states"])
def test_initial_states_of_another_shape_are_refused(case):
    ported, (x, *starts) = xlstm.port(CASES[case], "torch"), tensors_of(CASES[case])
    for wrong in (starts[-1][:1], starts[-1][:, :1]):
        with pytest.raises(ValueError, match=r"state: expected shape \[6, 5\]"):
            ported(x, *starts[:-1], wrong)
    with pytest.raises(AssertionError, match=r"expected shape \(batch, 5\), got 1 axes"):
        ported(x, *starts[:-1], starts[-1][0])


@pytest.mark.parametrize("name", RECURRENT)
def test_masks_of_another_shape_are_refused(name):
    source = CASES[f"{name}-masked-explicit"]
    ported, (x, keep) = xlstm.port(source, "torch"), tensors_of(source)
    for wrong in (keep[:, :1], keep[:1], keep[:, :-1]):
        with pytest.raises(ValueError, match=r"mask: expected shape \[6, 16\]"):
            ported(x, wrong)
    with pytest.raises(AssertionError, match=r"expected shape \(batch, any\), got 3 axes"):
        ported(x, keep[..., None])
    # any dtype will do: what is not zero counts
    assert torch.equal(ported(x, keep.float() * 3), ported(x, keep))


def mutants():
    def change(old, new):
        def emit(source):
            text = TORCH.emit(source)
            assert old in text
            return text.replace(old, new)

        return dataclasses.replace(TORCH, emit=emit)

    halves = dataclasses.replace(TORCH, half_names=lambda node: TORCH.half_names(node)[::-1])
    return {
        "halves-swapped": (halves, "lstm-both-concat"),
        "halves-swapped-last": (halves, "gru-both-last"),
        "halves-swapped-two_modules": (halves, "gru_before-both-concat"),
        "no-flip": (change(".flip(1)", ""), "lstm-backwards"),
        "no-flip-back": (change("backward.flip(1)", "backward"), "gru_before-both-concat"),
        "no-flip-of-the-mask": (change("mask.flip(1)", "mask"), "gru-masked-backwards"),
        "last-step-of-both": (
            change("torch.cat([h[0], h[1]], dim=-1)", "self.bidirectional_0(x)[0][:, -1]"),
            "lstm-both-last",
        ),
        "mean-for-sum": (change("forward + backward", "(forward + backward) / 2"), "gru-both-sum"),
        "mask-forgotten": (change("lstm_1(valid_first(x, mask))", "lstm_1(x)"), "lstm-masked"),
        "outputs-left-at-the-front": (change("x = repeat_last(x, mask)\n", "pass\n"), "gru-masked"),
        "no-zeros-before-the-first-step": (
            change("torch.cat([torch.zeros_like(y[:, :1]), y]", "torch.cat([y[:, :1], y]"),
            "simple_rnn-masked-explicit",
        ),
        "no-state-before-the-first-step": (
            change("last_valid(x, mask, h)", "last_valid(x, mask)"),
            "gru-masked-states",
        ),
        "c-of-masked-steps": (change("shut, -shut, rest", "rest, rest"), "lstm-masked-states"),
        "zeros-forgotten": (
            change("x = x.masked_fill(~mask.unsqueeze(-1), 0.0)\n        return", "return"),
            "lstm-masked-zeros",
        ),
    }


@pytest.mark.parametrize("name", mutants())
def test_mutants_are_caught(name):
    adapter, case = mutants()[name]
    source = {**CASES, **MODELS}[case]
    arrays = generated.make(source)
    for dtype in DTYPES:
        found = TORCH.live().run(build(source, adapter, dtype), arrays, dtype)
        exact = bounds(source, arrays, "float64")
        verdicts = {
            judge(y, allowed, sharp, dtype).verdict
            for y, allowed, sharp in zip(found, bounds(source, arrays, dtype), exact, strict=True)
        }
        assert DIFFERENT in verdicts


@pytest.mark.parametrize(
    "case", ["lstm-last", "lstm-relu-masked", "gru-both-sum", "gru_before-both-masked"]
)
def test_gradients_reach_every_parameter(case):
    ported = xlstm.port(CASES[case], "torch").train()
    ported(*tensors_of(CASES[case])).square().sum().backward()
    for parameter in ported.parameters():
        assert parameter.grad.isfinite().all()
        assert parameter.grad.any()


def test_dropout_inside_recurrent_layers_is_not_applied():
    source = model([LSTM(3, 5, dropout=0.5, recurrent_dropout=0.5)], (None, 3))
    ported, (x,) = xlstm.port(source, "torch"), tensors_of(source)
    assert torch.equal(ported.train()(x), ported.eval()(x))


@pytest.mark.parametrize("name", RECURRENT)
def test_frozen_halves_stay_frozen(name):
    plain = CASES[f"{name}-both-concat"]
    frozen = [dataclasses.replace(node, trainable=False) for node in plain.nodes]
    ported = xlstm.port(dataclasses.replace(plain, nodes=tuple(frozen)), "torch")
    assert not any(p.requires_grad for p in ported.parameters())


REFUSED = {
    "peepholes": chain(
        "case", [("lstm", LSTM(3, 5, peepholes=True), True)], (None, 3), {}, Source("case")
    ),
    "a projection": model([LSTM(3, 5, "relu", projection=2)], (None, 3)),
    "a projection and a mask": masked(LSTM(3, 5, projection=2, stateful=True)),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_has_no_exact_form_is_refused_with_its_reason(why, tmp_path):
    source = REFUSED[why]
    for act in (
        lambda: xlstm.port(source, "torch"),
        lambda: xlstm.save(source, tmp_path / "p", "torch"),
    ):
        with pytest.raises(UnsupportedError, match=why):
            act()
    ledger = xlstm.count(source, ["torch"])
    assert ledger.total("torch") is None
    assert any(why in line for layer in ledger.layers for line in layer.refused.values())


@pytest.mark.parametrize("name", RECURRENT)
def test_emitted_modules_hold_only_the_cells_they_use(name):
    for kind in ("sequence", "masked"):
        text = TORCH.emit(CASES[f"{name}-{kind}"])
        # Pretrained and Model; an own cell and its gradient
        assert text.count("class ") == (4 if name == "gru_before" else 2)
        assert ("def valid_first" in text) == (kind == "masked")
