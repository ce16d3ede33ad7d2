"""Small models of operations between layers; part of the list in cases_layers."""

from __future__ import annotations

from cases import model

from xlstm.ir.graph import Model
from xlstm.ir.layers import (
    Across,
    Affine,
    Along,
    Clip,
    Compare,
    Constant,
    Einsum,
    Function,
    Reduce,
    Where,
)
from xlstm.ir.layers.operations import ARITHMETIC
from xlstm.testing.models import joined, one

OPERATIONS: dict[str, Model] = {
    "function-round-half": model([Function("floor"), Affine(0.5), Function("round")], (9,)),
    "reduce-prod": one(Reduce("prod", (0, 1)), 5, 3),
    "clip": one(Clip(-0.1, 0.7), 5, 3),
    "clip-low": one(Clip(low=0.3), 5, 3),
    "clip-high": one(Clip(high=-0.3), 5, 3),
    "compare": one(Compare("greater", 0.1), 5, 3),
    "compare-two": joined(Compare("less_equal"), (5, 3), (1, 3)),
    "compare-rounded": model([Function("round"), Compare("equal", 1.0)], (9,)),
    "where": joined(Where(), (5, 1), (5, 3), (5, 3)),
    "where-number": joined(Where(no=-0.1), (5, 3), (5, 3)),
    "where-no": joined(Where(yes=2.0), (5, 3), (5, 3)),
    "cumsum": one(Along("cumsum", 0), None, 3),
    "cumprod": one(Along("cumprod", 0), None, 3),
    "across-mean": one(Across("mean", (0, 1)), None, 3),
    "across-max": one(Across("max"), 5, 3),
    "across-prod": one(Across("prod", (1,)), 2, 3),
    "einsum": joined(Einsum("cd,ed->ce"), (None, 3), (5, 3)),
    "einsum-heads": joined(Einsum("cde,fde->dcf"), (4, 2, 3), (5, 2, 3)),
    "einsum-dropped": joined(Einsum("c,de->dc"), (4,), (2, 3)),
    "argmax": one(Along("argmax", 1), 5, 3),
    "argmin": one(Along("argmin", 0), 5, 3),
    **{
        f"constant-{how}": one(Constant(how, (0.1, -2.0, 3.0), (3,)), 5, 3)
        for how in (*ARITHMETIC, "greater")
    },
    "constant-first": one(Constant("divide", (1.0, 2.0, 0.3, 4.0), (2, 2), True), 3, 2, 2),
    "constant-long": one(Constant("add", tuple(n / 7 for n in range(40)), (20, 2)), 20, 2),
}
