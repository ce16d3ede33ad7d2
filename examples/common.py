"""Code that every example begins and ends with."""

import sys
from pathlib import Path
from typing import Any

import xlstm

MODELS = Path(__file__).parent / "models"
FRAMEWORKS = ("keras", "torch", "nnx", "linen")


def need_frameworks() -> None:
    """Imports the frameworks, or ends with the name of the extra to install."""
    try:
        xlstm.require(*FRAMEWORKS)
    except xlstm.errors.MissingFrameworkError as error:
        sys.exit(str(error))


def end_with_ports(model: Any) -> None:
    """The same model in PyTorch, NNX and Linen: counts explained, outputs reconciled."""
    report = xlstm.reconcile(model, FRAMEWORKS)
    print()
    print(report)
    report.check()  # raises unless all frameworks are equal up to rounding
