"""The package: built, installed without the clone, and described for the index."""

import email
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import numpy
import pytest
import yaml
from paths import ROOT

import xlstm

NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", "__pycache__", "*.egg-info", "build", "dist")
BUILD = "import sys; from setuptools import build_meta as b; getattr(b, sys.argv[1])(sys.argv[2])"
RELATIVE = re.compile(r"\]\((?!https?://)")
DATA = {"demo.keras", "py.typed"}


def ran(*command, folder, **environment):
    """Runs a command without our own environment variables of Python, and returns its output."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("PYTHON")}
    environment = {**kept, **environment}
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the sdist, built from a copy of the clone."""
    pytest.importorskip("setuptools", "77", reason="building needs setuptools: install extra dev")
    work = tmp_path_factory.mktemp("package")
    shutil.copytree(ROOT, work / "clone", ignore=NOT_COPIED)
    ran(sys.executable, "-c", BUILD, "build_sdist", work, folder=work / "clone")
    (sdist,) = work.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(work, filter="data")
    source = work / sdist.name.removesuffix(".tar.gz")
    ran(sys.executable, "-c", BUILD, "build_wheel", work, folder=source)
    (found,) = work.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(archive.read(name))


def test_wheel_has_every_module(wheel):
    places = {ROOT / "xlstm": "xlstm", ROOT / "converters": "xlstm/converters"}
    files = {
        f"{place}/{path.relative_to(folder).as_posix()}"
        for folder, place in places.items()
        for path in filter(Path.is_file, folder.rglob("*"))
        if path.suffix == ".py" or path.name in DATA or "skeleton" in path.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    assert names == files


def test_wheel_works_without_the_clone(wheel, tmp_path):
    venv.create(tmp_path / "venv", with_pip=False)
    scripts = tmp_path / "venv" / ("Scripts" if os.name == "nt" else "bin")
    pip = (
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        scripts / "python",
    )
    ran(*pip, "install", "--quiet", "--no-deps", "--no-index", wheel, folder=tmp_path)
    # numpy and the other dependencies come from here: the tests use no network
    (packages,) = (tmp_path / "venv").rglob("site-packages")
    (packages / "dependencies.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")

    code = "import xlstm; print(xlstm.__file__); print(xlstm.demo.path())"
    module, model = ran(scripts / "python", "-c", code, folder=tmp_path).splitlines()
    assert Path(module).is_relative_to(packages)
    assert re.search(
        r"total +2,180 +2,260 ", ran(scripts / "xlstm", "count", model, folder=tmp_path)
    )


def test_metadata_describes_the_package(metadata):
    assert metadata["Name"] == "xlstm-converter"
    assert metadata["Version"] == xlstm.__version__
    assert metadata["Author"] == "xlstm-converter developers"
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.13"} <= {
        *metadata.get_all("Classifier")
    }
    assert metadata["License-Expression"] == "Apache-2.0"


def test_text_for_the_index_has_no_relative_link(metadata):
    assert metadata["Description-Content-Type"] == "text/markdown"
    readme, text = (ROOT / "README.md").read_text("utf-8"), metadata.get_payload()
    assert RELATIVE.search(readme)
    assert not RELATIVE.search(text)
    assert text.splitlines()[0] == readme.splitlines()[0]
    assert len(text.splitlines()) >= len(readme.splitlines()) - 1


FORMS = [
    *(ROOT / ".github" / "ISSUE_TEMPLATE").glob("*-*.yml"),
    ROOT / ".github/ISSUE_TEMPLATE/other.yml",
]


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_forms_are_complete(path):
    form = yaml.safe_load(path.read_text("utf-8"))
    assert {"name", "description", "body"} <= {*form}
    ids = [field["id"] for field in form["body"]]
    assert len(ids) == len({*ids}) >= 1
    assert all(field["type"] in {"input", "textarea"} for field in form["body"])
    assert all(field["attributes"]["label"] for field in form["body"])


def test_citation_names_the_package():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert citation["title"].startswith("xlstm-converter")
    assert citation["cff-version"] == "1.2.0"
    assert citation["license"] == "Apache-2.0"
