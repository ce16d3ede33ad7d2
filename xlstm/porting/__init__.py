"""Models written as code of a framework. In: anything that can be loaded. Out: files.

Read `port` first, then `save`.
"""
