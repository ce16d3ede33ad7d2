"""Operations, and bytes of weights and states, of every layer in every framework.

In: a model. Out: a `ModelOperations`, whose counts are polynomials in T, the steps of a sequence,
and B, the sequences of a batch. Read `formula` first: it has the rules of counting, and the
registry that `basic`, `recurrent`, `convolution`, `elementwise` and `merge` fill.

>>> from xlstm.ir.layers import LSTM
>>> weight_bytes(LSTM(16, 32))
25088
"""

from xlstm.counting.operations import (  # noqa: F401  they register their formulas
    convolution,
    elementwise,
    merge,
)
from xlstm.counting.operations.weights import (
    recurrent_bytes,
    sequence_bytes,
    state_bytes,
    weight_bytes,
)

__all__ = ["recurrent_bytes", "sequence_bytes", "state_bytes", "weight_bytes"]
