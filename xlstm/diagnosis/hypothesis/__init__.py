"""Altered copies of a model, and the sentences that name the change.

Read `hypothesis` first; `altered_model` makes the copies.
"""
