"""`xlstm fleet`: ports many models, or sums up what a fleet has done.

In: parsed arguments. Out: a result with `ok`, `text` and `to_json`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from xlstm.errors import UsageError

REPORT = "report"
"""First word of `xlstm fleet report TARGET`; a folder of that name is `./report`."""

OF_FLEET = (
    *("--to", "--verify", "--scheduler", "--workers", "--dry-run", "--retry-refused"),
    *("--seconds", "--memory", "--largest"),
)
"""Options of a fleet that a report has not."""


def check(args: argparse.Namespace) -> bool:
    """Returns True for `xlstm fleet report TARGET`, False for a fleet.

    Raises:
        UsageError: a word is missing, or too much.
    """
    reports: bool = args.sources[0] == REPORT
    if reports:
        if len(args.sources) != 2:
            got, do = f"{len(args.sources) - 1} of them", "name one folder or URL of a fleet"
            raise UsageError("fleet report", "one target", got, do)
        extra = [name for name in OF_FLEET if getattr(args, name[2:].replace("-", "_"))]
        if extra:
            got, do = ", ".join(extra), "remove them"
            raise UsageError("fleet report", "options of a report: -o, --json", got, do)
        return True
    for option, value, what in (
        ("--to", args.to, "FRAMEWORK"),
        ("-o", args.output, "TARGET"),
    ):
        if not value:
            raise UsageError("fleet", f"{option} {what}", "none", f"add {option} {what}")
    return False


def port_fleet(args: argparse.Namespace, tell: Callable[[str], None]) -> Any:
    """Runs a fleet."""
    from xlstm.fleets.run import fleet

    limits = {"seconds": args.seconds}
    limits |= {name: getattr(args, name) and getattr(args, name) * 1e9 for name in SIZES}
    return fleet(
        args.sources,
        args.to,
        args.output,
        verify=args.verify,
        scheduler=args.scheduler,
        workers=args.workers,
        dry_run=args.dry_run,
        retry_refused=args.retry_refused,
        progress=tell,
        **{name: value for name, value in limits.items() if value is not None},
    )


def report_fleet(args: argparse.Namespace, tell: Callable[[str], None]) -> Any:
    """Sums up the table of a fleet; writes a page if one is named."""
    from xlstm.fleets.report import fleet_report

    tell("reading the table")
    found = fleet_report(args.sources[1])
    if args.output:
        tell("writing the page")
        found.save_html(args.output)
    return found


SIZES = ("memory", "largest")
"""Limits that the command line has in GB."""
