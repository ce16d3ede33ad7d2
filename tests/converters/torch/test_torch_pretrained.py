"""Ports to PyTorch are saved and loaded by methods of their own, with the hub's names."""

import inspect
import json
import os
import pickle
import shutil
import subprocess
import sys

import numpy as np
import pytest
import torch
from cases import CASES, built
from cases_layers import CASES_LAYERS
from emitted_sources import module_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file, save_model
from torch_tools import check_tools, flat, tensors_of

import xlstm
from xlstm.cli.main import main
from xlstm.files.port_folder import KEY, WEIGHTS
from xlstm.ir.graph import Builder, Edge
from xlstm.ir.layers import GRU, LSTM, BatchNorm, Dense, Input, Masking
from xlstm.verification.folder import verify_folder

FILES = {"config.json", "model.py", "model.safetensors"}


def small():
    """A mask, gates of Keras 2, statistics, and a native layer with a space in its name."""
    graph = Builder()
    x = graph.add("my input", Input((None, 3)))
    x = graph.add("masking", Masking(), [x])
    spec = GRU(3, 4, return_sequences=True, gate_activation="hard_sigmoid_keras2")
    x = graph.add("gru", spec, [x], mask=Edge("masking", 1))
    x = graph.add("norm", BatchNorm(4), [x])
    return built(graph, [graph.add("the head", Dense(4, 2, "softmax"), [x])])


@pytest.fixture
def port(tmp_path):
    return xlstm.save(small(), tmp_path / "a port", "torch")


@pytest.fixture
def model(port):
    return module_of(port).Model.from_pretrained(port)


def names(folder):
    return {item.name for item in folder.iterdir() if item.name != "__pycache__"}


def graph_of(folder):
    with safe_open(folder / "model.safetensors", "pt") as file:
        return file.metadata()[KEY]


def trained(model):
    """A port after some steps of Adam."""
    optimizer = torch.optim.Adam(model.train().parameters(), lr=0.01)
    x = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
    for _ in range(3):
        optimizer.zero_grad()
        (model(x)[..., 0] ** 2).mean().backward()
        optimizer.step()
    return model.eval()


def alike(found, wanted):
    """The same graph, and the same weights bit for bit."""
    assert found.nodes == wanted.nodes
    assert found.outputs == wanted.outputs
    for name, layer in wanted.weights.items():
        for tensor, array in layer.items():
            np.testing.assert_array_equal(found.weights[name][tensor], array)


def test_config_says_the_class_the_dtype_and_the_graph(port):
    config = json.loads((port / "config.json").read_text())
    graph = config.pop(KEY)
    assert config == {
        "architectures": ["Model"],
        "dtype": "float32",
        "xlstm_version": xlstm.__version__,
    }
    assert graph == graph_of(port)
    assert names(port) == {*FILES, "report.json"}


def test_other_targets_keep_their_files(tmp_path):
    folder = xlstm.save(small(), tmp_path / "port", "nnx")
    assert names(folder) == {"model.py", "weights.safetensors", "report.json"}


SAVED = {
    **{n: CASES[n] for n in sorted(CASES)[::9]},
    **{n: CASES_LAYERS[n] for n in sorted(CASES_LAYERS)[::12]},
}


@pytest.mark.parametrize("name", SAVED)
def test_every_kind_of_module_comes_back(name, tmp_path):
    source = SAVED[name]
    folder = xlstm.save(source, tmp_path / "port", "torch")
    module = module_of(folder)
    if not hasattr(module, "Model"):
        pytest.skip("a native layer, without a class of ours")
    model = module.Model.from_pretrained(folder)
    model.save_pretrained(tmp_path / "again")
    assert names(tmp_path / "again") == FILES
    for file in ("model.py", "config.json"):
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()
    assert graph_of(tmp_path / "again") == graph_of(folder)
    alike(xlstm.load(tmp_path / "again"), xlstm.load(folder))
    inputs = tensors_of(source)
    again = module_of(tmp_path / "again").Model.from_pretrained(str(tmp_path / "again"))
    if not source.stateful and not source.keys:
        for mine, own in zip(flat(again(*inputs)), flat(module.load()(*inputs)), strict=True):
            assert torch.equal(mine, own)


def test_a_trained_model_keeps_its_graph_and_ports_on(model, port, tmp_path):
    trained(model).save_pretrained(tmp_path / "tuned")
    again = xlstm.load(tmp_path / "tuned")
    assert again.nodes == xlstm.load(port).nodes
    assert not np.array_equal(again.weights["norm"]["mean"], small().weights["norm"]["mean"])
    x = np.random.default_rng(1).normal(size=(3, 6, 3)).astype("float32")
    x[1, 2:] = 0
    wanted = model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(xlstm.port(again, "numpy")(x), wanted, rtol=0, atol=1e-6)
    found = verify_folder(tmp_path / "tuned")
    assert found.ok
    assert found.since == (
        "saved again, without report.json; the files were compared with the reference alone",
    )
    assert "model.py of the folder" in str(found)


def test_saving_in_place_removes_the_report_of_the_old_weights(model, port):
    trained(model).save_pretrained(port)
    assert names(port) == FILES
    assert verify_folder(port).ok


def test_a_report_of_others_stays(model, tmp_path):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "report.json").write_text("mine")
    model.save_pretrained(tmp_path / "here")
    assert (tmp_path / "here" / "report.json").read_text() == "mine"


def test_a_live_port_is_saved_with_its_graph(tmp_path):
    model = xlstm.port(small(), "torch")
    trained(model).save_pretrained(tmp_path / "tuned")
    text = (tmp_path / "tuned" / "model.py").read_text()
    assert text == inspect.getsource(sys.modules[type(model).__module__])
    assert xlstm.load(tmp_path / "tuned").nodes == small().nodes
    assert verify_folder(tmp_path / "tuned").ok


@pytest.mark.parametrize("how", ["load", "Model"])
def test_objects_of_other_ways_find_the_graph_beside_the_code(how, port, tmp_path):
    module = module_of(port)
    model = getattr(module, how)()
    model.save_pretrained(tmp_path / "new")
    assert graph_of(tmp_path / "new") == graph_of(port)
    assert verify_folder(tmp_path / "new").ok


def test_code_without_its_files_is_refused_before_anything_is_written(port, tmp_path):
    model = module_of(port).load()
    shutil.rmtree(port)
    with pytest.raises(OSError, match=r"source code|config\.json"):
        model.save_pretrained(tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_dtype_comes_back(dtype, port, model, tmp_path):
    wanted = model.to(dtype)
    wanted.save_pretrained(tmp_path / "saved")
    again = module_of(port).Model.from_pretrained(tmp_path / "saved")
    assert {p.dtype for p in again.parameters()} == {dtype}
    x = torch.ones(2, 5, 3, dtype=dtype)
    assert torch.equal(again(x), wanted(x))
    assert verify_folder(tmp_path / "saved").ok
    alike(
        xlstm.load(module_of(port).Model.from_pretrained(tmp_path / "saved").double()),
        xlstm.load(tmp_path / "saved"),
    )


def test_half_weights_of_a_file_are_computed_in_float32(tmp_path):
    folder = xlstm.save(small().astype("float16"), tmp_path / "port", "torch")
    assert {x.dtype for n, x in load_file(folder / "model.safetensors").items()} == {torch.float16}
    assert {p.dtype for p in module_of(folder).Model.from_pretrained(folder).parameters()} == {
        torch.float32
    }


def test_weights_that_share_memory_or_are_not_contiguous(model, tmp_path):
    model.gru.weight_hh_l0 = torch.nn.Parameter(
        model.gru.weight_hh_l0.detach().t().contiguous().t()
    )
    model.norm.bias = model.norm.weight
    model.save_pretrained(tmp_path / "saved")
    again = type(model).from_pretrained(tmp_path / "saved")
    for name, tensor in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)


def test_own_entries_of_a_config_stay(port, tmp_path):
    config = json.loads((port / "config.json").read_text())
    (port / "config.json").write_text(json.dumps({**config, "id2label": {"0": "no"}}))
    module_of(port).Model.from_pretrained(port).save_pretrained(tmp_path / "saved")
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["id2label"] == {"0": "no"}


def test_everybody_who_may_read_the_code_may_read_the_weights(model, tmp_path):
    model.save_pretrained(tmp_path / "saved")
    assert len({(tmp_path / "saved" / name).stat().st_mode for name in FILES}) == 1


def test_a_failure_changes_nothing(model, port, monkeypatch):
    before = {name: (port / name).read_bytes() for name in names(port)}

    def fail(*_args):
        raise OSError("no space left")

    monkeypatch.setitem(type(model).save_pretrained.__globals__, "save_file", fail)
    with pytest.raises(OSError, match="no space left"):
        trained(model).save_pretrained(port)
    assert {name: (port / name).read_bytes() for name in names(port)} == before


class Payload:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_pickles_are_not_run(port, tmp_path):
    data = pickle.dumps(Payload(str(tmp_path / "ran")))
    for name in ("model.safetensors", "pytorch_model.bin"):
        (port / name).write_bytes(data)
    with pytest.raises(Exception, match="header"):
        module_of(port).Model.from_pretrained(port)
    assert not (tmp_path / "ran").exists()


def test_a_config_that_names_no_dtype_is_refused(port):
    config = json.loads((port / "config.json").read_text())
    (port / "config.json").write_text(json.dumps({**config, "dtype": "load"}))
    with pytest.raises(TypeError):
        module_of(port).Model.from_pretrained(port)


ALONE = """
import sys
sys.modules["xlstm"] = None
sys.path.insert(0, ".")
from model import Model
import torch
m = Model.from_pretrained(".")
m(torch.ones(2, 5, 3)).sum().backward()
torch.optim.Adam(m.parameters()).step()
m.save_pretrained("../tuned")
"""


def test_it_needs_neither_xlstm_nor_the_hub(port, tmp_path):
    hidden = ALONE.replace("import sys\n", 'import sys\nsys.modules["huggingface_hub"] = None\n', 1)
    done = subprocess.run([sys.executable, "-c", hidden], cwd=port, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert verify_folder(tmp_path / "tuned").ok


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is not supported:DeprecationWarning")
def test_tools_of_torch_take_what_from_pretrained_gives(port, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "somebodys_module", sys.modules.get("somebodys_module", None))
    sys.modules["somebodys_module"] = inspect.getmodule(type(model)) or module_of(port)
    model = sys.modules["somebodys_module"].Model.from_pretrained(port)
    check_tools(model, [torch.ones(2, 5, 3)])


def test_what_from_pretrained_gives_is_read(port, model):
    found = xlstm.load(model)
    assert found.source.container == "live port to PyTorch"
    alike(found, xlstm.load(port))


def test_weights_written_by_the_library_alone_port_on(port, model, tmp_path):
    save_file(model.state_dict(), port / "model.safetensors")  # without metadata
    alike(xlstm.load(port), small())
    (port / "model.py").unlink()
    (port / "report.json").unlink()
    alike(xlstm.load(port), small())
    found = verify_folder(port)
    assert found.ok
    assert "model.py is not there; a port of the graph was run" in found.since


def test_a_bare_native_module_ports_on_too(tmp_path):
    folder = xlstm.save(CASES["lone-lstm"], tmp_path / "port", "torch")
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["LSTM"]
    assert "Pretrained" not in (folder / "model.py").read_text()
    native, before = module_of(folder).load(), xlstm.load(folder)
    assert type(native) is torch.nn.LSTM
    save_file(native.state_dict(), folder / "model.safetensors")
    alike(xlstm.load(folder), before)


def test_a_config_of_another_port_is_no_proof(port, tmp_path):
    other = xlstm.save(CASES["stack"], tmp_path / "other", "torch")
    shutil.copy(other / "config.json", port / "config.json")
    found = verify_folder(port)
    assert not found.ok
    assert found.changed == ("config.json: its graph is not that of the weights",)


def test_changed_code_of_a_saved_folder_runs_only_with_trust(model, tmp_path):
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    text = (folder / "model.py").read_text()
    (folder / "model.py").write_text(f"{text}\n\nRAN = 1\n")
    found = verify_folder(folder)
    assert not found.ok
    assert found.changed[0].endswith("; not run without --trust")
    assert "not run without --trust" in str(found)
    assert "port the model again" not in str(found)
    found = verify_folder(folder, trust=True)
    assert found.ok
    assert found.since[0].startswith("model.py is not what xlstm ")
    (folder / "model.py").write_text(text.replace("torch.softmax(", "torch.log_softmax("))
    assert not verify_folder(folder, trust=True).ok


@pytest.mark.parametrize("command", ["count", "inspect", "verify", "port"])
def test_commands_take_a_saved_folder(command, model, tmp_path, capsys):
    folder = tmp_path / "saved"
    model.save_pretrained(folder)
    more = {"verify": ["--frameworks", "torch"], "port": ["--to", "numpy"]}.get(command, [])
    if command == "port":
        more = ["--to", "torch", "-o", str(folder), "--overwrite"]
    assert main([command, str(folder), *more]) == 0, capsys.readouterr().err
    if command == "port":
        assert names(folder) == {*FILES, "report.json"}


@pytest.mark.filterwarnings("ignore::xlstm.errors.FolderCodeWarning")
def test_folders_of_older_versions_are_read(port, tmp_path):
    """They have neither config.json nor the methods, and other names."""
    (port / "config.json").unlink()
    (port / "model.safetensors").rename(port / "weights.safetensors")
    report = (port / "report.json").read_text()
    (port / "report.json").write_text(report.replace(*WEIGHTS))
    text = (port / "model.py").read_text()
    start, end = text.index("class Pretrained("), text.index("class Model(")
    old = (text[:start] + text[end:]).replace("(Pretrained)", "(nn.Module)").replace(*WEIGHTS)
    (port / "model.py").write_text(old)
    alike(xlstm.load(port), small())
    assert "nor what was recorded; not run" in verify_folder(port, trust=True).changed[0]
    folder = xlstm.save(port, tmp_path / "new", "torch")
    assert verify_folder(folder).ok
    assert xlstm.save(small(), port, "torch", overwrite=True) == port
    assert names(port) == {*FILES, "report.json"}


class HubMixin:
    """The hub's mixin for PyTorch, with what it does to a local folder."""

    _hub_mixin_config = None

    def save_pretrained(self, save_directory, *, config=None, **_options):
        save_directory.mkdir(parents=True, exist_ok=True)
        save_model(self, str(save_directory / "model.safetensors"))
        config = self._hub_mixin_config if config is None else config
        text = json.dumps(config, sort_keys=True, indent=2)
        (save_directory / "config.json").write_text(text)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path, **_options):
        from safetensors.torch import load_model

        model = cls()
        load_model(model, pretrained_model_name_or_path / "model.safetensors", strict=False)
        config = (pretrained_model_name_or_path / "config.json").read_text()
        model._hub_mixin_config = json.loads(config)
        return model.eval()


def mixins():
    found = [HubMixin]
    try:
        from huggingface_hub import PyTorchModelHubMixin
    except ImportError:
        return found
    return [*found, PyTorchModelHubMixin]


@pytest.mark.parametrize("mixin", mixins())
def test_a_mixin_of_the_hub_keeps_the_graph(mixin, port, model, tmp_path):
    """With metadata that it drops, and a config.json that it sorts."""
    hub = type("Hub", (mixin, module_of(port).Model), {})
    mine = hub.from_pretrained(port)
    x = torch.ones(2, 5, 3)
    assert torch.equal(mine(x), model(x))
    trained(mine).save_pretrained(tmp_path / "tuned")
    assert not (tmp_path / "tuned" / "model.py").exists()
    assert xlstm.load(tmp_path / "tuned").nodes == small().nodes
    assert verify_folder(tmp_path / "tuned").ok
    again = hub.from_pretrained(tmp_path / "tuned")
    assert torch.equal(again(x), mine(x))
    ours = type(model).from_pretrained(tmp_path / "tuned")
    assert torch.equal(ours(x), mine(x))


def test_stateful_ports(tmp_path):
    graph = Builder()
    x = graph.add("x", Input((None, 3), batch=2))
    graph.add("lstm", LSTM(3, 4, stateful=True), [x])
    source = built(graph, [graph.add("dense", Dense(4, 2), [Edge("lstm")])])
    folder = xlstm.save(source, tmp_path / "port", "torch")
    model = module_of(folder).Model.from_pretrained(folder)
    model.save_pretrained(tmp_path / "saved")
    again = module_of(tmp_path / "saved").Model.from_pretrained(tmp_path / "saved")
    x = torch.ones(2, 5, 3)
    y, state = model(x)
    z, other = again(x)
    assert torch.equal(y, z)
    assert torch.equal(model(x, state)[0], again(x, other)[0])
    assert verify_folder(tmp_path / "saved").ok
