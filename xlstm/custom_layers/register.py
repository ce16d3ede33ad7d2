"""Registers layers that xlstm does not know: `xlstm.register_layer`.

No code of a model file is ever run: only the functions and the source texts that are passed to
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
    """Registers a layer that xlstm does not know: a class of your own, or one Lambda layer.

    Files with such a layer are then loaded, counted, ported and verified as all others. The
    registry belongs to the process: call this before `load`, in every process that needs it.

    Args:
        name: the class in the file, "AttentionWithContext" or "package>Class", for all layers of
            it; "Lambda:lambda_1", class and layer, for one layer. A Lambda, or a class of your own
            with the name of a Keras class, can be named only in this second way.
        reference: `(config, weights, *inputs) -> array`, or a tuple of arrays: the layer in numpy.
            `config` has the layer's options in the file, `weights` its tensors by name, inputs are
            (batch, ...) and read-only. Every framework is compared with its result. It must return
            the inputs' dtype: it is run in float32, float64 and longdouble. With `mask="uses"` it
            takes `mask=` as well: bools (batch, time), False at masked steps, or None. Branches
            inside it are not counted: pass `inputs=` to a comparison that reach all of them.
        output_shape: `(config, *shapes) -> shape`, or a tuple of shapes: the shape of one output
            sample, without the batch; None is any length.
        weights: names of its tensors in the order of the file (`xlstm inspect` shows it), or a
            function `config -> names`; () for none. The names and shapes are the same in every
            framework.
        mask: rule for a mask of its first input. "stops": not used, the output has none. "passes":
            not used, the output has the same. "uses": passed as `mask=`, the output has none. "uses
            and passes": passed as `mask=`, the output has the same.
        overwrite: True to replace a layer of this name.
        code: torch=, nnx=, linen=, keras=: the layer in each framework. A framework without one
            refuses models with this layer.

    Raises:
        UsageError: arguments that make no sense, a name that is in use, or one of Keras's own.
    """
    where = f"register_layer {name}"
    _check_name(name)
    for part, function in (("reference", reference), ("output_shape", output_shape)):
        if not callable(function):
            raise UsageError(f"{where}, {part}", "a function", repr(function), f"change its {part}")
    if mask not in MASKS:
        want = " or ".join(f'"{word}"' for word in MASKS)
        raise UsageError(f"{where}, mask", want, repr(mask), "pass one of these")
    _check_code(where, code)
    names = weights if callable(weights) else tensor_names(weights, name)
    found = Registered(name, reference, output_shape, names, mask, dict(code))
    if overwrite:
        LAYERS[name] = found
    elif LAYERS.setdefault(name, found) is not found:  # in one step, safe with other threads
        raise UsageError(where, "a name that is free", "one that is taken", "pass overwrite=True")


def unregister_layer(name: str) -> None:
    """Removes a layer that `register_layer` has registered.

    Raises:
        UsageError: there is none of this name.
    """
    if LAYERS.pop(name, None) is None:
        got = ", ".join([*LAYERS]) or "none"
        raise UsageError(f"unregister_layer {name}", "a layer that is there", got, "name another")


def _check_name(name: object) -> None:
    """Raises UsageError for an invalid name, or one of a class that xlstm itself reads."""
    where = f"register_layer {name}"
    if not isinstance(name, str) or not NAME.fullmatch(name):
        want = '"Class", "package>Class", or "Class:layer" for one layer'
        raise UsageError(where, want, repr(name), "use one of these forms")
    if name == "Lambda":
        want, got = 'the name of one Lambda layer, as "Lambda:lambda_1"', "all of them"
        raise UsageError(where, want, got, "register each by its name")
    if any(registry.adapter(other).knows_class(name) for other in registry.names()):
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
    """Turns any exception in the registered source of a model's layers into one clear error.

    Exceptions of models without such layers pass unchanged.
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
        raise UsageError(where, want, got, "correct their LayerCode") from error
