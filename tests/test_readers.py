"""Every container of every Keras: described, and ported where its layers are known by now."""

import json
import re
import shutil
import sys

import numpy as np
import pytest
import yaml
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm.errors import FileError, UnsupportedError, UsageError, WeightsError
from xlstm.files import describe
from xlstm.files.architecture import Told
from xlstm.inspecting import inspect

ERAS = CORPUS.parent / "eras"
HDF5 = b"\x89HDF\r\n\x1a\n"

REFUSED = {
    "k3w/npz.keras": "pickles",
    # one shard alone: number 0 of its group lies in another file
    "k3/shard_00002.weights.h5": "arrays numbered 0, 1",
    "k3.12.0/shard_00002.weights.h5": "arrays numbered 0, 1",
    # Keras 3.0.5 wrote arrays of one name over one another and stopped there: weights are missing
    "k3.0.5/bidir.h5": "weights of layer bidirectional_1",
    "k3.0.5/func_shared.h5": "weights of layer inp",
    "k3.0.5/stacked.h5": "weights of layer time_distributed",
}
"""Genuine files that cannot be read, and what the refusal says."""


def models(root):
    """Every file and folder below `root` that holds weights of a model."""
    for path in sorted(root.rglob("*")):
        if (path.is_dir() and (path / "saved_model.pb").exists()) or path.name.endswith(
            ".weights.json"
        ):
            yield path
        elif path.is_file() and path.suffix != ".npz":
            start = path.read_bytes()[:8]
            if start[:4] == b"PK\x03\x04" or start == HDF5:
                yield path


@needs_corpus
def test_every_genuine_file_is_outlined():
    seen = 0
    for path in models(ERAS):
        name = str(path.relative_to(ERAS))
        if name in REFUSED:
            with pytest.raises(FileError, match=REFUSED[name]):
                inspect(path)
        else:
            seen += 1
            assert "layer" in inspect(path), name
    assert seen > 200


@needs_corpus
def test_every_corpus_file_is_outlined_and_no_lambda_is_read():
    texts = {path: inspect(path) for path in models(CORPUS)}
    assert len(texts) > 40
    lambdas = [text for path, text in texts.items() if "ctc-speech" in str(path)]
    assert len(lambdas) == 3
    for text in lambdas:
        assert "code, never read" in text
        assert "4wE" not in text


@needs_corpus
def test_outputs_of_every_era_whose_layers_are_known(capsys):
    """Every .npz beside a model: its outputs within 5e-7, or the layer that is still missing."""
    equal, missing = [], {}
    for path in models(ERAS):
        stem = path.name.removesuffix("_sm").split(".")[0]
        golden = path.with_name(f"{stem}.npz")
        if not golden.exists() or str(path.relative_to(ERAS)) in REFUSED:
            continue
        try:
            port = xlstm.port(path, "numpy")
        except (UnsupportedError, UsageError) as error:
            missing[str(path.relative_to(ERAS))] = error.got
            continue
        saved = np.load(golden)
        if saved["y"].dtype.kind == "V":
            continue  # computed in bfloat16: see test_mixed_precision
        np.testing.assert_allclose(port(saved["x"]), saved["y"], rtol=0, atol=5e-7)
        equal.append(str(path.relative_to(ERAS)))
    names = {word for got in missing.values() for word in re.findall(r"([A-Z]\w+) \(", got)}
    names |= {"functional graphs"} if "Functional" in missing.values() else set()
    with capsys.disabled():
        said = f"{len(equal)} era files equal; {len(missing)} wait for: {', '.join(sorted(names))}"
        sys.stdout.write(f"\n{said}\n")
    assert {"k224/lstm.h5", "k224/lstm_sig.h5"} <= set(equal)


def test_weights_alone_ask_for_what_is_missing():
    with pytest.raises(UsageError, match="architecture=FILE"):
        xlstm.load(DATA / "k224" / "lstm_w.h5")


@pytest.fixture(params=["json", "double json", "yaml"])
def architecture(request, tmp_path):
    """The architecture of k224/lstm.h5 in each of the forms that people keep it in."""
    described = describe(DATA / "k224" / "lstm.h5")
    data = {**described.config, "keras_version": "2.2.4", "backend": "tensorflow"}
    described.close()
    text = {
        "json": lambda: json.dumps(data),
        "double json": lambda: json.dumps(json.dumps(data)),
        "yaml": lambda: yaml.safe_dump(data),
    }[request.param]()
    path = tmp_path / "architecture.txt"
    path.write_text(text)
    return path


def test_weights_join_their_architecture(architecture):
    whole = xlstm.load(DATA / "k224" / "lstm.h5")
    joined = xlstm.load(DATA / "k224" / "lstm_w.h5", architecture=architecture)
    assert joined.nodes == whole.nodes
    np.testing.assert_equal(joined.weights, whole.weights)
    assert "can be ported" in inspect(DATA / "k224" / "lstm_w.h5", Told(architecture))


def test_options_that_are_not_needed_are_refused(architecture):
    with pytest.raises(UsageError, match="without an architecture"):
        xlstm.load(DATA / "k224" / "lstm.h5", architecture=architecture)
    with pytest.raises(UsageError, match=r"2\.2\.4, as the file says"):
        xlstm.load(DATA / "k224" / "lstm.h5", keras_version="3.1")
    with pytest.raises(UsageError, match="tensorflow, as the file says"):
        xlstm.load(DATA / "k224" / "lstm.h5", kernel_layout="theano")
    with pytest.raises(UsageError, match="tensorflow or theano"):
        xlstm.load(DATA / "k224" / "lstm.h5", kernel_layout="caffe")
    with pytest.raises(UsageError, match="leave them out"):
        xlstm.load(xlstm.load(DATA / "k224" / "lstm.h5"), keras_version="2.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("&a [*a, *a]", "aliases"),
        ("!!python/object/apply:os.system [id]", "ConstructorError"),
        ("a: 1\na: 2", "twice"),
        ("just text", "JSON object"),
        ('{"layers": []}', "class_name"),
        ("- [", "ParserError"),
    ],
)
def test_architectures_that_are_none(text, words, tmp_path):
    path = tmp_path / "architecture.yaml"
    path.write_text(text)
    with pytest.raises(FileError, match=words):
        xlstm.load(DATA / "k224" / "lstm_w.h5", architecture=path)


def test_keras_1_weights_by_their_names():
    """Twelve arrays in the order i c f o, and three fused ones, as the same LSTM."""
    described = describe(DATA / "k122" / "seq_cpu.h5")
    arrays = {s.name.removeprefix("lstm_1_"): s.load() for s in described.weights["lstm_1"]}
    described.close()
    got = xlstm.convert_weights(arrays, "keras.LSTM of Keras 1", "keras.LSTM")
    for letter, name in (("W", "kernel"), ("U", "recurrent_kernel"), ("b", "bias")):
        blocks = [arrays[f"{letter}_{gate}"] for gate in "ifco"]
        np.testing.assert_array_equal(got[name], np.concatenate(blocks, axis=-1))
    fused = {"W": got["kernel"], "U": got["recurrent_kernel"], "b": got["bias"]}
    again = xlstm.convert_weights(fused, "keras.LSTM of Keras 1, fused", "keras.LSTM")
    np.testing.assert_equal(again, got)


def test_keras_1_models_are_read_in_their_own_words(tmp_path):
    """The genuine Keras 1.2.2 file without its GRU: renamed options, 12 arrays, hard_sigmoid."""
    import h5py

    path = tmp_path / "k1.h5"
    shutil.copy(DATA / "k122" / "seq_cpu.h5", path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        layers = [c for c in config["config"] if c["class_name"] != "GRU"]
        file.attrs["model_config"] = json.dumps({**config, "config": layers})
        names = [n for n in file["model_weights"].attrs["layer_names"] if n != b"gru_1"]
        file["model_weights"].attrs["layer_names"] = names
    model = xlstm.load(path)
    assert model.source.version == "1.2.2"
    assert [node.spec.kind for node in model.layers] == ["LSTM", "SimpleRNN", "Dense"]
    assert model.layers[0].spec.gate_activation == "hard_sigmoid_keras2"
    assert any("LSTM of Keras 1" in note for note in model.source.notes)
    xlstm.reconcile(model, ("torch",)).check()


def layer_arrays(file, layer):
    described = describe(DATA / file)
    arrays = {s.name.split("/")[-1][:-2]: s.load() for s in described.weights[layer]}
    described.close()
    return arrays


def test_cudnn_weights_equal_keras_own_conversion():
    """cudnn_twin.h5 is what Keras 2.12 itself made of cudnn.h5."""
    cudnn = layer_arrays("k212/cudnn.h5", "cu_dnnlstm")
    twin = layer_arrays("k212/cudnn_twin.h5", "lstm")
    got = xlstm.convert_weights(cudnn, "keras.CuDNNLSTM", "keras.LSTM")
    np.testing.assert_equal(got, twin)
    back = xlstm.convert_weights(got, "keras.LSTM", "keras.CuDNNLSTM")
    np.testing.assert_array_equal(back["kernel"], cudnn["kernel"])
    np.testing.assert_array_equal(back["recurrent_kernel"], cudnn["recurrent_kernel"])


def test_cudnn_gru_weights_equal_keras_own_conversion():
    cudnn = layer_arrays("k212/cudnn.h5", "cu_dnngru")
    twin = layer_arrays("k212/cudnn_twin.h5", "gru")
    np.testing.assert_equal(xlstm.convert_weights(cudnn, "keras.CuDNNGRU", "keras.GRU"), twin)


def test_gru_weights_of_keras_run_in_torch():
    """reset_after=True, through the table, against torch.nn.GRU and Keras itself."""
    import keras
    import torch

    keras.utils.set_random_seed(0)
    layer = keras.layers.GRU(4, return_sequences=True, bias_initializer="random_normal")
    x = np.random.default_rng(0).standard_normal((2, 5, 3)).astype("float32")
    want = np.array(layer(x))
    arrays = [np.array(w) for w in layer.get_weights()]
    module = torch.nn.GRU(3, 4, batch_first=True)
    converted = xlstm.convert_weights(arrays, "keras.GRU", "torch.GRU")
    module.load_state_dict({name: torch.from_numpy(a) for name, a in converted.items()})
    with torch.no_grad():
        np.testing.assert_allclose(module(torch.from_numpy(x))[0].numpy(), want, atol=1e-6)


@needs_corpus
def test_the_same_trained_weights_saved_by_keras_1_and_2():
    """CountNet: one LSTM in the twelve arrays of Keras 1.2.2 and the three of Keras 2.0.9."""
    found = {}
    for version in ("1.2.2", "2.0.9"):
        described = describe(CORPUS / "k1.2-countnet" / f"F-CRNN_keras{version}.h5")
        key = next(k for k in described.weights if "lstm" in k)
        found[version] = {s.name: s.load() for s in described.weights[key]}
        described.close()
    old = {name.split("_", 2)[2]: array for name, array in found["1.2.2"].items()}
    new = {name.split("/")[-1][:-2]: array for name, array in found["2.0.9"].items()}
    got = xlstm.convert_weights(old, "keras.LSTM of Keras 1", "keras.LSTM")
    np.testing.assert_equal(got, new)


@pytest.mark.parametrize("file", ["dtype.keras", "dtype.h5"])
def test_mixed_precision(file):
    """float16 in the LSTM, bfloat16 in the Dense: read exactly, computed in float32."""
    model = xlstm.load(DATA / "k3" / file)
    assert any("mixed_float16" in note for note in model.source.notes)
    saved = np.load(DATA / "k3" / "dtype.npz")
    want = (saved["y"].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    got = xlstm.port(model, "numpy")(saved["x"])
    np.testing.assert_allclose(got, want, rtol=0.02)  # bfloat16 keeps 8 bits
    np.testing.assert_equal(
        xlstm.load(DATA / "k3" / "dtype.h5").weights,
        xlstm.load(DATA / "k3" / "dtype.keras").weights,
    )


def test_a_lazily_built_model():
    xlstm.reconcile(DATA / "k3" / "lazy.keras", ("keras", "torch")).check()


@pytest.mark.parametrize(("shards", "zipped"), [(None, True), (None, False), (0.000007, False)])
def test_folders_and_shards_of_this_keras(shards, zipped, tmp_path):
    import keras

    source = keras.models.load_model(xlstm.demo.path())
    path = tmp_path / ("m.keras" if zipped else "m")
    source.save(path, zipped=zipped)
    if shards is not None:
        (path / "model.weights.h5").unlink()
        source.save_weights(path / "model.weights.json", max_shard_size=shards)
        assert len(list(path.glob("*.h5"))) > 1
    np.testing.assert_equal(xlstm.load(path).weights, xlstm.load(xlstm.demo.path()).weights)


def test_names_with_backslashes_of_windows(tmp_path):
    """Keras on Windows joined the path with backslashes: one group of the whole name."""
    import io
    import zipfile

    import h5py

    weights = io.BytesIO()
    with zipfile.ZipFile(xlstm.demo.path()) as archive, h5py.File(weights, "w") as new:
        old = h5py.File(io.BytesIO(archive.read("model.weights.h5")))
        layers = new.create_group("layers")
        old.copy("layers/lstm/cell/vars", layers, "lstm\\cell\\vars")
        old.copy("layers/dense/vars", layers, "dense\\vars")
        with zipfile.ZipFile(tmp_path / "w.keras", "w") as made:
            for name in ("config.json", "metadata.json"):
                made.writestr(name, archive.read(name))
            new.flush()
            new.close()
            made.writestr("model.weights.h5", weights.getvalue())
    found = xlstm.load(tmp_path / "w.keras").weights
    np.testing.assert_equal(found, xlstm.load(xlstm.demo.path()).weights)


def test_shards_beside_their_index_only(tmp_path):
    index = {"metadata": {}, "weight_map": {"/layers/lstm/cell/vars": ["../evil.h5"]}}
    path = tmp_path / "a.weights.json"
    path.write_text(json.dumps(index))
    with pytest.raises(FileError, match="bare file names"):
        xlstm.load(path)


def test_new_weights_alone_join_too(tmp_path):
    import keras

    source = keras.models.load_model(xlstm.demo.path())
    source.save_weights(tmp_path / "a.weights.h5")
    (tmp_path / "a.json").write_text(source.to_json())
    with pytest.raises(UsageError, match="architecture=FILE"):
        xlstm.load(tmp_path / "a.weights.h5")
    joined = xlstm.load(
        tmp_path / "a.weights.h5", architecture=tmp_path / "a.json", keras_version="3.15"
    )
    np.testing.assert_equal(joined.weights, xlstm.load(xlstm.demo.path()).weights)


def test_a_lambda_is_named_and_not_read():
    text = inspect(DATA / "k3" / "lambda.keras")
    assert "code, never read" in text
    with pytest.raises(UnsupportedError, match="Lambda"):
        xlstm.load(DATA / "k3" / "lambda.keras")


def test_weights_that_fit_no_form_are_an_error(tmp_path):
    import h5py

    path = tmp_path / "bad.h5"
    shutil.copy(DATA / "k224" / "lstm.h5", path)
    with h5py.File(path, "r+") as file:
        group = next(g for g in file["model_weights"].values() if "lstm" in g.name)
        inner = group[group.name.split("/")[-1]]
        del inner["bias:0"]
        inner["bias:0"] = np.zeros(7, "float32")
    with pytest.raises(WeightsError, match="bias"):
        xlstm.load(path)


@needs_corpus
def test_kernels_of_keras_1_whose_layout_the_file_does_not_say():
    path = ERAS / "k122" / "conv2d_th.h5"
    assert "kernel_layout= does" in inspect(path)
    assert "kernel_layout" not in inspect(path, Told(kernel_layout="theano"))
