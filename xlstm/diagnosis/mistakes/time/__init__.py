"""Mistakes over time: steps, states, masks, directions, and loops written by hand."""
