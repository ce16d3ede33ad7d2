"""A ported folder is a source like any other: from each framework on to all four, and back."""

import numpy as np
import pytest
from cases import CASES, built
from cases_layers import CASES_LAYERS
from emitted_sources import module_of
from safetensors import safe_open
from safetensors.numpy import save_file

import xlstm
from xlstm.errors import UnsupportedError, WeightsError
from xlstm.files.port_folder import weights_of
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import beside, pack_model
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import (
    GRU,
    LSTM,
    BatchNorm,
    Bidirectional,
    Concatenate,
    Dense,
    Dropout,
    Embedding,
    Input,
    MultiHeadAttention,
    TimeDistributed,
    TrainingOnly,
)

FRAMEWORKS = registry.frameworks()


def whole():
    """Words and an answer with a mask each, states handed on, layers shared, statistics."""
    graph = Builder()
    words, answer = graph.add("words", Input((None,))), graph.add("answer", Input((None,)))
    curve = graph.add("curve", Input((None, 2)))
    table = Embedding(5, 4, mask_zero=True)
    x = graph.add("embedding", table, [words])
    y = graph.add("embedding again", table, [answer], layer="embedding")
    heard, said = Edge("embedding", 1), Edge("embedding again", 1)
    x = graph.add("norm", BatchNorm(4), [x])
    graph.add("encoder", LSTM(4, 3, return_state=True), [x], mask=heard)
    states = [Edge("encoder", 1), Edge("encoder", 2)]
    decoder = LSTM(4, 3, return_sequences=True, return_state=True)
    y = graph.add("decoder", decoder, [y], mask=said, states=states)
    half = GRU(2, 3, gate_activation="hard_sigmoid_keras2")
    back = GRU(2, 3, gate_activation="hard_sigmoid_keras2", go_backwards=True)
    z = graph.add("both ways", Bidirectional(half, back, "sum"), [curve])
    z = graph.add("dropout", Dropout(0.2), [z])
    dense = Dense(3, 2, "softmax")
    y, z = graph.add("dense", dense, [y]), graph.add("dense again", dense, [z], layer="dense")
    last = graph.add("joined", Concatenate(), [z, Edge("encoder", 0)])
    return built(graph, [y, last, Edge("decoder", 2)])


@pytest.fixture(scope="module")
def source():
    return whole()


def check_same(found, wanted):
    """The same graph with the same weights; Flax adds two biases of a GRU's gates up."""
    for field in ("nodes", "inputs", "outputs"):
        assert getattr(found, field) == getattr(wanted, field)
    for layer, arrays in wanted.weights.items():
        for name, array in arrays.items():
            mine, tolerance = found.weights[layer][name], 0.0
            if name.endswith("bias") and array.ndim == 3:
                mine, array, tolerance = mine.sum(axis=0), array.sum(axis=0), 1e-6
            np.testing.assert_allclose(mine, array, rtol=0, atol=tolerance)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_ported_folder_ports_on_to_every_framework(framework, source, tmp_path):
    again = xlstm.load(xlstm.save(source, tmp_path / "port", framework))
    check_same(again, source)
    xlstm.reconcile(again, FRAMEWORKS).check()
    for other in FRAMEWORKS:
        check_same(xlstm.load(xlstm.save(again, tmp_path / other, other)), source)


def trained(framework, model, x):
    """The outputs of a port after some steps of its framework's own training, and all it holds."""
    return TRAINING[framework](xlstm.port(model, framework), x)


def in_torch(port, x):
    import torch

    x = torch.from_numpy(x)
    optimizer = torch.optim.SGD(port.train().parameters(), lr=0.05)
    for _ in range(2):
        optimizer.zero_grad()
        (port(x) ** 2).mean().backward()
        optimizer.step()
    with torch.no_grad():
        found = port.eval()(x).numpy()
    return found, {name: tensor.numpy() for name, tensor in port.state_dict().items()}


def in_nnx(port, x):
    import jax
    from flax import nnx

    port.train()
    for _ in range(2):
        slopes = nnx.grad(lambda port: (port(x) ** 2).mean())(port)
        moved = jax.tree.map(lambda w, g: w - 0.05 * g, nnx.state(port, nnx.Param), slopes)
        nnx.update(port, moved)
    port.eval()
    held = {}
    for path, variable in nnx.to_flat_state(nnx.state(port)):
        value = variable.get_value()
        key = jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key)
        held[".".join(map(str, path))] = np.array(jax.random.key_data(value) if key else value)
    return np.asarray(port(x)), held


def in_linen(port, x):
    import jax
    from flax import traverse_util

    module, variables = port
    for step in range(2):
        drawn = {"dropout": jax.random.key(step)}

        def loss(params, variables=variables, drawn=drawn):
            held = {**variables, "params": params}
            y, new = module.apply(held, x, train=True, rngs=drawn, mutable=["batch_stats"])
            return (y**2).mean(), new

        slopes, new = jax.grad(loss, has_aux=True)(variables["params"])
        moved = jax.tree.map(lambda w, g: w - 0.05 * g, variables["params"], slopes)
        variables = {"params": moved, **new}
    flat = traverse_util.flatten_dict(variables, sep=".")
    held = {name: np.array(array) for name, array in flat.items()}
    return np.asarray(module.apply(variables, x)), held


def in_keras(port, x):
    import keras

    port.compile(keras.optimizers.SGD(0.05), "mse")
    port.fit(x, np.zeros(port.compute_output_shape(x.shape), "float32"), epochs=2, verbose=0)
    held = {f"{layer.name}.{v.name}": np.array(v) for layer in port.layers for v in layer.variables}
    return port.predict(x, verbose=0), held


OTHER = {"torch": "linen", "nnx": "torch", "linen": "torch", "keras": "torch"}
"""Framework -> one that its trained port is ported on to."""

TRAINING = {"torch": in_torch, "nnx": in_nnx, "linen": in_linen, "keras": in_keras}


def with_norms():
    """Statistics, and layers that draw random numbers in training."""
    graph = Builder()
    y = graph.add("x", Input((None, 3)))
    y = graph.add("norm", BatchNorm(3), [y])
    y = graph.add("lstm", LSTM(3, 4, return_sequences=True), [y])
    y = graph.add("dropout", Dropout(0.3), [y])
    y = graph.add("norm again", BatchNorm(4), [y])
    return built(graph, [graph.add("dense", Dense(4, 2), [y])])


def put(folder, held):
    """Tensors in place of a ported folder's, its graph beside them as docs/models.md says."""
    with safe_open(weights_of(folder), "numpy") as file:
        metadata = file.metadata()
    contiguous = {name: np.ascontiguousarray(array) for name, array in held.items()}
    save_file(contiguous, weights_of(folder), metadata=metadata)


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_port_that_was_trained_further_loads_and_ports_on(framework, tmp_path):
    model = with_norms()
    folder = xlstm.save(model, tmp_path / "port", framework)
    x = np.random.default_rng(1).normal(size=(8, 5, 3)).astype("float32")
    outputs, held = trained(framework, model, x)
    put(folder, held)
    again = xlstm.load(folder)
    own = set(pack_model(model, registry.adapter(framework)))
    besides = {
        "torch": {"norm.num_batches_tracked", "norm_again.num_batches_tracked"},
        "nnx": {"dropout.rngs.count", "dropout.rngs.key"},
        "linen": set(),
        "keras": {"lstm.seed_generator_state", "dropout.seed_generator_state"},
    }[framework]
    assert set(held) - own == besides
    for tensor in ("gamma", "mean", "variance"):
        assert not np.allclose(again.weights["norm"][tensor], model.weights["norm"][tensor])
    np.testing.assert_allclose(xlstm.port(again, "numpy")(x), outputs, rtol=0, atol=2e-6)
    other = registry.adapter(OTHER[framework]).live()
    (found,) = other.run(xlstm.port(folder, OTHER[framework]), [x], "float32")
    np.testing.assert_allclose(found, outputs, rtol=0, atol=2e-6)


def test_what_a_trained_nnx_module_saves_is_loaded_without_xlstm(tmp_path):
    """The state of its dropout is left out, where it has one; other tensors are refused."""
    model = with_norms()
    folder = xlstm.save(model, tmp_path / "port", "nnx")
    x = np.random.default_rng(1).normal(size=(8, 5, 3)).astype("float32")
    outputs, saved = trained("nnx", model, x)
    put(folder, saved)
    np.testing.assert_allclose(module_of(folder).load()(x), outputs, rtol=0, atol=2e-6)
    put(folder, {**saved, "dense.rngs.count": np.zeros((), "uint32")})
    with pytest.raises(ValueError, match=r"do not fit: \['dense.rngs.count'\]"):
        module_of(folder).load()


def inside(spec):
    return spec.layer if isinstance(spec, TimeDistributed) else spec


TRAINED = (BatchNorm, Dropout, TrainingOnly, MultiHeadAttention)
ALL = {
    name: model
    for name, model in {**CASES, **CASES_LAYERS}.items()
    if any(isinstance(inside(node.spec), TRAINED) for node in model.layers)
}
"""Models whose training changes more than their parameters."""


@pytest.mark.parametrize("case", ALL)
@pytest.mark.parametrize("framework", ["torch", "nnx"])
def test_ports_hold_nothing_that_the_tables_do_not_know(framework, case):
    """Every tensor of the state of a port is a slot's, or one that its function does not use."""
    model = ALL[case]
    adapter = registry.adapter(framework)
    try:
        port = xlstm.port(model, framework)
    except UnsupportedError:
        return
    if framework == "torch":
        held = set(port.state_dict())
    else:
        from flax import nnx

        held = {".".join(map(str, path)) for path, _ in nnx.to_flat_state(nnx.state(port))}
    own = set(pack_model(model, adapter))
    assert own <= held
    assert held - own == beside(model, adapter, held - own)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "module.module."])
def test_what_modules_of_torch_put_before_names(prefix, tmp_path):
    """DataParallel, AveragedModel and torch.compile; one that all names have, and no other."""
    model = with_norms()
    folder = xlstm.save(model, tmp_path / "port", "torch")
    plain = pack_model(model, registry.adapter("torch"))
    put(folder, {f"{prefix}{name}": array for name, array in plain.items()})
    check_same(xlstm.load(folder), model)
    layers = {"lstm": model.node("lstm").spec}
    lone = {name: array for name, array in plain.items() if name.startswith("lstm.")}
    found = xlstm.load({f"{prefix}{name}": array for name, array in lone.items()}, layers=layers)
    np.testing.assert_equal(found.weights, xlstm.load(lone, layers=layers).weights)
    name, *_ = plain
    put(folder, {(n if n == name else f"{prefix}{n}"): array for n, array in plain.items()})
    with pytest.raises(WeightsError, match="layer norm: expected weight"):
        xlstm.load(folder)


def test_a_layer_may_be_called_module(tmp_path):
    graph = Builder()
    y = graph.add("x", Input((None, 3)))
    model = built(graph, [graph.add("module", LSTM(3, 4), [y])])
    plain = pack_model(model, registry.adapter("torch"))
    folder = xlstm.save(model, tmp_path / "port", "torch")
    check_same(xlstm.load(folder), model)
    put(folder, {f"module.{name}": array for name, array in plain.items()})
    check_same(xlstm.load(folder), model)


def test_averaged_models_count_themselves(tmp_path):
    model = with_norms()
    folder = xlstm.save(model, tmp_path / "port", "torch")
    plain = pack_model(model, registry.adapter("torch"))
    held = {f"module.{name}": array for name, array in plain.items()}
    put(folder, {**held, "n_averaged": np.array(3)})
    check_same(xlstm.load(folder), model)


def test_other_tensors_are_left_over(tmp_path):
    """Numbers of an optimizer, and counters and seeds of layers that are not there."""
    model = with_norms()
    for framework, extra in [
        ("torch", "optimizer.state.0.exp_avg"),
        ("torch", "other.num_batches_tracked"),
        ("torch", "lstm.num_batches_tracked"),
        ("nnx", "other.rngs.count"),
        ("nnx", "dropout.rngs"),
        ("linen", "opt_state.0.mu"),
        ("keras", "seed_generator_state"),
    ]:
        folder = xlstm.save(model, tmp_path / extra, framework)
        plain = pack_model(model, registry.adapter(framework))
        put(folder, {**plain, extra: np.zeros((), "int64")})
        with pytest.raises(WeightsError, match=f"left over: {extra}"):
            xlstm.load(folder)


@pytest.mark.parametrize("around", ["DataParallel", "AveragedModel", "compile", "both"])
def test_live_modules_around_a_port_are_looked_through(around):
    import torch

    model = with_norms()
    port = xlstm.port(model, "torch")
    made = {
        "DataParallel": torch.nn.DataParallel,
        "AveragedModel": torch.optim.swa_utils.AveragedModel,
        "compile": lambda port: torch.compile(port, backend="eager"),
        "both": lambda port: torch.compile(torch.nn.DataParallel(port), backend="eager"),
    }[around](port)
    check_same(xlstm.load(made), model)


def test_a_module_of_torch_around_one_of_somebody_s_own():
    import torch

    lstm = torch.nn.LSTM(3, 4, batch_first=True)
    found = xlstm.load(torch.nn.DataParallel(lstm))
    np.testing.assert_equal(found.weights, xlstm.load(lstm).weights)
    xlstm.reconcile(torch.nn.DataParallel(lstm), ("torch",)).check()
    around = torch.nn.DataParallel(lstm)
    around.register_forward_hook(lambda *_: None)
    with pytest.raises(UnsupportedError, match="DataParallel"):
        xlstm.load(around)
