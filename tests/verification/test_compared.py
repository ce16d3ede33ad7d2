"""Results of comparisons: true where equal, raise with their text where not, notes beside."""

import numpy as np
import pytest
from cases import model

import xlstm
from xlstm.diagnosis import Finding
from xlstm.diagnosis.result import Diagnosis
from xlstm.errors import NotEqualError
from xlstm.ir.layers import Dense
from xlstm.verification.folder import Proof
from xlstm.verification.report import Compared, FrameworkReport, Report

PLAIN = model([Dense(3, 2)], (3,))


def other():
    weights = {n: {k: a + 1 for k, a in own.items()} for n, own in PLAIN.weights.items()}
    return xlstm.Model(PLAIN.name, PLAIN.nodes, PLAIN.inputs, PLAIN.outputs, weights, PLAIN.source)


def results():
    """A right and a wrong result of each kind."""
    yes, no = xlstm.diagnose(PLAIN, PLAIN), xlstm.diagnose(PLAIN, other())
    report = xlstm.reconcile(PLAIN, "torch")
    wrong = Report(PLAIN, report.ledger, report.frameworks, (), "", False)
    return [(yes, no), (report, wrong), (Proof(report, (), ()), Proof(report, ("x",), ()))]


def test_a_result_is_true_where_it_is_ok_and_check_raises_with_its_text():
    for right, wrong in results():
        assert right.ok
        assert right
        right.check()
        assert not wrong.ok
        assert not wrong
        with pytest.raises(NotEqualError) as caught:
            wrong.check()
        assert caught.value.__notes__ == [str(wrong)]


def test_whatever_has_an_ok_is_true_by_it():
    assert set(Compared.__subclasses__()) >= {Diagnosis, FrameworkReport, Proof, Report}
    assert all("__bool__" not in vars(cls) for cls in Compared.__subclasses__())


def test_a_diagnosis_says_in_its_error_what_is_wrong_and_what_to_do():
    found = Finding("dense", None, "bias", "lost-bias", "The bias is gone.", "Copy it.")
    with pytest.raises(NotEqualError, match=r"The bias is gone\.; Copy it\."):
        Diagnosis("a", "b", (found,)).check()


def test_notes_are_told_and_change_no_verdict():
    note = Finding("bn", None, "", "momentum", "Your momentum is 0.1.", "Set it to 0.9.", 0.8)
    found = Diagnosis("a", "b", notes=(note,))
    assert found
    assert not found.findings
    assert found.causes == ()
    assert "note: bn: Your momentum is 0.1. [momentum]\n   Set it to 0.9." in str(found)
    assert found.to_json()["notes"][0]["cause"] == "momentum"
    assert found.to_json()["ok"] is True
    assert np.isclose(found.to_json()["notes"][0]["before"], 0.8)
