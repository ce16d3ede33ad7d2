"""Lets the tests find the adapters where nothing is installed, and pins what frameworks read."""

import importlib.util
import os
import sys
from pathlib import Path

import xlstm

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

collect_ignore = ["data"]  # emitted modules are texts here

if importlib.util.find_spec("xlstm.converters") is None:
    # the folder `converters` of the checkout is the package xlstm.converters once installed
    xlstm.__path__.append(str(Path(__file__).parents[1]))


def pytest_sessionfinish():
    """Writes what coverage measured: a worker that is slow to end is killed before it would."""
    if "coverage" in sys.modules:
        measuring = sys.modules["coverage"].Coverage.current()
        if measuring is not None:
            measuring.save()
