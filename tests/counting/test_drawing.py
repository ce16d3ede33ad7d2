"""Pictures of explanations: complete, legible, to scale, nothing overlaps, the same every time."""

import json
import math
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import replace
from functools import cache
from itertools import combinations, pairwise

import pytest
from processes import CLI, run
from refusing import refused

from xlstm.cli.main import main
from xlstm.counting import picture
from xlstm.counting.explain import explain
from xlstm.errors import UnsupportedError

SIZES = {
    "usual": ("LSTM", 3, 5, {}),
    "document": ("LSTM", 4096, 256, {"timesteps": 16}),
    "wide": ("LSTM", 1, 20, {}),
    "narrow": ("LSTM", 1000, 1, {}),
    "one": ("LSTM", 1, 1, {}),
    "huge": ("GRU", 1, 10**6, {"bidirectional": True}),
    "gru": ("GRU", 16, 8, {}),
    "gru-before": ("GRU", 100, 50, {"reset_after": False}),
    "rnn": ("SimpleRNN", 3, 4, {"layers": 2}),
    "dense": ("Dense", 20, 20, {}),
    "dense-one": ("Dense", 10, 1, {"use_bias": False}),
    "bidirectional": ("LSTM", 3, 5, {"bidirectional": True, "layers": 2}),
    "projection": ("LSTM", 64, 128, {"projection": 32}),
    "cudnn": ("CuDNNLSTM", 10, 32, {}),
    "cudnn-gru": ("CuDNNGRU", 10, 32, {"bidirectional": True}),
}
every_picture = pytest.mark.parametrize("name", SIZES)


@cache
def drawn(name):
    layer, features, units, options = SIZES[name]
    return explain(layer, features=features, units=units, **options)


@cache
def svg(name):
    return drawn(name).to_svg()


SVG = "{http://www.w3.org/2000/svg}"


def elements(document, kind):
    return ET.fromstring(document).iter(f"{SVG}{kind}")


def texts(document):
    return [element.text for element in elements(document, "text")]


@every_picture
def test_pictures_name_every_tensor_and_gate(name):
    found = drawn(name)
    said = texts(svg(name))
    for row in found.tensors:
        assert row.name in said
        assert str(row.shape) in said
    for framework in {row.framework for row in found.tensors}:
        gates = [g for r in found.tensors if r.framework == framework for g in r.gates.split()]
        assert all(said.count(gate) > gates.count(gate) for gate in set(gates))
    whole = " ".join(said)
    assert found.title in whole
    assert f"{found.formula} = {found.numbers}" in whole
    for column in found.columns:
        shown = f"{column.title}: {column.total or 0:,} parameters" in said
        assert shown == (column.total is not None)
    assert "Drawn to scale" in whole


@every_picture
def test_pictures_fit_a_phone_and_are_legible_there(name):
    root = ET.fromstring(svg(name))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    assert root.get("width") == "390"
    assert min(float(element.get("font-size")) for element in root.iter(f"{SVG}text")) >= 9


def numbers(element, *names):
    return [float(element.get(name)) for name in names]


@cache
def said(name):
    """(text, its box) by the estimate of the widths."""
    found = []
    for element in elements(svg(name), "text"):
        x, y, size = numbers(element, "x", "y", "font-size")
        wide = picture.text_width(element.text, size, element.get("font-weight") == "bold")
        x -= wide / 2 if element.get("text-anchor") == "middle" else 0
        found.append((element.text, (x, y - 0.8 * size, x + wide, y + 0.2 * size)))
    return found


@cache
def blocks(name):
    """(gate, box) of every block; those of the legend come first."""
    found = []
    for element in elements(svg(name), "rect"):
        if element.get("class") != "page":
            x, y, wide, high = numbers(element, "x", "y", "width", "height")
            gate = element.get("class").replace("none", "")
            found.append((gate, (x, y, x + wide, y + high)))
    return found


@cache
def lines(name):
    """(gate, the points of each stroke) of every line."""
    found = []
    for element in elements(svg(name), "path"):
        strokes = []
        for letter, text in re.findall(r"([MHV])([^MHV]+)", element.get("d")):
            values = [*map(float, text.split())]
            if letter == "M":
                strokes.append([tuple(values)])
            else:
                x, y = strokes[-1][-1]
                strokes[-1].append((values[0], y) if letter == "H" else (x, values[0]))
        found.append((element.get("class").replace("none", ""), strokes))
    return found


def meet(a, b, slack=0.5):
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


def within(a, b, slack=0.5):
    low = b[0] - slack <= a[0] and b[1] - slack <= a[1]
    return low and a[2] <= b[2] + slack and a[3] <= b[3] + slack


def check_boxes(said, blocks, page):
    for text, box in said:
        assert within(box, page), text
    for (text, box), (other, around) in combinations(said, 2):
        assert not meet(box, around), (text, other)
    for text, box in said:
        for _, block in blocks:
            assert within(box, block) or not meet(box, block), text


def page(name):
    root = ET.fromstring(svg(name))
    return 0, 0, float(root.get("width")), float(root.get("height"))


@every_picture
def test_nothing_overlaps_and_nothing_is_cut_off(name):
    check_boxes(said(name), blocks(name), page(name))
    for (_, block), (_, other) in combinations(blocks(name), 2):
        assert not meet(block, other)


FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-extensions --disable-sync"
FLAGS = f"{FLAGS} --disable-background-networking --disable-component-update".split()
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")

MEASURE = """<script>
const found = [...document.querySelectorAll("svg")].map(s => [...s.querySelectorAll("text")]
  .map(t => [t.textContent, t.getBBox()]).map(([t, b]) => [t, b.x, b.y, b.width, b.height]));
document.body.textContent = JSON.stringify(found);
</script>"""


@pytest.mark.skipif(not BROWSER, reason="needs Chromium")
def test_nothing_overlaps_in_a_browser(tmp_path):
    page_file = tmp_path / "page.html"
    page_file.write_text(f"<body>{''.join(map(svg, SIZES))}{MEASURE}</body>", "utf-8")
    done = subprocess.run(
        [BROWSER, *FLAGS, f"--user-data-dir={tmp_path / 'user'}", "--dump-dom", page_file.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    body = re.search(r"<body>(.*)</body>", done.stdout, re.S)[1]
    for name, every in zip(SIZES, json.loads(ET.fromstring(f"<p>{body}</p>").text), strict=True):
        assert len(every) == len(texts(svg(name)))
        # the box of a line of text has room for accents above its letters
        boxes = [(t, (x, y + 0.15 * h, x + w, y + 0.95 * h)) for t, x, y, w, h in every]
        check_boxes(boxes, blocks(name), page(name))


@every_picture
def test_lines_cross_no_text_and_no_tensor(name):
    for _, strokes in lines(name):
        for points in strokes:
            for (x0, y0), (x1, y1) in pairwise(points):
                reach = (min(x0, x1) - 0.6, min(y0, y1) - 0.6, max(x0, x1) + 0.6, max(y0, y1) + 0.6)
                for text, box in said(name):
                    assert not meet(reach, box), text
                for _, block in blocks(name):
                    assert not meet(reach, block, 1.5)


@every_picture
def test_lines_join_the_same_gate_of_every_framework(name):
    found = drawn(name)
    frameworks = list(dict.fromkeys(row.framework for row in found.tensors))
    gates = {g for row in found.tensors for g in row.gates.split()} or {""}
    assert {gate for gate, _ in lines(name)} == gates
    for gate, (trunk, *branches) in lines(name):
        assert len(branches) == len(frameworks)
        (x, top), (_, bottom) = trunk
        for points in branches:
            assert points[0][0] == x
            assert top <= points[0][1] <= bottom
            x1, y1 = points[-1]
            touched = [
                own
                for own, (left, upper, right, lower) in blocks(name)
                if left - 0.1 <= x1 <= right + 0.1 and upper - 0.1 <= y1 <= lower + 0.1
            ]
            assert touched == [gate]


@every_picture
def test_blocks_are_to_scale(name):
    found = drawn(name)
    legend = len({g for row in found.tensors for g in row.gates.split()})
    scale = min(24.0, 160.0 / max(size for row in found.tensors for size in row.shape))
    for _, (left, upper, right, lower) in blocks(name)[legend:]:
        for side in (right - left, lower - upper):
            count = side / scale
            smallest = any(math.isclose(side, least, abs_tol=2e-3) for least in (3.0, 10.0))
            assert abs(count - round(count)) < 5e-3 / scale or smallest


def test_a_block_is_as_large_as_its_gate():
    document = explain("LSTM", features=4, units=5).to_svg()
    sizes = [numbers(b, "width", "height") for b in elements(document, "rect")]
    areas = sum(wide * high for wide, high in sizes[5:]) / 8**2
    assert areas == pytest.approx(3 * 200 + 220)


def test_colours_and_letters_of_a_dark_screen_and_of_paper():
    style = next(iter(elements(svg("usual"), "style"))).text
    assert "@media screen and (prefers-color-scheme: dark)" in style
    assert "@media print" in style
    classes = {element.get("class") for element in elements(svg("usual"), "text")}
    assert classes == {None, "on", "on-o"}


def test_texts_are_escaped():
    found = replace(drawn("usual"), title="a < b & <i>c</i>")
    assert "a < b & <i>c</i>" in texts(found.to_svg())
    assert next(iter(elements(found.to_svg(), "title"))).text == found.title


def test_pictures_are_the_same_every_time():
    assert explain("LSTM", features=3, units=5).to_svg() == svg("usual")


def test_a_notebook_shows_the_picture():
    html = drawn("usual")._repr_html_()
    assert '<img alt="LSTM of n = 5 units on m = 3 features"' in html
    assert "4 n (m + n + 1)" in html


def test_a_layer_that_no_framework_has_can_not_be_drawn():
    found = explain("LSTM", features=3, units=5, peepholes=True)
    assert not found.tensors
    refused(UnsupportedError, found.to_svg, "Keras", "without a picture")
    assert "<img" not in found._repr_html_()


def test_commands(tmp_path, capsys):
    base = ["explain", "GRU", "--features", "3", "--units", "5"]
    picture_file = tmp_path / "gru.svg"
    assert main([*base, "--md", "--svg", str(picture_file)]) == 0
    assert capsys.readouterr().out.startswith("## GRU of n = 5 units on m = 3 features")
    assert "cell.hn.bias" in texts(picture_file.read_text("utf-8"))
    with pytest.raises(SystemExit):
        main([*base, "--time-steps", "3"])
    assert "did you mean --timesteps?" in capsys.readouterr().err
    done = run(CLI, *base, "--svg", str(tmp_path / "no" / "gru.svg"))
    assert done.returncode == 2
    assert "--svg: expected a folder that exists" in done.stderr
