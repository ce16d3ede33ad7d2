"""Conformance of adapters: our four frameworks pass, and mistakes of an adapter are found."""

import re
from dataclasses import replace

import pytest

from xlstm.errors import NotEqualError, UnsupportedError, UsageError
from xlstm.frameworks import registry
from xlstm.ir.layers import SPECS
from xlstm.slots import Slot
from xlstm.testing import conformance
from xlstm.testing.case_models import GROUPS, LAYERS
from xlstm.testing.training import MODELS

INSTALLED = [name for name in registry.frameworks() if registry.adapter(name).installed]
OURS = [case for name in INSTALLED for case in conformance(name)]
TORCH = registry.adapter("torch")


def the_case(adapter, name):
    (found,) = conformance(adapter, name)
    return found


@pytest.mark.parametrize("case", OURS, ids=lambda case: f"{case.adapter.name}-{case.name}")
def test_our_frameworks_pass(case):
    case.run()


def test_every_kind_of_layer_has_a_case():
    assert set(LAYERS) == set(SPECS) - {"Input", "Custom"}
    for kind, make in LAYERS.items():
        assert kind in {node.spec.kind for node in make().layers}
    names = [case.name for case in conformance("torch")]
    assert len(names) == len(set(names)) == sum(map(len, GROUPS.values()))
    assert set(GROUPS) == {*"layer option mask state shared name dtype half".split()} | {
        *("gradient", "training")
    }


def with_table(name, *slots):
    """PyTorch's adapter with other slots of a layer."""
    table = TORCH.tables[name]
    changed = [next((new for new in slots if new.name == old.name), old) for old in table.slots]
    return replace(TORCH, tables={**TORCH.tables, name: replace(table, slots=tuple(changed))})


def with_text(old, new):
    """PyTorch's adapter, whose emitted source has another text at one place."""

    def emit(model):
        text, places = re.subn(old, new, TORCH.emit(model))
        assert places == 1
        return text

    return replace(TORCH, emit=emit)


@pytest.mark.parametrize("case", ["layer/LSTM", "option/LSTM-square", "state/LSTM"])
def test_a_wrong_gate_order_is_found(case):
    wrong = with_table("LSTM", Slot("weight_ih_l0", "kernel", "(gh)i", "igfo"))
    with pytest.raises(NotEqualError, match=rf"PyTorch, case {case}: .*float32 is different"):
        the_case(wrong, case).run()
    the_case(wrong, "layer/GRU").run()


TRAINED_WRONG = {
    "Dropout": (r"nn\.Dropout\(0\.25\)", "nn.Identity()", "inputs set to zero in training"),
    "Dropout-rate": (r"nn\.Dropout\(0\.25\)", "nn.Dropout(0.5)", "divided by 0.75"),
    "SpatialDropout1D": (r"nn\.Dropout1d\(0\.25\)", "nn.Dropout(0.25)", "whole channels"),
    "GaussianNoise": (r"GaussianNoise\(0\.5\)$", "GaussianNoise(0.6)", "deviation of the noise"),
    "GaussianDropout": (r"GaussianDropout\(0\.2\)$", "GaussianDropout(0.3)", "of the noise"),
    "AlphaDropout": (r"nn\.AlphaDropout\(0\.2\)", "nn.Dropout(0.2)", "share of one value"),
    "BatchNorm": (r"momentum=0\.\d+", "momentum=0.9", "a stored mean moved by"),
    "BatchNorm-still": (r", momentum=0\.\d+", ", track_running_stats=True, momentum=0.0", "moved"),
}


@pytest.mark.parametrize("name", TRAINED_WRONG)
def test_wrong_training_is_found(name):
    old, new, words = TRAINED_WRONG[name]
    wrong, layer = with_text(f"(?m){old}", new), name.partition("-")[0]
    with pytest.raises(NotEqualError, match=rf"case training/{layer}: .*{words}"):
        the_case(wrong, f"training/{layer}").run()


def test_training_that_is_left_out_has_to_be_said():
    silent = replace(TORCH, training={})
    for layer in MODELS:
        with pytest.raises(UnsupportedError, match="does not say what ports do in training"):
            the_case(silent, f"training/{layer}").run()
    the_case(replace(TORCH, training={"Dropout": False}), "training/Dropout").run()


def refusing(**more):
    """PyTorch's adapter without SimpleRNN."""
    refuse = TORCH.unsupported_reason
    why = lambda node: node.spec.kind if node.spec.kind == "SimpleRNN" else refuse(node)  # noqa: E731
    return replace(TORCH, unsupported_reason=why, **more)


def test_a_refused_case_fails_by_name_unless_it_is_listed():
    words = "case layer/SimpleRNN: expected a port, got a refusal of SimpleRNN; write the lines of "
    with pytest.raises(UnsupportedError, match=words):
        the_case(refusing(), "layer/SimpleRNN").run()
    listed = refusing(unsupported_cases={"layer/Simple*": "it is not written"})
    case = the_case(listed, "layer/SimpleRNN")
    assert case.unsupported == "it is not written"
    case.run()


def test_a_listed_case_has_to_be_refused():
    listed = replace(TORCH, unsupported_cases={"layer/Dense": "no reason"})
    with pytest.raises(UsageError, match=r"case layer/Dense: expected a refusal.*remove the entry"):
        the_case(listed, "layer/Dense").run()


def test_an_error_that_is_no_refusal_is_named():
    broken = replace(TORCH, emit=lambda _model: {}["Dense"])
    words = "case layer/Dense: .*UnsupportedError, got KeyError: 'Dense'; refuse the layer by name"
    with pytest.raises(UsageError, match=words):
        the_case(broken, "layer/Dense").run()


def test_a_live_half_without_gradients_says_what_to_write(monkeypatch):
    monkeypatch.delattr(TORCH.live(), "gradients")
    words = r"case gradient/Dense: .*write gradients\(\) in xlstm.converters.torch.live"
    with pytest.raises(UnsupportedError, match=words):
        the_case("torch", "gradient/Dense").run()
    monkeypatch.delattr(TORCH.live(), "train")
    words = r"case training/Dropout: .*write train\(\) in xlstm.converters.torch.live"
    with pytest.raises(UnsupportedError, match=words):
        the_case("torch", "training/Dropout").run()
    the_case(replace(TORCH, unsupported_cases={"gradient/*": "no"}), "gradient/LSTM").run()
    the_case(replace(TORCH, training={"Dropout": False}), "training/Dropout").run()


def test_an_adapter_needs_no_entry_point():
    mine = replace(TORCH, name="mine", title="Mine")
    the_case(mine, "layer/Dense").run()
    assert "mine" not in registry.names()
    with registry.temporarily(mine):
        assert registry.adapter("mine") is mine
        with registry.temporarily(replace(mine, title="Other")):
            assert registry.adapter("mine").title == "Other"
        assert registry.adapter("mine") is mine


@pytest.mark.parametrize(
    ("adapter", "match", "words"),
    [
        ("nothing", "*", "framework: expected one of keras, torch"),
        ("numpy", "*", "expected tables of weights"),
        ("torch", "layers/*", r"got 'layers/\*'; use names below layer/\*"),
        (replace(TORCH, unsupported_cases={"mask/Nothing": "why"}), "*", "got 'mask/Nothing'"),
    ],
    ids=["unknown", "numpy", "match", "unsupported"],
)
def test_bad_arguments_are_named(adapter, match, words):
    with pytest.raises(UsageError, match=words):
        conformance(adapter, match)
