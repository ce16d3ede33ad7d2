"""HDF5 files, checked before the C library opens them.

In: a path. Out: groups, attributes and datasets. `library` reads through h5py; `blocks` and
`messages` walk the file's own structures first, so that no damaged file reaches the library.
"""
