"""Can the verdict be trusted? Wrong ports that it must catch, right ports that it must not.

    python benchmarks/power.py [--part A|B] [--seconds 600] [--limit 200] [--seed 0]
                               [--kind REGEX] [--jobs 2] [--no-causes] [--write]

Part A: mutated ports, every kind of error over layers, sizes and seeds. Caught means: the outputs
differ by more than the bound, or the weights compared apart do, or the report lists what the inputs
could not show. "outputs" counts those that outputs alone show, as for a port whose weights nobody
can read. A mutant that is the same function as the right port is left out; that is found by
running both side by side, without the product's inputs, bounds or reference. "named" is the share
whose cause `xlstm.diagnose` names, at the right layer.

Part B: right ports, ill-conditioned ones among them: false alarms, what is undecided, and the
largest difference over its bound.

The same seed gives the same ports. `--write` puts the tables into benchmarks/power.md, and the
totals into docs/proof.md.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

# small products gain nothing from threads, which processes would fight for; read on import
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

HERE = Path(__file__).parent
for found in (str(HERE.parent / "tests"), str(HERE)):
    if found not in sys.path:
        sys.path.insert(0, found)

import conftest  # noqa: E402, F401  pins what frameworks read

RESULT = HERE / "power.md"


@dataclass(frozen=True)
class Unit:
    """Work that one process does at a time: all mutants, or right ports, of one model.

    Attributes:
        part: "A" or "B".
        make: what is made: a name of `MAKE`.
        name: of the model.
        framework: whose ports.
        seed: of the model and of what is chosen.
    """

    part: str
    make: str
    name: str
    framework: str
    seed: int


def units(seed: int) -> list[Unit]:
    """All the work of one seed, long units first in no kind, so that processes share it evenly."""
    return [*_wrong(seed), *_right(seed)]


def _wrong(seed: int) -> Iterator[Unit]:
    from mutators.correct import EVERY
    from mutators.mutant import spread
    from mutators.sources import SOURCES

    for place, name in enumerate(SOURCES):
        # ports written by hand take turns with ours
        yield Unit("A", "arrays", name, "torch", 2 * seed + place % 2)
        yield Unit("A", "code", name, "torch", 2 * seed)
        yield Unit("A", "code", name, "torch", 2 * seed + 1)
        yield Unit("A", "texts", name, "torch", 2 * seed)
    for name in CELLS:
        yield Unit("A", "cells", name, "torch", 2 * seed)
    for name in spread(list(EVERY), seed, 120):
        yield Unit("A", "texts", name, "torch", 2 * seed)
    for framework in ("keras", "nnx", "linen"):
        for name in ("lstm-square", "gru", "both-lstm", "dense", "rnn-relu-square", "stack"):
            yield Unit("A", "arrays", name, framework, 2 * seed + 1)


CELLS = ("lstm", "lstm-square", "lstm-two-biases", "gru", "gru-square", "gru-before", "rnn")
CELLS += ("both-lstm", "both-gru-sum", "masked-lstm", "stack")
"""Models whose layers are written as cells of nn.Linear too."""


def _right(seed: int) -> Iterator[Unit]:
    from mutators.correct import EVERY
    from mutators.mutant import spread
    from mutators.sources import SOURCES
    from torch_modules import MODULES

    for number in range(2 * seed, 2 * seed + 2):
        yield from (Unit("B", "case", name, "torch", number) for name in EVERY)
        yield from (Unit("B", "modules", name, "torch", number) for name in MODULES)
    for number in range(3 * seed, 3 * seed + 3):
        yield from (Unit("B", "by hand", name, "torch", number) for name in SOURCES)
    for framework in ("keras", "nnx", "linen"):
        names = spread(list(EVERY), seed, 40)
        yield from (Unit("B", "case", name, framework, 2 * seed) for name in names)
    yield Unit("B", "ill-conditioned", "", "torch", 2 * seed)
    yield Unit("B", "ill-conditioned", "", "torch", 2 * seed + 1)
    yield Unit("B", "folded", "", "torch", seed)
    yield Unit("B", "long", "", "torch", seed)
    yield Unit("B", "corpus", "", "torch", seed)


def mutants(unit: Unit) -> Iterator[Any]:
    """The wrong ports of one unit."""
    from mutators import frameworks, texts, torch_mutants
    from mutators.correct import EVERY, reseeded
    from mutators.sources import SOURCES

    source = SOURCES.get(unit.name)
    model = source(unit.seed) if source else reseeded(EVERY[unit.name], unit.seed)
    if unit.framework != "torch":
        return frameworks.arrays(model, unit.framework, unit.seed)
    make = {
        "arrays": lambda: torch_mutants.arrays(model, unit.seed),
        "cells": lambda: torch_mutants.cells(model, unit.seed),
        "code": lambda: torch_mutants.code(model),
        "texts": lambda: texts.texts(model),
    }
    return make[unit.make]()


def rights(unit: Unit) -> Iterable[Any]:
    """The right ports of one unit."""
    from mutators import correct

    make = {
        "case": lambda: [correct.case(unit.name, unit.framework, unit.seed)],
        "modules": lambda: [correct.live_module(unit.name, unit.seed)],
        "by hand": lambda: correct.by_hand(unit.name, unit.seed),
        "ill-conditioned": lambda: correct.ill_conditioned(unit.seed),
        "folded": lambda: correct.folded(unit.seed),
        "long": lambda: correct.long(unit.seed),
        "corpus": files,
    }
    return make[unit.make]()


def files() -> Iterator[Any]:
    """The real models, where they are there."""
    import corpus
    from mutators.correct import Right

    import xlstm

    if not corpus.CORPUS.is_dir():
        return
    for case in corpus.cases():
        try:
            model = xlstm.load(case.path, **case.told())
        except xlstm.errors.XlstmError:
            continue  # refused by name; benchmarks/corpus.py lists them
        yield Right("files of real projects", case.name, model, inputs=case.arrays("x"))


def work(unit: Unit, kind: str, causes: bool) -> list[Any]:
    """What came of every port of a unit whose kind matches."""
    import torch
    from mutators.mutant import Judge
    from mutators.study import judged, tried

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if unit.part == "B":
        return [judged(right) for right in rights(unit) if re.search(kind, right.kind)]
    done: list[Any] = []
    judge = None
    for mutant in mutants(unit):
        if re.search(kind, mutant.kind):
            judge = judge or Judge(mutant.model)
            done.append(tried(mutant, judge, ask=causes))
    return done


def run(given: argparse.Namespace) -> dict[str, list[Any]]:
    """All outcomes by part, in the order of the units; as many units as time allows."""
    chosen = [u for u in units(given.seed) if given.part in ("", u.part)]
    if given.limit:
        from mutators.mutant import spread

        chosen = spread(chosen, given.seed, given.limit)
    found: dict[str, list[Any]] = {"A": [], "B": []}
    until = time.monotonic() + given.seconds
    for unit, outcomes in _worked(chosen, given, until):
        found[unit.part] += [(unit, outcome) for outcome in outcomes]
        _told(unit, outcomes)
    return found


def _worked(
    chosen: list[Unit], given: argparse.Namespace, until: float
) -> Iterator[tuple[Unit, list[Any]]]:
    options = given.kind, not given.no_causes
    if given.jobs == 1:
        for number, unit in enumerate(chosen):
            if time.monotonic() > until:
                break
            _progress(number, chosen)
            yield unit, work(unit, *options)
        return
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        waiting = {unit: pool.submit(_late, unit, *options, until) for unit in chosen}
        for number, (unit, future) in enumerate(waiting.items()):
            _progress(number, chosen)
            yield unit, future.result()


def _late(unit: Unit, kind: str, causes: bool, until: float) -> list[Any]:
    """As `work`; nothing once the time is over."""
    return work(unit, kind, causes) if time.monotonic() < until else []


def _progress(number: int, chosen: list[Unit]) -> None:
    if sys.stderr.isatty():
        unit = chosen[number]
        sys.stderr.write(f"\r{number} of {len(chosen)}: {unit.name[:40]:40}")


def _told(unit: Unit, outcomes: list[Any]) -> None:
    """Says at once what is not as it should be."""
    from mutators.tables import looked

    for line in looked([(unit, outcome) for outcome in outcomes]):
        sys.stderr.write(f"{line}\n")


TOTALS = re.compile(r"[\d,]+ (wrong|right) ports: .*")


def write(text: str) -> None:
    """Puts the tables into benchmarks/power.md, and the totals where docs/proof.md quotes them."""
    from xlstm.files.atomic import write_file

    write_file(RESULT, text.encode())
    new = {found[1]: found[0] for found in TOTALS.finditer(text)}
    page = HERE.parent / "docs" / "proof.md"
    old = page.read_text()
    new_text = TOTALS.sub(lambda found: new.get(found[1], found[0]), old)
    write_file(page, new_text.encode())


def main() -> int:
    """Prints the tables; 1 if a wrong port is missed or a right one called wrong."""
    from mutators.tables import report

    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--part", default="", choices=("A", "B"), help="wrong ports or right ones")
    parser.add_argument("--seconds", type=float, default=1e9, help="start no unit after this")
    parser.add_argument("--limit", type=int, default=0, help="this many units, spread over all")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kind", default="", help="kinds that match")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--no-causes", action="store_true", help="do not ask diagnose")
    parser.add_argument("--write", action="store_true", help="rewrite benchmarks/power.md")
    given = parser.parse_args()
    started = time.monotonic()
    text, wrong = report(run(given), given, time.monotonic() - started)
    sys.stdout.write(text)
    if given.write:
        write(text)
    return int(wrong > 0)


if __name__ == "__main__":
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    sys.exit(main())
