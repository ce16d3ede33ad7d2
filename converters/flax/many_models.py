"""Writes many models of one architecture as one JAX function; imports no framework.

In: one of the models. Out: source text of `model.py`, whose `Stack` runs all of them at once.
"""

from __future__ import annotations

from xlstm.ir.graph import Model

from ..codegen.many_models import stacked_source
from .write.dialect import LINEN, Dialect
from .write.module import emit

STACKED = "flax/templates/many_models.py"

LINES = ("Needs flax and safetensors. `load()` gives all models with their trained weights.",)


def emit_stack(dialect: Dialect, model: Model) -> str:
    """Returns the source text of `model.py` for many models with the graph of `model`."""
    call = "call_one_pair" if dialect is LINEN else "call_one"
    names = [call, "run", "Stack", "chunk_for", "build", "load"]
    one = emit(dialect, model).replace("\ndef build(", "\ndef make_one(")
    text = stacked_source(model, one, STACKED, ("load", "stream"), names, LINES, {})
    text = text.replace("def call_one_pair(", "def call_one(")
    dtype = model.compute_dtype().name
    head, stack, tail = text.rpartition("\nclass Stack:")
    return head + stack + tail.replace("jnp.float32", f"jnp.{dtype}")
