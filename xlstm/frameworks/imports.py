"""Importing frameworks: quietly where they are installed, with good advice where they are not."""

from __future__ import annotations

import contextlib
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator

from xlstm.frameworks import registry

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def require(*frameworks: str) -> None:
    """Imports frameworks by name, or says which extra to install.

    TensorFlow's C++ greets on stderr whatever one sets: nothing of it is shown. What other threads
    write to stderr meanwhile comes after the import.

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
    greets = "keras" in frameworks and registry.adapter("keras").live_module not in sys.modules
    with _quiet_stderr() if greets else contextlib.nullcontext():
        for adapter in adapters:
            adapter.live()


GREETING = re.compile(
    rb"[IWEF]\d{4} \d\d:\d\d:\d+\.\d+ +\d+ [\w.]+:\d+\] "
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] (tensorflow|external)/"
    rb"|WARNING: All log messages before absl::InitializeLog\(\)"
    rb"|To enable the following instructions: "
    rb"|OpenBLAS "
)
"""First letters of a line that TensorFlow writes when it is imported, or what it imports."""

_ASIDE = threading.RLock()
"""Taken by whoever has put stderr aside, which the process has once."""


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Takes out of stderr what C++ writes there; an error that Python raises says what is wrong."""
    with _ASIDE:
        try:
            kept = os.dup(2)
        except OSError:  # there is no stderr
            yield
            return
        with os.fdopen(kept, "wb") as stderr, os.fdopen(_scratch(), "rb") as aside, _level():
            sys.stderr.flush()
            os.dup2(aside.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(kept, 2)
            with contextlib.suppress(OSError):  # /dev/null, or a stderr that nobody reads
                aside.seek(0)
                stderr.writelines(line for line in aside if not GREETING.match(line))
                stderr.flush()


def _scratch() -> int:
    """A descriptor to write to and to read from; of /dev/null where a full disk gives no other."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    try:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError:
        return os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def _level() -> Iterator[None]:
    """Lets TensorFlow's C++ say little, unless the user has set that."""
    asked = LEVEL in os.environ
    os.environ.setdefault(LEVEL, "3")
    try:
        yield
    finally:
        if not asked:
            os.environ.pop(LEVEL, None)
