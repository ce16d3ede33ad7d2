"""Large models: written tensor by tensor as the library writes them, or refused before the work."""

import errno
import functools
import gc
import hashlib
import json
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import pytest
from paths import DATA, ROOT
from processes import environment
from refusing import contents, refused
from safetensors.numpy import save as library

import xlstm
from xlstm.errors import FileError, WeightsError, XlstmError
from xlstm.files import free_memory
from xlstm.files.arrays import safe_tensors_writer
from xlstm.files.arrays.safe_tensors_writer import NAMES, blocks, write_safetensors
from xlstm.files.description import Stored
from xlstm.files.hashes import in_background, of_file, of_open_files
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model, packed_tensors
from xlstm.ir.lazy_weights import Latest, LazyWeight, LazyWeights, dtypes_of, joined, renamed
from xlstm.reading.load import opened

linux = pytest.mark.skipif(sys.platform != "linux", reason="the limits of Linux")
RNG = np.random.default_rng(3)


def handles(arrays):
    """A handle for each array, as the writer takes them."""
    return [
        Stored(name, array.shape, array.dtype.name, functools.partial(np.asarray, array))
        for name, array in arrays.items()
    ]


def written(tmp_path, arrays, texts):
    """The bytes of the file, whose hash is checked."""
    path = tmp_path / "a.safetensors"
    digest = write_safetensors(path, handles(arrays), texts)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest() == of_file(path)
    return path.read_bytes()


def test_files_are_those_of_the_library_byte_for_byte(tmp_path):
    arrays = {f"{name} {n}": np.ones((2, n), name) for name in NAMES for n in (0, 3)}
    arrays |= {'"ü"\n\x01/': np.array(1.5, "float32"), "a": np.arange(6.0).reshape(3, 2)}
    for texts in ({}, {'"é\\': json.dumps({"graph": "ü\x7f"})}):
        assert written(tmp_path, arrays, texts) == library(arrays, texts or None)


@pytest.mark.parametrize("block", [1, 24, 40, 10**6])
def test_strided_arrays_are_written_in_order(block, tmp_path, monkeypatch):
    monkeypatch.setattr(safe_tensors_writer, "BLOCK", block)
    whole = RNG.standard_normal((3, 4, 5)).astype("float32")
    views = {"t": whole.T, "half": whole[:, ::2], "back": whole[::-1], "one": whole[0, 0, :1]}
    views |= {"none": whole[:0], "swapped": whole.astype(">f4")}
    plain = {name: np.ascontiguousarray(array, "<f4") for name, array in views.items()}
    assert written(tmp_path, views, {}) == library(plain)
    assert max(part.nbytes for part in blocks(whole.T)) <= max(block, 4)


def test_a_dtype_that_no_file_has_is_refused(tmp_path):
    wide = handles({"w": np.ones(2, "complex128")})
    refused(WeightsError, lambda: write_safetensors(tmp_path / "a", wide, {}), "complex128")
    assert contents(tmp_path) == {}


@pytest.mark.parametrize("to", ["torch", "nnx", "linen", "keras"])
@pytest.mark.parametrize("name", ["k224/gru.h5", "k224/lstm.h5", "k3/seq2seq.keras"])
def test_tensors_made_one_by_one_are_those_made_together(name, to):
    model, adapter = xlstm.load(DATA / name), registry.adapter(to)
    together = pack_model(model, adapter)
    found = {tensor.name: tensor for tensor in packed_tensors(model, adapter)}
    assert [*found] == [*together]
    for key, array in together.items():
        assert (found[key].shape, found[key].dtype) == (array.shape, array.dtype.name)
        np.testing.assert_array_equal(found[key].load(), array, strict=True)


def test_errors_of_work_in_the_background_are_raised():
    def wrong():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        in_background(wrong)()


def test_work_is_done_where_no_thread_starts(monkeypatch):
    def refuse(_thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", refuse)
    assert in_background(lambda: 7)() == 7


def test_hashing_does_not_move_an_open_file(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)) * 2000)
    with (tmp_path / "a").open("rb") as file:
        file.seek(5)
        digest = of_open_files([file])
        assert digest == of_file(tmp_path / "a")
        assert file.tell() == 5
        assert of_open_files([file, file]) != digest


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Two LSTMs of 72 MB."""
    path = tmp_path_factory.mktemp("big") / "big.h5"
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        import large

    large.write_stack(path, layers=2, features=1060, units=1060)
    assert path.stat().st_size > 60e6
    return path


PORT = """
import resource, sys
from xlstm.cli.main import main
import xlstm.porting.save

def figure(name):
    return int(open("/proc/self/status").read().split(name)[1].split()[0]) * 1024

if more := int(sys.argv[3]):
    resource.setrlimit(resource.RLIMIT_AS, (figure("VmSize:") + more * 10**6,) * 2)
status = main(["port", sys.argv[1], "--no-verify", "--to", "torch", "-o", sys.argv[2]])
print(figure("VmHWM:"), file=sys.stderr)
sys.exit(status)
"""


def ported(path, folder, more=0):
    """The process that ports a file, with that many MB more than its modules take; 0: no limit."""
    # threads of OpenBLAS want memory for each core of the machine
    variables = environment() | {"OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PORT, str(path), str(folder), str(more)]
    return subprocess.run(command, capture_output=True, text=True, env=variables, check=False)


@linux
def test_the_peak_is_a_part_of_the_weights(big, tmp_path):
    small, done = (ported(path, tmp_path / path.name) for path in (DATA / "k224/lstm.h5", big))
    assert (small.returncode, done.returncode) == (0, 0), done.stderr
    extra = int(done.stderr) - int(small.stderr)
    assert extra < 0.8 * big.stat().st_size  # two tensors of four, and blocks
    model = xlstm.load(big)
    assert model.source.sha256 == hashlib.sha256(big.read_bytes()).hexdigest()
    back = xlstm.load(tmp_path / big.name)
    for layer, arrays in model.weights.items():
        for name, array in arrays.items():
            found = back.weights[layer][name]  # PyTorch's second bias is zero
            np.testing.assert_array_equal(found[: len(array)], array)
            assert not found[len(array) :].any()


@linux
@pytest.mark.parametrize("more", [10, 20, 35])
def test_too_little_memory_is_said_before_anything_is_written(big, more, tmp_path):
    done = ported(big, tmp_path / "port", more)
    assert (done.returncode, done.stdout) == (2, "")
    line, _peak = done.stderr.splitlines()
    assert line.startswith("xlstm: big.h5: expected 36 MB of free memory for its weights, got ")
    assert line.endswith("; allow this process more memory, or close other programs")
    assert contents(tmp_path) == {}


@linux
def test_a_part_of_the_memory_for_all_weights_is_enough(big, tmp_path):
    done = ported(big, tmp_path / "port", 65)
    assert done.returncode == 0, done.stderr


@linux
def test_limits_of_containers_and_machines_are_known(big, tmp_path, monkeypatch):
    group = tmp_path / "groups" / "mine"
    group.mkdir(parents=True)
    for name, text in {"max": "90000000", "current": "30000000", "stat": "anon 1\nfile 5"}.items():
        (group / f"memory.{name}").write_text(f"{text}\n")
    (tmp_path / "cgroup").write_text("0::/mine\n")
    monkeypatch.setattr(free_memory, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(free_memory, "PROCESS", tmp_path)
    refused(FileError, lambda: xlstm.load(big), "90 MB of free memory", "60 MB")
    xlstm.count(big)
    (group / "memory.max").write_text("max\n")
    assert xlstm.load(big).layers
    (tmp_path / "meminfo").write_text("MemAvailable: 50000 kB\nSwapFree: 10 kB\nHugePages: 0\n")
    monkeypatch.setattr(free_memory, "MACHINE", tmp_path / "meminfo")
    refused(FileError, lambda: xlstm.load(big), "90 MB of free memory", "51 MB")
    monkeypatch.setattr(free_memory, "MACHINE", Path("/nonexistent"))
    assert xlstm.load(big).layers


@linux
def test_the_memory_of_a_ported_folder_is_checked_too(big, tmp_path, monkeypatch):
    folder = xlstm.save(big, tmp_path / "port", "torch")
    (tmp_path / "meminfo").write_text("MemAvailable: 50000 kB\n")
    monkeypatch.setattr(free_memory, "MACHINE", tmp_path / "meminfo")
    refused(FileError, lambda: xlstm.load(folder), "90 MB of free memory", "51 MB")
    assert xlstm.count(folder).total("keras") == xlstm.count(big).total("keras")


@pytest.mark.parametrize("error", [errno.EINVAL, errno.EIO])
def test_a_disk_that_fails_meanwhile_is_an_error(error, tmp_path, monkeypatch):
    def fail(_descriptor):
        raise OSError(error, "the disk")

    monkeypatch.setattr(safe_tensors_writer, "BLOCK", 8)
    monkeypatch.setattr("os.fsync", fail)
    arrays = {"w": RNG.standard_normal((40, 2)).astype("float32")}
    if error == errno.EINVAL:  # a file system that flushes nothing
        assert written(tmp_path, arrays, {}) == library(arrays)
    else:
        with pytest.raises(OSError, match="the disk"):
            written(tmp_path, arrays, {})


FILES = sorted([*DATA.rglob("*.h5"), *DATA.rglob("*.keras")])
"""Models of every era; weights alone are refused."""


def outcome(path, folder, to):
    """The files of a port, or the error."""
    try:
        return contents(xlstm.save(path, folder, to))
    except XlstmError as error:
        return repr(error)


@pytest.mark.parametrize("to", ["torch", "nnx", "linen"])
def test_weights_that_are_not_kept_are_ported_alike(to, tmp_path, monkeypatch):
    found = {}
    for number, path in enumerate(FILES):
        found[path] = outcome(path, tmp_path / str(number), to)
        with monkeypatch.context() as patch:
            patch.setattr("xlstm.reading.load.KEPT", -1)
            again = outcome(path, tmp_path / f"{number}_lazy", to)
        assert again == found[path], path
    assert sum(isinstance(files, dict) for files in found.values()) > 12


def test_few_weights_are_in_memory_at_a_time(big):
    with opened(big) as model:
        layers = model.weights
        assert layers["lstm_0"]["kernel"] is layers["lstm_0"]["kernel"]  # the last one is kept
        first = weakref.ref(layers["lstm_0"]["kernel"])
        assert layers["lstm_1"]["kernel"].shape == (4, 1060, 1060)
        gc.collect()
        assert first() is None
        assert model.compute_dtype() == np.float32


def test_half_of_an_lstm_is_as_lazy_as_the_whole():
    kernel = LazyWeight(np.dtype("float32"), lambda: np.ones(2, "float32"))
    bias = LazyWeight(np.dtype("float16"), lambda: pytest.fail("it was read"))
    lazy = LazyWeights({"kernel": kernel, "bias": bias}, Latest())
    both = joined([renamed(lazy, {n: f"{side}.{n}" for n in lazy}) for side in ("forward", "back")])
    assert dtypes_of(both)["back.bias"] == np.float16
    assert both["back.kernel"].tolist() == [1, 1]
    assert len(both) == 4
    mixed = joined([renamed(lazy, {"kernel": "kernel"}), {"gain": np.zeros(1)}])
    assert mixed.keys() == {"kernel", "gain"}
    assert joined([]) == {}
