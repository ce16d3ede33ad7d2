"""Conformance of an adapter: named cases that each port of a framework has to pass.

In: the name of a registered adapter, or an `Adapter`. Out: cases for pytest. Each one ports a small
model with weights of trained size, runs it in float32 and float64, and compares it with the float64
reference by the bounds of `xlstm.reconcile`. Weights and parameter counts are compared too.

    @pytest.mark.parametrize("case", conformance("equinox"), ids=lambda case: case.name)
    def test_port(case):
        case.run()
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from xlstm.errors import NotEqualError, UnsupportedError, UsageError, XlstmError
from xlstm.frameworks import registry
from xlstm.frameworks.adapter import Adapter
from xlstm.frameworks.model_tensors import check_model, refusals, trained_layer
from xlstm.frameworks.random_state import unmoved
from xlstm.ir.graph import Model
from xlstm.ir.layers import LayerSpec
from xlstm.ir.precision import HALF
from xlstm.porting.port import build
from xlstm.testing.case_models import GROUPS
from xlstm.testing.training import check_training
from xlstm.verification.reconcile import reconcile


@dataclass(frozen=True)
class AdapterCase:
    """One case of `conformance`.

    Attributes:
        name: group and layer, such as "mask/LSTM-last"; no two cases have the same.
        adapter: the adapter.
        make: returns the model.
        unsupported: the reason of `Adapter.unsupported_cases`, "" if the case has to be equal.
    """

    name: str
    adapter: Adapter
    make: Callable[[], Model]
    unsupported: str = ""

    @property
    def group(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    @unmoved
    def run(self) -> None:
        """Ports the model and compares it; a case that is `unsupported` has to be refused.

        Raises:
            MissingFrameworkError: the framework is not installed.
            NotEqualError: the port differs from the reference.
            UnsupportedError: the adapter refuses the layer. Its words are in the message.
            UsageError: the adapter fails in another way, or ports a case that it lists as
                unsupported.
        """
        self.adapter.check_installed()
        with registry.temporarily(self.adapter):
            model = self.make()
            refusal = self._refusal(model)
            if self.unsupported:
                self._expect_refusal(refusal)
            elif refusal is None:
                self._compare(model)
            else:
                got, do = f"a refusal of {refusal.got}", self._advice(model, refusal)
                raise UnsupportedError(self._where(), "a port", got, do) from refusal

    def _refusal(self, model: Model) -> UnsupportedError | None:
        """Returns the adapter's refusal: of a layer, of half precision, or for lack of a function.

        Raises:
            UsageError: an error that is no refusal.
        """
        try:
            check_model(model, self.adapter)
            if self.adapter.emit is not None:
                self.adapter.emit(model)
            for function in self._needed(model):
                _check_live(self.adapter, function)
            for dtype in HALF if self.group == "half" else ():
                build(model, self.adapter, dtype)
        except UnsupportedError as error:
            return error
        except XlstmError:
            raise
        except Exception as error:
            want, got = "a port or an UnsupportedError", f"{type(error).__name__}: {error}"
            do = f"refuse the layer by name, in unsupported_reason of {self.adapter.title}"
            raise UsageError(self._where(), want, got, do) from error
        return None

    def _needed(self, model: Model) -> Iterator[str]:
        """Yields the functions that the live half needs for this case, besides those of `Live`."""
        if self.group == "gradient":
            yield "gradients"
        acting = map(trained_layer, (node.spec for node in model.layers))
        if self.group == "training" and any(map(self.adapter.training.get, acting)):
            yield "train"

    def _expect_refusal(self, refusal: UnsupportedError | None) -> None:
        """Raises UsageError if a case that is listed as unsupported can be ported."""
        if refusal is None:
            got = "a port, and an entry in unsupported_cases"
            raise UsageError(self._where(), "a refusal", got, "remove the entry")

    def _compare(self, model: Model) -> None:
        options: dict[str, Any] = OPTIONS.get(self.group, {})
        report = reconcile(model, [self.adapter.name], **options)
        try:
            report.check()
            if self.group == "training":
                check_training(model, self.adapter)
        except NotEqualError as error:
            got, do = f"{error.got} ({error.where})", error.do
            raise NotEqualError(self._where(), error.expected, got, do) from error

    def _where(self) -> str:
        return f"{self.adapter.title}, case {self.name}"

    def _advice(self, model: Model, refusal: UnsupportedError) -> str:
        """Returns the part of an adapter that this case needs, and the entry to go without."""
        specs = [node.spec for node in model.layers]
        parts = [part for spec in specs for _, part in spec.weighted_parts]
        missing = [part.weight_kind for part in parts if not _has_table(self.adapter, part)]
        tables = f"write a Table for {', '.join(dict.fromkeys(missing))}, and " if missing else ""
        layers = ", ".join(dict.fromkeys(spec.kind for spec in specs))
        do = f"{tables}write the lines of emit() for {layers}"
        if self.group in LIVE_GROUPS and not refusals(model, self.adapter):
            do = refusal.do
        return f"{do}; or list {self.name!r} in unsupported_cases, with the reason"


LIVE_GROUPS = ("half", "gradient", "training")
"""Groups whose cases the live half can refuse."""

OPTIONS: dict[str, dict[str, bool]] = {"gradient": {"gradients": True}, "half": {"half": True}}
"""Group -> options of `reconcile`."""


def _has_table(adapter: Adapter, part: LayerSpec) -> bool:
    """True if an adapter has a table for a part of a layer."""
    try:
        adapter.table(part)
    except UnsupportedError:
        return False
    return True


def _check_live(adapter: Adapter, function: str) -> None:
    """Raises UnsupportedError if a live half lacks a function."""
    if not hasattr(adapter.live(), function):
        where, want = f"{adapter.title}, live half", f"a function {function}"
        do = f"write {function}() in {adapter.live_module}"
        raise UnsupportedError(where, want, f"{function}(), which is not written", do)


def conformance(adapter: str | Adapter, match: str = "*") -> list[AdapterCase]:
    """Returns the cases that an adapter has to pass, each with a name and `run()`.

    Groups are layer, option, mask, state, shared, name, dtype, half, gradient and training. A case
    that the adapter refuses fails, unless `Adapter.unsupported_cases` lists it.

    Args:
        adapter: a name, as `xlstm.port` takes it, or an adapter that is not registered.
        match: pattern of names, such as "layer/*" or "*LSTM*".

    Raises:
        UsageError: no such adapter, one without tables, a pattern that fits no case.

    >>> [case.name for case in conformance("torch", "layer/Dense")]
    ['layer/Dense']
    """
    found = adapter if isinstance(adapter, Adapter) else registry.adapter(adapter)
    if not found.tables:
        where, got = f"adapter {found.name}", "none"
        raise UsageError(where, "tables of weights", got, "name a framework that has some")
    every = {
        f"{group}/{name}": make for group, models in GROUPS.items() for name, make in models.items()
    }
    for pattern in (match, *found.unsupported_cases):
        if not any(fnmatch.fnmatchcase(name, pattern) for name in every):
            where, want = f"conformance of {found.title}", "a pattern of names of cases"
            groups = ", ".join(f"{group}/*" for group in GROUPS)
            raise UsageError(where, want, repr(pattern), f"use names below {groups}")
    return [
        AdapterCase(name, found, make, _reason(found, name))
        for name, make in every.items()
        if fnmatch.fnmatchcase(name, match)
    ]


def _reason(adapter: Adapter, name: str) -> str:
    """Returns the reason of the first pattern in `unsupported_cases` that fits, or ""."""
    fitting = (
        why
        for pattern, why in adapter.unsupported_cases.items()
        if fnmatch.fnmatchcase(name, pattern)
    )
    return next(fitting, "")
