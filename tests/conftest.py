"""Pins what frameworks read, and saves what coverage measures."""

import gc
import os
import signal
import sys
from pathlib import Path

HERE = Path(__file__).parent
# helpers lie below support, and some tests share those of others
HELPERS = [path.parent for path in (HERE / "support").rglob("*.py")]
TESTS = [path.parent for path in HERE.rglob("test_*.py")]
for folder in (HERE, *sorted({*HELPERS, *TESTS})):
    if str(folder) not in sys.path:
        sys.path.append(str(folder))

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
# TensorFlow 2.21 turns oneDNN off on processors without AVX-512; its own kernels then refuse
# convolutions with channels first, and transposed ones with a dilation
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# a test runs a program once or twice: XLA needs 7 times as long to make it fast as to make it
QUICK = (
    "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1"
)

# who runs the tests in the background of a script ignores Ctrl-C, and so would every child of ours
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

collect_ignore = ["data"]  # emitted modules are texts here


def pytest_configure():
    """Compiles quickly here; children and benchmarks, which configure no pytest, as users do."""
    os.environ.setdefault("XLA_FLAGS", QUICK)


def pytest_collection_finish():
    """Spares every later collection of garbage the objects of all tests and frameworks."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session):
    """Writes what coverage measured: a worker that is slow to end is killed before it would.

    The process that hands out the tests runs none: it has nothing to write.
    """
    if hasattr(session.config, "workerinput") and "coverage" in sys.modules:
        measuring = sys.modules["coverage"].Coverage.current()
        if measuring is not None:
            measuring.save()
