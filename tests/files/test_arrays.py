"""Named arrays with layer specs: state dicts, safetensors, .npz, msgpack; and refusals."""

import numpy as np
import pytest
from cases import model

import xlstm
from xlstm.errors import FileError, UsageError, WeightsError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model
from xlstm.ir.graph import chain
from xlstm.ir.layers import LSTM, Dense
from xlstm.ir.source import Source

LAYERS = {"lstm": LSTM(3, 4), "head": Dense(4, 2)}


def plain():
    """A model with the names of LAYERS."""
    drawn = model(list(LAYERS.values()), (None, 3))
    weights = dict(zip(LAYERS, drawn.weights.values(), strict=True))
    layers = [(name, spec, True) for name, spec in LAYERS.items()]
    return chain("m", layers, (None, 3), weights, Source("torch"))


def arrays(framework):
    return pack_model(plain(), registry.adapter(framework))


@pytest.mark.parametrize("framework", registry.frameworks())
def test_names_say_the_framework(framework):
    loaded = xlstm.load(arrays(framework), layers=LAYERS)
    assert loaded.source.framework == framework
    for name, layer in plain().weights.items():
        np.testing.assert_array_equal(loaded.weights[name]["kernel"], layer["kernel"])


def test_a_torch_state_dict():
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = torch.nn.LSTM(3, 4, batch_first=True)
            self.head = torch.nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.lstm(x)[0][:, -1])

    net = Net()
    loaded = xlstm.load(net.state_dict(), layers=LAYERS)
    x = torch.randn(2, 5, 3, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        want = net(x).numpy()
    np.testing.assert_allclose(xlstm.port(loaded, "numpy")(x.numpy()), want, atol=1e-6)
    assert xlstm.count(loaded).total("torch") == sum(p.numel() for p in net.parameters())


def test_a_bare_layers_state_dict():
    import torch

    lstm = torch.nn.LSTM(3, 4)
    loaded = xlstm.load(lstm.state_dict(), layers={"lstm": LSTM(3, 4, return_sequences=True)})
    assert loaded.lone
    assert loaded.source.framework == "torch"


def written(kind, folder):
    """The arrays of PyTorch's names in a file."""
    named = arrays("torch")
    path = folder / f"weights.{kind}"
    if kind == "npz":
        np.savez(path, **named)
    elif kind == "safetensors":
        from safetensors.numpy import save_file

        save_file(named, path)
    else:
        from flax import serialization

        tree = {}
        for name, array in arrays("linen").items():
            *path_of, last = name.split(".")
            below = tree
            for step in path_of:
                below = below.setdefault(step, {})
            below[last] = array
        path.write_bytes(serialization.to_bytes(tree))
    return path


@pytest.mark.parametrize("kind", ["npz", "safetensors", "msgpack"])
def test_files_of_named_arrays(kind, tmp_path):
    loaded = xlstm.load(written(kind, tmp_path), layers=LAYERS)
    np.testing.assert_array_equal(
        loaded.weights["head"]["kernel"], plain().weights["head"]["kernel"]
    )
    assert loaded.source.framework == ("linen" if kind == "msgpack" else "torch")


@pytest.mark.parametrize("kind", ["npz", "safetensors", "msgpack"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.95])
def test_files_that_are_cut(kind, share, tmp_path):
    path = written(kind, tmp_path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(FileError):
        xlstm.load(path, layers=LAYERS)


def test_objects_in_an_npz_are_never_unpickled(tmp_path):
    path = tmp_path / "evil.npz"
    np.savez(path, **{"lstm.weight_ih_l0": np.array([object()])})
    with pytest.raises(FileError):
        xlstm.load(path, layers=LAYERS)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        (lambda named: named.pop("head.bias"), "names of one framework"),
        (lambda named: named.update(extra=np.ones(1)), "extra"),
        (lambda named: named.update({"head.bias": np.ones(3)}), "head"),
        (lambda named: named.update({"head.bias": np.array(["a", "b"])}), "numbers"),
    ],
    ids=["missing", "left-over", "shape", "text"],
)
def test_arrays_that_do_not_fit(changed, words):
    named = arrays("torch")
    changed(named)
    with pytest.raises(WeightsError, match=words):
        xlstm.load(named, layers=LAYERS)


@pytest.mark.parametrize("layers", [None, {}, {"lstm": "LSTM"}])
def test_layers_that_are_none(layers):
    with pytest.raises(UsageError):
        xlstm.load(arrays("torch"), layers=layers)


def test_pickles_are_refused_with_the_way_out(tmp_path):
    import torch

    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "m.pt")
    (tmp_path / "old.pth").write_bytes(b"\x80\x02}q\x00.")
    for name in ("m.pt", "old.pth"):
        with pytest.raises(FileError, match=r"weights_only=True\), then xlstm.load\(state"):
            xlstm.load(tmp_path / name)


def test_orbax_folders_are_refused_with_the_way_out(tmp_path):
    (tmp_path / "_METADATA").write_text("{}")
    with pytest.raises(FileError, match="restore it with orbax"):
        xlstm.load(tmp_path)
