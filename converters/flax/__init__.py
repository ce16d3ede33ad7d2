"""Flax, in both of its interfaces: `linen` and `nnx` are the adapters, `slots` the tensors.

Both use `write`, where `dialect` has the differences, and `read`.
"""
