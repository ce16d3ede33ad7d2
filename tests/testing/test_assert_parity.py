"""`assert_parity`: what may be compared, the text of a failure, files read once, time limits."""

import dataclasses
import os
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from cases import CASES, lstm

import xlstm
from xlstm.errors import FileError, UsageError
from xlstm.testing import ParityResult, assert_parity, loaded_files, results
from xlstm.testing.loaded_files import LoadedFiles

DEMO = str(xlstm.demo.path())
forks = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")

MODULE = """
import os
import numpy as np

def right(x):
    return np.tanh(x)

def wrong(x):
    return np.tanh(x) + (x > 1)

def killer(x):
    os._exit(7)

class Needs:
    def __init__(self, size):
        self.size = size
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A module `own_ports` that Python finds, here and in new interpreters."""
    (tmp_path / "own_ports.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    yield "own_ports"
    sys.modules.pop("own_ports", None)


def altered(model, layer, tensor):
    """A model with one number of a tensor changed."""
    array = np.array(model.weights[layer][tensor])
    array.flat[0] += 0.5
    weights = {**model.weights, layer: {**model.weights[layer], tensor: array}}
    return dataclasses.replace(model, weights=weights)


def failure(*both, **options):
    """The result of a comparison that must fail."""
    with pytest.raises(AssertionError) as raised:
        assert_parity(*both, **options)
    result = raised.value.result
    assert str(raised.value) == result.text == str(result)
    assert not result
    return result


def test_equal_models_pass_without_a_search():
    result = assert_parity(DEMO, xlstm.port(DEMO, "torch"))
    assert result
    assert isinstance(result, ParityResult)
    assert (result.outcome, result.suspect, result.causes) == ("equal", "Model", ())
    assert 0 <= result.ratio <= 1
    assert result.report.tried == 0
    assert result.report.ok


def test_the_failure_is_the_diagnosis():
    source = CASES["lstm-tanh-sigmoid"]
    result = failure(source, altered(source, "lstm_0", "kernel"))
    lines = result.text.splitlines()
    assert lines[0] == "Different: 1 mistake found."
    assert lines[3].startswith("first difference: output[0, 0, 0]: a gives ")
    assert "lstm_0: " in result.text
    assert "[other-weights]" in result.text
    assert result.causes == ("other-weights",)
    assert result.ratio > 1e3


def test_the_name_of_a_framework_tests_its_port():
    result = assert_parity(DEMO, "torch")
    assert result.report.frameworks["torch"].ok
    assert "float32" in result.text
    assert result.ratio <= 1
    with pytest.raises(FileError, match="torhc: expected a readable model file"):
        assert_parity(DEMO, "torhc")


def test_an_undecided_comparison_fails_with_its_words():
    def chaotic(x):
        for _ in range(400):
            x = 3.99 * x * (1 - x)
        return x

    x = np.full((2, 3), 0.3) + np.arange(3) / 10
    result = failure(chaotic, lambda x: chaotic(x * (1 + 1e-16)), inputs=x)
    assert result.outcome == "undecided"
    assert result.text.startswith("Undecided: rounding alone may make the difference.")


def test_a_suspect_that_raises_fails_with_its_words():
    class Broken(torch.nn.Module):
        def forward(self, x):
            raise RuntimeError("no such device")

    result = failure(DEMO, Broken())
    assert result.outcome == "failed"
    assert "RuntimeError: no such device" in result.text
    assert result.causes == ("failed",)


def test_wrong_calls_are_errors_of_the_test_not_differences(module):
    with pytest.raises(FileError, match="no such file"):
        assert_parity("nowhere.keras", DEMO)
    with pytest.raises(UsageError, match="timeout: expected a number of seconds"):
        assert_parity(DEMO, DEMO, timeout=-1)
    with pytest.raises(UsageError, match="own_ports:absent: expected an object"):
        assert_parity("own_ports:absent", DEMO)
    with pytest.raises(UsageError, match=r"own_ports:Needs.*missing 1 required"):
        assert_parity(DEMO, "own_ports:Needs")


def test_importable_names_are_compared(module):
    x = np.linspace(-2, 2, 6).reshape(2, 3)
    assert assert_parity("own_ports:right", "own_ports:right", inputs=x)
    result = failure("own_ports:right", "own_ports:wrong", inputs=x)
    assert result.suspect == "own_ports:wrong"
    assert "differ in 2 of 6 numbers" in result.text


def test_files_are_read_once_until_they_change(tmp_path, monkeypatch):
    reads = []
    load = loaded_files.load
    monkeypatch.setattr(loaded_files, "load", lambda path: reads.append(path) or load(path))
    path, files = tmp_path / "model.keras", LoadedFiles()
    shutil.copy(DEMO, path)
    first = files.get(path)
    assert files.get(str(path)) is first
    assert len(reads) == 1
    os.utime(path, ns=(1, 1))
    assert files.get(path) is not first
    small = LoadedFiles(most=1)
    assert small.get(path) is not small.get(path)


def test_ported_folders_and_arrays_are_read_each_time(tmp_path):
    xlstm.save(DEMO, tmp_path / "port", "torch")
    np.savez(tmp_path / "arrays.npz", kernel=np.ones((2, 2)))
    files = LoadedFiles()
    assert files.get(tmp_path / "port") == tmp_path / "port"
    assert files.get(tmp_path / "arrays.npz") == tmp_path / "arrays.npz"
    assert assert_parity(DEMO, tmp_path / "port")


def test_edited_code_of_a_folder_is_no_pass(tmp_path):
    xlstm.save(DEMO, tmp_path / "port", "torch")
    code = tmp_path / "port" / "model.py"
    code.write_text(code.read_text().replace("return", "return 1 *", 1))
    with pytest.warns(xlstm.errors.FolderCodeWarning):
        result = failure(DEMO, tmp_path / "port")
    assert "model.py" in result.text


@forks
def test_a_fork_gives_the_same_result():
    source = lstm()
    other = altered(source, "lstm_0", "bias")
    here, there = failure(source, other), failure(source, other, timeout=60)
    assert dataclasses.replace(there, seconds=here.seconds) == here
    assert assert_parity(DEMO, DEMO, timeout=60).report.ok


@forks
def test_a_module_of_pytorch_runs_in_a_fork():
    ported = xlstm.port(DEMO, "torch")
    ported(torch.zeros(64, 5, 1))  # its threads exist in this process, not in the fork
    assert assert_parity(DEMO, ported, timeout=60)


class Hangs(torch.nn.Module):
    def forward(self, x):
        while True:
            time.sleep(1)


class Exits(torch.nn.Module):
    def forward(self, x):
        os._exit(0)


class Killed(torch.nn.Module):
    def forward(self, x):
        os.kill(os.getpid(), 9)


@forks
def test_a_suspect_that_hangs_fails():
    result = failure(DEMO, Hangs(), timeout=1)
    assert result.outcome == "failed"
    assert result.text.startswith("Failed: the comparison did not end within 1 s")
    assert "b: Hangs" in result.text
    assert "loop that does not end" in result.text


@forks
@pytest.mark.parametrize(
    ("suspect", "how"), [(Exits(), "exit status 0"), (Killed(), "SIGKILL")], ids=["exit", "kill"]
)
def test_a_suspect_that_ends_its_process_fails(suspect, how):
    result = failure(DEMO, suspect, timeout=60)
    assert result.outcome == "failed"
    assert f"the process of the comparison ended early ({how})" in result.text


@forks
def test_a_search_that_takes_too_long_is_still_a_difference():
    # ten times the usual effort takes minutes
    result = failure(DEMO, lambda x: np.zeros((len(x), 20)), timeout=6, effort=10)
    assert result.outcome == "different"
    assert "The search for the cause did not end within 6 s" in result.text


@forks
def test_errors_of_a_fork_are_the_callers():
    with pytest.raises(UsageError, match="input input: expected an array of shape"):
        assert_parity(DEMO, DEMO, inputs=np.zeros((2, 3, 9)), timeout=60)


def test_names_run_in_a_new_interpreter(module):
    x = np.linspace(-2, 2, 6).reshape(2, 3)
    assert assert_parity("own_ports:right", "own_ports:right", inputs=[x], timeout=120)
    result = failure("own_ports:right", "own_ports:wrong", inputs=x, timeout=120)
    assert "differ in 2 of 6 numbers" in result.text
    result = failure("own_ports:right", "own_ports:killer", inputs={"x": x}, timeout=120)
    assert "ended early (exit status 7)" in result.text


@pytest.mark.parametrize("start", ["forked", "new"])
def test_no_process_is_left_behind(start, module, tmp_path):
    if start == "forked" and sys.platform != "linux":
        pytest.skip("only Linux forks safely")
    note = tmp_path / "process"
    code = f"import os, time\ndef hang(x):\n    open({str(note)!r}, 'w').write(str(os.getpid()))\n"
    (tmp_path / "hanging.py").write_text(f"{code}    time.sleep(1000)\n")
    suspect = "hanging:hang"
    if start == "forked":
        import hanging

        suspect = hanging.hang
    failure(DEMO, suspect, timeout=8)
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


@forks
def test_a_live_model_that_no_fork_can_run_is_refused():
    import keras

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(UsageError, match="objects that work in a forked process"):
        assert_parity(model, model, timeout=5)
    with pytest.raises(UsageError, match="files and importable names"):
        assert_parity(model, "torch", timeout=5)


def test_listeners_get_every_result():
    heard = []
    results.listen(heard.append)
    try:
        assert_parity(DEMO, DEMO)
    finally:
        results.stop_listening(heard.append)
    assert_parity(DEMO, DEMO)
    assert [found.outcome for found in heard] == ["equal"]


IMPORT = """
import sys, time
import pytest, signal
before, handler = {*sys.modules}, signal.getsignal(signal.SIGINT)
start = time.process_time()
import xlstm.testing.plugin
used = time.process_time() - start
assert signal.getsignal(signal.SIGINT) is handler is signal.default_int_handler
print(used, *{name.split(".")[0] for name in {*sys.modules} - before}, *sys.modules)
"""


def test_the_plugin_is_imported_in_no_time():
    """Less than 20 ms of a processor, and nothing of numpy, hypothesis, or a framework."""
    times = []
    for _ in range(5):
        done = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        used, *names = done.stdout.split()
        times.append(float(used))
    heavy = {"numpy", "hypothesis", "torch", "jax", "keras", "tensorflow", "rich", "yaml"}
    assert not heavy & {*names}
    own = {name for name in names if name.startswith("xlstm.")}
    assert own == {"xlstm._interrupt", "xlstm._version", "xlstm.testing", "xlstm.testing.plugin"}
    assert sorted(times)[2] < 0.02
