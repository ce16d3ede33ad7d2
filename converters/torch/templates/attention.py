"""Attention of several heads, copied as text into emitted modules.

An emitted class stands by itself: it has what it inherits here in its own text.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class MultiHeadAttention(nn.Module):
    """Attention of several heads; queries, keys, values may have any number of features."""

    def __init__(
        self,
        heads: int,
        key_dim: int,
        value_dim: int,
        features: tuple[int, int, int],
        units: int,
        *,
        bias: bool = True,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = dropout
        self.query = nn.Linear(features[0], heads * key_dim, bias)
        self.key = nn.Linear(features[1], heads * key_dim, bias)
        self.value = nn.Linear(features[2], heads * value_dim, bias)
        self.output = nn.Linear(heads * value_dim, units, bias)

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """(batch, queries, features), (batch, keys, ...) twice -> (batch, queries, units)."""
        rate = self.dropout if self.training else 0.0
        q, k = self.split(self.query(query)), self.split(self.key(key))
        v = self.split(self.value(value))
        y = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        return self.output(y.transpose(1, 2).flatten(2))

    def split(self, x: Tensor) -> Tensor:
        """(batch, time, heads * size) -> (batch, heads, time, size)."""
        return x.unflatten(2, (self.heads, -1)).transpose(1, 2)


class MaskedMultiHeadAttention(MultiHeadAttention):
    """Attention of several heads; a query that sees no value weighs all alike."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor,
        lowered: bool = False,
    ) -> Tensor:
        """As without masks; what is not `seen` weighs nothing, or has its score `lowered`."""
        rate = self.dropout if self.training else 0.0
        q, k = self.split(self.query(query)), self.split(self.key(key))
        v = self.split(self.value(value))
        seen = seen.unsqueeze(-3)  # for every head
        # spelled out: the fused form has wrong gradients for queries that see nothing
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
        if lowered:
            scores = torch.where(seen, scores, scores - 1e9)
        else:
            scores = scores.masked_fill(~seen, -1e30)
        y = F.dropout(torch.softmax(scores, dim=-1), rate) @ v
        return self.output(y.transpose(1, 2).flatten(2))


class ZeroingMultiHeadAttention(MultiHeadAttention):
    """Attention of several heads; those of a query that sees no value give zeros."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor,
    ) -> Tensor:
        """As without masks; `seen` (batch, queries, keys) says which values count."""
        rate = self.dropout if self.training else 0.0
        q, k = self.split(self.query(query)), self.split(self.key(key))
        v = self.split(self.value(value))
        seen = seen.unsqueeze(-3)  # for every head
        mask = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~seen, -1e30)
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=rate)
        y = y.masked_fill(~seen.any(dim=-1, keepdim=True), 0.0)
        return self.output(y.transpose(1, 2).flatten(2))


class WeighingMultiHeadAttention(MultiHeadAttention):
    """Attention of several heads that gives its weights as well."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The output, and weights (batch, heads, queries, keys)."""
        rate = self.dropout if self.training else 0.0
        q, k = self.split(self.query(query)), self.split(self.key(key))
        v = self.split(self.value(value))
        weights = torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, dim=-1)
        y = F.dropout(weights, rate) @ v
        return self.output(y.transpose(1, 2).flatten(2)), weights


class MaskedWeighingMultiHeadAttention(MultiHeadAttention):
    """Attention that gives its weights; a query that sees no value weighs all alike."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor,
        lowered: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """As without masks; what is not `seen` weighs nothing, or has its score `lowered`."""
        rate = self.dropout if self.training else 0.0
        q, k = self.split(self.query(query)), self.split(self.key(key))
        v = self.split(self.value(value))
        seen = seen.unsqueeze(-3)  # for every head
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
        if lowered:
            scores = torch.where(seen, scores, scores - 1e9)
        else:
            scores = scores.masked_fill(~seen, -1e30)
        weights = torch.softmax(scores, dim=-1)
        y = F.dropout(weights, rate) @ v
        return self.output(y.transpose(1, 2).flatten(2)), weights


class ZeroingWeighingMultiHeadAttention(MultiHeadAttention):
    """Attention that gives its weights; those of a query that sees no value are zeros."""

    def forward(  # type: ignore[override]
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        seen: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """As without masks; `seen` (batch, queries, keys) says which values count."""
        rate = self.dropout if self.training else 0.0
        q, k = self.split(self.query(query)), self.split(self.key(key))
        v = self.split(self.value(value))
        seen = seen.unsqueeze(-3)  # for every head
        scores = q @ k.transpose(2, 3) / q.shape[3] ** 0.5
        weights = torch.softmax(scores.masked_fill(~seen, -1e30), dim=-1)
        weights = weights.masked_fill(~seen, 0.0)
        y = F.dropout(weights, rate) @ v
        return self.output(y.transpose(1, 2).flatten(2)), weights
