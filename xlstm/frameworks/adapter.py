"""The contract of a framework: the tables and functions that its adapter must have.

An adapter has two halves. The cold half (`Adapter`) imports no framework. It has the slot tables,
the writer of source text, and the means to recognise the framework's objects. The live half
(`Live`) is a module that imports the framework. It is loaded only to read, build or run an object.

Ports are equal in evaluation, and train as the source does. In training mode, by the framework's
own switch for it (`module.train()`, `training=True`, `deterministic=False`):

- Dropout zeroes a share `rate` of its input at random and divides the rest by 1 - rate;
  SpatialDropout does so to whole channels.
- BatchNorm uses mean and variance of the batch, and moves the stored ones by `momentum`.
- GaussianNoise adds noise of the deviation `rate`; GaussianDropout multiplies by noise with mean 1;
  AlphaDropout keeps mean and variance.

`Adapter.training` says which of them ports do. No test of outputs shows it: a port without its
Dropout is equal in evaluation. So a layer of which an adapter says nothing is refused.

A live half may have more functions. `xlstm.testing.conformance` uses two of them:

- gradients(ported, inputs, factors, moved, dtype): gradients of the sum of all outputs times
  `factors`, as a mapping by the names of the tables, and a list with one array for each input, None
  for inputs that are not `moved`. An output with factor None is left out.
- train(ported, inputs, dtype, seed): a pair of one call in training mode. The first item is a list
  of outputs; the second one is a mapping of the weights after the call, by the same names. The
  random numbers begin at `seed`. `ported` does not change.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple, Protocol, cast

from xlstm.errors import MissingFrameworkError, UnsupportedError, XlstmError
from xlstm.files.description import Description, Outline
from xlstm.frameworks.command_exit import go_on
from xlstm.frameworks.crashes import importing, note_framework, uncollected
from xlstm.frameworks.distributions import version
from xlstm.frameworks.port_tests import PortTests
from xlstm.frameworks.random_state import note
from xlstm.ir import layers as L
from xlstm.ir.graph import Model, Node
from xlstm.ir.kinds import KINDS
from xlstm.ir.precision import DTYPES, EPS
from xlstm.ir.types import Array
from xlstm.slots import Table, identity_table

TRAINING = (
    *("Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D"),
    *("GaussianNoise", "GaussianDropout", "AlphaDropout", "BatchNorm"),
)
"""Layers that compute something else in training. The reader of Keras says it of augmentations."""

UNITS: Mapping[str, float] = MappingProxyType({dtype: EPS[dtype] for dtype in DTYPES})
"""Precision of comparisons -> its unit of rounding."""


def resolve(path: str) -> Any:
    """The object at "module:attribute"."""
    module, _, attribute = path.partition(":")
    return getattr(importlib.import_module(module), attribute)


class Live(Protocol):
    """The half that imports the framework."""

    def read(self, source: Any) -> Model:
        """Converts a live object of the framework to a Model."""
        ...

    def build(self, code: ModuleType, weights: Mapping[str, Array], dtype: str) -> Any:
        """Builds the live object of emitted `code` with these weights, computing in `dtype`."""
        ...

    def run(self, ported: Any, inputs: Sequence[Array], dtype: str) -> list[Array]:
        """The outputs of a built object for numpy inputs cast to `dtype`, as numpy arrays."""
        ...

    def count(self, ported: Any) -> int:
        """Number of parameters by the framework's own one-liner."""
        ...


class WeightPlacement(NamedTuple):
    """One part of a layer that owns weights.

    Attributes:
        before: prefix of the names of its canonical tensors.
        part: its spec.
        table: its slots.
        name: full name of a slot below the layer, "{}" being the slot's own name with `inside`.
    """

    before: str
    part: L.LayerSpec
    table: Table
    name: str

    def slot_name(self, slot: str) -> str:
        """Name of a slot below the layer."""
        return self.name.format(self.table.prefix + slot)


@dataclass(frozen=True)
class NativeLayer:
    """The native layer that users compare with an own cell of another number of parameters.

    Attributes:
        own: class of the own cell.
        name: the native class, with its module.
        count: its number of parameters, for the same sizes.
        why: the reason of the difference, such as "it lacks the candidate's second bias".
    """

    own: str
    name: str
    count: int
    why: str


_IMPORTING = threading.RLock()
"""Lock for the import of a framework.

Packages of a framework import each other in circles (flax.nnx and flax.linen). Two threads that
enter such a circle at two places get modules that are only partly executed.
"""


def _halves(_node: Node) -> tuple[str, str]:
    return "forward_layer.{}", "backward_layer.{}"


@dataclass(frozen=True)
class Adapter:
    """The half of an adapter that imports no framework.

    Attributes:
        name: the name that users write ("torch").
        title: the framework's own spelling ("PyTorch").
        aliases: other names, in small letters, that users write ("pytorch").
        package: import name whose presence means that the framework is installed.
        extra: the extra of our distribution that installs it, "" for a framework of third parties.
        runtime_packages: other distributions that it computes with; reports store their versions.
        tables: the framework's name of each layer or cell -> its table.
        default: kind of weights (`LayerSpec.weight_kind`) -> the name of the table that ports use.
        half_names: Bidirectional node -> names of its halves' weights, "{}" being their own names.
        unsupported_reason: node -> the reason why this framework has no exact form of the layer; ""
            if it has one.
        own_cell_reason: node -> the reason why a port writes its own cell or loop; "" if native
            layers are exact.
        native_layer: part of a layer -> the native layer that stores another number of parameters
            than the own cell of a port; None if the cell is native, or stores as many.
        live_module: module of the live half.
        root_modules: top modules of the classes of this framework's objects.
        root: path before every weight name ("params." in Linen).
        collections: the framework's names for tensors that training changes, for those that it does
            not change, and for those that `Slot.is_buffer` marks.
        other_root: as `root`, for tensors of `Slot.is_buffer` ("batch_stats."); "" for `root`.
        seeds: last parts of names, below any layer, of the state of random numbers for training.
        wrappers: prefix that a module around a port adds to every name ("module." of DataParallel)
            -> names of that module's own tensors.
        training: layer of `TRAINING` -> True if ports train as it does, False if they leave out its
            training, as the report then says. A layer that is not here is refused.
        unsupported_cases: pattern of names of `xlstm.testing.conformance`, such as "mask/*" -> the
            reason why the framework has no exact form. These cases pass if the port is refused.
        emit: model -> source text of `model.py`; None for targets that are never saved.
        emit_tests: tests of a port -> source text of `test_port.py`; None for targets without.
        precisions: model -> precision that those tests run in -> its unit of rounding, larger where
            an operation of the framework is inexact.
        is_native_module: True if the native module of a lone layer is exact and needs no class.
        keeps_frozen: True if ports mark layers that are not trainable.
        extra_files: True if the live half adds files of its own to `save` (Keras: model.keras).
        pattern: name of a port's tensor -> pattern of other names of it in the framework.
        listed: the call that lists its tensors in the order of the tables ("get_weights()"), or "".
        file_reader: "module:function" that converts a description of the framework's files to a
            Model; "" for a framework whose files are not read.
        file_outline: "module:function" that converts such a description to an outline.
        weights_file: name of the file of weights that emitted modules load: one of
            `xlstm.files.port_folder.WEIGHTS`.
        config: model -> content of config.json beside a port, without the graph; None for no such
            file.
        stacks: returns the adapter of many models in one object: its `emit` writes them, and its
            tables place the tensors of one; None for a framework without.
        layer_classes: "module:name" of the layer classes that need no `register_layer`, or "".
    """

    name: str
    title: str
    package: str
    extra: str
    live_module: str
    tables: Mapping[str, Table] = field(default_factory=dict)
    default: Mapping[str, str] = field(default_factory=dict)
    half_names: Callable[[Node], tuple[str, str]] = _halves
    unsupported_reason: Callable[[Node], str] = lambda _node: ""
    own_cell_reason: Callable[[Node], str] = lambda _node: ""
    native_layer: Callable[[L.LayerSpec], NativeLayer | None] = lambda _spec: None
    runtime_packages: tuple[str, ...] = ()
    root_modules: tuple[str, ...] = ()
    root: str = ""
    collections: tuple[str, str, str] = ("parameters", "parameters", "others")
    other_root: str = ""
    seeds: tuple[str, ...] = ()
    wrappers: Mapping[str, frozenset[str]] = field(default_factory=dict)
    training: Mapping[str, bool] = field(default_factory=dict)
    unsupported_cases: Mapping[str, str] = field(default_factory=dict)
    emit: Callable[[Model], str] | None = None
    emit_tests: Callable[[PortTests], str] | None = None
    precisions: Callable[[Model], Mapping[str, float]] = lambda _model: UNITS
    is_native_module: Callable[[L.LayerSpec], bool] = lambda _spec: False
    keeps_frozen: bool = False
    extra_files: bool = False
    pattern: Callable[[str], re.Pattern[str]] | None = None
    listed: str = ""
    file_reader: str = ""
    file_outline: str = ""
    layer_classes: str = ""
    aliases: tuple[str, ...] = ()
    weights_file: str = "weights.safetensors"
    config: Callable[[Model], Mapping[str, Any]] | None = None
    stacks: Callable[[], Adapter] | None = None

    def read_file(self, description: Description, *, until: str = "") -> Model:
        """Converts a description of one of the framework's files.

        Args:
            description: the file, as `xlstm.files.describe` reads it.
            until: the layer whose output ends the model; "" for the whole model.

        Raises:
            XlstmError: a model that has no exact form here.
        """
        read: Callable[..., Model] = resolve(self.file_reader)
        return read(description, until=until)

    def outline_file(self, description: Description) -> Outline:
        """Converts a description of one of the framework's files to an outline.

        Raises:
            XlstmError: a file whose layers cannot be listed.
        """
        outline: Callable[..., Outline] = resolve(self.file_outline)
        return outline(description)

    def knows_class(self, name: str) -> bool:
        """True if layers of a class in the framework's files need no `register_layer`."""
        return bool(self.layer_classes) and name in resolve(self.layer_classes)

    def table(self, part: L.LayerSpec) -> Table:
        """The table that ports use for a part of a layer that owns weights.

        Raises:
            UnsupportedError: this framework has no form of it.
        """
        if isinstance(part, L.Custom):
            return identity_table(part.hub)
        form = part.weight_kind
        name = self.default.get(form, self.default.get(KINDS[form].name if form in KINDS else ""))
        if name is None:
            known, do = ", ".join(self.default), "port to another framework"
            raise UnsupportedError(f"port to {self.title}", f"a layer of {known}", form, do)
        return self.tables[name]

    def weight_placements(self, node: Node) -> Iterator[WeightPlacement]:
        """The places of a layer's weights in the framework, part by part.

        Raises:
            UnsupportedError: this framework has no form of a part.
        """
        parts = node.spec.weighted_parts
        if not parts:
            return
        spec = node.spec.layer if isinstance(node.spec, L.TimeDistributed) else node.spec
        names = self.half_names(node) if isinstance(spec, L.Bidirectional) else ("{}",)
        for (before, part), name in zip(parts, names, strict=True):
            yield WeightPlacement(before, part, self.table(part), name)

    @property
    def installed(self) -> bool:
        """True if the framework is installed; does not import it."""
        try:
            return importlib.util.find_spec(self.package) is not None
        except Exception:  # a user's import finder fails: the import will raise a better error
            return True

    @property
    def install_command(self) -> str:
        """The command that installs the framework."""
        named = f"'xlstm-converter[{self.extra}]'" if self.extra else self.package
        return f"pip install {named}"

    @property
    def version(self) -> str:
        """The installed version of the framework, "" if it is unknown."""
        return version(self.package)

    def check_installed(self) -> None:
        """Raises MissingFrameworkError, with the extra to install, if the framework is missing."""
        if not self.installed:
            raise MissingFrameworkError(
                self.title,
                "an installed package",
                f"no module {self.package}",
                self.install_command,
            )

    def live(self) -> Live:
        """Imports the framework and returns the half that runs it.

        Raises:
            MissingFrameworkError: the framework is not installed, or its import fails.
            UsageError: it cannot be imported with the user's settings.
            RuntimeError: it is known to crash.
        """
        self.check_installed()
        note_framework(self.name)
        try:
            with _IMPORTING, importing(), uncollected():
                live = importlib.import_module(self.live_module)
        except XlstmError:
            raise
        except Exception as error:
            go_on()  # Ctrl-C while C code initialises is an ImportError
            want, got = "a package that can be imported", f"{type(error).__name__}: {error}"
            do = "install it again, or allow this process more memory"
            raise MissingFrameworkError(self.title, want, got, do) from error
        note(live)
        return cast(Live, live)

    def owns(self, obj: Any) -> bool:
        """True if `obj` is an object of this framework, by the modules of its classes alone."""
        return self.has(type(obj))

    def has(self, kind: type) -> bool:
        """True for a class of this framework, and for a user's class that inherits from one."""
        return any(base.__module__.startswith(self.root_modules) for base in kind.__mro__)
