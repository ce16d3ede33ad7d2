"""State of reading one Keras model: its version, weights, notes and warnings."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from xlstm.errors import FileError, UnsupportedError, WeightsError
from xlstm.files.description import Description, Stored
from xlstm.ir import layer_registry
from xlstm.ir.layers import LayerSpec
from xlstm.ir.lazy_weights import Latest
from xlstm.ir.types import Shape

from ..activations import FROM_KERAS, REFUSED, stock_form
from ..versions import Era, era_of, modern_options, renames, version_of, weights_era

Config = Mapping[str, Any]

LIMITS = "see docs/models.md for models that can be ported"


@dataclass(frozen=True)
class CallContext:
    """Inputs and options with which a layer is called.

    Attributes:
        shapes: of one sample of each input.
        masked: True for each input with a mask.
        options: other arguments of the call.
        several: True if the second output of any call is read.
    """

    shapes: tuple[Shape, ...]
    masked: tuple[bool, ...] = ()
    options: Config = field(default_factory=dict)
    several: bool = False


@dataclass(frozen=True)
class LayerRule:
    """Rule that reads the config of one Keras class.

    Attributes:
        build: LayerConfig -> spec, or several, one after the other.
        reads: keys that `build` uses.
        harmless: further keys without effect on the trained function.
        only: keys of which one value is supported; any other is refused by name.
        arguments: names of the arguments of its call, in order; the first is the data.
        joins: True for several inputs.
    """

    build: Callable[[Any], LayerSpec | Sequence[LayerSpec]]
    reads: frozenset[str]
    harmless: frozenset[str] = frozenset()
    only: Mapping[str, Any] | None = None
    arguments: tuple[str, ...] = ("inputs", "training")
    joins: bool = False


BACKENDS = ("", "tensorflow", "jax", "torch", "theano", "cntk")
"""Backends in files of Keras; "" for files without one."""


class Paths:
    """Finds the paths at or below another one without a search through all.

    >>> Paths(["lstm/cell/vars", "lstm_1/cell/vars", "lstm"]).below("lstm")
    ['lstm', 'lstm/cell/vars']
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._sorted = sorted(paths)

    def add(self, path: str) -> None:
        """Adds a path."""
        insort(self._sorted, path)

    def below(self, path: str) -> list[str]:
        """Returns the path itself, if it is one, and the paths that continue it."""
        at = bisect_left(self._sorted, path)
        own = self._sorted[at : at + 1]
        return [*(own if own == [path] else []), *self.inside(f"{path}/")]

    def inside(self, folder: str) -> list[str]:
        """Returns the paths that start with a folder (with its slash); all for ""."""
        if not folder:
            return list(self._sorted)
        # "0" is the character after "/"
        ends = (folder, f"{folder[:-1]}0")
        return self._sorted[slice(*(bisect_left(self._sorted, end) for end in ends))]


class ReadContext:
    """State of reading one description, with the notes and warnings found so far.

    Attributes:
        era: of the config.
        weights_era: of the weights; None for a separate file that proves none.
        from_cudnn: names of layers with weights in cuDNN's layout, as `where` returns them.
    """

    def __init__(
        self,
        description: Description,
        rules: Mapping[str, LayerRule],
        operations: Collection[str] = (),
    ) -> None:
        self.description = description
        self.rules = rules
        self.operations = operations
        self.file = description.file or "keras"
        self.era = era_of(version_of(description, {*rules, "InputLayer"}, self.file), self.file)
        self.weights_era: Era | None = weights_era(description, self.era, self.file)
        self.budget = description.budget
        self.latest = Latest()
        self.notes: dict[str, None] = {}
        if self.era.version != description.version:
            of = description.architecture.file if description.architecture else self.file
            self.note(f"{of} names no version; only Keras {self.major} writes options as it does")
        self.warnings: dict[str, None] = {}
        self.from_cudnn: set[str] = set()
        self._old_hard_sigmoid: list[str] = []
        if self.era.is_newer:
            self.warn(f"written by Keras {self.era.version}, newer than any that was looked at")
        if self.backend not in BACKENDS:
            self.warn(f"written on an unknown backend: {self.backend}")
        self._left = dict(description.weights)
        self._paths = Paths(self._left)

    @property
    def major(self) -> int:
        """Major version of the Keras that wrote the model."""
        return self.era.major

    @property
    def weights_major(self) -> int:
        """Major version of the Keras that wrote the weights."""
        return self.weights_era.major if self.weights_era else self.major

    @property
    def backend(self) -> str:
        """Backend of the Keras that wrote the weights, "" if no file has it."""
        joined = self.description.architecture
        if self.description.backend or joined is None or self.weights_major == 1:
            return self.description.backend
        return joined.backend

    def take(self, key: str) -> tuple[Stored, ...]:
        """Returns the arrays stored under a layer's name or path, once."""
        return self._left.pop(key, ())

    def give(self, key: str, stored: tuple[Stored, ...]) -> None:
        """Stores arrays under another name, to be taken from there."""
        if key not in self._left:
            self._paths.add(key)
        self._left[key] = stored

    def leave(self, keys: Collection[str]) -> None:
        """Drops the arrays of layers that are not read, and all below their paths."""
        for key in keys:
            for path in self.below(key):
                del self._left[path]

    def below(self, path: str) -> list[str]:
        """Returns paths with arrays at or below one, not taken yet."""
        return [key for key in self._paths.below(path) if key in self._left]

    def check_used(self) -> None:
        """Raises WeightsError where the file holds weights that no layer took."""
        left = [
            key
            for key, stored in self._left.items()
            if stored and key.split("/")[-1] != "seed_generator"
        ]
        if left:
            got = f"left over: {', '.join(left)}"
            raise WeightsError(
                self.file, "every weight used once", got, "check that config and weights match"
            )

    def where(self, name: object) -> str:
        """Returns the name of a layer in errors and notes."""
        return f"{self.file}, layer {name}"

    def note(self, line: str) -> None:
        """Adds a note, once."""
        self.notes[line] = None

    def warn(self, line: str) -> None:
        """Adds a warning, once."""
        self.warnings[line] = None

    def activation(self, value: Any, where: str) -> str:
        """Returns the canonical name of an activation, by the era of the file.

        Raises:
            UnsupportedError: an activation without an exact form.
        """
        if value is None:
            return "linear"
        if isinstance(value, Mapping) and value.get("class_name") == "function":
            value = value.get("config")
        names = FROM_KERAS[self.major]
        named = names.get(value, "") if isinstance(value, str) else ""
        found = stock_form(value) if isinstance(value, Mapping) else named
        if not found:
            raise _unknown(value, where, names)
        if found == "hard_sigmoid_keras2" and isinstance(value, str):
            self._old_hard_sigmoid.append(where.rpartition("layer ")[2])
        return found

    def all_warnings(self) -> tuple[str, ...]:
        """Returns every warning; those of the old hard_sigmoid are joined into one."""
        if not self._old_hard_sigmoid:
            return tuple(self.warnings)
        names = ", ".join(dict.fromkeys(self._old_hard_sigmoid))
        then = "clip(0.2 x + 0.5, 0, 1), as Keras 1 and 2 compute it, and is ported so"
        line = f"hard_sigmoid of {names} is {then}; Keras 3 computes clip(x/6 + 0.5, 0, 1)"
        return (line, *self.warnings)

    def modern(self, layer: Config, where: str) -> tuple[str, dict[str, Any]]:
        """Returns class name and options of a layer in today's names, by the tables of its era.

        Raises:
            FileError: an option under both its old and its new name.
        """
        found, options = modern_options(layer, self.major)
        if self.major == 1:
            names, written = renames(found, 1), layer.get("config", {})
            if len({names.get(key, key) for key in written}) != len(written):
                raise FileError(where, "options named once", ", ".join(written), "check the file")
            self.note(f"{where}: options in the words of Keras 1")
        return found, options


def _unknown(value: Any, where: str, names: Mapping[str, str]) -> UnsupportedError:
    """Returns the error for an unknown activation."""
    if isinstance(value, str):
        got = f"{value}: {REFUSED[value]}" if value in REFUSED else value
        return UnsupportedError(where, f"one of {', '.join(names)}", got, "use one of these")
    kind = value.get("class_name") if isinstance(value, Mapping) else type(value).__name__
    return UnsupportedError(where, "an activation by its name", kind, "use an activation of Keras")


def is_custom(layer: Config) -> bool:
    """True for a class of the user, whatever its name."""
    module, registered = layer.get("module"), layer.get("registered_name")
    package = str(module or "keras").split(".")[0]
    if registered and "module" in layer and module is None:
        return True  # Keras 3 writes no module for classes of the main program
    return package not in ("keras", "tf_keras", "tensorflow") or ">" in str(registered or "")


def registered_name(layer: Config) -> str:
    """Returns the name under which the user registered a layer, "" if it is not registered."""
    if not layer_registry.any_registered():
        return ""
    options, kind = layer.get("config"), str(layer.get("class_name"))
    own = options.get("name") if isinstance(options, Mapping) else layer.get("name")
    bases = (str(layer.get("registered_name") or kind), kind, kind.rpartition(">")[2])
    return layer_registry.find(*(f"{base}:{own}" for base in bases), *bases)


NESTED = ("Sequential", "Functional", "Model")
"""Classes of models; the last in Keras 1 and 2."""


def is_operation(layer: Config) -> bool:
    """True for the config of an operation of Keras 3, which is no layer."""
    module = str(layer.get("module") or "")
    if registered_name(layer):
        return False
    if module:
        return module.startswith("keras.src.ops")
    # HDF5 files have no module; every layer has one of these options, and no operation does
    nodes, own = layer.get("inbound_nodes"), layer.get("config")
    new = isinstance(nodes, list) and bool(nodes) and isinstance(nodes[0], Mapping)
    named = isinstance(own, Mapping) and not LAYERS_ALONE & set(own)
    return new and named


LAYERS_ALONE = frozenset({"trainable", "batch_shape", "layers", "rate"})
"""Options of layers; `rate` because SpatialDropout writes no `trainable`."""

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "bool")
"""Dtypes of integers, which inputs have, and Embeddings in old files."""

DTYPES = frozenset("float16 bfloat16 float32 float64 mixed_float16 mixed_bfloat16".split())


def dtype_policy(value: Any) -> str:
    """Returns the name of a dtype or dtype policy in a config; float32 if there is none."""
    if isinstance(value, Mapping):
        config = value.get("config", {})
        name = config.get("name") if isinstance(config, Mapping) else None
        return str(name or value.get("class_name"))
    return "float32" if value is None else str(value)
