"""A runtime for numpy alone: ports are callables, and nothing is written.

`live.py` runs a model layer by layer; read it first. `layers.py` prepares the layers: recurrent
ones in `recurrent.py`, with the activations of `calls.py`, the others by the reference's functions.
The runtime of the recurrent layers shares no code with the reference, which judges it in the tests.
"""
