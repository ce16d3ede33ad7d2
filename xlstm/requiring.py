"""Importing frameworks: quietly where they are installed, with good advice where they are not."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from xlstm import registry

LEVEL = "TF_CPP_MIN_LOG_LEVEL"


def require(*frameworks: str) -> None:
    """Imports frameworks by name, or says which extra to install.

    TensorFlow's C++ greets on stderr whatever one sets; its greetings are put aside, and shown
    after all where an import fails.

    Args:
        frameworks: names such as "torch" or "nnx".

    Raises:
        MissingFrameworkError: a framework is not installed; the error names its extra.
        UsageError: an unknown framework.
    """
    adapters = [registry.adapter(name) for name in frameworks]
    for adapter in adapters:
        adapter.check_installed()
    quiet = _stderr_aside() if "keras" in frameworks else contextlib.nullcontext()
    with quiet:
        for adapter in adapters:
            adapter.live()


@contextlib.contextmanager
def _stderr_aside() -> Iterator[None]:
    try:
        kept = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    before = os.environ.get(LEVEL)
    os.environ.setdefault(LEVEL, "3")
    sys.stderr.flush()
    with tempfile.TemporaryFile() as aside:
        os.dup2(aside.fileno(), 2)
        try:
            yield
        except BaseException:
            aside.seek(0)
            os.write(kept, aside.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            if before is None:
                del os.environ[LEVEL]
