"""One diagnosis while it is made."""

from __future__ import annotations

from dataclasses import dataclass, field

from xlstm.diagnosis.hypothesis.hypothesis import Hypothesis
from xlstm.diagnosis.pairing.names import Naming
from xlstm.diagnosis.result import Finding, Unexplained
from xlstm.diagnosis.search.effort import Effort
from xlstm.diagnosis.suspect.models import Suspect
from xlstm.ir.graph import Model
from xlstm.ir.types import Array

STEPS = 8
"""Time steps of the inputs that are made: many hypotheses are run."""


@dataclass
class DiagnosisState:
    """One diagnosis while it is made.

    Attributes:
        a: the truth.
        b: the suspect.
        inputs: what both are given.
        findings: so far.
        unexplained: so far.
        notes: so far.
        tried: hypotheses so far.
        dtype: what the suspect computes in.
        max_ulp: the difference of the outputs that is left, None where nothing was run.
        compared: what was compared.
        seen: what is plain to see in the outputs, cause -> sentence, whatever explains it.
        failed: what the suspect said where it failed on the inputs, and ran on some of them.
        effort: what may be spent on the search for causes.
        about: what is sure of an unknown cause, "" for nothing.
    """

    a: Model
    b: Suspect
    inputs: list[Array]
    findings: list[Finding] = field(default_factory=list)
    unexplained: list[Unexplained] = field(default_factory=list)
    notes: list[Finding] = field(default_factory=list)
    tried: int = 0
    dtype: str = "float64"
    max_ulp: float | None = None
    compared: list[str] = field(default_factory=list)
    seen: dict[str, str] = field(default_factory=dict)
    failed: str = ""
    effort: Effort = field(default_factory=Effort)
    about: str = ""


def of_weights(hypothesis: Hypothesis, gap: float, naming: Naming) -> Finding:
    """A finding that compared weights alone have shown."""
    said = hypothesis.say(naming)
    return Finding(hypothesis.layer, None, said.tensor, hypothesis.cause, said.text, said.fix, gap)
