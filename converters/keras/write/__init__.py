"""Writes a graph as Keras 3 code. In: a graph. Out: source text; `module` first, then `plan`."""
