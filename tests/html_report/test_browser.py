"""Pages in a headless Chromium, on phones and wide screens, light and dark."""

import json
import os
import shutil
import tempfile
import time

import fleet_rows
import pages
import pytest
from paths import CORPUS, DATA, needs_corpus

import xlstm

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright: the extra dev")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra dev")

NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), "")

pytestmark = pytest.mark.skipif(not CHROMIUM, reason=f"no browser: none of {', '.join(NAMES)}")

SMALL = {
    "seq2seq": lambda: _of_file(DATA / "k3" / "seq2seq.keras"),
    "masked": lambda: _of_file(DATA / "k212" / "stacked.h5"),
    "hostile": lambda: xlstm.reconcile(pages.hostile(), ["torch"], states=True),
    "different": pages.different,
    "undecided": pages.undecided,
    "fleet": lambda: _fleet(fleet_rows.ROWS),
    "hostile fleet": lambda: _fleet([*fleet_rows.ROWS, *fleet_rows.hostile_rows()]),
}
REAL = {
    "gesture": "k2.4-gesture-lstm-relu/model2_1.0.h5",
    "rasa": "k2.1-rasa-masking-lstm/keras_model.h5",
    "char-gru": "k2.6-char-gru/char_rnn.h5",
}
CASES = [*SMALL, *(pytest.param(name, marks=needs_corpus) for name in REAL)]

TEXTS = """() => {
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let node; (node = walk.nextNode()); ) {
    if (!node.data.trim() || !node.parentElement.checkVisibility()) continue;
    const range = document.createRange(), own = node.parentElement.closest('.wide');
    range.selectNodeContents(node);
    const edge = own ? own.getBoundingClientRect() : {left: 0, right: innerWidth};
    const rects = [...range.getClientRects()].map(r => [Math.max(r.left, edge.left), r.top,
      Math.min(r.right, edge.right), r.bottom]).filter(r => r[2] - r[0] > 1 && r[3] - r[1] > 1);
    if (rects.length) found.push([node.data, rects]);
  }
  return found;
}"""
"""The visible texts, with the rectangle of each of their lines."""


def _of_file(path):
    return xlstm.reconcile(path, ["torch"], states=True)


def _fleet(rows):
    with tempfile.TemporaryDirectory() as folder:
        return fleet_rows.report_on(folder, rows)


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        found = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def page_of(tmp_path_factory):
    """Writes the page of a case once."""
    folder, written = tmp_path_factory.mktemp("pages"), {}

    def write(name):
        if name not in written:
            report = SMALL[name]() if name in SMALL else _of_file(CORPUS / REAL[name])
            written[name] = folder / f"{name}.html"
            report.save_html(written[name])
        return written[name]

    return write


@pytest.fixture
def opened(browser, page_of):
    """Opens the page of a case; nothing is logged, and nothing else is asked for."""
    said, asked = [], []
    shown = []

    def show(name, width=1440, scheme="light", path=None):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        shown.append(page)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((path or page_of(name)).as_uri())
        return page

    yield show
    for page in shown:
        page.close()
    assert said == []
    files = [url for url in asked if not url.startswith("data:image/svg+xml;base64,")]
    assert len(files) == len(shown), asked
    assert all(url.startswith("file://") for url in files)


def unfold(page):
    page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")


def overlaps(texts):
    """Pairs of texts with lines that cover each other by more than a pixel each way."""
    lines = sorted((top, left, right, low, n) for n, (_, rects) in enumerate(texts)
                   for left, top, right, low in rects)  # fmt: skip
    found, near = [], []
    for top, left, right, low, n in lines:
        near = [one for one in near if one[3] - 1 > top]
        found += [
            (texts[n][0][:40], texts[m][0][:40])
            for _, x, end, bottom, m in near
            if m != n and min(right, end) - max(left, x) > 1 and min(low, bottom) - top > 1
        ]
        near.append((top, left, right, low, n))
    return found


def test_overlaps_are_found(browser):
    page = browser.new_page()
    page.set_content("<p>one</p><p style='margin-top: -24px'>two</p><p>three</p>")
    assert overlaps(page.evaluate(TEXTS)) == [("two", "one")]
    page.close()


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("width", [390, 1440])
def test_a_page_fits_its_screen(opened, name, width):
    page = opened(name, width)
    for scheme, back in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(19, 23, 28)")):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == back
        if folder := os.environ.get("XLSTM_SCREENSHOTS"):
            page.screenshot(path=f"{folder}/{name}-{width}-{scheme}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        texts = page.evaluate(TEXTS)
        assert len(texts) > 50
        assert overlaps(texts) == []
        unfold(page)


def check_axe(page):
    unfold(page)
    found = axe.Axe().run(page).response
    loud = [one for one in found["violations"] if one["impact"] in ("serious", "critical")]
    assert loud == [], json.dumps(loud, indent=1)[:3000]
    assert {one["id"] for one in found["passes"]} >= {"color-contrast", "document-title"}


@pytest.mark.parametrize("name", CASES)
def test_axe_finds_nothing_serious(opened, name):
    check_axe(opened(name, 390, "light"))


@pytest.mark.parametrize("name", ["hostile", "different"])
def test_axe_finds_nothing_serious_in_the_dark(opened, name):
    """The palette is one: two pages have all its colours."""
    check_axe(opened(name, 1440, "dark"))


def test_hostile_names_are_text_in_the_document(opened):
    page = opened("hostile")
    unfold(page)
    assert page.title().startswith("Report on <b><script>")
    assert page.evaluate("document.scripts.length") == 0
    assert page.evaluate("document.querySelectorAll('b, i, [onload], [onerror]').length") == 0
    cells = page.locator("#targets tbody td:first-child").all_inner_texts()
    assert pages.SCRIPT in cells
    assert pages.QUOTES in cells
    assert any(cell.startswith(r"rtl\u202e\u200f") for cell in cells)
    assert any(cell == "x" * 159 + "…" for cell in cells)


def test_nothing_else_can_run(browser, tmp_path, page_of):
    text = page_of("different").read_text("utf-8")
    path, said = tmp_path / "attacked.html", []
    bad = (
        "<script>document.title='run'</script><p style='color: red'>x</p><img src='http://[::1]/'>"
    )
    path.write_text(text.replace("</main>", f"{bad}</main>"), "utf-8")
    page = browser.new_page()
    page.on("console", lambda message: said.append(message.text))
    page.goto(path.as_uri())
    assert page.title().startswith("Report on")
    shade = page.evaluate("getComputedStyle(document.querySelector('main > p:last-of-type')).color")
    assert shade != "rgb(255, 0, 0)"
    page.close()
    for part in ("inline script", "inline style", "image"):
        assert any(part in line and "Content Security Policy" in line for line in said), said


def test_folded_parts_are_printed(opened):
    page = opened("different", 800, "dark")
    notes = page.locator("details li").first
    assert not notes.is_visible()
    page.emulate_media(media="print")
    assert notes.bounding_box()["height"] > 10
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"


def test_five_hundred_layers_stay_usable(opened, tmp_path):
    path = tmp_path / "deep.html"
    pages.very_deep(500).save_html(path)
    assert path.stat().st_size < 5e6
    start = time.monotonic()
    page = opened("deep", 390, path=path)
    assert page.evaluate("document.documentElement.scrollHeight") < 12_000, "folded"
    unfold(page)
    assert page.evaluate("document.documentElement.scrollHeight") > 25_000
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert time.monotonic() - start < 30
