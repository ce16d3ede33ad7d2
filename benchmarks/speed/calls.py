"""Calls that are timed: one function for each framework and way of calling.

In: a case and a batch size. Out: a function without arguments that runs the model once and waits
for its result. Frameworks are imported by the functions that need them. `limit_threads` comes
before the first import: JAX and TensorFlow read the number of threads only once.
"""

from __future__ import annotations

import os
import time
import warnings
from typing import Any

import xlstm
from speed.models import STEPS, Case
from speed.timing import Call
from xlstm.ir import layers as L


def limit_threads(number: int) -> None:
    """Sets the threads of every framework; call it before any of them is imported."""
    os.environ["OMP_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = str(number)
    os.environ["TF_NUM_INTRAOP_THREADS"] = str(number)
    os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    many = str(number > 1).lower()
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={many}"
    processors = sorted(os.sched_getaffinity(0))[:number]
    os.sched_setaffinity(0, processors)


def torch_native(case: Case, batch: int) -> Call:
    """`nn.LSTM` or `nn.GRU` of the size of the case, whatever its activations."""
    import torch

    spec = case.spec
    kind = {"LSTM": torch.nn.LSTM, "GRU": torch.nn.GRU}[spec.kind]
    module = kind(spec.features, spec.units, batch_first=True)
    return _without_gradients(module, torch.from_numpy(case.inputs(batch)))


def _without_gradients(module: Any, *inputs: Any) -> Call:
    import torch

    def call() -> object:
        with torch.inference_mode():
            return module(*inputs)

    return call


def torch_port(case: Case, batch: int) -> Call:
    """The port, called as it is."""
    import torch

    module = xlstm.port(case.model(), "torch")
    return _without_gradients(module, torch.from_numpy(case.inputs(batch)))


def torch_scripted(case: Case, batch: int) -> Call:
    """The port after `torch.jit.script`."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated since PyTorch 2.11
        module = torch.jit.script(xlstm.port(case.model(), "torch"))
    return _without_gradients(module, torch.from_numpy(case.inputs(batch)))


def torch_compiled(case: Case, batch: int) -> Call:
    """The port after `xlstm.compile`."""
    import torch

    call = xlstm.compile(xlstm.port(case.model(), "torch"))
    x = torch.from_numpy(case.inputs(batch))
    return lambda: call(x)


def torch_fixed(case: Case, batch: int) -> Call:
    """The port after `xlstm.compile` for the shape of one input, which a C++ compiler prepares."""
    import torch

    x = torch.from_numpy(case.inputs(batch))
    call = xlstm.compile(xlstm.port(case.model(), "torch"), x)
    return lambda: call(x)


def nnx_compiled(case: Case, batch: int) -> Call:
    """The NNX port after `xlstm.compile`."""
    import jax

    call = xlstm.compile(xlstm.port(case.model(), "nnx"))
    x = jax.numpy.asarray(case.inputs(batch))
    return lambda: jax.block_until_ready(call(x))


def nnx_jit(case: Case, batch: int) -> Call:
    """The NNX port under `nnx.jit`."""
    import jax
    from flax import nnx

    module = xlstm.port(case.model(), "nnx")
    call = nnx.jit(lambda module, x: module(x))
    x = jax.numpy.asarray(case.inputs(batch))
    return lambda: jax.block_until_ready(call(module, x))


def linen_jit(case: Case, batch: int) -> Call:
    """The Linen port under `jax.jit`."""
    import jax

    module, variables = xlstm.port(case.model(), "linen")
    call = jax.jit(module.apply)
    x = jax.numpy.asarray(case.inputs(batch))
    return lambda: jax.block_until_ready(call(variables, x))


def numpy_port(case: Case, batch: int) -> Call:
    """The numpy port."""
    port, x = xlstm.port(case.model(), "numpy"), case.inputs(batch)
    return lambda: port(x)


def numpy_compiled(case: Case, batch: int) -> Call:
    """The numpy port after `xlstm.compile`."""
    call, x = xlstm.compile(xlstm.port(case.model(), "numpy")), case.inputs(batch)
    return lambda: call(x)


def keras_predict(case: Case, batch: int) -> Call:
    """`model.predict`, as most people call it."""
    model, x = xlstm.port(case.model(), "keras"), case.inputs(batch)
    return lambda: model.predict(x, batch_size=batch, verbose=0)


def keras_function(case: Case, batch: int) -> Call:
    """The Keras model under `tf.function`, with a fixed shape."""
    import tensorflow as tf

    model = xlstm.port(case.model(), "keras")
    shape = (batch, STEPS, case.spec.features)
    call = tf.function(model, input_signature=[tf.TensorSpec(shape, "float32")])
    x = tf.constant(case.inputs(batch))
    return lambda: call(x)


def onnx_session(case: Case, batch: int) -> Call:
    """One LSTM or GRU node in onnxruntime, of the size and the activations of the case."""
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper

    spec = case.spec
    gates = {"LSTM": 4, "GRU": 3}[spec.kind]
    rng = np.random.default_rng(0)
    sizes = {
        "W": (1, gates * spec.units, spec.features),
        "R": (1, gates * spec.units, spec.units),
        "B": (1, 2 * gates * spec.units),
    }
    arrays = {name: rng.normal(0, 0.1, size).astype("float32") for name, size in sizes.items()}
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, a.shape, a.ravel())
        for name, a in arrays.items()
    ]
    node = helper.make_node(spec.kind, ["X", "W", "R", "B"], ["Y"], **_onnx_options(spec))
    graph = helper.make_graph(
        [node],
        "timed",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [STEPS, batch, spec.features])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)],
        weights,
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    x = {"X": np.ascontiguousarray(case.inputs(batch).swapaxes(0, 1))}
    return lambda: session.run(None, x)


def _onnx_options(spec: L.LSTM | L.GRU) -> dict[str, Any]:
    """Returns the attributes of an ONNX node."""
    titles = {"tanh": "Tanh", "sigmoid": "Sigmoid", "relu": "Relu", "hard_sigmoid": "HardSigmoid"}
    gate, activation = titles[spec.gate_activation], titles[spec.activation]
    options: dict[str, Any] = {"hidden_size": spec.units, "activations": [gate, activation]}
    if isinstance(spec, L.GRU):
        options["linear_before_reset"] = int(spec.reset_after)
    else:
        options["activations"].append(activation)
    if gate == "HardSigmoid":
        options |= {"activation_alpha": [1 / 6, 1.0, 1.0], "activation_beta": [0.5, 0.0, 0.0]}
    return options


def torch_training(case: Case, batch: int) -> Call:
    """One step of Adam on the port: forward, mean squared error, backward, update."""
    import torch

    module = xlstm.port(case.model(), "torch").train()
    optimizer = torch.optim.Adam(module.parameters(), lr=1e-5)
    x = torch.from_numpy(case.inputs(batch))
    y = torch.zeros(batch, STEPS, case.spec.units)

    def step() -> object:
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(module(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def keras_training(case: Case, batch: int) -> Call:
    """`train_on_batch` of the compiled Keras model."""
    import keras
    import numpy as np

    model, x = xlstm.port(case.model(), "keras"), case.inputs(batch)
    model.compile(keras.optimizers.Adam(1e-5), "mse")
    y = np.zeros((batch, STEPS, case.spec.units), "float32")
    return lambda: model.train_on_batch(x, y)


def prepared(entrant: Any, case: Case, batch: int) -> tuple[Call, float]:
    """Returns a call, and the seconds until its first result: reading, compiling, one run."""
    start = time.perf_counter()
    call = entrant(case, batch)
    call()
    return call, time.perf_counter() - start


PROFILE_RUNS, PROFILE_ROWS = 20, 8
"""Runs of a call under the profiler, and the operators that are kept."""


def operators(call: Call) -> list[dict[str, Any]]:
    """Returns the operators of PyTorch in which a call spends its time, the longest first.

    Each has its name, its share of the time, and its number in one run.
    """
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    with torch.profiler.profile(activities=activities) as found:
        for _ in range(PROFILE_RUNS):
            call()
    rows = found.key_averages()
    total = sum(row.self_cpu_time_total for row in rows)
    longest = sorted(rows, key=lambda row: -row.self_cpu_time_total)[:PROFILE_ROWS]
    return [
        {
            "operator": row.key,
            "share": round(row.self_cpu_time_total / total, 3),
            "number": round(row.count / PROFILE_RUNS, 2),
        }
        for row in longest
    ]
