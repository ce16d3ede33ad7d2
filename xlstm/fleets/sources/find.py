"""Turns sources into models with names.

    entries(["zoo"])                        # all models below a folder
    entries(["zoo/**/*.h5", "s3://bucket/zoo"])
    entries(["models.csv"])                 # a list: path, name, options

In: sources as text. Out: a sorted list of `FleetEntry`.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

from xlstm.errors import UsageError, XlstmError
from xlstm.fleets.entry import FleetEntry
from xlstm.fleets.sources.manifest import OPTIONS, SUFFIXES, Listed, read_manifest
from xlstm.fleets.sources.search import Found, one_model, search
from xlstm.fleets.storage.remote import is_url

ENDING = re.compile(r"(?:\.weights)?\.[A-Za-z]\w{0,9}$", re.ASCII)
"""Ending that is no part of a model's name."""

AT_ONCE = 16
"""Requests at once for the objects of a list."""


class Candidate(NamedTuple):
    """A model whose name may not be unique yet; `fixed` is its name in a list, or ""."""

    found: Found
    fixed: str
    options: Mapping[str, str]


def entries(sources: Sequence[str], **options: str | None) -> list[FleetEntry]:
    """The models of some sources, sorted by name.

    A model's name is its path below its source, without the ending. Models whose names would be
    the same keep their endings; if that is not enough, they get a digest of their path.

    Args:
        sources: folders (searched with all folders in them), files, patterns with `*` and `**`,
            lists (.csv, .jsonl), and URLs of folders, objects or patterns.
        options: for every model: architecture, keras_version, kernel_layout, until. Those of a
            list come first.

    Raises:
        UsageError: no sources, no models, a mistake in a list, or an unknown option.
        FileError: a source that does not exist.
        MissingFrameworkError: a URL without the package of its protocol.
    """
    own = {key: value for key, value in options.items() if value is not None}
    if unknown := sorted(set(own) - set(OPTIONS)):
        raise UsageError("fleet", f"options {', '.join(OPTIONS)}", unknown[0], "remove it")
    texts = [os.fspath(source) for source in sources]
    seen: dict[tuple[str, tuple[tuple[str, str], ...]], Candidate] = {}
    for text in texts:
        for item in _candidates(text, own):
            key = (item.found.path, tuple(sorted(item.options.items())))
            if key not in seen or _rank(item) > _rank(seen[key]):
                seen[key] = item
    if not seen:
        where, got = ", ".join(texts) or "fleet", "none" if texts else "no sources"
        raise UsageError(where, "models", got, "name folders, files, patterns or a list of models")
    return sorted(_named(list(seen.values())), key=lambda entry: entry.name)


def _rank(item: Candidate) -> tuple[bool, int]:
    """The larger one names a model of two sources: a list, or the outer folder."""
    return bool(item.fixed), item.found.short.count("/")


def _candidates(text: str, own: Mapping[str, str]) -> Iterator[Candidate]:
    """The models of one source."""
    if not text or "\0" in text:
        raise UsageError("fleet", "a path or a URL", repr(text), "name one")
    if not is_url(text) and text.lower().endswith(SUFFIXES) and os.path.isfile(text):
        yield from _listed(read_manifest(Path(text)), own)
        return
    for found in search(text):
        yield Candidate(found, "", own)


def _listed(lines: list[Listed], own: Mapping[str, str]) -> Iterator[Candidate]:
    """The models of a list; those of URLs are looked up several at once."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        remote = {line.path for line in lines if is_url(line.path)}
        ahead = {path: pool.submit(one_model, path) for path in remote}
        for line in lines:
            try:
                found = ahead[line.path].result() if line.path in ahead else one_model(line.path)
            except XlstmError as error:
                for later in ahead.values():
                    later.cancel()
                raise UsageError(
                    line.where, "a model", f"{line.short}: {error.got}", error.do
                ) from None
            short = os.path.basename(line.path) if _leaves(line.short) else line.short
            named = found._replace(short=short.replace(os.sep, "/").removeprefix("./"))
            yield Candidate(named, line.name, {**own, **line.options})


def _leaves(short: str) -> bool:
    """True for a path in a list that is no path below the list's folder."""
    return is_url(short) or os.path.isabs(short) or os.path.normpath(short).startswith("..")


def _named(items: list[Candidate]) -> Iterator[FleetEntry]:
    """Models with unique names."""
    fixed = Counter(item.fixed for item in items if item.fixed)
    if twice := [name for name, count in fixed.items() if count > 1]:
        raise UsageError("fleet", "a name for one model", f"two called {twice[0]!r}", "rename one")
    names = [item.fixed or _stem(item.found) for item in items]
    for longer in (_whole, _digested):
        counts = Counter(names)
        names = [
            name if item.fixed or counts[name] == 1 else longer(item)
            for name, item in zip(names, items, strict=True)
        ]
    for name, item in zip(names, items, strict=True):
        found, stamp = item.found, item.found.stamp
        if architecture := item.options.get("architecture"):
            stamp = f"{stamp}+{_stamp_of(architecture)}"
        yield FleetEntry(name, found.path, stamp, found.size, dict(item.options))


def _stem(found: Found) -> str:
    """The path below the source without its ending; folders keep theirs, such as v1.2."""
    return found.short if found.is_folder else ENDING.sub("", found.short) or found.short


def _whole(item: Candidate) -> str:
    return item.found.short


def _digested(item: Candidate) -> str:
    text = "\n".join([item.found.path, *(f"{k}={v}" for k, v in sorted(item.options.items()))])
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{_stem(item.found)}-{digest}"


@cache
def _stamp_of(path: str) -> str:
    """The stamp of an architecture's file."""
    return one_model(path).stamp
