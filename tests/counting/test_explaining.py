"""Explanations: the numbers of five documents, sums that add up, texts, JSON, bad input."""

import json
import re
from functools import cache
from itertools import combinations

import pytest
from refusing import refused

import xlstm
from xlstm.counting.explain import LAYERS, explain
from xlstm.counting.render import counts_line
from xlstm.errors import UsageError
from xlstm.ir.graph import chain
from xlstm.ir.kinds import KINDS
from xlstm.ir.layers import GRU, LSTM, Bidirectional, Dense, SimpleRNN
from xlstm.ir.source import Source

SCREEN = 24
"""Lines of a small terminal."""


def counts(rows):
    return [row.count for row in rows]


def wrong(found):
    """What the mistakes come to."""
    return [mistake.count for mistake in found.mistakes]


def shapes(found, framework):
    return [row.shape for row in found.tensors if row.framework == framework]


def test_first_document():
    """Why W has 80 numbers, U 1600 and b 80, and Dense 420."""
    found, dense = explain("LSTM", features=1, units=20), explain("Dense", features=20, units=20)
    assert counts(found.breakdown) == [80, 1600, 80]
    assert (found.total, dense.total) == (1760, 420)
    assert found.total + dense.total == 2180
    assert "i = kernel[:, 0:20], f = kernel[:, 20:40]" in " ".join(found.lines)


def test_second_document():
    """What became of the 16 time steps, why 4, and the plain RNN beside it."""
    found = explain("LSTM", features=4096, units=256, timesteps=16)
    assert found.total == 4_457_472
    assert found.mistakes[0].count == 17_246_978_048
    assert counts(found.by_gate) == [1_114_368] * 4
    assert value(found.mistakes[0].formula) == 17_246_978_048
    plain = explain("SimpleRNN", features=3, units=4)
    assert (plain.total, counts(plain.breakdown)) == (32, [12, 16, 4])
    assert 28 in wrong(plain)
    assert len(explain("GRU", features=3, units=4).by_gate) == 3
    both = explain("LSTM", features=4096, units=256, bidirectional=True)
    assert both.total == 2 * found.total


def test_second_document_finds_the_mistake_on_the_first_screen():
    found = explain("LSTM", features=4096, units=256, timesteps=16)
    screen = "\n".join(str(found).splitlines()[:SCREEN])
    for words in ("4,457,472", "17,246,978,048", "the steps are not in it", "1,024"):
        assert words in screen


def test_the_mistake_is_the_one_made_and_no_coincidence():
    """The numbers of the document are such that another formula gives the same."""
    found = explain("LSTM", features=7, units=3, timesteps=5)
    assert found.mistakes[0].count == 4 * (7 * 5 + 7 * 7) * 3


def test_third_document():
    """480 and not 120, and 11 for the Dense of every step."""
    found = explain("LSTM", features=1, units=10)
    assert found.total == 480
    assert 120 in wrong(found)
    assert "120" in "\n".join(str(found).splitlines()[:SCREEN])
    dense = explain("Dense", features=10, units=1, timesteps=25)
    assert dense.total == 11
    assert "TimeDistributed" in " ".join(dense.lines)
    assert 25 * 11 in wrong(dense)


def test_fourth_document():
    """What the 20 in the shapes is."""
    found, out = explain("LSTM", features=3, units=5), explain("Dense", features=5, units=1)
    assert shapes(found, "keras") + shapes(out, "keras") == [(3, 20), (5, 20), (20,), (5, 1), (1,)]
    rows = [row.symbols for row in found.tensors if row.framework == "keras"]
    assert rows == ["(m, 4 n)", "(n, 4 n)", "(4 n)"]
    for shape in ("(3, 20)", "(5, 20)", "(20,)"):
        assert shape in str(found)


def test_fifth_document():
    """440 for each gate, 1760 in all, 21 for the Dense."""
    found = explain("LSTM", features=1, units=20)
    assert counts(found.by_gate) == [440] * 4
    assert found.numbers.endswith("= 1,760")
    assert explain("Dense", features=20, units=1).total == 21


CASES = {
    "lstm": ("LSTM", {}),
    "lstm-steps": ("LSTM", {"timesteps": 4, "batch": 8}),
    "lstm-bidirectional": ("LSTM", {"bidirectional": True, "timesteps": 4}),
    "lstm-stacked": ("LSTM", {"layers": 2}),
    "lstm-stacked-bidirectional": ("LSTM", {"layers": 3, "bidirectional": True}),
    "lstm-projection": ("LSTM", {"projection": 2}),
    "lstm-projection-stacked": ("LSTM", {"projection": 2, "layers": 2, "bidirectional": True}),
    "lstm-projection-no-bias": ("LSTM", {"projection": 2, "use_bias": False}),
    "lstm-peepholes": ("LSTM", {"peepholes": True}),
    "lstm-peepholes-stacked": ("LSTM", {"peepholes": True, "layers": 3, "bidirectional": True}),
    "lstm-no-bias": ("LSTM", {"use_bias": False}),
    "gru": ("GRU", {"timesteps": 4}),
    "gru-before": ("GRU", {"reset_after": False}),
    "gru-no-bias": ("GRU", {"use_bias": False}),
    "gru-before-no-bias": ("GRU", {"use_bias": False, "reset_after": False}),
    "gru-bidirectional": ("GRU", {"bidirectional": True, "layers": 2}),
    "rnn": ("SimpleRNN", {}),
    "rnn-no-bias": ("SimpleRNN", {"use_bias": False}),
    "rnn-bidirectional": ("SimpleRNN", {"bidirectional": True, "layers": 3}),
    "dense": ("Dense", {}),
    "dense-steps": ("Dense", {"timesteps": 4}),
    "dense-no-bias": ("Dense", {"use_bias": False}),
    "cudnn-lstm": ("CuDNNLSTM", {}),
    "cudnn-lstm-bidirectional": ("CuDNNLSTM", {"bidirectional": True, "layers": 2}),
    "cudnn-gru": ("CuDNNGRU", {}),
}
M, N = 3, 5


@cache
def case(name):
    layer, options = CASES[name]
    return explain(layer, features=M, units=N, **options)


every_case = pytest.mark.parametrize("name", CASES)


def by_hand(name):
    """The number of parameters, without our tables."""
    layer, options = CASES[name]
    gates = {"LSTM": 4, "GRU": 3, "SimpleRNN": 1, "Dense": 1}[layer.removeprefix("CuDNN")]
    both = 2 if options.get("bidirectional") else 1
    biases = int(options.get("use_bias", True))
    if (layer == "GRU" and options.get("reset_after", True)) or layer.startswith("CuDNN"):
        biases *= 2
    h = options.get("projection") or N
    extra = N * h * ("projection" in options) + 3 * N * ("peepholes" in options)
    total, m = 0, M
    for _ in range(options.get("layers", 1)):
        total += both * (gates * N * (m + (0 if layer == "Dense" else h) + biases) + extra)
        m = both * h
    return total


def model(name):
    """The layers of a case as a model, as a file of them would give it."""
    layer, options = CASES[name]
    cls = {"LSTM": LSTM, "GRU": GRU, "SimpleRNN": SimpleRNN, "Dense": Dense}
    spec = cls[layer.removeprefix("CuDNN")]
    own = {k: v for k, v in options.items() if k in ("projection", "reset_after", "use_bias")}
    if layer == "Dense":
        return chain("m", [("dense", Dense(M, N, **own), True)], (M,), {}, Source("keras"))
    both = options.get("bidirectional")
    layers, m = [], M
    for number in range(options.get("layers", 1)):
        one = spec(m, N, return_sequences=True, **own)
        back = spec(m, N, return_sequences=True, go_backwards=True, **own)
        layers.append((f"layer_{number}", Bidirectional(one, back) if both else one, True))
        m = one.width * (2 if both else 1)
    return chain("m", layers, (None, M), {}, Source("keras"))


@every_case
def test_parts_and_gates_add_up_to_the_total(name):
    found = case(name)
    assert found.total == by_hand(name) == sum(counts(found.breakdown))
    assert not found.by_gate or sum(counts(found.by_gate)) == found.total
    assert found.numbers.endswith(f" = {found.total:,}")


def value(text):
    """What a formula of numbers comes to."""
    assert re.fullmatch(r"[\d ()+x]+", text), text
    return eval(text.replace("x", "*"))  # nothing but digits, brackets, + and x: checked above


@every_case
def test_formulas_come_to_their_numbers(name):
    found = case(name)
    assert value(found.numbers.rpartition(" = ")[0]) == found.total
    for row in (*found.breakdown, *found.by_gate):
        assert value(row.formula.rpartition(" = ")[2]) == row.count
    for mistake in found.mistakes:
        assert value(mistake.formula) == mistake.count


@every_case
def test_symbols_stand_for_the_numbers(name):
    found = case(name)
    names = {"m": M, "n": N, "p": CASES[name][1].get("projection", 0)}
    text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", found.formula.replace(" x ", " * "))
    assert re.fullmatch(r"[\dmnp ()+*]+", text), text
    assert eval(text, names) == found.total  # nothing but digits, m n p, brackets, + and *


@every_case
def test_formulas_of_frameworks_come_to_their_totals(name):
    found, seen = case(name), []
    names = {"m": M, "n": N, "p": CASES[name][1].get("projection", 0)}
    for one in found.formulas:
        text = re.sub(r"(?<=[\w)]) (?=[\w(])", " * ", one.formula.replace(" x ", " * "))
        assert re.fullmatch(r"[\dmnp ()+*]+", text), text
        assert eval(text, names) == one.total  # nothing but digits, m n p, brackets, + and *
        seen += one.frameworks
    columns = {c.framework: c.total for c in found.columns if c.total is not None}
    assert sorted(seen) == sorted(columns)
    assert all(columns[name] == one.total for one in found.formulas for name in one.frameworks)


@every_case
def test_mistakes_are_mistakes(name):
    found = case(name)
    assert found.total not in wrong(found)
    assert len(set(wrong(found))) == len(found.mistakes)


@every_case
def test_totals_are_those_of_count(name):
    found = case(name)
    if "peepholes" in CASES[name][1] and "LSTM with peepholes" not in KINDS:
        assert found.ledger.total("keras") is None
        return
    ledger = xlstm.count(model(name))
    assert found.ledger.totals() == ledger.totals()
    columns = {c.framework: c.total for c in found.columns}
    assert columns.pop("cudnn", found.total) == found.total
    assert columns == {framework: ledger.total(framework) for framework in ledger.frameworks}
    if "projection" not in CASES[name][1] and name not in (
        "cudnn-lstm",
        "cudnn-lstm-bidirectional",
    ):
        assert columns["keras"] == found.total


@every_case
def test_differences_add_up(name):
    for layer in case(name).ledger.layers:
        for a, b in combinations([n for n, size in layer.params.items() if size is not None], 2):
            lines = [d.delta for d in layer.differences if (d.source, d.target) == (a, b)]
            assert sum(lines) == layer.params[b] - layer.params[a]


@every_case
def test_tensors_add_up(name):
    found = case(name)
    for column in found.columns:
        rows = [row for row in found.tensors if row.framework == column.framework]
        assert (not rows) == (column.total is None)
        if rows and not found.rest:
            assert sum(row.count for row in rows) == column.total
    for row in found.tensors:
        assert len(row.shape) == row.symbols.count(",") + 1


@every_case
def test_text_is_lines_of_at_most_100_columns(name):
    text = str(case(name))
    assert max(map(len, text.splitlines())) <= 100
    assert text.isascii() or set(text) - set(map(chr, range(128))) == {"─"}
    for slip in ("None", "  to it", "gate 's", " 1 units", " 1 features", " 1 steps", "1 numbers"):
        assert slip not in text


@every_case
def test_markdown_has_tables_of_even_rows(name):
    lines = case(name).to_markdown().splitlines()
    assert lines[0].startswith("## ")
    tables, rows = 0, []
    for line in [*lines, ""]:
        if line.startswith("|"):
            rows.append(len(re.findall(r"(?<!\\)\|", line)))
        elif rows:
            assert len(set(rows)) == 1
            assert len(rows) > 2
            tables, rows = tables + 1, []
    assert tables == 2 + bool(case(name).by_gate) + bool(case(name).tensors)
    assert lines.count("```") == lines.count("```text") == 1


@every_case
def test_json_is_plain_data(name):
    found = case(name)
    data = found.to_json()
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    assert data["total"] == found.total
    assert sum(part["count"] for part in data["breakdown"]) == found.total


def test_cudnn_keeps_two_biases():
    found = explain("CuDNNLSTM", features=M, units=N)
    assert found.total == 4 * N * (M + N + 2) == 200
    assert shapes(found, "cudnn") == [(3, 20), (5, 20), (40,)]
    assert shapes(found, "keras") == [(3, 20), (5, 20), (20,)]
    assert "180 numbers" in " ".join(found.lines)
    gru = explain("CuDNNGRU", features=M, units=N)
    assert gru.total == gru.ledger.total("keras") == 3 * N * (M + N + 2)
    assert shapes(gru, "cudnn")[2:] == [(30,)]
    assert shapes(gru, "keras")[2:] == [(2, 15)]


def test_no_bias_is_said_nowhere_to_be():
    for layer in ("LSTM", "GRU", "SimpleRNN", "Dense"):
        found = explain(layer, features=M, units=N, use_bias=False)
        assert not any(re.search(r" b\b| b_| c_", line) for line in found.equations)
        assert "bias" not in " ".join(row.what for row in found.breakdown)


def test_why_pytorch_has_more():
    text = str(explain("LSTM", features=1, units=20))
    assert "Keras, Flax NNX, Flax Linen: 1,760 = 4 n (m + n + 1)." in text
    own = "1,840 = 4 n (m + n + 2): bias_ih_l0 and bias_hh_l0, two vectors where one would do."
    assert own in " ".join(text.split())
    assert "port" not in text.partition("two vectors")[0]
    assert "PyTorch bias_hh_l0: +80 = 4 x 20: PyTorch adds this second bias" in text
    rnn = str(explain("SimpleRNN", features=M, units=N))
    assert "adds this second bias" in rnn


def test_all_layers_of_a_stack_are_told_once():
    text = str(explain("LSTM", features=M, units=N, layers=3, bidirectional=True))
    assert "bias_hh_l0, bias_hh_l0_reverse of each of the 3 layers: 6 times +20 = 4 x 5" in text
    assert "layers 2 to 3, likewise" in text


BAD = {
    "zero": ({"units": 0}, "units", "0"),
    "negative": ({"features": -3}, "features", "-3"),
    "steps": ({"timesteps": 0}, "timesteps", "0"),
    "batch": ({"batch": -1}, "batch", "-1"),
    "layers": ({"layers": 0}, "layers", "0"),
    "layers-many": ({"layers": 10**6}, "1000", "stack fewer"),
    "layers-none": ({"layers": None}, "layers", "None"),
    "projection-zero": ({"projection": 0}, "projection", "0"),
    "misspelt": ({"biderectional": True}, "did you mean bidirectional?"),
    "unknown": ({"colour": 1}, "colour", "use one of these"),
    "projection-large": ({"projection": 5}, "5 units", "4 or less"),
    "projection-one": ({"projection": 1, "units": 1}, "remove the projection"),
    "projection-negative": ({"projection": -1}, "projection", "-1"),
    "projection-text": ({"projection": "2"}, "projection", "'2'"),
    "projection-gru": ({"layer": "GRU", "projection": 2}, "LSTM has it"),
    "peepholes-rnn": ({"layer": "SimpleRNN", "peepholes": True}, "LSTM has it"),
    "reset-lstm": ({"reset_after": False}, "reset_after", "GRU has it"),
    "reset-cudnn": ({"layer": "CuDNNGRU", "reset_after": False}, "GRU has it"),
    "bias-cudnn": ({"layer": "CuDNNLSTM", "use_bias": False}, "LSTM, GRU"),
    "dense-both": ({"layer": "Dense", "bidirectional": True}, "timesteps", "LSTM, GRU"),
    "dense-deep": ({"layer": "Dense", "layers": 2}, "layers"),
    "letters": ({"layer": "LTSM"}, "did you mean LSTM?"),
    "other": ({"layer": "Flatten"}, "use one of these"),
    "no-name": ({"layer": None}, "None", "LSTM"),
    "list": ({"layer": ["LSTM"]}, "LSTM"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name):
    options, *words = BAD[name]
    given = {"layer": "LSTM", "features": 3, "units": 5, **options}
    refused(UsageError, lambda: explain(given.pop("layer"), **given), *words)


def test_every_layer_is_its_own_nearest():
    for layer in LAYERS:
        error = refused(UsageError, lambda name=layer: explain(f"{name}s", features=1, units=1))
        assert f"did you mean {layer}?" in str(error)


@pytest.mark.parametrize(("rank", "window"), [(1, 3), (2, (3, 5)), (3, (1, 2, 3))])
@pytest.mark.parametrize("bias", [True, False])
def test_conv_lstms_count_as_keras_does(rank, window, bias):
    import keras

    layer = getattr(keras.layers, f"ConvLSTM{rank}D")(4, window, use_bias=bias, padding="same")
    layer.build((None, None, *(6,) * rank, 3))
    options = {"kernel_size": window, "use_bias": bias}
    found = explain(f"ConvLSTM{rank}D", features=3, units=4, **options)
    assert found.total == layer.count_params() == found.ledger.total("keras")
    assert sum(row.count for row in found.breakdown) == found.total
    assert sum(row.count for row in found.by_gate) == found.total
    assert all(mistake.count != found.total for mistake in found.mistakes)
    assert found.to_svg().startswith("<svg")


def test_bidirectional_is_an_lstm_in_both_directions():
    both = explain("Bidirectional", features=3, units=8)
    assert both.total == explain("LSTM", features=3, units=8, bidirectional=True).total == 768


@pytest.mark.parametrize(
    ("layer", "window"), [("LSTM", 3), ("ConvLSTM2D", (3, 3, 3)), ("ConvLSTM2D", 0)]
)
def test_a_window_that_does_not_fit_is_refused(layer, window):
    with pytest.raises(UsageError, match="kernel_size"):
        explain(layer, features=3, units=4, kernel_size=window)


SIZES = {"features": 16, "units": 60}


def flax_cells():
    """Native class -> the number of its parameters."""
    import jax
    import jax.numpy as jnp
    from flax import linen, nnx

    x, found = jnp.zeros((1, 2, 16)), {}
    for name in ("GRUCell", "OptimizedLSTMCell"):
        cell = getattr(nnx, name)(16, 60, rngs=nnx.Rngs(0))
        found[f"nnx.{name}"] = sum(p.size for p in jax.tree.leaves(nnx.state(cell, nnx.Param)))
        params = linen.RNN(getattr(linen, name)(60)).init(jax.random.key(0), x)
        found[f"nn.{name}"] = sum(p.size for p in jax.tree.leaves(params))
    return found


@pytest.mark.parametrize(
    ("layer", "options", "names"),
    [
        ("GRU", {}, {"nnx": "nnx.GRUCell"}),
        ("CuDNNGRU", {}, {"nnx": "nnx.GRUCell"}),
        ("GRU", {"use_bias": False}, {}),
        ("GRU", {"reset_after": False}, {"linen": "nn.GRUCell"}),
        ("GRU", {"reset_after": False, "use_bias": False}, {"linen": "nn.GRUCell"}),
        (
            "LSTM",
            {"projection": 4},
            {"nnx": "nnx.OptimizedLSTMCell", "linen": "nn.OptimizedLSTMCell"},
        ),
        ("LSTM", {}, {}),
        ("LSTM", {"use_bias": False}, {}),
        ("SimpleRNN", {}, {}),
    ],
)
@pytest.mark.parametrize("both", [1, 2])
def test_native_layers_beside_own_cells_have_their_own_number(layer, options, names, both):
    found = explain(layer, **SIZES, **options, bidirectional=both == 2)
    native = found.ledger.layers[0].native
    assert {name: one.name for name, one in native.items()} == names
    real = flax_cells()
    for name, one in native.items():
        assert one.count == both * real[one.name] != found.ledger.total(name)
        assert one.count not in wrong(found)
        assert f"{one.name} itself has {one.count:,}: it " in " ".join(str(found).split())


def test_gru_names_the_number_of_nnx_and_calls_it_no_mistake():
    text = " ".join(str(explain("GRU", **SIZES)).split())
    assert "nnx.GRUCell itself has 13,860: it lacks the candidate's second bias" in text
    assert "counts one bias for each gate" not in text


@every_case
def test_no_count_of_a_framework_is_a_mistake(name):
    ledger = case(name).ledger
    right = {ledger.total(framework) for framework in ledger.frameworks}
    if len(ledger.layers) == 1:
        right |= {one.count for one in ledger.layers[0].native.values()}
    assert not right.intersection(wrong(case(name)))


@pytest.mark.parametrize("width", [60, 70, 80, 99])
@pytest.mark.parametrize("name", ["lstm", "gru-bidirectional", "cudnn-lstm"])
def test_a_narrow_screen_names_the_framework_of_every_block(name, width, monkeypatch):
    for module in ("rendering.tables", "counting.render"):
        monkeypatch.setattr(f"xlstm.{module}.screen_width", lambda: width)
    lines = str(case(name)).splitlines()
    assert max(map(len, lines)) <= width
    for title in ("PyTorch", "Flax Linen"):
        assert any(re.match(rf" {title}(  |$)", line) for line in lines)
    # a head without a value is the title of a list, at most
    assert sum(line.strip() == "framework" for line in lines) <= 2


@pytest.mark.parametrize("layer", [*LAYERS, "Bidirectional"])
def test_the_case_of_a_name_does_not_matter(layer):
    for name in (layer.lower(), layer.upper()):
        assert explain(name, **SIZES).title == explain(layer, **SIZES).title


@pytest.mark.parametrize(
    ("layer", "options", "line"),
    [
        ("LSTM", {}, "Keras 1,760, PyTorch 1,840, Flax 1,760"),
        (
            "GRU",
            {},
            "Keras 1,380, PyTorch 1,380, Flax NNX 1,340 (nnx.GRUCell 1,320), Flax Linen 1,340",
        ),
        ("LSTM", {"peepholes": True}, "1,820 by the formula; no framework has this layer"),
        ("CuDNNLSTM", {}, "Keras 2 CuDNNLSTM 1,840, Keras 3 1,760, PyTorch 1,840, Flax 1,760"),
    ],
)
def test_counts_in_one_line(layer, options, line):
    assert counts_line(explain(layer, features=1, units=20, **options)) == line
