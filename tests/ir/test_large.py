"""Large honest models are read in place: memory stays near the size of the weights."""

import pytest
from paths import ROOT
from processes import run

PEAK = """
import pathlib, sys, xlstm
from xlstm.files import describe

def peak():
    return int(pathlib.Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) * 1024

xlstm.load(xlstm.demo.path())
before = peak()
xlstm.load(sys.argv[1])
print((peak() - before) / pathlib.Path(sys.argv[1]).stat().st_size)
"""


@pytest.mark.parametrize("form", ["hdf5", "archive"])
def test_peak_memory_is_near_the_size_of_the_weights(form, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import large

    monkeypatch.setattr(large, "SHAPES", ((1000, 8000), (2000, 8000), (8000,)))
    monkeypatch.setattr(large, "FEATURES", 1000)
    monkeypatch.setattr(large, "UNITS", 2000)
    path = tmp_path / "large"
    getattr(large, f"write_{form}")(path)
    assert path.stat().st_size > 90 * 2**20
    done = run(PEAK, path)
    assert float(done.stdout) < 1.3, done.stderr
