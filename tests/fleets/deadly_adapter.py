"""PyTorch's adapter, but for writing a model whose layer has a certain name: that ends the process.

kill      the system kills it, as it does for lack of memory
leave     C code calls exit
hang      C code keeps the lock of the interpreter for ever
once      killed, but only the first time
"""

import dataclasses
import os
import re
import signal
import time

from xlstm.converters.torch.adapter import ADAPTER as TORCH


def emit(model):
    """Source text of `model.py`, if the process lives."""
    name = model.layers[0].name
    if name == "eat":
        food = []
        while len(food) < 80:  # 800 MB at most, should nobody end it
            food.append(b"x" * 10**7)
            time.sleep(0.01)
        time.sleep(60)
    if name == "hang":
        re.match("(a+)+$", "a" * 64 + "b")
    if name == "once":
        try:
            os.close(os.open(os.environ["DEADLY_MARK"], os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return "again = True\n"
    if name in ("kill", "once"):
        os.kill(os.getpid(), signal.SIGKILL)
    return f"name = {name!r}\n"


ADAPTER = dataclasses.replace(
    TORCH,
    name="deadly",
    title="Deadly",
    aliases=(),
    unsupported_reason=lambda node: "a layer that Deadly refuses" if node.name == "no" else "",
    emit=emit,
)
