"""Readers of model files, with numpy alone; no file is trusted.

In: a path. Out: a `Description`, the same for all containers, with configs as plain data. The
adapter of the framework that wrote the file interprets the configs.
"""

from xlstm.files.description import Description, Stored
from xlstm.files.detect import describe

__all__ = ["Description", "Stored", "describe"]
