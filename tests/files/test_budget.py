"""Every reader counts what a file costs, in one budget; what it costs is linear in the file."""

import contextlib
import importlib
import inspect
import json
import pkgutil
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from make_files import make, zip_file
from paths import DATA
from refusing import refused

import xlstm
from xlstm import files
from xlstm.budget import LIMITS, Budget
from xlstm.errors import FileError
from xlstm.files import describe
from xlstm.files.arrays.named_arrays import ARRAYS, read_arrays, read_shapes
from xlstm.files.detect import FOLDER_READERS, READERS
from xlstm.files.keras.architecture import read_architecture
from xlstm.files.yaml_text import parse_yaml
from xlstm.ir import serialize
from xlstm.reading import ports

UNCOUNTED = {
    "open_regular": "opens, and reads nothing",
    "open_file": "opens, and reads nothing",
    "read_whole": "reads as many bytes as its caller allows",
}
"""Functions that are named as readers, and why they take no budget."""

NAMED = re.compile(r"(describe|open|read|parse|from)(_\w+)?")


def modules():
    """All modules that read files."""
    found = [
        importlib.import_module(m.name)
        for m in pkgutil.walk_packages(files.__path__, "xlstm.files.")
    ]
    return [*found, serialize]


def readers():
    """Every reader, from where it is registered, and whatever is named as one."""
    found = [*READERS.values(), *FOLDER_READERS.values(), *ARRAYS.values(), ports.read_folder]
    for module in modules():
        own = inspect.getmembers(module, inspect.isfunction)
        found += [f for name, f in own if f.__module__ == module.__name__ and NAMED.fullmatch(name)]
    return {f"{f.__module__}.{f.__name__}": f for f in found if f.__name__ not in UNCOUNTED}


def takes_budget(reader):
    """By itself, or in a group, which has that of its file."""
    taken = inspect.signature(reader).parameters.values()
    return any(p.name == "budget" or p.annotation == "Hdf5Group" for p in taken)


def test_every_reader_takes_a_budget():
    assert len(readers()) > 15
    assert [name for name, reader in readers().items() if not takes_budget(reader)] == []


def test_a_reader_without_a_budget_is_noticed(monkeypatch):
    def describe_toy(stream, file, digest, opened):
        """Reads without counting."""

    monkeypatch.setitem(READERS, b"TOY", describe_toy)
    missing = [name for name, reader in readers().items() if not takes_budget(reader)]
    assert missing == [f"{__name__}.describe_toy"]


def test_functions_that_take_none_are_still_there():
    names = {name for module in modules() for name, _ in inspect.getmembers(module)}
    assert UNCOUNTED.keys() <= names


# what each kind of file spends


def ported(tmp_path):
    path = xlstm.save(xlstm.demo.path(), tmp_path / "port", "torch")
    return lambda budget: ports.read_folder(path, budget)


def arrays(kind):
    def made(tmp_path):
        path = tmp_path / f"a.{kind}"
        named = {"lstm.kernel": np.ones((3, 8), "f4"), "lstm.bias": np.zeros(8, "f4")}
        if kind == "npz":
            np.savez(path, **named)
        elif kind == "safetensors":
            from safetensors.numpy import save_file

            save_file(named, path)
        else:
            from flax import serialization

            path.write_bytes(serialization.to_bytes({"params": named}))
        return lambda budget: read_arrays(path, budget)

    return made


def described(path):
    def read(budget):
        with contextlib.closing(describe(path, budget)) as found:
            assert found.budget is budget

    return lambda _tmp_path: read


def yaml_text(tmp_path):
    return lambda budget: parse_yaml("a: [1, 2]", "example", budget)


SPENT = {
    "keras": (described(xlstm.demo.path()), {"nodes", "steps", "values", "characters"}),
    "h5": (described(DATA / "k224" / "lstm.h5"), {"nodes", "steps", "values", "characters"}),
    "savedmodel": (
        described(DATA / "savedmodel" / "seq_sm"),
        {"nodes", "steps", "values", "bytes"},
    ),
    "port": (ported, {"nodes", "values", "characters"}),
    "npz": (arrays("npz"), {"nodes", "characters"}),
    "safetensors": (arrays("safetensors"), {"nodes", "values", "characters"}),
    "msgpack": (arrays("msgpack"), {"nodes", "characters"}),
    "yaml": (yaml_text, {"values", "characters"}),
}


@pytest.mark.parametrize("kind", SPENT)
def test_every_kind_of_file_spends(kind, tmp_path):
    make_reader, kinds = SPENT[kind]
    budget = Budget()
    make_reader(tmp_path)(budget)
    assert kinds <= {k for k, amount in budget.spent.items() if amount > 0}


@pytest.mark.parametrize("kind", SPENT)
def test_every_kind_of_file_stops_at_its_budget(kind, tmp_path):
    make_reader, kinds = SPENT[kind]
    read = make_reader(tmp_path)
    for what in kinds:
        with pytest.raises(FileError, match=f"at most 0 {what}"):
            read(Budget({**LIMITS, what: 0}))


# files that are small, and would cost much


def test_an_architecture_counts_in_the_budget_of_its_weights(tmp_path):
    path = tmp_path / "a.json"
    path.write_text(json.dumps({"class_name": "Sequential", "config": []}))
    budget = Budget()
    read_architecture(path, budget)
    assert budget.spent["characters"] == path.stat().st_size


NUMBERS = {
    "base-60": "a: " + ":".join(["1"] * 30),
    "base-60-long": "a: " + ":".join(["1"] * 5000),
    "hexadecimal": "a: 0x" + "f" * 5000,
    "octal": "a: 0" + "7" * 20,
    "binary": "a: 0b" + "1" * 5000,
    "decimal": "a: " + "9" * 5000,
    "grouped": "a: 1_000",
    "date": "a: 2001-01-01",
    "word": "a: yes",
    "not-a-number": "a: .nan",
    "infinite": "a: -.inf",
    "large": "a: 1.0e+999",
    "merge": "<<: {b: 1}",
}


@pytest.mark.parametrize("case", NUMBERS)
def test_yaml_that_json_cannot_say(case):
    refused(FileError, lambda: parse_yaml(NUMBERS[case], "a.yaml", Budget()), "a.yaml")


PLAIN = {
    "a: [1, -2, +3, 0]": {"a": [1, -2, 3, 0]},
    "a: [0.5, 1.0e-07, -2., .5]": {"a": [0.5, 1e-07, -2.0, 0.5]},
    "a: [true, False, null, ~, ]": {"a": [True, False, None, None]},
    "a: ['yes', \"1:1\", 0x, 1e5, tanh, a:b]": {"a": ["yes", "1:1", "0x", "1e5", "tanh", "a:b"]},
    "a: !!python/tuple [1, 2]": {"a": [1, 2]},
    "a: &x [1, 2]\nb: *x": {"a": [1, 2], "b": [1, 2]},
    "a: !!str 1": {"a": "1"},
    "- |\n  text\n": ["text\n"],
    "9f" * 40: "9f" * 40,
}


@pytest.mark.parametrize("text", PLAIN)
def test_yaml_that_is_read(text):
    assert parse_yaml(text, "a.yaml", Budget()) == PLAIN[text]


def test_two_values_of_one_anchor_are_two():
    found = parse_yaml("a: &x [1]\nb: *x", "a.yaml", Budget())
    found["a"].append(2)
    assert found["b"] == [1]


JSON = {
    "5000-digits": (b'{"a": ' + b"9" * 5000 + b"}", "5,000 digits"),
    "size-of-4000-digits": (b'{"units": 1' + b"0" * 4000 + b"}", "digits"),
    "long-name": (b'{"name": "' + b"x" * 10_000_000 + b'"}', "names of at most"),
    "long-key": (b'{"' + b"x" * 10_000_000 + b'": 1}', "names of at most"),
    "long-class": (b'{"class_name": "' + b"x" * 10_000 + b'"}', "names of at most"),
    "many-values": (b"[" + b"0," * 600_000 + b"0]", "values"),
}


@pytest.mark.parametrize("case", JSON)
def test_json_that_would_cost_much(case, tmp_path):
    data, words = JSON[case]
    path = make(
        "keras",
        tmp_path,
        members=lambda found: [(n, data if n == "config.json" else d) for n, d in found],
    )
    error = refused(FileError, lambda: xlstm.load(path), "config.json", words)
    assert len(str(error)) < 1000


def npy(shape, dtype="<f4", data=b""):
    """An array's header that says this, and whatever data."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}"
    text += " " * (-(len(text) + 11) % 64) + "\n"
    return b"\x93NUMPY\1\0" + len(text).to_bytes(2, "little") + text.encode() + data


ARCHIVES = {
    "bomb": ([("a.npy", npy((2**26,), data=bytes(2**28)))], "packed into"),
    "many-bombs": ([(f"a{n}.npy", npy((2**22,), data=bytes(2**24))) for n in range(8)], "packed"),
    "lies-about-its-shape": ([("a.npy", npy((2**40,), data=bytes(16)))], "bytes of numbers"),
    "many-axes": ([("a.npy", npy((1,) * 2000, data=bytes(4)))], "an array can have"),
    "no-such-shape": ([("a.npy", npy((2**40, 2**40, 0)))], "an array can have"),
    "negative": ([("a.npy", npy((-1, -4), data=bytes(16)))], "bytes of numbers"),
    "objects": ([("a.npy", npy((1,), "|O", bytes(8)))], "dtype"),
    "text": ([("a.npy", npy((1,), "<U4", bytes(16)))], "dtype"),
    "no-array": ([("a.npy", b"hello")], "header"),
    "another-file": ([("a.npy", npy((1,), data=bytes(4))), ("b.txt", b"")], "b.txt"),
    "twice": ([("a.npy", npy((1,), data=bytes(4)))] * 2, "differ"),
}


@pytest.mark.parametrize("case", ARCHIVES)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_npz_that_would_cost_much(case, tmp_path):
    members, words = ARCHIVES[case]
    path = zip_file(tmp_path / "a.npz", members, zipfile.ZIP_DEFLATED)
    for read in (read_arrays, read_shapes):
        refused(FileError, lambda read=read: read(path), words)


def test_many_members_are_counted_before_they_are_listed(tmp_path):
    members = [(f"{n}.npy", b"") for n in range(300)]
    path = zip_file(tmp_path / "a.npz", members)
    with pytest.raises(FileError, match="at most 200 nodes"):
        read_arrays(path, Budget({**LIMITS, "nodes": 200}))


def safetensors(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(1,), ends=(0, 4)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(ends)}


SAFETENSORS = {
    "long-header": ((2**60).to_bytes(8, "little") + b"{}", "header"),
    "no-header": (b"\3\0\0\0\0\0\0\0{", "header"),
    "not-json": (safetensors(b'{"a":}'), "JSON"),
    "overlap": (safetensors({"a": entry(), "b": entry()}, bytes(4)), "numbers from 4 on"),
    "hole": (safetensors({"a": entry(ends=(4, 8))}, bytes(8)), "numbers from 0 on"),
    "rest": (safetensors({"a": entry()}, bytes(9)), "numbers of 4 bytes"),
    "cut": (safetensors({"a": entry()}, bytes(3)), "numbers of 4 bytes"),
    "lies": (safetensors({"a": entry(shape=(2**40,))}, bytes(4)), "bytes for shape"),
    "negative": (safetensors({"a": entry(shape=(-1,))}, bytes(4)), "sizes"),
    "bool": (safetensors({"a": entry(shape=(True,))}, bytes(4)), "sizes"),
    "fp8": (safetensors({"a": entry("F8_E4M3", (4,))}, bytes(4)), "F8_E4M3"),
    "entry": (safetensors({"a": 3}), "JSON object"),
    "more-keys": (safetensors({"a": {**entry(), "x": 1}}, bytes(4)), "data_offsets"),
    "metadata": (safetensors({"__metadata__": {"a": 1}}), "texts"),
    "long-name": (safetensors({"x" * 10_000: entry()}, bytes(4)), "names of at most"),
    "many-axes": (safetensors({"a": entry(shape=(1,) * 100)}, bytes(4)), "an array can have"),
}


@pytest.mark.parametrize("case", SAFETENSORS)
def test_safetensors_that_lie(case, tmp_path):
    data, words = SAFETENSORS[case]
    path = tmp_path / "a.safetensors"
    path.write_bytes(data)
    refused(FileError, lambda: read_arrays(path), words)


def test_safetensors_are_read_as_the_library_reads_them(tmp_path):
    from safetensors.numpy import save_file

    rng = np.random.default_rng(0)
    kinds = "f8 f4 f2 i8 i4 i2 i1 u8 u4 u2 u1 ?".split()
    shapes = [(), (0,), (3,), (2, 3, 4)]
    wanted = {
        f"{kind}{shape}": rng.integers(0, 2, shape).astype(kind)
        for kind in kinds
        for shape in shapes
    }
    wanted = {name: np.asarray(array) for name, array in wanted.items()}
    save_file(wanted, tmp_path / "a.safetensors")
    found = read_arrays(tmp_path / "a.safetensors")
    assert {name: array.dtype for name, array in found.items()} == {
        name: array.dtype for name, array in wanted.items()
    }
    np.testing.assert_equal(found, wanted)


def test_bfloat16_of_safetensors_is_exact(tmp_path):
    import torch
    from safetensors.torch import save_file

    wanted = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    save_file({"a": wanted}, tmp_path / "a.safetensors")
    found = read_arrays(tmp_path / "a.safetensors")["a"]
    np.testing.assert_array_equal(found, wanted.float().numpy())


def pack(data):
    import msgpack

    return msgpack.packb(data)


def extension(shape=(1,), dtype="float32", data=bytes(4), code=1):
    import msgpack

    return msgpack.ExtType(code, pack((list(shape), dtype, data)))


MSGPACK = {
    "lies": (pack({"a": extension((2**40,))}), "bytes"),
    "negative": (pack({"a": extension((-1, -1))}), "bytes"),
    "code": (pack({"a": extension(code=3)}), "extension 3"),
    "dtype": (pack({"a": extension(dtype="complex64", data=bytes(8))}), "complex64"),
    "list": (pack({"a": [1] * 10}), "arrays alone"),
    "nothing": (pack({"a": None}), "arrays alone"),
    "key": (pack({1: extension()}), "a name"),
    "twice": (b"\x82" + (pack("a") + pack(1)) * 2, "a twice"),
    "rest": (pack({"a": 1}) + b"\1", "after them"),
    "cut": (pack({"a": extension()})[:-1], "bytes"),
    "long-map": (b"\x81\xa1a\xdf\xff\xff\xff\xff", "end of the file"),
    "long-name": (b"\x81\xdb\xff\xff\xff\xff", "names of at most"),
    "deep": (b"\x81\xa1a" * 1000 + b"\x80", "levels"),
    "many-axes": (pack({"a": extension((1,) * 40)}), "axes"),
}


@pytest.mark.parametrize("case", MSGPACK)
def test_msgpack_that_lies(case, tmp_path):
    data, words = MSGPACK[case]
    path = tmp_path / "a.msgpack"
    path.write_bytes(data)
    refused(FileError, lambda: read_arrays(path), words)


def test_msgpack_is_read_as_flax_reads_it(tmp_path):
    import jax.numpy as jnp
    from flax import serialization

    kinds = "float16 float32 float64 int8 int32 int64 uint8 bool".split()
    named = {kind: np.asarray(np.arange(6).reshape(2, 3), kind) for kind in kinds}
    tree = {"params": {**named, "none": np.zeros((0, 2), "f4")}, "step": 70_000, "minus": -300}
    tree["half"] = jnp.arange(3, dtype=jnp.bfloat16)
    path = tmp_path / "a.msgpack"
    path.write_bytes(serialization.to_bytes(tree))
    found = read_arrays(path)
    for name, array in tree.pop("params").items():
        assert found[f"params.{name}"].dtype == array.dtype
        np.testing.assert_array_equal(found[f"params.{name}"], array)
    assert (found["step"], found["minus"]) == (70_000, -300)
    assert found["half"].tolist() == [0.0, 1.0, 2.0]


# only headers are read for shapes


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_count_reads_no_numbers(kind, tmp_path, monkeypatch):
    path = make(kind, tmp_path)
    want = xlstm.count(path).to_json()

    def numbers(*_args):
        raise AssertionError("a number was read")

    monkeypatch.setattr("xlstm.files.hdf5.datasets.numbers", numbers)
    assert xlstm.count(path).to_json() == want
    with pytest.raises(AssertionError):
        xlstm.load(path)


@pytest.mark.parametrize("kind", ["npz", "safetensors", "msgpack"])
def test_shapes_are_those_of_the_arrays(kind, tmp_path):
    arrays(kind)(tmp_path)
    path = Path(tmp_path, f"a.{kind}")
    found, wanted = read_shapes(path), read_arrays(path)
    assert {n: (a.shape, a.dtype) for n, a in found.items()} == {
        n: (a.shape, a.dtype) for n, a in wanted.items()
    }
    assert not any(array.any() for array in found.values())


# the work grows as the file does


def chain_of_groups(number):
    def fill(file):
        for n in range(number):
            file[f"layers/dense_{n}/vars/0"] = np.zeros(1, "f4")

    return fill


def spent_on(path):
    budget = Budget()
    with contextlib.closing(describe(path, budget)):
        return budget.spent


def test_work_on_hdf5_is_linear_in_its_groups(tmp_path):
    found = []
    for number in (50, 500):
        path = tmp_path / f"{number}.weights.h5"
        with h5py.File(path, "w") as file:
            chain_of_groups(number)(file)
        found.append(spent_on(path))
    for kind in ("nodes", "steps", "characters"):
        assert found[1][kind] < 12 * found[0][kind], kind
