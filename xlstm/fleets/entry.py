"""One model of a fleet, the job that is done with it, and its row in the table.

    FleetEntry("customers/0001", "zoo/customers/0001.h5", "53212-1764600000000000000", 53212)
    FleetJob("torch", verify=True)

In: nothing. Out: plain records that pickle and turn to JSON. A row is one line of a journal.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm._version import VERSION
from xlstm.errors import XlstmError

EQUAL, DIFFERENT, UNDECIDED, FAILED = "equal", "different", "undecided", "failed"
REFUSED, PORTED = "refused", "ported"
OUTCOMES = (EQUAL, PORTED, DIFFERENT, UNDECIDED, REFUSED, FAILED)
"""Results of one model. A port without verification is "ported". "refused" is an error about the
content of the file, which another run would meet again; "failed" is any other error, such as a
worker that was killed, and the next run tries it again."""

GOOD = (EQUAL, PORTED)
"""Outcomes that need nothing more."""


@dataclass(frozen=True)
class FleetEntry:
    """One model to do.

    Attributes:
        name: its name in the fleet, unique: parts joined by "/". Its port is the folder
            models/NAME of the target.
        path: local path or URL of the file or folder.
        stamp: text that changes if the source does: size and time of a local file, the etag of an
            object.
        size: bytes of the source; 0 if unknown.
        options: options of `xlstm.load` for it: "architecture", "keras_version", "kernel_layout",
            "until".
    """

    name: str
    path: str
    stamp: str
    size: int = 0
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class FleetJob:
    """All that is the same for every model of a fleet.

    Attributes:
        to: the target framework, by the name of its adapter.
        verify: True to run each port against the float64 reference.
        seconds: limit of time for one model; its worker is ended after it.
        memory: limit in bytes for the runs of one comparison, as in `xlstm.reconcile`.
        largest: largest source in bytes; a larger one is refused before it is copied or read.
    """

    to: str
    verify: bool = False
    seconds: float = 120.0
    memory: float = 2.0**30
    largest: int = 2**32

    def digest(self, entry: FleetEntry) -> str:
        """Names the work that a row is about: a row of other work is done again.

        >>> job = FleetJob("torch")
        >>> job.digest(FleetEntry("a", "a.h5", "1")) == job.digest(FleetEntry("b", "b.h5", "2"))
        True
        """
        work = [self.to, self.verify, dict(sorted(entry.options.items())), VERSION]
        work += [self.largest] if entry.size > self.largest else []  # a larger limit may take it
        return hashlib.sha256(json.dumps(work).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class FleetRow:
    """The result of one model.

    Attributes:
        name: of the entry.
        path: of the entry.
        stamp: of the entry when the work began.
        job: `FleetJob.digest` of the work.
        outcome: one of `OUTCOMES`.
        sha256: digest of the source's bytes, "" if they were not read to the end.
        weights: digest of the weights alone; equal for the same weights under other names.
        architecture: digest of the graph without names and weights; equal for models that share
            compiled work.
        framework: of the source.
        version: of that framework, as the source says it.
        container: of the source, such as "hdf5" or "zip".
        layers: kinds of its layers, in order.
        counts: framework -> number of parameters.
        verdicts: dtype -> the verdict as plain data, as in report.json.
        unexercised: pieces that the inputs did not reach.
        error: the four parts of an error: where, expected, got, do; None if there is none.
        seconds: by the clock; a share of the batch for work that models share.
        cpu_seconds: of the processor, likewise.
        peak_memory: bytes, the largest of the worker until then.
        worker: name of the worker.
        attempt: 1, or 2 after the worker of the first attempt was lost.
    """

    name: str
    path: str
    stamp: str
    job: str
    outcome: str
    sha256: str = ""
    weights: str = ""
    architecture: str = ""
    framework: str = ""
    version: str = ""
    container: str = ""
    layers: tuple[str, ...] = ()
    counts: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    unexercised: tuple[str, ...] = ()
    error: Mapping[str, str] | None = None
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory: int = 0
    worker: str = ""
    attempt: int = 1

    def to_json(self) -> dict[str, Any]:
        """The row as plain data; its objects are those of the row."""
        return dict(vars(self))  # `asdict` copies every number: 70 us a row

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> FleetRow:
        """The row of plain data; keys that this version does not know are left out.

        >>> row = FleetRow("a", "a.h5", "1", "", "equal", layers=("LSTM",))
        >>> FleetRow.from_json(json.loads(json.dumps(row.to_json()))) == row
        True
        """
        values = {key: value for key, value in data.items() if key in FIELDS}
        for name in ("layers", "unexercised"):
            values[name] = tuple(values.get(name) or ())
        return cls(**values)


FIELDS = frozenset(one.name for one in dataclasses.fields(FleetRow))
"""Names of the values of a row."""


OPTIONS = ("architecture=", "kernel_layout=", "keras_version=", "until=")
"""Options of `xlstm.load`, as errors name them, that a fleet has for each model."""


def error_parts(error: XlstmError) -> dict[str, str]:
    """The four parts of an error of ours; options of one model are columns in a fleet.

    >>> error_parts(XlstmError("a.h5", "weights", "none", "pass until=LAYER"))["do"]
    'pass until=LAYER (in a fleet: columns of a manifest)'
    """
    asks = any(option in error.do for option in OPTIONS)
    do = f"{error.do} (in a fleet: columns of a manifest)" if asks else error.do
    return {"where": error.where, "expected": error.expected, "got": error.got, "do": do}
