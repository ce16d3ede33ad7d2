"""What `diagnose` says of hand-written ports, by people who did not know what it can name.

    python benchmarks/blind_power.py [--right] [--wrong] [--unseen] [--check] [--match REGEX]
        [--limit N] [--weights N] [--samples N ...] [--jobs N] [--seed N] [--json FILE] [--write]

Every right port of `tests/hand_ports` is diagnosed with some sets of weights and inputs of 1, 8 and
64 samples; every wrong one with one set of weights and 8 samples. `--unseen` asks about mistakes
instead that no cause was added for. `--check` asks no diagnosis: it runs all of them and compares
the outputs with Keras's. `--write` puts the counts into benchmarks/blind_power.md, or into
benchmarks/blind_power_unseen.md. Exit 1 if a right port is called different, or if a check fails.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import conftest  # noqa: F401  finds the adapters, pins what frameworks read
from hand_ports import checking, study

RESULT = Path(__file__).with_suffix(".md")
UNSEEN_RESULT = RESULT.with_stem("blind_power_unseen")

HEAD = """# Hand-written ports, judged without knowledge of `diagnose`

Written by `python benchmarks/blind_power.py --write`.

The programs of `tests/hand_ports/texts` are right ports, written by hand in many ways. Each one is
asked about with some sets of weights and 1, 8 and 64 samples: columns equal to error. The edits of
`tests/hand_ports/mistakes` make them wrong; the words of an honest explanation of each were written
before anybody looked at what `diagnose` names. "caught": the verdict is different. "named": a
finding has those words and the right layer. "beside": something else is named as well.

Causes were added to `diagnose` after a first run, by people who had seen which edits had no name:
the share that is named is what it names now, not what it would name of new mistakes.

```
"""

UNSEEN_HEAD = """# Hand-written ports with mistakes that no cause was added for

Written by `python benchmarks/blind_power.py --unseen --write`. The columns are those of
[blind_power.md](blind_power.md).

Somebody who knew neither the causes nor the counts wrote these mistakes, and the words of an honest
explanation (`tests/hand_ports/mistakes/unseen.txt`). No cause was added for them afterwards.

```
"""

TAIL = "```\n"

Job = tuple[str, str, tuple[object, ...]]


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """One job for each program and question; each builds its Keras model once."""
    seeds = range(options.seed, options.seed + options.weights)
    chosen = study.sample(options.limit, options.seed, options.match, unseen=options.unseen)
    ids = study.by_program(chosen)
    for name in study.program_names(options.match):
        if options.right:
            yield "right", name, (seeds, options.samples)
    for name, found in ids.items():
        if options.wrong:
            yield "wrong", name, (found, options.seed)


def work(job: Job) -> list[object]:
    """Does one job in a process of its own."""
    question, name, args = job
    if question == "right":
        return list(study.right(name, *args))
    return list(study.wrong(*args))


def check(job: Job) -> list[object]:
    """Compares outputs, and asks no diagnosis."""
    question, name, args = job
    if question == "right":
        return checking.right(name, *args)
    return checking.wrong(name, *args)


def main() -> int:
    """Prints the tables, or the failed checks."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--right", action="store_true", help="only the right ports")
    parser.add_argument("--wrong", action="store_true", help="only the wrong ports")
    parser.add_argument("--check", action="store_true", help="run them all, without a diagnosis")
    parser.add_argument(
        "--unseen", action="store_true", help="mistakes that no cause was added for"
    )
    parser.add_argument("--match", default="", help="programs and pairs whose names match")
    parser.add_argument("--limit", type=int, default=0, help="at most so many wrong ports")
    parser.add_argument("--weights", type=int, default=12, help="sets of weights for right ports")
    parser.add_argument("--samples", type=int, nargs="+", default=study.SAMPLES)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--seed", type=int, default=0, help="of the first weights, and of --limit")
    parser.add_argument("--json", type=Path, help="a file for all answers")
    parser.add_argument("--write", action="store_true", help="rewrite benchmarks/blind_power.md")
    options = parser.parse_args()
    options.wrong |= options.unseen
    if not options.right and not options.wrong:
        options.right = options.wrong = True
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"):
        os.environ.setdefault(name, "1")

    rows: list[object] = []
    # ProcessPoolExecutor with max_tasks_per_child may stop for ever (cpython issue 115634)
    with get_context("spawn").Pool(options.jobs, maxtasksperchild=16) as pool:
        todo = list(jobs(options))
        answers = pool.imap(check if options.check else work, todo)
        for job, found in zip(todo, answers, strict=True):
            rows += found
            sys.stderr.write(f"{job[0]} {job[1]}: {len(rows)}\n")
    if options.check:
        sys.stdout.write("".join(f"{row}\n" for row in rows) + f"{len(rows)} failed\n")
        return int(bool(rows))
    if options.json:
        options.json.write_text(json.dumps(study.to_json(rows), indent=1), encoding="utf-8")
    sys.stdout.write(study.table(rows) + "\n")
    if options.write:
        file, head = (UNSEEN_RESULT, UNSEEN_HEAD) if options.unseen else (RESULT, HEAD)
        file.write_text(f"{head}{study.table(rows)}\n{TAIL}", encoding="utf-8")
    return int(any(not row.kind and row.caught for row in rows))


if __name__ == "__main__":
    sys.exit(main())
