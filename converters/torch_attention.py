"""How PyTorch source writes attention; imports no framework."""

from __future__ import annotations

from xlstm.converters.source import Call, call, pieces
from xlstm.converters.torch_at import CELLS, At, applied, method, number
from xlstm.converters.torch_recurrent import variant

from xlstm.model import Attention, MultiHeadAttention


def _seen(at: At, query: str, value: str, masks: dict[str, str], causal: bool) -> str:
    """Variable or expression for which values each query sees; "" where it sees all."""
    terms = [f"{m}.unsqueeze({2 if name == 'q' else 1})" for name, m in masks.items()]
    if causal:
        sizes = (f"{query}.shape[1]", f"{value}.shape[1]")
        device = ("device", f"{query}.device")
        past = at.site.free("past")
        at.pipe(
            lambda _: call("torch.ones", *sizes, ("dtype", "torch.bool"), device),
            method("tril"),
            y=past,
        )
        terms.append(past)
    if not terms:
        return ""
    seen = at.site.free("seen")
    at.chain("&", *terms, y=seen)
    return seen


def _inputs(at: At, masks: str) -> tuple[str, str, str, dict[str, str]]:
    """Variables of query, value and key, and of the masks by name."""
    held = at.site.inputs[: len(at.site.inputs) - len(masks)]
    query, value, key = (*held, held[1])[:3]
    return query, value, key, dict(zip(masks, at.site.inputs[len(held) :], strict=True))


def _module(spec: Attention) -> tuple[str, list[str]]:
    """Name of the class that holds the weights, and its arguments."""
    if spec.score == "additive":
        return "AdditiveScores", [f"{spec.features}"]
    scaled = "Scaled" if spec.scaled else ""
    return ("DotScores" if spec.score == "dot" else f"{scaled}ConcatScores"), []


def _scores(spec: Attention, at: At, query: str, key: str, scores: str) -> None:
    if spec.parts:
        name, args = _module(spec)
        at.own(name, "PyTorch has no attention with a learnt scale", *args)
        at.write(scores, call(at.module, query, key))
    elif spec.score == "dot":
        at.chain("@", query, f"{key}.transpose(1, 2)", y=scores)
    else:
        at.chain("+", f"{query}.unsqueeze(2)", f"{key}.unsqueeze(1)", y=scores)
        at.pipe(applied("torch.tanh"), method("sum", ("dim", "-1")), x=scores, y=scores)


def attention(spec: Attention, at: At) -> None:
    """Dot-product or additive attention."""
    if not at.site.read(0):
        return
    query, value, key, masks = _inputs(at, spec.masks)
    scores = at.site.free("scores")
    _scores(spec, at, query, key, scores)
    counts = masks.pop("q", "")
    seen = _seen(at, query, value, masks, spec.causal)
    if seen:
        at.pipe(method("where", seen, f"{scores} - 1e9"), x=scores, y=scores)
    at.pipe(applied("torch.softmax", ("dim", "-1")), x=scores, y=scores)
    if spec.dropout:
        rate = number(spec.dropout)
        at.pipe(applied("F.dropout", rate, "self.training"), x=scores, y=scores)
    at.chain("@", scores, value)
    if counts:
        away = f"~{counts}.unsqueeze(-1)"
        at.pipe(method("masked_fill", away, "0.0"), x=at.site.y)


def _heads(spec: MultiHeadAttention, name: str) -> Call:
    features = (spec.query_features, spec.key_features, spec.value_features)
    sizes = (spec.heads, spec.key_dim, spec.value_dim, features, spec.units)
    return call(
        name,
        *map(str, sizes),
        None if spec.use_bias else ("bias", "False"),
        ("dropout", number(spec.dropout)) if spec.dropout else None,
    )


def multi_head(spec: MultiHeadAttention, at: At) -> None:
    """Attention of several heads."""
    query, value, key, masks = _inputs(at, spec.masks)
    seen = _seen(at, query, value, masks, spec.causal)
    before = "" if not seen else "Zeroing" if spec.blind == "zeros" else "Masked"
    name = f"{before}MultiHeadAttention"
    text = variant(CELLS, "MultiHeadAttention", name, name) if seen else pieces(CELLS)[name]
    if text not in at.parts.helpers:
        at.parts.helpers.append(text)
    at.parts.init.append("        # nn.MultiheadAttention has one size for all it projects to")
    at.init(_heads(spec, name))
    hidden = "-1e9" if seen and spec.blind == "lowered" else None
    at.put(call(at.module, query, key, value, seen or None, hidden))
