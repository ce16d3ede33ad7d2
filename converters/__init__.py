"""Converters, one folder for each framework, installed as `xlstm.converters`.

Each folder has the same modules: `slots` (the PyTorch, Keras or Flax name of every tensor),
`native` (layers that the framework computes exactly), `read` (framework to graph), `write` (graph
to source text), `templates` (classes copied into emitted modules), `live` (imports the framework;
runs, counts), and `adapter`, which `xlstm.frameworks.registry` names. `codegen` has the parts of
source text that all writers share.
"""
