"""Every free text that a reader takes: it becomes a name or a constant of emitted source, or none.

Layers, models and inputs of Keras files are in test_hostile_names.py.
"""

import contextlib
import importlib.util
import json
import shutil
import sys
from collections import OrderedDict

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from flax import nnx
from make_files import KINDS, make
from payloads import MARK, PAYLOADS, check, comments
from savedmodel_parts import parts

import xlstm
from xlstm.errors import UnsupportedError, WeightsError, XlstmError
from xlstm.frameworks import registry
from xlstm.ir.identifiers import identifier
from xlstm.ir.layers import Dense
from xlstm.verification.folder import verify_folder

TARGETS = [name for name in registry.names() if registry.adapter(name).emit is not None]


def check_all(model):
    """Asserts that nothing of a payload is code, whatever the model is ported to."""
    for target in TARGETS:
        with contextlib.suppress(UnsupportedError):
            text = registry.adapter(target).emit(model)
            check(text, named=True)
            assert MARK not in comments(text)


def torch_module(payload):
    """Its class, its modules and the outputs of a module, named by the payload."""
    inner = OrderedDict([(payload.replace(".", "_"), torch.nn.Linear(3, 2))])
    name = payload.replace("\ud800", "").replace("\0", "")

    def forward(self, x):
        y = self.part(x)
        return {payload: y, f"{payload}2": torch.tanh(y)}

    def init(self):
        torch.nn.Module.__init__(self)
        self.part = torch.nn.Sequential(inner)

    return type(name, (torch.nn.Module,), {"__init__": init, "forward": forward})()


def nnx_module(_payload):
    return nnx.Sequential(nnx.Linear(3, 2, rngs=nnx.Rngs(0)), nnx.relu)


def linen_module(payload):
    module = linen.Sequential([linen.Dense(2, name=payload), linen.relu])
    return module, module.init(jax.random.key(0), jnp.ones((1, 3)))


def live_keras(payload):
    import keras

    name = payload.replace("/", "_")
    x = keras.Input((3,), name=f"{name}x")
    y = keras.layers.Dense(2, name=name)(x)
    return keras.Model(x, {payload: y, f"{payload}2": keras.layers.ReLU(name=f"{name}r")(y)})


LIVE = {"torch": torch_module, "nnx": nnx_module, "linen": linen_module, "keras": live_keras}


def read(make_live, payload):
    """The model of a live object, None where the framework, or we, refuse such a name."""
    try:
        source = make_live(payload)
    except (ValueError, KeyError, SyntaxError, AttributeError):
        return None
    with contextlib.suppress(XlstmError):
        return xlstm.load(source)
    return None


@pytest.mark.parametrize("framework", LIVE)
def test_names_in_live_models(framework, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [read(LIVE[framework], payload) for payload in PAYLOADS.values()]
    models = [model for model in found if model is not None]
    assert len(models) > len(PAYLOADS) / 2
    for model in models:
        check_all(model)
    assert not (tmp_path / MARK).exists()


@pytest.mark.parametrize("case", PAYLOADS)
def test_names_of_arrays(case):
    payload = PAYLOADS[case]
    name = identifier(payload)
    arrays = {f"{name}.weight": np.ones((2, 3), "f4"), f"{name}.bias": np.ones(2, "f4")}
    check_all(xlstm.load(arrays, layers={payload: Dense(3, 2)}))
    arrays[payload] = np.ones(2, "f4")
    with pytest.raises(WeightsError) as caught:
        xlstm.load(arrays, layers={payload: Dense(3, 2)})
    assert str(caught.value).isprintable()


def replaced(data, names):
    """JSON data with other texts in the place of some."""
    if isinstance(data, str):
        return names.get(data, data)
    if isinstance(data, list):
        return [replaced(item, names) for item in data]
    if isinstance(data, dict):
        return {key: replaced(value, names) for key, value in data.items()}
    return data


@pytest.mark.parametrize("case", PAYLOADS)
def test_names_in_a_savedmodel(case, tmp_path):
    pieces = parts()
    data = {number: json.loads(text) for number, (_, text) in pieces.metadata.items()}
    called = [found["name"] for found in data.values() if isinstance(found.get("name"), str)]
    names = {name: f"{PAYLOADS[case]}{number}" for number, name in enumerate(called)}
    for number, (path, _) in pieces.metadata.items():
        pieces.metadata[number] = (path, json.dumps(replaced(data[number], names)))
    model = xlstm.load(pieces.write(tmp_path / "saved"))
    assert any(MARK in name for name in model.names)
    check_all(model)


def everywhere(data, payload):
    """JSON data with a payload for every text."""
    if isinstance(data, str):
        return payload
    if isinstance(data, list):
        return [everywhere(item, payload) for item in data]
    if isinstance(data, dict):
        return {key: everywhere(value, payload) for key, value in data.items()}
    return data


@pytest.mark.parametrize("case", PAYLOADS)
def test_texts_of_a_report(case, ported, tmp_path, monkeypatch):
    """Nothing in it is run, and what is shown of it drives no terminal."""
    monkeypatch.chdir(tmp_path)
    folder = shutil.copytree(ported, tmp_path / "port")
    report = json.loads((folder / "report.json").read_text())
    kept = report["proof"]["hashes"]
    changed = everywhere(report, PAYLOADS[case])
    changed["proof"]["hashes"] = dict.fromkeys(kept, PAYLOADS[case])
    (folder / "report.json").write_text(json.dumps(changed))
    for trust in (False, True):
        found = verify_folder(folder, trust=trust)
        assert not found.ok
        assert all(line.isprintable() for line in str(found).splitlines())
    assert {item.name for item in tmp_path.iterdir()} == {"port"}


@pytest.fixture(scope="module")
def ported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("source")
    return xlstm.save(make("keras", folder), folder / "port", "torch")


TEXTS = {
    "a class": lambda c, text: c["config"]["layers"][1].update(class_name=text),
    "a registered name": lambda c, text: c["config"]["layers"][1].update(registered_name=text),
    "a module": lambda c, text: c["config"]["layers"][1].update(module=text),
    "an activation": lambda c, text: c["config"]["layers"][1]["config"].update(activation=text),
    "a dtype": lambda c, text: c["config"]["layers"][1]["config"].update(dtype=text),
    "a dtype of an input": lambda c, text: c["config"]["layers"][0]["config"].update(dtype=text),
    "an option": lambda c, text: c["config"]["layers"][1]["config"].update({text: text}),
    "an initializer": lambda c, text: c["config"]["layers"][1]["config"].update(
        kernel_initializer={"class_name": text, "config": {text: text}, "module": text}
    ),
    "a number": lambda c, text: c["config"]["layers"][1]["config"].update(units=text),
    "a switch": lambda c, text: c["config"]["layers"][1]["config"].update(use_bias=text),
    "a model's class": lambda c, text: c.update(class_name=text),
}
"""Texts of a Keras file that are no names of layers -> what puts one there."""


@pytest.mark.parametrize("where", TEXTS)
@pytest.mark.parametrize("kind", KINDS)
def test_other_texts_of_keras_files(kind, where, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for number, payload in enumerate(PAYLOADS.values()):
        below = tmp_path / str(number)
        below.mkdir()
        path = make(kind, below, config=lambda c, payload=payload: TEXTS[where](c, payload))
        with contextlib.suppress(XlstmError):
            check_all(xlstm.load(path))
    assert not (tmp_path / MARK).exists()


def object_of(module, name):
    return {"module": module, "class_name": name, "config": {}, "registered_name": None}


def function_of(module, name):
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


STRANGER = "stranger_of_a_file"
FOREIGN = {
    "a model": lambda c: c.update(module=STRANGER),
    "a layer": lambda c: c["config"]["layers"][1].update(module=STRANGER),
    "a registered layer": lambda c: c["config"]["layers"][1].update(
        module=STRANGER, registered_name=f"{STRANGER}>LSTM"
    ),
    **{
        f"{option} {made.__name__}": lambda c, option=option, made=made: c["config"]["layers"][1][
            "config"
        ].update({option: made(STRANGER, "LSTM")})
        for option in ("activation", "kernel_initializer", "bias_constraint", "dtype")
        for made in (object_of, function_of)
    },
    "a build config": lambda c: c["config"]["layers"][1].update(
        build_config=object_of(STRANGER, "LSTM")
    ),
    "an optimizer": lambda c: c.update(
        compile_config={"optimizer": object_of(STRANGER, "LSTM"), "loss": STRANGER}
    ),
}
"""Places of a Keras file that name a module from which Keras would take a class or a function."""


@pytest.mark.parametrize("where", FOREIGN)
def test_no_module_that_a_file_names_is_imported(where, tmp_path, monkeypatch):
    (tmp_path / f"{STRANGER}.py").write_text("class LSTM:\n    pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = make("keras", tmp_path, config=FOREIGN[where])
    with contextlib.suppress(XlstmError):
        xlstm.reconcile(path, ["keras"])
    assert STRANGER not in sys.modules
    assert importlib.util.find_spec(STRANGER) is not None, "it could have been"
