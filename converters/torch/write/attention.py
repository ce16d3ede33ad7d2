"""Writes attention as PyTorch source; imports no framework.

In: a spec and its variables. Out: lines of the emitted module.
`MultiHeadAttention(2, 2, 2, 4, 4, 4, 4)` on one input, named a:

    self.a = MultiHeadAttention(2, 2, 2, (4, 4, 4), 4)
    x = self.a(x, x, x)
"""

from __future__ import annotations

from xlstm.ir import layers as L
from xlstm.ir.layers import Attention, MultiHeadAttention
from xlstm.ir.literals import literal

from ...codegen.source import WIDTH, assigned, call, listed
from ..native import OWN, own_class
from .writer import WRITERS, TorchLayerWriter, applied, class_source, method

CELLS = "torch/templates/attention.py"


def _seen(at: TorchLayerWriter, query: str, value: str, masks: dict[str, str], causal: bool) -> str:
    """Returns the expression for the values that each query sees; "" if it sees all."""
    terms = [f"{m}.unsqueeze({2 if name == 'q' else 1})" for name, m in masks.items()]
    if causal:
        sizes = listed([f"{query}.shape[1]", f"{value}.shape[1]"])
        past = at.site.free("past")
        ones = method("new_ones", sizes, ("dtype", "torch.bool"))
        at.apply_steps(ones, method("tril"), x=query, y=past)
        terms.append(past)
    if not terms:
        return ""
    seen = at.site.free("seen")
    at.chain("&", *terms, y=seen)
    return seen


def _inputs(at: TorchLayerWriter, masks: str) -> tuple[str, str, str, dict[str, str]]:
    """Returns variables of query, value and key, and of the masks by name."""
    inputs = at.site.inputs[: len(at.site.inputs) - len(masks)]
    query, value, key = (*inputs, inputs[1])[:3]
    pairs = zip(masks, at.site.inputs[len(inputs) :], strict=True)
    whose = {"q": query, "v": value, "k": key}
    return query, value, key, {name: at.mask(mask, whose[name]) for name, mask in pairs}


def _scores(spec: Attention, at: TorchLayerWriter, query: str, key: str, scores: str) -> None:
    if spec.weighted_parts:
        at.assign(scores, call(at.module, query, key))
    elif spec.score == "dot":
        turned = f"{key}.transpose(1, 2)"
        if len(f"        {scores} = {query} @ {turned}") > WIDTH:
            at.assign(scores, turned)
            turned = scores
        at.assign(scores, f"{query} @ {turned}")
    else:
        at.chain("+", f"{query}.unsqueeze(2)", f"{key}.unsqueeze(1)", y=scores)
        at.apply_steps(applied("torch.tanh"), method("sum", ("dim", "-1")), x=scores, y=scores)


@WRITERS.of(L.Attention)
def attention(spec: Attention, at: TorchLayerWriter) -> None:
    """Dot-product or additive attention."""
    if name := own_class(spec):
        at.use_template(name, literal(spec.features) if spec.score == "additive" else None)
    with_scores = spec.scores and at.read(1)
    if not at.read(0) and not with_scores:
        return
    query, value, key, masks = _inputs(at, spec.masks)
    scores = at.site.free("scores")
    _scores(spec, at, query, key, scores)
    counts = masks.pop("q", "")
    seen = _seen(at, query, value, masks, spec.causal)
    if seen:
        at.apply_steps(method("where", seen, f"{scores} - 1e9"), x=scores, y=scores)
    weights = at.site.outputs[1] if with_scores else at.site.free("weights")
    at.apply_steps(applied("torch.softmax", ("dim", "-1")), x=scores, y=weights)
    if spec.dropout:
        rate = literal(spec.dropout)
        at.apply_steps(applied("F.dropout", rate, "self.training"), x=weights, y=weights)
    at.chain("@", weights, value)
    if counts and at.read(0):
        away = f"~{counts}.unsqueeze(-1)"
        at.apply_steps(method("masked_fill", away, "0.0"), x=at.y)


@WRITERS.of(L.MultiHeadAttention)
def multi_head(spec: MultiHeadAttention, at: TorchLayerWriter) -> None:
    """Attention with several heads."""
    name = own_class(spec)
    at.parts.add_helper(class_source(CELLS, name))
    at.parts.init.append(f"        # {OWN[name]}")
    features = (spec.query_features, spec.key_features, spec.value_features)
    at.set_module(
        name,
        *map(literal, (spec.heads, spec.key_dim, spec.value_dim, features, spec.units)),
        None if spec.use_bias else ("bias", "False"),
        ("dropout", literal(spec.dropout)) if spec.dropout else None,
    )
    if {*at.site.outputs} == {"_"}:
        return
    query, value, key, masks = _inputs(at, spec.masks)
    seen = _seen(at, query, value, masks, spec.causal)
    lowered = ("lowered", "True") if seen and spec.blind == "lowered" else None
    made = call(at.module, query, key, value, seen or None, lowered)
    if spec.scores:
        at.parts.forward += assigned(", ".join(at.site.outputs), made)
    else:
        at.set_output(made)
