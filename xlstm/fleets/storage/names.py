r"""Turns names of models to paths below a target that are safe on every system, and all different.

>>> folder_of("customers/0001")
'customers.d/0001'
>>> folder_of("..\\x")
'_x~ff86735056839d9c'

A folder around models ends with ".d", and a model's own folder never does: so "a" and "a/b" can
both be models. A part that is not safe, or that another part could be taken for, is shortened to
its safe characters and gets a digest after "~".
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

AROUND = ".d"
"""End of folders that contain models and are none."""

LONGEST_PART, LONGEST_PATH = 120, 480
"""Most bytes of a part and of a path: file systems take 255 and some 1,000."""

UNSAFE = re.compile(r'[<>:"/\\|?*%#\[\]~]')
"""Characters that Windows, URLs or patterns of file names read as something else."""

DEVICE = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9\xb9\xb2\xb3])(\..*)?", re.I)
"""Names that are devices on Windows, with any ending."""


def folder_of(name: str, folds: bool = False) -> str:
    """Returns the relative path of a model, its parts joined by "/".

    Different names have different paths, and no path lies below another.

    Args:
        name: of a model; any text.
        folds: True for a file system that takes "A" and "a" for one name.
    """
    *around, last = name.split("/")
    parts = [_part(part, folds) + AROUND for part in around]
    path = "/".join([*parts, _part(last, folds)])
    return path if len(_bytes(path)) <= LONGEST_PATH else _marked(name)


def file_of(text: str) -> str:
    """Returns a safe name of a file for any text, such as the address of a worker.

    >>> file_of("tcp://127.0.0.1:9").startswith("tcp___127.0.0.1_9~")
    True
    """
    return text if _is_safe(text, folds=False) else _marked(text)


def _part(part: str, folds: bool) -> str:
    return part if _is_safe(part, folds) else _marked(part)


def _is_safe(part: str, folds: bool) -> bool:
    """True for a part that every system keeps as it is, and that is no name with a digest."""
    return (
        part != ""
        and part.isprintable()
        and not UNSAFE.search(part)
        and not DEVICE.fullmatch(part)
        and part[0] not in ". "
        and part[-1] not in ". "
        and not part.lower().endswith(AROUND)
        and unicodedata.is_normalized("NFC", part)
        and (not folds or part == part.casefold())
        and len(_bytes(part)) <= LONGEST_PART
    )


def _marked(part: str) -> str:
    """The safe characters of a part, and its digest."""
    kept = "".join(c if c.isprintable() and not UNSAFE.match(c) else "_" for c in part[:60])
    kept = _bytes(unicodedata.normalize("NFC", kept))[:60].decode("utf-8", "ignore")
    digest = hashlib.sha256(_bytes(part)).hexdigest()[:16]
    kept = kept.strip(". ")
    return f"{'_' if not kept or DEVICE.fullmatch(kept) else ''}{kept}~{digest}"


def _bytes(text: str) -> bytes:
    """UTF-8, with bytes of its own for the half characters of file names that are not UTF-8."""
    return text.encode("utf-8", "surrogatepass")
