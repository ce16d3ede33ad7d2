"""Writes the skeleton of an adapter for a new framework: a distribution with tests.

In: the name of a framework. Out: a folder with pyproject.toml, an adapter in two halves, and a test
that runs `conformance`. The skeleton ports chains of Dense layers, which it computes with numpy.
So its tests run before anything is written: those of Dense pass, all others say what to write.
"""

from __future__ import annotations

import keyword
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xlstm.errors import UsageError
from xlstm.files.atomic import written_folder
from xlstm.frameworks import registry

NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
"""Names of adapters: they become names of packages, and words of the command line."""

TEXTS = Path(__file__).with_name("skeleton")
"""Folder of the texts. "@name@" in a text and NAME in a path stand for the framework's name."""


@dataclass(frozen=True)
class Skeleton:
    """A skeleton that was written.

    Attributes:
        name: of the framework.
        folder: the new folder.
        files: paths in it.
    """

    name: str
    folder: Path
    files: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the result as plain data."""
        return {"name": self.name, "folder": str(self.folder), "files": list(self.files)}

    def text(self) -> str:
        """Returns the text for a terminal: the folder, its files, and what to do next."""
        listed = "\n".join(f"  {file}" for file in self.files)
        do = f"Next: pytest {self.folder}. Dense passes; each other case says what to write."
        return f"Adapter for {self.name} written: {self.folder}\n{listed}\n{do}"


def new_adapter(name: str, folder: Path | None = None) -> Skeleton:
    """Writes the skeleton of an adapter, as a whole or not at all.

    Args:
        name: of the framework, such as "tinygrad".
        folder: a path without a folder, or of an empty one; None for "xlstm-NAME" here.

    Raises:
        UsageError: a name that is no identifier or is taken; a folder that is not empty, or that
            cannot be written.
    """
    _check_name(name)
    target = Path(f"xlstm-{name}") if folder is None else folder
    if os.path.lexists(target):
        _check_empty(target)
    files = _texts(name)
    with written_folder(target, _check_empty) as work:
        for path, text in files.items():
            (work / path).parent.mkdir(exist_ok=True)
            (work / path).write_text(text, "utf-8", newline="\n")
    return Skeleton(name, target, tuple(files))


def _texts(name: str) -> dict[str, str]:
    """Returns path in the skeleton -> its text."""
    found = {}
    for path in sorted(TEXTS.rglob("*.txt")):
        own = path.relative_to(TEXTS).with_suffix("").as_posix().replace("NAME", name)
        found[own] = path.read_text("utf-8").replace("@name@", name)
    return found


def _check_name(name: str) -> None:
    """Raises UsageError for a name that is no plain identifier, or that an adapter has.

    Raises:
        UsageError: such a name.
    """
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        want, got = "a small letter, then small letters, digits or _; at most 40", repr(name[:60])
        raise UsageError("name of an adapter", want, got, "use the import name of the framework")
    taken = {
        word: one for one in registry.names() for word in (one, *registry.adapter(one).aliases)
    }
    if name in taken:
        got = f"{name}, which is {registry.adapter(taken[name]).title}"
        raise UsageError("name of an adapter", "a name that is free", got, "choose another one")


def _check_empty(folder: Path) -> None:
    """Raises UsageError for a file, a link, or a folder with something in it.

    Raises:
        UsageError: such a path.
    """
    if folder.is_symlink() or not folder.is_dir():
        got = "a link" if folder.is_symlink() else "a file"
    else:
        found = sorted(item.name for item in folder.iterdir())
        got = f"{len(found)} files, such as {found[0]}" if found else ""
    if got:
        raise UsageError(folder, "a new folder, or an empty one", got, "name another one")
