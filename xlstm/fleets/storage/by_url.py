"""Opens the target of a fleet by its path or URL.

open_target("ports"), open_target("s3://bucket/ports")
"""

from __future__ import annotations

import os

from xlstm.errors import UsageError
from xlstm.fleets.storage.local import LocalTarget
from xlstm.fleets.storage.remote import is_url
from xlstm.fleets.storage.store import StoreTarget
from xlstm.fleets.storage.target import FleetTarget


def open_target(url: str | os.PathLike[str]) -> FleetTarget:
    """A target that can be reached; nothing is written.

    Args:
        url: a local path, or a URL of a protocol that fsspec knows. Its address and credentials
            come from the environment or a configuration of fsspec: AWS_ENDPOINT_URL,
            AWS_ACCESS_KEY_ID, FSSPEC_S3_ANON and the like.

    Raises:
        UsageError: no such bucket, credentials refused, no connection, an unknown protocol, files
            of others, or a path that is no folder.
        MissingFrameworkError: fsspec, or the package of the protocol, is not installed.

    >>> open_target("ports").where("models") == os.path.abspath("ports/models")
    True
    """
    text = os.fspath(url)
    if not text:
        raise UsageError("target", "a folder or a URL", "an empty text", "name one")
    is_local = not is_url(text) or text.startswith("file://")
    path = os.path.abspath(text.removeprefix("file://"))
    target: FleetTarget = LocalTarget(path) if is_local else StoreTarget(text.rstrip("/"))
    target.read_mark()
    return target
