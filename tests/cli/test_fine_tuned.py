"""The main road: an old Keras 2 file to PyTorch, trained there, saved, on to NNX, back to Keras.

The model has an Embedding with a mask, gates of hard_sigmoid as Keras 2 computes it, BatchNorm and
Dropout. Keras 2.12 wrote the file.
"""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm.cli.main import main
from xlstm.errors import NotEqualError

pytestmark = pytest.mark.filterwarnings("ignore:Layer 'conv1d'.*masking:UserWarning")
"""Keras warns where a mask ends, in the old model as in its ports."""

OLD = DATA / "savedmodel" / "misc.h5"

WORDS = np.array([[1, 2, 3, 4, 5], [6, 7, 0, 0, 0], [0, 8, 0, 9, 1], [0, 0, 0, 0, 0]], "int32")
"""Sequences without padding, with it, with holes, and of padding alone."""

TRAIN = """
import sys
sys.modules["xlstm"] = None  # the training machine has none
import numpy as np, torch
from ported.model import Model

model = Model.from_pretrained("ported").train()
torch.manual_seed(0)
x = torch.from_numpy(np.load("words.npy"))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
losses = []
for _ in range(20):
    optimizer.zero_grad()
    loss = torch.nn.functional.mse_loss(model(x), torch.full((4, 3), 0.3))
    loss.backward()
    optimizer.step()
    losses.append(loss.item())
assert losses[-1] < losses[0], losses
model.eval()  # evaluation mode of PyTorch: no dropout
model.save_pretrained("tuned")
with torch.no_grad():
    np.save("tuned.npy", model(x).numpy())
"""


def command(*args):
    assert main([*map(str, args), "--quiet"]) == 0, args


def run(code, folder):
    """Runs Python in a folder, in a process of its own, and returns its errors."""
    env = {**os.environ, "PYTHONPATH": "."}
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, env=env, capture_output=True)
    return done.stderr.decode() if done.returncode else ""


@pytest.fixture(scope="module")
def road(tmp_path_factory):
    """The folder of the whole road, with all its ports."""
    here = tmp_path_factory.mktemp("road")
    np.save(here / "words.npy", WORDS)
    command("port", OLD, "--to", "torch", "-o", here / "ported")
    assert not run(TRAIN, here)
    command("port", here / "tuned", "--to", "nnx", "-o", here / "in_nnx")
    command("port", here / "in_nnx", "--to", "keras", "-o", here / "in_keras")
    return here


CODE = {
    "tuned": "from tuned.model import Model\n"
    "y = Model.from_pretrained('tuned')(torch.from_numpy(x)).detach().numpy()",
    "in_nnx": "from in_nnx.model import load\ny = np.asarray(load()(x))",
}


def outputs(road, folder):
    """The outputs of a folder's own code, in a process without xlstm."""
    start = "import sys, numpy as np\nsys.modules['xlstm'] = None\nx = np.load('words.npy')\n"
    start += "import torch\n" if folder == "tuned" else ""
    error = run(f"{start}{CODE[folder]}\nnp.save('{folder}_again.npy', y)", road)
    assert not error, error
    return np.load(road / f"{folder}_again.npy")


def test_training_has_moved_the_model(road):
    before = xlstm.port(OLD, "numpy")(WORDS)
    assert np.abs(before - np.load(road / "tuned.npy")).max() > 0.01


def test_every_port_computes_what_was_trained(road):
    import keras

    wanted = np.load(road / "tuned.npy")
    found = {
        "tuned again": outputs(road, "tuned"),
        "nnx": outputs(road, "in_nnx"),
        "numpy": xlstm.port(road / "tuned", "numpy")(WORDS),
        "linen": None,
        "keras": np.asarray(xlstm.port(road / "in_nnx", "keras")(WORDS)),
        "model.keras": np.asarray(
            keras.models.load_model(road / "in_keras" / "model.keras")(WORDS)
        ),
    }
    module, variables = xlstm.port(road / "tuned", "linen")
    found["linen"] = np.asarray(module.apply(variables, WORDS))
    for name, y in found.items():
        np.testing.assert_allclose(y, wanted, rtol=0, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("folder", ["ported", "tuned", "in_nnx", "in_keras"])
def test_verify_says_that_all_are_equal(folder, road, capsys):
    assert main(["verify", str(road / folder), "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"]
    assert found["proof"]["changed"] == []
    verdicts = {v["float64"]["verdict"] for v in found["frameworks"].values()}
    assert verdicts == {"rounding"}
    assert len(found["frameworks"]) == 4


def test_the_trained_weights_are_not_those_of_the_old_file(road, capsys):
    status = main(["verify", str(road / "tuned"), "--origin", str(OLD), "--frameworks", "torch"])
    assert status == 1
    assert "model.safetensors: " in capsys.readouterr().out


def test_the_road_in_python(road):
    xlstm.reconcile(road / "tuned", inputs=[WORDS]).check()
    xlstm.reconcile(road / "in_keras", inputs=[WORDS]).check()
    found = xlstm.diagnose(OLD, road / "tuned")
    assert not found.ok
    with pytest.raises(NotEqualError):
        found.check()


def steps():
    """A batch for a model of three steps of 42 features: -1 is what its Masking leaves out."""
    x = np.random.default_rng(0).normal(size=(4, 3, 42)).astype("float32")
    x[1, 2:] = x[2] = -1
    return x


RASA = "k2.1-rasa-masking-lstm/keras_model.h5"
"""Masking, and an LSTM with the hard_sigmoid that was the default of Keras 2.1."""

LIVE = [
    pytest.param(OLD, lambda: WORDS, id="keras-2.12"),
    pytest.param(CORPUS / RASA, steps, id="keras-2.1", marks=needs_corpus),
]


@pytest.mark.parametrize(("file", "batch"), LIVE)
def test_the_road_of_a_live_port(file, batch, tmp_path):
    import torch

    x, model = batch(), xlstm.port(file, "torch").train()
    torch.manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        (model(torch.from_numpy(x)) ** 2).mean().backward()
        optimizer.step()
    model.eval().save_pretrained(tmp_path / "tuned")
    wanted = model(torch.from_numpy(x)).detach().numpy()
    assert np.abs(xlstm.port(file, "numpy")(x) - wanted).max() > 0.01
    nnx = xlstm.save(tmp_path / "tuned", tmp_path / "nnx", "nnx")
    back = xlstm.port(nnx, "keras")
    np.testing.assert_allclose(np.asarray(back(x)), wanted, rtol=0, atol=1e-6)
    again = xlstm.port(back, "torch")
    found = again(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-6)
