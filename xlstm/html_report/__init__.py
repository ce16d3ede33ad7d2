"""The page of a comparison: one HTML file that needs no network and no script.

In: `Content`, the parts of a report. Out: the text of the page. Read `page` first; `markup` escapes
every text, `charts` and `model_picture` draw, `style` has the style sheet.
"""
