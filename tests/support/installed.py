"""The frameworks of this environment: `make check-newest` runs without PyTorch."""

from xlstm.frameworks import registry

INSTALLED = [name for name in registry.frameworks() if registry.adapter(name).installed]
