"""Masks in PyTorch: layers run over the valid steps alone, which nothing of the others reaches.

Every mask of the tests has rows of each kind: no masked step, masked on the left, on the right,
in the middle, here and there, and all masked.
"""

import dataclasses

import numpy as np
import pytest
import torch
from cases import RECURRENT, built
from cases_conv_lstm import convolved
from torch_tools import exported

import xlstm
from xlstm import reference
from xlstm.frameworks import registry
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import LSTM, Bidirectional, Input

STEPS = 9
ROWS = ["111111111", "000111111", "111100000", "110001111", "010110010", "000000000"]
KEEP = torch.tensor([[mark == "1" for mark in row] for row in ROWS])

SCRIPTING = [
    pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:`torch.jit.trace.*:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:The tensor attributes self:UserWarning"),  # nn.LSTM
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # checks of shapes
]

STATES = {"return_sequences": True, "return_state": True}
SPECS = {
    **RECURRENT,
    "lstm_relu": LSTM(3, 5, "relu", "hard_sigmoid_keras2", return_sequences=True),
    "lstm_no_bias": LSTM(3, 5, use_bias=False, return_sequences=True),
    "conv_lstm": convolved(4),
}


def network(spec, *, states=False):
    """A layer with a mask of its own, all outputs of which are read."""
    graph = Builder()
    half = spec.forward if isinstance(spec, Bidirectional) else spec
    x = graph.add("x", Input((STEPS, *getattr(half, "space", ()), half.features)))
    keep = graph.add("keep", Input((STEPS,), "bool"))
    shapes = spec.state_shapes() if states else ()
    starts = [graph.add(f"start_{n}", Input(shape)) for n, shape in enumerate(shapes)]
    graph.add("layer", spec, [x], mask=keep, states=starts)
    return built(graph, [Edge("layer", n) for n in range(len(graph.nodes[-1].shapes))])


def arguments(source, keep=KEEP, seed=0):
    """Inputs of trained size; the mask is the second one."""
    rng = np.random.default_rng(seed)
    shapes = [node.shape for node in source.nodes if isinstance(node.spec, Input)]
    found = [torch.from_numpy(rng.standard_normal((len(keep), *shape))) for shape in shapes]
    return [found[0], keep, *found[2:]]


def flat(outputs):
    return [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)


def forms():
    """Every layer in every direction, with the states that it can start from and return."""
    for name, spec in SPECS.items():
        back = dataclasses.replace(spec, go_backwards=True)
        last = dataclasses.replace(spec, return_sequences=False)
        zeros = dataclasses.replace(spec, zero_output_for_mask=True)
        held = dataclasses.replace(spec, **STATES)
        yield name, network(spec)
        yield f"{name}-last", network(last)
        yield f"{name}-backwards", network(back)
        yield f"{name}-zeros", network(zeros)
        yield f"{name}-zeros-last", network(dataclasses.replace(zeros, return_sequences=False))
        yield f"{name}-states", network(held, states=True)
        yield (
            f"{name}-states-backwards",
            network(dataclasses.replace(held, go_backwards=True), states=True),
        )
        yield f"{name}-both", network(Bidirectional(spec, back))
        yield (
            f"{name}-both-last",
            network(Bidirectional(last, dataclasses.replace(last, go_backwards=True), "sum")),
        )
        yield (
            f"{name}-both-states",
            network(
                Bidirectional(held, dataclasses.replace(held, go_backwards=True), "none"),
                states=True,
            ),
        )


FORMS = dict(forms())


@pytest.mark.parametrize("name", FORMS)
def test_outputs_and_states_are_those_of_the_reference(name):
    source = FORMS[name].astype("float64")
    inputs = arguments(source)
    found = flat(xlstm.port(source, "torch", dtype="float64")(*inputs))
    wanted = reference.run(source, [x.numpy() for x in inputs])
    for mine, own in zip(found, wanted, strict=True):
        np.testing.assert_allclose(mine.detach().numpy(), own, rtol=0, atol=2e-15)


@pytest.mark.parametrize("name", ["lstm_relu-states", "lstm_relu-both-states"])
def test_a_mask_of_no_steps_keeps_the_states(name):
    x, keep, *states = arguments(FORMS[name])
    found = flat(xlstm.port(FORMS[name], "torch", dtype="float64")(x[:, :0], keep[:, :0], *states))
    assert [part.shape[1] for part in found[: -len(states)]] == [0] * (len(found) - len(states))
    for mine, own in zip(found[-len(states) :], states, strict=True):
        torch.testing.assert_close(mine, own, rtol=0, atol=0)


AUTOCAST = [
    f"{name}{end}" for name in ("lstm", "lstm_relu", "gru_before") for end in ("", "-states")
]


@pytest.mark.parametrize(
    "name", [*AUTOCAST, "conv_lstm-states", "gru-zeros-last", "lstm-both-last"]
)
def test_autocast_and_second_derivatives(name):
    port = xlstm.port(FORMS[name], "torch")
    x, keep, *states = arguments(FORMS[name].astype("float32"))
    x, states = x.float().requires_grad_(), [part.float() for part in states]
    wanted = flat(port(x, keep, *states))
    with torch.autocast("cpu", torch.bfloat16):
        for mine, own in zip(flat(port(x, keep, *states)), wanted, strict=True):
            torch.testing.assert_close(mine.float(), own, rtol=0, atol=0.1)
    port, x, states = (
        port.double(),
        x.detach().double().requires_grad_(),
        [s.double() for s in states],
    )
    direction = torch.randn_like(x)

    def slope(x):
        loss = sum((y**3).sum() for y in flat(port(x, keep, *states)))
        return torch.autograd.grad(loss, x, create_graph=True)[0]

    (second,) = torch.autograd.grad((slope(x) * direction).sum(), x)
    step = 1e-6 * direction
    wanted = (slope(x + step) - slope(x - step)) / 2e-6
    torch.testing.assert_close(second, wanted.detach(), rtol=1e-5, atol=1e-5)


NAN = [f"{name}{end}" for name in ("lstm", "lstm_relu", "gru_before") for end in ("", "-states")]


@pytest.mark.parametrize("name", [*NAN, "gru-last", "simple_rnn-both"])
def test_masked_numbers_reach_no_output_and_no_gradient(name):
    """NaN at masked steps: as if zeros were there, and a slope of zero for them."""
    port = xlstm.port(FORMS[name], "torch", dtype="float64")
    x, *others = arguments(FORMS[name])
    found = []
    for filling in (0.0, torch.nan):
        own = x.masked_fill(~KEEP.unsqueeze(-1), filling).requires_grad_()
        outputs = flat(port(own, *others))
        slopes = torch.autograd.grad(
            sum(y.square().sum() for y in outputs), [own, *port.parameters()]
        )
        assert not slopes[0][~KEEP].any()
        found.append([*outputs, *slopes])
    for mine, own in zip(*found, strict=True):
        assert torch.equal(mine, own)


def masked_loop(module, x, keep):
    """An nn.LSTM one step at a time, whose states stay at masked steps."""
    h = c = x.new_zeros(1, len(x), module.hidden_size)
    outputs = []
    for t in range(x.shape[1]):
        _, (new_h, new_c) = module(x[:, t : t + 1], (h, c))
        now = keep[None, :, t, None]
        h, c = torch.where(now, new_h, h), torch.where(now, new_c, c)
        outputs.append(h[0])
    return torch.stack(outputs, dim=1), h[0], c[0]


@pytest.mark.parametrize("name", ["lstm", "lstm_no_bias"])
def test_gradients_are_those_of_a_loop_that_holds_the_state(name):
    source = network(dataclasses.replace(SPECS[name], **STATES))
    port = xlstm.port(source, "torch", dtype="float64")
    native = torch.nn.LSTM(3, 5, batch_first=True, bias="no" not in name).double()
    native.load_state_dict(port.layer.state_dict())
    x, keep = arguments(source)
    found, wanted = port(x, keep), masked_loop(native, x, keep)
    weights = [torch.from_numpy(np.random.default_rng(1).standard_normal(y.shape)) for y in wanted]
    slopes = []
    for outputs, module in ((found, port), (wanted, native)):
        total = sum((w * y).sum() for w, y in zip(weights, outputs, strict=True))
        slopes.append(torch.autograd.grad(total, [*module.parameters()]))
    for mine, own in zip(*slopes, strict=True):
        torch.testing.assert_close(mine, own, rtol=0, atol=1e-13)


TOOLS = ["lstm", "gru-states", "lstm-states", "lstm_no_bias-both-states", "lstm_relu-states"]


@pytest.mark.parametrize("name", [*TOOLS, "gru_before-both", "simple_rnn-zeros", "conv_lstm-last"])
@pytest.mark.parametrize("how", ["trace", "script", "export"])
def test_one_export_serves_other_masks_and_batches(how, name):
    """Made where no step is masked, run where some or all are."""
    port = xlstm.port(FORMS[name], "torch", dtype="float64")
    inputs = tuple(arguments(FORMS[name], torch.ones(3, STEPS, dtype=torch.bool)))
    if how == "trace":
        made = torch.jit.trace(port, inputs, check_trace=False)
    elif how == "script":
        made = torch.jit.script(port)
    else:
        shapes = tuple({0: torch.export.Dim("batch")} for _ in inputs)
        made = exported(port, inputs, dynamic_shapes=shapes)
    for keep in (KEEP, KEEP[:2], KEEP[5:].expand(4, -1), KEEP.flip(1)):
        others = arguments(FORMS[name], keep, seed=3)
        for mine, own in zip(flat(made(*others)), flat(port(*others)), strict=True):
            torch.testing.assert_close(mine, own, rtol=0, atol=1e-15)


test_one_export_serves_other_masks_and_batches.pytestmark += SCRIPTING


def test_own_cells_with_a_mask_are_mapped_over_samples():
    """`torch.vmap` has no rule for nn.LSTM itself, but for all that is around it."""
    port = xlstm.port(FORMS["gru_before"], "torch", dtype="float64")
    x, keep = arguments(FORMS["gru_before"])
    found = torch.vmap(lambda x, keep: port(x[None], keep[None])[0])(x, keep)
    torch.testing.assert_close(found, port(x, keep), rtol=0, atol=1e-15)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_cell_state_is_held_in_half_precision_too(dtype):
    source = network(dataclasses.replace(SPECS["lstm"], **STATES))
    port = xlstm.port(source, "torch").to(getattr(torch, dtype))
    x, _ = arguments(source)
    once = torch.ones(6, STEPS, dtype=torch.bool)
    once[:, 4:] = False
    with torch.no_grad():
        whole = port(x.to(port.layer.weight_hh_l0.dtype), once)
        short = port.layer(x[:, :4].to(whole[0].dtype), once[:, :4])
    assert torch.equal(whole[2], short[1][1][0])
    assert torch.equal(whole[1], short[1][0][0])


@pytest.mark.parametrize("name", SPECS)
def test_native_layers_stay_visible(name):
    emit = registry.adapter("torch").emit
    text = emit(FORMS[name])
    assert "Masked" not in text
    assert text.count("valid_first(x_, keep)") == 1
    held = emit(FORMS[f"{name}-states"])
    assert ("class Masked" in held) == ("lstm" in name)


def test_a_batch_of_nothing():
    port = xlstm.port(FORMS["lstm_relu"], "torch", dtype="float64")
    x, keep = arguments(FORMS["lstm_relu"])
    assert port(x[:0], keep[:0]).shape == (0, STEPS, 5)
