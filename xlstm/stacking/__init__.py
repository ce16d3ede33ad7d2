"""Puts many models of one architecture into one module that runs all of them at once.

In: ports or models of one architecture. Out: one module with stacked weights, and back.
"""
