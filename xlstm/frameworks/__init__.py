"""Adapters, one for each framework, and what the core asks of them.

`adapter` has the contract, `registry` finds adapters by name, `model_tensors` lists the tensors
that a model has in a framework, `recognise` tells the framework of arrays by their names. Nothing
here imports a framework.
"""
