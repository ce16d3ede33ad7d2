"""Targets of fleets: local folders, memory, and a server of the S3 protocol."""

import dataclasses
import json
import math
import os
import pickle
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xlstm.errors import UsageError
from xlstm.fleets.entry import FleetJob, FleetRow
from xlstm.fleets.storage import journal, lease, open_target

JOB = FleetJob("torch")
PORT = {"model.py": b"code", "model.safetensors": b"weights", "report.json": b"{}"}
KINDS = ["local", "memory", "s3"]


@pytest.fixture(params=KINDS)
def url(request, tmp_path):
    """Path or URL of a target that does not exist yet."""
    if request.param == "local":
        return str(tmp_path / "out")
    return f"{request.getfixturevalue('memory' if request.param == 'memory' else 'bucket')}/out"


@pytest.fixture
def target(url):
    found = open_target(url)
    found.check(JOB)
    return found


@pytest.fixture
def local(tmp_path):
    found = open_target(tmp_path / "out")
    found.check(JOB)
    return found


def fill(files=PORT):
    def write(folder):
        assert list(folder.iterdir()) == []
        for name, data in files.items():
            (folder / name).write_bytes(data)
        return len(files)

    return write


def row(name, outcome="equal", **values):
    return FleetRow(name, f"{name}.h5", "1", "job", outcome, **values)


def content(target, path):
    """Bytes of the files below a path of a target, by name."""
    if os.path.isabs(target.url):
        return {p.name: p.read_bytes() for p in Path(target.url, path).glob("*") if p.is_file()}
    with target._files(path) as (files, root):
        return {p.rpartition("/")[2]: files.cat_file(p) for p in files.find(root)}


def test_ports_and_rows(target):
    names = ["a", "a/b", "../x", "é", "con"]
    for name in names:
        assert target.put_port(name, fill()) == 3
        target.put_row(row(name, worker="tcp://1:2", layers=("LSTM",), counts={"torch": 7}))
    assert target.missing_ports([*names, "other"]) == {"other"}
    assert list(target.rows()) == sorted(names)
    assert target.rows()["a/b"] == row(
        "a/b", worker="tcp://1:2", layers=("LSTM",), counts={"torch": 7}
    )
    assert content(target, f"models/{target.folder('a/b')}") == PORT
    again = pickle.loads(pickle.dumps(target))  # our own object
    assert again.rows() == target.rows()
    assert target.port_path("a/b").endswith("/out/models/a.d/b")


def test_the_last_row_counts(target):
    target.put_row(row("a", "failed", worker="2"))
    target.put_row(row("b", worker="1"))
    target.put_row(row("a", worker="1"))
    assert {name: found.outcome for name, found in target.rows().items()} == {
        "a": "equal",
        "b": "equal",
    }


def test_a_port_replaces_an_older_one(target):
    target.put_port("a", fill())
    target.put_port("a", fill({**PORT, "report.json": b"[2]"}))
    assert content(target, "models/a")["report.json"] == b"[2]"
    target.put_port("a", fill(), aside=True)
    assert content(target, "aside/a") == PORT
    assert content(target, "models/a") == {}
    assert target.missing_ports(["a"]) == {"a"}
    target.forget(["a"])
    target.put_port("a", fill())
    assert content(target, "models/a") == PORT
    assert content(target, "aside/a") == {}


def test_ports_of_models_that_are_refused_now_are_dropped(target):
    for name in ("a", "b", "b/c"):
        target.put_port(name, fill())
    target.drop_ports(["b", "never ported"])
    assert target.missing_ports(["a", "b", "b/c"]) == {"b"}


def test_a_folder_with_files_of_others_is_not_dropped(local):
    local.put_port("a", fill())
    (Path(local.port_path("a")) / "notes.txt").write_text("mine")
    local.drop_ports(["a"])
    assert local.missing_ports(["a"]) == set()


def test_a_filling_that_fails_leaves_nothing(target):
    def fail(folder):
        (folder / "model.py").write_bytes(b"half")
        raise UsageError("a", "b", "c", "d")

    def full(folder):
        raise OSError(28, "No space left on device")

    target.put_port("a", fill())
    for name in ("a", "b"):
        with pytest.raises(UsageError, match="expected b"):
            target.put_port(name, fail)
        with pytest.raises(OSError, match="No space left"):
            target.put_port(name, full)
    assert content(target, "models/a") == PORT
    assert content(target, "models/b") == {}


def test_an_empty_file_is_no_port(target):
    target.put_port("a", fill({**PORT, "model.safetensors": b""}))
    target.put_port("b", fill({"model.py": b"1", "report.json": b"2"}))
    assert target.missing_ports(["a", "b"]) == {"a", "b"}


def test_the_table(target):
    pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    error = {"where": "x", "expected": "y", "got": "\udc80", "do": "z"}
    target.put_row(row("b", layers=("LSTM", "Dense"), counts={"torch": 7, "keras": 5}, seconds=1))
    target.put_row(
        row("a", "refused", error=error, verdicts={"float32": {"ratio": 0.5, "of": [1]}})
    )
    lines, columns = target.compact()
    assert (lines.endswith("fleet.jsonl"), columns.endswith("fleet.parquet")) == (True, True)
    found = content(target, "")
    data = [json.loads(line) for line in found["fleet.jsonl"].splitlines()]
    assert [FleetRow.from_json(one) for one in data] == list(target.rows().values())
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pq.read_table(pa.BufferReader(found["fleet.parquet"])).to_pylist()
    assert [one["name"] for one in table] == ["a", "b"]
    assert table[1]["layers"] == ["LSTM", "Dense"]
    assert (table[1]["counts_torch"], table[0]["counts_torch"]) == (7, None)
    assert (table[0]["error_got"], table[0]["verdicts_float32_of"]) == ("\\udc80", "[1]")
    assert (table[0]["verdicts_float32_ratio"], table[1]["seconds"]) == (0.5, 1.0)


def test_without_pyarrow_the_lines_are_written(local, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    local.put_row(row("a"))
    assert [Path(path).name for path in local.compact()] == ["fleet.jsonl"]


def test_values_of_several_kinds_share_a_column(local):
    pq = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    for name, value in {"a": 1, "b": 0.5, "c": None}.items():
        local.put_row(row(name, verdicts={"float32": {"n": value, "m": value}}))
    local.put_row(row("d", verdicts={"float32": {"n": 10**400, "m": "text"}}))
    table = pq.read_table(local.compact()[1])
    assert table["verdicts_float32_n"].to_pylist() == [1.0, 0.5, None, math.inf]
    assert table["verdicts_float32_m"].to_pylist() == ["1", "0.5", None, "text"]


def test_a_target_of_another_kind_is_refused(url, tmp_path):
    target = open_target(url)
    target.check(JOB, write=False)
    assert target.read_mark() is None
    target.check(JOB)
    target.check(JOB)
    with pytest.raises(UsageError, match="fleet to flax, got one to torch"):
        open_target(url).check(FleetJob("flax"))
    foreign = url.replace("/out", "/foreign")
    if os.path.isabs(url):
        Path(foreign).mkdir()
        Path(foreign, "notes.txt").write_text("mine")
    else:
        with target._files() as (files, root):
            files.pipe_file(f"{root.replace('/out', '/foreign')}/notes.txt", b"mine")
    with pytest.raises(UsageError, match=r"files of others, such as notes\.txt"):
        open_target(foreign)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"fleet": "1", "to": "torch"}', "[" * 9999])
def test_another_mark_is_refused(local, text):
    Path(local.url, "fleet.json").write_text(text)
    with pytest.raises(UsageError, match=r"got another fleet\.json"):
        open_target(local.url)


def test_a_newer_mark_is_refused(local):
    Path(local.url, "fleet.json").write_text('{"fleet": 2, "to": "torch"}')
    with pytest.raises(UsageError, match="expected a fleet of version 1"):
        open_target(local.url)


def test_two_new_fleets_at_once(url):
    """Both found an empty target; the second one must not change the mark of the first."""
    one, two = open_target(url), open_target(url)
    one.check(JOB)
    two.write_mark(b'{"fleet": 1, "to": "flax"}')
    assert two.mark()["to"] == "torch"


def test_a_fleet_in_a_target_that_begins(local):
    Path(local.url, "fleet.json").unlink()
    with local.locked(), pytest.raises(UsageError, match="process"):
        local.write_mark(b"")


def test_two_fleets_in_one_target(target):
    other = open_target(target.url)
    with target.locked() as check:
        check()
        with pytest.raises(UsageError) as caught, other.locked():
            pass
    assert f"process {os.getpid()} on " in caught.value.got
    assert " since 20" in caught.value.got
    with target.locked():
        pass


def test_a_killed_fleet_leaves_no_lock(local):
    code = (
        "import sys, time; from xlstm.fleets.storage import open_target\n"
        "with open_target(sys.argv[1]).locked():\n    print('locked', flush=True); time.sleep(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, local.url], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout.readline() == "locked\n"
    with pytest.raises(UsageError, match=f"process {child.pid}"), local.locked():
        pass
    child.kill()
    child.communicate()
    with local.locked():
        pass


@pytest.mark.parametrize("kind", ["memory", "bucket"])
def test_a_stale_lock_is_taken_over_once(kind, request, monkeypatch):
    target = open_target(f"{request.getfixturevalue(kind)}/out")
    target.check(JOB)
    monkeypatch.setattr(lease, "BEAT", 0.05)
    monkeypatch.setattr(lease, "STALE", 0.0)
    with target.locked() as check:
        with open_target(target.url).locked():
            time.sleep(1)
            with pytest.raises(UsageError, match="another fleet that took it"):
                check()
        monkeypatch.setattr(lease, "STALE", 60.0)
    with target.locked():  # the one that lost it did not free or change the lock of the other
        pass


def test_two_fleets_never_take_the_same_lock(memory, monkeypatch):
    """The second one lists the locks before the first one has its own."""
    target = open_target(f"{memory}/out")
    target.check(JOB)
    numbers = lease._numbers
    with target.locked():
        monkeypatch.setattr(lease, "_numbers", lambda files, folder: [])
        with pytest.raises(UsageError, match="process"), target.locked():
            pass
        found = iter([[], [1, 2]])
        with target._files("lock") as (files, root):
            files.pipe_file(f"{root}/000000002.json", lease._content(lease.owner()))
            files.rm(f"{root}/000000001.json")
        monkeypatch.setattr(lease, "_numbers", lambda files, folder: next(found))
        with pytest.raises(UsageError, match="process"), target.locked():
            pass
        monkeypatch.setattr(lease, "_numbers", numbers)
        with target._files("lock") as (files, root):
            assert numbers(files, root) == [2]


def test_a_model_costs_one_request_for_each_file(bucket, monkeypatch):
    import s3fs

    target = open_target(f"{bucket}/out")
    target.check(JOB)
    calls, call = [], s3fs.S3FileSystem._call_s3

    async def counted(self, method, *args, **options):
        calls.append(method)
        return await call(self, method, *args, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    target.put_port("a/b", fill())
    target.put_row(row("a/b"))
    assert calls == ["put_object"] * 4
    for number in range(5):
        target.put_row(row(f"m{number}"))
    calls.clear()
    assert len(target.rows()) == 6
    assert sorted(calls) == ["get_object"] * 6 + ["list_objects_v2"]


def test_a_broken_row_in_a_store_is_left_out(memory):
    target = open_target(f"{memory}/out")
    target.check(JOB)
    target.put_row(row("a"))
    with target._files("rows") as (files, root):
        files.pipe_file(f"{root}/b.json", b'{"fleet":1,"at"')
        files.pipe_file(f"{root}/c.json", b"")
    assert list(target.rows()) == ["a"]


@pytest.mark.parametrize(
    "line",
    [
        b'{"fleet":1,"at":',
        b"\xff\x00garbage",
        b"",
        b"[1]",
        b"[" * 5000,
        b'{"fleet":2,"at":9,"row":{"name":"a"}}',
        b'{"fleet":1,"at":"9","began":"a"}',
        b'{"fleet":1,"at":9,"row":{"name":"a"}}',
        b'{"fleet":1,"at":9,"row":[]}',
        b'{"fleet":1,"at":9,"began":["a"]}',
        *(
            json.dumps({"fleet": 1, "at": 9, "row": {**row("a").to_json(), key: value}}).encode()
            for key, value in [
                ("outcome", "new"),
                ("counts", 5),
                ("counts", {"torch": -1}),
                ("layers", [5]),
                ("seconds", 10**400),
                ("seconds", math.nan),
                ("verdicts", {"a": 5}),
            ]
        ),
    ],
    ids=range(17),
)
def test_lines_of_other_kinds_are_left_out_alone(local, line):
    local.put_row(row("a", worker="w"))
    file = Path(local.url, "journal", "w.jsonl")
    file.write_bytes(line + b"\n" + file.read_bytes() + line)  # the last has no end
    assert list(local.rows()) == ["a"]
    local.put_row(row("b", worker="w"))
    assert list(local.rows()) == ["a", "b"]


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.binary(max_size=80) | st.integers(0, 5), max_size=12))
def test_no_row_is_lost_beside_garbage(local, lines):
    file = Path(local.url, "journal", "w.jsonl")
    file.write_bytes(b"")
    for line in lines:
        if isinstance(line, int):
            local.put_row(row(f"m{line}", worker="w"))
        else:
            with open(file, "ab") as stream:
                stream.write(line)
    assert set(local.rows()) == {f"m{line}" for line in lines if isinstance(line, int)}


def test_a_key_of_a_later_version_is_ignored(local):
    local.put_row(row("a", worker="w"))
    file = Path(local.url, "journal", "w.jsonl")
    file.write_text(file.read_text().replace('"row":{', '"row":{"later":1,'))
    assert local.rows() == {"a": row("a", worker="w")}


def test_the_models_of_lost_workers(local):
    local.began("a", "1")
    local.began("b", "1")
    local.put_row(row("a", worker="1"))
    assert local.unfinished() == {"b"}
    local.put_row(row("b", "failed", worker="client"))
    assert local.unfinished() == set()
    local.began("a", "2")
    assert local.unfinished() == {"a"}


def test_a_full_disk_loses_one_row_alone(local, monkeypatch):
    write = os.write
    local.put_row(row("a", worker="w"))
    with monkeypatch.context() as patch:
        parts = iter([20])
        patch.setattr(journal.os, "write", lambda fd, data: write(fd, data[: next(parts)]))
        with pytest.raises((StopIteration, RuntimeError)):
            local.put_row(row("b", worker="w"))
    local.put_row(row("c", worker="w"))
    assert list(local.rows()) == ["a", "c"]


def test_a_sweep_removes_what_killed_writers_left(local):
    fcntl = pytest.importorskip("fcntl", reason="this system has no locks that end with a process")
    work = Path(local.url, "work")
    for name in (".xlstm-0000-dead", ".xlstm-0000-live"):
        (work / name).mkdir()
        (work / name / "model.py").write_text("half")
    descriptor = os.open(work / ".xlstm-0000-live", os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    local.sweep()
    assert [path.name for path in work.iterdir()] == [".xlstm-0000-live"]
    os.close(descriptor)
    local.sweep()
    assert list(work.iterdir()) == []


def test_files_of_others_in_a_port_are_not_replaced(local):
    local.put_port("a", fill())
    mine = Path(local.port_path("a"), "notes.txt")
    mine.write_text("mine")
    for aside in (False, True):
        with pytest.raises(UsageError, match="move them away"):
            local.put_port("a", fill(), aside=aside)
    assert mine.read_text() == "mine"


def test_a_damaged_port_is_replaced(local):
    local.put_port("a", fill({"model.py": b"", "model.safetensors": b""}))
    local.put_port("a", fill())
    assert content(local, "models/a") == PORT


def test_a_port_is_cheap(local):
    """A millisecond or two in the median, however many ports are beside it."""
    times = []
    for number in range(200):
        start = time.process_time()
        local.put_port(f"m{number}", fill())
        local.began(f"m{number}", "w")
        local.put_row(row(f"m{number}", worker="w"))
        times.append(time.process_time() - start)
    assert sorted(times)[100] < 0.01


def test_a_target_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "below", "a\0b"):
        with pytest.raises(UsageError):
            open_target(path).check(JOB)
    with pytest.raises(UsageError, match="an empty text"):
        open_target("")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("nope://x/y", "a protocol that fsspec knows, got nope"),
        ("zip://a::s3://b/c.zip", "a chain of URLs"),
    ],
)
def test_urls_that_are_not_known(url, message):
    with pytest.raises(UsageError, match=message):
        open_target(url)


def test_buckets_that_cannot_be_used(bucket, closed_port, monkeypatch):
    import fsspec

    start = time.monotonic()
    with pytest.raises(UsageError, match="no such bucket, folder or object"):
        open_target("s3://no-such-bucket/out")
    for name, value, message in [
        ("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed_port}", "no connection"),
        ("AWS_ENDPOINT_URL", "http://no.such.host.invalid", "no connection"),
    ]:
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            fsspec.filesystem("s3").clear_instance_cache()
            with pytest.raises(UsageError, match=message) as caught:
                open_target(f"{bucket}/out")
            assert "\n" not in str(caught.value)
    fsspec.filesystem("s3").clear_instance_cache()
    assert time.monotonic() - start < 30


@pytest.fixture
def strict(s3_server):
    """The server, which refuses keys that it does not know until the test ends."""

    def allow(requests):
        reset = f"{s3_server}/moto-api/reset-auth"
        plain = {"Content-Type": "text/plain"}
        urllib.request.urlopen(urllib.request.Request(reset, requests, plain)).close()

    allow(b"0")
    yield
    allow(b"inf")


@pytest.mark.parametrize("key", ["wrong", None])
def test_credentials_that_are_refused(bucket, strict, monkeypatch, tmp_path, key):
    from xlstm.fleets.sources import entries

    if key is None:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
        monkeypatch.setenv("HOME", str(tmp_path))
    start = time.monotonic()
    for work in (lambda: open_target(f"{bucket}/out"), lambda: entries([bucket])):
        with pytest.raises(UsageError, match=r"no (permission|credentials)") as caught:
            work()
        assert "credentials" in caught.value.do
    assert time.monotonic() - start < 20


def test_an_address_in_the_configuration_of_fsspec(bucket, s3_server, monkeypatch):
    import fsspec

    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    own = {"endpoint_url": s3_server, "key": "key", "secret": "secret"}
    monkeypatch.setitem(fsspec.config.conf, "s3", own)
    fsspec.filesystem("s3").clear_instance_cache()
    target = open_target(f"{bucket}/out")
    target.check(JOB)
    target.put_row(row("a"))
    assert list(target.rows()) == ["a"]


def test_a_server_that_never_answers(monkeypatch, memory):
    from fsspec.implementations.memory import MemoryFileSystem

    from xlstm.fleets.storage import remote

    monkeypatch.setattr(remote, "PATIENCE", 0.1)
    monkeypatch.setattr(MemoryFileSystem, "cat_file", lambda *_, **__: time.sleep(1))
    with pytest.raises(UsageError, match="no answer in time"):
        open_target(f"{memory}/out")


def test_a_row_of_every_field_survives(target):
    values = dataclasses.asdict(
        row(
            "a",
            "different",
            sha256="1",
            weights="2",
            architecture="3",
            framework="keras",
            version="3.1",
            container="zip",
            layers=("LSTM",),
            counts={"torch": 2**40},
            verdicts={"float32": {"verdict": "rounding", "ratio": 0.25}},
            unexercised=("x",),
            error={"where": "1", "expected": "2", "got": "3", "do": "4"},
            seconds=0.5,
            cpu_seconds=0.25,
            peak_memory=2**35,
            worker="w",
            attempt=2,
        )
    )
    target.put_row(FleetRow(**values))
    assert dataclasses.asdict(target.rows()["a"]) == values


WRITER = """
import sys
from xlstm.fleets.entry import FleetRow
from xlstm.fleets.storage import open_target

target, worker = open_target(sys.argv[1]), sys.argv[2]

def fill(folder):
    for name in ("model.py", "model.safetensors", "report.json"):
        (folder / name).write_bytes(worker.encode() * 20_000)

print("ready", flush=True)
for number in range(100_000):
    name = f"m{number % 7}"
    target.began(name, worker)
    target.put_port(name, fill)
    target.put_row(FleetRow(name, "p", worker, "job", "equal", worker=worker))
"""


def test_a_killed_writer_leaves_whole_ports_and_rows(local):
    """Ports are read while they are replaced, and after each kill at a random moment."""
    random = np.random.default_rng(7)
    for number in range(4):
        worker = f"w{number}"
        child = subprocess.Popen(
            [sys.executable, "-c", WRITER, local.url, worker], stdout=subprocess.PIPE
        )
        assert child.stdout.readline() == b"ready\n"
        time.sleep(random.uniform(0.01, 0.2))
        child.kill()
        child.communicate()
        rows = local.rows()
        assert local.missing_ports(rows) == set()
        assert len(local.unfinished()) <= number + 1
        for folder in Path(local.url, "models").iterdir():
            found = content(local, f"models/{folder.name}")
            assert set(found) == set(PORT)
            assert len(set(found.values())) == 1
            assert len(next(iter(found.values()))) == 40_000
        local.sweep()
        assert list(Path(local.url, "work").iterdir()) == []
        local.put_row(row("m0", worker=worker))
        assert local.rows()["m0"] == row("m0", worker=worker)
