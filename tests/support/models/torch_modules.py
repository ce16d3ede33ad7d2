"""Modules of PyTorch as people write them, for the tests that read whole modules."""

import torch
from torch import nn
from torch.nn import functional as F
from torch_modules_more import MORE


class LastStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, x, hidden=None):
        if hidden is None:
            h0 = torch.zeros(1, x.size(0), 4).to(x.device)
            hidden = (h0, torch.zeros(1, x.size(0), 4, device=x.device))
        out, _ = self.lstm(x, hidden)
        return self.head(out[:, -1, :])


class LastState(LastStep):
    def forward(self, x):
        _, (h, _) = self.lstm(x)
        return torch.sigmoid(self.head(h[-1]))


class BothWays(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, num_layers=2, bidirectional=True, dropout=0.2, batch_first=True)
        self.drop = nn.Dropout(0.5)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        _, (h, _) = self.lstm(x)
        joined = torch.cat((h[-2, :, :], h[-1, :, :]), dim=1)
        return F.log_softmax(self.head(self.drop(joined)), dim=-1)


class Text(nn.Module):
    def __init__(self, batch_first=True):
        super().__init__()
        self.embedding = nn.Embedding(20, 5, padding_idx=0)
        self.gru = nn.GRU(5, 4, batch_first=batch_first)
        self.head = nn.Linear(4, 3)

    def forward(self, ids):
        _, h = self.gru(self.embedding(ids))
        return self.head(h.squeeze(0))


class Stacked(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.LSTM(3, 6, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.second = nn.GRU(6, 4, 2, dropout=0.1, batch_first=True)
        self.head = nn.Sequential(nn.Linear(4, 8), nn.ReLU(inplace=True), nn.Linear(8, 1))

    def forward(self, x):
        x, _ = self.first(x)
        x, h = self.second(self.drop(x))
        return self.head(x.mean(dim=1)), h[0]


class Convolutional(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm1d(6)
        self.pool = nn.MaxPool1d(2)
        self.lstm = nn.LSTM(6, 4, batch_first=True, bidirectional=True)
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        x = x.permute(0, 2, 1)
        x = self.pool(F.relu(self.norm(self.conv(x))))
        x, _ = self.lstm(x.permute(0, 2, 1))
        return self.head(x.max(dim=1)[0])


class ChannelsFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Conv2d(4, 6, (2, 1), groups=2, bias=False),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(6, 3)

    def forward(self, image):
        return F.softmax(self.head(self.features(image)), dim=1)


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(20, 5)
        self.lstm = nn.LSTM(5, 4, batch_first=True, bidirectional=True)
        self.tags = nn.Linear(8, 3)

    def forward(self, ids):
        out, _ = self.lstm(self.embedding(ids.long()))
        return self.tags(F.dropout(out, 0.3, training=self.training))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4 + 2, 1)

    def forward(self, series, static):
        _, (h, c) = self.lstm(series)
        return self.head(torch.cat([h[-1] * c[-1], static], dim=1)), static * 2 - 1


class Normed(nn.Module):
    def __init__(self):
        super().__init__()
        self.project = nn.Linear(3, 4)
        self.norm = nn.LayerNorm(4)
        self.rnn = nn.RNN(4, 4, batch_first=True)

    def forward(self, x):
        x = self.project(x)
        out, _ = self.rnn(self.norm(x))
        return out + x


class TimeFirst(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4)
        self.head = nn.Linear(4, 2)

    def forward(self, x):
        out, _ = self.lstm(x.permute(1, 0, 2))
        return self.head(out[-1]), out.transpose(0, 1)


class TimeFirstThroughout(TimeFirst):
    def forward(self, x):
        out, (h, _) = self.lstm(x)
        return self.head(out), h[0]


class Pooled(nn.Module):
    """Weights over time, learned."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)
        self.score = nn.Linear(4, 1)

    def forward(self, x):
        out, _ = self.gru(x)
        weights = torch.softmax(self.score(out), dim=1)
        return {"context": (weights * out).sum(dim=1), "weights": weights.squeeze(-1)}


class Seq2Seq(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.LSTM(3, 4, 2, batch_first=True)
        self.decoder = nn.LSTM(2, 4, 2, batch_first=True)
        self.head = nn.Linear(4, 2)

    def forward(self, source, target):
        _, state = self.encoder(source)
        out, _ = self.decoder(target, state)
        return self.head(out)


class AutoEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(3, 4, batch_first=True)
        self.decoder = nn.GRU(4, 3, batch_first=True)

    def forward(self, x):
        _, h = self.encoder(x)
        return self.decoder(h[-1].unsqueeze(1).repeat(1, 5, 1))[0]


class Siamese(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)

    def forward(self, one, two):
        a, b = self.gru(one)[1][-1], self.gru(two)[1][-1]
        return torch.abs(a - b) / (1 + b**2)


class Flattened(nn.Module):
    """The number of steps follows from the linear layer."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4 * 7, 2)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out.contiguous().view(x.size(0), -1))


class Causal(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv1d(3, 4, 3, dilation=2)
        self.lstm = nn.LSTM(4, 2, batch_first=True)

    def forward(self, x):
        x = torch.tanh(self.conv(F.pad(x, (4, 0))))
        return self.lstm(x.transpose(1, 2))[0][:, 1:-1]


class Zeroed(nn.Module):
    """States that the module makes, as tutorials have them."""

    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, 2, batch_first=True)
        self.norm = nn.GroupNorm(2, 4)

    def forward(self, x):
        batch = x.shape[0]
        h0 = x.new_zeros(2, batch, 4).requires_grad_()
        out, h = self.gru(x, h0)
        last = self.norm(h[-1])
        return torch.stack((last, out.max(dim=1).values, out[:, 0]), dim=1), 1 - out.mean((1, 2))


class Reshaped(nn.Module):
    """An image that forward itself says the sizes of, then its rows as steps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding="same", dilation=2)
        self.drop = nn.Dropout2d(0.1)
        self.rnn = nn.RNN(4 * 6, 5, nonlinearity="relu")

    def forward(self, pixels):
        x = F.leaky_relu(self.conv(pixels.view(-1, 1, 8, 12)), 0.1)
        x = F.max_pool2d(self.drop(x), (1, 2))
        x = x.permute(2, 0, 1, 3).contiguous()
        batch, time = x.size(1), x.size(0)
        x = x.permute(1, 0, 2, 3).reshape(batch, time, -1).transpose(0, 1)
        return self.rnn(x)[1].squeeze(0)


class Rows(nn.Module):
    """Convolutions over a spectrogram, whose rows are the steps."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1)
        self.rnn = nn.GRU(12, 5, batch_first=True, bidirectional=True)

    def forward(self, x):
        x = torch.relu_(self.conv(x.unsqueeze(1)))
        x, _ = self.rnn(x.permute(0, 2, 1, 3).flatten(2))
        return x[..., :5] + x[:, :, 5:]


MODULES = {
    **MORE,
    "rows": Rows,
    "zeroed": Zeroed,
    "reshaped": Reshaped,
    "last_step": LastStep,
    "last_state": LastState,
    "both_ways": BothWays,
    "text": Text,
    "text_time_first": lambda: Text(batch_first=False),
    "stacked": Stacked,
    "conv_lstm": Convolutional,
    "image": ChannelsFirst,
    "tagger": Tagger,
    "two_inputs": TwoInputs,
    "normed": Normed,
    "time_first": TimeFirst,
    "time_first_throughout": TimeFirstThroughout,
    "pooled": Pooled,
    "seq2seq": Seq2Seq,
    "autoencoder": AutoEncoder,
    "siamese": Siamese,
    "flattened": Flattened,
    "causal": Causal,
    "mlp": lambda: nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2), nn.Softmax(dim=-1)),
    "embedding": lambda: nn.Sequential(nn.Embedding(9, 4), nn.Linear(4, 2)),
}


def made(name):
    torch.manual_seed(7)
    module = MODULES[name]()
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.5)
    for own in module.modules():
        if isinstance(own, (nn.BatchNorm1d, nn.BatchNorm2d)):
            own.running_mean.normal_()
            own.running_var.uniform_(0.5, 2)
    return module.eval()
