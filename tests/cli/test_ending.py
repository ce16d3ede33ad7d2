"""How a command ends: one line and a status that means something, whatever happens to it."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from processes import environment

import xlstm
from xlstm import __main__
from xlstm.errors import UsageError
from xlstm.frameworks.command_exit import ended

DEMO = str(xlstm.demo.path())
WEIGHTS = Path(__file__).parents[1] / "data" / "k224" / "lstm_w.h5"
linux = pytest.mark.skipif(sys.platform != "linux", reason="other systems are not safe to fork")
INTERRUPTED = "xlstm: interrupted\n"


def words(*args):
    return [sys.executable, "-m", "xlstm", *map(str, args)]


def shell(line, *args, **variables):
    """Runs the shell's `line`, in which "$@" is the command."""
    command = ["sh", "-c", line, "sh", *words(*args)]
    env = {**environment(), **variables}
    # a disk that is full is full for coverage's own file too
    env = {name: value for name, value in env.items() if not name.startswith("COVERAGE_")}
    return subprocess.run(command, capture_output=True, text=True, env=env, check=False)


PICTURE = ("explain", "LSTM", "--features", 1, "--units", 2, "--svg", "/dev/full")
STREAMS = {
    "no-stdout": (("count", DEMO), '"$@" >&-', 0, ""),
    "no-stdout-cannot": (("count", "missing"), '"$@" >&-', 2, "xlstm: missing: "),
    "no-stderr": (("count", "missing"), '"$@" 2>&-', 2, ""),
    "no-stdin": (("count", DEMO), '"$@" <&-', 0, ""),
    "none": (("count", DEMO), '"$@" <&- >&- 2>&-', 0, ""),
    "none-cannot": (("count", "missing"), '"$@" <&- >&- 2>&-', 2, ""),
    "none-compared": (("diagnose", DEMO, DEMO), '"$@" <&- >&- 2>&-', 0, ""),
    "full-stdout": (("count", DEMO), '"$@" >/dev/full', 2, "xlstm: "),
    "full-stderr": (("count", "missing"), '"$@" 2>/dev/full', 2, ""),
    "full-help": (("--help",), '"$@" >/dev/full', 2, "xlstm: stdout: "),
    "full-file": (PICTURE, '"$@"', 2, f"xlstm: /dev/full: {os.strerror(errno.ENOSPC)}\n"),
}


@pytest.mark.parametrize("case", STREAMS)
def test_streams_that_are_closed_or_full(case):
    args, line, status, start = STREAMS[case]
    done = shell(line, *args)
    assert done.returncode == status
    assert done.stderr.startswith(start)
    assert done.stderr.count("\n") == bool(start)
    assert "xlstm: " not in done.stdout, "an error is no output"


FOUND = """
import xlstm.diagnosis

class Found:
    ok = {ok}
    def to_json(self):
        return ["x" * 80] * 10_000

xlstm.diagnosis.diagnose = lambda *_, **_more: Found()
"""


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("ok", [True, False])
def test_a_reader_that_goes_away_changes_no_status(ok, unbuffered, tmp_path):
    (tmp_path / "own.py").write_text(FOUND.format(ok=ok))
    args = ("diagnose", DEMO, DEMO, "--json", "--custom", tmp_path / "own.py")
    line = '("$@"; echo "status $?" >&2) | head -c 5'
    done = shell(line, *args, PYTHONUNBUFFERED=unbuffered)
    assert (done.stdout, done.stderr) == ('[\n "x', f"status {int(not ok)}\n")


@pytest.mark.parametrize(("to", "blocks"), [("torch", 0), ("torch", 1), ("torch", 4), ("keras", 8)])
def test_a_disk_that_is_full_leaves_nothing(to, blocks, tmp_path):
    """A limit of 512 or 1024 bytes each on what may be written to one file."""
    args = ("port", DEMO, "--to", to, "--no-verify", "-o", tmp_path / "port")
    done = shell(f'ulimit -f {blocks}; "$@"', *args, PYTHONDONTWRITEBYTECODE="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"xlstm: {tmp_path / 'port'}: ")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def started(folder, torch, *args):
    """A command that imports a `torch` of ours, once that has said so; and the process it is in."""
    package = folder / "torch"
    package.mkdir()
    start = "import os, signal, time\nprint('here', os.getpid(), flush=True)\n"
    (package / "__init__.py").write_text(start + torch)
    env = environment()
    env["PYTHONPATH"] = os.pathsep.join([str(folder), env["PYTHONPATH"]])
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(words(*args), env=env, start_new_session=True, **pipes)
    said, pid = process.stdout.readline().split()
    assert said == "here"
    return process, int(pid)


SENT = {
    "group": lambda process, _pid: os.killpg(process.pid, signal.SIGINT),
    "command": lambda process, _pid: process.send_signal(signal.SIGINT),
    "importer": lambda _process, pid: os.kill(pid, signal.SIGINT),
}
IMPORTS = {
    "waits": "time.sleep(300)",
    "makes-it-an-import-error": (
        "try:\n    time.sleep(300)\n"
        "except KeyboardInterrupt:\n    raise ImportError('initialization failed')"
    ),
    "swallows-it": "try:\n    time.sleep(300)\nexcept KeyboardInterrupt:\n    pass",
    "cannot-raise-it": (
        "class Last:\n    def __del__(self):\n        time.sleep(300)\nlast = Last()\ndel last"
    ),
}


CASES = [(command, sent, "waits") for command in ("port", "verify") for sent in SENT]
CASES += [(command, "group", does) for command in ("port", "verify") for does in IMPORTS]


@linux
@pytest.mark.parametrize(("command", "sent", "does"), sorted(set(CASES)))
def test_ctrl_c_while_a_framework_is_imported(command, sent, does, tmp_path):
    args = {
        "port": ("port", DEMO, "--to", "torch", "-o", tmp_path / "port"),
        "verify": ("verify", DEMO, "--frameworks", "torch"),
    }[command]
    process, pid = started(tmp_path, IMPORTS[does], *args)
    SENT[sent](process, pid)
    out, err = process.communicate()
    assert (process.returncode, err) == (130, INTERRUPTED)
    assert not out or command == "verify", "one that was asked to end has no result"
    assert [item.name for item in tmp_path.iterdir()] == ["torch"]


@linux
@pytest.mark.parametrize("command", ["port", "verify"])
def test_a_second_ctrl_c_ends_it_at_once(command, tmp_path):
    args = {
        "port": ("port", DEMO, "--to", "torch", "-o", tmp_path / "port"),
        "verify": ("verify", DEMO, "--frameworks", "torch"),
    }[command]
    text = (
        "while True:\n    try:\n        print('ready', flush=True)\n        time.sleep(300)\n"
        "    except KeyboardInterrupt:\n        pass"
    )
    process, _pid = started(tmp_path, text, *args)
    for _ in range(2):
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "")  # both are gone
    assert process.returncode == 130


def test_ctrl_c_is_ignored_where_the_caller_says_so(tmp_path):
    (tmp_path / "own.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    done = shell("trap '' INT; \"$@\"", "count", DEMO, "--custom", tmp_path / "own.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert "2,180" in done.stdout


def test_ctrl_c_before_the_command_line_is_read(monkeypatch, capsys):
    class Finder:
        def find_spec(self, name, *_more):
            if name == "xlstm.cli.main":
                raise KeyboardInterrupt

    monkeypatch.delitem(sys.modules, "xlstm.cli.main", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Finder(), *sys.meta_path])
    assert __main__.main(["count", DEMO]) == 130
    assert capsys.readouterr() == ("", INTERRUPTED)


@pytest.mark.parametrize("command", [True, False])
def test_ctrl_c_while_xlstm_itself_is_imported(command):
    """One line for the command; a program of a user that imports xlstm keeps Python's own way."""
    name = ["python", "-m", "xlstm"] if command else ["python", "train.py"]
    code = f"import os, signal, sys\nsys.orig_argv = {name}\nimport xlstm\n"
    code += "os.kill(os.getpid(), signal.SIGINT)\nimport time\ntime.sleep(60)"
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
    if command:
        assert (done.returncode, done.stderr) == (130, INTERRUPTED)
    else:
        assert "KeyboardInterrupt" in done.stderr


def test_reading_the_command_line_imports_no_numpy():
    code = "import sys, xlstm.__main__, xlstm.cli.main; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], env=environment()).returncode == 0


MEBIBYTES = [64, 100, 130, 155, 165, 180, 256, 4096]


@linux
@pytest.mark.parametrize("mebibytes", MEBIBYTES)
def test_little_memory_is_one_line_or_enough(mebibytes):
    line = f'ulimit -v {mebibytes * 1024}; exec "$@"'
    # threads of OpenBLAS want memory for each core of the machine
    done = shell(line, "count", DEMO, OPENBLAS_NUM_THREADS="1")
    if mebibytes == MEBIBYTES[-1]:
        assert (done.returncode, done.stderr) == (0, "")
    if mebibytes == MEBIBYTES[0]:
        assert done.returncode == 2
    if done.returncode:
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("xlstm: ")
        assert done.stderr.count("\n") == 1


@linux
def test_a_framework_that_gets_no_memory_is_one_line(tmp_path):
    args = ("port", DEMO, "--to", "torch", "-o", tmp_path / "port")
    line = f'ulimit -v {320 * 1024}; exec "$@"'
    done = shell(line, *args, OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("xlstm: PyTorch: expected a package that can be imported")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


@linux
def test_a_library_that_ends_the_process_is_one_line(tmp_path):
    (tmp_path / "torch").mkdir()
    for end, said in (("os._exit(1)", "exit status 1"), ("os.abort()", "SIGABRT")):
        (tmp_path / "torch" / "__init__.py").write_text(f"import os\n{end}\n")
        path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
        args = ("port", DEMO, "--to", "torch", "-o", tmp_path / "port")
        done = shell('ulimit -v 8388608; exec "$@"', *args, PYTHONPATH=path)
        want = f"xlstm: torch ended the process ({said}), perhaps because memory ran out\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", want)


def raising(error):
    def command():
        raise error

    return command


EXPECTED = {
    "ours": (UsageError("a", "b", "c", "d"), "xlstm: a: expected b, got c; d\n"),
    "memory": (MemoryError(), "xlstm: out of memory; "),
    "numpy's-memory": (MemoryError("Unable to allocate\n1 GiB"), "xlstm: out of memory (Unable"),
    "disk": (OSError(errno.ENOSPC, "No space left on device", "f"), "xlstm: f: No space left"),
    "library": (ImportError("read\nthis", name="np"), "xlstm: cannot import np: this; "),
    "threads": (RuntimeError("can't start new thread"), "xlstm: can't start new thread; "),
    "ctrl-c": (KeyboardInterrupt(), INTERRUPTED),
}


@pytest.mark.parametrize("case", EXPECTED)
def test_what_a_user_or_a_machine_causes_is_one_line(case, capsys, monkeypatch):
    monkeypatch.setattr("xlstm.frameworks.command_exit._told", [])
    error, start = EXPECTED[case]
    assert ended(raising(error)) == (130 if case == "ctrl-c" else 2)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(start)
    assert err.count("\n") == 1


def test_a_mistake_of_ours_shows_its_traceback_and_is_not_not_equal(capsys):
    assert ended(raising(KeyError("units"))) == 2
    err = capsys.readouterr().err
    assert "KeyError: 'units'" in err
    assert err.splitlines()[-1].startswith("xlstm: this is a mistake in xlstm; ")


BACKENDS = {
    "unknown": ("caffe", "'caffe'"),
    "hostile": ("a\x1b[2J\nb", "b"),
    "not-installed": ("openvino", "not installed"),
}


@pytest.mark.parametrize("case", BACKENDS)
@pytest.mark.parametrize("command", ["port", "verify"])
def test_a_backend_that_keras_cannot_import(command, case, tmp_path):
    args = {
        "port": ("port", DEMO, "--to", "keras", "-o", tmp_path / "port"),
        "verify": ("verify", DEMO, "--frameworks", "keras"),
    }[command]
    name, word = BACKENDS[case]
    done = shell('"$@"', *args, KERAS_BACKEND=name)
    assert (done.returncode, done.stdout) == (2, "")
    start = "xlstm: KERAS_BACKEND: expected one of tensorflow, torch, jax, numpy, openvino, got"
    assert done.stderr.startswith(start)
    assert word in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_backend_of_no_name_is_none():
    code = "import os\nfrom xlstm.frameworks import registry\nregistry.adapter('keras').live()\n"
    code += "import keras\nprint(keras.backend.backend(), repr(os.environ['KERAS_BACKEND']))"
    env = {**environment(), "KERAS_BACKEND": ""}
    line = [sys.executable, "-c", code]
    done = subprocess.run(line, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "tensorflow ''\n", done.stderr


@pytest.mark.parametrize("text", ["9" * 4000, "9" * 5000, "0x" + "f" * 4000, "\udcff"])
@pytest.mark.parametrize("option", ["--features", "--units", "--layers", "--projection"])
def test_numbers_of_any_length(option, text, capsys):
    from xlstm.cli.main import main

    args = ["explain", "LSTM", "--features", "1", "--units", "2", option, text]
    try:
        status = main(args)
    except SystemExit as left:  # argparse
        status = left.code
    out, err = capsys.readouterr()
    assert (status, out) == (2, "")
    assert all(len(line) < 1000 for line in err.splitlines())


@pytest.mark.parametrize("case", ["count", "--architecture", "--custom", "--until", "-o"])
def test_arguments_that_are_no_text(case, tmp_path):
    name = os.fsdecode(b"\xff\xfe")
    args = {
        "count": ("count", name),
        "--architecture": ("count", WEIGHTS, "--architecture", name),
        "--custom": ("count", DEMO, "--custom", name),
        "-o": ("port", DEMO, "--to", name, "-o", tmp_path / name),
    }.get(case, ("count", DEMO, case, name))
    done = shell('"$@"', *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert "\\udcff" in done.stderr
    assert done.stderr.count("\n") == 1


@linux
def test_an_import_that_breaks_for_want_of_memory_is_one_line(tmp_path):
    """As numpy's does at some limits: the module `datetime` has no attribute `datetime_CAPI`."""
    (tmp_path / "numpy.py").write_text("import os\nos.datetime_CAPI\n")
    path = os.pathsep.join([str(tmp_path), environment()["PYTHONPATH"]])
    said = "module 'os' has no attribute 'datetime_CAPI'"
    done = shell('ulimit -v 8388608; exec "$@"', "count", DEMO, PYTHONPATH=path)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr == f"xlstm: {said}; allow this process more memory\n"
    done = shell('exec "$@"', "count", DEMO, PYTHONPATH=path)
    assert done.returncode == 2
    assert "this is a mistake in xlstm" in done.stderr
