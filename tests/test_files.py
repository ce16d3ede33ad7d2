"""Genuine files: each era's own outputs, the demo file, and what readers say about them."""

import numpy as np
import pytest
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm import registry
from xlstm.parity import bounds

ERAS = ["k224/lstm", "k224/lstm_sig"]
FRAMEWORKS = registry.FRAMEWORKS


@pytest.mark.parametrize("name", ERAS)
def test_outputs_of_the_version_that_wrote_it(name):
    saved = np.load(DATA / f"{name}.npz")
    got = xlstm.port(DATA / f"{name}.h5", "numpy")(saved["x"])
    np.testing.assert_allclose(got, saved["y"], rtol=0, atol=5e-7)


def test_hard_sigmoid_of_keras_2_is_recognised_and_said():
    old = xlstm.load(DATA / "k224" / "lstm.h5")
    assert old.source.version == "2.2.4"
    gates = {node.spec.gate_activation for node in old.layers if node.spec.kind == "LSTM"}
    assert gates == {"hard_sigmoid_keras2"}
    assert any("clip(0.2 x + 0.5, 0, 1)" in line for line in old.source.warnings)
    new = xlstm.load(DATA / "k224" / "lstm_sig.h5")
    assert not new.source.warnings


GOLDEN = [
    "k2.0-predictive-maintenance/binary_model.h5",
    "k2.0-predictive-maintenance/regression_model.h5",
    "k2.0-seq2seq-eng-fra-char/decoder.h5",
    "k2.0-seq2seq-eng-fra-char/encoder.h5",
    "k2.1-rasa-masking-lstm/keras_model.h5",
    "k2.1-stateful-timeseries-chen0040/stateful-lstm-weights.h5",
    "k2.12-seq2seq-memrise/decoder_model.h5",
    "k2.12-seq2seq-memrise/encoder_model.h5",
    "k2.2-dot-res-lstm/bilstm.h5",
    "k2.2-dot-res-lstm/gru.h5",
    "k2.2-dot-res-lstm/lstm.h5",
    "k2.2-lens-poem-simplernn/char_rnn.h5",
    "k2.3tf-circuitrnn/gru_model.h5",
    "k2.3tf-circuitrnn/lstm_model.h5",
    "k2.4-gesture-lstm-relu/model2_1.0.h5",
    "k2.6-char-gru/char_rnn.h5",
    "v3-emg-cdt406/gru_model.keras",
    "v3-emg-cdt406/lstm.keras",
    "v3-emg-cdt406/lstm_stateful.keras",
    "v3-emg-cdt406/lstm_unroll.keras",
]
"""Real models of which every layer is known by now; each has outputs of its own framework."""

ARCHITECTURES = {
    "k2.1-stateful-timeseries-chen0040/stateful-lstm-weights.h5": "stateful-lstm-architecture.json"
}
"""What lies beside weights alone."""


def load(file):
    beside = ARCHITECTURES.get(file)
    path = CORPUS / file
    return xlstm.load(path, architecture=path.with_name(beside) if beside else None)


def golden_of(file):
    """Inputs and outputs of the first call, and of the second one of a stateful model."""
    folder, name = file.split("/")
    saved = np.load(next((CORPUS / folder / "golden").glob(f"{name}.*.npz")))
    return tuple(
        [saved[key] for key in sorted(saved) if key.startswith(start)]
        for start in ("x", "y", "second_y")
    )


@needs_corpus
@pytest.mark.parametrize("framework", [*FRAMEWORKS, "numpy"])
@pytest.mark.parametrize("file", GOLDEN)
def test_golden_outputs_of_real_models(file, framework):
    inputs, outputs, _ = golden_of(file)
    model = load(file)
    ported = xlstm.port(model, framework)
    if framework == "numpy":
        got = ported(*inputs)
        got = got[0] if model.stateful else got
        got = got if isinstance(got, tuple) else (got,)
    else:
        got = registry.adapter(framework).live().run(ported, inputs, "float32")
    # both sides are float32 runs: each may be off by the bound of the verdict rule
    for y, want, allowed in zip(got, outputs, bounds(model, inputs, "float32"), strict=False):
        assert y.shape == want.shape
        assert np.abs(np.float64(y) - want).max() <= 2 * allowed.step.max()


@needs_corpus
@pytest.mark.parametrize("file", [file for file in GOLDEN if "stateful" in file])
def test_a_second_call_goes_on_from_the_first(file):
    inputs, _, seconds = golden_of(file)
    port = xlstm.port(load(file), "numpy")
    _, state = port(*inputs)
    got, _ = port(*inputs, state=state)
    np.testing.assert_allclose(got, seconds[0], rtol=0, atol=5e-7)


@needs_corpus
@pytest.mark.parametrize("file", GOLDEN)
def test_real_models_are_equal_up_to_rounding(file):
    report = xlstm.reconcile(load(file) if file in ARCHITECTURES else CORPUS / file, FRAMEWORKS)
    report.check()
    original = file.endswith(".keras")
    assert report.frameworks["keras"].what.startswith("the original" if original else "our port")


def test_the_demo_file_has_memorised_its_sequence():
    answers = xlstm.demo.recall(FRAMEWORKS)
    for found in answers.values():
        np.testing.assert_allclose(found, xlstm.demo.SEQUENCE, atol=1e-3)


def test_the_demo_is_proven_against_keras_itself():
    report = xlstm.reconcile(xlstm.demo.path(), FRAMEWORKS)
    report.check()
    assert report.frameworks["keras"].what == "the original, on tensorflow"
    assert {n: report.ledger.total(n) for n in FRAMEWORKS} == {
        "keras": 2180,
        "torch": 2260,
        "nnx": 2180,
        "linen": 2180,
    }
