"""Every case in every framework: parity, counts, total mapping, inputs untouched."""

import numpy as np
import pytest
from cases import CASES

import xlstm
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model, tensors, unpack_model
from xlstm.reference import run
from xlstm.verification import inputs
from xlstm.verification.bounds import bounds

INSTALLED = [name for name in registry.frameworks() if registry.adapter(name).installed]
"""`make check-newest` runs without PyTorch."""

FRAMEWORKS = registry.frameworks()


def copies(model):
    return {name: {t: a.copy() for t, a in layer.items()} for name, layer in model.weights.items()}


@pytest.mark.parametrize("case", CASES)
def test_equal_up_to_rounding_in_every_framework(case):
    model = CASES[case]
    before = copies(model)
    report = xlstm.reconcile(model, INSTALLED)
    report.check()
    assert set(report.frameworks) == set(INSTALLED)
    for framework in INSTALLED:
        own = report.frameworks[framework].parameters
        assert own == report.ledger.total(framework) > -1
    np.testing.assert_equal(model.weights, before)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@pytest.mark.parametrize("case", CASES)
def test_weights_come_back_bit_for_bit(case, framework):
    model, adapter = CASES[case], registry.adapter(framework)
    packed = pack_model(model, adapter)
    assert [(t.name, t.shape) for t in tensors(model, adapter)] == [
        (name, array.shape) for name, array in packed.items()
    ]
    for name, layer in unpack_model(model, adapter, packed).items():
        for tensor, array in layer.items():
            original = model.weights[name][tensor]
            if tensor.endswith("bias") and len(array) > len(original):
                np.testing.assert_array_equal(array[:1], original)
                assert not array[1:].any()
            elif original.ndim == 3 and len(original) == 2 and framework in ("nnx", "linen"):
                # Flax adds the two biases of a GRU's gates r and z, and keeps both of n
                np.testing.assert_array_equal(array.sum(axis=0), original.sum(axis=0))
                np.testing.assert_array_equal(array[:, 2], original[:, 2])
            else:
                np.testing.assert_array_equal(array, original)


@pytest.mark.parametrize("framework", INSTALLED)
@pytest.mark.parametrize("case", CASES)
def test_live_ports_read_back(case, framework):
    """From every framework: the live port is a source again, with the same function."""
    model = CASES[case]
    arrays = inputs.make(model)
    again = xlstm.load(xlstm.port(model, framework))
    allowed = bounds(model, arrays, "float32")
    for want, got, limit in zip(run(model, arrays), run(again, arrays), allowed, strict=True):
        assert np.abs(want - got).max() <= limit.step.max()


@pytest.mark.parametrize("case", CASES)
def test_differences_add_up_to_the_difference(case):
    ledger = xlstm.count(CASES[case])
    for layer in ledger.layers:
        for number, a in enumerate(ledger.frameworks):
            for b in ledger.frameworks[number + 1 :]:
                lines = [d.delta for d in layer.differences if (d.source, d.target) == (a, b)]
                assert sum(lines) == layer.params[b] - layer.params[a]


@pytest.mark.parametrize("case", ["lstm-relu-hard_sigmoid_keras2", "stack", "lone-lstm"])
def test_numpy_port_is_a_callable(case):
    model = CASES[case]
    x = np.random.default_rng(0).standard_normal((2, 6, 3))
    exact = xlstm.port(model, "numpy", dtype="float64")(x)
    rough = xlstm.port(model, "numpy")(x)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, exact, rtol=1e-5, atol=1e-6)
