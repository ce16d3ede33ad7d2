"""Layers of users: `register` checks them, and `xlstm.ir.layer_registry` stores them by name.

In: a name, functions of numpy, source text for each framework. Out: nothing.
"""
