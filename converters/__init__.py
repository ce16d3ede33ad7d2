"""Converters, one folder for each framework, installed as `xlstm.converters`.

Each has the same rooms: `slots` (where every tensor goes), `native` (what the framework's own
layers compute), `read` (framework to graph), `write` (graph to source text), `templates` (classes
copied into emitted modules), `live` (imports the framework; runs, counts), and `adapter`, which
`xlstm.frameworks.registry` names. `codegen` is shared by all that write.
"""
