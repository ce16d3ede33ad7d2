"""The framework-neutral model: the result of every reader, and the input of every writer.

`graph` has the model and its nodes, `layers` the specs of single layers, `source` the file or
object that was read, `serialize` the JSON of a model. Readers and writers share the other modules:
names, literals, activations, einsum equations. Nothing here imports a framework or reads a file.

Read `graph` first, then `layers.base` and `layers.recurrent`.
"""
