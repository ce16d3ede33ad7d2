"""Genuine files: each era's own outputs, the demo file, and what readers say about them."""

import itertools

import numpy as np
import pytest
from paths import CORPUS, DATA, needs_corpus

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.verification.bounds import bounds

ERAS = ["k224/lstm", "k224/lstm_sig"]
FRAMEWORKS = registry.frameworks()
INSTALLED = [name for name in FRAMEWORKS if registry.adapter(name).installed]


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
    "eras-ethnicolr-census/census2010_keras2.0.2.h5",
    "eras-ethnicolr-census/census2010_keras2.1.6.h5",
    "eras-ethnicolr-census/census2010_keras2.5.0.h5",
    "k1.0-dutch-checker-lstm/my_model_weights.h5",
    "k1.1-factornet-foxa1/best_model.hdf5",
    "k1.2-countnet/F-CRNN_keras1.2.2.h5",
    "k1.2-countnet/F-CRNN_keras2.0.9.h5",
    "k1.2-countnet/RNN_keras1.2.2.h5",
    "k1.2-countnet/RNN_keras2.0.9.h5",
    "k2.0-ctc-speech-vui/model_0.h5",
    "k2.0-ctc-speech-vui/model_1.h5",
    "k2.0-ctc-speech-vui/model_4.h5",
    "k2.0-predictive-maintenance/binary_model.h5",
    "k2.0-predictive-maintenance/regression_model.h5",
    "k2.0-seq2seq-eng-fra-char/decoder.h5",
    "k2.0-seq2seq-eng-fra-char/encoder.h5",
    "k2.0-snfcocktail/rnn_model_10iter.h5",
    "k2.1-rasa-masking-lstm/keras_model.h5",
    "k2.1-sentiment-chen0040/bidirectional_lstm_softmax_weights.h5",
    "k2.1-sentiment-chen0040/lstm_softmax_weights.h5",
    "k2.1-sentiment-chen0040/wordvec_cnn_lstm_weights.h5",
    "k2.1-stateful-timeseries-chen0040/stateful-lstm-weights.h5",
    "k2.12-seq2seq-memrise/decoder_model.h5",
    "k2.12-seq2seq-memrise/encoder_model.h5",
    "k2.2-dot-res-lstm/bilstm.h5",
    "k2.2-dot-res-lstm/cudnn_functional.hdf5",
    "k2.2-dot-res-lstm/gru.h5",
    "k2.2-dot-res-lstm/lstm.h5",
    "k2.2-dot-res-lstm/lstm_functional.hdf5",
    "k2.2-lens-poem-simplernn/char_rnn.h5",
    "k2.2tf-dgaintel/domain_classifier_model.h5",
    "k2.3-codon-bigru-mask/rnn_model.h5",
    "k2.3-codon-bigru-mask/rnn_model_30k.h5",
    "k2.3tf-circuitrnn/gru_model.h5",
    "k2.3tf-circuitrnn/lstm_model.h5",
    "k2.4-gesture-lstm-relu/model2_1.0.h5",
    "k2.6-char-gru/char_rnn.h5",
    "v3-emg-cdt406/gru_model.keras",
    "v3-emg-cdt406/lstm.keras",
    "v3-emg-cdt406/lstm_stateful.keras",
    "v3-emg-cdt406/lstm_unroll.keras",
    "v3-emg-cdt406/reshape_lstm_unroll.keras",
]
"""Real models with outputs of their own framework; those of one more are noise: see below."""

NEEDED = {
    "k1.0-dutch-checker-lstm/my_model_weights.h5": {"architecture": "my_model_architecture.json"},
    "k1.1-factornet-foxa1/best_model.hdf5": {"kernel_layout": "tensorflow"},
    "k1.2-countnet/F-CRNN_keras1.2.2.h5": {"kernel_layout": "tensorflow"},
    **{f"k2.0-ctc-speech-vui/model_{number}.h5": {"until": "softmax"} for number in (0, 1, 4)},
    **{
        f"k2.1-sentiment-chen0040/{name}_weights.h5": {"architecture": f"{name}_architecture.json"}
        for name in ("bidirectional_lstm_softmax", "lstm_softmax", "wordvec_cnn_lstm")
    },
    "k2.1-stateful-timeseries-chen0040/stateful-lstm-weights.h5": {
        "architecture": "stateful-lstm-architecture.json"
    },
}
"""What has to be said about a file when it is loaded."""


def load(file):
    path, said = CORPUS / file, dict(NEEDED.get(file, {}))
    if "architecture" in said:
        said["architecture"] = path.with_name(said["architecture"])
    return xlstm.load(path, **said)


def golden_of(file):
    """Inputs and outputs of the first call, and of the second one of a stateful model."""
    folder, name = file.split("/")
    saved = np.load(next((CORPUS / folder / "golden").glob(f"{name}.*.npz")))
    return tuple(
        [saved[key] for key in sorted(saved) if key.startswith(start)]
        for start in ("x", "y", "second_y")
    )


@needs_corpus
def test_noise_that_is_always_on_is_refused():
    """Its LSTM is called with training=True: what Keras itself gives differs from call to call."""
    path = CORPUS / "eras-ethnicolr-census" / "fl_ln_keras2.2.4-tf.h5"
    with pytest.raises(UnsupportedError, match="training=True with dropout"):
        xlstm.load(path)


LONG = "1,002 or 8,801 time steps take Keras minutes; benchmarks/corpus.py runs it"


def is_long(file):
    return file.startswith(("k1.1-factornet", "k2.3-codon"))


@needs_corpus
@pytest.mark.parametrize("framework", [*FRAMEWORKS, "numpy"])
@pytest.mark.parametrize("file", GOLDEN)
def test_golden_outputs_of_real_models(file, framework):
    if is_long(file) and framework == "keras":
        pytest.skip(LONG)
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
    if is_long(file):
        pytest.skip(LONG)
    report = xlstm.reconcile(load(file) if file in NEEDED else CORPUS / file, FRAMEWORKS)
    report.check()
    original = file.endswith(".keras")
    assert report.frameworks["keras"].what.startswith("the original" if original else "our port")


@needs_corpus
@pytest.mark.parametrize("file", GOLDEN)
def test_counts_of_real_models(file):
    """The ledger gives what every framework counts itself, and its lines add up."""
    model = load(file)
    ledger = xlstm.count(model)
    for framework in FRAMEWORKS:
        own = registry.adapter(framework).live().count(xlstm.port(model, framework))
        assert own == ledger.total(framework)
    for layer in ledger.layers:
        for a, b in itertools.combinations(FRAMEWORKS, 2):
            lines = [d.delta for d in layer.differences if (d.source, d.target) == (a, b)]
            assert sum(lines) == layer.params[b] - layer.params[a]


def test_the_demo_file_has_memorised_its_sequence():
    answers = xlstm.demo.recall(INSTALLED)
    for found in answers.values():
        np.testing.assert_allclose(found, xlstm.demo.SEQUENCE, atol=1e-3)


def test_the_demo_is_proven_against_keras_itself():
    report = xlstm.reconcile(xlstm.demo.path(), INSTALLED)
    report.check()
    assert report.frameworks["keras"].what == "the original, on tensorflow"
    totals = {"keras": 2180, "torch": 2260, "nnx": 2180, "linen": 2180}
    assert {n: report.ledger.total(n) for n in INSTALLED} == {n: totals[n] for n in INSTALLED}
