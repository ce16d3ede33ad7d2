"""Flax, in both of its interfaces, Linen and NNX: `adapter` has one for each, `slots` the tensors.

Both use `write`, where `dialect` has the differences, and `read`.
"""
