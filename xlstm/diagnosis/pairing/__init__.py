"""Weights of two models, paired and compared. In: models. Out: pairs, and tensors that differ.

Read `tensors` first (pairs of tensors), then `weights` (what differs in a pair).
"""
