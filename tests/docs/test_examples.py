"""The five documents as running examples: their figures, and what they say without a framework."""

import subprocess
import sys

import pytest
import readme

FIGURES = {
    "memorise": [
        "W (1, 80): 80   U (20, 80): 1600   b (80,): 80",
        "80 + 1,600 + 80 = 1,760",
        "420; together 2,180",
        "W_f 20, U_f 400, b_f 20",
        *(
            f"{name} remembers: {' '.join(map(str, range(0, 400, 20)))}"
            for name in ("Keras", "torch", "nnx", "linen")
        ),
    ],
    "count": [
        "4,457,472",
        "17,246,978,048",
        "LSTM(256) on 16 steps of 4,096 features: 4,457,472",
        "LSTM(256) on 100 steps of 4,096 features: 4,457,472",
        "simple_rnn   32   times 1",
        "gru          96   times 3",
        "lstm        128   times 4",
        "n (m + n + 1) = 4 x (3 + 4 + 1) = 32",
    ],
    "every_step": ["LSTM 480, TimeDistributed(Dense(1)) 11, together 491", "= 120:", "480 "],
    "by_hand": ["W (3, 20) U (5, 20) b (20,) Wout (5, 1) bout (1,)"],
    "custom_layer": [
        "got examples>AttentionWithContext (attention); register them with xlstm.register_layer",
        "attention: attention.W (8, 8) attention.b (8,) attention.u (8,)",
        "parameters: keras 409 torch 441 nnx 409 linen 409",
        "self.attention = AttentionWithContext(features=8)",
        "Keras ran the original",
    ],
    "derivation": ["4 x (20 + 400 + 20) = 1,760", "20 x 1 + 1 = 21", "Keras counts 1760 21"],
}


@pytest.mark.parametrize("name", FIGURES)
def test_an_example_gives_the_figures_of_its_document(name):
    text = readme.example(name)
    for figure in FIGURES[name]:
        assert figure in text
    assert text.count(" equal ") == 8, "four frameworks in two precisions"
    assert "different" not in text


def test_by_hand_equals_every_framework():
    names = ("by hand", "model.predict", "torch ", "nnx ", "linen ")
    lines = readme.example("by_hand").splitlines()
    values = [float(line.split()[-1]) for line in lines if line.startswith(names)]
    assert len(values) == len(names)
    assert max(values) - min(values) <= 2e-6


@pytest.mark.parametrize("name", FIGURES)
def test_an_example_without_a_framework_names_the_extra(name):
    code = (
        "import runpy, sys; sys.modules['flax'] = None; sys.path.insert(0, 'examples'); "
        f"runpy.run_path('examples/{name}.py')"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=readme.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.strip().endswith("pip install 'xlstm-converter[flax]'")
    assert "Traceback" not in done.stderr


def test_example_models_are_small():
    models = [*(readme.ROOT / "examples" / "models").glob("*.[kh]*")]
    assert {model.suffix for model in models} == {".keras", ".h5"}
    assert sum(model.stat().st_size for model in models) < 100_000
