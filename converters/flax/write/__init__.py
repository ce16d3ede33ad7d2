"""Writes a graph as a Flax module. In: a graph. Out: source text; `module` first."""
