"""The page of a report: the verdict first, then the model, counts, errors, and how to repeat it.

In: `Content`. Out: one HTML file as text. It has no script, and loads nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xlstm.counting.ledger import Ledger, count_table, counted, reasons
from xlstm.counting.support import NATIVE, OWN, REFUSED, verdicts
from xlstm.frameworks import registry
from xlstm.html_report.charts import (
    SERIES,
    Curve,
    Histogram,
    draw_curve,
    draw_histogram,
    share,
    svg,
)
from xlstm.html_report.document import document
from xlstm.html_report.markup import (
    Child,
    Html,
    element,
    folded,
    joined,
    listed,
    name_of,
    sentence,
    table,
)
from xlstm.html_report.model_picture import draw_model
from xlstm.ir.graph import Model
from xlstm.rendering.tables import Grid, kind_text, shape_text

MOST_ROWS = 30
"""Most rows of a table, or boxes of the model, that are shown at once."""

MOST_CURVES = 4
"""Most charts of errors over time that are shown at once."""

MOST_DRAWN = 40
"""Most charts of errors over time on a page: those closest to their limits."""

MOST_LISTED = 1000
"""Most rows of a table of single comparisons."""

GOOD, BAD, UNSURE = "good", "bad", "unsure"


@dataclass(frozen=True)
class Advice:
    """One thing to do next: a sentence, and a command if there is one."""

    text: str
    command: str = ""


@dataclass(frozen=True)
class Content:
    """Everything that a page shows, in plain words and numbers.

    Attributes:
        model: the model of the comparison.
        ledger: the counts.
        state: "good", "bad" or "unsure".
        summary: the verdict in one line.
        steps: advice.
        notes: lines about details of the comparison.
        verdicts: a row for each framework and precision.
        shares: the largest error of each of these rows as a share of its limit.
        parts: title -> table of hidden states, gradients and the like.
        curves: errors over time steps.
        histograms: errors in ULP.
        worst: a row for the worst element of each framework and precision.
        worst_line: a sentence about the worst of these.
        inputs: description of the inputs.
        recipe: options that generate the same inputs again.
        versions: package -> version.
        platform: of the machine.
        commands: how to repeat the comparison.
    """

    model: Model
    ledger: Ledger
    state: str
    summary: str
    steps: tuple[Advice, ...]
    notes: tuple[str, ...]
    verdicts: Grid
    shares: tuple[float | None, ...]
    parts: Mapping[str, Grid]
    curves: tuple[Curve, ...]
    histograms: tuple[Histogram, ...]
    worst: Grid
    worst_line: str
    inputs: str
    recipe: Mapping[str, object]
    versions: Mapping[str, str]
    platform: str
    commands: tuple[str, ...]


def page(content: Content) -> str:
    """Returns the page as the text of an HTML file."""
    sections = [
        ("model", "The model", _model(content)),
        ("targets", "Support in each target", _targets(content.model)),
        ("counts", "Parameter counts", _counts(content.ledger)),
        ("gates", "Gate layout, to scale", _gates(content.model)),
        ("steps", "Error over time steps", _curves(content.curves)),
        ("ulp", "Errors in ULP", _histograms(content.histograms)),
        ("worst", "The worst element", _worst(content)),
        ("environment", "Environment", _environment(content)),
        ("repeat", "How to repeat this", _repeat(content)),
    ]
    links = (element("a", heading, href=f"#{name}") for name, heading, _ in sections)
    title = f"Report on {content.model.name}"
    header = element("header", element("h1", "Report on ", name_of(content.model.name, 80)))
    body = element(
        "main",
        *_verdict(content),
        element("nav", joined(links, " "), aria_label="Parts of this page"),
        *(_section(*one) for one in sections),
    )
    return document(title, header, body)


def _section(name: str, heading: str, children: Sequence[Child]) -> Html:
    return element("section", element("h2", heading), *children, id=name)


def _verdict(content: Content) -> list[Html]:
    """The verdict, advice, the table of the comparison, and its notes."""
    summary = element(
        "div", element("p", sentence(content.summary)), class_=f"verdict {content.state}"
    )
    steps = [
        element("li", step.text, element("pre", element("code", step.command), tabindex="0"))
        if step.command
        else element("li", step.text)
        for step in content.steps
    ]
    found = [element("section", summary, aria_label="Verdict")]
    if steps:
        head = element("h2", "What to do next", id="next")
        found.append(element("div", head, element("ul", *steps), class_="next"))
    rows = [(*content.verdicts.rows[0], "from 0 to the limit")]
    for row, ratio in zip(content.verdicts.rows[1:], content.shares, strict=True):
        place = content.verdicts.rows[0].index("of the limit")
        many = f"{ratio:.3g} times" if ratio is not None and ratio >= 10 else row[place]
        rows.append((*row[:place], many, *row[place + 1 :], _meter(ratio)))
    found.append(table(rows, "Verdicts", content.verdicts.left))
    notes = listed(content.notes)
    if notes:
        few = len(content.notes) <= 6
        found.append(notes if few else folded(f"{len(content.notes)} notes", notes))
    return found


def _meter(ratio: float | None) -> Html:
    """A bar from 0 to the limit, which a difference above the limit fills."""
    if ratio is None:
        return Html("-")
    parts = (
        element("rect", x=0, y=1, width=100, height=10, class_="box"),
        element("rect", x=0, y=1, width=f"{min(ratio, 1) * 100:.3g}", height=10, class_="bar"),
        element("line", x1=100, x2=100, y1=0, y2=12, class_="limit"),
    )
    return svg(f"{100 * ratio:.0f} % of the limit", 12, *parts, wide=102, class_="meter")


def _model(content: Content) -> list[Child]:
    """The picture, with the facts about the source beside it."""
    model = content.model
    source = model.source
    kinds = Counter(kind_text(node) for node in model.layers)
    inputs = ", ".join(shape_text(model.node(name).shape) for name in model.inputs)
    facts = {
        "source": f"{source.file or 'no file'}: {source.container}" if source.container else "",
        "written by": f"{source.framework} {source.version}".strip(),
        "SHA-256": source.sha256,
        "one sample": inputs if len(inputs) < 200 else f"{len(model.inputs)} inputs",
        "layers": ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(12)),
    }
    rows = [("", "value"), *((name, value) for name, value in facts.items() if value)]
    rows[0] = ("fact", "value")
    picture: Child = draw_model(model)
    if len(model.nodes) > MOST_ROWS:
        picture = folded(f"Show all {len(model.nodes)} boxes", picture)
    text = (
        "Time runs inside the recurrent layers, which have a thick frame. Shapes are those of one "
        "sample; any is a free size."
    )
    beside = element("div", element("p", text), table(rows, "The source", 2, mark=False))
    return [element("div", element("div", picture), beside, class_="columns")]


def _targets(model: Model) -> list[Child]:
    """A row for each target with its numbers of layers, then a row for each layer."""
    adapters = [registry.adapter(name) for name in registry.frameworks()]
    found = {a.title: dict(verdicts(model, a)) for a in adapters}
    others = {v.word for every in found.values() for v in every.values()}
    words = [NATIVE, OWN, REFUSED, *sorted(others - {NATIVE, OWN, REFUSED})]
    sums = [("target", *words)]
    for title, every in found.items():
        counts = Counter(v.word for v in every.values())
        sums.append((title, *(f"{counts[word]:,}" for word in words)))
    whys: dict[str, int] = {}
    rows: list[tuple[str, ...]] = [("layer", "kind", "output", *(f"to {t}" for t in found))]
    for node in model.layers:
        if not node.layer:
            each = (every[node.name] for every in found.values())
            cells = (
                f"{v.word} [{whys.setdefault(v.why, len(whys) + 1)}]" if v.why else v.word
                for v in each
            )
            rows.append((node.name, kind_text(node), shape_text(node.shape), *cells))
    text = (
        "Native: a layer of the framework itself. Own cell: exact code that the port brings. "
        "Refused: the target has no exact form, so nothing is written."
    )
    whole = table(rows, "Support of each layer", len(rows[0]))
    return [
        element("p", text),
        table(sums, "Number of layers by support", mark=False),
        _folded_rows(whole, len(rows) - 1, "layers"),
        _reasons(whys),
    ]


def _folded_rows(whole: Html, count: int, what: str) -> Html:
    return whole if count <= MOST_ROWS else folded(f"Show all {count:,} {what}", whole)


def _reasons(whys: Iterable[str]) -> Html | None:
    """The reasons, each once, in the order of their numbers."""
    return listed(whys, "ol")


def _counts(ledger: Ledger) -> list[Child]:
    found = count_table(ledger)
    whole = table(found.rows, "Parameters of each layer", found.left, foot=1)
    lines = listed(reasons(ledger))
    why = [element("h3", "Reasons"), lines] if lines else []
    rows = _folded_rows(whole, len(found.rows) - 2, "layers")
    return [element("p", counted(ledger)), rows, *why]


def _gates(model: Model) -> list[Child]:
    # a comparison without a page does without `explain`
    from xlstm.html_report.gates import gate_pictures

    figures, left = gate_pictures(model)
    if not figures and not left:
        return [element("p", "The model has no recurrent layer.")]
    return [element("div", *figures, class_="charts"), listed(left)]


def _curves(curves: Sequence[Curve]) -> list[Child]:
    """Charts, those closest to their limits first; a legend for all."""
    if not curves:
        return [element("p", "No output that was compared has a time axis.")]
    ordered = sorted(curves, key=lambda curve: -curve.nearness)
    shown = [_curve(curve) for curve in ordered[:MOST_CURVES]]
    rest = [_curve(curve) for curve in ordered[MOST_CURVES:MOST_DRAWN]]
    text = (
        "The largest error of each step, and the largest that rounding allows there. The axis of "
        "errors is logarithmic; an error of 0 lies on the lowest line. The outputs closest to "
        "their limits come first."
    )
    more = folded(f"Show {len(rest)} more charts", element("div", *rest, class_="charts"))
    charts = element("div", *shown, class_="charts")
    left = len(ordered) - MOST_DRAWN
    line = f"Not drawn: {left:,} outputs that are further from their limits."
    last = element("p", line) if left > 0 else None
    return [element("p", text), _legend(curves), charts, more if rest else None, last]


def _curve(curve: Curve) -> Html:
    caption = element("figcaption", name_of(curve.output, 80), f", {curve.precision}")
    return element("figure", caption, draw_curve(curve))


def _legend(curves: Sequence[Curve]) -> Html:
    styles = {line.label: line.style for curve in curves for line in curve.lines}
    samples = {label: f"line s{style % SERIES}" for label, style in styles.items()}
    samples["the limit"] = "line limit"
    items = [
        element("li", _sample(element("line", x1=0, x2=34, y1=6, y2=6, class_=kind)), label)
        for label, kind in samples.items()
    ]
    if not all(curve.decided.all() for curve in curves):
        box = element("rect", x=0, y=0, width=34, height=12, class_="unsure")
        items.append(element("li", _sample(box), "steps without a verdict"))
    return element("ul", *items, class_="legend")


def _sample(part: Html) -> Html:
    return element("svg", part, viewBox="0 0 34 12", class_="sample", aria_hidden="true")


def _histograms(histograms: Sequence[Histogram]) -> list[Child]:
    if not histograms:
        return [element("p", "No output was compared.")]
    figures = []
    for found in histograms:
        total = sum(found.counts)
        caption = f"{found.framework} {found.precision}: {total:,} numbers, "
        caption += f"{share(found.counts[0], total or 1)} exact"
        figures.append(element("figure", element("figcaption", caption), draw_histogram(found)))
    text = (
        "One ULP here is the rounding unit of the precision times the largest number of the step. "
        "The bar at 0 counts exact numbers. Each other bar counts errors below the number at its "
        "right end; a last bar without a number counts those from 4096 on."
    )
    return [element("p", text), element("div", *figures, class_="charts")]


def _worst(content: Content) -> list[Child]:
    if len(content.worst.rows) < 2:
        return [element("p", "No output was compared.")]
    whole = table(content.worst.rows, "Worst elements", content.worst.left)
    return [
        element("p", sentence(content.worst_line)),
        whole,
        *(_part(title, part) for title, part in content.parts.items()),
    ]


def _part(title: str, part: Grid) -> Html:
    count = len(part.rows) - 1
    line = f"These are the first {MOST_LISTED:,} of {count:,}."
    more = element("p", line) if count > MOST_LISTED else None
    rows = part.rows[: MOST_LISTED + 1]
    return folded(f"{title}: {count:,}", table(rows, title, part.left), more)


def _environment(content: Content) -> list[Child]:
    rows = [("package", "version"), *content.versions.items(), ("machine", content.platform)]
    return [table(rows, "Versions", 2, mark=False)]


def _repeat(content: Content) -> list[Child]:
    lines = joined((element("code", f"{line}") for line in content.commands), "\n")
    found: list[Child] = [element("pre", lines, tabindex="0")]
    found.append(element("p", sentence(f"Inputs: {content.inputs}.")))
    if content.recipe:
        rows = [("option", "value"), *((k, str(v)) for k, v in content.recipe.items())]
        found.append(folded("Options of these inputs", table(rows, "Recipe", 2, mark=False)))
    return found
