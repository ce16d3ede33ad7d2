"""The reference: a numpy forward pass of every layer, written from the equations alone.

In: a Model and inputs. Out: its outputs (`run`). Nothing here imports the slot engine or a table,
so that one error cannot be on both sides of a comparison. It runs in any numpy float; float64 is
the reference.
"""

from xlstm.reference.coverage import Coverage
from xlstm.reference.run import run
from xlstm.reference.variants import run_together

__all__ = ["Coverage", "run", "run_together"]
