"""Ported folders that were damaged, or made by others: read back as data, in one line refused."""

import json
import shutil
import struct

import numpy as np
import pytest
from make_files import make
from refusing import deadline, refused
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import xlstm
from xlstm.errors import FileError, UnsupportedError, WeightsError

FILES = ("config.json", "model.py", "report.json")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A good port to torch."""
    folder = tmp_path_factory.mktemp("whole")
    return xlstm.save(make("keras", folder), folder / "port", "torch")


@pytest.fixture
def port(whole, tmp_path):
    """A copy of it, to be damaged."""
    folder = shutil.copytree(whole, tmp_path / "port")
    (folder / "config.json").unlink()  # it has the graph, too
    return folder


def metadata_of(folder):
    with safe_open(folder / "model.safetensors", "numpy") as opened:
        return opened.metadata()


def write(folder, arrays=None, **metadata):
    """Writes the weights again, with other arrays or metadata."""
    file = folder / "model.safetensors"
    arrays = load_file(file) if arrays is None else arrays
    save_file(arrays, file, metadata)


def alter(folder, change):
    """Writes the weights again with what `change` makes of the graph's data."""
    data = json.loads(metadata_of(folder)["xlstm"])
    changed = change(data)
    write(folder, xlstm=json.dumps(data if changed is None else changed))


def test_the_whole_folder_loads(port):
    model = xlstm.load(port)
    assert [node.name for node in model.layers] == ["lstm", "dense"]
    assert model.source.framework == "keras"
    alter(port, lambda _data: None)
    assert xlstm.load(port).nodes == model.nodes


@pytest.mark.filterwarnings("ignore::xlstm.errors.FolderCodeWarning")
def test_code_of_a_folder_is_not_run(port, tmp_path):
    (port / "model.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    xlstm.load(port)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", FILES)
def test_weights_with_their_graph_are_enough(name, whole, tmp_path):
    folder = shutil.copytree(whole, tmp_path / "port")
    (folder / name).unlink()
    assert xlstm.load(folder).nodes == xlstm.load(whole).nodes


def test_a_folder_without_weights(port):
    (port / "model.safetensors").unlink()
    refused(FileError, lambda: xlstm.load(port), "one without model.safetensors")


def test_weights_without_a_graph_and_without_code(port):
    write(port)
    (port / "model.py").unlink()
    refused(FileError, lambda: xlstm.load(port), "one without model.py")


def test_weights_of_two_ports(port):
    shutil.copy(port / "model.safetensors", port / "weights.safetensors")
    refused(FileError, lambda: xlstm.load(port), "one file of weights", "weights.safetensors")


def header(size, rest=b""):
    return struct.pack("<Q", size) + rest


LIE = json.dumps({"a": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 2**42]}}).encode()
BYTES = {
    "empty": lambda _data: b"",
    "cut-in-header": lambda data: data[:50],
    "cut-in-data": lambda data: data[:-4],
    "one-byte-more": lambda data: data + b"\0",
    "text": lambda _data: b"import os\n" * 10,
    "huge-header": lambda data: header(2**40, data[8:]),
    "huge-array": lambda _data: header(len(LIE), LIE),
    "header-not-json": lambda _data: header(9, b"import os"),
}


@pytest.mark.parametrize("case", BYTES)
def test_damaged_weights(case, port):
    file = port / "model.safetensors"
    file.write_bytes(BYTES[case](file.read_bytes()))
    with deadline(10):
        refused(FileError, lambda: xlstm.load(port), "model.safetensors")


def test_flipped_bits_never_escape_the_family(port):
    file, rng = port / "model.safetensors", np.random.default_rng(6)
    whole = file.read_bytes()
    for position in rng.integers(0, len(whole), 150):
        data = bytearray(whole)
        data[position] ^= 1 << int(rng.integers(8))
        file.write_bytes(data)
        try:
            found = xlstm.load(port)
        except xlstm.errors.XlstmError:
            continue
        assert len(found.layers) == 2


METADATA = {
    "none": {},
    "of-others": {"format": "pt"},
    "empty": {"xlstm": ""},
    "text": {"xlstm": "import os"},
    "null": {"xlstm": "null"},
    "list": {"xlstm": "[]"},
    "number": {"xlstm": "3"},
    "no-graph": {"xlstm": '{"to": "torch"}'},
    "graph-list": {"xlstm": '{"to": "torch", "graph": []}'},
    "no-target": {"xlstm": '{"graph": {}}'},
    "target-number": {"xlstm": '{"to": 3, "graph": {}}'},
    "twice-a-key": {"xlstm": '{"to": "torch", "to": "torch", "graph": {}}'},
    "nan": {"xlstm": '{"to": "torch", "graph": NaN}'},
    "too-deep": {"xlstm": '{"to": "torch", "graph": ' + "[" * 9000 + "]" * 9000 + "}"},
}


@pytest.mark.parametrize("case", METADATA)
def test_metadata_that_is_no_graph(case, port):
    write(port, **METADATA[case])
    refused(FileError, lambda: xlstm.load(port), "model.safetensors")


@pytest.mark.parametrize("case", METADATA)
def test_a_config_that_is_no_graph(case, port):
    write(port)
    (port / "config.json").write_text(json.dumps(METADATA[case]))
    refused(FileError, lambda: xlstm.load(port), str(port))


CONFIGS = {
    "empty": "",
    "cut": '{"xlstm": ',
    "list": "[]",
    "text": '"import os"',
    "null": '{"xlstm": null}',
    "object": '{"xlstm": {"to": "torch"}}',
    "twice": '{"xlstm": "{}", "xlstm": "{}"}',
    "nan": '{"dtype": NaN}',
    "too-deep": "[" * 9000 + "]" * 9000,
}


@pytest.mark.parametrize("case", CONFIGS)
def test_damaged_configs(case, port):
    write(port)
    (port / "config.json").write_text(CONFIGS[case])
    refused(FileError, lambda: xlstm.load(port), "config.json")


def top(**changes):
    """A change of the graph's own entries; None removes one."""

    def change(data):
        for key, found in changes.items():
            data["graph"][key] = found
            if found is None:
                del data["graph"][key]

    return change


def node(number, **changes):
    """A change of one node: 0 the input, 1 the LSTM, 2 the Dense."""
    return lambda data: data["graph"]["nodes"][number].update(changes)


def spec(number, **changes):
    return lambda data: data["graph"]["nodes"][number]["spec"].update(changes)


def no_option(data):
    del data["graph"]["nodes"][1]["spec"]["activation"]


def wrapped(layer):
    return node(2, spec={"kind": "TimeDistributed", "layer": layer})


def nested(data):
    """TimeDistributed in TimeDistributed, below the limit of JSON's depth."""
    inner = data["graph"]["nodes"][2]["spec"]
    for _ in range(150):
        inner = {"kind": "TimeDistributed", "layer": inner}
    data["graph"]["nodes"][2]["spec"] = inner


GRAPHS = {
    "target-unknown": (lambda data: data.update(to="caffe"), "caffe"),
    "target-without-files": (lambda data: data.update(to="numpy"), "numpy"),
    "version-newer": (top(version=99), "version", "99"),
    "version-text": (top(version="1"), "version"),
    "version-missing": (top(version=None), "version"),
    "nodes-missing": (top(nodes=None),),
    "nodes-empty": (top(nodes=[]),),
    "nodes-text": (top(nodes=["lstm"]),),
    "name-missing": (top(name=None),),
    "lone-text": (top(lone="yes"),),
    "source-missing": (top(source=None),),
    "source-list": (top(source=[]),),
    "source-version-number": (lambda data: data["graph"]["source"].update(version=3),),
    "source-notes-text": (lambda data: data["graph"]["source"].update(notes="hello"),),
    "kind-unknown": (spec(1, kind="Lambda"), "lstm"),
    "kind-missing": (spec(1, kind=None), "lstm"),
    "kind-list": (spec(1, kind=["LSTM"]), "lstm"),
    "kind-of-another-layer": (spec(1, kind="Dense"), "lstm"),
    "spec-text": (node(1, spec="LSTM"), "lstm"),
    "option-unknown": (spec(1, evil=1), "lstm"),
    "option-missing": (no_option, "lstm"),
    "units-text": (spec(1, units="4"), "units"),
    "units-float": (spec(1, units=4.0), "units"),
    "units-bool": (spec(1, units=True), "units"),
    "units-zero": (spec(1, units=0), "units"),
    "units-negative": (spec(1, units=-4), "units"),
    "units-huge": (spec(1, units=2**70), "units"),
    "activation-number": (spec(1, activation=3), "activation"),
    "use_bias-number": (spec(1, use_bias=1), "use_bias"),
    "dropout-bool": (spec(1, dropout=True), "dropout"),
    "dropout-two": (spec(1, dropout=2), "dropout"),
    "wrapped-text": (wrapped("Dense"), "dense"),
    "wrapped-null": (wrapped(None), "dense"),
    "wrapped-deeply": (nested,),
    "input-unknown": (node(1, inputs=["ghost"]), "lstm"),
    "input-itself": (node(1, inputs=["lstm"]), "lstm"),
    "input-later": (node(1, inputs=["dense"]), "lstm"),
    "input-number": (node(1, inputs=[0]),),
    "inputs-text": (node(1, inputs="input"),),
    "inputs-none": (node(1, inputs=[]), "lstm"),
    "inputs-two": (node(2, inputs=["input", "lstm"]), "dense"),
    "inputs-of-an-input": (node(0, name="lstm", inputs=["lstm"]), "lstm"),
    "name-number": (node(1, name=3),),
    "name-twice": (node(2, name="lstm"), "lstm"),
    "trainable-text": (node(1, trainable="no"),),
    "shape-text": (node(1, shapes=[["4"]]),),
    "shape-negative": (node(0, shapes=[[-1, 3]]),),
    "shape-that-lies": (node(1, shapes=[[7]]), "lstm"),
    "input-shape-that-lies": (node(0, shapes=[[None, 5]]), "input"),
    "graph-inputs-empty": (top(inputs=[]), "inputs"),
    "graph-inputs-unknown": (top(inputs=["ghost"]), "inputs"),
    "graph-inputs-objects": (top(inputs=[{}]),),
    "graph-outputs-empty": (top(outputs=[]), "outputs"),
    "graph-outputs-unknown": (top(outputs=["ghost"]), "outputs"),
    "graph-outputs-objects": (top(outputs=[[]]),),
}


@pytest.mark.parametrize("case", GRAPHS)
def test_graphs_that_make_no_sense(case, port):
    change, *words = GRAPHS[case]
    alter(port, change)
    refused(FileError, lambda: xlstm.load(port), "model.safetensors", *words)


def test_activations_of_a_later_version(port):
    alter(port, spec(1, activation="snake"))
    refused(UnsupportedError, lambda: xlstm.load(port), "snake")


def missing(arrays):
    del arrays["lstm.bias_ih_l0"]


def left_over(arrays):
    arrays["head.weight"] = np.ones((2, 2), np.float32)


def wrong_shape(arrays):
    arrays["lstm.weight_ih_l0"] = np.ones((16, 5), np.float32)


def transposed(arrays):
    arrays["dense.weight"] = np.ascontiguousarray(arrays["dense.weight"].T)


WEIGHTS = {
    "missing": (missing, "layer lstm", "bias_ih_l0"),
    "left-over": (left_over, "head.weight"),
    "wrong-shape": (wrong_shape, "layer lstm", "(16, 5)"),
    "transposed": (transposed, "layer dense", "weight"),
    "none": (lambda arrays: arrays.clear(), "layer lstm"),
}


@pytest.mark.parametrize("case", WEIGHTS)
def test_weights_that_do_not_fit_the_graph(case, port):
    change, *words = WEIGHTS[case]
    arrays = load_file(port / "model.safetensors")
    change(arrays)
    write(port, arrays, **metadata_of(port))
    refused(WeightsError, lambda: xlstm.load(port), *words)


MISFITS = {
    "fewer-units": spec(2, units=3),
    "another-bias": spec(1, use_bias=False),
    "an-input-that-is-wrapped": wrapped({"kind": "Input", "shape": [4], "dtype": "float32"}),
    "an-input-that-is-a-layer": top(inputs=["lstm"]),
    "a-lone-layer-that-is-two": top(lone=True),
    "another-target": lambda data: data.update(to="nnx"),
}


@pytest.mark.parametrize("case", MISFITS)
def test_graphs_that_the_weights_deny(case, port):
    alter(port, MISFITS[case])
    with pytest.raises((FileError, WeightsError)) as caught:
        xlstm.load(port)
    assert str(caught.value).isprintable()
