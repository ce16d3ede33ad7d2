"""Small hostile files, each a family that grows: what the command `benchmarks/hostile.py` measures.

A case is a function that writes a file of some size and gives the words after `inspect` or `count`:

    @case("heap headers", ".keras", 1000, 3000, 9000)
    def heap_headers(path, size): ...
"""

from __future__ import annotations

import io
import json
import struct
import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
DEMO = ROOT / "xlstm" / "demo.keras"

Write = Callable[[Path, int], list[Any] | None]


@dataclass(frozen=True)
class Case:
    """A family of hostile files.

    Attributes:
        write: writes a file of some size to a path; gives the words of the command line, None for
            the path alone.
        ending: of the file's name.
        sizes: growing numbers of whatever the family has many of.
    """

    write: Write
    ending: str
    sizes: tuple[int, ...]


CASES: dict[str, Case] = {}
"""Name of a family -> how its files are written."""


def case(name: str, ending: str, *sizes: int) -> Callable[[Write], Write]:
    """Registers a function as the writer of a family."""

    def register(write: Write) -> Write:
        CASES[name] = Case(write, ending, sizes)
        return write

    return register


def keras_archive(path: Path, *, packed: bool = True, **changes: bytes) -> None:
    """The demo model with other members: config, metadata or weights."""
    names = {"config.json": "config", "metadata.json": "metadata", "model.weights.h5": "weights"}
    with zipfile.ZipFile(DEMO) as old, zipfile.ZipFile(path, "w", 8 * packed) as new:
        for name in old.namelist():
            new.writestr(name, changes.get(names.get(name, ""), old.read(name)))


def demo(name: str) -> bytes:
    """A member of the demo model."""
    with zipfile.ZipFile(DEMO) as archive:
        return archive.read(name)


def hdf5(path: Path, fill: Callable[[Any], None]) -> None:
    """An HDF5 file as h5py writes it."""
    import h5py

    with h5py.File(path, "w") as file:
        fill(file)


def whole_model(file: Any) -> None:
    """An LSTM as Keras 2 writes it."""
    import numpy as np

    options = {"name": "lstm", "units": 4, "activation": "tanh", "use_bias": True}
    options |= {"recurrent_activation": "sigmoid", "batch_input_shape": [None, None, 3]}
    layers = [{"class_name": "LSTM", "config": options}]
    config = {"class_name": "Sequential", "config": {"name": "small", "layers": layers}}
    file.attrs["model_config"] = json.dumps(config)
    group = file.create_group("model_weights")
    group.attrs.update(layer_names=["lstm"], keras_version="2.12.0", backend="tensorflow")
    names = ["lstm/kernel:0", "lstm/recurrent_kernel:0", "lstm/bias:0"]
    group.create_group("lstm").attrs["weight_names"] = names
    for name, shape in zip(names, ((3, 16), (4, 16), (16,)), strict=True):
        group["lstm"][name] = np.zeros(shape, "f4")


def nested_heaps(number: int) -> bytes:
    """Headers of heaps of texts in one another, each a sound heap up to the end."""
    total, out = 48 * number, bytearray()
    for at in range(0, total, 48):
        size = total - at
        out += b"GCOL\1\0\0\0" + struct.pack("<Q", size)
        out += struct.pack("<HHIQ", 1, 1, 0, size - 32) + bytes(16)
    return bytes(out)


# HDF5


@case("heaps of texts in one another", ".keras", 1000, 3000, 9000)
def _heaps(path: Path, size: int) -> None:
    keras_archive(path, weights=demo("model.weights.h5") + nested_heaps(size), packed=False)


@case("heaps of texts in one another, packed", ".keras", 3000, 10_000, 30_000)
def _packed_heaps(path: Path, size: int) -> None:
    keras_archive(path, weights=demo("model.weights.h5") + nested_heaps(size))


@case("references to heaps in one another", ".h5", 500, 1500, 4000)
def _references(path: Path, size: int) -> None:
    import numpy as np

    names, heaps = [f"{n:04}" for n in range(size)], nested_heaps(size)

    def fill(file: Any) -> None:
        whole_model(file)
        file["heaps"] = np.frombuffer(heaps, "u1")
        file["model_weights"].attrs["layer_names"] = names

    hdf5(path, fill)
    data = bytearray(path.read_bytes())
    start, heap = data.index(heaps), data.rindex(b"GCOL", 0, data.index(b"0000"))
    first = data.index(struct.pack("<IQ", 4, heap))
    for n in range(size):
        data[first + 16 * n : first + 16 * n + 16] = struct.pack("<IQI", 4, start + 48 * n, 1)
    path.write_bytes(data)


@case("free places of names, walked from many headers", ".keras", 1000, 3000, 9000)
def _free_places(path: Path, size: int) -> None:
    chain = b"".join(struct.pack("<QQ", 16 * n + 16, 16) for n in range(size))
    heads = (
        b"HEAP" + bytes(4) + struct.pack("<QQQ", len(chain), 0, 32 * size) for _ in range(size)
    )
    keras_archive(path, weights=demo("model.weights.h5") + b"".join(heads) + chain, packed=False)


@case("names that are all one long text", ".h5", 100, 400, 1600)
def _one_text(path: Path, size: int) -> None:
    names = [f"n{n:05}" for n in range(size)]

    def fill(file: Any) -> None:
        whole_model(file)
        file.attrs["long"] = "x" * 50_000
        file["model_weights"].attrs["layer_names"] = names

    hdf5(path, fill)
    data = bytearray(path.read_bytes())

    def reference(text: bytes) -> bytes:
        at = data.index(text) - 16
        heap = data.rindex(b"GCOL", 0, at)
        return struct.pack("<IQ", len(text), heap) + data[at : at + 2] + b"\0\0"

    first, long = data.index(reference(b"n00000")), reference(b"x" * 50_000)
    data[first : first + 16 * size] = long * size
    path.write_bytes(data)


@case("groups", ".weights.h5", 1000, 3000, 9000)
def _groups(path: Path, size: int) -> None:
    def fill(file: Any) -> None:
        for n in range(size):
            file.create_group(f"layers/dense_{n}/vars")

    hdf5(path, fill)


@case("links of one group to itself", ".weights.h5", 1000, 5000, 20_000)
def _links(path: Path, size: int) -> None:
    def fill(file: Any) -> None:
        group = file.create_group("layers/g")
        for n in range(size):
            group[f"g{n}"] = group

    hdf5(path, fill)


@case("names of arrays of one layer", ".h5", 500, 1500, 3000)
def _weight_names(path: Path, size: int) -> None:
    def fill(file: Any) -> None:
        whole_model(file)
        names = ["lstm/kernel:0"] * size
        file["model_weights/lstm"].attrs["weight_names"] = names

    hdf5(path, fill)


@case("pieces of an attribute", ".h5", 250, 500, 1000)
def _pieces(path: Path, size: int) -> None:
    def fill(file: Any) -> None:
        whole_model(file)
        del file["model_weights"].attrs["layer_names"]
        for n in range(size):
            file["model_weights"].attrs[f"layer_names{n}"] = ["lstm"] * 64

    hdf5(path, fill)


@case("variables of an optimizer", ".h5", 300, 1000, 3000)
def _optimizer(path: Path, size: int) -> None:
    import numpy as np

    def fill(file: Any) -> None:
        whole_model(file)
        group = file.create_group("optimizer_weights")
        names = [f"v{n}" for n in range(size)]
        group.attrs["weight_names"] = names
        for name in names:
            group[name] = np.zeros(1, "f4")

    hdf5(path, fill)


@case("arrays that share their bytes", ".weights.h5", 300, 1000, 3000)
def _shared(path: Path, size: int) -> None:
    import numpy as np

    def fill(file: Any) -> None:
        file["big"] = np.zeros(2**18, "f4")
        for n in range(size):
            file[f"layers/dense_{n}/vars/0"] = file["big"]

    hdf5(path, fill)


# archives


@case("zeros in an .npz", ".npz", 2**24, 2**27, 2**30)
def _zeros(path: Path, size: int) -> None:
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({size},), }}"
    header = header.ljust(117) + "\n"
    with zipfile.ZipFile(path, "w", 8) as archive, archive.open("a.npy", "w") as file:
        file.write(b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header.encode())
        for _ in range(size // 2**20):
            file.write(bytes(2**20))


@case("arrays of zeros in an .npz", ".npz", 4, 16, 64)
def _many_zeros(path: Path, size: int) -> None:
    import numpy as np

    zeros = np.zeros(2**24, "u1")
    np.savez_compressed(path, **{f"a{n}": zeros for n in range(size)})


@case("members of an .npz", ".npz", 3000, 10_000, 30_000)
def _members(path: Path, size: int) -> None:
    import numpy as np

    one = io.BytesIO()
    np.save(one, np.zeros(1, "f4"))
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(size):
            archive.writestr(f"lstm_{n}.weight.npy", one.getvalue())


@case("members of an archive", ".keras", 3000, 10_000, 30_000)
def _more_members(path: Path, size: int) -> None:
    keras_archive(path)
    with zipfile.ZipFile(path, "a") as archive:
        for n in range(size):
            archive.writestr(f"assets/{n}", b"")


@case("spaces around a config", ".keras", 2**20, 2**22, 2**24)
def _spaces(path: Path, size: int) -> None:
    config = demo("config.json")
    keras_archive(path, config=config + b" " * (size - len(config)))


@case("zeros for weights", ".keras", 2**22, 2**24, 2**26)
def _zero_weights(path: Path, size: int) -> None:
    keras_archive(path, weights=bytes(size))


# named arrays


@case("tensors of a safetensors file", ".safetensors", 10_000, 30_000, 100_000)
def _tensors(path: Path, size: int) -> None:
    entry = '"t%d":{"dtype":"U8","shape":[1],"data_offsets":[%d,%d]}'
    text = "{" + ",".join(entry % (n, n, n + 1) for n in range(size)) + "}"
    path.write_bytes(struct.pack("<Q", len(text)) + text.encode() + bytes(size))


@case("layers of a safetensors file", ".safetensors", 1000, 3000, 9000)
def _dense_tensors(path: Path, size: int) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    one = np.zeros((1, 1), "f4")
    save_file({f"a{n}.weight": one for n in range(size)}, path)


@case("maps of a msgpack file", ".msgpack", 30_000, 100_000, 300_000)
def _maps(path: Path, size: int) -> None:
    entries = (b"\xa6" + f"{n:06}".encode() + b"\x80" for n in range(size))
    path.write_bytes(b"\x81\xa1a\xdf" + struct.pack(">I", size) + b"".join(entries))


@case("levels of a msgpack file", ".msgpack", 1000, 10_000, 100_000)
def _levels(path: Path, size: int) -> None:
    path.write_bytes(b"\x81\xa1a" * size + b"\x80")


@case("tensors of a ported folder", "", 3000, 10_000, 30_000)
def _port(path: Path, size: int) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    path.mkdir()
    arrays = {f"t{n}": np.zeros(1, "f4") for n in range(size)}
    graph = {"to": "torch", "graph": {"version": 2, "nodes": []}}
    save_file(arrays, path / "weights.safetensors", {"xlstm": json.dumps(graph)})
    (path / "model.py").write_text("")
    (path / "report.json").write_text("{}")


# texts


@case("letters of a layer's name", ".keras", 10**5, 10**6, 10**7)
def _letters(path: Path, size: int) -> None:
    config = json.loads(demo("config.json"))
    config["config"]["layers"][1]["config"]["name"] = "x" * size
    keras_archive(path, config=json.dumps(config).encode())


@case("letters of a class", ".keras", 10**5, 10**6, 10**7)
def _class(path: Path, size: int) -> None:
    config = json.loads(demo("config.json"))
    config["config"]["layers"][1]["class_name"] = "x" * size
    keras_archive(path, config=json.dumps(config).encode())


@case("letters of an activation", ".keras", 10**5, 10**6, 10**7)
def _activation(path: Path, size: int) -> None:
    config = json.loads(demo("config.json"))
    config["config"]["layers"][1]["config"]["activation"] = "x" * size
    keras_archive(path, config=json.dumps(config).encode())


@case("digits of a size", ".keras", 1000, 4000, 10**6)
def _digits(path: Path, size: int) -> None:
    config = demo("config.json").decode().replace('"units": 20', f'"units": 1{"0" * size}')
    keras_archive(path, config=config.encode())


@case("values of a config", ".keras", 10**5, 4 * 10**5, 2 * 10**6)
def _values(path: Path, size: int) -> None:
    config = json.loads(demo("config.json"))
    config["more"] = [{}] * size
    keras_archive(path, config=json.dumps(config).encode())


@case("levels of a config", ".keras", 10**3, 10**5, 10**6)
def _nested(path: Path, size: int) -> None:
    keras_archive(path, config=b'{"class_name": ' + b"[" * size + b"]" * size + b"}")


def with_yaml(path: Path, text: str) -> list[Any]:
    """Bare weights, and a YAML text for their architecture."""
    weights = path.with_name("bare.h5")

    def fill(file: Any) -> None:
        whole_model(file)
        for name, value in file["model_weights"].attrs.items():
            file.attrs[name] = value
        del file.attrs["model_config"]
        file.move("model_weights/lstm", "lstm")
        del file["model_weights"]

    hdf5(weights, fill)
    path.write_text(text)
    return [weights, "--architecture", path]


@case("a base-60 number of YAML", ".yaml", 10**4, 10**5, 10**6)
def _base_60(path: Path, size: int) -> list[Any]:
    return with_yaml(path, "a: " + ":".join(["1"] * (size // 2)))


@case("a hexadecimal number of YAML", ".yaml", 5000, 10**5, 10**6)
def _hexadecimal(path: Path, size: int) -> list[Any]:
    return with_yaml(path, "a: 0x" + "f" * size)


@case("values of YAML", ".yaml", 10_000, 30_000, 90_000)
def _yaml_values(path: Path, size: int) -> list[Any]:
    return with_yaml(path, "class_name: Sequential\nconfig:\n" + "- {}\n" * size)


@case("aliases of YAML", ".yaml", 20, 80, 1000)
def _aliases(path: Path, size: int) -> list[Any]:
    lines = (f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, size))
    return with_yaml(path, "\n".join(["a0: &a0 [x, x]", *lines]))


@case("levels of YAML", ".yaml", 1000, 10_000, 100_000)
def _yaml_levels(path: Path, size: int) -> list[Any]:
    return with_yaml(path, "a: " + "[" * size + "]" * size)


@case("keys of YAML that are values", ".yaml", 1000, 10_000, 100_000)
def _yaml_keys(path: Path, size: int) -> list[Any]:
    return with_yaml(path, "? " * size + "a")


# folders


@case("shards of weights", ".weights.json", 300, 1000, 3000)
def _shards(path: Path, size: int) -> None:
    import numpy as np

    def fill(file: Any) -> None:
        file["layers/dense/vars/0"] = np.zeros(1, "f4")

    for n in range(8):
        hdf5(path.with_name(f"s{n}.h5"), fill)
    names = [f"s{n}.h5" for n in range(8)]
    index = {f"/layers/dense{'/' * n}/vars": names for n in range(size)}
    path.write_text(json.dumps({"metadata": {}, "weight_map": index}))


def savedmodel(path: Path, change: Callable[[Any], None]) -> None:
    """A small SavedModel of the tests, changed."""
    for name in ("tests/support/hostile_files", "tests/support", "tests", ""):
        if str(ROOT / name) not in sys.path:
            sys.path.insert(0, str(ROOT / name))
    from savedmodel_parts import parts

    pieces = parts()
    change(pieces)
    pieces.write(path)


@case("fields of a SavedModel's metadata", "", 10_000, 50_000, 190_000)
def _fields(path: Path, size: int) -> None:
    savedmodel(
        path, lambda p: p.files.update({"keras_metadata.pb": p.message() + b"\x1a\0" * size})
    )


@case("keys of a SavedModel's index", "", 3000, 10_000, 30_000)
def _keys(path: Path, size: int) -> None:
    """The keys share all but their ends, so that each takes few bytes of the file."""

    def change(pieces: Any) -> None:
        import savedmodel_parts as made

        def block(pairs: list[tuple[bytes, bytes]], _kind: int = 0) -> bytes:
            body, before = b"", b""
            for key, value in pairs:
                pairs_of = enumerate(zip(before, key, strict=False))
                same = next((n for n, (a, b) in pairs_of if a != b), 0)
                sizes = (same, len(key) - same, len(value))
                body += b"".join(map(made.varint, sizes)) + key[same:] + value
                before = key
            body += bytes(4) + struct.pack("<I", 1) + b"\0"
            return body + struct.pack("<I", masked(body))

        from xlstm.files.tensorflow.checkpoint import masked

        pieces.pairs.update({f"z{'x' * 900}{n:06}": b"" for n in range(size)})
        patch.setattr(made, "block", block)

    with pytest.MonkeyPatch.context() as patch:
        savedmodel(path, change)


@case("layers that share lists of variables", "", 300, 1000, 3000)
def _lists(path: Path, size: int) -> None:
    def change(pieces: Any) -> None:
        from savedmodel_parts import field

        def node(*pairs: tuple[int, bytes]) -> bytes:
            children = (field(1, field(1, n) + field(2, name)) for n, name in pairs)
            return field(1, b"".join(children))

        items = [(5, b"%d" % n) for n in range(size)]
        pieces.objects = b"".join(
            [
                node((1, b"keras_api")),
                node((6, b"layers")),
                node((3, b"trainable_variables"), (4, b"keras_api")),
                node(*items),
                node((3, b"non_trainable_variables")),
                node(),
                node(*((2, b"%d" % n) for n in range(size))),
            ]
        )

    savedmodel(path, change)


@case("fields of a checkpoint's objects", "", 10**4, 10**5, 10**6)
def _object_fields(path: Path, size: int) -> None:
    def change(pieces: Any) -> None:
        pieces.objects += b"\x1a\0" * (size // 2)

    savedmodel(path, change)
