"""Drawings of one layer's parameters.

In: an explanation. Out: the text of an SVG document. Read `layout` first, then `panels` and `draw`.
"""
