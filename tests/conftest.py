"""Lets the tests find the adapters where nothing is installed, and pins what frameworks read."""

import os
from pathlib import Path

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import xlstm

ROOT = Path(__file__).parents[1]
try:
    import xlstm.converters  # noqa: F401  installed, or mapped below
except ModuleNotFoundError:
    # `converters/` at the top of the checkout is the package xlstm.converters once installed
    import importlib.util
    import sys

    spec = importlib.util.spec_from_file_location(
        "xlstm.converters",
        ROOT / "converters" / "__init__.py",
        submodule_search_locations=[str(ROOT / "converters")],
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules["xlstm.converters"] = xlstm.converters = module
    spec.loader.exec_module(module)
