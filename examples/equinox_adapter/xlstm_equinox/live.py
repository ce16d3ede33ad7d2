"""Equinox for xlstm, the half that imports it: reads, builds and runs modules.

In: an equinox.Module. Out: a Model, named arrays, or outputs.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from equinox import nn

from xlstm.errors import UnsupportedError
from xlstm.frameworks.array_tree import leaf_of
from xlstm.ir import layers as L
from xlstm.ir.graph import chain
from xlstm.ir.source import Source
from xlstm.slots import unpack
from xlstm_equinox.adapter import TABLES

READ = {
    nn.LSTMCell: lambda m: L.LSTM(
        m.input_size, m.hidden_size, use_bias=m.use_bias, return_sequences=True
    ),
    nn.GRUCell: lambda m: L.GRU(
        m.input_size, m.hidden_size, use_bias=m.use_bias, return_sequences=True
    ),
    nn.Linear: lambda m: L.Dense(m.in_features, m.out_features, use_bias=m.use_bias),
    nn.Embedding: lambda m: L.Embedding(m.num_embeddings, m.embedding_size),
    nn.Dropout: lambda m: L.Dropout(float(m.p)),
}
"""Class -> its layer. A cell stands for itself under `jax.lax.scan`, from zeros on."""

CELLS = (nn.LSTMCell, nn.GRUCell)


def read(source):
    """A lone layer, or a Sequential of Linear, Embedding and Dropout, as a Model."""
    inner = isinstance(source, nn.Sequential)
    modules = source.layers if inner else (source,)
    layers, weights = [], {}
    for number, module in enumerate(modules):
        kind, name = type(module).__name__, f"{type(module).__name__.lower()}_{number}"
        scalar = "scalar" in (getattr(module, "in_features", 0), getattr(module, "out_features", 0))
        if type(module) not in READ or (inner and type(module) in CELLS) or scalar:
            want = f"one of {', '.join(cls.__name__ for cls in READ)}; no cell in a Sequential"
            do = "pass layers of these classes one by one"
            raise UnsupportedError(f"equinox, layer {number}", want, kind, do)
        spec = READ[type(module)](module)
        if spec.sizes():
            held, absent = named_arrays(module), spec.missing_tensors()
            weights[name] = unpack(TABLES[kind], held, spec.sizes(), absent, f"equinox {kind}")
        layers.append((name, spec, True))
    first = layers[0][1]
    shape = {L.Embedding: (None,), L.Dense: (getattr(first, "features", 1),)}
    shape = shape.get(type(first), (None, getattr(first, "features", 1)))
    origin = Source("equinox", eqx.__version__, f"live equinox {type(source).__name__}")
    return chain("model", layers, shape, weights, origin)


def named_arrays(module):
    """Every array of a module by its path, "lstm.weight_ih"."""
    paths, _ = jax.tree_util.tree_flatten_with_path(eqx.filter(module, eqx.is_array))
    return {
        jax.tree_util.keystr(path, simple=True, separator="."): np.asarray(x) for path, x in paths
    }


weights = named_arrays
"""The arrays of a port, under the names that its tables give."""


def leaves(source):
    """Every array of a module that `read` refuses, to be counted."""
    return {name: leaf_of(x, trainable=True) for name, x in named_arrays(source).items()}


def build(code, weights, dtype):
    """The module that emitted `code` builds with these weights."""
    with jax.enable_x64(dtype == "float64"):
        return code.build(weights, dtype)


def run(ported, inputs, dtype):
    """Outputs for a batch of numpy inputs."""
    with jax.enable_x64(dtype == "float64"):
        return [np.asarray(jax.vmap(ported)(*(jnp.asarray(x, dtype) for x in inputs)))]


def gradients(ported, inputs, factors, moved, dtype):
    """Gradients of the sum of the output times a factor: of the arrays by name, of the input."""
    with jax.enable_x64(dtype == "float64"):
        params, rest = eqx.partition(ported, eqx.is_array)
        x, factor = jnp.asarray(inputs[0], dtype), jnp.asarray(factors[0], dtype)

        def loss(params, x):
            return (jax.vmap(eqx.combine(params, rest))(x) * factor).sum()

        of_params, of_x = jax.grad(loss, (0, 1))(params, x)
        return named_arrays(of_params), [np.asarray(of_x) if moved[0] else None]


def train(ported, inputs, dtype, seed):
    """The outputs of one call in training mode, and the arrays, which it does not change."""
    model, x = nn.inference_mode(ported, False), jnp.asarray(inputs[0], dtype)
    keys = jax.random.split(jax.random.key(seed), len(x))
    return [np.asarray(jax.vmap(lambda x, key: model(x, key=key))(x, keys))], named_arrays(ported)


def compiled(ported, examples):
    """The port under `equinox.filter_jit`; it takes one sample, as the port does."""
    call = eqx.filter_jit(ported)
    if examples:
        call(*examples)
    return call


def count(ported):
    """Number of parameters: the sizes of all arrays."""
    return sum(x.size for x in jax.tree.leaves(eqx.filter(ported, eqx.is_array)))
