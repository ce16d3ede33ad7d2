"""The bounds of a verdict, under their public name.

In: a model and its inputs. Out: how far a framework may be from the reference, and a verdict.
"""

from xlstm.verification.bounds import DIFFERENT as DIFFERENT
from xlstm.verification.bounds import FACTOR as FACTOR
from xlstm.verification.bounds import FAILED as FAILED
from xlstm.verification.bounds import ROUNDING as ROUNDING
from xlstm.verification.bounds import UNDECIDED as UNDECIDED
from xlstm.verification.bounds import Bounds as Bounds
from xlstm.verification.bounds import Verdict as Verdict
from xlstm.verification.bounds import bounds as bounds
from xlstm.verification.bounds import bounds_from as bounds_from
from xlstm.verification.bounds import judge as judge
from xlstm.verification.bounds import perturbed as perturbed
from xlstm.verification.bounds import steps_of as steps_of
