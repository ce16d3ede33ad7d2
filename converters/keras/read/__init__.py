"""Reads a description of a Keras model of any version into a graph; imports no Keras.

Read `model` first, then `graph`, `inbound_nodes` and `builder`; `layers` has one rule per class.
"""
