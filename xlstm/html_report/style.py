"""The style sheet of a page: for light and dark screens, phones, and paper.

Colours of texts have a contrast of at least 4.5 to 1. The four colours of lines are those of
`explain`, with styles of their own for readers who see no colours.
"""

from __future__ import annotations

import base64
import hashlib

STYLE = """
:root { color-scheme: light dark;
--page: #ffffff; --text: #1b1f24; --soft: #57606a; --rule: #d5dae0; --card: #f5f7f9;
--good: #0f5f2c; --good-card: #e3f5e8; --bad: #9b1023; --bad-card: #fdeaec;
--unsure: #6b4700; --unsure-card: #fcf3d7; --own: #5a3d99; --link: #0757b3; --limit: #b3261e;
--s0: #0072b2; --s1: #c04f00; --s2: #a3457b; --s3: #00795a; --s4: #6a5acd; --s5: #6b6b00; }
@media screen and (prefers-color-scheme: dark) { :root {
--page: #13171c; --text: #e6eaef; --soft: #a3adb8; --rule: #39414a; --card: #1c2229;
--good: #6fd38d; --good-card: #14291c; --bad: #ff9c9c; --bad-card: #331a1d;
--unsure: #e8c15a; --unsure-card: #2d2614; --own: #c3adff; --link: #82b8ff; --limit: #ff8a80;
--s0: #56b4e9; --s1: #ff9d5c; --s2: #e59bc5; --s3: #3fcfa2; --s4: #b3a7ff; --s5: #d2d255; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: auto; }
body { margin: 0 auto; padding: 16px 20px 48px; max-width: 1180px; background: var(--page);
color: var(--text); font: 15px/1.5 Arial, Helvetica, "DejaVu Sans", sans-serif;
overflow-wrap: anywhere; }
h1 { margin: 4px 0 12px; font-size: 22px; line-height: 1.25; }
h2 { margin: 36px 0 10px; padding-top: 12px; border-top: 1px solid var(--rule); font-size: 18px; }
h3 { margin: 20px 0 6px; font-size: 15px; }
p, ul, ol { margin: 8px 0; max-width: 78ch; } ul, ol { padding-left: 22px; } li { margin: 4px 0; }
a { color: var(--link); }
nav { margin: 14px 0; line-height: 2; } nav a { margin-right: 14px; white-space: nowrap; }
.soft, figcaption { color: var(--soft); }
.verdict { margin: 12px 0; padding: 12px 16px; border-left: 5px solid; border-radius: 4px; }
.verdict p { margin: 0; font-size: 18px; font-weight: bold; max-width: none; }
.verdict.good { color: var(--good); background: var(--good-card); border-color: var(--good); }
.verdict.bad { color: var(--bad); background: var(--bad-card); border-color: var(--bad); }
.verdict.unsure { color: var(--unsure); background: var(--unsure-card);
border-color: var(--unsure); }
.next { margin: 12px 0; padding: 4px 16px 8px; background: var(--card); border-radius: 4px; }
.next h2 { margin: 8px 0 4px; padding: 0; border: 0; font-size: 15px; }
.wide { margin: 10px 0; overflow-x: auto; }
.wide:focus-visible, summary:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 14px; width: max-content; }
th, td { padding: 5px 12px 5px 0; border-bottom: 1px solid var(--rule); text-align: left;
vertical-align: top; max-width: 30ch; min-width: 6ch; overflow-wrap: break-word; }
thead th { color: var(--soft); font-weight: normal; vertical-align: bottom; }
tfoot td { font-weight: bold; border-bottom: 0; }
.number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
td.good { color: var(--good); } td.bad { color: var(--bad); font-weight: bold; }
td.unsure { color: var(--unsure); } td.own { color: var(--own); }
pre { margin: 8px 0; padding: 10px 12px; white-space: pre-wrap;
background: var(--card); border-radius: 4px;
font: 13px/1.6 "DejaVu Sans Mono", Consolas, monospace; }
code { font: 13px "DejaVu Sans Mono", Consolas, monospace; }
details { margin: 10px 0; } summary { color: var(--link); cursor: pointer; }
.charts { display: grid; gap: 18px 28px; margin: 12px 0;
grid-template-columns: repeat(auto-fill, minmax(min(330px, 100%), 1fr)); }
figure { margin: 0; min-width: 0; } figcaption { margin-bottom: 4px; font-size: 14px; }
svg, img { display: block; max-width: 100%; height: auto; } svg.chart { width: 420px; }
svg.model { width: 350px; } svg.sample { display: inline-block; width: 34px; height: 12px;
margin-right: 6px; vertical-align: middle; }
svg text { fill: var(--soft); font-size: 11px; } svg.model text.name { fill: var(--text);
font-size: 13px; } .axis { stroke: var(--soft); } .grid { stroke: var(--rule); }
.box { fill: var(--card); stroke: var(--rule); } .box.recurrent { stroke: var(--s0);
stroke-width: 2; } .box.input { fill: var(--page); stroke-dasharray: 4 3; stroke: var(--soft); }
.edge { fill: none; stroke: var(--soft); stroke-width: 1.2; } .bar { fill: var(--s0); }
.line { fill: none; stroke-width: 1.8; stroke-linejoin: round; }
.limit { stroke: var(--limit); stroke-width: 2.2; } rect.unsure { fill: var(--unsure-card); }
.s0 { stroke: var(--s0); } .s1 { stroke: var(--s1); stroke-dasharray: 7 3; }
.s2 { stroke: var(--s2); stroke-dasharray: 2 2; } .s3 { stroke: var(--s3);
stroke-dasharray: 8 2 2 2; } .s4 { stroke: var(--s4); stroke-dasharray: 4 2; }
.s5 { stroke: var(--s5); stroke-dasharray: 1 3; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 20px; padding: 0; list-style: none; }
.columns { display: grid; gap: 8px 36px; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 900px) { .columns { grid-template-columns: 350px minmax(0, 1fr); } }
@media (max-width: 480px) { body { padding: 10px 14px 32px; } }
@media print { :root { color-scheme: light; } nav { display: none; }
body { max-width: none; padding: 0; font-size: 11px; }
h2 { break-after: avoid; } figure, tr, .verdict, .next { break-inside: avoid; }
.wide { overflow: visible; } table { font-size: 10px; width: auto; }
.verdict, .next { border: 1px solid var(--rule); border-left-width: 5px; }
details::details-content { content-visibility: visible; block-size: auto; } }
"""


def policy() -> str:
    """Returns the Content-Security-Policy of a page: this style sheet, pictures inside, no more."""
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    parts = ("default-src 'none'", f"style-src 'sha256-{digest}'", "img-src data:")
    return "; ".join((*parts, "base-uri 'none'", "form-action 'none'"))
