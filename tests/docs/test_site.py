"""The documentation builds without a warning, and its reference has every public name."""

import shutil
import subprocess
import sys

import pytest
import readme

import xlstm

pytest.importorskip("sphinx", reason="the documentation needs Sphinx: install the extra docs")


def built(source, target):
    """Builds pages as `make docs` does."""
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--keep-going"]
    command += ["--nitpicky", str(source), str(target)]
    return subprocess.run(command, cwd=readme.ROOT, capture_output=True, text=True)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = built(readme.ROOT / "docs", folder)
    assert done.returncode == 0, done.stderr
    return folder


def test_every_page_is_built(site):
    docs = readme.ROOT / "docs"
    pages = [page.relative_to(docs).with_suffix(".html") for page in readme.PAGES[1:]]
    assert [page.as_posix() for page in pages if not (site / page).is_file()] == []


def test_reference_has_every_public_name(site):
    text = (site / "api.html").read_text("utf-8")
    modules = {"demo": "xlstm.demo.path"}
    names = [modules.get(name, f"xlstm.{name}") for name in xlstm.__all__ if name != "errors"]
    names += [f"xlstm.errors.{name}" for name in dir(xlstm.errors) if name.endswith("Error")]
    assert [name for name in names if f'id="{name}"' not in text] == []


def test_a_wrong_page_fails(tmp_path):
    shutil.copy(readme.ROOT / "docs" / "conf.py", tmp_path)
    (tmp_path / "index.md").write_text("# Page\n\n[no](missing.md)\n")
    done = built(tmp_path, tmp_path / "html")
    assert done.returncode != 0
    assert "missing.md" in done.stderr
