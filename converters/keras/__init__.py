"""Keras 1 to 3: `adapter` lists the other modules, `slots` the place of every tensor.

Reading and writing need no Keras; only `live` imports it.
"""
