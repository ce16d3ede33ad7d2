"""The content of test_port.py that a framework does not decide.

In: a model and its golden numbers. Out: the argument of `Adapter.emit_tests`.
"""

from __future__ import annotations

from dataclasses import dataclass

from xlstm.ir.graph import Model

TESTS = "test_port.py"
"""Name of the tests in the folder of a port."""

GOLDEN = "golden.safetensors"
"""Name of the file of numbers beside them."""


@dataclass(frozen=True)
class PortTests:
    """The tests of one port.

    Attributes:
        model: the graph of the port.
        outputs: name of each output; names of states come last.
        dtypes: precisions that have bounds in the golden file.
        alone: row of the batch that is also run in a batch of one; None for no such test.
        parts: a sentence about each output of which the golden file has a part.
    """

    model: Model
    outputs: tuple[str, ...]
    dtypes: tuple[str, ...]
    alone: int | None = None
    parts: tuple[str, ...] = ()
