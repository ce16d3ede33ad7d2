"""Adapters, one for each framework, and functions of the core that use them.

`adapter` has the contract, `registry` finds adapters by name, `model_tensors` lists the tensors of
a model in a framework, `recognise` finds the framework of arrays by their names. Nothing here
imports a framework.
"""
