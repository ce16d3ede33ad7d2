"""Reads live Flax modules into a graph: `cells` single layers, `sequential` chains of them."""
