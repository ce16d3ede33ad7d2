"""Parts of emitted source that every writer shares. In: a graph. Out: lines of Python.

Read `source` first.
"""
