"""Reads any source as a Model.

In: a file, a ported folder, a live object, named arrays. Out: a Model. Read `load` first.
"""
