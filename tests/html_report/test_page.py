"""The text of a page: escapes, parts, sizes, colours; no browser is needed."""

import html.parser
import importlib.metadata
import re
import time

import numpy as np
import pages
import pytest
from cases import model
from paths import DATA

import xlstm
from xlstm.html_report.charts import Curve, Histogram, Line, _picked, draw_curve, draw_histogram
from xlstm.html_report.markup import Html, element, name_of, table
from xlstm.html_report.style import STYLE, policy
from xlstm.ir.layers import GRU, Dense


class Outline(html.parser.HTMLParser):
    """Elements, attributes and texts of a page, and a check that every element is closed."""

    def __init__(self, text):
        super().__init__()
        self.open, self.names, self.attributes, self.texts = [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.names.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.texts.append(data)


@pytest.fixture(scope="module")
def demo():
    return xlstm.reconcile(xlstm.demo.path(), ["torch", "nnx"], states=True)


def test_parts_of_a_page(demo):
    text = demo.to_html()
    page = Outline(text)
    words = " ".join(page.texts)
    assert text.startswith("<!doctype html>\n")
    assert text.endswith("</html>\n")
    assert demo.summary() in words
    assert words.index(demo.summary()) < words.index("What to do next") < words.index("The model")
    for heading in ("Support", "counts", "Gate", "Error over", "ULP", "worst", "Environ", "repeat"):
        assert heading in words
    for figure in (f"{v.max_abs:.2e}" for v in demo.frameworks["torch"].verdicts.values()):
        assert figure in words
    assert "PyTorch adds this second bias to the first" in words
    assert "xlstm verify demo.keras --frameworks torch,nnx --states" in words
    assert demo.model.source.sha256 in words
    assert importlib.metadata.version("torch") in words


def test_a_page_loads_and_runs_nothing(demo):
    page = Outline(demo.to_html())
    assert not {"script", "iframe", "link", "object", "base", "form"} & set(page.names)
    outside = [
        (tag, key, value)
        for tag, key, value in page.attributes
        if key.startswith("on") or (key in ("href", "src", "style") and not value.startswith("#"))
    ]
    assert {(tag, value[:26]) for tag, _, value in outside} == {
        ("img", "data:image/svg+xml;base64,")
    }
    (found,) = [v for tag, key, v in page.attributes if (tag, key) == ("meta", "content")][:1]
    assert found == policy()
    assert found.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in found


def test_pages_are_equal_at_every_call(demo):
    assert demo.to_html() == demo.to_html()


def test_hostile_names_are_text():
    report = xlstm.reconcile(pages.hostile(), ["torch"], states=True)
    text = report.to_html()
    page = Outline(text)
    assert set(page.names) <= {
        *"html head meta title style body header main section nav h1 h2 h3 p div ul ol li".split(),
        *"a bdi table thead tbody tfoot tr th td pre code details summary figure".split(),
        *"figcaption img svg rect line path polyline text".split(),
    }
    words = " ".join(page.texts)
    for name in (pages.SCRIPT, pages.QUOTES):
        assert name in words
    assert r"rtl\u202e\u200f" in words
    assert "\u202e" not in text
    assert "x" * 501 not in text
    assert "x" * 159 + "…" in words
    assert "a '\"'\"'b<script>.h5" in words, "quoted for a shell"


def test_texts_are_escaped_and_html_is_not():
    assert element("p", "<", Html("<i></i>"), None) == "<p>&lt;<i></i></p>"
    assert element("p", class_='"') == '<p class="&quot;"></p>'
    assert element("line", x1=0) == '<line x1="0"/>'
    assert name_of("a\nb") == "<bdi>a\\nb</bdi>"
    assert "<bdi>&lt;b&gt;</bdi>" in table([("a",), ("<b>",)], "name")


def test_twenty_layers_are_small_and_quick():
    report = pages.deep(20)
    start = time.process_time()
    text = report.to_html()
    assert time.process_time() - start < 3
    assert len(text.encode()) < 1.5e6
    assert text.count("<figure>") > 20


@pytest.mark.parametrize("path", ["k212/stacked.h5", "k224/gru.h5", "k3/seq2seq.keras"])
def test_every_layer_of_a_file_is_drawn(path):
    report = xlstm.reconcile(DATA / path, ["torch"], states=True)
    text = report.to_html(f"models/{path}")
    Outline(text)
    boxes = sum(text.count(f'class="box {kind}"') for kind in ("input", "recurrent", "layer"))
    assert boxes == len(report.model.nodes)
    assert f"models/{path}" in text


def test_a_verdict_that_is_not_equal_says_so():
    report = pages.different()
    words = " ".join(Outline(report.to_html("model.keras")).texts)
    assert 'class="verdict bad"' in report.to_html()
    assert "Not equal: PyTorch is different in float32 and float64." in words
    assert "Do not use the ports that are not equal." in words
    assert "xlstm diagnose model.keras PORT" in words
    assert "Furthest above its limit: PyTorch float64" in words


def test_steps_without_a_verdict_are_marked():
    text = pages.undecided().to_html()
    assert "steps without a verdict" in text
    assert "<rect x=" in text


def curve(errors, limits):
    line = Line("PyTorch", 0, np.asarray(errors), np.asarray(limits))
    return Curve("y", "float32", (line,), np.ones(len(errors), bool))


def heights(svg, kind):
    (points,) = re.findall(rf'points="([^"]*)" class="line {kind}"', svg)
    return [float(point.partition(",")[2]) for point in points.split()]


def test_a_curve_is_drawn_to_scale():
    svg = draw_curve(curve([1e-8, 0.0, 1e-7], [1e-6] * 3))
    small, zero, large = heights(svg, "s0")
    (limit, *_) = heights(svg, "limit")
    assert zero > small > large > limit, "heights grow downwards"
    assert small - large == pytest.approx(large - limit, abs=0.1), "powers of ten"


def test_a_peak_of_many_steps_is_drawn():
    errors = np.full(10_000, 1e-9)
    errors[7_777] = 5e-7
    found = curve(errors, np.full(10_000, 1e-6))
    assert 7_777 in _picked(found.lines[0])
    assert found.nearness == pytest.approx(0.5)
    assert len(heights(draw_curve(found), "s0")) == 120


def test_curves_of_zeros_and_infinities_are_drawn():
    assert "NaN" not in draw_curve(curve([0.0, 0.0], [0.0, np.inf]))
    assert "nan" not in draw_curve(curve([0.0], [0.0]))


def test_bars_are_to_scale():
    names = tuple(f"< {n}" for n in range(18))
    svg = draw_histogram(Histogram("PyTorch", "float32", names, (2, 4, 0, 1, *(0,) * 14)))
    bars = [float(high) for high in re.findall(r'class="bar" width="[^"]*" height="([^"]*)"', svg)]
    assert len(bars) == 3
    assert bars[1] == pytest.approx(2 * bars[0], rel=0.01) == pytest.approx(4 * bars[2], rel=0.01)
    assert "57 %" in svg


def luminance(colour):
    values = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
    linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values]
    return sum(a * b for a, b in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(a, b):
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXTS = [
    *(("text", "page"), ("text", "card"), ("soft", "page"), ("soft", "card"), ("link", "page")),
    *(("good", "page"), ("good", "good-card"), ("bad", "page"), ("bad", "bad-card")),
    *(("unsure", "page"), ("unsure", "unsure-card"), ("own", "page"), ("soft", "unsure-card")),
]
"""Colours of texts, and those behind them."""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(scheme):
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6})", part)) for part in STYLE.split("@media")[:2]
    )
    colours = {**light, **(dark if scheme == "dark" else {})}
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    for a, b in TEXTS:
        assert contrast(colours[a], colours[b]) >= 4.5, (a, b)
    for line in ("s0", "s1", "s2", "s3", "s4", "s5", "limit"):
        assert contrast(colours[line], colours["page"]) >= 3, line


def test_a_page_is_written_in_one_step(demo, tmp_path):
    path = tmp_path / "report.html"
    demo.save_html(path)
    assert path.read_bytes() == demo.to_html().encode()
    assert [item.name for item in tmp_path.iterdir()] == ["report.html"]
    with pytest.raises(OSError, match=r"No such file|cannot find"):
        demo.save_html(tmp_path / "nowhere" / "report.html")


def test_every_kind_of_comparison_has_a_part():
    options = dict.fromkeys(("states", "gradients", "step", "half"), True)
    report = xlstm.reconcile(xlstm.demo.path(), ["torch"], **options)
    text = report.to_html()
    words = " ".join(Outline(text).texts)
    for part in ("hidden states", "gradients", "one step of SGD"):
        assert f"Verdicts on {part}" in words
    assert "lstm, every step, float16" in words.replace(" , ", ", ")
    assert "--frameworks torch --gradients --step --half --states" in words


def test_a_failure_is_a_note():
    def fails(_live, _dtype):
        raise RuntimeError("no <b>module</b>")

    dense = model([Dense(3, 4)], (3,))
    report = xlstm.reconcile(dense, ["torch"], states=True, makers={"torch": fails})
    words = " ".join(Outline(report.to_html()).texts)
    assert "PyTorch: RuntimeError: no <b>module</b>" in words
    assert "Read the failures in the notes below" in words
    for empty in ("No output was compared.", "has no recurrent layer", "has a time axis"):
        assert empty in words
    assert "xlstm.reconcile(model, ['torch'])  # in Python" in words


def test_a_form_without_a_picture_is_named():
    report = xlstm.reconcile(model([GRU(3, 4, hidden_bias=False)], (None, 3)), ["nnx"])
    assert "gru_0: its form has no picture." in report.to_html()
