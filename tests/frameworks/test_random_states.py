"""No call moves a global random state: what a user has seeded gives the numbers that it gave."""

import random
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
import tensorflow as tf
import torch
from flax import nnx
from processes import environment

import xlstm
from xlstm.frameworks.random_state import unmoved

DEMO = xlstm.demo.path()
TARGETS = ("torch", "nnx", "linen", "keras", "numpy")


SEEDED = {
    "random": lambda: random.random(),
    "numpy": lambda: np.random.random(),
    "torch": lambda: torch.rand(3).tolist(),
    "keras": lambda: keras.ops.convert_to_numpy(keras.random.normal((3,))).tolist(),
}


def drawn_by_others():
    """Numbers from global sources; drawing them moves each."""
    return {name: draw() for name, draw in SEEDED.items()}


def drawn():
    """As above, and of TensorFlow, whose kernels count on: a number drawn stays drawn there."""
    return {**drawn_by_others(), "tensorflow": tf.random.uniform((3,)).numpy().tolist()}


def numbers_after(call):
    """What every source gives after a call, each seeded and moved on before it."""
    keras.utils.set_random_seed(20)
    torch.manual_seed(20)
    drawn()
    call()
    return drawn()


def keras_model():
    inputs = keras.Input((None, 3))
    hidden = keras.layers.Dropout(0.3)(keras.layers.LSTM(4)(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(hidden))


SOURCES = {
    "file": lambda: DEMO,
    "keras": keras_model,
    "torch": lambda: torch.nn.LSTM(3, 4, batch_first=True),
    "nnx": lambda: nnx.LSTMCell(3, 4, rngs=nnx.Rngs(0)),
}
CALLS = {
    "load": lambda source, _folder: xlstm.load(source),
    "count": lambda source, _folder: xlstm.count(source),
    "reconcile": lambda source, _folder: xlstm.reconcile(source, ["keras", "torch"]),
    "diagnose": lambda source, _folder: xlstm.diagnose(source, source),
    **{
        f"port-{to}": lambda source, _folder, to=to: xlstm.port(source, to, dtype="float32")
        for to in TARGETS
    },
    **{
        f"save-{to}": lambda source, folder, to=to: xlstm.save(source, folder / to, to)
        for to in TARGETS[:-1]
    },
}


@pytest.fixture(scope="module")
def untouched():
    xlstm.require("keras", "torch")  # the states of what xlstm has not turned to are not its own
    return numbers_after(lambda: None)


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", CALLS)
def test_a_call_leaves_the_states_as_they_are(name, source, untouched, tmp_path):
    made = SOURCES[source]()
    assert numbers_after(lambda: CALLS[name](made, tmp_path)) == untouched


def test_the_test_above_can_fail(untouched):
    moved = numbers_after(keras_model)
    assert {name for name, found in moved.items() if found != untouched[name]} == {"random"}
    assert numbers_after(lambda: torch.nn.Linear(2, 2))["torch"] != untouched["torch"]


def test_a_call_that_fails_leaves_them_too(untouched):
    def fails(x):
        drawn_by_others()
        raise ValueError(f"no {x.shape}")

    found = {}

    def call():
        found["causes"] = xlstm.diagnose(DEMO, fails).causes

    assert numbers_after(call) == untouched
    assert found["causes"] == ("failed",)


def test_what_draws_within_a_call_is_still_seen_to_draw(untouched):
    found = {}

    def noisy(x):
        return torch.rand(len(x), 20).numpy()

    def call():
        found["causes"] = xlstm.diagnose(DEMO, noisy).causes

    assert numbers_after(call) == untouched
    assert "not-repeatable" in found["causes"]


def test_calls_in_several_threads_leave_them(untouched):
    inside = threading.Barrier(3)

    @unmoved
    def draws():
        inside.wait()  # no call ends before all have begun
        drawn_by_others()
        inside.wait()

    def call():
        threads = [threading.Thread(target=draws) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert numbers_after(call) == untouched


FIRST = f"""
import random
import numpy as np
random.seed(20)
np.random.seed(20)
import xlstm
xlstm.port({str(DEMO)!r}, "torch")
xlstm.port({str(DEMO)!r}, "keras")
print(random.random(), np.random.random())
"""


def test_a_call_that_imports_a_framework_leaves_them():
    plain = "\n".join(line for line in FIRST.splitlines() if "port(" not in line)
    said = []
    for code in (plain, FIRST):
        line = [sys.executable, "-c", code]
        done = subprocess.run(line, env=environment(), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        said.append(done.stdout)
    assert said[0] == said[1]
