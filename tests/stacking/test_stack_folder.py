"""Folders of stacks: what is written, `unstack` bit for bit, and folders that are damaged."""

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from cases import CASES
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from stacks import inputs, siblings

import xlstm
from xlstm.errors import FileError, UsageError, WeightsError
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense
from xlstm.ir.serialize import from_json, to_json
from xlstm.stacking import reconcile, save
from xlstm.testing.models import chained

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("flax", reason="flax is not installed")

HALF = {"return_sequences": True}
MODEL = chained(
    [
        Bidirectional(LSTM(3, 5, **HALF), LSTM(3, 5, go_backwards=True, **HALF)),
        GRU(10, 4),
        Dense(4, 2),
    ],
    (None, 3),
)


def named():
    """Models that differ in weights, names of layers, source and what is trainable."""
    every = siblings(MODEL)
    b = every["m1"]
    text = json.dumps(to_json(replace(b, weights={}, name="second")))
    names = [name for name in b.names if name != b.inputs[0]]
    for name in names:
        text = text.replace(f'"{name}"', f'"{name} of b"')
    weights = {f"{name} of b": layer for name, layer in b.weights.items()}
    every["m1"] = from_json(json.loads(text), weights, "test")
    c = every["m2"]
    frozen = tuple(replace(n, trainable=False) for n in c.nodes[1:])
    source = replace(c.source, file="c.keras", sha256="ab" * 32, notes=("a note",))
    every["m2"] = replace(c, nodes=(c.nodes[0], *frozen), source=source)
    return every


def loaded(folder):
    spec = importlib.util.spec_from_file_location("stack_model", folder / "model.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()


def assert_same_weights(found, port):
    assert {*found.weights} == {*port.weights}
    for layer, arrays in port.weights.items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(found.weights[layer][name], array, strict=True)


@pytest.mark.parametrize("to", ["torch", "nnx", "linen"])
def test_unstack_gives_the_ports_bit_for_bit(to, tmp_path):
    every = named()
    stacked = xlstm.stack(every, to)
    save(stacked, tmp_path / "three")
    assert {f.name for f in (tmp_path / "three").iterdir()} == {
        *("model.py", "report.json", "stacked.safetensors")
    }
    for source in (tmp_path / "three", stacked, loaded(tmp_path / "three")):
        found = xlstm.unstack(source)
        assert [*found] == [*every]
        for name, model in every.items():
            assert_same_weights(found[name], xlstm.load(xlstm.port(model, to)))
            assert found[name].names == model.names
            assert found[name].nodes == model.nodes
            assert found[name].source == model.source
            assert found[name].name == model.name


def test_numpy_stacks_are_unstacked_too():
    every = named()
    for name, model in xlstm.unstack(xlstm.stack(every, "numpy")).items():
        assert_same_weights(model, every[name])
        assert model.names == every[name].names


def test_names_choose_models(tmp_path):
    save(xlstm.stack(named(), "torch"), tmp_path / "three")
    assert [*xlstm.unstack(tmp_path / "three", ["m2", "m0"])] == ["m2", "m0"]
    with pytest.raises(UsageError, match="names of 3 models, got paris"):
        xlstm.unstack(tmp_path / "three", ["paris"])


def test_trained_weights_are_followed(tmp_path):
    stacked = xlstm.stack(siblings(MODEL), "torch")
    with torch.no_grad():
        for parameter in stacked.parameters():
            parameter[1] += 1
    save(stacked, tmp_path / "three")
    found = xlstm.unstack(tmp_path / "three")
    first, second = (xlstm.load(xlstm.port(m, "torch")) for m in list(siblings(MODEL).values())[:2])
    assert_same_weights(found["m0"], first)
    kernel = found["m1"].weights["dense_2"]["kernel"]
    np.testing.assert_array_equal(kernel, second.weights["dense_2"]["kernel"] + 1)
    reconcile(stacked, ["m1"]).check()


def test_the_folder_needs_no_xlstm(tmp_path):
    every, (x,) = siblings(MODEL), inputs(MODEL)
    save(xlstm.stack(every, "torch"), tmp_path / "three")
    text = (tmp_path / "three" / "model.py").read_text()
    assert "xlstm" not in text
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys; sys.modules['xlstm'] = None; sys.path.insert(0, 'three')\n"
        "import numpy as np, torch, model\n"
        "with torch.no_grad(): y = model.load(chunk=2)(torch.from_numpy(np.load('x.npy')))\n"
        "np.save('y.npy', y.numpy())"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, timeout=100)
    wanted = [xlstm.port(model, "numpy")(x) for model in every.values()]
    np.testing.assert_allclose(np.load(tmp_path / "y.npy"), np.stack(wanted), atol=2e-6)


def test_load_names_unstack(tmp_path):
    stacked = xlstm.stack(siblings(MODEL), "torch")
    save(stacked, tmp_path / "three")
    for source in (tmp_path / "three", stacked, loaded(tmp_path / "three")):
        with pytest.raises(UsageError, match=r"a stack of many models; call xlstm\.unstack"):
            xlstm.load(source)


def test_overwrite(tmp_path):
    stacked, target = xlstm.stack(siblings(MODEL), "torch"), tmp_path / "three"
    save(stacked, target)
    with pytest.raises(UsageError, match="already exists"):
        save(stacked, target)
    save(stacked, target, overwrite=True)
    (target / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="files of others in it"):
        save(stacked, target, overwrite=True)
    xlstm.save(CASES["lstm-sequence"], tmp_path / "port", "torch")
    with pytest.raises(UsageError, match="a ported folder to overwrite"):
        save(stacked, tmp_path / "port", overwrite=True)


def test_wrong_sources(tmp_path):
    with pytest.raises(UsageError, match="one of numpy"):
        save(xlstm.stack(siblings(MODEL), "numpy"), tmp_path / "x")
    with pytest.raises(UsageError, match="a stack of this process, got int"):
        xlstm.unstack(3)
    with pytest.raises(FileError, match=r"a folder with stacked\.safetensors"):
        xlstm.unstack(tmp_path)
    stacked = xlstm.stack(siblings(MODEL), "torch")
    dense = stacked.each.dense_2
    dense.bias = torch.nn.Parameter(dense.bias[:2].clone())
    with pytest.raises(WeightsError, match="3 models in each tensor"):
        xlstm.unstack(stacked)


def changed(text, path, value):
    """Metadata with one value replaced; `path` has keys and numbers."""
    data = json.loads(text)
    place = data
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return json.dumps(data)


DAMAGES = {
    "no-data": (None, "a stack in the metadata"),
    "no-json": ("{", "JSON"),
    "framework": ((("to",), "keras"), "a stack of a known framework"),
    "numpy": ((("to",), "numpy"), "a stack of a known framework"),
    "models": ((("models",), {}), "a list of models"),
    "no-models": ((("models",), []), "a list of models"),
    "name": ((("models", 0, "name"), 3), "m|text"),
    "twice": ((("models", 0, "name"), "m1"), "names of models that differ"),
    "layers": ((("models", 1, "layers"), ["a"]), "4 names that differ"),
    "layers-kind": ((("models", 1, "layers"), "abcd"), "names of layers"),
    "frozen": ((("models", 1, "frozen"), ["x"]), "numbers of frozen layers"),
    "graph": ((("graph", "nodes", 1, "spec", "kind"), "Lambda"), "a layer with its options"),
    "digest": ((("models", 2, "weights"), "00"), "model m2.*the weights that were written"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_metadata(name, tmp_path):
    save(xlstm.stack(siblings(MODEL), "torch"), tmp_path / "three")
    file = tmp_path / "three" / "stacked.safetensors"
    with safe_open(file, "numpy") as opened:
        text = opened.metadata()["xlstm_stack"]
    damage, message = DAMAGES[name]
    text = damage if isinstance(damage, str) else damage and changed(text, *damage)
    save_file(load_file(file), file, {"xlstm_stack": text} if text else None)
    with pytest.raises(FileError, match=message):
        xlstm.unstack(tmp_path / "three")


def test_damaged_tensors(tmp_path):
    save(xlstm.stack(siblings(MODEL), "torch"), tmp_path / "three")
    file = tmp_path / "three" / "stacked.safetensors"
    with safe_open(file, "numpy") as opened:
        metadata = opened.metadata()
    arrays = load_file(file)
    save_file({name: array[:2].copy() for name, array in arrays.items()}, file, metadata)
    with pytest.raises(FileError, match="tensors with an axis of 3 models"):
        xlstm.unstack(tmp_path / "three")
    file.write_bytes(b"\xff" * 100)
    with pytest.raises(FileError):
        xlstm.unstack(tmp_path / "three")


def test_code_in_the_folder_is_not_run(tmp_path):
    save(xlstm.stack(siblings(MODEL), "torch"), tmp_path / "three")
    (tmp_path / "three" / "model.py").write_text("raise SystemExit('ran')")
    assert len(xlstm.unstack(tmp_path / "three")) == 3
