"""Makes a fast callable of a port, for inference. Each framework has its own way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xlstm.errors import UsageError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.random_state import unmoved


@unmoved
def compile(ported: Any, *examples: Any) -> Callable[..., Any]:  # noqa: A001  xlstm.compile
    """A function that computes what a port computes, in evaluation, with little overhead a call.

    It takes the arguments of the port, in its framework's own arrays, and returns the same:

        nnx, linen   one `jax.jit` of a pure function; the cells of LSTMs have one product a step
        torch        under `torch.inference_mode()`; layers that PyTorch lacks as TorchScript
        keras        a `tf.function`; on JAX `jax.jit`, on PyTorch under `torch.no_grad()`
        numpy        the port itself, which keeps its buffers between calls

    A port of Linen, a pair (module, variables), is called by its inputs alone. Stateful ports take
    `state=` and return their state, as always.

    With examples, the inputs of one call, it prepares for their shapes and dtypes at once. That may
    take seconds: TensorFlow compiles them by XLA. PyTorch compiles, by `torch.compile`, the layers
    that it lacks, if there is a C++ compiler; that takes about half a second a time step. Other
    shapes and dtypes than those give right results too: they run, or are prepared, the usual way.

    Weights that change later (an optimizer's step, `load_state_dict`, `nnx.update`, `set_weights`)
    are followed, but for numpy, whose ports never follow. Parts that are replaced later, such as a
    layer or an activation, are followed for torch and nnx only, and hooks of a layer for torch.

    Args:
        ported: what `port` returns, or what `load()` of a ported folder does.
        *examples: one call's inputs, with the shapes and dtypes that will be most frequent.

    Returns:
        The function. Its outputs have no gradients.

    Raises:
        UsageError: an object of no known framework, a module in training mode, or examples that do
            not fit the model.

    >>> import numpy as np, xlstm
    >>> fast = xlstm.compile(xlstm.port(xlstm.demo.path(), "numpy"))
    >>> fast(np.zeros((1, 20, 1), np.float32)).shape
    (1, 20)
    """
    owner = _owner(ported)
    live: Any = owner.live()
    if hasattr(live, "compiled"):
        made: Callable[..., Any] = live.compiled(ported, examples)
        return made
    if not callable(ported):
        want, got = "an adapter with the function `compiled`", "none"
        raise UsageError(f"adapter {owner.name}", want, got, "call the port itself")
    call: Callable[..., Any] = ported
    return call


def _owner(ported: Any) -> Adapter:
    """The adapter of a port; that of numpy has no framework whose classes would show it.

    Raises:
        UsageError: there is none.
    """
    found = registry.owner(ported)
    if found is not None:
        return found
    module = type(ported).__module__
    for name in registry.names():
        if registry.adapter(name).live_module == module:
            return registry.adapter(name)
    want = "a port: a live model of " + ", ".join(registry.names())
    raise UsageError("compile", want, type(ported).__name__, "pass what xlstm.port returns")
