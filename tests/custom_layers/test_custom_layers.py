"""Layers that the user tells: read from files, counted, ported, judged by his own reference."""

import ast
import json
import subprocess
import sys
from dataclasses import replace

import custom_texts
import numpy as np
import pytest
from custom_texts import BLEND, SCALE, WEIGH, codes, registered
from make_files import arrays, layer, make
from refusing import refused

import xlstm
from xlstm.cli.main import main
from xlstm.errors import UnsupportedError, UsageError, WeightsError
from xlstm.frameworks import registry
from xlstm.ir.graph import Edge

FRAMEWORKS = registry.frameworks()
LAMBDA = layer("Lambda", name="triple", trainable=True, function=["4wEAAAA=", None, None])
"""As files of Keras 2 have it; what stands for its code is none."""


@pytest.fixture(scope="module")
def keras():
    import keras

    return keras


@pytest.fixture(scope="module")
def classes(keras):
    """The user's classes in real Keras."""
    found = {}
    for text in (WEIGH["keras"], BLEND["keras"], SCALE["keras"]):
        exec(text, found)
    return found


@pytest.fixture(scope="module")
def whole(keras, classes):
    """A real model: a layer called twice, with a mask and without; one of two inputs."""
    keras.utils.set_random_seed(3)
    ids, x = keras.Input((7,), dtype="int32", name="ids"), keras.Input((None, 4), name="steps")
    h = keras.layers.Embedding(6, 4, mask_zero=True, name="words")(ids)
    h = keras.layers.LSTM(4, return_sequences=True, name="lstm")(h)
    weigh = classes["Weigh"](3, name="weigh")
    mean, gap = classes["Blend"](True, name="blend")([weigh(h), weigh(x)])
    model = keras.Model([ids, x], [keras.layers.Dense(2, name="dense")(mean), gap], name="two")
    model.get_layer("blend").share.assign(0.3)
    return model


@pytest.fixture(scope="module")
def file(whole, tmp_path_factory):
    path = tmp_path_factory.mktemp("custom") / "two.keras"
    whole.save(path)
    return path


@pytest.fixture
def told():
    with registered():
        yield


def inputs():
    rng = np.random.default_rng(2)
    ids = rng.integers(1, 6, (3, 7))
    ids[:, 5:] = 0
    return ids.astype("float32"), rng.standard_normal((3, 5, 4)).astype("float32")


@pytest.mark.usefixtures("told")
def test_every_framework_computes_what_the_original_does(whole):
    report = xlstm.reconcile(whole)
    report.check()
    assert set(report.frameworks) == set(FRAMEWORKS)
    assert report.frameworks["keras"].what.startswith("the original")
    for found in report.frameworks.values():
        assert {verdict.verdict for verdict in found.verdicts.values()} == {"rounding"}
    totals = {name: report.frameworks[name].parameters for name in FRAMEWORKS}
    assert totals == {"keras": 197, "torch": 213, "nnx": 197, "linen": 197}
    counted = {found.path: found for found in xlstm.count(whole).layers}
    assert counted["weigh"].kind == "Weigh"
    assert [t.name for t in counted["weigh"].tensors["linen"]] == [
        f"params.weigh.{name}" for name in "Wbu"
    ]
    assert counted["weigh"].differences == counted["blend"].differences == ()


@pytest.mark.usefixtures("told")
def test_a_file_is_read_as_the_live_model(file, whole):
    model, live = xlstm.load(file), xlstm.load(whole)
    assert model.nodes == live.nodes
    assert model.node("weigh").mask == Edge("words", 1)
    assert model.node("weigh/1").mask is None
    assert model.node("weigh/1").layer == "weigh"
    assert model.weights["blend"]["share"] == np.float32(0.3)
    wanted = whole.get_layer("weigh").get_weights()
    for (_, array), want in zip(model.weights["weigh"].items(), wanted, strict=True):
        np.testing.assert_array_equal(array, want)
    outputs = xlstm.port(model, "numpy")(*inputs())
    for got, want in zip(outputs, whole(list(inputs())), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-6)


def test_a_ported_folder_comes_back_where_its_layers_are_told(file, tmp_path):
    with registered():
        model = xlstm.load(file)
        want = xlstm.port(model, "numpy")(*inputs())
        for framework in FRAMEWORKS:
            xlstm.save(file, tmp_path / framework, framework)
    folders = [tmp_path / framework for framework in FRAMEWORKS]
    for folder in folders:
        words = ("Weigh", "registered in this process", "xlstm.register_layer('Weigh', ...)")
        refused(UnsupportedError, lambda folder=folder: xlstm.load(folder), *words)
    with registered():
        for folder in folders:
            back = xlstm.load(folder)
            assert back.nodes == model.nodes
            for got, wanted in zip(xlstm.port(back, "numpy")(*inputs()), want, strict=True):
                np.testing.assert_array_equal(got, wanted)
        ported = xlstm.port(tmp_path / "linen", "torch")
        again = xlstm.load(xlstm.save(ported, tmp_path / "again", "nnx"))
        np.testing.assert_array_equal(again.weights["weigh"]["W"], model.weights["weigh"]["W"])
    with registered(weights=("W", "b", "v")):
        error = refused(xlstm.errors.FileError, lambda: xlstm.load(folders[0]), "W, b, v")
        assert "W, b, u" in error.got


def ruff(*args):
    command = [sys.executable, "-m", "ruff", *args, "--isolated"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.usefixtures("told")
def test_emitted_modules_hold_the_text_once_and_are_clean(file, tmp_path):
    model = xlstm.load(file)
    for framework in FRAMEWORKS:
        text = registry.adapter(framework).emit(model)
        (tmp_path / f"port_{framework}.py").write_text(text)
        body = xlstm.LayerCode(WEIGH[framework]).body
        assert text.count(body) == 1
        assert text.index("import") < text.index(body) < text.index("def load(")
        lines = text.splitlines()
        found = [line for line in lines if line.startswith(("import ", "from "))]
        assert len(found) == len(set(found))
        assert not [line for line in found if "xlstm" in line]
    torch = (tmp_path / "port_torch.py").read_text()
    assert "from torch import Tensor, nn\nfrom torch.nn import functional as F\n" in torch
    assert "x = self.weigh(x, mask=mask)\n" in torch
    assert "weigh_1 = self.weigh(steps)\n" in torch
    assert "x, output_1 = self.blend(x, weigh_1)\n" in torch
    assert 'Blend(sharp=True, dtype=dtype, name="blend")([x, weigh_1])' in (
        tmp_path / "port_keras.py"
    ).read_text().replace("\n", "")
    ruff("check", tmp_path)
    ruff("format", "--check", "--diff", tmp_path)


RUN = {
    "torch": "import torch; a, b = map(torch.from_numpy, (a, b)); y = load()(a, b)[1].detach()",
    "keras": "import keras, model; scope = {'Blend': model.Blend}; "
    "m = keras.models.load_model('model.keras', custom_objects=scope); y = m([a, b])[1]; "
    "assert abs(numpy.array(load()([a, b])[1]) - numpy.array(y)).max() == 0",
}


@pytest.mark.usefixtures("told")
@pytest.mark.parametrize("framework", RUN)
def test_a_saved_folder_runs_where_xlstm_cannot_be_imported(framework, file, tmp_path):
    folder = xlstm.save(file, tmp_path / "port", framework)
    want = xlstm.port(file, "numpy")(*inputs())[1]
    np.savez(folder / "given.npz", *inputs())
    code = (
        "import sys; sys.modules['xlstm'] = None; sys.path.insert(0, '.')\nimport numpy\n"
        "from model import load\na, b = numpy.load('given.npz').values()\n"
        f"{RUN[framework]}\nprint(numpy.array(y).tolist())"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(ast.literal_eval(done.stdout), want, rtol=2e-5, atol=2e-6)
    if framework == "keras":
        notes = json.loads((folder / "report.json").read_text())["notes"]
        assert "model.keras: import model.py before opening it, which holds Weigh" in notes
        assert any('custom_objects={"Blend": model.Blend}' in note for note in notes)


@pytest.mark.usefixtures("told")
def test_every_step_and_models_inside(keras, classes):
    keras.utils.set_random_seed(5)
    inner = keras.Sequential([classes["Weigh"](2, name="own"), keras.layers.Dense(3)], name="inner")
    x = keras.Input((5, 7, 4))
    y = keras.layers.TimeDistributed(classes["Weigh"](3), name="each")(x)
    model = keras.Model(x, [keras.layers.LSTM(3)(y), inner(y)])
    report = xlstm.reconcile(model)
    report.check()
    assert "Weigh" in {found.kind for found in report.ledger.layers}
    assert {"each", "inner/own"} <= {node.name for node in xlstm.load(model).layers}


MASKS = ("stops", "passes", "uses", "uses and passes")


@pytest.mark.parametrize("mask", MASKS)
def test_masks_go_on_as_registered(mask, keras, classes):
    scale = classes["Scale"](2.0, name="scale")
    steps = [
        keras.Input((5,), dtype="int32"),
        keras.layers.Embedding(4, 3, mask_zero=True, name="e"),
    ]
    model = keras.Sequential([*steps, scale, keras.layers.LSTM(3, name="lstm")])

    def reference(_config, _weights, x, **more):
        assert ("mask" in more) == ("uses" in mask)
        return x * 2.0

    options = {"output_shape": lambda _config, shape: shape, "weights": (), "mask": mask}
    text = codes(SCALE, lambda config, _shapes: {"factor": config["factor"]})
    xlstm.register_layer("Scale", reference=reference, **options, **text)
    try:
        read = xlstm.load(model)
        assert read.node("scale").mask == (Edge("e", 1) if "uses" in mask else None)
        assert read.node("lstm").mask == (Edge("e", 1) if "passes" in mask else None)
        if mask == "passes":
            xlstm.reconcile(model, ["keras", "torch"]).check()
        if "uses" not in mask:
            ids = np.array([[1, 2, 0, 3, 0]], "float32")
            got, want = (xlstm.port(read, to) for to in ("keras", "numpy"))
            np.testing.assert_allclose(got(ids), want(ids), rtol=1e-5, atol=1e-6)
    finally:
        xlstm.unregister_layer("Scale")


def old(folder, *extra, version="2.3.1"):
    """A file of Keras 2: LSTM, the layers `extra`, Dense."""

    def config(whole):
        whole["config"]["layers"][2:2] = extra

    folder.mkdir(exist_ok=True)
    return make("h5", folder, config=config, version=version)


def test_a_lambda_of_an_old_file(tmp_path):
    file, plain = old(tmp_path / "lambda", LAMBDA), old(tmp_path / "plain")
    words = ("Lambda (triple)", "xlstm.register_layer", "until=")
    refused(UnsupportedError, lambda: xlstm.load(file), *words)
    x = np.random.default_rng(1).standard_normal((2, 6, 3)).astype("float32")
    bias = arrays()["dense"]["bias"]
    want = 3 * (xlstm.port(plain, "numpy")(x) - bias) + bias
    with registered():
        model = xlstm.load(file)
        assert model.node("triple").spec.config == "{}"
        np.testing.assert_allclose(xlstm.port(model, "numpy")(x), want, rtol=1e-5)
        report = xlstm.reconcile(file)
        report.check()
        assert set(report.frameworks) == set(FRAMEWORKS)


def test_a_class_of_an_old_file_and_a_hostile_option(tmp_path):
    rng = np.random.default_rng(4)
    held = {"W": (4, 3), "b": (3,), "u": (3,)}
    bad = '3), __import__("os").system("true"'

    def weights(file):
        root = file["model_weights"]
        root.attrs["layer_names"] = [*root.attrs["layer_names"], "weigh_1"]
        group = root.create_group("weigh_1")
        group.attrs["weight_names"] = [f"weigh_1/weigh_1_{name}:0" for name in held]
        for name, shape in held.items():
            group[f"weigh_1/weigh_1_{name}:0"] = rng.standard_normal(shape).astype("float32")

    def sequences(layer):
        def config(whole):
            whole["config"]["layers"][1]["config"]["return_sequences"] = True
            whole["config"]["layers"].insert(2, layer)

        return config

    own = layer("Weigh", name="weigh_1", units=3, remark=bad)
    own = {key: value for key, value in own.items() if key != "module"}
    hooks = {"config": sequences(own), "weights": weights, "version": "2.2.4"}
    file = make("h5", tmp_path, **hooks)
    with registered():
        model = xlstm.load(file)
        assert list(model.weights["weigh_1"]) == ["W", "b", "u"]
        xlstm.reconcile(file, ["torch"]).check()
    text = {"torch": WEIGH["torch"].replace("units: int)", "units: int, remark: str)")}
    arguments = {"features": 4, "units": 3}
    with registered(**codes(text, lambda c, _shapes: {**arguments, "remark": c["remark"]})):
        text = registry.adapter("torch").emit(xlstm.load(file))
    calls = [n.func for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Call)]
    assert not any(isinstance(f, ast.Name) and f.id == "__import__" for f in calls)
    assert bad in {n.value for n in ast.walk(ast.parse(text)) if isinstance(n, ast.Constant)}


def test_a_class_called_as_one_of_keras_is_told_by_its_layer(tmp_path):
    file = old(tmp_path, layer("Attention", name="mine", trainable=True, units=3))
    options = custom_texts.told()["Lambda:triple"]
    refused(UsageError, lambda: xlstm.register_layer("Attention", **options), '"Attention:NAME"')
    xlstm.register_layer("Attention:mine", **options)
    try:
        model = xlstm.load(file)
        assert model.node("mine").spec.title == "Attention"
        xlstm.reconcile(file, ["torch"]).check()
    finally:
        xlstm.unregister_layer("Attention:mine")


@pytest.mark.usefixtures("told")
def test_a_perturbed_port_is_caught(file):
    model = xlstm.load(file)
    wrong = {**model.weights, "weigh": dict(model.weights["weigh"])}
    wrong["weigh"]["u"] = wrong["weigh"]["u"] * np.float32(1.001)
    from xlstm.verification.bounds import bounds, judge

    given = [x.astype("float64") for x in inputs()]
    found = xlstm.port(replace(model, weights=wrong), "torch", dtype="float64")
    y = registry.adapter("torch").live().run(found, given, "float64")[0]
    allowed = bounds(model, given, "float64")[0]
    assert judge(y, allowed, allowed, "float64").verdict == "different"


def test_tensors_that_do_not_fit_are_named(file):
    with registered(weights=("W", "b")):
        error = refused(WeightsError, lambda: xlstm.load(file), "2 tensors of Weigh: W, b")
        assert "(4, 3)" in error.got
    with registered(weights=()):
        refused(WeightsError, lambda: xlstm.load(file), "0 tensors of Weigh: none")
    short = WEIGH["nnx"].replace("        self.u = nnx.Param(jnp.zeros(units))\n", "")
    size = {"features": 4, "units": 3}
    with registered(nnx=xlstm.LayerCode(short, lambda _config, _shapes: size)):
        words = ("register_layer", "Weigh", "nnx", "weigh.u")
        refused(UsageError, lambda: xlstm.port(file, "nnx"), *words)


def test_masks_that_nobody_was_told_of(keras, classes):
    ids = keras.Input((5,), dtype="int32")
    x = keras.layers.Embedding(4, 3, mask_zero=True, name="e")(ids)
    h = keras.layers.LSTM(3, return_sequences=True, name="h")(x)
    joined = classes["Blend"](False, name="blend")
    joined.supports_masking = True
    model = keras.Model(ids, joined([x, h]))
    told = {**custom_texts.told()["Blend"], "mask": "uses"}
    xlstm.register_layer("Blend", **told)
    try:
        refused(UnsupportedError, lambda: xlstm.load(model), "blend", "one input")
    finally:
        xlstm.unregister_layer("Blend")
    named = keras.Input((5,), dtype="bool")
    steps = keras.Input((5, 3))
    model = keras.Model([steps, named], classes["Weigh"](2, name="own")(steps, mask=named))
    with registered(mask="stops"):
        refused(UnsupportedError, lambda: xlstm.load(model), "own", '"stops"')


CUSTOM = """
import xlstm

xlstm.register_layer(
    "Lambda:triple",
    reference=lambda config, weights, x: x * 3.0,
    output_shape=lambda config, shape: shape,
    weights=(),
    mask="passes",
)
"""


def test_the_command_line_runs_a_file_of_the_user(tmp_path, capsys):
    file, own = old(tmp_path, LAMBDA), tmp_path / "mine.py"
    assert main(["count", str(file)]) == 2
    assert "xlstm.register_layer" in capsys.readouterr().err
    own.write_text(CUSTOM)
    try:
        assert main(["count", str(file), "--custom", str(own)]) == 0
        assert "Lambda" in capsys.readouterr().out
        assert main(["inspect", str(file), "--to", "torch", "--custom", str(own)]) == 2
        assert "overwrite=True" in capsys.readouterr().err
    finally:
        xlstm.unregister_layer("Lambda:triple")
    texts = {"fails.py": "1 / 0", "ends.py": "raise SystemExit(3)", "bad.py": "class ("}
    for name, word in zip(texts, ("ZeroDivisionError", "SystemExit", "SyntaxError"), strict=True):
        (tmp_path / name).write_text(texts[name])
        assert main(["count", str(file), "--custom", str(tmp_path / name)]) == 2
        said = capsys.readouterr().err
        assert word in said
        assert "Traceback" not in said
    assert main(["count", str(file), "--custom", str(tmp_path / "none.py")]) == 2
    assert "none.py" in capsys.readouterr().err
