"""Reading any source, and porting it to a live object."""

from __future__ import annotations

import contextlib
import hashlib
import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from xlstm.custom_layers.register import registered_code
from xlstm.errors import UnsupportedError, UsageError, WeightsError
from xlstm.files import describe
from xlstm.files.arrays.named_arrays import is_arrays, read_arrays, read_shapes
from xlstm.files.keras.architecture import Told, describe_alone, join
from xlstm.files.port_folder import SOURCE, has_port
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import check_model, pack_model, unpack_model
from xlstm.frameworks.named_arrays import from_arrays
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.batch_axes import as_ported, warn_of_axes
from xlstm.ir.graph import Model, Spec
from xlstm.ir.precision import DTYPES, HALF
from xlstm.ir.python_source import module_of
from xlstm.ir.types import Array
from xlstm.reading.folder import check_plain, read_folder
from xlstm.reading.live_ports import folder_of, read_emitted
from xlstm.slots import Table, pack, sizes_of, unpack


@unmoved
def load(
    source: Any,
    *,
    architecture: str | os.PathLike[str] | None = None,
    keras_version: str | None = None,
    kernel_layout: str | None = None,
    layers: Mapping[str, Spec] | None = None,
    until: str | None = None,
) -> Model:
    """A framework-neutral model with its weights, from a file, a folder or a live object.

    Args:
        source: a path to a Keras file (`.keras`, HDF5 whole or weights alone, weights in shards),
            to a SavedModel, or to a folder written by `save` or by Keras; a path to named arrays
            (safetensors, `.npz`, Flax msgpack), a mapping of them or a list as `get_weights()`
            gives it, with `layers`; a live Keras
            model or layer; an `nn.LSTM`, `nn.GRU`, `nn.RNN`, cell or `nn.Linear` of PyTorch, or
            any module that `torch.fx` traces with such layers in it; a cell, `RNN`,
            `Bidirectional`, `Linear` or `Sequential` of Flax NNX, or of Linen as a pair (module,
            variables); a live port, from `port` or a folder's `load()`; or a Model, which is
            returned as it is.
            Paths are read without importing a framework.
        architecture: for weights alone: the JSON or YAML file of their architecture, or a whole
            model (file or folder) of the same layers, whose own weights are not read. Where the
            two are of different Keras versions, `source.warnings` name what these disagree on.
        keras_version: for files that do not say it: the Keras that wrote the architecture, such as
            "2.1"; it answers every question of its era at once. It is asked for only where the
            words of the options do not prove what matters.
        kernel_layout: "tensorflow" or "theano", for convolutions of files that do not say their
            backend (all of Keras 1); layers without convolutions do not need it.
        layers: for named arrays: layer name -> spec of `xlstm.ir.graph`, in the order of a chain.
        until: for files and live models of Keras: a layer of the model. Its output becomes the
            model's, and what comes after it (such as a Lambda with a loss) is not read.

    Raises:
        FileError: an unreadable, damaged or foreign file.
        UnsupportedError: a layer or option that has no exact form here.
        WeightsError: weights that do not fit their layers.
        UsageError: an object of no known kind, or an option that is missing or not needed.
    """
    return _loaded(source, Told(architecture, keras_version, kernel_layout, until), layers)


def _loaded(source: Any, told: Told, layers: Mapping[str, Spec] | None) -> Model:
    """As `load`, what the user says about a file in one."""
    if isinstance(source, (str, os.PathLike)):
        return _load_path(Path(source), told, layers, numbers=True)
    if any(base.__module__.startswith(KERAS_2) for base in type(source).__mro__):
        want, do = "a live model of Keras 3", 'model.save("model.h5"), and pass that file'
        raise UsageError("load", want, f"{type(source).__name__} of Keras 2", do)
    owner = None if isinstance(source, (Mapping, Model)) else registry.owner(source)
    live = owner is not None and owner.name == "keras"
    told, until = (replace(told, until=None), told.until) if live else (told, None)
    if told.given():
        given = ", ".join(told.given())
        raise UsageError("load", "a path, with these options", given, "leave them out")
    if isinstance(source, Mapping):
        if layers is None:
            from xlstm.frameworks.recognise import asked  # which counts what it finds

            raise asked(source)
        return from_arrays(source, layers)
    if layers is not None and isinstance(source, list):
        return from_arrays(source, layers)
    if layers is not None:
        raise UsageError("load", "arrays or a file of them for layers=", source, "leave it out")
    if isinstance(source, Model):
        return source
    if owner is None:
        want = "a path, or a model of " + ", ".join(registry.names())
        raise UsageError("load", want, type(source).__name__, "pass one of these")
    if until is not None:
        reader: Any = owner.live()  # of Keras, whose readers alone stop at a layer
        part: Model = reader.read(source, until=until)
        return part
    around: Any = owner.live()
    source = around.inside(source) if hasattr(around, "inside") else source
    ported = _read_port(source, owner)
    ported = read_emitted(source, owner) if ported is None else ported
    return _read_live(source, owner) if ported is None else ported


KERAS_2 = ("tf_keras.", "tensorflow.python.keras.", "keras.engine.", "keras.src.engine.")
"""Modules whose classes make an object one of Keras 2, whose files are read and objects are not.

The package tf_keras; TensorFlow's own until 2.15; keras until 2.12, and 2.13 to 2.15.
"""


def _read_live(source: Any, owner: Adapter) -> Model:
    """A model of somebody's own making; a folder of ours is the way where that is refused."""
    try:
        model: Model = owner.live().read(source)
    except UnsupportedError as error:
        folder = folder_of(source[0] if isinstance(source, tuple) else source)
        if folder is None:
            raise
        do = f"load the folder {folder}; the object, or {SOURCE}, is not as xlstm wrote it"
        raise UnsupportedError(error.where, error.expected, error.got, do) from error
    return model


PORTS: dict[str, Model] = {}
"""Name of each emitted module of this process -> the graph it was written from."""

_MADE: dict[int, tuple[weakref.ref[Any], Model]] = {}
"""Number (`id`) of each live port -> the port, and the graph it was built from."""


def _remember(port: Any, graph: Model) -> None:
    """Keeps the graph of a port for as long as the port lives.

    Models of other files, or of other names of layers, may be written as the very same module.
    """
    whose, number = _whose(port), id(_whose(port))
    if type(whose).__module__ in PORTS:
        with contextlib.suppress(TypeError):  # a class that takes no weak references
            _MADE[number] = weakref.ref(whose, lambda _: _MADE.pop(number, None)), graph


def _whose(port: Any) -> Any:
    """The module of a port: the first of Flax Linen's pair, all of the others."""
    return port[0] if isinstance(port, tuple) else port


def _graph_of(port: Any) -> Model | None:
    """The graph of a port that this process made, None for others; a copy has its module's."""
    whose = _whose(port)
    shared = PORTS.get(type(whose).__module__)
    made, graph = _MADE.get(id(whose), (None, None))
    return graph if shared and made and made() is whose else shared


def _read_port(source: Any, owner: Adapter) -> Model | None:
    """The model of a port that this process made, with the weights it has now; None for others."""
    graph = _graph_of(source)
    if graph is None:
        return None
    live: Any = owner.live()
    found = replace(graph.source, container=f"live port to {owner.title}", optimizer=None)
    weights = unpack_model(graph, owner, live.weights(source))
    return as_ported(replace(graph, weights=weights, source=found))


def load_shapes(source: Any, told: Told = Told()) -> Model:  # noqa: B008  Told never changes
    """As `load`, with zeros that take no memory for the weights of files, of which none is read.

    An architecture without weights is a model here, whose layers have none.

    Raises:
        XlstmError: as `load` raises.
    """
    if isinstance(source, (str, os.PathLike)):
        return _load_path(Path(source), told, None, numbers=False)
    return _loaded(source, told, None)


def _load_path(
    path: Path, told: Told, layers: Mapping[str, Spec] | None, *, numbers: bool
) -> Model:
    if layers is not None:
        return from_arrays(read_arrays(path), layers, path.name)
    if has_port(path):
        check_plain(path, told.given())
        return as_ported(read_folder(path, numbers=numbers))
    if is_arrays(path) and not told.given():
        from xlstm.frameworks.recognise import asked

        raise asked(read_shapes(path), path.name)
    alone = None if numbers else describe_alone(path)
    with contextlib.closing(alone or describe(path)) as description:
        joined = join(description, told)
        joined = joined if numbers else joined.without_numbers()
        model: Model = registry.resolve(registry.KERAS_READER)(joined, until=told.until or "")
    return model


def code_of(model: Model, adapter: Adapter, text: str | None = None) -> ModuleType:
    """The emitted source of a model as a module, known to `sys.modules` and `linecache`.

    It is the very text that `save` writes, so getsource, pickle and tracing tools work on it; or
    `text`, where that is given.
    """
    if adapter.emit is None:
        raise UsageError(f"adapter {adapter.name}", "a target with source", "none", "use port")
    check_model(model, adapter)
    text = adapter.emit(model) if text is None else text
    name = f"xlstm_port_{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    module = module_of(name, text)
    known, graph = PORTS.get(name), replace(model, weights={})
    if known is not None and known.source != graph.source:  # a copy does not say which it is of
        graph = replace(graph, source=replace(graph.source, file="", sha256=""))
    PORTS[name] = graph
    return module


def check_dtype(model: Model, dtype: Any) -> str:
    """The name of the dtype to compute in: the one asked for, or the model's own."""
    try:
        name = np.dtype(dtype or model.compute_dtype()).name
    except TypeError:
        name = str(dtype).removeprefix("torch.")
    if name not in (*DTYPES, *HALF):
        want = f"{', '.join((*DTYPES, *HALF[:-1]))} or {HALF[-1]}"
        raise UsageError("dtype", want, name, "use one of these")
    return name


@unmoved
def port(source: Any, to: str, *, dtype: Any = None) -> Any:
    """The live object of another framework that computes what `source` computes.

    Its inputs and outputs are batch first. Warns (AxesWarning) where those of the source are not.

    Args:
        source: anything that `load` takes.
        to: "torch" gives an `nn.Module` in eval mode, "nnx" an `nnx.Module`, "linen" a pair
            (module, variables), "keras" a `keras.Model`, "numpy" a callable.
        dtype: "float32", "float64", "bfloat16" or "float16" to compute in (numpy has the first two
            only); the widest stored dtype, at least float32, if not given. Weights are cast before
            any table is applied.

    Raises:
        MissingFrameworkError: the target is not installed.
        XlstmError: as `load` raises.
    """
    adapter, model = registry.adapter(to), load(source)
    warn_of_axes(model)
    return build(model, adapter, dtype)


def build(model: Model, adapter: Adapter, dtype: Any = None, text: str | None = None) -> Any:
    """As `port`, for a model and an adapter at hand; from the source `text`, if given."""
    name = check_dtype(model, dtype)
    live: Any = adapter.live()
    if adapter.emit is None:
        return live.build_model(model, name)
    if name in HALF and hasattr(live, "check_half"):
        live.check_half(model, name)
    with registered_code(model, adapter.name):
        with getattr(live, "running", contextlib.nullcontext)():
            code = code_of(model, adapter, text)
        weights = pack_model(model if dtype is None else model.astype(name), adapter)
        made = live.build(code, weights, name)
    _remember(made, replace(model, weights={}))
    return made


def convert_weights(
    arrays: Mapping[str, Array] | Sequence[Array], source: str, target: str
) -> dict[str, Array]:
    """One layer's weights in another framework's form, as plain arrays.

    Args:
        arrays: the layer's arrays by the source framework's names, or in its order.
        source: "framework.Layer", such as "keras.LSTM".
        target: likewise, such as "torch.LSTM" or "nnx.OptimizedLSTMCell".

    Returns:
        The target's arrays by its own names; the inputs are not changed.

    Raises:
        UsageError: unknown names, or two different kinds of layer.
        WeightsError: arrays missing, left over, or of shapes that fit no layer.

    >>> converted = convert_weights([np.ones((3, 2)), np.zeros(2)], "keras.Dense", "torch.Linear")
    >>> {name: array.shape for name, array in converted.items()}
    {'weight': (2, 3), 'bias': (2,)}
    """
    from_table, to_table = registry.table(source), registry.table(target)
    if not isinstance(arrays, Mapping):
        names = [slot.name for slot in from_table.slots]
        names += [f"array {n}" for n in range(len(names), len(arrays))]
        arrays = dict(zip(names, arrays, strict=False))
    named = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in named.items():
        if array.dtype.kind not in "fiubV":  # V: bfloat16 and its like
            raise WeightsError(name, "numbers", f"dtype {array.dtype}", "pass plain arrays")
    return _converted(from_table, to_table, named)


def _converted(source: Table, target: Table, arrays: Mapping[str, Array]) -> dict[str, Array]:
    """One layer's framework tensors as another framework's, sizes taken from the shapes.

    Raises:
        UsageError: the two tables are of different kinds of layer.
        WeightsError: arrays missing, left over, or of shapes that fit no layer.
    """
    if source.kind is not target.kind:
        want = f"two layouts of one kind of layer ({source.kind.name})"
        raise UsageError("convert_weights", want, target.kind.name, "name the same layer twice")
    sizes = sizes_of(source, arrays)
    present = {slot.tensor for slot in source.slots if slot.name in arrays}
    absent = frozenset(source.kind.tensors) - present if present >= {"kernel"} else frozenset()
    absent &= frozenset({"bias"})
    hub = unpack(source, arrays, sizes, absent, "convert_weights")
    return {name: np.array(array) for name, array in pack(target, hub, sizes, absent).items()}
