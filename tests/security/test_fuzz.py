"""The fuzzer, short: nothing but models and refusals comes out; and it notices what offends."""

import pytest
from processes import run

CASES = 300
HARNESS = "import sys; from fuzz import harness; sys.exit(harness.main(sys.argv[1:]))"
COLUMNS = ("cases", "reads", "refusals", "foreign", "crashes", "hangs", "over_1_GiB")


def test_damaged_files_are_read_or_refused(tmp_path):
    done = run(HARNESS, "--cases", CASES, "--seed", 1, "--keep", tmp_path / "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    last = next(line for line in done.stdout.splitlines() if line.startswith("all "))
    counts = dict(zip(COLUMNS, map(int, last.split()[1:-1]), strict=True))
    assert counts["cases"] == CASES
    assert counts["reads"] > CASES / 10
    assert counts["refusals"] > CASES / 10
    assert sum(counts.values()) == 2 * CASES, "no offence of any kind"
    assert not (tmp_path / "kept").exists()


READERS = {
    "read": "return 3",
    "refused": "raise FileError('a', 'b', 'c', 'd')",
    "foreign": "raise ValueError('by itself')",
    "crash": "os.abort()",
    "hang": "time.sleep(3600)",
    "loop": "while True: pass",
    "memory": "return len(b'1' * 400_000_000)",
}
ONE = """
import os, pathlib, sys, time
from fuzz import harness
from fuzz.bases import Base
from fuzz.forked import Limits
from xlstm.errors import FileError

def reader(path):
    assert path.read_bytes()
    {body}

job = harness.Run([Base("it", "it.h5", {{"it.h5": b"1234"}})], reader, seed=6, cases=2, jobs=2)
limits = Limits(seconds=3, patience={patience}, used=2**28)
job = harness.replace(job, keep=pathlib.Path(sys.argv[1]), limits=limits)
for _, _, kind, text in harness.fuzz(job):
    print(kind, repr(text))
"""


@pytest.mark.parametrize("kind", READERS)
def test_every_kind_of_offence_is_noticed_and_kept(kind, tmp_path):
    # only what sleeps for an hour is waited for in seconds
    source = ONE.format(body=READERS[kind], patience=2 if kind == "hang" else 600)
    kind = "hang" if kind == "loop" else kind
    done = run(source, tmp_path / "kept")
    assert not done.returncode, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == [kind] * 2
    kept = sorted(path.name for path in (tmp_path / "kept").glob("*"))
    if kind in ("read", "refused"):
        assert not kept
        return
    assert kept == [f"{kind}-6-0", f"{kind}-6-1"]
    words = {"foreign": "by itself", "crash": "SIGABRT", "hang": "no end", "memory": "grew by"}
    assert words[kind] in (tmp_path / "kept" / kept[0] / "what.txt").read_text()
    assert (tmp_path / "kept" / kept[0] / "case" / "it.h5").stat().st_size


LEAVES = """
import sys
from fuzz import harness
sys.exit(harness.main(["--replay", sys.argv[1]]))
"""


def test_one_file_can_be_read_again(tmp_path):
    path = tmp_path / "some.h5"
    path.write_bytes(b"no model")
    done = run(LEAVES, path)
    assert done.returncode == 0
    assert done.stdout.startswith("refused: ")
