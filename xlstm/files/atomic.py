"""Writes files and folders atomically: in full, or not at all.

Everything is written beside its target under a name of this module, flushed to the disk, and moved
to its target in one step. A killed process leaves such a name behind; the next write to the same
target removes it. A lock that ends with its process shows which names are leftovers.

On Linux two folders are exchanged in one step (`renameat2`; on ext4, XFS, Btrfs and tmpfs). Other
systems need two renames: a run that is killed between them leaves the old folder under its other
name, and the next write to the target moves it back first. Without `fcntl` nothing is removed.

>>> import tempfile
>>> with tempfile.TemporaryDirectory() as here:
...     write_file(Path(here, "a.svg"), b"<svg/>")
...     [(path.name, path.read_bytes()) for path in Path(here).iterdir()]
[('a.svg', b'<svg/>')]
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import importlib
import os
import secrets
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from xlstm.errors import UsageError

PREFIX = ".xlstm-"
"""Start of the names of unfinished files and folders."""

OLD = "-old"
"""End of the name of a folder that is about to be replaced, on systems without an exchange."""

NOREPLACE, EXCHANGE = 1, 2
"""Flags of `renameat2` in linux/fs.h."""

UNKNOWN = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}
"""Errors of systems and file systems that do not support a flag, or `fsync` of a folder."""

TRIES = 8
"""Attempts to lock a new name: a parallel run may remove it as a leftover before."""


def write_file(path: Path, data: bytes) -> None:
    """Writes a file in one step; keeps its mode, follows links, and writes to devices.

    Raises:
        OSError: as `open` raises, or no file can be created beside it.
    """
    mode = path.stat().st_mode if path.exists() else None
    if (mode is not None and not stat.S_ISREG(mode)) or _is_stream(path):
        path.write_bytes(data)
        return
    if mode is not None and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    target = Path(os.path.realpath(path))
    clear(target)
    with _errors_name(path), _claimed(target, _new_file) as work:
        work.write_bytes(data)
        if mode is not None:
            work.chmod(stat.S_IMODE(mode))
        _flush(work)
        os.replace(work, target)
        _flush(target.parent)


def check_writable(path: Path) -> None:
    """Raises for a file that `write_file` could not write, before the work of its content.

    Raises:
        OSError: a folder, a file that is read-only, or a folder where no file can be created.
    """
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if path.exists() and not os.access(path, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
    with _errors_name(path), _claimed(Path(os.path.realpath(path)), _new_file):
        pass


@contextlib.contextmanager
def _errors_name(path: Path) -> Iterator[None]:
    """Lets errors of the file system name the user's file, not the one beside it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from None


def _is_stream(path: Path) -> bool:
    """True for /dev/stdout and the like: its reader would not see a file that replaces it."""
    return os.path.abspath(path).startswith(("/dev/", "/proc/"))


@contextlib.contextmanager
def written_folder(
    folder: Path, check: Callable[[Path], None], work_in: Path | None = None
) -> Iterator[Path]:
    """A folder to write into that replaces `folder` at the end, or is removed after any error.

    Args:
        folder: a path whose parent exists.
        check: raises for a folder that must not be replaced. It is called again with the old one
            after the exchange, which is undone if it raises.
        work_in: for thousands of folders: where the new one is until it is moved, on the same file
            system. Nothing is flushed to the disk, and leftovers stay until `clear_all(work_in)`:
            both cost more than a small port, and the search grows with the folders beside it.

    Raises:
        UsageError: no folder can be written, the old folder cannot be removed, or another process
            has created a different folder there.
    """
    alone = work_in is None
    if alone:
        clear(folder)
    with _claimed(folder if work_in is None else work_in / folder.name, _new_folder) as work:
        yield work
        if alone:
            _flush_all(work)
        _place(work, folder, check, durable=alone)


@contextlib.contextmanager
def written_file(path: Path) -> Iterator[Path]:
    """A file to write into that replaces `path` at the end, or is removed after any error.

    Raises:
        OSError: no file can be created beside it.
    """
    clear(path)
    with _errors_name(path), _claimed(path, _new_file) as work:
        yield work
        _flush(work)
        os.replace(work, path)
        _flush(path.parent)


def clear_all(folder: Path) -> None:
    """Removes all leftovers of killed writes in a folder; those of running processes stay.

    Raises:
        OSError: something cannot be removed.
    """
    for item in sorted(folder.glob(f"{PREFIX}*")):
        with lock(item) as locked:
            if locked:
                _remove(item)


def clear(target: Path) -> None:
    """Removes the leftovers of killed writes to a target.

    An old folder that no new one has replaced is moved back. Files of a running process are locked,
    and stay, as do leftovers of other users.

    Raises:
        UsageError: something cannot be removed.
    """
    for path in sorted(target.parent.glob(f"{_start(target)}*")):
        with lock(path) as locked:
            if not locked or path.lstat().st_uid != os.geteuid():
                continue
            try:
                if path.name.endswith(OLD) and not os.path.lexists(target):
                    os.rename(path, target)
                else:
                    _remove(path)
            except OSError as error:
                want, got = "what a killed run left to be removed", error.strerror or str(error)
                raise UsageError(path, want, got, "remove it") from None


def _start(target: Path) -> str:
    """First letters of the names beside a target, without its own name, which may be long."""
    return f"{PREFIX}{hashlib.sha256(os.fsencode(target.name)).hexdigest()[:16]}-"


def _new_file(path: Path) -> None:
    path.touch(exist_ok=False)


def _new_folder(path: Path) -> None:
    try:
        path.mkdir()
    except OSError as error:
        got = error.strerror or str(error)
        raise UsageError(path.parent, "a folder to write in", got, "name another") from None


@contextlib.contextmanager
def _claimed(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """A new file or folder beside a target, locked, and removed at the end if it still exists."""
    for _ in range(TRIES):
        work = target.with_name(_start(target) + secrets.token_hex(8))
        make(work)
        with lock(work) as locked:
            if locked is False:  # another run removed it as a leftover before it was locked
                continue
            try:
                yield work
            finally:
                with contextlib.suppress(OSError):  # the next write removes it
                    _remove(work)
            return
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(target))


def _locks() -> Any:
    """The module of locks that end with their process, None if the system has none."""
    with contextlib.suppress(ImportError):
        return importlib.import_module("fcntl")
    return None


@contextlib.contextmanager
def lock(path: Path) -> Iterator[bool | None]:
    """True while a file or folder of this name is locked for this run.

    False if it is gone or locked by another run, None if it cannot be locked.
    """
    fcntl, descriptor, locked = _locks(), -1, None
    try:
        if fcntl is not None:
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            locked = os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except (BlockingIOError, FileNotFoundError):
        locked = False
    except OSError:  # a link, or a file system without locks
        locked = None
    try:
        yield locked
    finally:
        if descriptor >= 0:
            if locked:  # a process that was forked since then has the descriptor too
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            os.close(descriptor)


def _remove(path: Path) -> None:
    """Removes a file, or a folder with its content; it may be missing.

    Raises:
        OSError: something cannot be removed.
    """
    try:
        if stat.S_ISDIR(path.lstat().st_mode):
            shutil.rmtree(path)
        else:
            path.unlink()
    except FileNotFoundError:  # another run removes it too
        if os.path.lexists(path):
            _remove(path)


def _flush_all(folder: Path) -> None:
    """Flushes all files below a folder to the disk, and the folders, deepest first."""
    for here, _, names in os.walk(folder, topdown=False):
        for name in names:
            _flush(Path(here, name))
        _flush(Path(here))


def _flush(path: Path) -> None:
    """Flushes a file, or the names in a folder, to the disk.

    Raises:
        OSError: the disk fails.
    """
    if os.name != "posix":  # Windows flushes no folders, and files only for their writer
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        flush(descriptor)
    finally:
        os.close(descriptor)


def flush(descriptor: int) -> None:
    """Flushes an open file to the disk, on file systems that can.

    Raises:
        OSError: the disk fails.
    """
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise


def _place(work: Path, folder: Path, check: Callable[[Path], None], durable: bool = True) -> None:
    """Moves a written folder to its target, and removes the old one.

    Raises:
        UsageError: as `written_folder` raises.
    """
    try:
        if not os.path.lexists(folder):
            _rename(work, folder)
            if durable:
                _flush(folder.parent)
            return
        check(folder)
        _check_removable(folder)
        with lock(folder):  # so that no other run removes the old one before it is checked
            old = _exchange(work, folder)
            if durable:
                _flush(folder.parent)
            try:
                check(old)
            except UsageError:  # another process has replaced the folder since the first check
                _remove(_exchange(old, folder))
                raise
            _remove(old)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        got, do = f"{error.strerror or error}{where}", "name another, or remove the old one"
        raise UsageError(folder, "a folder that can be put in place", got, do) from None


def _check_removable(folder: Path) -> None:
    """Raises UsageError for a folder of which something cannot be removed."""
    todo = [folder]
    while todo:
        here = todo.pop()
        if not os.access(here, os.R_OK | os.W_OK | os.X_OK):
            do = "make it writable, or name another"
            raise UsageError(folder, "a folder to replace", f"{here} is read-only", do)
        todo += [Path(item) for item in os.scandir(here) if item.is_dir(follow_symlinks=False)]


def _rename(work: Path, folder: Path) -> None:
    """Renames a folder, never onto another one.

    Raises:
        OSError: the target exists.
    """
    try:
        _renameat2(work, folder, NOREPLACE)
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
        os.rename(work, folder)


def _exchange(work: Path, folder: Path) -> Path:
    """Exchanges two folders, in one step if the system can; returns the new path of the old one.

    Raises:
        OSError: both ways failed; nothing has changed.
    """
    try:
        _renameat2(work, folder, EXCHANGE)
        return work
    except OSError as error:
        if error.errno not in UNKNOWN:
            raise
    old = work.with_name(work.name + OLD)
    os.rename(folder, old)
    try:
        os.rename(work, folder)
    except OSError:
        os.rename(old, folder)
        raise
    return old


def _renameat2(first: Path, second: Path, flags: int) -> None:
    """Calls `renameat2` of Linux's C library.

    Raises:
        OSError: the error of the system; ENOSYS if it has no such call.
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None) if _is_linux() else None
    if call is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    call.argtypes = [ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint]
    here = -100  # AT_FDCWD of linux/fcntl.h
    if call(here, os.fsencode(first), here, os.fsencode(second), flags):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), str(first), None, str(second))


def _is_linux() -> bool:
    return sys.platform == "linux"
