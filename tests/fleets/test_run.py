"""Fleets from the call to the table: what is done, what is kept, and what ends a worker."""

import dataclasses
import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment
from small_zoo import write_model, write_zoo

import xlstm
from xlstm.errors import FileError, UsageError, XlstmError
from xlstm.fleets import cluster as workers
from xlstm.fleets.entry import FleetEntry, FleetJob, FleetRow
from xlstm.fleets.plan import FleetPlan, plan
from xlstm.fleets.storage import open_target

distributed = pytest.importorskip("distributed", reason="fleets need distributed")


@pytest.fixture(scope="module", autouse=True)
def deadly(tmp_path_factory):
    """An installed adapter that ends its process for certain models."""
    folder = tmp_path_factory.mktemp("site")
    info = folder / "xlstm_deadly-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: xlstm-deadly\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[xlstm.adapters]\ndeadly = deadly_adapter:ADAPTER\n")
    with pytest.MonkeyPatch.context() as patch:
        for path in (Path(__file__).parent, folder):
            patch.syspath_prepend(str(path))
        patch.setenv("DEADLY_MARK", str(folder / "mark"))
        yield


@pytest.fixture(scope="module")
def local(deadly):
    """A cluster with two workers, as somebody else starts it."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    ) as found:
        yield found


@pytest.fixture
def scheduler(local):
    """The address of its scheduler."""
    return local.scheduler_address


@pytest.fixture
def zoo(tmp_path):
    """Four models, one of them broken."""
    folder = write_zoo(tmp_path / "zoo", a="lstm", b="lstm", c="other")
    (folder / "broken.h5").write_text("no model")
    return folder


def names(entries):
    return [entry.name for entry in entries]


def test_a_fleet_is_ported_verified_and_counted(zoo, tmp_path, scheduler):
    lines = []
    found = xlstm.fleet(
        zoo, "torch", tmp_path / "out", verify=True, scheduler=scheduler, progress=lines.append
    )
    assert found.counts == {"equal": 3, "refused": 1}
    assert not found.ok
    assert found.summary() == "4 models to PyTorch: 3 equal, 1 refused."
    assert "refused: broken: expected a Keras model" in found.text()
    assert any(line.startswith("[4/4] 3 equal, 1 refused") for line in lines)
    rows = found.rows
    assert {name: row.outcome for name, row in rows.items()} == found.outcomes
    assert rows["a"].verdicts["float32"]["verdict"] in ("equal", "rounding")
    for name in "abc":
        port = xlstm.load(tmp_path / "out" / "models" / name)
        assert port.layers[0].name == ("other" if name == "c" else "lstm")
    data = json.loads(json.dumps(found.to_json()))
    assert (data["ok"], data["counts"], data["models"]) == (False, found.counts, 4)
    assert data["reasons"][0]["got"].keys() == {"broken"}


def test_a_second_run_does_what_is_missing_changed_or_failed(zoo, tmp_path, scheduler):
    run = lambda **options: xlstm.fleet(  # noqa: E731
        zoo, "torch", tmp_path / "out", scheduler=scheduler, **options
    )
    assert run().plan.counts()["new"] == 4
    table = (tmp_path / "out" / "fleet.jsonl").read_bytes()
    again = run()
    assert not again.plan.todo
    assert again.counts == {"ported": 3, "refused": 1}
    assert (tmp_path / "out" / "fleet.jsonl").read_bytes() == table

    write_model(zoo / "a.keras", "changed")
    os.utime(zoo / "a.keras", (1, 1))
    shutil.rmtree(tmp_path / "out" / "models" / "b")
    write_model(zoo / "new.keras")
    third = run()
    assert {name: names(getattr(third.plan, name)) for name in third.plan.counts()} == {
        "new": ["new"],
        "changed": ["a"],
        "failed": ["b"],
        "retried": [],
        "refused": ["broken"],
        "done": ["c"],
    }
    assert third.counts == {"ported": 4, "refused": 1}
    assert xlstm.load(tmp_path / "out" / "models" / "a").layers[0].name == "changed"
    fourth = run(retry_refused=True)
    assert names(fourth.plan.todo) == ["broken"]

    (zoo / "a.keras").write_text("no model any more")
    assert run().counts == {"ported": 3, "refused": 2}
    assert not (tmp_path / "out" / "models" / "a").exists()


def test_a_dry_run_writes_nothing_and_estimates(zoo, tmp_path):
    found = xlstm.fleet(zoo, "torch", tmp_path / "out", dry_run=True, workers=1)
    assert found.ok
    assert not (tmp_path / "out").exists()
    first, last = found.text().splitlines()
    assert first == "To do: 4 of 4 models to PyTorch (4 new)."
    assert last.endswith("from a sample of 4 models.")
    assert found.plan.seconds > 0
    assert found.to_json()["plan"]["new"] == ["a", "b", "broken", "c"]


def test_a_model_that_ends_its_worker_takes_no_other_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 2**30)
    good = {f"good{number}": "lstm" for number in range(8)}
    bad = {name: name for name in ("eat", "hang", "no", "once")}
    zoo = write_zoo(tmp_path / "zoo", **good, **bad)
    found = xlstm.fleet(zoo, "deadly", tmp_path / "out", workers=2, seconds=5)
    rows = found.rows
    failed = {name: row.error["got"] for name, row in rows.items() if row.outcome == "failed"}
    assert failed == {
        "eat": "its worker ran out of memory, 2 times",
        "hang": "no end after 5 s, 2 times",
    }
    assert {name for name, row in rows.items() if row.attempt == 2} == {*failed, "once"}
    assert rows["no"].outcome == "refused"
    assert {rows[name].outcome for name in (*good, "once")} == {"ported"}
    assert sorted(path.name for path in (tmp_path / "out" / "models").iterdir()) == [*good, "once"]
    assert not list((tmp_path / "out" / "work").iterdir())


def test_whatever_a_scheduler_allows_an_attempt_loses_one_worker(tmp_path, local):
    zoo = write_zoo(tmp_path / "zoo", **{f"good{n}": "lstm" for n in range(4)}, kill="kill")
    assert local.scheduler.allowed_failures > 1
    deaths = Deaths([])
    local.scheduler.add_plugin(deaths)
    found = xlstm.fleet(zoo, "deadly", tmp_path / "out", scheduler=local.scheduler_address)
    assert found.counts == {"ported": 4, "failed": 1}
    assert found.rows["kill"].error["got"] == "its worker ended, 2 times"
    assert len(deaths.lost) == 2


class Deaths(distributed.SchedulerPlugin):
    """Notes each worker that is lost."""

    def __init__(self, lost):
        self.lost = lost

    def remove_worker(self, scheduler, worker, **_more):
        """Notes one."""
        self.lost.append(worker)


JOB, VERIFIED = FleetJob("torch"), FleetJob("torch", verify=True)
ENTRY = FleetEntry("a", "a.h5", "1")
ROW = FleetRow("a", "a.h5", "1", JOB.digest(ENTRY), "ported")


@pytest.mark.parametrize(
    ("row", "options", "group"),
    [
        (None, {}, "new"),
        (ROW, {}, "done"),
        (dataclasses.replace(ROW, outcome="equal"), {}, "done"),
        (dataclasses.replace(ROW, stamp="2"), {}, "changed"),
        (dataclasses.replace(ROW, job="other"), {}, "changed"),
        (dataclasses.replace(ROW, outcome="failed"), {}, "failed"),
        (dataclasses.replace(ROW, outcome="different"), {}, "failed"),
        (dataclasses.replace(ROW, outcome="undecided"), {}, "failed"),
        (dataclasses.replace(ROW, outcome="refused"), {}, "refused"),
        (dataclasses.replace(ROW, outcome="refused"), {"retry_refused": True}, "retried"),
        (dataclasses.replace(ROW, outcome="refused", stamp="2"), {}, "changed"),
        (dataclasses.replace(ROW, outcome="equal", job=VERIFIED.digest(ENTRY)), {}, "done"),
        (dataclasses.replace(ROW, outcome="different", job=VERIFIED.digest(ENTRY)), {}, "changed"),
    ],
)
def test_a_row_decides_what_a_run_does(row, options, group):
    rows = {} if row is None else {"a": row}
    found = plan([ENTRY], rows, JOB, set(), **options)
    assert getattr(found, group) == (ENTRY,)
    assert bool(found.todo) == (group not in ("done", "refused"))


def test_a_missing_port_is_done_again():
    assert plan([ENTRY], {"a": ROW}, JOB, {"a"}).failed == (ENTRY,)


def test_a_larger_limit_takes_models_that_were_too_large():
    entry = dataclasses.replace(ENTRY, size=100)
    small = FleetJob("torch", largest=10)
    refused = dataclasses.replace(ROW, outcome="refused", job=small.digest(entry))
    assert plan([entry], {"a": refused}, small, set()).refused == (entry,)
    assert plan([entry], {"a": refused}, JOB, set()).changed == (entry,)
    good = dataclasses.replace(ROW, job=JOB.digest(entry))
    assert plan([entry], {"a": good}, small, set()).done == (entry,)


def test_a_port_is_never_replaced_by_a_port_of_itself(zoo, tmp_path):
    target = open_target(tmp_path / "out")
    target.check(FleetJob("torch"))
    write_model(tmp_path / "out" / "models" / "a.keras")
    for source in (tmp_path / "out", tmp_path / "out" / "models" / "a.keras"):
        with pytest.raises(UsageError, match="expected sources outside the target"):
            xlstm.fleet(source, "torch", tmp_path / "out")


def test_a_plan_in_words():
    found = FleetPlan(
        new=(ENTRY,), refused=(ENTRY,) * 2, done=(ENTRY,) * 1000, seconds=90, sample=1
    )
    assert found.text("PyTorch").splitlines() == [
        "To do: 1 of 1,003 models to PyTorch (1 new).",
        "Kept: 1,000 done, 2 refused (--retry-refused does them again).",
        "About 1 min 30 s, from a sample of 1 model.",
    ]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"scheduler": "tcp://127.0.0.1:PORT"}, "got no answer in 5 s; start one"),
        ({"scheduler": "nonsense"}, "expected the address of a Dask scheduler"),
        ({"scheduler": "tcp://127.0.0.1:PORT", "workers": 2}, "got both"),
        ({"to": "numpy"}, "expected a framework that ports are written for, got numpy"),
        ({"to": "toorch"}, "toorch"),
        ({"seconds": 0}, "fleet, seconds: expected a number above 0, got 0"),
        ({"memory": -1.0}, "fleet, memory: expected a number above 0"),
        ({"target": "foreign"}, "expected an empty target, or one of a fleet"),
        ({"target": "of_keras"}, "expected the target of a fleet to torch, got one to keras"),
        ({"sources": []}, "expected models, got no sources"),
    ],
)
def test_one_clear_error_before_any_work(options, text, zoo, tmp_path, closed_port):
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "mine.txt").write_text("mine")
    open_target(tmp_path / "of_keras").check(FleetJob("keras"))
    arguments = {"sources": zoo, "to": "torch", "target": "out", **options}
    arguments["target"] = tmp_path / arguments["target"]
    if "scheduler" in arguments:
        arguments["scheduler"] = arguments["scheduler"].replace("PORT", str(closed_port))
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as error:
        xlstm.fleet(**arguments)
    assert text in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("kind", [FileError, UsageError, XlstmError])
def test_an_error_of_a_worker_is_the_same_in_the_client(kind):
    error = kind("a.h5", "a file", "x" * 1000, "check\nit")
    again = pickle.loads(pickle.dumps(error))  # of this test
    assert (type(again), str(again)) == (kind, str(error))


def test_sources_that_are_not_there(tmp_path):
    with pytest.raises(FileError, match="no such file"):
        xlstm.fleet(tmp_path / "nothing", "torch", tmp_path / "out")
    (tmp_path / "list.csv").write_text("path,name\nmissing.h5,a\n")
    with pytest.raises((FileError, UsageError), match=r"missing\.h5"):
        xlstm.fleet(tmp_path / "list.csv", "torch", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_fleets_into_one_target(zoo, tmp_path):
    target = open_target(tmp_path / "out")
    target.check(FleetJob("torch"))
    with target.locked(), pytest.raises(UsageError, match="fleet"):
        xlstm.fleet(zoo, "torch", tmp_path / "out")
    assert not target.rows()


def test_another_version_on_the_workers_is_named(zoo, tmp_path, scheduler, monkeypatch):
    monkeypatch.setattr(workers, "VERSION", "0.0.9")
    with pytest.raises(UsageError, match=r"expected xlstm 0\.0\.9, got xlstm \d.*pip install"):
        xlstm.fleet(zoo, "torch", tmp_path / "out", scheduler=scheduler)
    assert not open_target(tmp_path / "out").rows()


def test_our_own_cluster_listens_on_this_machine_alone():
    psutil = pytest.importorskip("psutil", reason="distributed brings psutil")
    with workers.connected(None, 1, JOB) as cluster:
        (address,) = cluster.workers()
        us = [psutil.Process(), psutil.Process(cluster.process(address))]
        found = [one for process in us for one in process.net_connections("tcp")]
    hosts = {one.laddr.ip for one in found if one.status == "LISTEN"}
    assert hosts == {"127.0.0.1"}


def test_a_script_that_its_workers_run_again_is_refused(zoo, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        f"import xlstm\nxlstm.fleet({str(zoo)!r}, 'torch', {str(tmp_path / 'out')!r})\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 1
    assert "expected workers that start, got its worker exited with status 1" in done.stderr
    assert 'below `if __name__ == "__main__":`' in done.stderr


def test_a_fleet_from_and_to_a_bucket(bucket, zoo, tmp_path):
    import fsspec

    files = fsspec.filesystem("s3")
    for path in zoo.iterdir():
        files.put_file(str(path), f"{bucket}/zoo/{path.name}")
    run = lambda: xlstm.fleet(  # noqa: E731
        f"{bucket}/zoo", "torch", f"{bucket}/ports", workers=1
    )
    assert run().counts == {"ported": 3, "refused": 1}
    again = run()
    assert again.counts == {"ported": 3, "refused": 1}
    assert not again.plan.todo
    files.get(f"{bucket}/ports/models/a", str(tmp_path / "a"), recursive=True)
    assert xlstm.load(tmp_path / "a").layers[0].name == "lstm"
