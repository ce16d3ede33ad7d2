"""The 25 classes of hostile files that were measured: refused in their own words, at no cost.

Each file is read in a child: no other file opened, under 200 MB more memory, under 2 s.
"""

import json
import re
from pathlib import Path

import pytest
from hostile import EITHER, ROWS, external_links, external_storage, virtual
from processes import run
from watched import trap

LOAD = "import sys, watched, xlstm; watched.outcomes(xlstm.load, sys.argv[1:])"


def seen(paths, code=LOAD):
    done = run(code, *paths)
    assert not done.returncode, done.stderr
    return json.loads(done.stdout)


def state(folder):
    return {path: path.lstat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("row", ROWS, ids=[f"{n}-{made.__name__}" for n, made in ROWS.items()])
def test_hostile_class(row, tmp_path):
    folder = tmp_path / "below" / "files"
    folder.mkdir(parents=True)
    cases = list(ROWS[row](folder))
    for path, _ in cases:
        if folder in path.parents and path.is_file():
            trap(path)
    before = state(tmp_path)
    wrong = []
    found = seen([path for path, _ in cases])
    for (path, words), (kind, text) in zip(cases, found, strict=True):
        good = kind == ("read" if words is None else "refused")
        if words == EITHER:
            good = kind in ("read", "refused")
        elif words is not None:
            good = good and re.search(words, text)
        if not good:
            wrong.append(f"{path}: wanted {words!r}, {kind}: {text}")
    assert not wrong, "\n".join(wrong)
    assert state(tmp_path) == before, "nothing is written"


PLAIN = """
import sys, h5py, watched
from fuzz import forked
def reader(path):
    with h5py.File(path) as file:
        return file["model_weights/lstm/lstm/lstm_cell/bias:0"][()]
watched.outcomes(reader, sys.argv[1:], forked.Limits(patience=1.5, used=200 * 2**20))
"""


@pytest.mark.parametrize("made", [external_links, external_storage, virtual])
def test_plain_h5py_falls_into_the_traps(made, tmp_path):
    """The canaries notice who opens them: libhdf5 waits at the FIFO, however long one waits."""
    path = next(path for path, _ in made(tmp_path) if path.suffix == ".h5")
    trap(path)
    ((kind, _),) = seen([path], PLAIN)
    assert kind == "hang"


OFFENDERS = {
    "opened": "open(path.parent / 'other').read()",
    "0.[4-9] s, opened": "next(t for t in iter(time.process_time, -1) if t > 0.4)",
    "os.system": "os.system('true')",
    "grew by": "b'1' * 300_000_000",
}


@pytest.mark.parametrize("words", OFFENDERS)
def test_what_a_file_costs_is_measured(words, tmp_path):
    (tmp_path / "other").write_text("canary")
    reader = f"lambda path: {OFFENDERS[words]}"
    code = "import os, sys, time, watched\nwatched.SECONDS = 0.3\n"
    code += f"watched.outcomes({reader}, sys.argv[1:])"
    ((kind, text),) = seen([Path(tmp_path / "model.h5")], code)
    assert kind in ("foreign", "memory")
    assert re.search(words, text)
