"""Proofs that travel with a port: tests, golden numbers and a statement for its receiver.

In: a port that was written. Out: files in its folder. Read `files` first, then `golden`.
"""
