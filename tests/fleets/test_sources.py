"""Sources of fleets: folders, patterns, lists and URLs become models with unique names."""

import json
import os
import sys
import time
from pathlib import Path

import pytest

from xlstm.errors import FileError, MissingFrameworkError, StorageError, UsageError, XlstmError
from xlstm.fleets.entry import FleetEntry, FleetJob
from xlstm.fleets.sources import download, entries, local_copy, local_options
from xlstm.fleets.sources.search import Pattern

HDF = b"\x89HDF\r\n\x1a\n rest"
ZIP = b"PK\x03\x04 rest"

TREE = {
    "a.h5": HDF,
    "a.keras": ZIP,
    "broken.keras": b"",
    "README.md": b"PK\x03\x04",
    "notes": b"text",
    "noending": HDF,
    "lstm.net": ZIP,
    "data.npz": ZIP,
    ".hidden.h5": HDF,
    ".git/b.h5": HDF,
    "deep/er/B.hdf5": HDF,
    "deep/er.h5": HDF,
    "deep/er.txt": HDF,
    "saved/saved_model.pb": b"x",
    "saved/variables/variables.index": HDF,
    "saved/assets/vocab.h5": HDF,
    "unzipped/config.json": b"{}",
    "unzipped/metadata.json": b"{}",
    "unzipped/model.weights.h5": HDF,
    "v1.2/model.py": b"x",
    "v1.2/model.safetensors": b"x",
    "v1.2/report.json": b"{}",
    "out/fleet.json": b"{}",
    "out/models/p/model.py": b"x",
    "out/models/p/model.safetensors": b"x",
    "shards/big.weights.json": b"{}",
    "shards/big_00000.weights.h5": HDF,
    "shards/small_00000.weights.h5": HDF,
}
NAMES = [
    "a.h5",
    "a.keras",
    "broken",
    "deep/er",
    "deep/er/B",
    "lstm",
    "noending",
    "saved",
    "shards/big",
    "shards/small_00000",
    "unzipped",
    "v1.2",
]


def write(root, tree=TREE):
    for name, data in tree.items():
        Path(root, name).parent.mkdir(parents=True, exist_ok=True)
        Path(root, name).write_bytes(data)
    return str(root)


@pytest.fixture
def zoo(tmp_path):
    return write(tmp_path / "zoo")


@pytest.fixture(params=["memory", "bucket"])
def remote(request):
    """URL of the same tree in a storage."""
    import fsspec

    url = f"{request.getfixturevalue(request.param)}/deep zoo"
    files, root = fsspec.url_to_fs(url, use_listings_cache=False)
    files.pipe({f"{root}/{name}": data or b"" for name, data in TREE.items()})
    return url


def names(*sources, **options):
    return [entry.name for entry in entries(sources, **options)]


def test_a_folder(zoo):
    found = entries([zoo])
    assert [entry.name for entry in found] == NAMES
    by_name = {entry.name: entry for entry in found}
    assert by_name["deep/er/B"].path == f"{zoo}/deep/er/B.hdf5"
    assert by_name["a.h5"].size == len(HDF)
    assert by_name["saved"].size == 1 + 2 * len(HDF)


def test_a_folder_at_a_url(remote):
    found = entries([remote])
    assert [entry.name for entry in found] == NAMES
    assert {e.name: e.path for e in found}["deep/er/B"] == f"{remote}/deep/er/B.hdf5"
    assert entries([remote]) == found


PATTERNS = {
    "*.h5": ["a"],
    "**/*.h5": ["a", "deep/er", "shards/small_00000"],
    "deep/**": ["er", "er/B"],
    "*": ["a.h5", "a.keras", "broken", "lstm", "noending", "saved", "unzipped", "v1.2"],
    "d??p/*/*": ["deep/er/B"],
    "[ab]*": ["a.h5", "a.keras", "broken"],
    "**/er.txt": ["deep/er"],
    "*/*.txt": ["deep/er"],
    "v*": ["v1.2"],
    "**": NAMES,
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns(zoo, pattern):
    assert names(f"{zoo}/{pattern}") == PATTERNS[pattern]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_patterns_of_urls(remote, pattern):
    assert names(f"{remote}/{pattern}") == PATTERNS[pattern]


def test_a_folder_that_no_pattern_enters_is_not_opened(tmp_path, monkeypatch):
    write(tmp_path, {"x/a.h5": HDF, "y/z/b.h5": HDF})
    opened, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(str(path)) or scandir(path))
    assert names(f"{tmp_path}/x*/*.h5") == ["x/a"]
    assert opened == [str(tmp_path), f"{tmp_path}/x"]
    assert Pattern(["a", "**", "*.h5"]).enters("a/b/c/d")
    assert not Pattern(["a", "b", "*.h5"]).enters("a/c")


def test_single_files_and_folders(zoo, monkeypatch):
    assert names(f"{zoo}/deep/er.txt") == ["er"]
    assert names(f"{zoo}/saved") == ["saved"]
    assert names(f"{zoo}/v1.2", f"{zoo}/a.h5") == ["a", "v1.2"]
    monkeypatch.chdir(zoo)
    assert entries(["a.h5"])[0].path == f"{zoo}/a.h5"
    assert names("deep", ".") == names(".", "deep")


def test_a_file_with_characters_of_a_pattern(tmp_path):
    write(tmp_path, {"a[1].h5": HDF, "a1.h5": HDF})
    assert names(f"{tmp_path}/a[1].h5") == ["a[1]"]
    assert names(str(tmp_path)) == ["a1", "a[1]"]


def test_the_same_names_below_two_sources(tmp_path):
    one, two = (write(tmp_path / name, {"a.h5": HDF}) for name in ("one", "two"))
    found = names(one, two)
    assert len(set(found)) == 2
    assert found == names(two, one)
    assert all(name.startswith("a-") for name in found)
    assert names(one, f"{one}/a.h5", f"{one}/*") == ["a"]


def test_the_ports_of_a_fleet_are_a_source_if_named(zoo):
    assert names(f"{zoo}/out") == ["p"]


def test_links(tmp_path):
    write(tmp_path, {"a/m.h5": HDF, "z/n.h5": HDF})
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "a" / "self").symlink_to(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "z")
    (tmp_path / "broken.h5").symlink_to(tmp_path / "none")
    (tmp_path / "c.h5").symlink_to(tmp_path / "a" / "m.h5")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.h5")
    assert names(str(tmp_path)) == ["a/m", "c", "z/n"]
    assert names(f"{tmp_path}/**/*.h5") == ["a/m", "c", "z/n"]


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has such names")
def test_names_that_are_not_utf_8(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.h5")).write_bytes(HDF)
    assert names(str(tmp_path)) == ["\udcff"]


def test_a_stamp_changes_with_the_content(zoo, tmp_path):
    before = {entry.name: entry.stamp for entry in entries([zoo])}
    Path(zoo, "a.h5").write_bytes(HDF + b"!")
    Path(zoo, "saved/assets/vocab.h5").write_bytes(HDF + b"!")
    after = {entry.name: entry.stamp for entry in entries([zoo])}
    assert {name for name in after if after[name] != before[name]} == {"a.h5", "saved"}


def test_a_stamp_changes_with_the_object(remote):
    import fsspec

    before = {entry.name: entry.stamp for entry in entries([remote])}
    files, root = fsspec.url_to_fs(remote, use_listings_cache=False)
    files.pipe({f"{root}/a.h5": HDF[:-1] + b"!", f"{root}/saved/assets/vocab.h5": ZIP})
    after = {entry.name: entry.stamp for entry in entries([remote])}
    assert {name for name in after if after[name] != before[name]} == {"a.h5", "saved"}


def test_a_hundred_thousand_files(tmp_path):
    for number in range(2000):
        (tmp_path / f"m{number}.h5").touch()
    start = time.process_time()
    assert len(entries([str(tmp_path)])) == 2000
    assert time.process_time() - start < 1  # 100,000 took 1 s


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ([], "got no sources"),
        ([""], "a path or a URL"),
        (["a\0b"], "a path or a URL"),
        (["no/such"], "no such file"),
        (["no/such/*.h5"], "no such file"),
        (["/dev/null"], "a device or pipe"),
        (["empty"], "expected models, got none"),
        (["nope://x"], "a protocol that fsspec knows"),
        (["memory://no/such"], "no such bucket, folder or object"),
        (["s3://*/a.h5"], "without wildcards"),
    ],
)
def test_sources_that_cannot_be_used(source, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(XlstmError, match=message):
        entries(source)


def test_a_folder_that_cannot_be_read(tmp_path, monkeypatch):
    write(tmp_path, {"a/m.h5": HDF, "b/n.h5": HDF})
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith("/b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(FileError, match="/b: expected a folder that can be read"):
        entries([str(tmp_path)])


def test_a_missing_package_is_named(monkeypatch):
    import fsspec

    def missing(protocol, **_):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec, "filesystem", missing)
    with pytest.raises(MissingFrameworkError, match="pip install gcsfs"):
        entries(["gs://bucket/zoo"])


def test_an_unknown_option():
    with pytest.raises(UsageError, match="got wrong"):
        entries(["a.h5"], wrong="x")


CSV = "path,name,architecture,until\na.h5,customers/1,,\n\ndeep/er.h5,,b.json,lstm\n"


def test_a_list_of_csv(zoo):
    Path(zoo, "b.json").write_text("{}")
    Path(zoo, "list.csv").write_bytes(b"\xef\xbb\xbf" + CSV.replace("\n", "\r\n").encode())
    one, two = entries([f"{zoo}/list.csv"], until="dense", keras_version="2.1")
    assert (one.name, one.path) == ("customers/1", f"{zoo}/a.h5")
    assert one.options == {"until": "dense", "keras_version": "2.1"}
    assert (two.name, two.path) == ("deep/er", f"{zoo}/deep/er.h5")
    assert two.options == {
        "architecture": f"{zoo}/b.json",
        "until": "lstm",
        "keras_version": "2.1",
    }
    assert two.stamp.startswith(f"{len(HDF)}-")
    assert "+2-" in two.stamp


def test_a_list_named_by_a_relative_path(zoo, monkeypatch):
    monkeypatch.chdir(zoo)
    Path("list.csv").write_text("path,architecture\na.h5,a.keras\n")
    assert entries(["list.csv"])[0].options == {"architecture": f"{zoo}/a.keras"}
    Path("list.csv").write_text(f"path,name\na.h5,x\n{zoo}/a.h5,y\n")
    with pytest.raises(UsageError, match="got the one of line 2 again"):
        entries(["list.csv"])


def test_a_list_of_json_lines(zoo, remote):
    lines = [
        {"path": "a.h5"},
        {"path": "a.h5", "until": "x", "name": "second"},
        {"path": f"{remote}/a.keras", "options": {"keras_version": "2.1"}},
        {"path": f"{zoo}/saved"},
        {"path": f"{remote}/saved"},
    ]
    Path(zoo, "list.jsonl").write_text("\n\n".join(map(json.dumps, lines)))
    found = {entry.name: entry for entry in entries([f"{zoo}/list.jsonl"])}
    assert len(found) == 5
    assert found["second"].options == {"until": "x"}
    assert found["a.h5"].path == f"{zoo}/a.h5"
    assert found["a.keras"].options == {"keras_version": "2.1"}
    assert sum(name.startswith("saved-") for name in found) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the headers path"),
        ("name\na\n", "line 1: expected the headers path .*got no path"),
        ("path,color\na.h5,red\n", "line 1: .* got 'color'"),
        ("path,path\na.h5,a.h5\n", "line 1: .* got 'path'"),
        ("path\nno.h5\n", r"line 2: expected a model, got no\.h5: no such file"),
        (
            "path\na.h5\na.keras\n./a.h5\n",
            r"line 4: expected another model '\./a\.h5', got the one "
            "of line 2",
        ),
        (
            "path,name\na.h5,x\na.keras,x\n",
            "line 3: expected another name 'x', got the one of line 2",
        ),
        ("path,name\na.h5,x\n,y\n", "line 3: expected a path, got none"),
        ("path,name\na.h5,x,z\n", "line 2: expected 2 cells, got 3"),
        ('path\n"a.h5\n', "line 2: expected a row of CSV"),
        ("path\n\xff\n", "expected a line of UTF-8, got bytes that are not UTF-8"),
        ("path\n" + "a" * 2**20, "more than 1,048,576 characters"),
        ("path\na\0b\n", "line 2: expected a text for path, got a zero byte in it"),
    ],
)
def test_mistakes_in_csv(zoo, text, message):
    Path(zoo, "list.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=message) as caught:
        entries([f"{zoo}/list.csv"])
    assert caught.value.where.startswith(f"{zoo}/list.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "line 1: expected a path"),
        ('{"path": "a.h5"}\n[1]', "line 2: expected a JSON object, got a list"),
        ('{"path": "a.h5"', "line 1: expected a JSON object, got Expecting"),
        ("[" * 99999, "line 1: expected a JSON object"),
        ('{"path": 5}', "line 1: expected a text for path, got a number"),
        ('{"path": "a.h5", "options": 5}', "line 1: expected options as an object"),
        ('{"path": "a.h5", "options": {"color": "red"}}', "line 1: .* got 'color'"),
        ('{"path": "a.h5", "options": {"path": "b"}}', "line 1: .* got 'path'"),
        ('{"path": "memory://no/such.h5"}', "line 1: expected a model, got memory.*no such"),
    ],
)
def test_mistakes_in_json_lines(zoo, text, message):
    Path(zoo, "list.jsonl").write_text(text)
    with pytest.raises(UsageError, match=message):
        entries([f"{zoo}/list.jsonl"])


JOB = FleetJob("torch")


def test_a_local_model_is_not_copied(zoo):
    with local_copy(entries([f"{zoo}/a.h5"])[0], JOB) as path:
        assert path == Path(zoo, "a.h5")
    assert path.exists()


def test_a_copy_is_removed(remote, monkeypatch):
    monkeypatch.setattr(download, "PIECE", 5)
    for entry in entries([remote]):
        with local_copy(entry, JOB) as path:
            assert path.name == entry.path.rstrip("/").rpartition("/")[2]
            if path.is_dir():
                prefix = f"{path.name}/"
                wanted = {n: d for n, d in TREE.items() if n.startswith(prefix)}
                found = (p for p in path.rglob("*") if p.is_file())
                assert {f"{prefix}{p.relative_to(path)}": p.read_bytes() for p in found} == wanted
            else:
                assert path.read_bytes() == TREE[entry.path.removeprefix(f"{remote}/")]
        assert not path.parent.exists()


def test_a_size_is_checked_before_and_during_the_copy(remote, monkeypatch):
    before, _, folder, *_ = (e for e in entries([remote]) if e.name in ("a.h5", "saved", "v1.2"))
    del folder
    entry = next(e for e in entries([remote]) if e.name == "a.h5")
    assert entry == before
    small = FleetJob("torch", largest=5)
    with pytest.raises(FileError, match="at most 5 bytes, got 13 bytes"), local_copy(entry, small):
        pass
    monkeypatch.setattr(download, "PIECE", 4)
    for path in (entry.path, f"{remote}/saved/"):
        grown = FleetEntry("a", path, "1", 2)
        with pytest.raises(FileError, match="at most 5 bytes"), local_copy(grown, small):
            pass


def test_a_large_local_file_is_refused(zoo):
    entry = FleetEntry("a", f"{zoo}/a.h5", "1", 0)
    with (
        pytest.raises(FileError, match="at most 5 bytes"),
        local_copy(entry, FleetJob("torch", largest=5)),
    ):
        pass


def test_a_small_object_is_one_request(bucket, monkeypatch):
    import fsspec
    import s3fs

    fsspec.filesystem("s3").pipe_file(f"{bucket}/a.h5", HDF)
    (entry,) = entries([bucket])
    calls, call = [], s3fs.S3FileSystem._call_s3

    async def counted(self, method, *args, **options):
        calls.append(method)
        return await call(self, method, *args, **options)

    monkeypatch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    with local_copy(entry, JOB) as path:
        assert path.read_bytes() == HDF
    assert calls == ["get_object"]


def test_an_object_that_vanished(remote):
    entry = FleetEntry("a", f"{remote}/none.h5", "1", 5)
    with pytest.raises(FileError, match="no such bucket, folder or object"), local_copy(entry, JOB):
        pass


def test_a_storage_that_fails_may_be_tried_again(memory, monkeypatch):
    from fsspec.implementations.memory import MemoryFileSystem

    def reset(*_, **__):
        raise ConnectionResetError("reset by peer")

    monkeypatch.setattr(MemoryFileSystem, "cat_file", reset)
    entry = FleetEntry("a", f"{memory}/a.h5", "1", 5)
    with pytest.raises(StorageError, match="no connection"), local_copy(entry, JOB):
        pass


@pytest.mark.parametrize("name", ["../x", "a/../../x", "a\\..\\x"])
def test_names_in_a_folder_stay_in_it(memory, name):
    from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

    store = MemoryFileSystem.store
    for path in (f"/zoo/m/{name}", "/zoo/m/saved_model.pb"):
        store[path] = MemoryFile(MemoryFileSystem(), path, b"x")
    with (
        pytest.raises(FileError, match="plain names of files"),
        local_copy(FleetEntry("m", f"{memory}/m/", "1"), JOB),
    ):
        pass


def test_an_architecture_of_a_url_is_copied(remote, zoo):
    entry = FleetEntry(
        "a", f"{zoo}/a.h5", "1", 0, {"architecture": f"{remote}/unzipped/config.json"}
    )
    with local_options(entry, JOB) as options:
        assert Path(options["architecture"]).read_bytes() == b"{}"
    assert not Path(options["architecture"]).exists()
    plain = FleetEntry("a", "a.h5", "1", 0, {"until": "x", "architecture": "b.json"})
    with local_options(plain, JOB) as options:
        assert options == {"until": "x", "architecture": "b.json"}
