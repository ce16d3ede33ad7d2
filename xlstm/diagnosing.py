"""Causes and results of diagnoses, under their public name: `xlstm.diagnosing.CAUSES`.

In: two models. Out: a Diagnosis.
"""

from xlstm.diagnosis import CAUSES as CAUSES
from xlstm.diagnosis import Diagnosis as Diagnosis
from xlstm.diagnosis import Finding as Finding
from xlstm.diagnosis import Unexplained as Unexplained
from xlstm.diagnosis import diagnose as diagnose
from xlstm.diagnosis.repair import Repair as Repair
from xlstm.diagnosis.repair import repair as repair
