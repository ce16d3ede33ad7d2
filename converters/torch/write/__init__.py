"""Writes a graph as a PyTorch module. In: a graph. Out: source text; `module` first."""
