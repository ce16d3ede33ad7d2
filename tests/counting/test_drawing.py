"""Pictures of explanations: complete, legible, to scale, nothing overlaps, the same every time."""

import re
import xml.etree.ElementTree as ET
from functools import cache
from itertools import combinations

import pytest
from processes import CLI, run
from refusing import refused

from xlstm.cli.main import main
from xlstm.counting.explain import explain
from xlstm.counting.picture import draw, layout
from xlstm.errors import MissingFrameworkError, UnsupportedError

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


def texts(document):
    found = ET.fromstring(document).iter(f"{SVG}text")
    return ["".join(element.itertext()).strip() for element in found]


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
    assert found.title in said
    assert f"{found.formula} = {found.numbers}" in said
    for column in found.columns:
        shown = f"{column.title}: {column.total or 0:,} parameters" in said
        assert shown == (column.total is not None)
    assert any("Drawn to scale" in text for text in said)


@every_picture
def test_type_is_legible_at_100_percent(name):
    root = ET.fromstring(svg(name))
    assert root.get("viewBox") == f"0 0 {root.get('width')} {root.get('height')}"
    styles = [element.get("style") for element in root.iter(f"{SVG}text")]
    sizes = [size for style in styles for size in re.findall(r"([\d.]+)px", style)]
    assert sizes
    assert min(map(float, sizes)) >= 9


@cache
def boxes(name):
    """(text, its box) in pixels from the upper left, as matplotlib draws them; and the size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = draw.figure(drawn(name))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    wide, high = canvas.get_width_height()
    found = []
    for text in figure.axes[0].texts:
        box = text.get_window_extent(canvas.get_renderer())
        found.append((text.get_text(), (box.x0, high - box.y1, box.x1, high - box.y0)))
    return found, (0, 0, wide, high)


def meet(a, b, slack=0.5):
    return min(a[2], b[2]) - max(a[0], b[0]) > slack and min(a[3], b[3]) - max(a[1], b[1]) > slack


def within(a, b, slack=0.5):
    low = b[0] - slack <= a[0] and b[1] - slack <= a[1]
    return low and a[2] <= b[2] + slack and a[3] <= b[3] + slack


def sheet(found):
    return layout.layout(found, draw._measure)


@cache
def laid_out(name):
    return sheet(drawn(name))


def sides(block):
    return block.x, block.y, block.x + block.wide, block.y + block.high


@every_picture
def test_nothing_overlaps_and_nothing_is_cut_off(name):
    said, page = boxes(name)
    blocks = [sides(block) for block in laid_out(name).blocks]
    for text, box in said:
        assert within(box, page), text
    for (text, box), (other, around) in combinations(said, 2):
        assert not meet(box, around), (text, other)
    for text, box in said:
        for block in blocks:
            assert within(box, block) or not meet(box, block), text
    for block, other in combinations(blocks, 2):
        assert not meet(block, other)


def segments(lines):
    for line in lines:
        for (x0, y0), (x1, y1) in zip(line.points, line.points[1:], strict=False):
            yield min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1)


@every_picture
def test_arrows_cross_no_text_and_no_tensor(name):
    (said, _), laid = boxes(name), laid_out(name)
    for x0, y0, x1, y1 in segments(line for line in laid.lines if line.head):
        reach = (x0 - 0.6, y0 - 0.6, x1 + 0.6, y1 + 0.6)
        for text, box in said:
            assert not meet(reach, box), text
        for block in laid.blocks:
            assert not meet(reach, sides(block), 1.5)


@every_picture
def test_arrows_lead_to_the_same_gate_of_every_framework(name):
    found, laid = drawn(name), laid_out(name)
    arrows = [line for line in laid.lines if line.head]
    gates = {g for row in found.tensors for g in row.gates.split()} or {""}
    frameworks = {row.framework for row in found.tensors}
    assert len(arrows) == len(gates) * (len(frameworks) - 1)
    for arrow in arrows:
        for x, y in (arrow.points[0], arrow.points[-1]):
            touched = [
                block
                for block in laid.blocks
                if block.x - 0.1 <= x <= block.x + block.wide + 0.1
                and block.y - 0.1 <= y <= block.y + block.high + 0.1
            ]
            assert [block.gate for block in touched] == [arrow.gate]


@every_picture
def test_blocks_are_to_scale(name):
    found, laid = drawn(name), laid_out(name)
    legend = len({g for row in found.tensors for g in row.gates.split()})
    for block in laid.blocks[legend:]:
        for side in (block.wide, block.high):
            numbers = side / laid.scale
            assert abs(numbers - round(numbers)) < 1e-6 or side in (3.0, 6.0)


def test_a_block_is_as_large_as_its_gate():
    laid = sheet(explain("LSTM", features=4, units=5))
    areas = sum(block.wide * block.high for block in laid.blocks[4:]) / laid.scale**2
    assert areas == pytest.approx(3 * 200 + 220)


def test_pictures_are_the_same_every_time_whatever_is_set():
    import matplotlib as mpl

    first = svg("usual")
    assert drawn("usual").to_svg() == first
    odd = {"font.size": 30, "axes.facecolor": "red", "svg.fonttype": "path", "text.usetex": True}
    with mpl.rc_context(odd):
        before = dict(mpl.rcParams)
        assert drawn("usual").to_svg() == first
        assert dict(mpl.rcParams) == before


def test_drawing_imports_no_pyplot_and_text_no_matplotlib():
    done = run(
        "import sys, xlstm\n"
        "found = xlstm.explain('LSTM', features=3, units=5)\n"
        "str(found), found.to_markdown(), found.to_json()\n"
        "assert 'matplotlib' not in sys.modules\n"
        "found.to_svg()\n"
        "assert 'matplotlib.pyplot' not in sys.modules\n"
    )
    assert done.returncode == 0, done.stderr


def test_without_matplotlib(monkeypatch):
    found = explain("LSTM", features=3, units=5)
    assert "<img" in found._repr_html_()
    monkeypatch.setattr(draw.importlib.util, "find_spec", lambda _name: None)
    refused(
        MissingFrameworkError, found.to_svg, "matplotlib", "pip install 'xlstm-converter[draw]'"
    )
    html = found._repr_html_()
    assert "<img" not in html
    assert "4 n (m + n + 1)" in html


def test_a_layer_that_no_framework_has_can_not_be_drawn():
    found = explain("LSTM", features=3, units=5, peepholes=True)
    if not found.tensors:
        refused(UnsupportedError, found.to_svg, "Keras", "leave the picture out")
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
    assert done.stderr.endswith("gru.svg: No such file or directory\n")
