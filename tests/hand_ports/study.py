"""Counts what `diagnose` says of hand-written ports that are right, and of those that are wrong.

A right port must be called equal. Of a wrong one, the true cause must be named, in words that were
written down before (`edits.py`), with its layer, and nothing beside it.
"""

from __future__ import annotations

import random
import re
import signal
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from hand_ports.edits import PAIRS, UNSEEN, Pair, pair, pair_names
from hand_ports.programs import Arrays, names, program, suspect, truth

SAMPLES = (1, 8, 64)
VERDICTS = ("equal", "undecided", "different", "error")


@dataclass(frozen=True)
class Said:
    """One thing that a diagnosis says: a finding, or a difference that it cannot explain."""

    layer: str
    cause: str
    text: str


@dataclass(frozen=True)
class Answer:
    """A diagnosis, in short.

    Attributes:
        verdict: one of VERDICTS; "undecided" says neither equal nor where the two differ.
        findings: the causes that are named.
        unexplained: the differences without a cause.
        error: the error raised instead.
        seconds: how long it took.
    """

    verdict: str
    findings: tuple[Said, ...] = ()
    unexplained: tuple[Said, ...] = ()
    error: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class Row:
    """One call of `diagnose`.

    Attributes:
        program: the hand-written port.
        kind, cause, layers, place: the edit, all empty for a right port.
        weights, samples: the seed of the weights, and how many samples went in.
        named: whether a finding names the true cause and its layer.
        beside: the causes that are named beside the true one.
    """

    program: str
    answer: Answer
    weights: int
    samples: int
    kind: str = ""
    cause: str = ""
    place: int = 0
    layers: tuple[str, ...] = ()
    named: bool = False
    beside: tuple[str, ...] = ()

    @property
    def caught(self) -> bool:
        """True unless the answer is that the two are equal, or that nothing can be said."""
        return self.answer.verdict == "different"


class _TooLong(BaseException):
    """Ends a diagnosis that outlasts its time; no `except Exception` stops it."""


def answer(model: Any, port: Any, inputs: Arrays, seconds: int = 600) -> Answer:
    """Asks `diagnose`; errors, and more than so much processor time, are answers too."""
    import xlstm

    def end(*_: Any) -> None:
        raise _TooLong

    start = time.perf_counter()
    before = signal.signal(signal.SIGPROF, end)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            said = xlstm.diagnose(model, port, inputs=inputs)
    except (_TooLong, Exception) as error:  # noqa: BLE001  an error is an answer
        text = f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"
        return Answer("error", error=text, seconds=time.perf_counter() - start)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    findings = tuple(
        Said(f.layer, f.cause, " ".join(f"{f.tensor} {f.text} {f.fix}".split()))
        for f in said.findings
    )
    unexplained = tuple(Said(u.layer, "", u.text) for u in said.unexplained)
    verdict = "equal" if said.ok else "different" if findings or unexplained else "undecided"
    return Answer(verdict, findings, unexplained, seconds=time.perf_counter() - start)


def right(name: str, seeds: Iterable[int], samples: Sequence[int] = SAMPLES) -> Iterator[Row]:
    """Asks about one right port, with several sets of weights and several numbers of samples."""
    keras = truth(name)
    for seed in seeds:
        port = suspect(program(name).port, keras.set_weights(seed), f"right_{name}")
        inputs = keras.inputs(seed, max(samples))
        for count in samples:
            said = answer(keras.model, port, [a[:count] for a in inputs])
            yield Row(name, said, seed, count)


def wrong(ids: Iterable[str], seed: int, samples: int = 8) -> Iterator[Row]:
    """Asks about wrong ports, with one set of weights."""
    for name in ids:
        found = pair(name)
        keras = truth(found.program)
        port = suspect(found.port, keras.set_weights(seed), "wrong_port")
        said = answer(keras.model, port, keras.inputs(seed, samples))
        yield judged(found, said, seed, samples, keras.input_names)


def judged(
    found: Pair, said: Answer, seed: int = 0, samples: int = 0, inputs: Sequence[str] = ()
) -> Row:
    """Sees if an answer names the true cause of a pair, and what it names beside it."""
    true = [
        found.named(finding.layer, f"{finding.cause} {finding.text}", inputs)
        for finding in said.findings
    ]
    beside = tuple(f.cause for f, is_true in zip(said.findings, true, strict=True) if not is_true)
    edit = found.edit
    place = (edit.kind, edit.cause, found.place, found.layers)
    return Row(found.program, said, seed, samples, *place, any(true), beside)


def sample(limit: int, seed: int, match: str = "", *, unseen: bool = False) -> tuple[str, ...]:
    """Draws ids of wrong pairs, as evenly over the kinds as can be; all of them for a limit of 0.

    >>> kinds = [name.split("/")[1] for name in sample(100, 0)]
    >>> len(kinds), len(set(kinds))
    (100, 100)
    """
    listed = pair_names(UNSEEN if unseen else PAIRS)
    drawn = [name for name in listed if re.search(match, name)]
    random.Random(seed).shuffle(drawn)
    turns: Counter[str] = Counter()
    keyed = []
    for name in drawn:
        kind = name.split("/")[1]
        keyed.append((turns[kind], len(keyed), name))
        turns[kind] += 1
    chosen = [name for _, _, name in sorted(keyed)]
    return tuple(sorted(chosen[: limit or None]))


def by_program(ids: Iterable[str]) -> dict[str, list[str]]:
    """Ids of pairs, gathered by program, so that each Keras model is built once."""
    gathered: dict[str, list[str]] = defaultdict(list)
    for name in ids:
        gathered[name.split("/")[0]].append(name)
    return dict(gathered)


@dataclass
class Tally:
    """Counts of some rows."""

    verdicts: Counter[str] = field(default_factory=Counter)
    pairs: int = 0
    caught: int = 0
    named: int = 0
    beside: int = 0
    errors: int = 0

    def add(self, row: Row) -> None:
        """Counts one row more."""
        if not row.kind:
            self.verdicts[row.answer.verdict] += 1
            return
        self.pairs += 1
        self.caught += row.caught
        self.named += row.named
        self.beside += bool(row.beside)
        self.errors += row.answer.verdict == "error"


def tallies(rows: Iterable[Row], key: str) -> dict[str, Tally]:
    """Counts rows by one of their attributes, and in all under "all"."""
    counted: dict[str, Tally] = defaultdict(Tally)
    for row in rows:
        for name in (getattr(row, key), "all"):
            if name:
                counted[name].add(row)
    return dict(sorted(counted.items(), key=lambda item: (item[0] == "all", item[0])))


def table(rows: Sequence[Row]) -> str:
    """Two tables as text: by program, and by kind of mistake."""
    lines = [f"{'program':32}" + "".join(f"{v:>10}" for v in VERDICTS) + _HEAD]
    for name, tally in tallies(rows, "program").items():
        lines.append(
            f"{name:32}" + "".join(f"{tally.verdicts[v]:10}" for v in VERDICTS) + _tail(tally)
        )
    kinds = tallies([row for row in rows if row.kind], "kind")
    if kinds:
        lines += ["", f"{'kind of mistake':32}" + " " * 40 + _HEAD]
        lines += [f"{name:72}" + _tail(tally) for name, tally in kinds.items()]
    return "\n".join(lines)


_HEAD = "".join(f"{word:>8}" for word in ("wrong", "caught", "named", "beside", "errors"))


def _tail(tally: Tally) -> str:
    counts = (tally.pairs, tally.caught, tally.named, tally.beside, tally.errors)
    return "".join(f"{count:8}" for count in counts)


def to_json(rows: Sequence[Row]) -> dict[str, Any]:
    """The rows, and the counts in all, as plain data."""
    total = tallies(rows, "program").get("all", Tally())
    # asdict makes a Counter of a Counter's pairs
    counts = {**asdict(total), "verdicts": dict(total.verdicts)}
    return {"all": counts, "rows": [asdict(row) for row in rows]}


def program_names(match: str = "") -> tuple[str, ...]:
    """Names of the programs that match an expression."""
    return tuple(name for name in names() if re.search(match, name))
