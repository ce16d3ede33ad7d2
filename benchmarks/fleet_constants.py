"""Measures the constants of a fleet on this machine, for `fleet_simulation.py measure`.

Nothing else should run meanwhile. All is measured on real parts: a fleet over files of 20
architectures, Dask's scheduler with batches of 64 models, and a server of the S3 protocol.
"""

from __future__ import annotations

import logging
import os
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from fleet_zoo import make_zoo

import xlstm
from xlstm.fleets.cluster import connected
from xlstm.fleets.entry import FleetEntry, FleetJob, FleetRow

MODELS = 1_000
"""Models of the fleet."""

BATCH = 64
"""Models of a batch."""

BATCHES = 300
"""Batches that go through the scheduler."""

SHARES = 101
"""Quantiles of the seconds of a model that are kept."""


def measure() -> dict[str, Any]:
    """All constants of `fleet_simulation.Costs`, and sizes of rows."""
    with tempfile.TemporaryDirectory() as work:
        files = make_zoo(Path(work, "zoo"), MODELS)
        found = fleet_of(Path(work, "zoo"), Path(work, "target"))
        entries = [FleetEntry(file.stem, str(file), "1", file.stat().st_size) for file in files]
        requests = requests_of(entries[:20])
    return {**found, **scheduler_of(entries[:BATCH]), "requests": requests}


def fleet_of(zoo: Path, target: Path) -> dict[str, Any]:
    """Seconds of the models of a fleet, and the bytes of its rows."""
    result = xlstm.fleet(zoo, "torch", target, verify=True)
    if result.counts != {"equal": MODELS}:
        raise RuntimeError(f"not all are equal: {result.counts}")
    seconds = sorted(row.seconds for row in result.rows.values())
    cuts = [seconds[round(share * (MODELS - 1) / (SHARES - 1))] for share in range(SHARES)]
    journals = sum(file.stat().st_size for file in (target / "journal").iterdir())
    return {
        "models": MODELS,
        "seconds": [float(f"{value:.3g}") for value in cuts],
        "parquet_row": round((target / "fleet.parquet").stat().st_size / MODELS),
        "journal_row": round(journals / MODELS),
    }


def echo(_entries: list[FleetEntry], rows: list[FleetRow]) -> list[FleetRow]:
    """The task of a worker that has nothing to do: rows of the usual size."""
    return rows


def hold(_entries: list[FleetEntry]) -> None:
    """The task of a worker that is busy."""
    time.sleep(60)


def scheduler_of(entries: list[FleetEntry]) -> dict[str, Any]:
    """Seconds until a worker is ready, and of a batch, and bytes of a task that waits."""
    job = FleetJob("torch", verify=True)
    verdict = {"verdict": "rounding", "outcome": "equal", "max_abs": 1e-8, "bound": 1e-6}
    both = {"float32": verdict, "float64": verdict}
    rows = [
        FleetRow(entry.name, entry.path, "1", "job", "equal", "0" * 64, verdicts=both)
        for entry in entries
    ]
    start = time.monotonic()
    with connected(None, 1, job) as cluster:
        cluster.prepare()
        ready = time.monotonic() - start
        client = cluster._client
        client.submit(echo, entries, rows, pure=False).result()
        # the scheduler is a thread of this process: its time is counted with the client's
        before = time.process_time()
        for _ in range(BATCHES):
            client.submit(echo, entries, rows, pure=False).result()
        batch = (time.process_time() - before) / BATCHES
        memory = resident()
        futures = [client.submit(hold, entries, pure=False) for _ in range(2_000)]
        time.sleep(3)
        task = (resident() - memory) / len(futures)
        client.cancel(futures)
    return {"start": round(ready, 2), "dispatch": round(batch, 5), "task_bytes": round(task)}


def resident() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


class _Lines(logging.Handler):
    """Counts the requests that a server of werkzeug logs."""

    count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Counts one line."""
        self.count += "HTTP/1.1" in record.getMessage()


def requests_of(entries: list[FleetEntry]) -> float:
    """Requests to an object store for a model: its source, its port and its row."""
    import fsspec
    from moto.server import ThreadedMotoServer

    from xlstm.fleets.sources import entries as entries_of
    from xlstm.fleets.storage import open_target
    from xlstm.fleets.work import do_models

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    lines = _Lines()
    logging.getLogger("werkzeug").addHandler(lines)
    logging.getLogger("werkzeug").setLevel(logging.INFO)
    try:
        files = fsspec.filesystem("s3", use_listings_cache=False)
        files.mkdir("fleet")
        for entry in entries:
            files.put(entry.path, f"fleet/zoo/{Path(entry.path).name}")
        job = FleetJob("torch")
        target = open_target("s3://fleet/ported")
        target.check(job)
        listed = entries_of(["s3://fleet/zoo"])
        counts = []
        for entry in listed:
            before = lines.count
            (row,) = do_models(job, target, [entry])
            if row.outcome != "ported":
                raise RuntimeError(f"{row.error}")
            counts.append(lines.count - before)
    finally:
        server.stop()
    return float(statistics.median(counts))
