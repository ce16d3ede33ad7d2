"""The recorded proof of a port: run again anywhere, and what has changed since is said by name."""

import dataclasses
import hashlib
import json
import os
import shutil
import sys

import numpy as np
import pytest
from refusing import deadline

import xlstm
from xlstm.cli.main import main
from xlstm.errors import FileError, NotEqualError
from xlstm.files import hashes as digests
from xlstm.reading.record import read_record
from xlstm.verification.folder import verify_folder
from xlstm.verification.inputs import Recipe, make_inputs


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A folder with a model and its port, as the command line writes it."""
    folder = tmp_path_factory.mktemp("proof")
    shutil.copy(xlstm.demo.path(), folder / "memorise.keras")
    args = ["port", str(folder / "memorise.keras"), "--to", "torch", "-o", str(folder / "port")]
    assert main(args) == 0
    return folder


@pytest.fixture
def folder(original, tmp_path):
    """A copy of it that may be changed."""
    return shutil.copytree(original, tmp_path / "here") / "port"


@pytest.fixture
def verify(capsys):
    """Runs `xlstm verify FOLDER --frameworks torch`: (exit status, JSON or stdout, stderr)."""

    def call(folder, *args):
        status = main(["verify", str(folder), "--frameworks", "torch", *args])
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return status, printed.out, printed.err

    return call


def of_proof(verify, folder, *more):
    """(exit status, what has changed, what else is other) by the JSON."""
    status, out, _ = verify(folder, "--json", *more)
    found = json.loads(out)
    assert found["ok"] == (status == 0)
    assert found["proof"]["ok"] == (not found["proof"]["changed"])
    return status, found["proof"]["changed"], found["proof"]["since"]


def rewrite(folder, change):
    """Changes the record: `change` gets the report as plain data."""
    file = folder / "report.json"
    data = json.loads(file.read_text())
    change(data)
    file.write_text(json.dumps(data))


def test_the_record_says_what_the_port_was_made_and_verified_with(original):
    report = json.loads((original / "port" / "report.json").read_text())
    kept = report["proof"]
    for name in ("model.py", "model.safetensors"):
        data = (original / "port" / name).read_bytes()
        assert kept["hashes"][name] == hashlib.sha256(data).hexdigest()
    data = (original / "memorise.keras").read_bytes()
    assert report["source"]["sha256"] == hashlib.sha256(data).hexdigest()
    assert kept["origin"] == "../memorise.keras"
    assert set(kept["versions"]) == {"python", "xlstm", "numpy", "torch"}
    assert kept["versions"]["numpy"] == np.__version__
    assert kept["platform"]
    assert report["verification"]["frameworks"]["torch"]["float64"]["verdict"] == "rounding"


def test_the_recipe_makes_the_very_same_inputs_again(original):
    recipe = json.loads((original / "port" / "report.json").read_text())["verification"]["recipe"]
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in recipe["cooked"].items()}
    arrays = make_inputs(xlstm.load(original / "port"), Recipe(**fields))
    assert digests.of_arrays(arrays) == recipe["sha256"]
    assert recipe["inputs"] == [{"name": "input", "shape": [6, 20, 1], "dtype": "float32"}]


def test_nothing_has_changed(original, verify):
    assert of_proof(verify, original / "port") == (0, [], [])
    _, out, _ = verify(original / "port")
    assert "PyTorch ran our port, model.py of the folder." in out
    assert out.startswith("Equal up to rounding: PyTorch.\n")
    assert out.endswith("Files, versions, inputs and verdicts are those of the port.\n")


def test_it_runs_anywhere_and_says_that_the_source_is_not_there(folder, tmp_path, verify):
    elsewhere = shutil.copytree(folder, tmp_path / "far" / "away")
    status, changed, since = of_proof(verify, elsewhere)
    assert (status, changed) == (0, [])
    alone = "the files were compared with the record alone"
    where = "pass --origin PATH (memorise.keras, at ../memorise.keras: no such file)"
    assert since == [f"source not compared: {where}; {alone}"]


def test_one_bit_of_the_weights(folder, verify):
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    status, changed, _ = of_proof(verify, folder)
    assert (status, changed[0]) == (1, "model.safetensors")
    _, out, _ = verify(folder)
    assert "changed since the port: model.safetensors" in out
    assert out.startswith("Not the port that was written: model.safetensors")
    with pytest.raises(NotEqualError, match=r"model\.safetensors"):
        verify_folder(folder).check()


def test_another_model_py_is_not_run(folder, verify):
    file = folder / "model.py"
    marker = folder / "ran"
    file.write_text(f"open({str(marker)!r}, 'w')\n{file.read_text()}")
    here = f"model.py is neither what xlstm {xlstm.__version__} writes nor what was recorded"
    for trust in ((), ("--trust",)):
        status, changed, _ = of_proof(verify, folder, *trust)
        assert (status, changed) == (1, [f"{here}; not run"])
        _, out, _ = verify(folder, *trust)
        assert f"changed since the port: {here}; not run" in " ".join(out.split())
        assert out.startswith("Not the port that was written: model.py is neither what xlstm")
        assert "port the model again" not in " ".join(out.split())
        assert "verify never runs it; look at it" in " ".join(out.split())
    assert not marker.exists()


def test_it_is_the_model_py_of_the_folder_that_runs(folder, verify):
    file = folder / "model.py"
    file.write_text(file.read_text().replace("x = self.dense(x)", "x = self.dense(x) * 1.0001"))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    rewrite(folder, lambda data: data["proof"]["hashes"].update({"model.py": digest}))
    status, changed, _ = of_proof(verify, folder)
    here = f"what xlstm {xlstm.__version__} writes"
    assert (status, changed) == (1, [f"model.py is not {here}; not run without --trust"])
    status, out, _ = verify(folder, "--json", "--trust")
    found = json.loads(out)
    assert status == 1
    assert found["proof"]["changed"] == []
    assert found["frameworks"]["torch"]["float64"]["verdict"] == "different"
    assert "torch float64: different, equal at the port" in found["proof"]["since"]
    assert f"model.py is what was recorded, not {here}; run with --trust" in found["proof"]["since"]


def test_what_xlstm_itself_writes_is_run_whatever_was_recorded(folder, verify):
    rewrite(folder, lambda data: data["proof"]["hashes"].update({"model.py": "0" * 64}))
    status, changed, since = of_proof(verify, folder)
    assert (status, changed) == (0, [])
    assert since == [f"model.py is what xlstm {xlstm.__version__} writes, not what was recorded"]


def test_a_source_that_was_trained_further(folder, verify):
    (folder.parent / "memorise.keras").write_bytes(b"something else")
    status, _, since = of_proof(verify, folder)
    assert (status, len(since)) == (0, 1)
    assert since[0].startswith("source not compared: pass --origin PATH (memorise.keras, at ../mem")
    import make_files

    make_files.make("keras", folder.parent).rename(folder.parent / "memorise.keras")
    assert of_proof(verify, folder)[:2] == (1, ["source memorise.keras at ../memorise.keras"])


def test_weights_and_record_changed_together(folder, verify):
    file = folder / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    rewrite(folder, put(digest, "proof", "hashes", file.name))
    status, changed, _ = of_proof(verify, folder)
    assert status == 1
    assert len(changed) == 1
    assert changed[0].startswith("model.safetensors: ")
    assert changed[0].endswith(" is not that of memorise.keras at ../memorise.keras")


def test_other_versions_machines_inputs_and_figures(folder, verify):
    def change(data):
        data["proof"]["versions"] |= {"torch": "1.0", "python": "2.7"}
        data["proof"]["platform"] = "Commodore-64"
        data["verification"]["recipe"]["sha256"] = "0" * 64
        data["verification"]["frameworks"]["torch"]["float32"]["verdict"] = "different"
        data["verification"]["frameworks"]["torch"]["float64"]["max_abs"] = 0.5

    rewrite(folder, change)
    status, changed, since = of_proof(verify, folder)
    assert (status, changed) == (0, [])
    text = "\n".join(since)
    for words in (
        "1.0 at the port",
        "python 3.",
        ", Commodore-64 at the port",
        "inputs: made from the model, seed 20, others than at the port",
        "torch float32: equal, different at the port",
        "torch float64: largest difference ",
        "e-16, 0.5 at the port",
    ):
        assert words in text, words


def test_the_users_own_inputs_are_others_than_at_the_port(folder, verify, tmp_path):
    np.save(tmp_path / "x.npy", np.ones((2, 20, 1), np.float32))
    status, out, _ = verify(folder, "--json", "--inputs", str(tmp_path / "x.npy"))
    found = json.loads(out)
    assert status == 0
    assert found["recipe"]["cooked"] is None
    assert "inputs: given, others than at the port" in found["proof"]["since"]


@pytest.mark.parametrize("target", ["torch", "nnx"])
def test_a_port_that_was_not_verified_is_now(target, tmp_path, capsys):
    xlstm.save(xlstm.demo.path(), tmp_path / "port", target)
    assert main(["verify", str(tmp_path / "port"), "--frameworks", target, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    outside, unverified = found["proof"]["since"]
    assert "outside the folder's parent" in outside
    assert unverified.startswith("the port was not verified when it was written: ")
    assert f"xlstm port SOURCE --to {target} -o" in unverified
    assert found["frameworks"][target]["what"] == "our port, model.py of the folder"


def test_a_missing_target(original, verify, monkeypatch):
    monkeypatch.setattr("xlstm.frameworks.adapter.importlib.util.find_spec", lambda _name: None)
    status, out, err = verify(original / "port")
    assert (status, out) == (2, "")
    assert err.startswith("xlstm: PyTorch: expected an installed package")


def test_a_missing_target_beside_others(original, monkeypatch, capsys):
    from importlib.util import find_spec

    def hidden(name):
        return None if name == "torch" else find_spec(name)

    monkeypatch.setattr("xlstm.frameworks.adapter.importlib.util.find_spec", hidden)
    assert main(["verify", str(original / "port"), "--frameworks", "nnx", "--json"]) == 2
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    assert found["frameworks"]["nnx"]["float64"]["verdict"] == "rounding"
    assert found["frameworks"]["torch"]["float64"]["verdict"] == "failed"
    assert "PyTorch: expected an installed package" in printed.err


def without(*path):
    def change(data):
        *before, last = path
        for key in before:
            data = data[key]
        del data[last]

    return change


def put(value, *path):
    def change(data):
        *before, last = path
        for key in before:
            data = data[key]
        data[last] = value

    return change


DAMAGED = {
    "no-proof": without("proof"),
    "no-hashes": without("proof", "hashes"),
    "no-hash-of-the-code": without("proof", "hashes", "model.py"),
    "hash-of-others": put("0" * 64, "proof", "hashes", "../../etc/passwd"),
    "hash-is-a-number": put(7, "proof", "hashes", "model.py"),
    "hashes-are-a-list": put([], "proof", "hashes"),
    "proof-is-a-text": put("yes", "proof"),
    "no-versions": without("proof", "versions"),
    "version-is-null": put(None, "proof", "versions", "torch"),
    "platform-is-a-list": put([], "proof", "platform"),
    "origin-is-a-number": put(1, "proof", "origin"),
    "no-verification": without("verification"),
    "verification-is-true": put(True, "verification"),
    "frameworks-are-a-list": put([], "verification", "frameworks"),
    "no-float64": without("verification", "frameworks", "torch", "float64"),
    "verdict-is-true": put(True, "verification", "frameworks", "torch", "float32", "verdict"),
    "framework-is-null": put(None, "verification", "frameworks", "torch"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_refused(name, folder, verify):
    rewrite(folder, DAMAGED[name])
    status, out, err = verify(folder)
    assert (status, out) == (2, "")
    assert err.startswith(f"xlstm: {folder}")
    assert len(err.splitlines()) == 1


TEXTS = {
    "empty": "",
    "cut": '{"proof": {',
    "list": "[]",
    "null": "null",
    "infinite": '{"proof": 1e999}',
    "twice": '{"proof": {}, "proof": {}}',
    "deep": '{"proof": ' + "[" * 5000 + "]" * 5000 + "}",
    "bytes": "\udcff\udcfe",
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_report_that_is_none_is_refused(name, folder, verify):
    (folder / "report.json").write_text(TEXTS[name], "utf-8", "surrogateescape")
    status, out, err = verify(folder)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1


SECRET = b"root:$6$secret"
"""The first bytes of a file that nobody named."""


def a_far_file(folder):
    (folder.parents[1] / "far").mkdir()
    (folder.parents[1] / "far" / "shadow").write_bytes(SECRET)
    return folder.parents[1] / "far" / "shadow"


def an_absolute_path(folder):
    return str(a_far_file(folder))


def a_path_upwards(folder):
    a_far_file(folder)
    return "../../far/shadow"


def a_path_up_and_down(folder):
    a_far_file(folder)
    (folder.parent / "sub").mkdir()
    return "../sub/../../far/shadow"


def a_link(folder):
    (folder.parent / "link.keras").symlink_to(a_far_file(folder))
    return "../link.keras"


def a_linked_folder(folder):
    (folder.parent / "link").symlink_to(a_far_file(folder).parent)
    return "../link/shadow"


def a_folder_with_a_link(folder):
    (folder.parent / "saved").mkdir()
    for name in ("metadata.json", "config.json"):
        (folder.parent / "saved" / name).symlink_to(a_far_file(folder) if name[0] == "m" else "x")
    return "../saved"


def a_system_file(_folder):
    return "/etc/passwd"


def a_device(_folder):
    return "/dev/zero"


def a_linked_device(folder):
    (folder.parent / "zeros.keras").symlink_to("/dev/zero")
    return "../zeros.keras"


def a_fifo(folder):
    os.mkfifo(folder.parent / "pipe.keras")
    return "../pipe.keras"


def a_huge_file(folder):
    with (folder.parent / "huge.keras").open("wb") as file:
        file.write(b"PK\3\4")
        file.truncate(2**40)
    return "../huge.keras"


def a_loop(folder):
    (folder.parent / "loop.keras").symlink_to("loop.keras")
    return "../loop.keras"


def another_file_beside_it(folder):
    (folder.parent / "notes.txt").write_bytes(SECRET)
    return "../notes.txt"


def an_architecture_beside_it(folder):
    (folder.parent / "notes.json").write_text(json.dumps({"class_name": SECRET.decode()}))
    return "../notes.json"


NOT_NAMED = [
    an_absolute_path,
    a_path_upwards,
    a_path_up_and_down,
    a_link,
    a_linked_folder,
    a_folder_with_a_link,
    a_system_file,
    a_device,
    a_linked_device,
    a_fifo,
    a_huge_file,
    a_loop,
    another_file_beside_it,
    an_architecture_beside_it,
]


@pytest.mark.parametrize("case", NOT_NAMED, ids=lambda case: case.__name__)
def test_files_that_the_user_did_not_name_are_never_quoted(case, folder, verify, monkeypatch):
    opened, real = [], os.open
    monkeypatch.setattr(
        os, "open", lambda path, *a, **k: opened.append(path) or real(path, *a, **k)
    )
    origin = case(folder)
    rewrite(folder, put(origin, "proof", "origin"))
    with deadline(60):
        status, out, err = verify(folder, "--json")
    found = json.loads(out)["proof"]
    assert (status, found["changed"], err) == (0, [], "")
    assert len(found["since"]) == 1
    said = found["since"][0]
    place = f"source not compared: pass --origin PATH (memorise.keras, at {origin}: "
    assert said.startswith(place)
    assert "secret" not in out
    assert "root" not in said.removeprefix(place)
    if not case.__name__.endswith("beside_it"):
        named = [(folder / origin).resolve(), folder / origin] if "loop" not in origin else []
        assert not {str(path) for path in opened} & {str(path) for path in named}


def test_a_place_outside_says_not_even_whether_something_is_there(folder, verify):
    said = []
    for name in ("there", "missing"):
        (folder.parents[1] / "there").write_text("x")
        rewrite(folder, put(f"../../{name}", "proof", "origin"))
        said.append(of_proof(verify, folder)[2][0].replace(name, ""))
    assert said[0] == said[1]


def test_the_source_is_named_where_it_lies_elsewhere(folder, verify, tmp_path):
    (tmp_path / "far").mkdir()
    moved = (folder.parent / "memorise.keras").rename(tmp_path / "far" / "m.keras")
    rewrite(folder, put("../../far/m.keras", "proof", "origin"))
    _, _, since = of_proof(verify, folder)
    assert "pass --origin PATH" in since[0]
    assert "outside the folder's parent" in since[0]
    status, out, _ = verify(folder, "--json", "--origin", str(moved))
    assert (status, json.loads(out)["proof"]["since"]) == (0, [])
    import make_files

    other = make_files.make("keras", tmp_path)
    status, out, _ = verify(folder, "--json", "--origin", str(other))
    assert (status, json.loads(out)["proof"]["changed"]) == (
        1,
        [f"source memorise.keras at {other}"],
    )


def test_a_source_that_the_user_names_has_to_be_read(folder, verify, tmp_path):
    (tmp_path / "notes.txt").write_bytes(b"my own notes")
    status, out, err = verify(folder, "--origin", str(tmp_path / "notes.txt"))
    assert (status, out) == (2, "")
    assert "a file that starts with b'my own n'" in err
    assert verify(folder, "--origin", str(tmp_path / "missing"))[0] == 2


def test_an_origin_is_of_ported_folders_of_files(verify, tmp_path):
    status, out, err = verify(xlstm.demo.path(), "--origin", "x")
    assert (status, out) == (2, "")
    assert "--origin: expected a ported folder" in err
    live = xlstm.port(xlstm.demo.path(), "numpy").model
    live = dataclasses.replace(live, source=dataclasses.replace(live.source, sha256=""))
    port = xlstm.save(live, tmp_path / "port", "torch")
    status, out, err = verify(port, "--origin", str(xlstm.demo.path()))
    assert (status, out) == (2, "")
    assert "remove --origin" in err


def test_a_source_of_another_file_with_the_same_hash_is_not_quoted(folder, verify):
    """Who writes the folder may know the hash of a file, and not what is in it."""
    (folder.parent / "memorise.keras").unlink()
    other = folder.parent / "memorise.keras"
    import make_files

    make_files.make("keras", folder.parent).rename(other)
    digest, old = (
        hashlib.sha256(path.read_bytes()).hexdigest() for path in (other, xlstm.demo.path())
    )
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes().replace(old.encode(), digest.encode()))
    hashes = hashlib.sha256(file.read_bytes()).hexdigest()
    rewrite(folder, put(hashes, "proof", "hashes", file.name))
    _, changed, since = of_proof(verify, folder)
    assert not [line for line in (*changed, *since) if "small" in line]


def test_origins_that_no_file_has_are_no_crash(folder):
    (folder / "loop").symlink_to("loop")
    for origin in ("\0", "x" * 5000, "loop/x", "."):
        rewrite(folder, put(origin, "proof", "origin"))
        assert read_record(folder).origin == origin
        found = verify_folder(folder)
        assert found.ok
        assert found.since[0].startswith("source not compared: ")


def test_a_folder_that_is_half_a_port(folder, verify):
    (folder / "model.safetensors").unlink()
    status, _, err = verify(folder)
    assert status == 2
    assert "got no model.safetensors" in err
    assert verify(folder, "--trust")[2] == err
    with pytest.raises(FileError, match=r"got no model\.safetensors"):
        verify_folder(folder)


def test_a_recorded_code_that_is_gone(folder, verify):
    (folder / "model.py").unlink()
    status, changed, _ = of_proof(verify, folder)
    assert (status, changed) == (1, ["model.py (no such file)"])


OF_FILES = {
    "--keras-version": "2.1",
    "--kernel-layout": "theano",
    "--architecture": "nothing.json",
    "--until": "lstm",
}


@pytest.mark.parametrize("option", OF_FILES)
def test_options_of_source_files_do_not_skip_the_record(option, folder, verify):
    (folder / "model.py").write_text("# another\n")
    status, out, err = verify(folder, option, OF_FILES[option])
    assert (status, out) == (2, "")
    assert f"a file of Keras for {option}" in err
    assert main(["count", str(folder), option, OF_FILES[option]]) == 2
    assert main(["inspect", str(folder), option, OF_FILES[option]]) == 2


def test_trust_is_of_ported_folders(verify):
    status, out, err = verify(xlstm.demo.path(), "--trust")
    assert (status, out) == (2, "")
    assert "--trust: expected a ported folder" in err


def test_a_folder_may_be_a_text(original):
    assert verify_folder(str(original / "port")).ok


def test_arrays_have_one_hash_whatever_their_bytes_order():
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    same = [x, x.astype(">f4"), np.asfortranarray(x)]
    assert len({digests.of_arrays([y]) for y in same}) == 1
    others = [[x.T], [x.astype("f8")], [x.ravel()], [x, x], [x[:1], x[1:]]]
    assert len({digests.of_arrays(arrays) for arrays in [[x], *others]}) == 6
    assert sys.byteorder == "little" or digests.of_arrays([x])
