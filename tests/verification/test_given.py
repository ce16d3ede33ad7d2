"""The user's own arrays: every way to hand them in, and files that are not to be believed."""

import io
import json
import struct

import numpy as np
import pytest
from cases import built, model
from refusing import refused
from safetensors.numpy import save_file

import xlstm
from xlstm.cli.main import main
from xlstm.errors import FileError, UsageError
from xlstm.ir.graph import Builder
from xlstm.ir.layers import LSTM, Dense, Embedding, Input
from xlstm.verification.user_inputs import arrays_for

ONE = model([LSTM(3, 4)], (None, 3))
X = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
MASK = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])


def two():
    """A layer with a mask of its own input."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    mask = graph.add("m", Input((None,), "bool"))
    return built(graph, [graph.add("lstm", LSTM(3, 4), [x], mask=mask)])


TWO = two()


def saved(folder, kind, **arrays):
    path = folder / f"inputs.{kind}"
    if kind == "npz":
        np.savez(path, **arrays)
    elif kind == "safetensors":
        save_file(arrays, path)
    else:
        np.save(path, *arrays.values())
    return path


def test_one_array_in_every_form(tmp_path):
    forms = [X, [X], (X,), X.tolist(), [X.tolist()], {"input": X}, {"input": X.tolist()}]
    forms += [saved(tmp_path, kind, input=X) for kind in ("npy", "npz", "safetensors")]
    forms += [str(forms[-1]), [forms[-2]], {"input": tmp_path / "inputs.npy"}]
    forms += [saved(tmp_path, "npz", of_any_name=X), X[:1].tolist(), [X[:1].tolist()]]
    for form in forms:
        (found,) = arrays_for(ONE, form)
        np.testing.assert_array_equal(found, X[: len(found)])


def test_several_inputs_in_every_form(tmp_path):
    npz = saved(tmp_path, "npz", m=MASK, x=X)
    np.save(tmp_path / "x.npy", X)
    np.save(tmp_path / "m.npy", MASK)
    parts = [saved(tmp_path, "safetensors", x=X), tmp_path / "arr.npz"]
    np.savez(parts[1], m=MASK)
    np.savez(tmp_path / "numbered.npz", X, MASK)
    files = [tmp_path / "x.npy", tmp_path / "m.npy"]
    for form in (
        [X, MASK],
        {"m": MASK, "x": X},
        {"m": files[1], "x": X},
        npz,
        [npz],
        files,
        [X, files[1]],
        parts,
        tmp_path / "numbered.npz",
    ):
        x, mask = arrays_for(TWO, form)
        np.testing.assert_array_equal(x, X)
        assert mask.dtype == bool
        np.testing.assert_array_equal(mask, MASK)


BAD = {
    "no-name": ({"x": X}, "left over", UsageError),
    "wrong-name": ({"y": X, "m": MASK}, "left over: y", UsageError),
    "number": ([X], "2 arrays", UsageError),
    "batches": ([X, MASK[:1]], "2 for x, 1 for m", UsageError),
    "shape": ([X[..., :2], MASK], "(batch, any, 3)", UsageError),
    "text": ([X.astype(str), MASK], "dtype <U", UsageError),
    "objects": ([np.full(X.shape, None), MASK], "dtype object", UsageError),
    "complex": ([X * 1j, MASK], "complex", UsageError),
    "ragged": ([[[1.0], [1.0, 2.0]], MASK], "inputs", UsageError),
    "nan": ([X * np.nan, MASK], "finite", UsageError),
    "number-alone": (3.0, "2 arrays", UsageError),
    "none": ([None, MASK], "dtype object", UsageError),
    "no-file": ("nowhere.npz", "no such file", FileError),
    "no-such-path": ({"x": "nowhere\0.npy", "m": MASK}, "readable", FileError),
}


@pytest.mark.parametrize("case", BAD)
def test_what_does_not_fit_is_refused(case):
    inputs, words, kind = BAD[case]
    if case == "no-name":
        words = "no m"
    refused(kind, lambda: arrays_for(TWO, inputs), words)


def test_a_batch_that_the_model_was_not_built_for():
    fixed = model([LSTM(3, 4, stateful=True)], (None, 3))
    refused(UsageError, lambda: arrays_for(fixed, X), "6", "2")


def npy(header, data=b""):
    text = f"{header:<117}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def header(shape, descr="<f4"):
    return str({"descr": descr, "fortran_order": False, "shape": shape})


HOSTILE = {
    "huge.npy": npy(header((2**40,))),
    "short.npy": npy(header((4,)), b"\0" * 8),
    "long.npy": npy(header((1,)), b"\0" * 8),
    "negative.npy": npy(header((-1,)), b"\0" * 8),
    "code.npy": npy("__import__('os').abort()"),
    "objects.npy": npy(header((1,), "|O"), b"\0" * 8),
    "cut.npy": b"\x93NUMPY\x01",
    "zip.npz": b"PK\x03\x04" + b"\0" * 40,
    "empty.npy": b"",
    "text.npy": b"1, 2, 3\n" * 9,
    "huge.safetensors": struct.pack("<Q", 80)
    + json.dumps({"x": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}}).encode(),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_files_that_are_not_to_be_believed(case, tmp_path):
    path = tmp_path / case
    path.write_bytes(HOSTILE[case])
    refused(FileError, lambda: arrays_for(ONE, path))


def test_no_pickle_is_opened(tmp_path):
    for name, save in (("a.npy", np.save), ("a.npz", np.savez)):
        save(tmp_path / name, np.array([{}], object), allow_pickle=True)
        refused(FileError, lambda name=name: arrays_for(ONE, tmp_path / name))
    stream = io.BytesIO()
    np.savez(stream, x=np.array([print], object))
    (tmp_path / "b.npz").write_bytes(stream.getvalue())
    refused(FileError, lambda: arrays_for(ONE, tmp_path / "b.npz"))


def test_names_twice_and_kinds_mixed(tmp_path):
    npz = saved(tmp_path, "npz", x=X)
    refused(UsageError, lambda: arrays_for(TWO, [npz, npz]), "twice")
    refused(UsageError, lambda: arrays_for(TWO, [npz, MASK]), "all name")
    both = saved(tmp_path, "npz", x=X, m=MASK)
    refused(UsageError, lambda: arrays_for(TWO, {"x": both, "m": MASK}), "2 arrays")


def test_ids_stay_ids_and_bools_become_numbers():
    ids = np.array([[1, 2], [0, 3]])
    lookup = model([Embedding(4, 3), LSTM(3, 4)], (None,))
    (found,) = arrays_for(lookup, ids)
    assert found.dtype == ids.dtype
    (found,) = arrays_for(model([Dense(3, 2)], (3,)), np.ones((2, 3), bool))
    assert found.dtype == np.float32


def test_nothing_given_is_changed():
    before = X.copy()
    arrays_for(ONE, X)
    np.testing.assert_array_equal(X, before)


def test_verify_takes_files(tmp_path, capsys):
    file = tmp_path / "x.npy"
    call = ["verify", str(xlstm.demo.path()), "--frameworks", "torch", "--inputs", str(file)]
    np.save(file, np.full((2, 20, 1), 0.5, np.float32))
    assert main([*call, "--details"]) == 0
    assert "Inputs: given" in capsys.readouterr().out
    np.save(file, np.zeros((2, 20, 2), np.float32))
    assert main(call) == 2
    assert "(batch, " in capsys.readouterr().err
