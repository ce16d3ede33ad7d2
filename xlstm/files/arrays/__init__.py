"""Files of arrays by name: safetensors, `.npz` and Flax msgpack.

In: a path. Out: arrays by name. Read `named_arrays` first; the others are one format each.
"""
