"""Reads live Flax modules into a graph: `recurrent` single layers, `sequential` chains of them."""
