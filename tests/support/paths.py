"""Where test files lie."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parents[1] / "data"
CORPUS = Path(os.environ.get("XLSTM_CORPUS", ROOT.parent / "shared" / "corpus"))

needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason=f"no corpus of real models at {CORPUS}: set XLSTM_CORPUS"
)
