"""Reads operations of Keras 3 and tf.keras as specs; imports no framework.

In: a call of an operation. Out: pending nodes. `elementwise`, `shape` and `operations` have a
reader for each name.
"""

from __future__ import annotations

from xlstm.errors import FileError, UsageError, XlstmError

from ..inbound_nodes import ANEW

# each registers its readers in OPERATIONS
from . import operations as _operations  # noqa: F401
from . import shape as _shape  # noqa: F401
from .call import OPERATIONS, Operation, Pending

MASKS = frozenset("not_equal any all logical_or logical_and zeros_like ones_like".split())
"""Operations with which Keras 3 computes masks."""


def read_operation(operation: Operation) -> list[Pending]:
    """Reads the outputs of an operation as pending nodes.

    Raises:
        UnsupportedError: arguments that no spec has.
        FileError: invalid arguments.
    """
    where = f"{operation.where} ({operation.call.kind})"
    try:
        found = OPERATIONS[operation.name](operation)
        operation.check_read()
        return found if isinstance(found, list) else [found]
    except UsageError as error:
        raise FileError(where, error.expected, error.got, error.do) from None
    except XlstmError:
        raise
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        want, got = "arguments as Keras has them", f"{type(error).__name__} ({error})"
        raise FileError(where, want, got[:80], ANEW) from None
