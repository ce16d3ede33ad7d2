"""Attention with context in PyTorch."""

import torch
from torch import Tensor, nn


class AttentionWithContext(nn.Module):
    """Weighs the steps of a sequence by what they say."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.empty(features, features))
        self.b = nn.Parameter(torch.empty(features))
        self.u = nn.Parameter(torch.empty(features))

    def forward(self, x: Tensor) -> Tensor:
        """(batch, time, n) -> (batch, n)."""
        says = torch.tanh(x @ self.W + self.b)
        weights = torch.softmax(says @ self.u, dim=-1)
        return (weights.unsqueeze(-1) * x).sum(dim=1)
