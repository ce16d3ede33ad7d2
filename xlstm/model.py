"""The framework-neutral model and its layers, under their public name."""

from xlstm.ir.graph import *  # noqa: F403
from xlstm.ir.graph import __all__ as __all__
