"""Equinox for xlstm: `adapter` imports no Equinox, `live` does. Read `adapter` first."""
