"""Eight threads at once, on the same and on different models: every value is that of one thread."""

import ast
import copy
import dataclasses
import importlib
import os
import sys
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from cases import built, model
from processes import run

import xlstm
from xlstm.frameworks import registry
from xlstm.frameworks.imports import LEVEL
from xlstm.frameworks.model_tensors import pack_model
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import GRU, LSTM, BatchNorm, Dense, Input, Masking
from xlstm.ir.python_source import module_of, parse, steady
from xlstm.ir.source import Source

THREADS = 8
TARGETS = (*registry.frameworks(), "numpy")
SOURCES = ("torch", "nnx", "linen", "keras")


@pytest.fixture(autouse=True)
def _busy():
    """Threads take turns as often as in a busy service."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def together(*calls):
    """What each call gives, all of them started at one moment in threads of their own."""
    gate, found = threading.Barrier(len(calls)), [None] * len(calls)

    def work(number, call):
        gate.wait()
        try:
            found[number] = call()
        except BaseException as error:  # noqa: BLE001  raised below
            found[number] = error

    threads = [threading.Thread(target=work, args=pair) for pair in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for result in found:
        if isinstance(result, BaseException):
            raise result
    return found


def masked():
    """An own cell, a mask and statistics."""
    graph = Builder()
    x = graph.add("x", Input((None, 3)))
    x = graph.add("masking", Masking(), [x])
    spec = GRU(3, 4, "relu", return_sequences=True)
    x = graph.add("gru", spec, [x], mask=Edge("masking", 1))
    x = graph.add("norm", BatchNorm(4), [x])
    return built(graph, [graph.add("dense", Dense(4, 2, "softmax"), [x])])


def native():
    """A layer that every framework has, under names that differ from those of `masked`."""
    return model([LSTM(3, 4), Dense(4, 2, "relu")], (6, 3))


MODELS = (masked, native)
X = np.random.default_rng(1).standard_normal((2, 6, 3)).astype("f4")


def mistaken(source):
    """The model with one recurrent kernel transposed."""
    name = next(n for n, layer in source.weights.items() if "recurrent" in layer)
    layer = dict(source.weights[name])
    layer["recurrent"] = layer["recurrent"].swapaxes(-1, -2)
    return dataclasses.replace(source, weights={**source.weights, name: layer})


def same(found, wanted, to):
    """Layers are those of the other model, and so, bit for bit, is what the framework holds."""
    assert [node.name for node in found.nodes] == [node.name for node in wanted.nodes]
    mine, theirs = (pack_model(read, registry.adapter(to)) for read in (found, wanted))
    assert mine.keys() == theirs.keys()
    for name, array in theirs.items():
        np.testing.assert_array_equal(mine[name], array)


def ran(ported, to):
    """The output of a port that computes in float64."""
    x = X.astype("f8")
    if to == "numpy":
        return ported(x)
    return registry.adapter(to).live().run(ported, [x], "float64")[0]


def a_service(number, source, to, folder, counts, wanted):
    """What one thread does; each result is held against that of one thread alone."""
    assert xlstm.count(source).to_json() == counts
    ported = xlstm.port(source, to, dtype="float64")
    np.testing.assert_allclose(ran(ported, to), wanted, rtol=0, atol=1e-12)
    if to == "numpy" or number % 4 < 2:
        assert xlstm.diagnose(source, xlstm.port(mistaken(source), to)).causes == ("transposed",)
    else:
        assert xlstm.reconcile(source, [to], [X]).ok
    if to == "numpy":
        return
    for name in ("one", "two", "one"):
        xlstm.save(source, folder / name, to, overwrite=True)
    same(xlstm.load(folder / "one"), source, to)
    assert (folder / "one" / "model.py").read_text() == registry.adapter(to).emit(source)
    if to != "keras":  # which is read as any model of Keras is, layer by layer
        same(xlstm.load(ported), source.astype("float64"), to)


@pytest.mark.parametrize("to", TARGETS)
def test_every_call_gives_what_it_gives_alone(to, tmp_path):
    sources = [make() for make in MODELS] * (THREADS // 2)
    counts = [xlstm.count(source).to_json() for source in sources[:2]] * (THREADS // 2)
    wanted = [xlstm.port(source, "numpy", dtype="float64")(X.astype("f8")) for source in sources]
    folders = [tmp_path / str(number) for number in range(THREADS)]
    for folder in folders:
        folder.mkdir()
    each = zip(sources, folders, counts, wanted, strict=True)
    together(*[lambda n=n, a=a: a_service(n, a[0], to, *a[1:]) for n, a in enumerate(each)])


@pytest.mark.parametrize("to", SOURCES)
def test_a_module_is_whole_before_a_second_thread_has_it(to):
    for units in range(2, 12):
        source = model([LSTM(3, units, "relu")], (None, 3))
        made = together(*[lambda m=source: xlstm.port(m, to, dtype="float64")] * THREADS)
        kinds = {type(port[0] if isinstance(port, tuple) else port) for port in made}
        assert len(kinds) == 1, "one class for all threads"


def test_models_that_are_written_alike_are_told_apart():
    def source(file):
        return dataclasses.replace(native(), source=dataclasses.replace(SOURCE, file=file))

    files = [f"{number}.h5" for number in range(THREADS)]
    ports = together(*[lambda f=f: xlstm.port(source(f), "torch") for f in files])
    assert len({type(port) for port in ports}) == 1
    assert [xlstm.load(port).source.file for port in ports] == files
    assert xlstm.load(copy.deepcopy(ports[0])).source.file == "", "a copy does not say whose"


SOURCE = Source("keras", "3.15.1", "HDF5 whole model", "", "0" * 64)


class Traced(torch.nn.Module):
    """A module of somebody's own, which `torch.fx` traces."""

    def __init__(self, units):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, units, batch_first=True)
        self.dense = torch.nn.Linear(units, 2)
        self.drop = torch.nn.Dropout(0.5)

    def forward(self, x):
        return self.dense(self.drop(self.lstm(x)[0])[:, -1])


def test_modules_run_while_others_are_traced():
    torch.manual_seed(3)
    modules = [Traced(units).eval() for units in range(2, 6)]
    x = torch.from_numpy(X)
    with torch.no_grad():
        wanted = [module(x) for module in modules]

    def reads(module):
        for _ in range(10):
            found = xlstm.load(module)
            assert [node.name for node in found.layers] == ["lstm", "drop", "getitem_1", "dense"]

    def runs(module, y):
        for _ in range(100):
            with torch.no_grad():
                assert torch.equal(module(x), y)

    calls = [lambda m=m: reads(m) for m in modules]
    together(*calls, *[lambda m=m, y=y: runs(m, y) for m, y in zip(modules, wanted, strict=True)])
    assert torch.nn.Module.__call__ is CALL
    assert torch.nn.Module.__getattr__ is GETATTR


CALL, GETATTR = torch.nn.Module.__call__, torch.nn.Module.__getattr__


def default_device():
    return importlib.import_module("torch.utils._device").CURRENT_DEVICE


def test_random_numbers_and_warnings_of_the_process_stay():
    torch.manual_seed(3)
    module = Traced(4).train()
    truth = xlstm.load(module)
    state, filters = torch.get_rng_state(), list(warnings.filters)
    found = together(*[lambda: xlstm.diagnose(truth, module).causes] * THREADS)
    assert found == [("dropout-on",)] * THREADS
    assert torch.equal(torch.get_rng_state(), state)
    assert list(warnings.filters) == filters
    assert default_device() is None


COLD = """
import sys, threading
import numpy as np, xlstm
sys.setswitchinterval(1e-5)
found, gate = [], threading.Barrier(8)
def work(to):
    gate.wait()
    try:
        if to == "keras":
            xlstm.require(to)
        ported = xlstm.port(xlstm.demo.path(), to)
        found.append((to, xlstm.count(xlstm.demo.path()).total(to)))
    except BaseException as error:
        found.append((to, repr(error)))
threads = [threading.Thread(target=work, args=(to,)) for to in sys.argv[1:] * 2]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(sorted(found))
"""


def test_the_first_calls_of_a_process_come_at_once():
    done = run(COLD, *SOURCES)
    assert (done.returncode, done.stderr) == (0, "")
    totals = {to: xlstm.count(xlstm.demo.path()).total(to) for to in SOURCES}
    assert ast.literal_eval(done.stdout) == sorted([*totals.items()] * 2)


NAMES = """
import keras
from xlstm_test_threads import call
@keras.saving.register_keras_serializable("mine")
class Layer(keras.layers.Layer):
    pass
call()
"""


def test_what_others_register_with_keras_meanwhile_stays(monkeypatch):
    import keras
    from keras.saving import get_custom_objects, register_keras_serializable

    class Mine(keras.layers.Layer):
        pass

    class Own(keras.layers.Layer):
        pass

    shared = type(sys)("xlstm_test_threads")
    shared.call = lambda: register_keras_serializable("mine", "Own")(Own)
    monkeypatch.setitem(sys.modules, shared.__name__, shared)
    live = registry.adapter("keras").live()
    register_keras_serializable("mine", "Layer")(Mine)

    def executed(number):
        with live.running():
            module_of(f"xlstm_port_of_test_{number}", NAMES)

    together(*[lambda n=n: executed(n) for n in range(THREADS)])
    try:
        assert get_custom_objects()["mine>Layer"] is Mine
        assert get_custom_objects()["mine>Own"] is Own
    finally:
        for name in ("mine>Layer", "mine>Own"):
            del get_custom_objects()[name]


def test_a_module_that_fails_is_left_to_nobody():
    def fails():
        with pytest.raises(ZeroDivisionError):
            module_of("xlstm_port_that_fails", "import time\ntime.sleep(0.01)\n1 / 0\n")
        return "xlstm_port_that_fails" in sys.modules

    together(*[fails] * THREADS)
    assert "xlstm_port_that_fails" not in sys.modules


def test_a_layer_is_registered_once():
    def register(number):
        try:
            xlstm.register_layer(
                "OfThreads",
                reference=lambda config, weights, x: x * number,
                output_shape=lambda config, shape: shape,
                weights=(),
                mask="passes",
            )
        except xlstm.errors.UsageError as error:
            return error.got
        return "registered"

    found = together(*[lambda n=n: register(n) for n in range(THREADS)])
    xlstm.unregister_layer("OfThreads")
    assert sorted(found) == ["one that is taken"] * (THREADS - 1) + ["registered"]


def test_stderr_and_the_environment_come_back(monkeypatch):
    monkeypatch.delenv(LEVEL, raising=False)
    live = registry.adapter("keras").live_module
    package, _, name = live.rpartition(".")
    # an import sets the package's attribute too, which must be the old module again
    monkeypatch.setattr(sys.modules[package], name, registry.adapter("keras").live())
    monkeypatch.delitem(sys.modules, live)
    before = os.fstat(2).st_ino, os.fstat(2).st_dev
    together(*[lambda: xlstm.require("keras")] * THREADS)
    assert (os.fstat(2).st_ino, os.fstat(2).st_dev) == before
    assert LEVEL not in os.environ


def test_a_syntax_tree_is_made_again_where_the_count_was_upset():
    """CPython 3.11.7 says so now and then, where another thread parses."""
    errors = [SystemError("AST constructor recursion depth mismatch (before=30, after=26)")] * 3

    def call():
        if errors:
            raise errors.pop()
        return "a tree"

    assert steady(call) == "a tree"
    with pytest.raises(SystemError, match="another"):
        steady(lambda: (_ for _ in ()).throw(SystemError("another")))


def test_trees_are_made_in_many_threads():
    text = Path(xlstm.__file__).with_name("errors.py").read_text()
    wanted = ast.dump(ast.parse(text))
    together(*[lambda: [ast.dump(parse(text)) == wanted or 1 / 0 for _ in range(5)]] * THREADS)


ONCE = {
    "parse": {"ir/python_source.py"},
    "literal_eval": set(),
    "exec": {"ir/python_source.py"},
    # a command has the process to itself, and pytest runs one test of a process at a time
    "catch_warnings": {"cli/main.py", "testing/isolation.py"},
    "simplefilter": {"cli/main.py", "testing/isolation.py"},
    "filterwarnings": set(),
    "set_default_dtype": set(),
    "set_num_threads": {"torch/live/model.py"},  # in a forked child, which has no other thread
    "use_deterministic_algorithms": set(),
    "set_floatx": set(),
    "set_epsilon": set(),
    "clear_session": set(),
    "set_random_seed": set(),
    "setrecursionlimit": set(),
    "redirect_stdout": set(),
    "redirect_stderr": set(),
    "chdir": set(),
    "umask": set(),
    "manual_seed": {"torch/live/hooks.py", "torch/live/run.py"},
    "fork_rng": {"torch/live/hooks.py", "torch/live/run.py"},
    # isolation: in a forked child, as above
    "signal": {
        "_interrupt.py",
        "cli/guard.py",
        "frameworks/command_exit.py",
        "testing/isolation.py",
    },
    # a worker of a fleet is a process of ours, which runs one thread
    "dup2": {"fleets/cluster.py", "frameworks/imports.py", "frameworks/command_exit.py"},
    "set_dtype_policy": {"keras/live/user_classes.py"},
}
"""Functions that set what a process has once -> the files that call them, under a lock."""


def called(tree):
    """Names of what a module calls: the last part of each."""
    for item in ast.walk(tree):
        if isinstance(item, ast.Call):
            name = getattr(item.func, "attr", getattr(item.func, "id", ""))
            if name in ONCE:
                yield name


def test_what_a_process_has_once_is_set_in_known_places():
    root = Path(__file__).parents[2]
    found = {name: set() for name in ONCE}
    for path in [*root.glob("xlstm/**/*.py"), *root.glob("converters/**/*.py")]:
        for name in called(ast.parse(path.read_text())):
            found[name].add(path.relative_to(root).as_posix().partition("/")[2])
    # `python_source.parse` is called in many places
    assert found.pop("parse") >= ONCE["parse"]
    assert found == {name: files for name, files in ONCE.items() if name != "parse"}
    assert {*called(ast.parse("warnings.catch_warnings()\nexec('')"))} == {"catch_warnings", "exec"}
