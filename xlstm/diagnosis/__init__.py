"""Finds the layer at which two models that should agree differ, and the cause.

A *hypothesis* is an altered copy of model a ("a, with the gates of lstm_1.kernel in the order
i f o g", "a with the hard_sigmoid of Keras 3") and the sentence that names it. It explains b where
the reference, run on the altered copy, gives what b gives, up to rounding. That is the one
mechanism for every cause: what is known of b (its layers, its weights, what its layers give) only
says which hypotheses to try first.

`Diagnosis` holds the result: `.ok`, `.findings` (each with layer, step, tensor, cause, text, fix,
before, after_ulp; `cause` is one of `CAUSES`), `.unexplained`, `.causes`, `.to_json()`.
"""

from xlstm.diagnosis.causes import CAUSES
from xlstm.diagnosis.diagnose import diagnose
from xlstm.diagnosis.result import Diagnosis, Finding, Unexplained

__all__ = ["CAUSES", "Diagnosis", "Finding", "Unexplained", "diagnose"]
