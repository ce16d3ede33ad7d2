"""The bounds of a verdict, under their public name.

In: a model and its inputs. Out: how far a framework may be from the reference, and a verdict.
"""

from xlstm.verification.bounds import Verdict as Verdict
from xlstm.verification.bounds import bounds as bounds
from xlstm.verification.bounds import bounds_from as bounds_from
from xlstm.verification.bounds import judge as judge
