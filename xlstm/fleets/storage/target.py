"""The interface of a fleet's target.

    models/NAME/     a port
    aside/NAME/      a port that differs from its source, or whose check failed
    fleet.json       the mark of a target
    fleet.jsonl      all rows, sorted by name; fleet.parquet too where pyarrow is installed

In: nothing. Out: `FleetTarget`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

from xlstm._version import VERSION
from xlstm.errors import UsageError
from xlstm.files.port_folder import REPORT, SOURCE, WEIGHTS
from xlstm.fleets.entry import FleetJob, FleetRow
from xlstm.fleets.storage.names import folder_of

MARK = "fleet.json"
"""Name of the file that marks a target."""

FORMAT = 1
"""Version of the layout of a target."""

MODELS, ASIDE = "models", "aside"
"""Folders of ports, and of those that are not equal to their sources."""

Result = TypeVar("Result")


class FleetTarget(ABC):
    """A target; it pickles, and workers get it as an argument.

    Attributes:
        url: absolute path or URL.
    """

    url: str

    @abstractmethod
    def read_mark(self) -> dict[str, Any] | None:
        """The content of the mark; None for a target that is new or empty.

        Raises:
            UsageError: a target with other files and no mark.
        """

    @abstractmethod
    def write_mark(self, text: bytes) -> None:
        """Makes the target, and writes its mark."""

    @abstractmethod
    def locked(self) -> AbstractContextManager[Callable[[], None]]:
        """Locks the target for one fleet; the client calls it after `check`.

        The context's value is a function that raises UsageError if the lock was lost.

        Raises:
            UsageError: another fleet runs there; the error says who, and since when.
        """

    @abstractmethod
    def put_port(self, name: str, fill: Callable[[Path], Result], aside: bool = False) -> Result:
        """Writes a port as a whole; an older one of this name is replaced.

        Args:
            name: of the model.
            fill: writes the files into an empty local folder; its result is returned.
            aside: True for a port that is not equal to its source. It is written to aside/NAME, and
                an older one is removed from models/NAME.

        Raises:
            UsageError: the folder has files that are not of a port, or the storage fails.
            OSError: the disk is full or fails.
            Exception: as `fill` raises; the older port stays.
        """

    @abstractmethod
    def put_row(self, row: FleetRow) -> None:
        """Writes the row of a model, after its port.

        Raises:
            UsageError: the storage fails.
            OSError: the disk is full or fails.
        """

    @abstractmethod
    def began(self, name: str, worker: str) -> None:
        """Notes that a worker begins a model, where that costs no request."""

    @abstractmethod
    def unfinished(self) -> set[str]:
        """Names that began and have no later row; always empty for object stores."""

    @abstractmethod
    def each_row(self) -> Iterator[FleetRow]:
        """The last row of each model, sorted by name, with little memory."""

    @abstractmethod
    def missing_ports(self, names: Iterable[str]) -> set[str]:
        """Names without a whole port in models/: without a file, or with an empty one."""

    @abstractmethod
    def forget(self, names: Iterable[str]) -> None:
        """Prepares models to be done again: a row never describes a half-written newer port."""

    @abstractmethod
    def drop_ports(self, names: Iterable[str]) -> None:
        """Removes older ports of models that are now refused or failed; most have none."""

    @abstractmethod
    def compact(self) -> list[str]:
        """Writes all rows to fleet.jsonl, and to fleet.parquet where pyarrow is installed.

        Returns:
            The paths or URLs of the files.
        """

    @abstractmethod
    def sweep(self) -> None:
        """Removes leftovers of killed writers; those of running ones stay."""

    @abstractmethod
    def where(self, path: str) -> str:
        """The full path or URL of a path of the target."""

    def rows(self) -> dict[str, FleetRow]:
        """The last row of each model by name."""
        return {row.name: row for row in self.each_row()}

    def rows_of(self, names: Iterable[str]) -> dict[str, FleetRow]:
        """The last row of some models by name; models without a row are left out."""
        wanted = set(names)
        return {row.name: row for row in self.each_row() if row.name in wanted}

    def port_path(self, name: str, aside: bool = False) -> str:
        """The path or URL of a model's port; the port may be missing."""
        return self.where(f"{ASIDE if aside else MODELS}/{self.folder(name)}")

    def folder(self, name: str) -> str:
        """The relative path of a model."""
        return folder_of(name)

    def mark(self) -> dict[str, Any]:
        """The content of the mark of a fleet's target.

        Raises:
            UsageError: no target of a fleet.
        """
        data = self.read_mark()
        if data is None:
            do = "name the target of an `xlstm fleet` run"
            raise UsageError(self.url, "the target of a fleet", "an empty or missing folder", do)
        return data

    def check(self, job: FleetJob, write: bool = True) -> None:
        """Checks that the target is new or of the same framework, and marks a new one.

        Args:
            job: of the fleet.
            write: False to write nothing.

        Raises:
            UsageError: it is not empty and not a fleet's, of another framework, or read-only.
        """
        if (data := self.read_mark()) is None:
            if not write:
                return
            mark = {"fleet": FORMAT, "xlstm": VERSION, "to": job.to}
            self.write_mark(json.dumps(mark, indent=1).encode() + b"\n")
            data = self.mark()  # two fleets may begin at once
        if data["to"] != job.to:
            got, do = f"one to {data['to']}", "name another target"
            raise UsageError(self.url, f"the target of a fleet to {job.to}", got, do)


def parse_mark(text: bytes, url: str) -> dict[str, Any]:
    """The content of a mark.

    Raises:
        UsageError: the mark of something else, or of a newer version.
    """
    try:
        data = json.loads(text)
        known = type(data) is dict and type(data["fleet"]) is int and type(data["to"]) is str
    except (ValueError, KeyError, RecursionError):
        known = False
    if not known:
        got, do = f"another {MARK}", "name another target"
        raise UsageError(url, "the target of a fleet", got, do)
    if data["fleet"] != FORMAT:
        got, do = f"{data['fleet']} in {MARK}", "install the xlstm that wrote it"
        raise UsageError(url, f"a fleet of version {FORMAT}", got, do)
    found: dict[str, Any] = data
    return found


def foreign(url: str, name: str) -> UsageError:
    """Returns the error for a target with files of others."""
    got = f"files of others, such as {name}"
    return UsageError(url, "an empty target, or one of a fleet", got, "name another target")


def is_whole(sizes: dict[str, int]) -> bool:
    """True for the files of a whole port, from their names and sizes.

    >>> is_whole({"model.py": 9, "model.safetensors": 9, "report.json": 0})
    False
    """
    weights = any(sizes.get(name) for name in WEIGHTS)
    return bool(weights and sizes.get(SOURCE) and sizes.get(REPORT))
