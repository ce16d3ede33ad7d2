"""Drawings of one layer's parameters, as SVG. Read `layout` first, then `panels` and `draw`."""
