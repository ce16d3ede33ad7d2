"""`assert_parity`: compares two models in a test, and fails with the diagnosis.

In: a truth and a suspect. Out: a `ParityResult`, or an AssertionError whose text names the cause.
"""

from __future__ import annotations

import math
from typing import Any

from xlstm.errors import UsageError, XlstmError
from xlstm.testing import isolation
from xlstm.testing.comparison import Comparison
from xlstm.testing.results import ParityResult, publish
from xlstm.verification.inputs import MEMORY


def assert_parity(
    truth: Any,
    suspect: Any,
    *,
    inputs: Any = None,
    timeout: float | None = None,
    memory: float = MEMORY,
    effort: float = 1.0,
) -> ParityResult:
    """Checks that two models compute the same up to rounding.

    Equal models are compared and no cause is looked for, so a passing test is fast. Files are read
    once a session.

    Args:
        truth: the model that is right: anything that `xlstm.load` takes, or "package.module:name"
            of it. A function of numpy arrays is possible too; then no cause is named.
        suspect: the model to test: the same, or a module of PyTorch or Flax that cannot be read, a
            state dict, a file of named arrays, a function of numpy arrays. The name of a framework
            ("torch") tests the port that `xlstm.port` makes, in float32 and float64.
        inputs: arrays, batch first, one per input of the truth; made from the model if None.
        timeout: seconds. The comparison then runs in a process of its own, which is stopped after
            that time, and may also crash. None or 0: in this process, without a limit.
            docs/howto/parity-suite.md says what can run in another process.
        memory: bytes that runs may take, as in `xlstm.reconcile`.
        effort: how long to look for causes, as in `xlstm.diagnose`.

    Returns:
        The result. It is true, and has the whole text.

    Raises:
        AssertionError: the two differ, nothing can be decided, or the suspect fails; the text is
            the diagnosis, and the attribute `result` is the `ParityResult`.
        XlstmError: the truth cannot be read, or the call makes no sense.

    >>> import xlstm
    >>> bool(assert_parity(xlstm.demo.path(), xlstm.demo.path()))
    True
    """
    __tracebackhide__ = True
    asked = Comparison(truth, suspect, inputs, memory, effort)
    try:
        result = compare(asked, checked(timeout))
    except XlstmError as error:
        # its one line says all: the frames of the reader would only hide it in a log
        raise error.with_traceback(None) from None
    publish(result)
    if not result:
        unequal = AssertionError(result.text)
        vars(unequal)["result"] = result
        raise unequal
    return result


def checked(timeout: Any) -> float:
    """Returns a time limit in seconds, 0 for none.

    Raises:
        UsageError: no finite number of seconds from 0 on.
    """
    number = 0.0 if timeout is None else timeout
    numeric = isinstance(number, (int, float)) and not isinstance(number, bool)
    if not numeric or not 0 <= number < math.inf:
        do = "pass 30 for half a minute, or 0 for no limit"
        raise UsageError("timeout", "a number of seconds from 0 on", repr(timeout), do)
    return float(number)


def compare(asked: Comparison, timeout: float = 0.0) -> ParityResult:
    """Runs a comparison here, or in a process of its own where there is a time limit.

    Raises:
        XlstmError: as `assert_parity` raises.
    """
    if not timeout:
        return asked.run()
    return isolation.run(asked, timeout)
