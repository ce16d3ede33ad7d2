"""Reads live Keras models and layers, builds and runs ports; imports Keras."""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import json
import os
import re
import sys
import threading
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xlstm.errors import MissingFrameworkError, UnsupportedError, UsageError
from xlstm.files.description import Description, Stored
from xlstm.frameworks.array_tree import Leaf, leaf_of
from xlstm.ir.graph import Model
from xlstm.ir.precision import HALF, cast
from xlstm.ir.source import Optimizer, optimizer_of
from xlstm.ir.types import Array

from ..inexact import float32_pools, inexact_operations
from ..read.model import read_description
from . import user_classes
from .user_classes import running as running  # porting looks for it

BACKENDS = ("tensorflow", "torch", "jax")
"""Backends in the order in which they are tried when KERAS_BACKEND names none."""

KNOWN = (*BACKENDS, "numpy", "openvino")
"""Backends that Keras imports by these names; its own error (keras/src/backend) names no other."""


@contextlib.contextmanager
def _backend_chosen() -> Iterator[None]:
    """Selects the first installed backend while Keras is imported, unless the user chose one."""
    named = os.environ.get("KERAS_BACKEND")
    if named:  # Keras ignores an empty name, too
        _check_backend(named)
        yield
        return
    found = [name for name in BACKENDS if importlib.util.find_spec(name)]
    if not found:
        want = "a backend of Keras: " + ", ".join(BACKENDS)
        raise MissingFrameworkError(
            "adapter keras", want, "none", "pip install 'xlstm-converter[keras]'"
        )
    os.environ["KERAS_BACKEND"] = found[0]
    try:
        yield
    finally:
        os.environ.pop("KERAS_BACKEND", None)
        if named is not None:
            os.environ["KERAS_BACKEND"] = named


def _check_backend(name: str) -> None:
    """Raises UsageError for a backend that Keras cannot import; one in use needs no check."""
    if "keras" in sys.modules:
        return
    want = "one of " + ", ".join(KNOWN)
    if name not in KNOWN:
        raise UsageError("KERAS_BACKEND", want, repr(name), "set it to one of them, or unset it")
    if importlib.util.find_spec(name) is None:
        got = f"{name!r}, which is not installed"
        raise UsageError("KERAS_BACKEND", want, got, f"install {name}, or set it to another one")


with _backend_chosen():
    import keras
    from keras.src.backend.common import global_state
    from keras.src.saving.serialization_lib import ObjectSharingScope

    from ..templates.layers import variables
    from . import fast_calls
    from .gradients import Factors, as_built, compiled_only, named_gradients, take_step


def backend() -> str:
    """Returns the backend of this process's Keras."""
    return str(keras.backend.backend())


SEEDS = "global_seed_generator"
"""Name of the generator of `keras.random` without a seed (keras/src/random/seed_generator.py)."""


def random_state() -> Callable[[], None]:
    """Saves the random states of Keras and its backend; returns a function to restore them."""
    seeds = global_state.get_global_attribute(SEEDS)
    kept = None if seeds is None else to_numpy(seeds.state)
    of_backend = _BACKENDS_STATE.get(backend(), lambda: None)()

    def back() -> None:
        global_state.set_global_attribute(SEEDS, seeds)
        if seeds is not None:
            seeds.state.assign(kept)
        if of_backend is not None:
            of_backend()

    return back


def _state_of_tensorflow() -> Callable[[], None] | None:
    """Saves TensorFlow's seeds of operations (`_internal_operation_seed` in eager/context.py).

    A kernel that draws numbers counts by itself; only layers of the user may draw.
    """
    context = importlib.import_module("tensorflow.python.eager.context").context()
    rng = getattr(context, "_rng", None)
    return None if rng is None else functools.partial(rng.setstate, rng.getstate())


def _state_of_torch() -> Callable[[], None]:
    torch = importlib.import_module("torch")
    cpu = torch.get_rng_state()
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []

    def back() -> None:
        torch.set_rng_state(cpu)
        if devices:
            torch.cuda.set_rng_state_all(devices)

    return back


_BACKENDS_STATE: dict[str, Callable[[], Callable[[], None] | None]] = {
    "tensorflow": _state_of_tensorflow,
    "torch": _state_of_torch,
}
"""Backend -> function that saves its states; other backends have none, or numpy's."""


_TENSORFLOW = threading.RLock()
"""Lock for every computation with TensorFlow.

Each operation stores its arguments in one place for all threads while it looks for overrides,
which runs Python code (tensorflow/python/framework/python_api_dispatcher.h of 2.21,
`canonicalized_args_storage_`). Another thread in that time crashes the process.
"""


def _computing(dtype: str = "float32") -> AbstractContextManager[Any]:
    """Returns a context in which this process's Keras may compute in `dtype`."""
    if backend() == "tensorflow":
        return _TENSORFLOW
    if backend() == "jax" and np.dtype(dtype).itemsize == 8:
        return importlib.import_module("jax").enable_x64(True)  # type: ignore[no-any-return]
    return contextlib.nullcontext()


def to_numpy(tensor: Any) -> Array:
    """Returns values as numpy; bfloat16, which numpy lacks, becomes float32 exactly."""
    with _computing():
        # a copy: numpy warns about a variable of TensorFlow
        value = keras.ops.copy(tensor)
        if keras.backend.standardize_dtype(value.dtype) == "bfloat16":
            value = keras.ops.cast(value, "float32")
        return np.array(keras.ops.convert_to_numpy(value))


def _stored(layer: Any) -> tuple[Stored, ...]:
    return tuple(
        Stored(v.path, tuple(v.shape), str(v.dtype), functools.partial(to_numpy, v))
        for v in user_classes.graph_weights(layer)
    )


def read(source: Any, until: str = "") -> Model:
    """Reads a live Keras model or layer, or the part of it up to a layer.

    Raises:
        UnsupportedError: a layer or option without an exact form here, or a layer not built yet.
    """
    lone = not isinstance(source, keras.Model)
    kind = type(source).__name__
    if not source.built:
        raise UnsupportedError(
            f"keras {kind}", "a built model", "no weights yet", "call it once first"
        )
    if lone:
        one = json.loads(json.dumps(keras.layers.serialize(source)))
        config = {"class_name": "Sequential", "config": {"name": source.name, "layers": [one]}}
        layers = [source]
    elif not user_classes.wired_as(source):
        raise user_classes.by_hand(source, read)
    else:
        config, layers = _config(source, kind), source.layers
    weights = {layer.name: _stored(layer) for layer in layers}
    left = () if lone else _left_out(source)
    container = f"live {'layer' if lone else 'model'} keras {kind}"
    found = Description("keras", keras.__version__, container, "", str, config, weights, True)
    described = replace(found, optimizer=_optimizer(source), ignored=left)
    return read_description(described, lone=lone, until=until)


def _left_out(model: Any) -> tuple[str, ...]:
    """Returns variables of a model that its graph does not use."""
    used = {id(variable) for variable in user_classes.graph_weights(model)}
    return tuple(v.path for v in model.weights if id(v) not in used)


def _optimizer(model: Any) -> Optimizer | None:
    """Returns the optimizer of a compiled model, as `summary()` counts it: with its variables."""
    found = getattr(model, "optimizer", None) if getattr(model, "compiled", False) else None
    if found is None or not found.built:
        return None
    return optimizer_of(type(found).__name__, [tuple(v.shape) for v in found.variables])


def _config(model: Any, kind: str) -> dict[str, Any]:
    """Returns the config of a live model as in a file."""
    try:
        return user_classes.config_of(model)
    except (NotImplementedError, TypeError):
        want, do = "a Sequential or functional model", "build one of the same layers"
        raise UnsupportedError(f"keras {kind}", want, "a model without a config", do) from None


def build(code: ModuleType, weights: Mapping[str, Array], dtype: str) -> Any:
    """Builds the Keras model of emitted `code` with these weights.

    In half precision its inputs stay float32 and its layers cast them, as in Keras's policies.
    """
    with _computing(dtype):
        ported = code.build(weights, "float32" if dtype in HALF else dtype)
    ported = in_dtype(ported, dtype) if dtype in HALF else ported
    _ORDER[ported] = list(weights)
    return ported


def run(ported: Any, inputs: Sequence[Array], dtype: str) -> list[Array]:
    """Returns outputs for numpy inputs, in evaluation mode; then last states of stateful layers."""
    with _computing(dtype):
        outputs = _call(ported, _start(ported, inputs, dtype))
        states = [state for layer in _stateful(ported) for state in layer.states]
        return [to_numpy(y) for y in [*keras.tree.flatten(outputs), *states]]


def compiled(ported: Any, examples: Sequence[Any]) -> Callable[..., Any]:
    """Returns a function of a model's inputs with little overhead, in evaluation."""
    computing = functools.partial(_computing, str(ported.compute_dtype or "float32"))
    return fast_calls.compiled(ported, examples, computing)


TRACED_FROM = 64
"""Time steps from which TensorFlow runs a loop in eager mode slower than it compiles it."""


def _call(ported: Any, tensors: list[Any]) -> Any:
    one = as_built(ported, tensors)
    if backend() == "tensorflow" and compiled_only(ported):
        compiled = importlib.import_module("tensorflow").function(ported, jit_compile=True)
        return compiled(one, training=False)
    steps = max((x.shape[1] for x in tensors if len(x.shape) > 2), default=0)
    if backend() == "tensorflow" and steps > TRACED_FROM:
        return ported.predict_on_batch(one)
    return ported(one, training=False)


def _start(ported: Any, inputs: Sequence[Array], dtype: str) -> list[Any]:
    """Resets the states of a model; returns inputs as tensors of the backend."""
    for layer in _stateful(ported):
        layer.reset_state()
    found = []
    for x in inputs:
        # masks stay as they are, and so do row numbers that half precision cannot store
        kept = x.dtype == bool or (dtype in HALF and x.dtype.kind in "iu")
        with np.errstate(over="ignore"):  # the largest float16 is 65504
            found.append(keras.ops.convert_to_tensor(x if kept else x.astype(dtype)))
    return found


def _stateful(ported: Any) -> list[Any]:
    """Returns the stateful layers, in the order of the model that was ported."""
    order = _ORDER.get(ported, [])

    def place(layer: Any) -> int:
        own = layer.name.replace("-", ".") + "."
        return next((n for n, name in enumerate(order) if name.startswith(own)), 0)

    return sorted((x for x in ported.layers if getattr(x, "stateful", False)), key=place)


_ORDER: weakref.WeakKeyDictionary[Any, list[str]] = weakref.WeakKeyDictionary()
"""Names of every port's weights, layer by layer; Keras itself sorts layers by their depth."""


def gradients(
    ported: Any, inputs: Sequence[Array], factors: Factors, moved: Sequence[bool], dtype: str
) -> tuple[dict[str, Array], list[Array | None]]:
    """Returns gradients of the sum of outputs times `factors`: of weights by name, of inputs."""
    with _computing(dtype):
        tensors = _start(ported, inputs, dtype)
        return named_gradients(ported, tensors, factors, moved, to_numpy)


def step(
    ported: Any, inputs: Sequence[Array], factors: Factors, rate: float, dtype: str
) -> dict[str, Array]:
    """Returns weights by name after one step of Keras's SGD, which changes `ported`."""
    with _computing(dtype):
        take_step(ported, _start(ported, inputs, dtype), factors, rate)
        return weights(ported)


def train(
    ported: Any, inputs: Sequence[Array], dtype: str, seed: int
) -> tuple[list[Array], dict[str, Array]]:
    """Returns outputs in training mode, and the weights by name after that call."""
    with _computing(dtype):
        tensors, before = _start(ported, inputs, dtype), weights(ported)
        for layer in ported.layers:
            generator = getattr(layer, "seed_generator", None)
            if generator is not None:
                generator.state.assign(np.array([seed, 0], "uint32"))
        outputs = keras.tree.flatten(ported(as_built(ported, tensors), training=True))
        after = weights(ported)
        for name, variable in variables(ported).items():
            variable.assign(before[name])
        return [to_numpy(y) for y in outputs], after


def count(ported: Any) -> int:
    """Returns `model.count_params()`."""
    return int(ported.count_params())


def leaves(source: Any) -> dict[str, Leaf]:
    """Returns every weight of a model or layer by path, for counting; empty before it is built."""
    found: dict[str, Leaf] = {}
    for variable in getattr(source, "weights", ()):
        leaf = leaf_of(variable, trainable=bool(variable.trainable), other=False)
        name = str(variable.path)
        again = sum(known.partition(":")[0] == name for known in found) if name in found else 0
        if leaf:
            found[f"{name}:{again}" if again else name] = leaf
    return found


def save_extra(ported: Any, folder: Path) -> list[str]:
    """Writes model.keras beside the source; returns notes for the user."""
    with _computing():
        ported.save(folder / "model.keras")
    layers = list(ported._flatten_layers(include_self=False))
    classes = user_classes.classes_told(layers)
    if not any(layer.compute_dtype == "float64" for layer in layers):
        return classes
    notes = []
    if any(_is_model(layer) for layer in layers):
        notes.append("activations that are made of several layers")
    if any(isinstance(value, np.float64) for layer in layers for value in vars(layer).values()):
        notes.append("constants of Rescaling and ReLU")
    return classes + [
        f"model.keras: Keras reopens {what} in float32; load() of model.py computes them in float64"
        for what in notes
    ]


def _is_model(layer: Any) -> bool:
    return isinstance(layer, keras.Model)


OPENS_FROM = (3, 13, 2)
"""The oldest Keras that opens a file here. Older ones allocate what a dataset declares, read other
files through external storage and links, and load a SavedModel that a layer names (CVE-2026-0897,
CVE-2026-1669, CVE-2026-1462). Our own readers check the file first."""


def open_native(path: Path, dtype: str) -> Any:
    """Opens a Keras 3 file with Keras itself, computing in `dtype`; uses no table of ours.

    Raises:
        UsageError: a Keras that is too old to open files.
    """
    numbers = tuple(int(part) for part in re.findall(r"\d+", keras.__version__)[:3])
    if numbers < OPENS_FROM:
        oldest = ".".join(map(str, OPENS_FROM))
        want, do = f"{oldest} or later to open files", f"pip install 'keras>={oldest}'"
        raise UsageError("Keras", want, keras.__version__, do)
    with _computing(dtype):
        model = keras.models.load_model(path, compile=False)
        return in_dtype(model, dtype)


def in_dtype(model: Any, dtype: str) -> Any:
    """Returns a copy of a live model that computes in `dtype`: its config gets that dtype."""
    with _computing(dtype):
        config = user_classes.with_dtype(
            user_classes.same_lambdas(user_classes.config_of(model)), dtype
        )
        own = user_classes.own_classes(model)
        made = user_classes.made_in(dtype, len(own) > 1)
        with keras.saving.custom_object_scope(own), made, ObjectSharingScope():
            copy = keras.models.model_from_json(json.dumps(config))
        if not copy.built:
            copy.build(model.input_shape)
        _sharpen(copy, dtype)
        copy.set_weights([cast(to_numpy(v), dtype) for v in user_classes.graph_weights(model)])
        for layer in copy._flatten_layers(include_self=False):
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()  # Normalization computes with copies of its weights
        return copy


def _sharpen(model: Any, dtype: str) -> None:
    """Sets `dtype` in models inside a model, such as stock activations.

    Their config has no dtype, and TensorFlow rounds plain numbers to float32.
    """
    for layer in model._flatten_layers(include_self=False):
        if isinstance(layer, keras.layers.Rescaling):
            layer.scale, layer.offset = np.float64(layer.scale), np.float64(layer.offset)
        elif _is_model(layer):
            layer.dtype_policy = dtype


def weights(ported: Any) -> dict[str, Array]:
    """Returns the arrays of a built model, by the names of `weights.safetensors`."""
    return {name: to_numpy(variable) for name, variable in variables(ported).items()}


def assign(ported: Any, arrays: Mapping[str, Array]) -> Any:
    """Writes arrays into a model's variables by the names of `weights`; returns the model."""
    for name, variable in variables(ported).items():
        variable.assign(arrays[name])
    return ported


FLOAT32_INSIDE = {
    "torch": "keras.ops.matmul of float64 is off by 2.5e-8",
    "jax": "keras.ops.tanh of float64 gives float32",
}
"""Backends whose Keras operations leave float64 -> the operation; measured with Keras 3.15."""


def inexact(dtype: str, model: Model) -> str:
    """Returns the reason why this Keras cannot compute a model in `dtype`, "" if it can."""
    if np.dtype(dtype).itemsize < 8:
        return ""
    if backend() != "tensorflow":
        return FLOAT32_INSIDE.get(backend(), "")
    pooled = float32_pools(model)
    named = f"of {', '.join(pooled)}: TensorFlow has no float64 form of it"
    return f"MaxPooling3D {named}" if pooled else ""


def inexact_for(model: Model, dtype: str) -> dict[str, float]:
    """Returns operations that this backend computes inexactly in `dtype` -> their errors.

    Errors are per max(1, |x|) of the operation's input; the keys name the layers.
    """
    if backend() != "tensorflow":
        return {}
    return inexact_operations(model, dtype)
