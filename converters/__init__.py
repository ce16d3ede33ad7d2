"""Converters, one folder for each framework, installed as `xlstm.converters`.

Folders have the same names in it: `slots` (the PyTorch, Keras or Flax name of every tensor),
`activations`, `read` (framework to graph), `write` (graph
to source text), `templates` (classes copied into emitted modules), `live` (imports the framework;
runs, counts), and `adapter` (Flax: `linen` and `nnx`), which `xlstm.frameworks.registry` names.
`torch/native` has the layers that nn.LSTM and its like compute exactly. `codegen` has the parts of
source text that all writers share, and `numpy` the reference as an adapter.
"""
