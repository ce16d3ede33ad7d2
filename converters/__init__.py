"""One adapter per framework, installed as `xlstm.converters` and loaded by `xlstm.registry`.

For each framework: `*_tables` (data), `*_emit` (source text), `*_adapter` (the cold half that the
registry names) and `*_live` (the half that imports the framework). Only `*_live` modules import it.
"""
