"""The in-toto statement about a port: valid, complete, and compared by verify."""

import getpass
import hashlib
import json
import platform
import re
import shutil

import jsonschema
import pytest
from emitted_sources import module_of
from google.protobuf import json_format
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement
from paths import DATA, ROOT

import xlstm
from xlstm.cli.main import main
from xlstm.errors import FileError
from xlstm.frameworks import registry
from xlstm.reading.statement import read_statement
from xlstm.verification.folder import verify_folder

NAME = "port.intoto.json"

SCHEMA = json.loads((ROOT / "docs" / "statement.schema.json").read_text())


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("here") / "port"
    source = DATA / "k224" / "gru.h5"
    words = ["port", source, "--to", "torch", "-o", folder, "--with-tests", "--quiet"]
    assert main([*map(str, words)]) == 0
    return folder


@pytest.fixture
def folder(original, tmp_path):
    return shutil.copytree(original, tmp_path / "port")


def stated(folder):
    return json.loads((folder / NAME).read_text())


def rewrite(folder, change):
    data = stated(folder)
    change(data)
    (folder / NAME).write_text(json.dumps(data))


def test_in_toto_takes_it(original):
    data = json_format.Parse((original / NAME).read_text(), statement_pb2.Statement())
    statement = Statement.copy_from_pb(data)
    statement.validate()
    assert {one.name for one in statement.pb.subject} == {
        item.name for item in original.iterdir() if item.is_file() and item.name != NAME
    }
    for one in statement.pb.subject:
        digest = hashlib.sha256((original / one.name).read_bytes()).hexdigest()
        assert dict(one.digest) == {"sha256": digest}


@pytest.mark.parametrize("framework", registry.frameworks())
def test_it_follows_its_schema(framework, tmp_path):
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    for source in (DATA / "k224" / "gru.h5", xlstm.load(xlstm.demo.path())):
        port = xlstm.save(source, tmp_path / "port", framework, overwrite=True, with_tests=True)
        jsonschema.validate(stated(port), SCHEMA)
    assert xlstm.save(port, tmp_path / "again", "torch", with_tests=True)
    jsonschema.validate(stated(tmp_path / "again"), SCHEMA)


def test_a_verified_port_follows_its_schema(original):
    jsonschema.validate(stated(original), SCHEMA)
    predicate = stated(original)["predicate"]
    assert predicate["verification"]["result"] == "equal"
    assert {v["dtype"] for v in predicate["verification"]["verdicts"]} == {"float32", "float64"}
    file = DATA / "k224" / "gru.h5"
    digest = {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    assert (predicate["source"]["name"], predicate["source"]["digest"]) == ("gru.h5", digest)


@pytest.mark.parametrize("key", ["source", "target", "verification", "golden", "environment"])
def test_the_schema_sees_what_is_missing(key, original):
    data = stated(original)
    del data["predicate"][key]
    with pytest.raises(jsonschema.ValidationError, match=key):
        jsonschema.validate(data, SCHEMA)


def test_nothing_of_the_machine_is_in_it(original):
    text = (original / NAME).read_text()
    assert str(original.parent) not in text
    assert str(DATA) not in text
    assert platform.node() not in text
    assert not re.search(rf"\b{re.escape(getpass.getuser())}\b", text)
    assert not re.search(r'"/|\.\./|[A-Z]:\\\\', text)


def test_verify_compares_all_files(original):
    assert verify_folder(original).changed == ()


@pytest.mark.parametrize("name", ["test_port.py", "golden.safetensors", "report.json"])
def test_verify_names_a_file_that_differs(name, folder, capsys):
    (folder / name).write_bytes((folder / name).read_bytes() + b"\n")
    assert main(["verify", str(folder), "--frameworks", "torch"]) == 1
    assert f"changed since the port: {name}, by {NAME}" in capsys.readouterr().out


def test_a_file_is_named_once(folder):
    (folder / "golden.safetensors").unlink()
    (folder / "model.py").write_text("")
    changed = verify_folder(folder).changed
    assert [line.split()[0] for line in changed] == ["golden.safetensors", "model.py"]


def test_a_folder_without_the_statement_is_verified_as_before(folder):
    for name in (NAME, "test_port.py", "golden.safetensors"):
        (folder / name).unlink()
    assert verify_folder(folder).ok


def test_a_folder_that_was_saved_again_is_equal_and_says_so(folder, capsys):
    import torch

    model = module_of(folder).Model.from_pretrained(folder)
    with torch.no_grad():
        next(model.parameters()).mul_(1.5)
    model.save_pretrained(folder)
    assert main(["verify", str(folder), "--frameworks", "torch"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"{NAME} is about other files (model.safetensors and report.json" in out
    assert "test_port.py fails" in out


BAD = {
    "none": lambda d: d.clear(),
    "type": lambda d: d.update(_type="https://in-toto.io/Statement/v0.1"),
    "predicate": lambda d: d.update(predicateType="urn:other"),
    "subjects": lambda d: d.update(subject={}),
    "path": lambda d: d["subject"][0].update(name="../secret"),
    "absolute": lambda d: d["subject"][0].update(name="/etc/hostname"),
    "name": lambda d: d["subject"][0].update(name=["model.py"]),
    "digest": lambda d: d["subject"][0].pop("digest"),
    "subject": lambda d: d["subject"].append("model.py"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_statement_is_refused(case, folder, capsys):
    rewrite(folder, BAD[case])
    with pytest.raises(FileError):
        read_statement(folder)
    assert main(["verify", str(folder), "--frameworks", "torch"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert NAME in lines[0]


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"\xff", b"[" * 10**5, b'{"a": 1, "a": 2}'])
def test_a_statement_that_is_no_json_is_refused(text, folder):
    (folder / NAME).write_bytes(text)
    with pytest.raises(FileError):
        read_statement(folder)
