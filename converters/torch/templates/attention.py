"""Attention of several heads that gives its weights too, copied into emitted modules."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Heads(nn.Module):
    """What these classes get from MultiHeadAttention."""

    dropout: float
    query: nn.Linear
    key: nn.Linear
    value: nn.Linear
    output: nn.Linear

    def split(self, x: Tensor) -> Tensor:
        """(batch, time, heads * size) -> (batch, heads, time, size)."""
        raise NotImplementedError


class WeighingMultiHeadAttention(Heads):
    """Attention of several heads that gives its weights as well."""

    def forward(
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


class MaskedWeighingMultiHeadAttention(Heads):
    """Attention that gives its weights; a query that sees no value weighs all alike."""

    def forward(
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


class ZeroingWeighingMultiHeadAttention(Heads):
    """Attention that gives its weights; those of a query that sees no value are zeros."""

    def forward(
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
