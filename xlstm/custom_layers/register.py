"""Layers that xlstm does not know, told by the user: `xlstm.register_layer`.

Nothing out of a model file is ever run: only the functions and the source texts that were handed to
`register_layer` are.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from xlstm.errors import UsageError, XlstmError
from xlstm.frameworks import registry
from xlstm.ir.graph import Model
from xlstm.ir.layer_code import LayerCode
from xlstm.ir.layer_registry import LAYERS, MASKS, NAME, Config, Registered, tensor_names
from xlstm.ir.layers.custom import Custom, unwrap_time_distributed


def register_layer(
    name: str,
    *,
    reference: Callable[..., Any],
    output_shape: Callable[..., Any],
    weights: Sequence[str] | Callable[[Config], Sequence[str]],
    mask: str,
    overwrite: bool = False,
    **code: LayerCode,
) -> None:
    """Tells xlstm a layer that it does not know: a class of your own, or one Lambda layer.

    Files that hold such a layer are then loaded, counted, ported and verified as all others. The
    registry belongs to the process: call this before `load`, in every process that needs it.

    Args:
        name: the class as the file names it, "AttentionWithContext" or "package>Class", for all
            layers of it; "Lambda:lambda_1", class and layer, for one layer by its name, which is
            the only way to name a Lambda, or a class of your own that is called as one of Keras's.
        reference: `(config, weights, *inputs) -> array`, or a tuple of arrays: the layer in numpy.
            `config` has the layer's options as the file has them, `weights` its tensors by name,
            inputs are (batch, ...) and may not be written to. What it computes is what every
            framework is judged against. It has to keep the inputs' dtype: it is run in float32,
            float64 and longdouble. With `mask="uses"` it takes `mask=` as well: bools (batch,
            time), True where a step counts, or None. Branches inside it are not watched: whether
            the inputs of a comparison reach them all is for you to say (`inputs=`).
        output_shape: `(config, *shapes) -> shape`, or a tuple of shapes: what one sample becomes,
            without the batch; None is any length.
        weights: names of its tensors in the order in which files keep them (`xlstm inspect` shows
            it), or a function `config -> names`; () for none. Every framework keeps them in the
            same shapes, under these names.
        mask: what becomes of a mask of its first input: "stops" (it neither sees it nor hands it
            on), "passes" (hands it on), "uses" (is called with `mask=`), "uses and passes".
        overwrite: replaces a layer of this name.
        code: torch=, nnx=, linen=, keras=: the layer in each framework. One that is left out
            refuses models with this layer.

    Raises:
        UsageError: arguments that make no sense, a name that is taken, or one of Keras's own.
    """
    where = f"register_layer {name}"
    _check_name(name)
    for part, function in (("reference", reference), ("output_shape", output_shape)):
        if not callable(function):
            raise UsageError(f"{where}, {part}", "a function", repr(function), f"mend its {part}")
    if mask not in MASKS:
        want = " or ".join(f'"{word}"' for word in MASKS)
        raise UsageError(f"{where}, mask", want, repr(mask), "say what becomes of masks")
    _check_code(where, code)
    names = weights if callable(weights) else tensor_names(weights, name)
    found = Registered(name, reference, output_shape, names, mask, dict(code))
    if overwrite:
        LAYERS[name] = found
    elif LAYERS.setdefault(name, found) is not found:  # in one step, whatever other threads do
        raise UsageError(where, "a name that is free", "one that is taken", "say overwrite=True")


def unregister_layer(name: str) -> None:
    """Forgets a layer that `register_layer` told.

    Raises:
        UsageError: there is none of this name.
    """
    if LAYERS.pop(name, None) is None:
        got = ", ".join([*LAYERS]) or "none"
        raise UsageError(f"unregister_layer {name}", "a layer that is there", got, "name another")


def _check_name(name: object) -> None:
    """Raises UsageError for what is no name, or one of a class that xlstm reads itself."""
    where = f"register_layer {name}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        want = '"Class", "package>Class", or "Class:layer" for one layer'
        raise UsageError(where, want, repr(name), "mend the name")
    if name == "Lambda":
        want, got = 'the name of one Lambda layer, as "Lambda:lambda_1"', "all of them"
        raise UsageError(where, want, got, "register each by its name")
    if name in registry.resolve(registry.KERAS_CLASSES):
        want, got = "a layer that xlstm does not know", "one of Keras's own"
        do = f'write "{name}:NAME" for the one layer NAME of a class of yours'
        raise UsageError(where, want, got, do)


def _check_code(where: str, code: Mapping[str, object]) -> None:
    known = [name for name in registry.names() if registry.adapter(name).emit is not None]
    for framework, half in code.items():
        if framework not in known:
            want = ", ".join(f"{name}=" for name in known)
            raise UsageError(where, want, f"{framework}=", "use one of these")
        if not isinstance(half, LayerCode):
            got = type(half).__name__
            raise UsageError(f"{where}, {framework}", "an xlstm.LayerCode", got, "wrap it in one")


@contextlib.contextmanager
def registered_code(model: Model, framework: str) -> Iterator[None]:
    """Turns whatever goes wrong in the registered source of a model's layers into one clear error.

    Errors of models without such layers stay what they are.
    """
    try:
        yield
    except XlstmError:
        raise
    except Exception as error:
        specs = (unwrap_time_distributed(node.spec) for node in model.layers)
        names = {spec.layer for spec in specs if isinstance(spec, Custom)}
        if not names:
            raise
        want = "source that makes them with their tensors"
        got = f"{type(error).__name__}: {error}"
        where = f"register_layer {', '.join(sorted(names))}, {framework}"
        raise UsageError(where, want, got, "mend their LayerCode") from error
