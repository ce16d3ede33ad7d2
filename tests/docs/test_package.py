"""The package: built, installed without the clone, and described for the index."""

import email
import re
import zipfile
from pathlib import Path

import numpy
import pytest
import wheels
import yaml
from paths import ROOT

import xlstm

RELATIVE = re.compile(r"\]\((?!https?://)")
DATA = {"demo.keras", "py.typed"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from the sdist, built from a copy of the clone."""
    return wheels.built_wheel(tmp_path_factory.mktemp("package"))


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
    scripts, packages = wheels.installed(wheel, tmp_path / "venv")
    # numpy and the other dependencies come from here: the tests use no network
    (packages / "dependencies.pth").write_text(f"{Path(numpy.__file__).parents[1]}\n")

    code = "import xlstm; print(xlstm.__file__); print(xlstm.demo.path())"
    module, model = wheels.ran(scripts / "python", "-c", code, folder=tmp_path).splitlines()
    assert Path(module).is_relative_to(packages)
    assert re.search(
        r"total +2,180 +2,260 ", wheels.ran(scripts / "xlstm", "count", model, folder=tmp_path)
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
