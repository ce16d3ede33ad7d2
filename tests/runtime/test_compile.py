"""`xlstm.compile`: right results for every shape, with present weights, in every framework."""

import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES, built, model

import xlstm
from xlstm import reference
from xlstm.errors import UsageError
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import GRU, LSTM, BatchNorm, Dense, Dropout, Input
from xlstm.verification.inputs import BATCH

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")
keras = pytest.importorskip("keras", reason="keras is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is:DeprecationWarning")

TOLERANCE = {"float64": 1e-13, "float32": 2e-6}
FRAMEWORKS = ("torch", "nnx", "linen", "keras", "numpy")


def trained():
    """A chain whose Dropout and BatchNorm would show training mode."""
    layers = [LSTM(3, 5, "tanh", "hard_sigmoid", return_sequences=True), Dropout(0.5)]
    return model([*layers, BatchNorm(5), LSTM(5, 4), Dense(4, 2)], (None, 3))


def two_inputs():
    """Two inputs, and two outputs."""
    graph = Builder()
    x, y = graph.add("x", Input((None, 3))), graph.add("y", Input((4,)))
    last = graph.add("last", LSTM(3, 4), [x])
    return built(graph, [last, graph.add("dense", Dense(4, 2, "relu"), [y])])


MODELS = {
    "trained": trained(),
    "two_inputs": two_inputs(),
    "masked": CASES["lstm-relu-masked"],
    "both": CASES["lstm-both-none"],
    "before": CASES["gru-tanh-hard_sigmoid_keras2-before"],
    "stateful": CASES["lstm-stateful"],
    "encoder_decoder": CASES["encoder_decoder"],
}


def arrays(case, batch, steps, dtype, seed=0):
    """Random inputs of a model."""
    rng = np.random.default_rng(seed)
    shapes = [case.node(name).shape for name in case.inputs]
    sizes = [[steps if size is None else size for size in shape] for shape in shapes]
    return [rng.standard_normal((batch, *size)).astype(dtype) for size in sizes]


def native(framework, inputs):
    """Inputs as a port of the framework takes them."""
    if framework == "torch":
        return [torch.from_numpy(x) for x in inputs]
    if framework == "keras":
        tensors = [keras.ops.convert_to_tensor(x) for x in inputs]
        return tensors if len(tensors) == 1 else [tensors]
    return inputs


def listed(outputs):
    """All arrays of outputs, in order, as numpy."""
    if isinstance(outputs, dict):
        outputs = outputs.values()
    if isinstance(outputs, (tuple, list, type({}.values()))):
        return [array for part in outputs for array in listed(part)]
    return [np.asarray(outputs)]


def check(call, framework, case, inputs):
    """A call gives the reference's numbers."""
    dtype = inputs[0].dtype.name
    wanted = reference.run(case, inputs)
    found = listed(call(*native(framework, inputs)))
    if framework == "keras":
        wanted = wanted[: len(found)]  # its states stay in the model
    assert len(found) == len(wanted)
    for got, want in zip(found, wanted, strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype])


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("name", MODELS)
def test_every_shape_is_right(name, framework):
    case = MODELS[name]
    dtype = "float64" if name in ("trained", "stateful") else "float32"
    port = xlstm.port(case, framework, dtype=dtype)
    call = xlstm.compile(port)
    fixed = framework == "keras" and name == "stateful"
    for batch, steps in [(BATCH, 5)] if fixed else [(2, 5), (1, 7), (2, 5)]:
        check(call, framework, case, arrays(case, batch, steps, dtype, seed=steps))


@pytest.mark.parametrize("framework", ["torch", "nnx", "linen", "numpy"])
def test_states_go_on(framework):
    case = CASES["lstm-stateful"]
    call = xlstm.compile(xlstm.port(case, framework, dtype="float64"))
    (x,) = arrays(case, 2, 8, "float64")
    first, state = call(*native(framework, [x[:, :3]]))
    second, _ = call(*native(framework, [x[:, 3:]]), state=state)
    found = np.concatenate([np.asarray(first), np.asarray(second)], axis=1)
    np.testing.assert_allclose(found, reference.run(case, [x])[0], rtol=0, atol=1e-13)


@pytest.mark.parametrize("with_examples", [False, True])
def test_states_of_keras_go_on(with_examples):
    case = CASES["lstm-stateful"]
    (x,) = arrays(case, BATCH, 8, "float64")
    parts = [native("keras", [part]) for part in (x[:, :4], x[:, 4:])]
    port = xlstm.port(case, "keras", dtype="float64")
    call = xlstm.compile(port, *(parts[0] if with_examples else ()))
    found = [np.asarray(call(*part)) for part in parts]
    want = reference.run(case, [x])[0]
    np.testing.assert_allclose(np.concatenate(found, axis=1), want, rtol=0, atol=1e-13)


OTHER_BACKENDS = """
import keras, numpy as np, xlstm
from xlstm import reference
from xlstm.model import LSTM, Dense, Source, chain
rng = np.random.default_rng(0)
shapes = {"kernel": (4, 3, 5), "recurrent": (4, 5, 5), "bias": (1, 4, 5)}
hub = {"lstm": {name: rng.standard_normal(shape) / 2 for name, shape in shapes.items()}}
x = rng.standard_normal((2, 6, 3)).astype("float32")
for stateful in (False, True):
    spec = LSTM(3, 5, "tanh", "hard_sigmoid", return_sequences=True, stateful=stateful)
    model = chain("m", [("lstm", spec, True)], (None, 3), hub, Source(""), batch=2)
    port = xlstm.port(model, "keras", dtype="float32")
    call = xlstm.compile(port, x[:, :3])
    parts = [call(x[:, :3]), call(x[:, 3:])] if stateful else [call(x)]
    found = np.concatenate([keras.ops.convert_to_numpy(y) for y in parts], axis=1)
    np.testing.assert_allclose(found, reference.run(model, [x])[0], rtol=0, atol=2e-6)
    port.set_weights([w / 2 for w in port.get_weights()])
    if not stateful:
        now, want = (keras.ops.convert_to_numpy(y) for y in (call(x), port(x)))
        np.testing.assert_allclose(now, want, rtol=0, atol=2e-6)
        assert abs(found - now).max() > 1e-2
print("equal on", keras.backend.backend())
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_of_keras(backend, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", backend)
    command = [sys.executable, "-c", OTHER_BACKENDS]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.stdout == f"equal on {backend}\n", done.stdout + done.stderr


@pytest.fixture
def eager(monkeypatch):
    """`torch.compile` without a C++ compiler: tests need not wait for one."""
    from xlstm.converters.torch.live import fast_calls

    options = {"dynamic": False, "backend": "eager"}
    monkeypatch.setattr(fast_calls, "COMPILE", options)
    monkeypatch.setattr(fast_calls, "has_compiler", lambda: True)
    return fast_calls


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_examples_fix_no_shape(framework):
    case = trained()
    port = xlstm.port(case, framework)
    call = xlstm.compile(port, *native(framework, arrays(case, 2, 5, "float32")))
    for batch, steps in [(2, 5), (1, 5), (2, 3), (2, 5)]:
        check(call, framework, case, arrays(case, batch, steps, "float32", seed=steps))


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_other_dtypes_are_right_or_refused(framework):
    """They never run in code that was made for another dtype."""
    case = trained()
    example = arrays(case, 2, 5, "float32")
    port = xlstm.port(case, framework)
    call = xlstm.compile(port, *native(framework, example))
    want = reference.run(case, example)[0]
    wide = [x.astype("float64") for x in example]
    if framework == "torch":
        with pytest.raises((RuntimeError, ValueError), match=r"dtype|type"):
            call(*native(framework, wide))
    else:
        found = np.asarray(call(*native(framework, wide)))
        np.testing.assert_allclose(found, want, rtol=0, atol=2e-6)
    with pytest.raises(Exception, match=r"."):
        call(*native(framework, [example[0][:, :, :2]]))
    with pytest.raises(Exception, match=r"."):
        call(*native(framework, [example[0][:, 0]]))


def halved(framework, port):
    """Halves all weights, as the framework's users change them."""
    import jax
    from flax import nnx

    if framework == "torch":
        port.load_state_dict({name: x / 2 for name, x in port.state_dict().items()})
    elif framework == "nnx":
        params = nnx.state(port, (nnx.Param, nnx.BatchStat))
        nnx.update(port, jax.tree.map(lambda x: x / 2, params))
    elif framework == "linen":
        for kind, tree in port[1].items():
            port[1][kind] = jax.tree.map(lambda x: x / 2, tree)
    else:
        port.set_weights([x / 2 for x in port.get_weights()])


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("framework", ["torch", "nnx", "linen", "keras"])
@pytest.mark.parametrize("with_examples", [False, True])
def test_weights_that_change_later_are_followed(framework, with_examples):
    case = trained()
    port = xlstm.port(case, framework)
    inputs = native(framework, arrays(case, 2, 5, "float32"))
    call = xlstm.compile(port, *(inputs if with_examples else ()))
    before = np.asarray(call(*inputs))
    halved(framework, port)
    want = np.asarray(xlstm.port(port, "numpy")(*arrays(case, 2, 5, "float32")))
    assert np.abs(want - before).max() > 1e-2
    np.testing.assert_allclose(np.asarray(call(*inputs)), want, rtol=0, atol=2e-6)


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("with_examples", [False, True])
def test_tensors_that_replace_others_are_followed(with_examples):
    case = trained()
    port = xlstm.port(case, "torch")
    (x,) = native("torch", arrays(case, 2, 5, "float32"))
    call = xlstm.compile(port, *([x] if with_examples else []))
    before = call(x).clone()
    port.load_state_dict({n: t / 2 for n, t in port.state_dict().items()}, assign=True)
    assert (port(x) - before).abs().max() > 1e-2
    torch.testing.assert_close(call(x).clone(), port(x).detach(), rtol=0, atol=2e-6)
    torch.testing.assert_close(call(x[:1]).clone(), port(x[:1]).detach(), rtol=0, atol=2e-6)
    port.double()
    torch.testing.assert_close(
        call(x.double()).clone(), port(x.double()).detach(), rtol=0, atol=1e-12
    )


def _doubled(_module, _inputs, output):
    return 2 * output


def _doubled_forward(forward):
    """A method that computes twice the output of another."""

    def run(*inputs):
        y, states = forward(*inputs)
        return 2 * y, states

    return run


def _parametrized(cell, _port):
    torch.nn.utils.parametrizations.weight_norm(cell, "weight_hh_l0")


CHANGES = {
    "gate": lambda cell, _port: setattr(cell, "gate", torch.tanh),
    "slope": lambda cell, _port: setattr(cell, "slope", 0.5),
    "forward": lambda cell, _port: setattr(cell, "forward", _doubled_forward(cell.forward)),
    "hook": lambda _cell, port: port.register_forward_hook(_doubled),
    "layer": lambda _cell, port: setattr(port, "dense_4", torch.nn.Linear(4, 2)),
    "parametrized": _parametrized,
}


@pytest.mark.usefixtures("eager")
@pytest.mark.parametrize("with_examples", [False, True])
@pytest.mark.parametrize("name", CHANGES)
def test_parts_that_replace_others_are_followed(name, with_examples, monkeypatch):
    layers = [LSTM(3, 5, "tanh", "hard_sigmoid_keras2", return_sequences=True)]
    case = model([*layers, Dropout(0.5), BatchNorm(5), LSTM(5, 4), Dense(4, 2)], (None, 3))
    port = xlstm.port(case, "torch")
    (x,) = native("torch", arrays(case, 2, 5, "float32"))
    call = xlstm.compile(port, *([x] if with_examples else []))
    CHANGES[name](port.lstm_0, port)
    for _ in range(2):
        for part in (x, x[:1]):
            want = port(part).detach()
            torch.testing.assert_close(call(part).clone(), want, rtol=0, atol=2e-6)
        monkeypatch.setattr(torch.jit, "script", lambda _: pytest.fail("scripted again"))


def _other_activation(port):
    port.lstm_0.cell.gate_fn = port.lstm_0.cell.activation_fn


def _other_kernel(port):
    from flax import nnx

    port.dense_4.kernel = nnx.Param(port.dense_4.kernel[...] * 3)


def _other_layer(port):
    from flax import nnx

    port.dense_4 = nnx.Linear(4, 2, rngs=nnx.Rngs(0))


@pytest.mark.parametrize("change", [_other_activation, _other_kernel, _other_layer])
def test_parts_of_nnx_that_replace_others_are_followed(change):
    case = trained()
    port = xlstm.port(case, "nnx")
    (x,) = arrays(case, 2, 5, "float32")
    call = xlstm.compile(port)
    before = np.asarray(call(x))
    change(port)
    for _ in range(2):  # the second change is one of values, in the new part
        want = np.asarray(port(x))
        assert np.abs(want - before).max() > 1e-2
        np.testing.assert_allclose(np.asarray(call(x)), want, rtol=0, atol=2e-6)
        port.dense_4.kernel[...] *= 2


@pytest.mark.usefixtures("eager")
def test_states_by_position():
    case = model([replace(LSTM(3, 5, "relu"), stateful=True)], (None, 3))
    port = xlstm.port(case, "torch")
    (x,) = native("torch", arrays(case, BATCH, 5, "float32"))
    for call in (xlstm.compile(port), xlstm.compile(port, x)):
        y, state = call(x, None)
        y, _ = call(x, state)
        torch.testing.assert_close(y.clone(), port(x, port(x)[1])[0].detach(), rtol=0, atol=2e-6)


def test_own_cells_are_scripted(monkeypatch):
    scripts = []
    script = torch.jit.script

    def kept(part, **options):  # PyTorch scripts functions of the module by it, with options
        scripts.append(script(part, **options))
        return scripts[-1]

    monkeypatch.setattr(torch.jit, "script", kept)
    for name in ("lstm-relu-hard_sigmoid", "simple_rnn-sequence"):
        xlstm.compile(xlstm.port(CASES[name], "torch"))
    assert [isinstance(one, torch.jit.ScriptModule) for one in scripts].count(True) == 1
    monkeypatch.setattr(torch.jit, "script", lambda _: 1 / 0)
    call = xlstm.compile(xlstm.port(CASES["lstm-relu-hard_sigmoid"], "torch"))
    case = CASES["lstm-relu-hard_sigmoid"]
    check(call, "torch", case, arrays(case, 2, 5, "float32"))


def test_a_step_of_an_optimizer_is_followed():
    case = trained()
    port = xlstm.port(case, "torch")
    (x,) = native("torch", arrays(case, 2, 5, "float32"))
    call = xlstm.compile(port)
    before = call(x).clone()
    optimizer = torch.optim.SGD(port.parameters(), lr=0.5)
    port(x).sum().backward()
    optimizer.step()
    after = call(x)
    assert (after - before).abs().max() > 1e-2
    assert not after.requires_grad
    torch.testing.assert_close(after.clone(), port(x).detach(), rtol=0, atol=2e-6)


def test_a_port_in_training_mode():
    case = trained()
    inputs = arrays(case, 2, 5, "float32")
    port = xlstm.port(case, "torch").train()
    with pytest.raises(UsageError, match="compile: expected a module in evaluation mode, got tra"):
        xlstm.compile(port)
    call = xlstm.compile(port.eval())  # the mode of PyTorch
    port.train()
    with pytest.raises(UsageError, match="evaluation mode"):
        call(*native("torch", inputs))
    port = xlstm.port(case, "nnx")
    port.train()
    check(xlstm.compile(port), "nnx", case, inputs)


def test_a_failure_of_the_compiler_is_told(eager, monkeypatch):
    case = trained()
    monkeypatch.setattr(eager, "COMPILE", {"backend": lambda *_: 1 / 0})
    port, inputs = xlstm.port(case, "torch"), arrays(case, 2, 5, "float32")
    with pytest.warns(RuntimeWarning, match="compile: torch.compile failed"):
        call = xlstm.compile(port, *native("torch", inputs))
    check(call, "torch", case, inputs)


def test_dicts_of_outputs_stay_dicts():
    case = two_inputs()
    case = replace(case, keys=("a", "b"), outputs=(Edge("last"), Edge("dense")))
    for framework in FRAMEWORKS:
        call = xlstm.compile(xlstm.port(case, framework))
        inputs = arrays(case, 2, 5, "float32")
        assert sorted(call(*native(framework, inputs))) == ["a", "b"], framework
        check(call, framework, case, inputs)


@pytest.mark.parametrize("framework", ["nnx", "linen"])
@pytest.mark.parametrize("name", ["lstm-sequence", "lstm-masked", "lstm-relu-hard_sigmoid"])
def test_an_lstm_of_flax_has_one_product_a_step(name, framework):
    import jax

    case = CASES[name]
    port, (x,) = xlstm.port(case, framework), arrays(case, 2, 5, "float32")
    assert str(jax.make_jaxpr(xlstm.compile(port))(x)).count("dot_general[") == 1
    check(xlstm.compile(port), framework, case, [x])


def test_a_gru_of_nnx_copies_no_part_of_a_kernel_in_its_loop():
    import jax
    from flax import nnx

    case = model([GRU(3, 5, reset_after=False, return_sequences=True)], (None, 3))
    port, (x,) = xlstm.port(case, "nnx"), arrays(case, 2, 5, "float32")
    graph, state = nnx.split(port)
    lowered = jax.jit(lambda state, x: nnx.merge(graph, state)(x)).lower(state, x)
    text = lowered.compile().as_text()
    (name,) = re.findall(r" while\(.*body=%([\w.]+)", text)
    head = text[text.index(f"\n%{name} (") :].splitlines()[1]
    # 3 features and 5 units: both kernels joined, and no kernel of three gates to slice
    assert "f32[8,10]" in head
    assert "f32[8,5]" in head
    assert "f32[5,15]" not in head


def test_other_objects_are_refused():
    with pytest.raises(UsageError, match="compile: expected a port: a live model of keras, torch"):
        xlstm.compile(lambda x: x)
    with pytest.raises(UsageError, match="compile"):
        xlstm.compile("model.h5")
