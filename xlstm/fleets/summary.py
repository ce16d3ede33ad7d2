"""Sums up the rows of a fleet: outcomes, reasons, architectures, the slowest, duplicates.

    summed(target.each_row(), target, "torch").summary()

In: rows, sorted by name. Out: a `FleetSummary`, in plain numbers and names.
"""

from __future__ import annotations

import heapq
import os
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from xlstm.errors import printable
from xlstm.fleets.entry import DIFFERENT, FAILED, GOOD, OUTCOMES, REFUSED, UNDECIDED, FleetRow
from xlstm.fleets.storage import FleetTarget
from xlstm.fleets.storage.remote import is_url
from xlstm.frameworks import registry

SLOWEST = 10
"""Models in the list of the slowest."""

SHORTEST = 4
"""Characters of a name that is replaced in messages; shorter ones are parts of words too."""

QUOTED = re.compile(r"(?:\bb)?'[^']*'|\"[^\"]*\"|`[^`]*`")
PATH = re.compile(
    r"[^\s,;()]*[/\\][^\s,;()]*|[^\s,;()]+\.(?:h5|hdf5|hdf|keras|json|npz|safetensors)\b"
)
LAYER = re.compile(r"\b(layers?) [^\s,;:()]+")
NUMBER = re.compile(r"(?<![A-Za-z0-9])\d+(?:[,._]\d+)*")
"""Parts of messages that differ from model to model."""

ADVICE = {
    REFUSED: ("xlstm inspect {path}", "The next run does the ones that changed."),
    FAILED: ("xlstm port {path} --to {to} -o {folder}", "The next run tries these again."),
    DIFFERENT: ("xlstm diagnose {path} {port}", "The ports are in the folder aside."),
    UNDECIDED: (
        "xlstm verify {path} --frameworks {to} --inputs FILE",
        "Shorter inputs, or your own, may decide.",
    ),
}
"""Outcome -> command for one model of a group, and a sentence about all of them."""


@dataclass
class Problem:
    """Models that were not ported, or not shown to be equal, for one reason.

    Attributes:
        outcome: "refused", "failed", "different" or "undecided".
        reason: expected value of the error; "…" replaces what differs between the models.
        do: advice of the error, likewise.
        found: what was found -> number of models.
        names: of the models, sorted.
        command: shows more about the first model.
    """

    outcome: str
    reason: str
    do: str
    found: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    command: str = ""


@dataclass
class ArchitectureGroup:
    """Models of one graph.

    Attributes:
        digest: of the graph.
        layers: kinds of its layers, in order.
        counts: framework -> parameters of one model.
        outcomes: outcome -> number of models.
        names: of the models, sorted.
    """

    digest: str
    layers: tuple[str, ...]
    counts: Mapping[str, int]
    outcomes: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class FleetSummary:
    """The table of a fleet in sums and groups.

    Attributes:
        url: of the target.
        to: its framework.
        outcomes: outcome -> number of models; all outcomes, also those with none.
        problems: groups of models that need something, the largest first.
        architectures: groups of models of one graph, the largest first.
        slowest: name, seconds and layers of some models.
        parameters: framework -> parameters of all models whose layers it has.
        duplicates: names of models with the same weights.
        seconds: of all models, by the clock of their workers.
        cpu_seconds: of the processor, likewise.
        peak_memory: bytes, the largest of a worker.
    """

    url: str
    to: str
    outcomes: Mapping[str, int]
    problems: tuple[Problem, ...]
    architectures: tuple[ArchitectureGroup, ...]
    slowest: tuple[tuple[str, float, tuple[str, ...]], ...]
    parameters: Mapping[str, int]
    duplicates: tuple[tuple[str, ...], ...]
    seconds: float
    cpu_seconds: float
    peak_memory: int

    @property
    def ok(self) -> bool:
        """True if every model is equal, or ported in a fleet without verification."""
        return all(not count or outcome in GOOD for outcome, count in self.outcomes.items())

    @property
    def total(self) -> int:
        """The number of models."""
        return sum(self.outcomes.values())

    def summary(self) -> str:
        """The outcomes in one line."""
        parts = [f"{count:,} {outcome}" for outcome, count in self.outcomes.items() if count]
        return f"{models(self.total)} to {title_of(self.to)}: {', '.join(parts) or 'none yet'}."


def models(count: int) -> str:
    """The number of models in words.

    >>> models(1), models(2000)
    ('1 model', '2,000 models')
    """
    return "1 model" if count == 1 else f"{count:,} models"


def title_of(framework: str) -> str:
    """The framework in its own spelling, or its name if its adapter is not installed here.

    >>> title_of("torch"), title_of("another")
    ('PyTorch', 'another')
    """
    known = framework in registry.names()
    return registry.adapter(framework).title if known else printable(framework)


def summed(rows: Iterable[FleetRow], target: FleetTarget, to: str) -> FleetSummary:
    """The sums of some rows, sorted by name; the memory is that of their names."""
    outcomes, parameters = Counter[str](), Counter[str]()
    problems: dict[tuple[str, str, str], Problem] = {}
    architectures: dict[str, ArchitectureGroup] = {}
    weights: dict[str, list[str]] = {}
    slowest: list[tuple[float, str, tuple[str, ...]]] = []
    seconds, cpu_seconds, peak_memory = 0.0, 0.0, 0
    for row in rows:
        outcomes[row.outcome] += 1
        seconds, cpu_seconds = seconds + row.seconds, cpu_seconds + row.cpu_seconds
        peak_memory = max(peak_memory, row.peak_memory)
        parameters.update(row.counts)
        if row.seconds:
            heapq.heappush(slowest, (row.seconds, row.name, row.layers))
        if len(slowest) > SLOWEST:
            heapq.heappop(slowest)
        if row.weights:
            weights.setdefault(row.weights, []).append(row.name)
        if row.architecture:
            new = ArchitectureGroup(row.architecture, row.layers, row.counts)
            group = architectures.setdefault(row.architecture, new)
            group.outcomes[row.outcome] += 1
            group.names.append(row.name)
        if row.outcome not in GOOD:
            _add_problem(problems, row, target, to)
    return FleetSummary(
        url=target.url,
        to=to,
        outcomes={outcome: outcomes[outcome] for outcome in OUTCOMES},
        problems=_largest(problems.values()),
        architectures=_largest(architectures.values()),
        slowest=tuple((name, time, layers) for time, name, layers in sorted(slowest)[::-1]),
        parameters=dict(sorted(parameters.items())),
        duplicates=tuple(sorted((tuple(n) for n in weights.values() if len(n) > 1), key=_by_size)),
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        peak_memory=peak_memory,
    )


def _by_size(names: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    return -len(names), names


def _largest(groups: Iterable[Any]) -> tuple[Any, ...]:
    return tuple(sorted(groups, key=lambda group: (-len(group.names), group.names)))


def _add_problem(
    problems: dict[tuple[str, str, str], Problem], row: FleetRow, target: FleetTarget, to: str
) -> None:
    """Adds a row to the group of its reason."""
    error = row.error or _verdict_error(row)
    want, do, got = (error.get(part, "") for part in ("expected", "do", "got"))
    key = row.outcome, general(want, row), general(do, row)
    if (problem := problems.get(key)) is None:
        name = row.path.rstrip("/").rpartition("/")[2] if is_url(row.path) else row.path
        command = ADVICE[row.outcome][0].format(
            path=shlex.quote(name),
            to=to,
            folder=shlex.quote(os.path.basename(row.name) or "port"),
            port=shlex.quote(target.port_path(row.name, aside=True)),
        )
        command += f"  # a copy of {row.path}" if is_url(row.path) else ""
        problem = problems[key] = Problem(row.outcome, want, do, command=printable(command))
    if problem.reason != want:
        problem.reason = key[1]
    if problem.do != do:
        problem.do = key[2]
    problem.found[general(got, row)] += 1
    problem.names.append(row.name)


def _verdict_error(row: FleetRow) -> Mapping[str, str]:
    """The parts of an error for a port that was compared, and not shown to be equal."""
    found = {dtype: str(v.get("outcome", "")) for dtype, v in sorted(row.verdicts.items())}
    details = {str(v["detail"]) for v in row.verdicts.values() if v.get("detail")}
    got = ", ".join(f"{dtype} {word}" for dtype, word in found.items()) or row.outcome
    do = "find the cause with xlstm diagnose" if row.outcome == DIFFERENT else "give other inputs"
    got = f"{got}: {'; '.join(sorted(details))}" if details else got
    return {"expected": "outputs equal to the reference up to rounding", "got": got, "do": do}


def general(text: str, row: FleetRow) -> str:
    """A part of an error without names, paths and numbers, which differ between models.

    >>> general("layer lstm_3: 12 units of 'x' in zoo/a.h5", FleetRow("a", "a.h5", "", "", ""))
    'layer …: … units of … in …'
    """
    for own in (row.path, os.path.basename(row.path), row.name):
        text = text.replace(own, "…") if len(own) >= SHORTEST else text
    text = PATH.sub("…", QUOTED.sub("…", text))
    return NUMBER.sub("…", LAYER.sub(r"\1 …", text))
