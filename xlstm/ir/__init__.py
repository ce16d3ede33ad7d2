"""The framework-neutral model, which every reader makes and every writer takes.

`graph` has the model and its nodes, `layers` the specs of single layers, `source` where a model
comes from, `serialize` its JSON. The other modules are what readers and writers share: names,
literals, activations, einsum equations. Nothing here knows a framework or a file.

Read `graph` first, then `layers.base` and `layers.recurrent`.
"""
