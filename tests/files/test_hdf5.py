"""HDF5 without its library: what h5py reads, exactly; what Keras never writes, refused by name."""

import contextlib
import io
import os
import zipfile

import h5py
import numpy as np
import pytest
from make_files import make
from paths import CORPUS, DATA, ROOT
from refusing import refused

from xlstm.budget import Budget
from xlstm.errors import FileError
from xlstm.files import describe
from xlstm.files.hdf5.datasets import Dataset, Hdf5Group, open_hdf5

PLACES = (DATA, ROOT / "xlstm" / "demo.keras", ROOT / "examples", CORPUS, CORPUS.parent / "eras")


def written(fill):
    """HDF5 as h5py writes it, by a function that fills the file."""
    stream = io.BytesIO()
    with h5py.File(stream, "w") as file:
        fill(file)
    return stream


def root_of(stream):
    return open_hdf5(stream, "example.h5", Budget())


def hdf5_in(path):
    """The HDF5 of a genuine file, None for other files."""
    data = path.read_bytes()
    if data.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith(".h5")]
            data = archive.read(names[0]) if names else b""
    return io.BytesIO(data) if data.startswith(b"\x89HDF") else None


def assert_texts(ours, theirs):
    """All attributes that are texts, and lists without any."""
    for name, found in theirs.attrs.items():
        values = np.ravel(found).tolist()
        assert ours.texts(name, "it") == [v if isinstance(v, str) else v.decode() for v in values]


def assert_same(ours, theirs):
    """Members, texts and arrays below two groups; gives the number of arrays."""
    assert sorted(ours.names("it")) == sorted(theirs)
    assert_texts(ours, theirs)
    arrays = 0
    for name, found in theirs.items():
        below = ours.child(name, "it")
        if isinstance(found, h5py.Group):
            assert isinstance(below, Hdf5Group)
            arrays += assert_same(below, found)
            continue
        assert isinstance(below, Dataset)
        assert_texts(below, found)
        stored, want = below.stored(name, "it"), np.asarray(found[()])
        got = stored.load()
        if stored.dtype.endswith("bfloat16"):  # two opaque bytes in the file
            got, want = got.view(np.uint32) >> 16, want.view("<u2")
        assert (stored.shape, got.dtype) == (want.shape, want.dtype.newbyteorder("=")) or (
            want.dtype == "<u2"
        )
        np.testing.assert_array_equal(got, want)
        arrays += 1
    return arrays


def test_all_genuine_files_are_read_as_h5py_reads_them():
    files = arrays = 0
    for place in PLACES:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            stream = hdf5_in(path) if path.is_file() else None
            if stream is not None:
                with h5py.File(io.BytesIO(stream.getvalue())) as theirs:
                    arrays += assert_same(root_of(stream), theirs)
                files += 1
    assert files > 30  # of our own; many more where the corpus is
    assert arrays > 200


DTYPES = [f"{order}{kind}" for order in "<>" for kind in "i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8".split()]


@pytest.mark.parametrize("shape", [(), (1,), (0, 3), (2, 3, 4)])
def test_all_plain_dtypes_and_shapes(shape):
    rng = np.random.default_rng(0)

    def fill(file):
        for dtype in [*DTYPES, "?"]:
            file[f"a{dtype}"] = np.asarray(rng.integers(0, 100, shape), dtype)

    stream = written(fill)
    with h5py.File(stream) as theirs:
        assert assert_same(root_of(stream), theirs) == len(DTYPES) + 1


TEXTS = {
    "text": "lstm",
    "empty": "",
    "no-ascii": "größe, 層",
    "bytes": np.bytes_(b"lstm"),
    "list": ["a", "bcd", ""],
    "list-of-bytes": np.array([b"a", b"bcd"]),
    "list-of-lists": np.array([[b"a", b"b"]]),
    "none": np.zeros(0),
    "long": "x" * 60_000,
}


@pytest.mark.parametrize("case", TEXTS)
def test_all_forms_of_texts(case):
    stream = written(lambda file: file.attrs.update(before="first", names=TEXTS[case]))
    with h5py.File(stream) as theirs:
        assert_texts(root_of(stream), theirs)


def test_many_members_and_attributes():
    """Trees of links of more than one level; headers that go on elsewhere."""

    def fill(file):
        for number in range(2000):
            file.create_group("layers").attrs.update({"x": 1}) if not number else None
            file[f"layers/{number}"] = number
        for number in range(300):
            file.attrs[f"name{number}"] = [f"{number}", "other"]

    stream = written(fill)
    with h5py.File(stream) as theirs:
        root = root_of(stream)
        assert_texts(root, theirs)
        assert len(root.child("layers", "it").names("it")) == 2000
        assert root.texts("name", "it") == [t for n in range(300) for t in (f"{n}", "other")]


def odd_float():
    """A float of four bytes whose exponent is biased in another way."""
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    return kind


def odd_integer():
    """A number of three bytes."""
    kind = h5py.h5t.STD_I32LE.copy()
    kind.set_size(3)
    return kind


KINDS = {
    "odd-float": odd_float,
    "odd-integer": odd_integer,
    "half-used": lambda: [k := h5py.h5t.STD_I32LE.copy(), k.set_precision(16)][0],
    "long-double": lambda: h5py.h5t.NATIVE_LDOUBLE,
    "enumeration": lambda: h5py.h5t.py_create(h5py.enum_dtype({"a": 0}, "i1"), logical=True),
    "text": lambda: h5py.h5t.py_create(h5py.string_dtype(), logical=True),
    "compound": lambda: h5py.h5t.py_create(np.dtype([("a", "f4")])),
    "array": lambda: h5py.h5t.py_create(np.dtype(("f4", (2,)))),
}


@pytest.mark.parametrize("case", KINDS)
def test_types_that_are_no_plain_numbers(case):
    def fill(file):
        space = h5py.h5s.create_simple((2,))
        dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        dcpl.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
        h5py.h5d.create(file.id, b"x", KINDS[case](), space, dcpl=dcpl)

    found = root_of(written(fill)).child("x", "example.h5")
    refused(FileError, lambda: found.stored("x", "example.h5"), "dtype")


def test_arrays_inside_their_headers():
    def fill(file):
        dcpl = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        dcpl.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple((3,))
        made = h5py.h5d.create(file.id, b"x", h5py.h5t.IEEE_F32LE, space, dcpl=dcpl)
        made.write(h5py.h5s.ALL, h5py.h5s.ALL, np.arange(3, dtype="f4"))

    stream = written(fill)
    with h5py.File(stream) as theirs:
        assert assert_same(root_of(stream), theirs) == 1


def test_groups_in_the_form_of_other_programs():
    refused(
        FileError,
        lambda: root_of(written(lambda file: file.create_group("g", track_order=True))).child(
            "g", "example.h5"
        ),
        "HDF5 1.8",
    )


def test_two_groups_never_share_their_names():
    """The second group's table of links is that of the first."""
    stream = written(lambda file: [file.create_group("a"), file.create_group("b")])
    data = stream.getvalue()
    trees = [at for at in range(len(data)) if data.startswith(b"TREE", at)]
    first, second = (at.to_bytes(8, "little") for at in trees[1:])
    root = root_of(io.BytesIO(data.replace(second, first)))
    root.child("a", "example.h5")
    refused(FileError, lambda: root.child("b", "example.h5"), "share bytes")


def nested_heaps(number):
    """A file whose attribute refers to texts in heaps that lie in one another; each is sound."""
    names = [f"{n:04}" for n in range(number)]
    total = 48 * number
    heaps = bytearray()
    for k in range(number):
        # a heap to the very end, whose one text is all that comes after this header
        size = total - 48 * k
        heaps += b"GCOL\1\0\0\0" + size.to_bytes(8, "little")
        heaps += (1).to_bytes(2, "little") + bytes(6) + (size - 32).to_bytes(8, "little")
        heaps += bytes(16)
    stream = written(lambda file: file.attrs.update(names=names, x=np.bytes_(bytes(heaps) + b"\1")))
    data = bytearray(stream.getvalue())
    start = data.index(bytes(heaps))
    first = data.index(b"0000")
    heap = data.rindex(b"GCOL", 0, first)
    reference = data.index((4).to_bytes(4, "little") + heap.to_bytes(8, "little"))
    for k in range(number):
        at = reference + 16 * k
        data[at : at + 16] = (
            (4).to_bytes(4, "little") + (start + 48 * k).to_bytes(8, "little") + b"\1\0\0\0"
        )
    return io.BytesIO(bytes(data))


def test_heaps_in_one_another_cost_no_more_than_the_file():
    root = root_of(nested_heaps(1000))
    refused(FileError, lambda: root.texts("names", "example.h5"), "share bytes")
    assert root.blocks.budget.spent["steps"] < 50


def test_arrays_that_share_bytes():
    """A thousand arrays of a megabyte in a file of two."""

    def fill(file):
        file["big"] = np.zeros(2**18, "f4")
        for number in range(1000):
            file[f"a{number}"] = file["big"]

    root = root_of(written(fill))
    made = [root.child("big", "it").stored("big", "it")]
    with pytest.raises(FileError, match="share bytes"):
        made.extend(root.child(f"a{n}", "it").stored(f"a{n}", "it") for n in range(1000))
    assert len(made) < 4


def test_a_superblock_with_a_base_address():
    data = bytearray(written(lambda file: file.create_group("a")).getvalue())
    data[24] = 8
    refused(FileError, lambda: root_of(io.BytesIO(bytes(data))), "superblock")


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_a_file_that_is_cut_after_it_was_opened(kind, tmp_path):
    """As another process may do it; a mapped file would kill this one (SIGBUS)."""
    path = make(kind, tmp_path)
    with contextlib.closing(describe(path)) as found:
        os.truncate(path, 600)
        arrays = [array for group in found.weights.values() for array in group]
        for array in arrays:
            refused(FileError, array.load, "small")
