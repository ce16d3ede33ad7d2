"""Reads HDF5 files without the C library.

In: a stream. Out: groups, attributes and datasets. Read `datasets` first, then `blocks` (the
structures of a file, and their fields).
"""
