"""A ported folder whose graph holds code where an option belongs: refused, and nothing runs."""

import json

import numpy as np
import pytest
from refusing import refused
from safetensors import safe_open
from safetensors.numpy import load_file, save_file
from xlstm.converters import keras_emit

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.model import Builder, Embedding, Input, Model, Source
from xlstm.proof import verify_folder

CODE = '__import__("pathlib").Path("RAN").touch()'
PAYLOAD = f'int32" if not {CODE} else "int32'


def rows_model(dtype="int32"):
    """A model whose input's dtype is written into Keras source."""
    graph = Builder()
    x = graph.add("ids", Input((5,), dtype), ())
    y = graph.add("rows", Embedding(7, 3), [x])
    weights = {"rows": {"table": np.zeros((7, 3), np.float32)}}
    return Model("m", graph.nodes, ("ids",), (y,), weights, Source("keras", "3.15.1"))


@pytest.fixture
def evil(tmp_path, monkeypatch):
    """A ported folder with code for a dtype, below the current folder."""
    monkeypatch.chdir(tmp_path)
    folder = xlstm.save(rows_model(), tmp_path / "evil", "torch")
    file = folder / "weights.safetensors"
    with safe_open(file, "numpy") as opened:
        data = json.loads(opened.metadata()["xlstm"])
    data["graph"]["nodes"][0]["spec"]["dtype"] = PAYLOAD
    save_file(load_file(file), file, {"xlstm": json.dumps(data)})
    return folder


WAYS = {
    "load": xlstm.load,
    "count": xlstm.count,
    "port": lambda folder: xlstm.port(folder, "keras"),
    "save": lambda folder: xlstm.save(folder, folder.parent / "next", "keras"),
    "reconcile": lambda folder: xlstm.reconcile(folder, ["keras"]),
    "verify": lambda folder: verify_folder(folder, ["keras"]),
    "verify-trusted": lambda folder: verify_folder(folder, ["keras"], trust=True),
    "diagnose": lambda folder: xlstm.diagnose(folder, rows_model()),
}
"""Calls that read a ported folder."""


@pytest.mark.parametrize("way", WAYS)
def test_code_for_a_dtype_is_refused_and_never_run(way, evil):
    refused(UnsupportedError, lambda: WAYS[way](evil), "node ids", "Input.dtype")
    assert not (evil.parent / "RAN").exists()


def test_an_input_has_a_dtype_that_exists():
    refused(UnsupportedError, lambda: Input((5,), PAYLOAD), "Input.dtype", "int32")


def test_a_dtype_is_quoted_even_where_it_was_never_checked():
    model = rows_model()
    object.__setattr__(model.nodes[0].spec, "dtype", PAYLOAD)
    text = keras_emit.emit(model)
    assert f"dtype={PAYLOAD!r}" in text
