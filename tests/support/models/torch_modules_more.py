"""Modules of PyTorch that attend, compare and measure, as people put them around an LSTM."""

import torch
from torch import nn
from torch.nn import functional as F


class Attended(nn.Module):
    """Attention to itself, to another sequence, and with steps first."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.other = nn.GRU(2, 6, batch_first=True)
        self.itself = nn.MultiheadAttention(4, 2, dropout=0.1, batch_first=True)
        self.cross = nn.MultiheadAttention(4, 2, kdim=6, vdim=6, bias=False, batch_first=True)
        self.steps = nn.MultiheadAttention(4, 1)
        self.norm = nn.LayerNorm(4)

    def forward(self, x, z):
        y, (z, _) = self.lstm(x)[0], self.other(z)
        a, _ = self.itself(y, y, y, need_weights=False)
        y = self.norm(y + a)
        b = self.cross(query=y, key=z, value=z)[0]
        turned = y.transpose(0, 1)
        c, _ = self.steps(turned[-1:], turned, turned)
        return b, c.transpose(0, 1), F.scaled_dot_product_attention(y, y, y)


class Products(nn.Module):
    """Products of more axes, by letters and by signs."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)

    def forward(self, x):
        y = self.lstm(x)[0]
        heads = y.view(y.size(0), -1, 2, 2).transpose(1, 2)
        scores = torch.softmax(torch.matmul(heads, heads.mT) / 2**0.5, dim=-1)
        found = (scores @ heads).transpose(1, 2).flatten(2)
        both = torch.einsum("btd,bsd->bts", y, found)
        late = torch.einsum("tbd,bsd,bsk->btk", y.transpose(0, 1), y, found)
        return both, late, torch.einsum("btd->bd", y), torch.einsum("bhtd->btdh", heads)


class Measured(nn.Module):
    """Comparisons, sums so far, lengths, and norms of several axes."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.norm, self.instance = nn.LayerNorm((5, 4)), nn.InstanceNorm1d(4, affine=True)
        self.slope, self.slopes = nn.PReLU(), nn.PReLU(4)
        self.pad, self.wide = nn.ConstantPad1d((2, 1), 0.0), nn.Upsample(scale_factor=2)
        self.cosine, self.gate = nn.CosineSimilarity(dim=1), nn.GLU(-1)

    def forward(self, x):
        y = self.norm(self.lstm(x)[0])
        first, last = y.unbind(1)[0], y.select(1, -1)
        seen = (y > 0) & ~(y >= 1) | (y == 2)
        found = [torch.where(seen, y, 0.5), y.masked_fill(y < y.mean(1, keepdim=True), -2.0)]
        found += [(y > 0.1).float() * y, y.cumsum(1), torch.cumprod(y, dim=2), y.flip(1, 2)]
        found += [torch.roll(y, 2, 1), y.std(1), y.var(2, unbiased=False), y.norm(dim=-1)]
        found += [F.normalize(y, dim=1), self.cosine(first, last), self.gate(y), y.prod(dim=1)]
        rows = y.movedim(2, 1)
        found += [self.slope(y), self.slopes(rows), self.pad(rows), self.wide(rows)]
        found += [self.instance(rows), F.log_softmax(y, dim=1), y.narrow(1, 1, 2), y.clamp(0.1, 2)]
        return (*found, F.max_pool1d(rows, rows.size(2)).squeeze(2), torch.rsqrt(y * y + 1))


MORE = {"attended": Attended, "products": Products, "measured": Measured}
