"""Imports frameworks without their messages, or raises with the extra to install.

In: names such as "torch". Out: nothing, or a MissingFrameworkError that names the extra.
"""

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
    """Imports frameworks by name, or raises with the extra to install.

    TensorFlow's C++ writes to stderr for any settings; these lines are removed. Lines of other
    threads during the import appear after it.

    Args:
        frameworks: names such as "torch" or "nnx".

    Raises:
        MissingFrameworkError: a framework is not installed, and the error names its extra; or its
            import fails, and the error quotes the reason.
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
"""Beginning of a line that TensorFlow or its dependencies write during the import."""

_ASIDE = threading.RLock()
"""Lock for redirecting stderr, which the process has once."""


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Removes lines of C++ from stderr; Python raises its own errors."""
    with _ASIDE:
        try:
            kept = os.dup(2)
        except OSError:  # stderr is closed
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
            with contextlib.suppress(OSError):  # /dev/null, or a closed pipe
                aside.seek(0)
                stderr.writelines(line for line in aside if not GREETING.match(line))
                stderr.flush()


def _scratch() -> int:
    """A descriptor to write to and to read from; of /dev/null if the disk is full."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("stderr")
    try:
        with tempfile.TemporaryFile() as file:
            return os.dup(file.fileno())
    except OSError:
        return os.open(os.devnull, os.O_RDWR)


@contextlib.contextmanager
def _level() -> Iterator[None]:
    """Sets a quiet log level for TensorFlow's C++, unless the user has set one."""
    asked = LEVEL in os.environ
    os.environ.setdefault(LEVEL, "3")
    try:
        yield
    finally:
        if not asked:
            os.environ.pop(LEVEL, None)
