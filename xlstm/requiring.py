"""Importing frameworks: quietly where they are installed, with good advice where they are not."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

from xlstm import registry

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def require(*frameworks: str) -> None:
    """Imports frameworks by name, or says which extra to install.

    TensorFlow's C++ greets on stderr whatever one sets: nothing of it is shown.

    Args:
        frameworks: names such as "torch" or "nnx".

    Raises:
        MissingFrameworkError: a framework is not installed, and the error names its extra; or its
            import fails, and the error says how.
        UsageError: an unknown framework, or a KERAS_BACKEND that Keras cannot import.
    """
    adapters = [registry.adapter(name) for name in frameworks]
    for adapter in adapters:
        adapter.check_installed()
    quiet = _quiet_stderr() if "keras" in frameworks else contextlib.nullcontext()
    with quiet:
        for adapter in adapters:
            adapter.live()


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Sends what C++ writes to stderr nowhere; an error that Python raises says what went wrong."""
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    before = os.environ.get(LEVEL)
    os.environ.setdefault(LEVEL, "3")
    sys.stderr.flush()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        if before is None:
            del os.environ[LEVEL]
