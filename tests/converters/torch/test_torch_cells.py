"""Own cells of PyTorch: gradients, modes and transforms, and exports that run at other shapes."""

import copy
import io
import warnings

import onnxruntime
import pytest
import torch
from cases import built, model
from torch.autograd import forward_ad
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.flop_counter import FlopCounterMode
from torch_tools import exported

import xlstm
from xlstm.ir.graph import Builder
from xlstm.ir.layers import GRU, LSTM, Input, SimpleRNN

SEQUENCE = {"return_sequences": True}
CELLS = {
    "lstm-keras2": LSTM(3, 5, "relu", "hard_sigmoid_keras2", **SEQUENCE),
    "lstm-keras3": LSTM(3, 5, "tanh", "hard_sigmoid", **SEQUENCE),
    "lstm-no_bias": LSTM(3, 5, "tanh", "hard_sigmoid_keras2", use_bias=False, **SEQUENCE),
    "lstm-softmax": LSTM(3, 5, "softmax", "softmax", **SEQUENCE),
    "gru-keras2": GRU(3, 5, "relu", "hard_sigmoid_keras2", **SEQUENCE),
    "gru-softsign": GRU(3, 5, "softsign", **SEQUENCE),
    "gru-linear": GRU(3, 5, "linear", **SEQUENCE),
    "gru_before": GRU(3, 5, reset_after=False, **SEQUENCE),
    "gru_before-keras2": GRU(
        3, 5, "relu", "hard_sigmoid_keras2", reset_after=False, use_bias=False, **SEQUENCE
    ),
    "rnn": SimpleRNN(3, 5, "sigmoid", **SEQUENCE),
    "rnn-linear": SimpleRNN(3, 5, "linear", **SEQUENCE),
    "rnn-softmax": SimpleRNN(3, 5, "softmax", **SEQUENCE),
}
KINDS = ["lstm-keras2", "gru-keras2", "gru_before", "rnn"]
"""One of every class."""
SHAPES = [(4, 7, 3), (2, 11, 3), (1, 1, 3)]
"""The shape that is traced, and others: (batch, time, input)."""

FREE = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}


def cell_of(name, dtype="float64"):
    """The own cell out of a port, and the input and states of a call that moves all of them."""
    port = xlstm.port(model([CELLS[name]], (None, 3)), "torch", dtype=dtype)
    (cell,) = port.children()
    draw = torch.Generator().manual_seed(0)
    made = [(4, 7, 3), (4, 5), (4, 5)] if name.startswith("lstm") else [(4, 7, 3), (4, 5)]
    x, *states = (
        torch.randn(shape, generator=draw, dtype=getattr(torch, dtype)).requires_grad_()
        for shape in made
    )
    return cell, x, tuple(states)


def call(cell, x, states):
    """The output and the last states of a call."""
    y, after = cell(x, states if len(states) > 1 else states[0])
    return [y, *(after if isinstance(after, tuple) else (after,))]


def gradients(cell, x, states, outputs):
    """Gradients of input, states and parameters, of a loss that every output is in."""
    loss = sum((y**3).sum() for y in outputs)
    return torch.autograd.grad(loss, [x, *states, *cell.parameters()])


def recorded(cell, x, states):
    """Outputs and gradients by PyTorch's own record of every step."""
    cell.elementwise = False
    try:
        outputs = call(cell, x, states)
        return [*outputs, *gradients(cell, x, states, outputs)]
    finally:
        cell.elementwise = True


def check_equal(found, wanted, room=1e-13):
    for mine, own in zip(found, wanted, strict=True):
        torch.testing.assert_close(mine, own, rtol=room, atol=room)


@pytest.mark.parametrize("name", [name for name in CELLS if "softmax" not in name])
def test_gradients_are_those_of_a_record(name):
    cell, x, states = cell_of(name)
    wanted = recorded(cell, x, states)
    outputs = call(cell, x, states)
    assert type(outputs[0].grad_fn).__name__ == "TransposeBackward0"
    assert "SequenceBackward" in type(outputs[0].grad_fn.next_functions[0][0]).__name__
    # PyTorch's own hardsigmoid takes 1/6 in float32 backwards
    room = 1e-6 if "keras3" in name else 1e-13
    check_equal([*outputs, *gradients(cell, x, states, outputs)], wanted, room)
    with torch.inference_mode():
        check_equal(call(cell, x, states), [y.detach() for y in wanted[: len(outputs)]])


@pytest.mark.parametrize("name", ["lstm-softmax", "rnn-softmax"])
def test_activations_that_mix_units_are_recorded(name):
    cell, x, states = cell_of(name)
    assert not cell.elementwise
    assert torch.autograd.gradcheck(lambda x: call(cell, x, states)[0], x, fast_mode=True)


def penalty(cell, x, states):
    """A loss of all first gradients, and what it is derived by."""
    moved = [x, *states, *cell.parameters()]
    loss = sum((y**3).sum() for y in call(cell, x, states))
    first = torch.autograd.grad(loss, moved, create_graph=True)
    return sum((part**2).sum() for part in first), moved


@pytest.mark.parametrize("name", KINDS)
def test_second_and_third_derivatives(name):
    cell, x, states = cell_of(name)
    found = []
    for cell.elementwise in (True, False):
        second = torch.autograd.grad(*penalty(cell, x, states), create_graph=True)
        loss = sum((part**2).sum() for part in second)
        found.append([*second, *torch.autograd.grad(loss, [x, *states, *cell.parameters()])])
    check_equal(*found, 1e-8)
    cell.elementwise = True
    assert torch.autograd.gradgradcheck(lambda x: call(cell, x, states)[0], x, fast_mode=True)
    cell.requires_grad_(False)
    assert torch.autograd.gradgradcheck(lambda h: cell(x.detach()[:, :1] * h[0, 0])[0], states[0])


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", KINDS)
def test_many_gradients_at_once(name):
    cell, x, states = cell_of(name)
    inputs = tuple(part.detach() for part in (x, *states))
    for many in (
        {"vectorize": True},
        {"vectorize": True, "strategy": "forward-mode"},
        {"vectorize": True, "create_graph": True},
    ):
        outputs = [lambda x, *states, n=n: call(cell, x, states)[n] for n in range(len(inputs))]
        for output in outputs:
            found = torch.autograd.functional.jacobian(output, inputs, **many)
            check_equal(found, torch.autograd.functional.jacobian(output, inputs))
    y = cell(x)[0]
    slopes = torch.randn(3, *y.shape, dtype=y.dtype)
    back = torch.func.vmap(lambda d: torch.autograd.grad(y, x, d, retain_graph=True)[0])
    wanted = [torch.autograd.grad(y, x, d, retain_graph=True)[0] for d in slopes]
    check_equal(back(slopes), wanted)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", KINDS)
def test_forward_mode(name):
    cell, x, states = cell_of(name)
    inputs, n = (x.detach(), *(part.detach() for part in states)), len(states)
    jacobians = torch.autograd.functional.jacobian(
        lambda *parts: call(cell, parts[0], parts[1:])[n], inputs
    )
    for moved, jacobian in enumerate(jacobians):
        tangent = torch.randn_like(inputs[moved])
        with forward_ad.dual_level():
            parts = [*inputs]
            parts[moved] = forward_ad.make_dual(parts[moved], tangent)
            found = forward_ad.unpack_dual(call(cell, parts[0], parts[1:])[n]).tangent
        check_equal([found], [torch.tensordot(jacobian, tangent, tangent.dim())])


@pytest.mark.parametrize("name", KINDS)
def test_modes_that_see_operations_see_those_of_a_step(name):
    cell, x, states = cell_of(name)

    def slope(x):
        return torch.autograd.grad(call(cell, x, states)[0].square().sum(), x)[0]

    check_equal([make_fx(slope)(x)(2 * x)], [slope(2 * x)])
    counts = []
    for cell.elementwise in (True, False):
        with FlopCounterMode(display=False) as counter:
            call(cell, x, states)[0].sum().backward()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("name", KINDS)
def test_an_operation_in_place_may_follow(name):
    cell, x, states = cell_of(name)
    (wanted,) = torch.autograd.grad(call(cell, x, states)[0].relu().sum(), x)
    (found,) = torch.autograd.grad(torch.relu_(call(cell, x, states)[0]).sum(), x)
    torch.testing.assert_close(found, wanted, rtol=0, atol=0)


@pytest.mark.parametrize("name", KINDS)
def test_transforms_follow_every_operation(name):
    cell, x, _ = cell_of(name)
    with torch.no_grad():
        rows = torch.vmap(lambda one: cell(one[None])[0][0])(x)
        check_equal([rows], [cell(x)[0]])
    parameters = dict(cell.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(cell, parameters, (x,))[0].square().sum()

    found = torch.func.grad(loss)(parameters)
    wanted = torch.autograd.grad(loss(parameters), [*parameters.values()])
    check_equal([*found.values()], wanted)


@pytest.mark.parametrize("name", KINDS)
def test_nothing_but_the_outputs_changes(name):
    cell, x, states = cell_of(name)
    before = [part.detach().clone() for part in (x, *states, *cell.parameters())]
    with torch.no_grad():
        y, h, *_ = call(cell, x, states)
        kept = y.clone()
        h += 1
        assert torch.equal(y, kept)
    check_equal([x, *states, *cell.parameters()], before, 0)
    # new weights count at once: nothing of the old ones is kept
    with torch.no_grad():
        for parameter in cell.parameters():
            parameter *= 0.5
        fresh, _, _ = cell_of(name)
        fresh.load_state_dict(cell.state_dict())
        assert torch.equal(call(cell, x, states)[0], call(fresh, x, states)[0])
        assert not torch.equal(call(cell, x, states)[0], y)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("gradient", [True, False])
def test_no_rows_and_no_steps(name, gradient):
    cell, x, states = cell_of(name)
    with torch.set_grad_enabled(gradient):
        assert cell(x[:0])[0].shape == (0, 7, 5)
        y, *after = call(cell, x[:, :0], states)
        assert y.shape == (4, 0, 5)
        check_equal(after, states, 0)


@pytest.mark.parametrize("name", KINDS)
def test_half_precision_and_autocast(name):
    cell, x, states = cell_of(name, "float32")
    wanted = cell(x)[0]
    half = cell_of(name, "float32")[0].to(torch.bfloat16)
    assert half(x.bfloat16())[0].dtype == torch.bfloat16
    torch.testing.assert_close(half(x.bfloat16())[0].float(), wanted, rtol=0, atol=0.1)
    outputs = call(cell, x, states)
    wanted = [*outputs, *gradients(cell, x, states, outputs)]
    for cell.elementwise in (True, False):
        for dtype in (torch.bfloat16, torch.float16):
            with torch.autocast("cpu", dtype):
                outputs = call(cell, x, states)
                # backward as well, which other layers allow
                found = [*outputs, *gradients(cell, x, states, map(torch.Tensor.float, outputs))]
            assert {part.dtype for part in outputs} == {dtype}
            for mine, own in zip(found, wanted, strict=True):
                largest = own.abs().max().item()
                torch.testing.assert_close(mine.float(), own, rtol=0, atol=0.1 * largest)
    with torch.autocast("cpu", torch.bfloat16):
        assert half(x)[0].dtype == torch.bfloat16
        call(cell, x, call(cell, x, states)[1:])  # states of a chunk before


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("name", KINDS)
def test_autocast_that_changes_dtypes_within_a_step(name):
    """CUDA computes softmax and softplus in float32, and a script what has several dtypes."""
    cell, x, _ = cell_of(name, "float32")
    wide, script = copy.deepcopy(cell), torch.jit.script(cell)
    wide.elementwise = False
    wide.activation = lambda x: cell.activation(x.float())
    wide.gate = lambda x: cell.gate(x.float())
    for _ in range(3):  # a script changes itself after its first calls
        for run in (wide, script):
            with torch.autocast("cpu", torch.bfloat16):
                y = run(x)[0].float()
            torch.testing.assert_close(y, cell(x)[0], rtol=0, atol=0.1)


def inputs(shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(shape[1]))


TOGETHER = "lstm-keras2 lstm-softmax gru-softsign gru_before-keras2 rnn".split()
"""Cells that are exported side by side, as one model."""


def every_cell():
    """A port with a cell of every class."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    found = [graph.add(name.replace("-", "_"), CELLS[name], [x]) for name in TOGETHER]
    return xlstm.port(built(graph, found), "torch")


def check_runs(run, ported, shapes, room=1e-6):
    """A function of one tensor gives what a port gives."""
    for shape in shapes:
        x = inputs(shape)
        for mine, own in zip(run(x), ported(x), strict=True):
            torch.testing.assert_close(mine, own, rtol=0, atol=room)


@pytest.mark.parametrize("strict", [False, True])
def test_exports_leave_batch_and_time_free(strict):
    ported = every_cell()
    module = exported(ported, [inputs(SHAPES[0])], dynamic_shapes=(FREE,), strict=strict)
    assert len(module.graph.nodes) < 50 * len(TOGETHER)
    check_runs(module, ported, SHAPES)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.parametrize("gradient", [True, False])
def test_scripts_run_at_other_shapes(gradient):
    ported = every_cell()
    script = torch.jit.script(ported)
    with torch.set_grad_enabled(gradient):
        check_runs(script, ported, SHAPES * 2)  # a script changes itself after its first calls


def by_dynamo(ported, x):
    options = {"dynamic_shapes": (FREE,), "verbose": False}
    torch.compiler.reset()  # torch 2.13: see `exported`
    made = torch.onnx.export(ported, (x,), dynamo=True, input_names=["x"], **options)
    kinds = [node.op_type for node in made.model_proto.graph.node]
    assert kinds.count("Scan") == len(TOGETHER)
    return made.model_proto.SerializeToString()


def by_trace(ported, x):
    file, axes = io.BytesIO(), {"x": {0: "batch", 1: "time"}}
    options = {"input_names": ["x"], "dynamic_axes": axes, "dynamo": False}
    torch.onnx.export(ported, (x,), file, **options)
    return file.getvalue()


def by_script(ported, x):
    return by_trace(torch.jit.script(ported), x)


def runner(export, ported):
    """A function that runs an ONNX export, which was made with the first shape."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # exporters warn of themselves
        made = export(ported, inputs(SHAPES[0]))
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    session = onnxruntime.InferenceSession(made, options, providers=["CPUExecutionProvider"])
    return lambda x: [torch.from_numpy(y) for y in session.run(None, {"x": x.numpy()})]


@pytest.mark.parametrize("export", [by_dynamo, by_script])
def test_onnx_with_a_loop_runs_at_other_shapes(export):
    ported = every_cell()
    with torch.no_grad():
        check_runs(runner(export, ported), ported, SHAPES, 1e-5)


def test_a_trace_to_onnx_refuses_another_length():
    """A trace writes every step, so it has one length; onnxruntime says so."""
    ported = every_cell()
    run = runner(by_trace, ported)
    with torch.no_grad():
        check_runs(run, ported, [(2, 7, 3), (1, 7, 3)], 1e-5)
    with pytest.raises(Exception, match="Split"):
        run(inputs(SHAPES[1]))


def test_states_of_one_tensor_stay_two_in_an_export():
    graph = Builder()
    x, h = graph.add("x", Input((None, 3))), graph.add("h", Input((5,)))
    y = graph.add("lstm", CELLS["lstm-keras2"], [x], states=[h, h])
    ported = xlstm.port(built(graph, [y]), "torch")
    arguments = [inputs((4, 7, 3)), torch.ones(4, 5)]
    found = exported(ported, arguments)(*arguments)
    torch.testing.assert_close(found, ported(*arguments), rtol=0, atol=1e-6)
