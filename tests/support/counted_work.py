"""Counts what a call does, so that tests of growth never look at a clock."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Sequence
from types import FrameType
from typing import Any

from paths import ROOT

OURS = (str(ROOT / "xlstm"), str(ROOT / "converters"))


def lines(call: Callable[[], Any]) -> int:
    """Lines of our code that a call runs; every turn of a comprehension is one more."""
    count, before = 0, sys.gettrace()

    def local(_frame: FrameType, event: str, _arg: Any) -> Any:
        nonlocal count
        count += event == "line"
        return local

    def trace(frame: FrameType, _event: str, _arg: Any) -> Any:
        return local if frame.f_code.co_filename.startswith(OURS) else None

    sys.settrace(trace)
    try:
        call()
    finally:
        sys.settrace(before)
    return count


def exponent(make: Callable[[int], Callable[[], Any]], sizes: Sequence[int]) -> float:
    """How the work of `make(size)()` grows from the first size to the second."""
    first, second = (lines(make(size)) for size in sizes)
    return math.log(second / first) / math.log(sizes[1] / sizes[0])
