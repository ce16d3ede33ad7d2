"""A framework that kills the process: the others are compared, and the crash is a line."""

import json
import signal
import subprocess
import sys

import pytest
from processes import command, environment, run

import xlstm

CODE = """
import sys
sys.path.insert(0, sys.argv[1])
sys.argv = ["xlstm", *sys.argv[2:]]
from xlstm.cli.main import main
sys.exit(main())
"""
DEMO = xlstm.demo.path()
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems are not safe to fork")


def fake_torch(folder, text):
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(f"import os, signal, time\n{text}\n")
    return folder


@linux
def test_a_crash_hides_no_other(tmp_path):
    folder = fake_torch(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    done = run(CODE, folder, "verify", DEMO, "--frameworks", "torch,nnx", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["frameworks"]
    assert found["nnx"]["float64"]["verdict"] == "rounding"
    assert found["torch"]["float64"]["verdict"] == "failed"
    assert "SIGSEGV" in found["torch"]["float64"]["detail"]
    assert found["torch"]["what"] == "nothing ran"


@linux
def test_a_command_that_is_ended_takes_its_child_along(tmp_path):
    folder = fake_torch(tmp_path, "print('here', os.getpid(), flush=True); time.sleep(300)")
    words = command(CODE, folder, "verify", DEMO, "--frameworks", "torch")
    with subprocess.Popen(words, stdout=subprocess.PIPE, env=environment(), text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("here")
        process.send_signal(signal.SIGKILL)
        assert process.stdout.read() == ""  # the child, which would sleep on, is gone as well
    assert process.returncode == -signal.SIGKILL


NO_FORK = f"""
import sys
from xlstm.cli import guard
guard.can_fork = lambda: False
{CODE}"""


def test_a_new_interpreter_reports_a_crash_where_processes_cannot_fork(tmp_path, monkeypatch):
    folder = fake_torch(tmp_path, "os.kill(os.getpid(), signal.SIGSEGV)")
    monkeypatch.setenv("PYTHONPATH", str(folder))
    done = run(NO_FORK, folder, "verify", DEMO, "--frameworks", "torch,nnx", "--json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)["frameworks"]
    assert found["nnx"]["float64"]["verdict"] == "rounding"
    assert "SIGSEGV" in found["torch"]["float64"]["detail"]


def test_a_new_interpreter_gives_its_status(tmp_path):
    done = run(NO_FORK, tmp_path, "verify", DEMO, "--frameworks", "nnx")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Equal up to rounding: Flax NNX.\n")
    done = run(NO_FORK, tmp_path, "verify", "missing.keras", "--frameworks", "nnx")
    assert done.returncode == 2
    assert done.stderr.startswith("xlstm: missing.keras: ")
    assert done.stderr.count("\n") == 1


WINDOWS = """
import multiprocessing, os, signal, subprocess, sys, tempfile
import numpy
for name in ("SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGALRM", "pthread_sigmask"):
    delattr(signal, name)
for name in ("fork", "forkpty", "getuid", "geteuid", "sched_getaffinity", "O_NOFOLLOW"):
    delattr(os, name)
sys.platform = "win32"
sys.modules["resource"] = sys.modules["fcntl"] = None
sys.argv = ["xlstm", *sys.argv[1:]]
from xlstm.__main__ import main
sys.exit(main())
"""


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["count", DEMO],
        ["inspect", DEMO],
        ["explain", "LSTM", "--features", 1, "--units", 20],
        ["port", DEMO, "--to", "torch", "--no-verify", "-o", "ported"],
        ["verify", DEMO, "--frameworks", "nnx"],
        ["diagnose", DEMO, DEMO],
    ],
    ids=lambda words: words[0],
)
def test_commands_run_without_what_windows_lacks(tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    done = run(WINDOWS, *words)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


LITTLE = f"""
import resource
from xlstm.frameworks import crashes as crashing
crashing.IMPORTING = 1
resource.setrlimit(resource.RLIMIT_AS, (2**35, resource.RLIM_INFINITY))
{CODE}"""
# a second of processor time is too little for an import that coverage traces on a busy machine
PATIENT = LITTLE.replace("crashing.IMPORTING = 1", "crashing.IMPORTING = 60")


@linux
def test_an_import_that_goes_round_for_want_of_memory_is_ended(tmp_path):
    folder = fake_torch(tmp_path, "while True: pass")
    done = run(LITTLE, folder, "port", DEMO, "--to", "torch", "-o", tmp_path / "port")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("xlstm: torch ended the process (SIGXCPU), perhaps because")


@linux
def test_an_import_that_waits_for_want_of_memory_is_ended(tmp_path):
    folder = fake_torch(tmp_path, "import threading; threading.Event().wait()")
    code = PATIENT.replace("crashing.IMPORTING = 60", "crashing.WAITING = 1")
    done = run(code, folder, "port", DEMO, "--to", "torch", "-o", tmp_path / "port")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("xlstm: torch ended the process (SIGALRM), perhaps because")


@linux
def test_a_limit_of_processor_time_is_put_back(tmp_path):
    limit = "import resource; print(resource.getrlimit(resource.RLIMIT_CPU), flush=True)"
    folder = fake_torch(
        tmp_path, f"{limit}; import atexit; atexit.register(lambda: exec({limit!r}))"
    )
    done = run(PATIENT, folder, "port", DEMO, "--to", "torch", "-o", tmp_path / "port")
    within, after = [eval(line) for line in done.stdout.splitlines() if line.startswith("(")]
    assert within[0] > 0
    assert after == (-1, -1)


def test_the_status_of_the_child_is_the_commands():
    done = run(CODE, "none", "verify", "missing.keras", "--frameworks", "torch")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("xlstm: missing.keras: ")
    assert done.stderr.count("\n") == 1
