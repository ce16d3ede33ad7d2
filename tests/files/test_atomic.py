"""Files and folders are there whole, as they were, or not at all; nothing of a killed run stays."""

import ast
import errno
import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from processes import environment, run
from refusing import contents, refused

import xlstm
from xlstm.errors import UsageError
from xlstm.files import atomic
from xlstm.files.atomic import write_file, written_folder
from xlstm.frameworks import registry
from xlstm.porting import save as saving
from xlstm.porting.save import atomic_folder, check_target
from xlstm.reading.ports import target_of

DEMO = xlstm.demo.path()
ROOT = Path(__file__).parents[2]
POSIX = pytest.mark.skipif(os.name != "posix", reason="modes and locks of POSIX")


def replaced(folder, to="nnx"):
    """Ports the demo to a folder in place of what is there, and gives the target it says."""
    xlstm.save(DEMO, folder, to, overwrite=True)
    return target_of(folder).name


@pytest.fixture
def port(tmp_path):
    return xlstm.save(DEMO, tmp_path / "port", "torch")


@pytest.fixture
def two_renames(monkeypatch):
    """A system without an exchange."""

    def unknown(*_args):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr(atomic, "_renameat2", unknown)


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is a call of Linux")
def test_folders_are_exchanged_in_one_step(port, monkeypatch):
    steps = []
    real = atomic._renameat2
    monkeypatch.setattr(atomic, "_renameat2", lambda *args: (steps.append(args), real(*args))[1])
    monkeypatch.setattr(os, "rename", lambda *_args: pytest.fail("a moment without a folder"))
    assert replaced(port) == "nnx"
    ((work, folder, flags),) = steps
    assert (folder, flags) == (port, atomic.EXCHANGE)
    assert os.listdir(port.parent) == ["port"]
    assert not work.exists()


def test_a_system_without_an_exchange(port, two_renames):
    assert replaced(port) == "nnx"
    xlstm.save(DEMO, port.with_name("new"), "linen")
    assert sorted(os.listdir(port.parent)) == ["new", "port"]


def test_a_second_rename_that_fails_is_undone(port, two_renames, monkeypatch):
    before, real, calls = contents(port), os.rename, []

    def rename(first, second):
        calls.append(second)
        if len(calls) == 2:
            raise OSError(errno.EIO, "the disk fails")
        real(first, second)

    monkeypatch.setattr(os, "rename", rename)
    refused(UsageError, lambda: replaced(port), "the disk fails")
    assert contents(port) == before
    assert os.listdir(port.parent) == ["port"]


KILLED_BETWEEN = """
import errno, os, signal, sys, xlstm
from xlstm.files import atomic
def unknown(*args):
    raise OSError(errno.ENOSYS, "unknown")
atomic._renameat2 = unknown
real = os.rename
def rename(first, second):
    real(first, second)
    os.kill(os.getpid(), signal.SIGKILL)
os.rename = rename
xlstm.save(xlstm.demo.path(), sys.argv[1], "nnx", overwrite=True)
"""


@POSIX
@pytest.mark.parametrize("overwrite", [False, True])
def test_the_old_folder_comes_back_where_there_is_no_exchange(overwrite, port):
    before = contents(port)
    assert run(KILLED_BETWEEN, port).returncode == -signal.SIGKILL
    assert not port.exists()
    xlstm.save(DEMO, port.with_name("other"), "torch")
    assert len(os.listdir(port.parent)) == 3, "leftovers of one target are not another's"
    if overwrite:
        assert replaced(port) == "nnx"
    else:
        refused(UsageError, lambda: xlstm.save(DEMO, port, "nnx"), "already exists")
        assert contents(port) == before
    assert sorted(os.listdir(port.parent)) == ["other", "port"]


KILLED_WHILE_WRITING = """
import os, pathlib, signal, sys, xlstm
from xlstm.porting.save import atomic_folder
with atomic_folder(pathlib.Path(sys.argv[1]), True) as work:
    (work / "model.py").write_text("half")
    (work / "inside").mkdir()
    os.kill(os.getpid(), signal.SIGKILL)
"""


@POSIX
@pytest.mark.parametrize("there", [False, True])
def test_what_a_killed_run_left_is_cleared(there, tmp_path):
    folder = tmp_path / "port"
    if there:
        xlstm.save(DEMO, folder, "torch")
    for _ in range(2):
        assert run(KILLED_WHILE_WRITING, folder).returncode == -signal.SIGKILL
    assert len(os.listdir(tmp_path)) == 1 + there, "the second run cleared what the first left"
    assert replaced(folder) == "nnx"
    assert os.listdir(tmp_path) == ["port"]


@POSIX
def test_what_a_living_run_writes_stays(port):
    saved = "import sys, xlstm; xlstm.save(xlstm.demo.path(), sys.argv[1], 'linen', overwrite=True)"
    with atomic_folder(port, True) as work:
        saving.write(xlstm.load(DEMO), work, registry.adapter("nnx"))
        done = run(saved, port)
        assert (done.returncode, done.stderr) == (0, "")
        assert target_of(port).name == "linen"
        assert work.exists()
    assert target_of(port).name == "nnx"
    assert os.listdir(port.parent) == ["port"]


@POSIX
def test_what_others_made_stays(port):
    start = atomic._start(port)
    link = port.with_name(f"{start}0123456789abcdef")
    link.symlink_to(port)
    for name in (".xlstm-notes", ".xlstm.0123", ".xlstm-0123456789abcdef-0123456789abcdef"):
        port.with_name(name).mkdir()
    before = set(os.listdir(port.parent))
    replaced(port)
    assert set(os.listdir(port.parent)) == before
    assert link.is_symlink()


def test_runs_beside_each_other_leave_one_whole_port(port):
    saved = "import sys, xlstm\nfor to in ('nnx', 'linen', 'torch') * 4:"
    saved += " xlstm.save(xlstm.demo.path(), sys.argv[1], to, overwrite=True)"
    runs = [threading.Thread(target=lambda: done.append(run(saved, port))) for _ in range(2)]
    done = []
    for one in runs:
        one.start()
    while any(one.is_alive() for one in runs) and sys.platform == "linux":
        assert os.path.isdir(port)
        # who has entered the old folder may see it being emptied; the next look is into the new
        assert any(os.path.exists(port / "report.json") for _ in range(3))
    for one in runs:
        one.join()
    assert [(one.returncode, one.stderr) for one in done] == [(0, "")] * 2
    assert xlstm.load(port).name == xlstm.load(DEMO).name
    assert os.listdir(port.parent) == ["port"]


@POSIX
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002, 0o027])
def test_modes_are_those_of_any_new_folder(umask, tmp_path):
    before = os.umask(umask)
    try:
        (tmp_path / "plain").mkdir()
        (tmp_path / "plain" / "file").write_text("")
        for _ in range(2):
            replaced(tmp_path / "port", "torch")
            write_file(tmp_path / "picture.svg", b"")
    finally:
        os.umask(before)
    wanted = [mode(tmp_path / "plain"), mode(tmp_path / "plain" / "file")]
    assert mode(tmp_path / "port") == wanted[0]
    assert {mode(path) for path in (tmp_path / "port").iterdir()} == {wanted[1]}
    assert mode(tmp_path / "picture.svg") == wanted[1]


def mode(path):
    return oct(stat.S_IMODE(path.stat().st_mode))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc names what a descriptor is of")
def test_all_is_flushed_before_the_exchange_and_its_folder_after_it(port, monkeypatch):
    steps, fsync, exchange = [], os.fsync, atomic._renameat2

    def flushed(descriptor):
        steps.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def exchanged(*args):
        steps.append("exchange")
        exchange(*args)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(atomic, "_renameat2", exchanged)
    replaced(port)
    moment = steps.index("exchange")
    *files, work = steps[:moment]
    assert {path.name for path in files} == {"model.py", "weights.safetensors", "report.json"}
    assert {path.parent for path in files} == {work}
    assert steps[moment + 1 :] == [port.parent]


DROPPED = """
import os, pathlib, sys, xlstm
from xlstm.errors import XlstmError
os.chdir(sys.argv[1])
xlstm.save(xlstm.demo.path(), "warm", "nnx")  # imports and texts are there
model = xlstm.load("warm")
if os.geteuid() == 0:  # who may write everywhere
    os.setgid(65534)
    os.setuid(65534)
for path in sys.argv[2:]:
    os.chmod(path, 0o555)
try:
    xlstm.save(model, "own/port", "nnx", overwrite=True)
    print("saved")
except XlstmError as error:
    print(error)
for path in reversed(sys.argv[2:]):
    os.chmod(path, 0o755)
print(sorted(os.listdir("own")))
"""

READ_ONLY = {
    "nothing": ([], "saved"),
    "the old folder": (["own/port"], "port is read-only"),
    "a folder in it": (["own/port/__pycache__"], "__pycache__ is read-only"),
    "its parent": (["own"], "Permission denied"),
}


@POSIX
@pytest.mark.parametrize("case", READ_ONLY)
def test_what_cannot_be_replaced_is_an_error(case, tmp_path):
    paths, said = READ_ONLY[case]
    port = tmp_path / "own" / "port"
    port.parent.mkdir()
    xlstm.save(DEMO, port, "torch")
    (port / "__pycache__").mkdir()
    (port / "__pycache__" / "model.pyc").write_bytes(b"")
    for path in (tmp_path, port.parent, *port.parent.rglob("*")):
        os.chown(path, *((65534, 65534) if os.geteuid() == 0 else (-1, -1)))
    before = contents(port)
    done = run(DROPPED, tmp_path, *paths)
    lines = done.stdout.splitlines()
    assert said in lines[0], done.stderr
    assert lines[1:] == ["['port']"]
    assert (contents(port) == before) == bool(paths)


def test_an_old_folder_that_cannot_be_removed_after_all(port, monkeypatch):
    def fails(path):
        if path.is_dir():
            raise OSError(errno.EIO, "the disk fails", str(path))

    monkeypatch.setattr(atomic, "_remove", fails)
    error = refused(UsageError, lambda: replaced(port), "the disk fails", ".xlstm-")
    assert target_of(port).name == "nnx", "the new port is in place"
    monkeypatch.undo()
    assert ".xlstm-" in error.got
    replaced(port)
    assert os.listdir(port.parent) == ["port"]


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_that_comes_in_the_last_moment_stays(exchange, port, monkeypatch, request):
    if not exchange:
        request.getfixturevalue("two_renames")
    mine = port.with_name("mine")
    mine.mkdir()
    (mine / "thesis.txt").write_text("mine")

    def swapped(folder):
        folder.rename(folder.with_name("kept"))
        mine.rename(folder)

    monkeypatch.setattr(atomic, "_check_removable", swapped)
    refused(UsageError, lambda: replaced(port), "did not write")
    assert contents(port) == {"thesis.txt": b"mine"}
    assert sorted(os.listdir(port.parent)) == ["kept", "port"]


def test_a_new_folder_that_comes_in_the_last_moment_stays(tmp_path):
    folder = tmp_path / "port"

    def save():
        with atomic_folder(folder, False) as work:
            (work / "model.py").write_text("")
            folder.mkdir()

    refused(UsageError, save)
    assert os.listdir(tmp_path) == ["port"]
    assert not list(folder.iterdir())


@pytest.mark.skipif(sys.platform != "linux", reason="RENAME_NOREPLACE is of Linux")
def test_an_empty_folder_is_never_renamed_onto(tmp_path, monkeypatch):
    folder = tmp_path / "port"
    monkeypatch.setattr(os.path, "lexists", lambda _path: folder.mkdir() or False)
    with pytest.raises(UsageError, match="File exists"), written_folder(folder, check_target):
        pass
    monkeypatch.undo()
    assert os.listdir(tmp_path) == ["port"]


@POSIX
@pytest.mark.parametrize("lock", ["none", "refused"])
def test_where_nothing_can_be_locked_nothing_is_cleared(lock, port, monkeypatch):
    left = port.with_name(f"{atomic._start(port)}0123456789abcdef")
    left.mkdir()

    class Refused:
        LOCK_EX = LOCK_NB = LOCK_UN = 0

        @staticmethod
        def flock(*_args):
            raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(atomic, "_locks", lambda: None if lock == "none" else Refused)
    assert replaced(port) == "nnx"
    assert left.is_dir()
    monkeypatch.undo()
    replaced(port)
    assert not left.exists()


@POSIX
def test_a_name_that_another_run_clears_at_once_is_taken_anew(tmp_path, monkeypatch):
    made = []

    def mkdir(path):
        path.mkdir()
        made.append(path)
        if len(made) < 3:
            path.rmdir()

    monkeypatch.setattr(atomic, "_new_folder", mkdir)
    xlstm.save(DEMO, tmp_path / "port", "torch")
    assert len(made) == 3
    assert os.listdir(tmp_path) == ["port"]


def test_a_file_is_written_whole(tmp_path, monkeypatch):
    file = tmp_path / "picture.svg"
    write_file(file, b"one")
    file.chmod(0o640)
    write_file(file, b"two")
    assert (file.read_bytes(), mode(file)) == (b"two", "0o640")

    def fails(*_args):
        raise OSError(errno.EIO, "the disk fails")

    for step in ("replace", "fsync"):
        monkeypatch.setattr(os, step, fails)
        with pytest.raises(OSError, match="the disk fails"):
            write_file(file, b"three")
        monkeypatch.undo()
        assert (file.read_bytes(), os.listdir(tmp_path)) == (b"two", ["picture.svg"])


@POSIX
def test_links_devices_and_folders_stay_what_they_are(tmp_path):
    (tmp_path / "far").mkdir()
    for name in ("there", "new"):
        link = tmp_path / name
        link.symlink_to(tmp_path / "far" / name)
        write_file(link, b"text")
        assert link.is_symlink()
        assert (tmp_path / "far" / name).read_bytes() == b"text"
    write_file(Path("/dev/null"), b"text")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    with pytest.raises(IsADirectoryError):
        write_file(tmp_path / "far", b"text")
    with pytest.raises(FileNotFoundError):
        write_file(tmp_path / "missing" / "file", b"text")
    reader, writer = os.pipe()
    write_file(Path(f"/dev/fd/{writer}"), b"text")
    assert os.read(reader, 9) == b"text"
    for descriptor in (reader, writer):
        os.close(descriptor)


@POSIX
def test_a_picture_for_stdout_goes_to_stdout(tmp_path):
    line = [sys.executable, "-m", "xlstm", "explain", "LSTM", "--features", "1", "--units", "2"]
    with (tmp_path / "out.txt").open("wb") as out:
        done = subprocess.run(
            [*line, "--json", "--svg", "/dev/stdout"], stdout=out, env=environment(), check=False
        )
    assert done.returncode == 0
    assert "</svg>" in (tmp_path / "out.txt").read_text()
    assert os.listdir(tmp_path) == ["out.txt"]


def test_a_read_only_file_is_not_replaced(tmp_path, monkeypatch):
    file = tmp_path / "picture.svg"
    file.write_text("mine")
    monkeypatch.setattr(os, "access", lambda *_args: False)  # root may write everywhere
    with pytest.raises(PermissionError):
        write_file(file, b"text")
    assert contents(tmp_path) == {"picture.svg": b"mine"}


@POSIX
def test_kills_at_random_moments():
    line = [sys.executable, str(ROOT / "benchmarks" / "kills.py"), "--kills", "6"]
    done = subprocess.run(
        [*line, "--commands", "1"], capture_output=True, text=True, env=environment(), check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "target whole: 6 of 6" in done.stdout
    assert "left over after the next run: 0" in done.stdout


def test_texts_have_the_same_bytes_on_every_system():
    """Windows would write \\r\\n, and hashes of files would differ."""
    found = []
    for path in [*ROOT.glob("xlstm/**/*.py"), *ROOT.glob("converters/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "write_text":
                names = [keyword.arg for keyword in node.keywords]
                found += [] if "newline" in names else [f"{path.name}:{node.lineno}"]
    assert not found


def test_a_folder_that_is_made_elsewhere(tmp_path):
    """Thousands of folders: no leftover is looked for beside them, and nothing is flushed."""
    work, folder = tmp_path / "work", tmp_path / "many" / "port"
    work.mkdir()
    folder.parent.mkdir()
    (folder.parent / f"{atomic._start(folder)}0123456789abcdef").mkdir()
    for text in ("one", "two"):
        with atomic.written_folder(folder, lambda old: None, work_in=work) as new:
            assert new.parent == work
            (new / "model.py").write_text(text)
        assert (folder / "model.py").read_text() == text
    assert list(work.iterdir()) == []
    assert len(list(folder.parent.iterdir())) == 2
    atomic.clear_all(folder.parent)
    assert list(folder.parent.iterdir()) == [folder]


def test_a_file_is_replaced_as_a_whole(tmp_path):
    path = tmp_path / "fleet.parquet"
    path.write_text("old")

    def fail():
        with atomic.written_file(path) as work:
            work.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "old"
    with atomic.written_file(path) as work:
        work.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]
