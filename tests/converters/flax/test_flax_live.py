"""Live recurrent modules of Flax NNX and Linen, read and run against Flax itself."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model
from xlstm.ir.layers import Bidirectional
from xlstm.verification.bounds import bounds, judge

FLAX = ("nnx", "linen")
RNG = np.random.default_rng(11)
X = RNG.standard_normal((3, 7, 4)).astype("float32")

CELLS = ("LSTMCell", "OptimizedLSTMCell", "GRUCell", "SimpleCell")
OPTIONS = {
    "plain": {},
    "reverse": {"reverse": True},
    "keep_order": {"reverse": True, "keep_order": True},
    "time_major": {"time_major": True},
    "return_carry": {"return_carry": True},
    "all": {"reverse": True, "keep_order": True, "time_major": True, "return_carry": True},
}


def noisy(tree):
    return jax.tree.map(lambda a: jnp.asarray(RNG.standard_normal(a.shape) * 0.6, a.dtype), tree)


def nnx_layer(make):
    """An NNX module with random parameters, and a function that runs it."""
    module = make(nnx, lambda name: getattr(nnx, name)(4, 5, rngs=nnx.Rngs(0)))
    nnx.update(module, noisy(nnx.state(module, nnx.Param)))
    return module, module


def linen_layer(make):
    """A Linen module with random variables, and a function that runs it."""
    module = make(nn, lambda name: getattr(nn, name)(5))
    variables = noisy(jax.eval_shape(module.init, jax.random.key(0), jnp.asarray(X)))
    return (module, variables), lambda x: module.apply(variables, x)


LAYER = {"nnx": nnx_layer, "linen": linen_layer}


def check_live(framework, make, options):
    """What is read computes what the module computes; gives the Model."""
    source, run = LAYER[framework](make)
    read = xlstm.load(source)
    swap = options.get("time_major", False)
    found = run(jnp.asarray(X.swapaxes(0, 1) if swap else X))
    if options.get("return_carry"):
        carry, output = found
        halves = [carry] if not isinstance(read.layers[0].spec, Bidirectional) else carry
        states = [half[::-1] if isinstance(half, tuple) else (half,) for half in halves]
        found = [output, *(state for half in states for state in half)]
    else:
        found = [found]
    found[0] = found[0].swapaxes(0, 1) if swap else found[0]
    allowed, exact = (bounds(read, [X], dtype) for dtype in ("float32", "float64"))
    for y, mine, sharp in zip(found, allowed, exact, strict=True):
        assert judge(np.asarray(y), mine, sharp, "float32").verdict == "rounding"
    assert len(read.source.notes) == options.get("return_carry", False)
    assert [axis for *_, axis in read.source.input_axes + read.source.output_axes] == 2 * [1] * swap
    return read


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("cell", CELLS)
def test_live_cells_in_rnn(framework, cell):
    read = check_live(framework, lambda m, own: m.RNN(own(cell)), {})
    adapter = registry.adapter(framework)
    assert read.lone
    assert read.source.container.endswith("RNN")
    back = pack_model(read, adapter)
    if cell == "GRUCell":
        assert read.layers[0].spec.hidden_bias == (framework == "linen")
    if adapter.default[read.layers[0].spec.weight_kind] == cell:
        source, _ = LAYER[framework](lambda m, own: m.RNN(own(cell)))
        held = adapter.live().weights(source)
        prefix = len(f"{adapter.root}{read.layers[0].name}.")
        assert {name[prefix:] for name in back} == {
            name.removeprefix(adapter.root) for name in held
        }


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("options", OPTIONS)
def test_live_rnn_options(framework, options):
    given = OPTIONS[options]
    cell = "LSTMCell" if options in ("return_carry", "all") else "GRUCell"
    read = check_live(framework, lambda m, own: m.RNN(own(cell), **given), given)
    kinds = [node.spec.kind for node in read.layers]
    assert ("Reverse" in kinds) == given.get("keep_order", False) == (not read.lone)
    assert read.layers[0].spec.go_backwards == given.get("reverse", False)


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("options", ["plain", "all"])
def test_live_bidirectional(framework, options):
    given = {k: v for k, v in OPTIONS[options].items() if k in ("time_major", "return_carry")}

    def make(m, own):
        # the wrapper overrules what the RNNs in it say
        halves = m.RNN(own("GRUCell"), reverse=True), m.RNN(own("LSTMCell"), return_carry=True)
        return m.Bidirectional(*halves, **given)

    read = check_live(framework, make, given)
    xlstm.reconcile(read, FLAX).check()


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("cell", CELLS)
def test_live_bare_cells(framework, cell):
    x = X[:, 0]
    if framework == "nnx":
        source = getattr(nnx, cell)(4, 5, rngs=nnx.Rngs(0))
        held = nnx.state(source, nnx.Param)
    else:
        module = getattr(nn, cell)(5)
        carry = module.initialize_carry(jax.random.key(0), x.shape)
        source = module, module.init(jax.random.key(0), carry, x)
        held = source[1]["params"]
    read = xlstm.load(source)
    assert read.layers[0].spec.return_sequences
    total = sum(a.size for a in jax.tree.leaves(held))
    assert sum(a.size for layer in read.weights.values() for a in layer.values()) >= total


def refused(framework):
    if framework == "nnx":
        module, given = nnx, {"rngs": nnx.Rngs(0)}

        def cell(name, **options):
            return getattr(nnx, name)(
                *([3, 4] if name != "Conv" else [3, 4, 2]), **options, **given
            )
    else:
        module = nn

        def cell(name, **options):
            return getattr(nn, name)(4, **options)

    def both(**options):
        halves = module.RNN(cell("GRUCell")), module.RNN(cell("GRUCell"))
        return module.Bidirectional(*halves, **options)

    once = module.RNN(cell("GRUCell"))
    own = type("OwnCell", (module.GRUCell,), {})
    made = own(3, 4, rngs=nnx.Rngs(0)) if module is nnx else own(4)
    return {
        "merge_fn": (both(merge_fn=jnp.add), "default merge_fn.*add"),
        "one-layer-twice": (module.Bidirectional(once, once), "one RNN as both halves"),
        "nested": (module.Bidirectional(both(), module.RNN(cell("GRUCell"))), "two RNNs"),
        "residual": (module.RNN(cell("SimpleCell", residual=True)), "residual"),
        "function": (module.RNN(cell("GRUCell", gate_fn=jnp.sin)), "sin"),
        "own-cell": (module.RNN(made), "OwnCell"),
    }


WORDS = ("merge_fn", "one-layer-twice", "nested", "residual", "function", "own-cell")


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("name", WORDS)
def test_live_modules_that_are_refused(framework, name):
    source, words = refused(framework)[name]
    if framework == "linen":
        variables = jax.eval_shape(source.init, jax.random.key(0), jnp.ones((2, 5, 3)))
        source = source, jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), variables)
    with pytest.raises(UnsupportedError, match=words):
        xlstm.load(source)
