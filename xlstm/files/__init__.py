"""Readers of model files, with numpy alone; every file is taken for hostile.

Each container is read into one neutral `Description`; what its configs mean is the business of the
adapter of the framework that wrote it.
"""

from xlstm.files.description import Description, Stored
from xlstm.files.detect import describe

__all__ = ["Description", "Stored", "describe"]
