"""Writes models as code of a framework. In: anything that `load` takes. Out: objects or files.

Read `port` first, then `save`.
"""
