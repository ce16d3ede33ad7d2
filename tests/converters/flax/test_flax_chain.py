"""Live Sequential modules of Flax NNX and Linen, read and run against Flax itself."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import xlstm
from xlstm.errors import UnsupportedError, WeightsError
from xlstm.verification.bounds import bounds, judge

FLAX = ("nnx", "linen")
RNG = np.random.default_rng(12)
X = RNG.standard_normal((3, 7, 4)).astype("float32")
IMAGE = RNG.standard_normal((3, 6, 7, 4)).astype("float32")
TOKENS = RNG.integers(0, 9, (3, 7))


class Layers:
    """The layers of a framework under one name; `size` is of the input, which NNX alone takes."""

    def __init__(self, framework):
        self.nnx = framework == "nnx"
        self.module = nnx if self.nnx else nn

    def __call__(self, name, size, *args, **options):
        if self.nnx:
            return getattr(nnx, name)(size, *args, **options, rngs=nnx.Rngs(0))
        return getattr(nn, "Dense" if name == "Linear" else name)(*args, **options)

    def embed(self):
        more = {"rngs": nnx.Rngs(0)} if self.nnx else {}
        return self.module.Embed(9, 4, **more)

    def dropout(self, **options):
        return self.module.Dropout(0.3, deterministic=True, **options)

    def rnn(self, name, size, units, **options):
        return self.module.RNN(self(name, size, units), **options)

    def both(self, name, size, units, **options):
        halves = self.rnn(name, size, units), self.rnn(name, size, units)
        return self.module.Bidirectional(*halves, **options)

    def sequential(self, *layers):
        return nnx.Sequential(*layers) if self.nnx else nn.Sequential(layers)


def noisy(tree):
    """Random arrays in place of all; variances stay above zero."""

    def noise(path, a):
        found = RNG.standard_normal(a.shape) * 0.6
        variance = "'var'" in jax.tree_util.keystr(path)
        return jnp.asarray(np.abs(found) + 0.5 if variance else found, a.dtype)

    return jax.tree_util.tree_map_with_path(noise, tree)


def live(framework, module, x):
    """A source that `xlstm.load` reads, and what it gives for x."""
    if framework == "nnx":
        nnx.update(module, noisy(nnx.state(module, (nnx.Param, nnx.BatchStat))))
        module.eval()  # evaluation mode of Flax NNX: no dropout
        return module, module(jnp.asarray(x))
    variables = noisy(jax.eval_shape(module.init, jax.random.key(0), jnp.asarray(x)))
    return (module, variables), module.apply(variables, jnp.asarray(x))


def words(own):
    return [
        own.embed(),
        own.rnn("LSTMCell", 4, 5),
        own.module.relu,
        own.both("GRUCell", 5, 3),
        own("Linear", 6, 2),
        own.module.softmax,
    ]


def places(own):
    norm = {"use_running_average": True, "epsilon": 1e-3}
    return [
        own("Conv", 4, 6, (3,), strides=2, padding="CAUSAL", feature_group_count=2),
        own("BatchNorm", 6, **norm),
        own.dropout(),
        own("LayerNorm", 6, use_bias=False),
        own.rnn("OptimizedLSTMCell", 6, 4, reverse=True, keep_order=True),
        own.dropout(broadcast_dims=(1,)),
    ]


def images(own):
    inner = own("Conv", 5, 3, (2, 2), padding="SAME", use_bias=False), own.module.tanh
    first = own("Conv", 4, 5, (3, 2), padding="VALID", kernel_dilation=(1, 2))
    return [first, own.sequential(*inner), own("Linear", 3, 2, use_bias=False)]


def plain(own):
    return [jnp.tanh, own("Linear", 4, 3), own("BatchNorm", 3, use_running_average=True)]


def bare_norm(own):
    options = {"use_bias": False, "use_scale": False} if own.nnx else {"use_bias": False}
    return [own("Linear", 4, 3), own("LayerNorm", 3, **options), own.rnn("SimpleCell", 3, 2)]


def groups(own):
    return [
        own("Conv", 4, 6, (3,), padding="SAME"),
        own("GroupNorm", 6, num_groups=3),
        own("GroupNorm", 6, num_groups=None, group_size=3, use_scale=False, epsilon=1e-3),
        own.rnn("LSTMCell", 6, 2),
    ]


def root_mean_squares(own):
    return [
        own("RMSNorm", 4),
        own.rnn("LSTMCell", 4, 6),
        own("RMSNorm", 6, epsilon=0.1),
        own("Linear", 6, 3),
        own("RMSNorm", 3, **({"use_scale": False} if own.nnx else {})),
    ]


MADE = {"words": (words, TOKENS), "places": (places, X), "images": (images, IMAGE)}
MADE["plain"] = (plain, X[:, 0])
MADE["bare norm"] = (bare_norm, X)
MADE["groups"] = (groups, X)
MADE["root mean squares"] = (root_mean_squares, X)
KINDS = {
    "words": "Embedding LSTM Activation Bidirectional Dense Activation",
    "places": "Conv BatchNorm Dropout LayerNorm LSTM Reverse TrainingOnly",
    "images": "Conv Conv Activation Dense",
    "bare norm": "Dense LayerNorm SimpleRNN",
    "groups": "Conv LayerNorm LayerNorm LSTM",
    "root mean squares": "RMSNorm LSTM RMSNorm Dense RMSNorm",
    "plain": "Activation Dense BatchNorm",
}


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("name", MADE)
def test_live_sequential(framework, name):
    make, x = MADE[name]
    own = Layers(framework)
    source, found = live(framework, own.sequential(*make(own)), x)
    read = xlstm.load(source)
    assert " ".join(node.spec.kind for node in read.layers) == KINDS[name]
    (allowed,), (exact,) = (bounds(read, [x], dtype) for dtype in ("float32", "float64"))
    assert judge(np.asarray(found), allowed, exact, "float32").verdict == "rounding"
    xlstm.reconcile(read, FLAX).check()


def test_live_names_follow_the_places():
    own = Layers("linen")
    source, _ = live("linen", own.sequential(*images(own)), IMAGE)
    assert list(xlstm.load(source).weights) == ["conv_0", "conv_1_0", "dense_2"]


def test_linen_variables_that_belong_to_no_member():
    module = nn.Sequential([nn.Dense(3), nn.relu, nn.Dense(2)])
    (_, variables), _ = live("linen", module, X)
    short = nn.Sequential(module.layers[:2])
    with pytest.raises(WeightsError, match=r"layers_2\.kernel"):
        xlstm.load((short, variables))


def half(x):
    return x / 2


def test_all_members_that_are_refused_are_named_at_once():
    own = Layers("nnx")
    module = nnx.Sequential(
        own("Linear", 4, 3),
        half,
        nnx.PReLU(),
        own("Conv", 3, 3, (2,), padding="CIRCULAR"),
        own.rnn("GRUCell", 3, 3, time_major=True),
    )
    with pytest.raises(UnsupportedError) as caught:
        xlstm.load(module)
    found = str(caught.value)
    for text in ("layers[1]: half", "layers[2] PReLU", "CIRCULAR", "layers[4] RNN: time_major"):
        assert text in found
    assert "layers[0]" not in found


def shared_dense(own):
    dense = own("Linear", 4, 4)
    return [dense, dense]


REFUSED = {
    "shared": (shared_dense, "another member's"),
    "bare cell": (lambda own: [own("GRUCell", 4, 4)], "GRUCell"),
    "no sizes": (lambda own: [own.module.relu], "shows the size"),
    "axis": (lambda own: [own("BatchNorm", 4, axis=1)], "axis=1"),
    "group axes": (lambda own: [own("GroupNorm", 4, 2, reduction_axes=(-1,))], "(-1,)"),
    "axes": (lambda own: [own("LayerNorm", 4, reduction_axes=(-2, -1))], "-2"),
    "root mean square": (lambda own: [own("RMSNorm", 4, feature_axes=(-2, -1))], "-2"),
    "dropout": (lambda own: [own("Linear", 4, 4), own.dropout(broadcast_dims=(2,))], "2,"),
    "dilated": (lambda own: [own("Conv", 4, 4, (2,), input_dilation=2)], "input_dilation 2"),
    "4 axes": (lambda own: [own("Conv", 4, 4, (2, 2, 2, 2))], "1 to 3 axes"),
    "carry": (lambda own: [own.rnn("GRUCell", 4, 4, return_carry=True)], "return_carry"),
}


@pytest.mark.parametrize("framework", FLAX)
@pytest.mark.parametrize("name", REFUSED)
def test_live_sequential_that_is_refused(framework, name):
    make, text = REFUSED[name]
    own = Layers(framework)
    source = own.sequential(*make(own))
    if framework == "linen":
        kernels = {
            "shared": {"kernel": np.ones((4, 4), "f"), "bias": np.ones(4, "f")},
            "axis": {"scale": np.ones(7, "f")},
            "axes": {"scale": np.ones((7, 4), "f"), "bias": np.ones((7, 4), "f")},
            "dropout": {"kernel": np.ones((4, 4), "f"), "bias": np.ones(4, "f")},
            "4 axes": {"kernel": np.ones((2, 2, 2, 2, 4, 4), "f")},
            "dilated": {"kernel": np.ones((2, 4, 4), "f"), "bias": np.ones(4, "f")},
        }
        source = source, {"params": {"layers_0": kernels.get(name, {})}}
    with pytest.raises(UnsupportedError, match=text):
        xlstm.load(source)
