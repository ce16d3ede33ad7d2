"""Puts many models of one architecture into one object that runs all of them at once.

In: ports or models of one architecture. Out: one object with stacked weights, a folder, and back.
Read `stack.py` first.
"""

from xlstm.stacking.folder import save, unstack
from xlstm.stacking.stack import stack
from xlstm.stacking.verify import StackReport, reconcile

__all__ = ["StackReport", "reconcile", "save", "stack", "unstack"]
