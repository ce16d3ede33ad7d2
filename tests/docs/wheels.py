"""Builds the wheel of the clone, and environments that have it and chosen packages alone."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from paths import ROOT

NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", "build", "dist")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
NAME = re.compile(r"[\w.-]+")


def environment(**more: str) -> dict[str, str]:
    """Our variables without those of Python, and others."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, **more}


def ran(*command: Any, folder: Path, **more: str) -> str:
    """Runs a command without our own environment variables of Python, and returns its output."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment(**more),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def built_wheel(work: Path) -> Path:
    """The wheel, built from the sdist, built from a copy of the clone."""
    pytest.importorskip("setuptools", "77", reason="building needs setuptools: install extra dev")
    shutil.copytree(ROOT, work / "clone", ignore=NOT_COPIED)
    ran(sys.executable, "-c", BUILD, "build_sdist", work, folder=work / "clone")
    (sdist,) = work.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    source = work / sdist.name.removesuffix(".tar.gz")
    ran(sys.executable, "-c", BUILD, "build_wheel", work, folder=source)
    (found,) = work.glob("*.whl")
    return found


def installed(wheel: Path, folder: Path) -> tuple[Path, Path]:
    """A new environment with the wheel alone: its scripts, and its packages."""
    venv.create(folder, with_pip=False)
    scripts = folder / ("Scripts" if os.name == "nt" else "bin")
    python = scripts / "python"
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--python", python)
    ran(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=folder)
    (packages,) = folder.rglob("site-packages")
    return scripts, packages


def link(packages: Path, names: Iterable[str]) -> set[str]:
    """Links distributions of this environment, and all that they need, into another one's packages.

    No other package can then be imported there. Returns the names of what is linked.
    """
    todo, done = [*names], set[str]()
    while todo:
        name = todo.pop().lower().replace("_", "-")
        if name in done:
            continue
        done.add(name)
        try:
            found = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # for another system or version of Python
        for top in {file.parts[0] for file in found.files or () if file.parts[0] != ".."}:
            target = packages / top
            if not target.exists() and top != "__pycache__":
                target.symlink_to(Path(str(found.locate_file(top))))
        plain = (one for one in found.requires or () if "extra ==" not in one)
        todo += [word[0] for one in plain if (word := NAME.match(one))]
    return done
