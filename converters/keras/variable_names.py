"""Names of variables as Keras itself writes them, beside those of the tables.

In: a name of a port's tensor, "lstm.kernel". Out: a pattern of the same variable's paths:
"lstm/kernel:0" (TensorFlow), "sequential/lstm/lstm_cell/kernel" (Keras 3), "lstm/lstm/kernel:0".

    pattern("lstm.kernel").fullmatch("sequential/lstm/lstm_cell/kernel")
"""

from __future__ import annotations

import re

ABOVE = r"(?:.*[./])?"
"""The models around a layer."""

CELL = r"(?:[./]\w*cell(?:_\d+)?)?"
"""The cell of a layer, above its variables."""

HALVES = {"forward_layer": r"forward_\w+", "backward_layer": r"backward_\w+"}
"""Names of the halves of Bidirectional in ports -> in paths."""


def pattern(name: str) -> re.Pattern[str]:
    """Returns a pattern for the paths of the variable that a port calls `name`.

    >>> bool(pattern("both.forward_layer.bias").fullmatch("both/forward_gru/gru_cell/bias:0"))
    True
    """
    layer, *inside, last = name.split(".")
    own = re.escape(layer)
    between = "".join(rf"[./]{HALVES.get(part, re.escape(part))}" for part in inside)
    return re.compile(rf"{ABOVE}{own}(?:[./]{own})?{between}{CELL}[./]{re.escape(last)}(?::\d+)?")
