"""Reads any source: a file, a folder, a live object, named arrays.

load("model.h5").nodes
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from xlstm.errors import UnsupportedError, UsageError
from xlstm.files import Description, describe
from xlstm.files.arrays.named_arrays import is_arrays, read_arrays, read_shapes
from xlstm.files.free_memory import check_memory, size_of
from xlstm.files.keras.architecture import ReadOptions, describe_alone, join
from xlstm.files.port_folder import SOURCE, has_port, has_stack
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.named_arrays import from_arrays
from xlstm.frameworks.random_state import unmoved
from xlstm.frameworks.recognise import missing_layers_error
from xlstm.ir.batch_axes import as_ported
from xlstm.ir.graph import Model
from xlstm.ir.layers import LayerSpec
from xlstm.reading.folder_code import with_code_warning
from xlstm.reading.ports import (
    check_plain,
    folder_of,
    read_emitted,
    read_folder,
    read_port,
    target_of,
)

LOG = logging.getLogger("xlstm")
"""Logger whose lines `-v` writes to stderr."""


@unmoved
def load(
    source: Any,
    *,
    architecture: str | os.PathLike[str] | None = None,
    keras_version: str | None = None,
    kernel_layout: str | None = None,
    layers: Mapping[str, LayerSpec] | None = None,
    until: str | None = None,
) -> Model:
    """A framework-neutral model with its weights, from a file, a folder or a live object.

    Args:
        source: a path to a Keras file (`.keras`, HDF5 whole or weights alone, weights in shards),
            to a SavedModel, or to a folder written by `save` or by Keras; a path to named arrays
            (safetensors, `.npz`, Flax msgpack), a mapping of them or a list from `get_weights()`,
            with `layers`; a live Keras model or layer; an `nn.LSTM`, `nn.GRU`, `nn.RNN`, cell or
            `nn.Linear` of PyTorch, or any module with such layers that `torch.fx` traces; a cell,
            `RNN`, `Bidirectional`, `Linear` or `Sequential` of Flax NNX, or of Linen as a pair
            (module, variables); a live port, from `port` or a folder's `load()`; or a Model, which
            is returned unchanged. Paths are read without importing a framework.
        architecture: for weights alone: the JSON or YAML file of their architecture, or a whole
            model (file or folder) with the same layers, whose own weights are not read. If the two
            are of different Keras versions, `source.warnings` name the differences.
        keras_version: version of the Keras that wrote the architecture, such as "2.1", for files
            without it. It is needed only if the names of the options leave a default open.
        kernel_layout: "tensorflow" or "theano", for convolutions of files without a backend (all of
            Keras 1); layers without convolutions do not need it.
        layers: for named arrays: layer name -> spec of `xlstm.ir.layers`, in the order of a chain.
        until: for files and live models of Keras: a layer of the model. Its output becomes the
            model's, and later layers (such as a Lambda with a loss) are not read.

    Raises:
        FileError: an unreadable, damaged or foreign file.
        UnsupportedError: a layer or option that has no exact form here.
        WeightsError: weights that do not fit their layers.
        UsageError: an object of no known kind, or an option that is missing or not needed.
    """
    return _loaded(source, ReadOptions(architecture, keras_version, kernel_layout, until), layers)


def _loaded(source: Any, options: ReadOptions, layers: Mapping[str, LayerSpec] | None) -> Model:
    """As `load`, with the options of the user in one object."""
    if isinstance(source, (str, os.PathLike)):
        return _load_path(Path(source), options, layers, numbers=True)
    if type(source).__name__ in STACKS and is_stack(source):
        raise _several(type(source).__name__)
    if any(base.__module__.startswith(KERAS_2) for base in type(source).__mro__):
        want, do = "a live model of Keras 3", 'model.save("model.h5"), and pass that file'
        raise UsageError("load", want, f"{type(source).__name__} of Keras 2", do)
    owner = None if isinstance(source, (Mapping, Model)) else registry.owner(source)
    live = owner is not None and owner.name == "keras"
    options, until = (replace(options, until=None), options.until) if live else (options, None)
    if options.names():
        names = ", ".join(options.names())
        raise UsageError("load", "a path, with these options", names, "call it without them")
    if isinstance(source, Mapping):
        if layers is None:
            raise missing_layers_error(source)
        return from_arrays(source, layers)
    if layers is not None and isinstance(source, list):
        return from_arrays(source, layers)
    if layers is not None:
        raise UsageError("load", "arrays or a file of them for layers=", source, "drop layers=")
    if isinstance(source, Model):
        return source
    if owner is None:
        want = "a path, or a model of " + ", ".join(registry.names())
        raise UsageError("load", want, type(source).__name__, "pass one of these")
    if until is not None:
        reader: Any = owner.live()  # of Keras: no other reader has `until`
        part: Model = reader.read(source, until=until)
        return part
    around: Any = owner.live()
    source = around.inside(source) if hasattr(around, "inside") else source
    ported = read_port(source, owner)
    ported = read_emitted(source, owner) if ported is None else ported
    return _read_live(source, owner) if ported is None else ported


STACKS = ("Stack", "NumpyStack")
"""Classes of the objects that run many models."""


def is_stack(source: Any) -> bool:
    """True for an object that runs many models, from `xlstm.stack` or the folder of a stack."""
    return all(hasattr(source, name) for name in ("count", "chunk"))


def _several(where: Any) -> UsageError:
    want, do = "one model", "call xlstm.unstack, which returns them by name"
    return UsageError(where, want, "a stack of many models", do)


KERAS_2 = ("tf_keras.", "tensorflow.python.keras.", "keras.engine.", "keras.src.engine.")
"""Modules of the classes of Keras 2: its files can be read, its live objects cannot.

The package tf_keras; TensorFlow's own until 2.15; keras until 2.12, and 2.13 to 2.15.
"""


def _read_live(source: Any, owner: Adapter) -> Model:
    """The model of a live object; if it is refused, the error names its ported folder."""
    try:
        model: Model = owner.live().read(source)
    except UnsupportedError as error:
        folder = folder_of(source[0] if isinstance(source, tuple) else source)
        if folder is None:
            raise
        do = f"load the folder {folder}; the object, or {SOURCE}, is not as xlstm wrote it"
        raise UnsupportedError(error.where, error.expected, error.got, do) from error
    return model


def load_shapes(source: Any, options: ReadOptions = ReadOptions()) -> Model:  # noqa: B008  frozen
    """As `load`, without reading weights of files: zeros that need no memory replace them.

    An architecture without weights becomes a model whose layers have no weights.

    Raises:
        XlstmError: as `load` raises.
    """
    if isinstance(source, (str, os.PathLike)):
        return _load_path(Path(source), options, None, numbers=False)
    return _loaded(source, options, None)


@contextlib.contextmanager
def opened(source: Any, options: ReadOptions = ReadOptions()) -> Iterator[Model]:  # noqa: B008  frozen
    """As `load`, for a single pass over the weights: those of a large file of Keras are not kept.

    They are read from the file, which stays open in the context, whenever they are used. The model
    must not be used after it.

    Raises:
        XlstmError: as `load` raises, also where weights are used.
    """
    path = Path(source) if isinstance(source, (str, os.PathLike)) else None
    if path is None or has_port(path) or (is_arrays(path) and not options.names()):
        yield _loaded(source, options, None)
        return
    with contextlib.closing(describe(path)) as description:
        joined = join(description, options)
        every = [array for arrays in joined.weights.values() for array in arrays]
        largest = max(every, key=size_of, default=None)
        lazy = sum(map(size_of, every)) > KEPT
        # another array of the size of the largest one is made of it
        check_memory([largest] if lazy and largest else every, path.name)
        yield _read(replace(joined, lazy=lazy), options)


KEPT = 2**26
"""Bytes of weights that `opened` reads once, and keeps."""


def _read(description: Description, options: ReadOptions) -> Model:
    LOG.info("read %s: %s", description.file, description.container)
    ahead = description.hashed_ahead()
    return registry.adapter(ahead.framework).read_file(ahead, until=options.until or "")


def _load_path(
    path: Path, options: ReadOptions, layers: Mapping[str, LayerSpec] | None, *, numbers: bool
) -> Model:
    if layers is not None:
        return from_arrays(read_arrays(path), layers, path.name)
    if has_stack(path):
        raise _several(path)
    if has_port(path):
        check_plain(path, options.names())
        graph = read_folder(path, numbers=numbers)
        return as_ported(with_code_warning(path, graph, target_of(path)))
    if is_arrays(path) and not options.names():
        raise missing_layers_error(read_shapes(path), path.name)
    alone = None if numbers else describe_alone(path)
    with contextlib.closing(alone or describe(path)) as description:
        joined = join(description, options)
        if numbers:
            check_memory((a for arrays in joined.weights.values() for a in arrays), path.name)
            return _read(joined, options)
        joined = joined.without_numbers()
        return registry.adapter(joined.framework).read_file(joined, until=options.until or "")
