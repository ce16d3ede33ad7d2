"""A lock in an object store: objects with increasing numbers, each created on a condition.

    with leased(files, "bucket/target/lock", "s3://bucket/target") as check:
        check()

The object with the highest number is the lock. Its owner writes the time into it every 10 seconds;
after 60 seconds without, or at the end, another fleet may create the next number. Only one can:
stores refuse to create an object that exists. An owner that finds a higher number has lost the
lock, for example because its computer slept. The clocks of the machines have to agree within
seconds.

In: a file system of fsspec. Out: a context.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from xlstm.errors import UsageError
from xlstm.fleets.storage.local import busy, owner
from xlstm.fleets.storage.remote import errors_in_words

BEAT, STALE = 10.0, 60.0
"""Seconds between two signs of life, and without one until the lock is free."""

WAIT = "wait until it ends (a killed one frees the target after a minute)"


@contextlib.contextmanager
def leased(files: Any, folder: str, url: str) -> Iterator[Callable[[], None]]:
    """Locks a target in a store.

    Args:
        files: file system of fsspec.
        folder: of the numbers, in it.
        url: of the target, for errors.

    Yields:
        A function that raises UsageError if the lock was lost.

    Raises:
        UsageError: another fleet has the lock, or the store fails.
    """
    with errors_in_words(url):
        number, old = _take(files, folder, url)
        with contextlib.suppress(FileNotFoundError):
            files.rm(old) if old else None
    text, ended, lost = owner(), threading.Event(), threading.Event()

    def live() -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(Exception):  # any error of a store: the next beat may succeed
                if max(_numbers(files, folder)) > number:
                    lost.set()
                    return
                files.pipe_file(_path(folder, number), _content(text))

    def check() -> None:
        if lost.is_set():
            do = "run the fleet again when the other one has ended"
            raise UsageError(url, "the lock of this fleet", "another fleet that took it", do)

    thread = threading.Thread(target=live, daemon=True)
    thread.start()
    try:
        yield check
    finally:
        ended.set()
        thread.join(BEAT)
        with errors_in_words(url):
            if not lost.is_set():
                files.pipe_file(_path(folder, number), _content(text, time_of_beat=0.0))


def _take(files: Any, folder: str, url: str) -> tuple[int, list[str]]:
    """The number of a new lock, and the paths of the old ones.

    Raises:
        UsageError: another fleet has the lock.
    """
    found = _numbers(files, folder)
    if found:
        _check_free(files.cat_file(_path(folder, max(found))), url)
    number = max(found, default=0) + 1
    path = _path(folder, number)
    try:
        files.pipe_file(path, _content(owner()), mode="create")
    except FileExistsError:
        raise busy(url, files.cat_file(path), WAIT) from None
    if (highest := max(_numbers(files, folder))) > number:  # the list was older than the lock
        files.rm([path])
        raise busy(url, files.cat_file(_path(folder, highest)), WAIT)
    return number, [_path(folder, one) for one in found]


def _check_free(text: bytes, url: str) -> None:
    """Raises UsageError for a lock whose owner lives."""
    try:
        beat = float(json.loads(text)["beat"])
    except (ValueError, TypeError, KeyError):
        beat = 0.0
    if time.time() - beat < STALE:
        raise busy(url, text, WAIT)


def _content(text: bytes, time_of_beat: float | None = None) -> bytes:
    beat = time.time() if time_of_beat is None else time_of_beat
    return json.dumps({**json.loads(text), "beat": beat}).encode()


def _path(folder: str, number: int) -> str:
    return f"{folder}/{number:09d}.json"


def _numbers(files: Any, folder: str) -> list[int]:
    names = (path.rpartition("/")[2].removesuffix(".json") for path in files.find(folder))
    return [int(name) for name in names if name.isdecimal()]
