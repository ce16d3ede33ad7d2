"""Keras 1 to 3: `adapter` names the rest, `slots` says where every tensor goes.

Reading and writing need no Keras; only `live` imports it.
"""
