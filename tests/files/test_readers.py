"""Every container of every Keras: described, and ported where its layers are known by now."""

import json
import re
import shutil
import sys

import h5py
import numpy as np
import pytest
import yaml
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm.cli.inspect import inspect
from xlstm.errors import FileError, UnsupportedError, UsageError, WeightsError
from xlstm.files import describe
from xlstm.files.keras.architecture import ReadOptions

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
            assert "\n\n " in inspect(path), name  # a table, or a list of layers
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


def stem_of(path):
    """What the files of one model are called, without what tells them apart."""
    stem = path.name.removesuffix("_sm").split(".")[0]
    return stem.removesuffix("_w").removesuffix("_legacyweights")


def whole_of(path):
    """The whole model beside weights alone."""
    candidates = [path.with_name(f"{stem_of(path)}{end}") for end in (".keras", ".h5")]
    return next((file for file in candidates if file.exists() and file != path), None)


def told(path, folder):
    """What belongs to weights alone: the architecture of the whole model that lies beside them."""
    described = describe(path)
    described.close()
    layout = {"kernel_layout": "theano"} if "k122" in str(path) else {}
    if described.config or not (whole := whole_of(path)):
        return layout
    source = describe(whole)
    source.close()
    architecture = folder / "architecture.json"
    architecture.write_text(json.dumps({**source.config, "keras_version": source.version}))
    return {"architecture": architecture, **layout}


def recorded(path):
    """The outputs that the writer of a file recorded, None if it did not."""
    golden = path.with_name(f"{stem_of(path)}.npz")
    saved = np.load(golden) if golden.exists() else {}
    # computed in bfloat16: see test_mixed_precision
    return saved if "y" in saved and saved["y"].dtype.kind != "V" else None


def outputs(model, saved):
    """What a model's numpy port gives for recorded inputs: its first output, from fresh states."""
    found = xlstm.port(model, "numpy")(*[saved[key] for key in saved if key.startswith("x")])
    return found[0] if model.stateful else found


@needs_corpus
def test_outputs_of_every_era_whose_layers_are_known(capsys, tmp_path):
    """Every .npz beside a model: its outputs within 5e-7, or the layer that is still missing."""
    equal, missing = [], {}
    for path in models(ERAS):
        name, saved = str(path.relative_to(ERAS)), recorded(path)
        if saved is None or name in REFUSED:
            continue
        try:
            model = xlstm.load(path, **told(path, tmp_path))
        except UnsupportedError as error:
            missing[name] = error.got
            continue
        top = max(1.0, np.abs(saved["y"]).max())
        np.testing.assert_allclose(outputs(model, saved), saved["y"], rtol=0, atol=5e-7 * top)
        equal.append(name)
    names = {word for got in missing.values() for word in re.findall(r"([A-Z]\w+) \(", got)}
    with capsys.disabled():
        said = f"{len(equal)} era files equal; {len(missing)} wait for: {', '.join(sorted(names))}"
        sys.stdout.write(f"\n{said}\n")
    assert len(equal) >= 180
    assert sum(name.startswith("mask_") for name in equal) == 27
    assert not names


@needs_corpus
def test_weights_alone_are_those_of_the_whole_model(tmp_path):
    """In both forms and all eras; a half whose arrays come first as the other is frozen, too."""
    seen = 0
    for path in models(ERAS):
        if str(path.relative_to(ERAS)) in REFUSED or "architecture" not in (
            said := told(path, tmp_path)
        ):
            continue
        try:
            layout = {key: value for key, value in said.items() if key == "kernel_layout"}
            joined, whole = xlstm.load(path, **said), xlstm.load(whole_of(path), **layout)
        except UnsupportedError:
            continue
        seen += 1
        np.testing.assert_equal(joined.weights, whole.weights)
        assert joined.nodes == whole.nodes
    assert seen > 20


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
    assert "can be ported" in inspect(DATA / "k224" / "lstm_w.h5", ReadOptions(architecture))


def test_options_that_are_not_needed_are_refused(architecture):
    with pytest.raises(UsageError, match="without an architecture"):
        xlstm.load(DATA / "k224" / "lstm.h5", architecture=architecture)
    with pytest.raises(UsageError, match=r"2\.2\.4, as the file says"):
        xlstm.load(DATA / "k224" / "lstm.h5", keras_version="3.1")
    with pytest.raises(UsageError, match="tensorflow, as the file says"):
        xlstm.load(DATA / "k224" / "lstm.h5", kernel_layout="theano")
    with pytest.raises(UsageError, match="tensorflow or theano"):
        xlstm.load(DATA / "k224" / "lstm.h5", kernel_layout="caffe")
    with pytest.raises(UsageError, match="call it without them"):
        xlstm.load(xlstm.load(DATA / "k224" / "lstm.h5"), keras_version="2.1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("&a [*a, *a]", "an alias inside"),
        ("!!python/object/apply:os.system [id]", "ConstructorError"),
        ("a: 1\na: 2", "twice"),
        ("just text", "an architecture, as to_json"),
        ('{"layers": []}', "class_name"),
        ("- [", "ParserError"),
    ],
)
def test_architectures_that_are_none(text, words, tmp_path):
    path = tmp_path / "architecture.yaml"
    path.write_text(text)
    with pytest.raises(FileError, match=words):
        xlstm.load(DATA / "k224" / "lstm_w.h5", architecture=path)


def test_keras_1_models_are_read_in_their_own_words():
    """Renamed options, 12 and 9 arrays, hard_sigmoid."""
    model = xlstm.load(DATA / "k122" / "seq_cpu.h5")
    assert model.source.version == "1.2.2"
    assert [node.spec.kind for node in model.layers] == ["LSTM", "GRU", "SimpleRNN", "Dense"]
    assert model.layers[0].spec.gate_activation == "hard_sigmoid_keras2"
    assert not model.layers[1].spec.reset_after
    assert any("LSTM of Keras 1" in note for note in model.source.notes)


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
    xlstm.reconcile(DATA / "k3" / "lazy.keras", ("keras", "nnx")).check()


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
    assert "pass kernel_layout=" in inspect(path)
    assert "kernel_layout" not in inspect(path, ReadOptions(kernel_layout="theano"))


NAMES_OF_TENSORFLOW = {
    "LSTM": "UnifiedLSTM",
    "GRU": "UnifiedGRU",
    "BatchNormalization": "BatchNormalizationV1",
}
"""Class -> what TensorFlow 1.13 to 2.0 wrote into HDF5 for it."""


@needs_corpus
@pytest.mark.parametrize("version", ["V1", "V2"])
def test_names_that_tensorflow_gave_its_own_classes(version, tmp_path):
    """Masked, both ways, with statistics: read as under the names of today."""
    seen = 0
    for path in sorted(ERAS.glob("tfk218/*.h5")) + sorted(ERAS.glob("k212/*.h5")):
        copy = tmp_path / path.name
        shutil.copy(path, copy)
        copy.chmod(0o644)
        with h5py.File(copy, "r+") as file:
            if "model_config" not in file.attrs:
                continue
            text = was = file.attrs["model_config"]
            for now, then in NAMES_OF_TENSORFLOW.items():
                then = then.replace("V1", version)
                text = text.replace(f'"class_name": "{now}"', f'"class_name": "{then}"')
            file.attrs["model_config"] = text
        if text != was:
            found, want = xlstm.load(copy), xlstm.load(path)
            assert found.nodes == want.nodes
            np.testing.assert_equal(found.weights, want.weights)
            seen += 1
    assert seen > 10


def test_a_dilated_convolution_of_keras_1(tmp_path):
    """A class of its own there, with atrous_rate."""
    shutil.copy(DATA / "k122" / "conv.h5", tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        config = json.loads(file.attrs["model_config"])
        first = config["config"][0]
        first["class_name"], first["config"]["atrous_rate"] = "AtrousConvolution1D", 2
        first["config"]["border_mode"] = "same"
        file.attrs["model_config"] = json.dumps(config).encode()
    spec = xlstm.load(tmp_path / "a.h5", kernel_layout="tensorflow").layers[0].spec
    assert (spec.kind, spec.dilation) == ("Conv", (2,))
