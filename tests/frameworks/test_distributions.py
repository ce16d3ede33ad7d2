"""Distributions are searched for once, and again after a change."""

import importlib.metadata
import os

from xlstm.frameworks import distributions, registry


def install(folder, name, version="1.5"):
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{name} = {name}:ADAPTER\n")


def test_a_distribution_that_is_installed_later_is_found(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    assert distributions.version("lateone") == ""
    assert "lateone" not in registry.names()
    install(tmp_path, "lateone")
    # a file system has a clock of some milliseconds, too coarse for two changes in a row
    os.utime(tmp_path, (1, 1))
    assert distributions.version("lateone") == "1.5"
    assert "lateone" in registry.names()


def test_a_second_search_opens_no_file(monkeypatch):
    names, version = registry.names(), distributions.version("numpy")
    assert version

    def fails(*_args, **_options):
        raise AssertionError("a second search")

    monkeypatch.setattr(importlib.metadata, "entry_points", fails)
    monkeypatch.setattr(importlib.metadata, "version", fails)
    assert registry.names() == names
    assert distributions.version("numpy") == version
