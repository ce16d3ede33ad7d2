"""Layers of users: registered by name, with source text for each framework.

Read `registry` first; `source_text` checks the code that ends up in a port.
"""
