"""Opens storages of URLs by fsspec, and turns their errors into one of ours.

    files, path = connect("s3://bucket/zoo")
    with errors_in_words("s3://bucket/zoo"):
        files.find(path)

In: a URL. Out: a file system of fsspec and a path in it. Listings are never taken from a cache,
since other processes write too. Where a storage takes limits of time, a connection has 5 seconds.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from xlstm.errors import FileError, MissingFrameworkError, StorageError, UsageError, XlstmError

URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
"""Start of a URL; a single letter is a drive of Windows."""

EXTRA = "pip install 'xlstm-converter[fleet]'"

LIMITS: dict[str, dict[str, Any]] = {
    "s3": {
        "config_kwargs": {"connect_timeout": 5, "retries": {"max_attempts": 3}},
        "max_concurrency": 1,  # with more, s3fs asks for the size of each object before it reads it
    },
}
LIMITS["s3a"] = LIMITS["s3"]
"""Protocol -> options of fsspec that limit the time and the number of requests."""

BUCKETS = ("s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "memory")
"""Protocols without folders: a path needs none to be written."""

PATIENCE = 20.0
"""Seconds for the first request to a storage, with all attempts."""

CREDENTIALS = "set the variables of its credentials, such as AWS_ACCESS_KEY_ID"
WORDS: dict[str, tuple[str, str]] = {
    "NoCredentialsError": ("no credentials", CREDENTIALS),
    "PartialCredentialsError": ("a part of the credentials", CREDENTIALS),
    "DefaultCredentialsError": ("no credentials", CREDENTIALS),
    "ConnectionError": ("no connection", "check the address, such as AWS_ENDPOINT_URL"),
    "HTTPClientError": ("no connection", "check the address, such as AWS_ENDPOINT_URL"),
    "ClientConnectionError": ("no connection", "check the address"),
    "TimeoutError": ("no answer in time", "check the address and the network"),
    "PermissionError": ("no permission", "check the credentials and their rights"),
    "FileNotFoundError": ("no such bucket, folder or object", "check the name"),
}
"""Name of a class of errors -> its words and advice. The classes are in packages of storages."""

Result = TypeVar("Result")


def is_url(text: str) -> bool:
    """True for a URL, False for a local path.

    >>> is_url("s3://bucket/a.h5"), is_url("C://a.h5"), is_url("zoo/a.h5")
    (True, False, False)
    """
    return bool(URL.match(text))


def connect(url: str) -> tuple[Any, str]:
    """The file system of a URL, and the path in it.

    Raises:
        UsageError: an unknown protocol, or a chain of them.
        MissingFrameworkError: fsspec, or the package of the protocol, is not installed.
    """
    protocol = url.partition("://")[0].lower()
    if "::" in url:
        raise UsageError(url, "one URL", "a chain of URLs", "copy the models out of the archive")
    try:
        import fsspec
    except ImportError as error:
        raise MissingFrameworkError(url, "fsspec", str(error), EXTRA) from None
    with errors_in_words(url):
        own = dict(fsspec.config.conf.get(protocol, {}))
        options = LIMITS.get(protocol, {})
        merged = {
            key: {**value, **own.get(key, {})} if isinstance(value, dict) else own.get(key, value)
            for key, value in options.items()
        }
        files = fsspec.filesystem(protocol, **merged, use_listings_cache=False)
        return files, files._strip_protocol(url)


def in_time(url: str, work: Callable[[], Result]) -> Result:
    """The result of a first request; storages without limits of their own get one here.

    Raises:
        UsageError: no answer in time.
        Exception: as the request raises.
    """
    found: list[Result] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            found.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    if errors:
        raise errors[0]
    if not found:
        raise in_words(url, TimeoutError())
    return found[0]


@contextlib.contextmanager
def errors_in_words(url: str) -> Iterator[None]:
    """Turns any error of a storage into one of ours.

    Raises:
        XlstmError: as `in_words` returns.
    """
    try:
        yield
    except XlstmError:
        raise
    except Exception as error:
        raise in_words(url, error) from None


def in_words(url: str, error: Exception) -> XlstmError:
    """The error of a storage in the words of the user.

    >>> print(in_words("s3://zoo", PermissionError("Access Denied")))
    s3://zoo: expected a storage that can be used, got no permission (Access Denied); check the \
credentials and their rights
    """
    want = "a storage that can be used"
    text = str(error).partition("\n")[0]
    if isinstance(error, ImportError):
        package = re.search(r"[Ii]nstall (\w+)", text)
        do = f"pip install {package[1]}" if package else EXTRA
        return MissingFrameworkError(url, "the package of this protocol", text, do)
    if isinstance(error, ValueError) and "rotocol" in text:
        do = "use a protocol such as s3, gs or memory, or a local path"
        return UsageError(url, "a protocol that fsspec knows", url.partition("://")[0], do)
    for base in type(error).__mro__:
        if base.__name__ in WORDS:
            got, do = WORDS[base.__name__]
            return UsageError(url, want, f"{got} ({text})" if text else got, do)
    return UsageError(url, want, f"{type(error).__name__} ({text})", "check the URL")


def read_error(url: str, error: Exception) -> XlstmError:
    """The error for one object that cannot be read.

    A missing object is a FileError, which another run would meet again; all else is a StorageError.

    >>> type(read_error("s3://zoo/a.h5", ConnectionError("reset"))).__name__
    'StorageError'
    """
    found = in_words(url, error)
    kind = FileError if isinstance(error, FileNotFoundError) else StorageError
    return kind(url, "an object that can be read", found.got, found.do)
