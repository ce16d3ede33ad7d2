"""README and docs are true: sessions are what commands print, Python runs, links lead somewhere."""

import os
import re
import sys
import warnings
from pathlib import Path

import pytest
import readme

from xlstm.diagnosis import CAUSES

NAMES = [page.relative_to(readme.ROOT).as_posix() for page in readme.PAGES]
LINKED = [*NAMES, "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"]
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
PAGE_IN_CODE = re.compile(r"docs/[\w/-]+\.md")


def text_of(name):
    return (readme.ROOT / name).read_text("utf-8")


def without_code(text):
    """Markdown without fenced blocks and comments."""
    return re.sub(r"<!--.*?-->", "", re.sub(r"^ *```.*?^ *```$", "", text, flags=re.S | re.M))


def anchors(text):
    """The anchors of a page's headings, as the usual renderers of Markdown name them."""
    heads = re.findall(r"^#+ (.+)$", without_code(text), re.M)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def broken_links(name, text):
    """The relative links of a page that lead to no file, or to no heading of a page."""
    found = []
    for link in LINK.findall(without_code(text)):
        path, _, anchor = link.partition("#")
        target = (readme.ROOT / name).parent / path if path else readme.ROOT / name
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target.read_text("utf-8"))):
            found.append(link)
    return found


TASKS = "docs/howto/"
"""Folder of the pages whose blocks of Python belong together; all others stand alone."""


@pytest.mark.parametrize("name", NAMES)
def test_sessions_are_fresh_and_python_runs(name, monkeypatch):
    text = text_of(name)
    fresh = readme.refreshed(text)
    assert readme.comparable(fresh) == readme.comparable(text), "run `make readme`"
    monkeypatch.chdir(readme.workplace())
    monkeypatch.syspath_prepend(readme.workplace())
    if name == "docs/howto/serve.md":
        warnings.simplefilter("ignore")  # PyTorch's exporters warn of themselves
    page = {}
    for code in readme.PYTHON.findall(text):
        page = page if name.startswith(TASKS) else {}
        exec(compile(code, name, "exec"), page)
    for check in [found for word, found in page.items() if word.startswith("test_")]:
        check()  # of a page that shows tests
    for module in [*filter(is_port, sys.modules)]:
        monkeypatch.delitem(sys.modules, module)


def is_port(module):
    """True for the name of a module that a page has written and imported."""
    return (readme.workplace() / module.split(".")[0]).is_dir()


def test_the_sessions_are_there():
    commands = {
        name: [found["command"] for found in readme.BLOCK.finditer(text_of(name))] for name in NAMES
    }
    assert sum(map(len, commands.values())) >= 16
    for name in ("README.md", "docs/quickstart.md", "docs/proof.md"):
        assert "xlstm port memorise.keras --to torch -o memorise" in commands[name]
    assert all(
        readme.PYTHON.search(text_of(f"docs/{name}.md")) for name in ("models", "quickstart")
    )


def test_readme_is_short():
    text = text_of("README.md")
    assert len(text.splitlines()) <= 150
    assert len(text.encode()) <= 8192


@pytest.mark.parametrize("name", LINKED)
def test_links_lead_somewhere(name):
    assert broken_links(name, text_of(name)) == []


def test_a_broken_link_is_found():
    wrong = "[a](docs/no.md) [b](#no-heading) [c](docs/proof.md#no-heading)"
    right = "[d](docs/proof.md) [e](https://keras.io) [f](#install)\n# Install\n"
    found = broken_links("README.md", f"{wrong} {right}")
    assert found == ["docs/no.md", "#no-heading", "docs/proof.md#no-heading"]


def linked_pages(name):
    """The pages that a page links to."""
    links = [link.partition("#")[0] for link in LINK.findall(without_code(text_of(name)))]
    found = {os.path.normpath(os.path.join(os.path.dirname(name), link)) for link in links}
    return {Path(link).as_posix() for link in found} & set(NAMES)


def test_every_page_is_found_from_readme():
    seen, todo = set(), {"README.md"}
    while todo:
        seen |= todo
        todo = {page for name in todo for page in linked_pages(name)} - seen
    studies = {name for name in NAMES if name.startswith("docs/benchmarks/")}  # only include others
    assert set(NAMES) - seen == studies


def test_pages_named_in_code_are_there():
    folders = ("xlstm", "converters")
    files = [path for folder in folders for path in (readme.ROOT / folder).rglob("*.py")]
    named = {name for path in files for name in PAGE_IN_CODE.findall(path.read_text("utf-8"))}
    assert [name for name in sorted(named) if not (readme.ROOT / name).is_file()] == []
    assert not [path for path in files if "README" in path.read_text("utf-8")]


def test_every_cause_has_a_line_of_wrong_code():
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| `.+` \|$", text_of("docs/diagnose.md"), re.M)
    assert sorted(rows) == sorted(CAUSES)
