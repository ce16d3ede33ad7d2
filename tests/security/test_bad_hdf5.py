"""Hostile HDF5, in both kinds of file: refused in one line, at once, and nothing else opened."""

import contextlib
import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
from make_files import BIAS, DENSE, KINDS, make, model_config, replace
from processes import run
from refusing import deadline, refused

import xlstm
from xlstm.budget import Budget
from xlstm.errors import FileError, XlstmError
from xlstm.files import describe

ROOT = {"keras": "layers", "h5": "model_weights"}
GOOD = np.ones(16, np.float32)
"""What belongs where the hostile classes put something else: the LSTM's bias."""


def canary(folder: Path) -> Path:
    """Another HDF5 file, with a bias in it that nobody may get at."""
    path = folder / "canary.h5"
    with h5py.File(path, "w") as file:
        file["bias"] = GOOD
    return path


def external_link(file, path, folder):
    replace(file, path, h5py.ExternalLink(str(canary(folder)), "/bias"))


def link_to_a_fifo(file, path, folder):
    os.mkfifo(folder / "fifo")
    replace(file, path, h5py.ExternalLink(str(folder / "fifo"), "/bias"))


def soft_link(file, path, _folder):
    file["elsewhere"] = GOOD
    replace(file, path, h5py.SoftLink("/elsewhere"))


def soft_link_to_itself(file, path, _folder):
    replace(file, path, h5py.SoftLink(f"/{path}"))


def external_storage(file, path, folder):
    (folder / "secret.bin").write_bytes(GOOD.tobytes())
    replace(
        file, path, shape=(16,), dtype="f4", external=[(str(folder / "secret.bin"), 0, GOOD.nbytes)]
    )


def virtual(file, path, folder):
    layout = h5py.VirtualLayout((16,), "f4")
    layout[:] = h5py.VirtualSource(canary(folder), "bias", (16,))
    del file[path]
    file.create_virtual_dataset(path, layout)


def plain(**options):
    """A dataset that is created with these options in place of the bias."""
    return lambda file, path, _folder: replace(file, path, **options)


def value(found):
    return lambda file, path, _folder: replace(file, path, found)


def a_group(file, path, _folder):
    del file[path]
    file.create_group(path)


def stored_as(kind):
    """A dataset of a type of our own, which numpy has not; every byte of it is there."""

    def damage(file, path, _folder):
        del file[path]
        group, name = path.rsplit("/", 1)
        space = h5py.h5s.create_simple((16,))
        made = h5py.h5d.create(file[group].id, name.encode(), kind(), space)
        data = np.ones((16, kind().get_size()), np.uint8)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, data, kind())

    return damage


def number(stock, **changes):
    """A stock type of HDF5 with some of its properties changed."""

    def made():
        kind = stock.copy()
        for name, values in changes.items():
            getattr(kind, f"set_{name}")(*values)
        return kind

    return made


def truth(**values):
    """What h5py would store bool as, with values of our own."""

    def made():
        kind = h5py.h5t.enum_create(h5py.h5t.STD_I8LE)
        for name, value in values.items():
            kind.enum_insert(name.encode(), value)
        return kind

    return made


FLOAT = h5py.h5t.IEEE_F32LE
OWN = {
    "bias": number(FLOAT, ebias=(100,)),
    "exponent": number(FLOAT, fields=(31, 26, 5, 0, 23)),
    "no-hidden-bit": number(FLOAT, norm=(h5py.h5t.NORM_NONE,)),
    "offset": number(h5py.h5t.IEEE_F64LE, fields=(63, 55, 8, 32, 23)),
    "mantissa": number(FLOAT, fields=(31, 23, 8, 3, 20)),
    "integer": number(h5py.h5t.STD_I32LE, precision=(24,)),
    "shifted-integer": number(h5py.h5t.STD_I32LE, precision=(24,), offset=(8,)),
    "enumeration": truth(A=0, B=1),
    "untruth": truth(FALSE=1, TRUE=0),
}
"""Numbers of other formats than numpy's: h5py reads each, as numbers that may be others."""

COMPOUND = np.zeros(16, [("re", "f4"), ("im", "f4")])
ARRAYS = {
    "external-link": (external_link, "ExternalLink"),
    "external-link-to-a-fifo": (link_to_a_fifo, "ExternalLink"),
    "soft-link": (soft_link, "SoftLink"),
    "soft-link-loop": (soft_link_to_itself, "SoftLink"),
    "external-storage": (external_storage, "external storage"),
    "virtual": (virtual, "virtual"),
    "huge": (plain(shape=(2**40,), dtype="f4"), "declares"),
    "huge-in-pieces": (plain(shape=(2**40,), dtype="f4", chunks=(2**20,)), "chunked"),
    "nothing-stored": (plain(shape=(16,), dtype="f4"), "stores 0"),
    "chunked": (plain(value=GOOD, chunks=(4,)), "chunked"),
    "chunk-bomb": (plain(shape=(16,), dtype="f4", maxshape=(None,), chunks=(2**20,)), "chunked"),
    "gzip": (plain(value=GOOD, compression="gzip"), "chunked"),
    "checksummed": (plain(value=GOOD, fletcher32=True), "chunked"),
    "compound": (value(COMPOUND), "dtype"),
    "complex": (value(GOOD.astype("c8")), "dtype"),
    "opaque": (value(np.zeros(16, "V1000")), "dtype"),
    "long-double": (value(GOOD.astype(np.longdouble)), "dtype"),
    "text": (value(["0.5"] * 16), "dtype"),
    "vlen": (plain(shape=(16,), dtype=h5py.vlen_dtype(np.float32)), "dtype"),
    "references": (plain(shape=(16,), dtype=h5py.ref_dtype), "dtype"),
    "null-dataspace": (value(h5py.Empty("f4")), "dtype"),
    **{f"own-{name}": (stored_as(kind), "number format of its own") for name, kind in OWN.items()},
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", ARRAYS)
def test_arrays_that_are_not_plainly_in_the_file(case, kind, tmp_path):
    damage, words = ARRAYS[case]
    path = make(kind, tmp_path, weights=lambda f: damage(f, BIAS[kind], tmp_path))
    with deadline(10):
        refused(FileError, lambda: xlstm.load(path), "small.", words)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["<f2", ">f2", "<f4", ">f4", "<f8", ">f8"])
def test_floats_of_both_byte_orders_are_read_as_they_are(dtype, kind, tmp_path):
    values = np.arange(-4, 4, 0.5, dtype=dtype)
    path = make(kind, tmp_path, weights=lambda f: replace(f, BIAS[kind], values))
    found = xlstm.load(path).weights["lstm"]["bias"]
    assert found.dtype == values.dtype.newbyteorder("=")
    assert found.ravel().tolist() == values.tolist()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("where", ["layer", "root"])
@pytest.mark.parametrize("link", [external_link, soft_link], ids=["external", "soft"])
def test_groups_that_are_links(link, where, kind, tmp_path):
    name = {"layer": DENSE, "root": ROOT}[where][kind]
    path = make(kind, tmp_path, weights=lambda f: link(f, name, tmp_path))
    with deadline(10):
        refused(FileError, lambda: xlstm.load(path), "small.", "Link")


def test_a_group_in_place_of_an_array(tmp_path):
    path = make("h5", tmp_path, weights=lambda f: a_group(f, BIAS["h5"], tmp_path))
    refused(FileError, lambda: xlstm.load(path), "bias:0")


def deep(file):
    group = file["layers"]
    for _ in range(2000):
        group = group.create_group("a")


def cycle(file):
    file["layers/lstm/again"] = file["layers"]


def dag(levels):
    """Two hard links to the next level at each: few groups, 2 to the `levels` paths."""

    def build(file):
        group = file["layers"]
        for _ in range(levels):
            below = group.create_group("a")
            group["b"] = below
            group = below

    return build


def many(file):
    group = file["layers"].create_group("g")
    for number in range(20_100):
        group[f"g{number}"] = file["layers/dense"]


TREES = {"deep": deep, "cycle": cycle, "dag-60": dag(60), "dag-28": dag(28), "many-links": many}


@pytest.mark.parametrize("case", TREES)
def test_trees_of_groups_that_have_no_end(case, tmp_path):
    path = make("keras", tmp_path, weights=TREES[case])
    with deadline(10):
        refused(FileError, lambda: xlstm.load(path), "small.keras")


def test_numbered_arrays_have_no_gaps(tmp_path):
    def gap(file):
        file["layers/lstm/cell/vars"].move("2", "7")

    path = make("keras", tmp_path, weights=gap)
    with pytest.raises(XlstmError, match="lstm"):
        xlstm.load(path)


def test_named_arrays_where_numbers_belong(tmp_path):
    path = make("keras", tmp_path, weights=lambda f: f["layers/dense/vars"].move("1", "bias"))
    refused(FileError, lambda: xlstm.load(path), "small.keras", "bias")


def attributes(**changes):
    """Changes attributes; a key such as `lstm__weight_names` is one of the group lstm."""

    def hook(file):
        for key, found in changes.items():
            layer, _, name = key.rpartition("__")
            file[f"model_weights/{layer}".rstrip("/")].attrs[name] = found

    return hook


def no_config(file):
    del file.attrs["model_config"]


def no_weights(file):
    del file["model_weights"]


def bytes_config(file):
    file.attrs["model_config"] = np.void(b"\xff\xfe\xfd")


ATTRIBUTES = {
    "no-model_config": (no_config, "model_config"),
    "no-model_weights": (no_weights, "model_weights"),
    "config-is-a-number": (lambda f: f.attrs.update(model_config=3), "text"),
    "config-is-opaque": (bytes_config, "small.h5"),
    "config-not-utf8": (lambda f: f.attrs.update(model_config=np.bytes_(b"\xff")), "UTF-8"),
    "version-is-a-number": (attributes(keras_version=2), "text"),
    "names-are-numbers": (attributes(layer_names=[1, 2]), "text"),
    "names-of-no-group": (attributes(layer_names=["lstm", "dense", "ghost"]), "ghost"),
    "name-with-dots": (attributes(layer_names=["lstm", "../dense"]), "dense"),
    "name-is-absolute": (attributes(layer_names=["/model_weights/lstm", "dense"]), "lstm"),
    "empty-name": (attributes(layer_names=["lstm", "dense", ""]), "small.h5"),
    "array-of-no-dataset": (attributes(lstm__weight_names=["lstm/ghost:0"]), "ghost"),
    "array-is-a-group": (attributes(lstm__weight_names=["lstm/lstm_cell"]), "lstm_cell"),
    "array-deep-in-nothing": (attributes(lstm__weight_names=["a/" * 5000 + "k"]), "layer lstm"),
}


@pytest.mark.parametrize("case", ATTRIBUTES)
def test_attributes_that_lie(case, tmp_path):
    hook, words = ATTRIBUTES[case]
    path = make("h5", tmp_path, weights=hook)
    refused(FileError, lambda: xlstm.load(path), "small.h5", words)


def test_an_array_named_twice_is_no_two_arrays(tmp_path):
    names = ["kernel:0", "recurrent_kernel:0", "bias:0", "bias:0"]
    hook = attributes(lstm__weight_names=[f"lstm/lstm_cell/{name}" for name in names])
    path = make("h5", tmp_path, weights=hook)
    with pytest.raises(XlstmError, match="bias"):
        xlstm.load(path)


def test_a_layer_named_twice(tmp_path):
    path = make("h5", tmp_path, weights=attributes(layer_names=["lstm", "dense", "lstm"]))
    with pytest.raises(XlstmError, match="lstm"):
        xlstm.load(path)


def test_superblocks_that_keras_never_writes(tmp_path):
    whole = make("h5", tmp_path)
    path = tmp_path / "new.h5"
    with h5py.File(whole) as old, h5py.File(path, "w", libver="latest") as new:
        new.attrs.update(old.attrs)
        old.copy("model_weights", new)
    # HDF5 before 2.0 crashes on damaged files of this form: a superblock other than 0 is refused
    refused(FileError, lambda: xlstm.load(path), "new.h5", "superblock")


def heap_objects(data: bytes) -> dict[int, tuple[int, int]]:
    """Position of each object in the first global heap -> its index and size; 0 is free space."""
    start = data.index(b"GCOL")
    end = start + int.from_bytes(data[start + 8 : start + 16], "little")
    found, position = {}, start + 16
    while position < end:
        index = int.from_bytes(data[position : position + 2], "little")
        size = int.from_bytes(data[position + 8 : position + 16], "little")
        found[position] = index, size
        position = position + 16 + (size + 7) // 8 * 8 if index else end
    return found


def test_a_free_object_of_no_size_in_the_heap_is_no_endless_loop(tmp_path):
    path = make("h5", tmp_path)
    data = bytearray(path.read_bytes())
    free = [position for position, (index, _) in heap_objects(data).items() if index == 0]
    data[free[0] + 8 : free[0] + 16] = bytes(8)
    path.write_bytes(data)
    done = run("import xlstm, sys; xlstm.load(sys.argv[1])", path)
    assert "FileError" in done.stderr


PEAK = """
import pathlib, sys, xlstm
try:
    xlstm.load(sys.argv[1])
except xlstm.errors.FileError:
    status = pathlib.Path("/proc/self/status").read_text()
    print(status.split("VmHWM:")[1].split()[0])
"""
"""Peak memory of a refused load, in KiB; getrusage would count the parent's before the exec."""


def test_many_names_of_one_long_text_do_not_fill_the_memory(tmp_path):
    names = [f"n{number:05}" for number in range(500)]
    long = json.dumps(model_config("h5")) + " " * 2**20

    def hook(file):
        file.attrs["model_config"] = long
        file["model_weights"].attrs["layer_names"] = names

    path = make("h5", tmp_path, weights=hook)
    data = path.read_bytes()
    text = data.index(long.encode()) - 16
    heap = data.rindex(b"GCOL", 0, text)
    # a reference is the text's length, the address of its heap, and its index there
    alias = len(long).to_bytes(4, "little") + heap.to_bytes(8, "little") + data[text : text + 2]
    first = data.index(names[0].encode()) - 16
    start = data.index(
        (6).to_bytes(4, "little") + data.rindex(b"GCOL", 0, first).to_bytes(8, "little")
    )
    aliases = (alias + bytes(2)) * len(names)
    path.write_bytes(data[:start] + aliases + data[start + len(aliases) :])
    done = run(PEAK, path)
    assert int(done.stdout) < 200_000, done.stderr


def test_many_long_texts_that_are_really_there_are_read(tmp_path):
    def hook(file):
        file.attrs["model_config"] = json.dumps(model_config("h5")) + " " * 300_000
        file.attrs["names"] = [f"a weight of some layer, number {n:05}" for n in range(3000)]

    assert xlstm.count(make("h5", tmp_path, weights=hook)).total("keras") == 138


def test_names_that_lie_outside_their_heap(tmp_path):
    """Found by fuzzing: listing the members of a group fails where its local heap is too small."""
    path = tmp_path / "model.weights.h5"
    with h5py.File(path, "w") as file:
        file.create_group("layers/dense/vars")["0"] = np.ones((2, 2), np.float32)
        file.create_group("optimizer")
    whole, found = path.read_bytes(), 0
    for start in (n for n in range(len(whole)) if whole.startswith(b"HEAP", n)):
        damaged = bytearray(whole)
        damaged[start + 8 : start + 16] = (8).to_bytes(8, "little")
        path.write_bytes(damaged)
        try:
            xlstm.load(path)
        except FileError as error:
            found += "a name outside the heap of names" in str(error)
        except XlstmError:
            pass  # a group that nobody lists
    assert found


def test_free_names_in_a_circle_are_never_followed(tmp_path):
    """Found by fuzzing: HDF5's own library follows the free places of a local heap without end."""
    path = make("h5", tmp_path)
    want = xlstm.load(path).weights
    data = bytearray(path.read_bytes())
    start = data.find(b"HEAP\0\0\0\0")
    free, segment = (int.from_bytes(data[start + n : start + n + 8], "little") for n in (16, 24))
    data[segment + free : segment + free + 8] = free.to_bytes(8, "little")
    path.write_bytes(data)
    with deadline(10):
        np.testing.assert_equal(xlstm.load(path).weights, want)


def headers_in_one_another(number: int) -> bytes:
    """Headers of heaps of texts, each of which claims all bytes after it."""
    total, out = 32 * number + 16, bytearray()
    for k in range(number):
        out += b"GCOL\x01\0\0\0" + (total - 32 * k).to_bytes(8, "little")
        out += (k % 65_000 + 1).to_bytes(2, "little") + bytes(6) + (16).to_bytes(8, "little")
    return bytes(out) + bytes(16)


@pytest.mark.parametrize("kind", KINDS)
def test_bytes_that_look_like_heaps_cost_nothing(kind, tmp_path):
    """Weights may hold any bytes: what no structure refers to is never looked at."""
    small = make(kind, tmp_path, weights=lambda f: noise(f, headers_in_one_another(10)))
    few = steps_of(small)
    assert (
        steps_of(make(kind, tmp_path, weights=lambda f: noise(f, headers_in_one_another(9999))))
        == few
    )


def noise(file, data):
    file["optimizer/noise"] = np.frombuffer(data, np.uint8)


def steps_of(path: Path) -> dict[str, int]:
    """What a file of a model cost, and that it is read."""
    budget = Budget()
    with contextlib.closing(describe(path, budget)) as found:
        assert all(array.load().shape == array.shape for a in found.weights.values() for array in a)
    return budget.spent
