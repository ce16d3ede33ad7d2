"""Proves ports equal: runs frameworks on the same inputs against a float64 reference.

In: a model and its ports. Out: a `Report`. Read `reconcile` first, then `run` and `bounds`.
"""
