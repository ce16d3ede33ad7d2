"""Small ports of five Keras models as people write them in PyTorch, 8 of 32 without a mistake.

In: a name. Out: the text of a module with a class `Port`, the Keras model that it ports, and the
cause that a diagnosis has to name. Every text stands alone: it reads the arrays of Keras's
`get_weights` from `arrays.npz` beside it.
"""

from __future__ import annotations

from typing import NamedTuple

HEAD = """import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FILE = np.load(__file__.rpartition("/")[0] + "/arrays.npz")
w = [FILE[f"MODEL_{n}"] for n in range(COUNT)]


def put(parameter, array):
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(array)))


class Port(nn.Module):
"""

LSTM = """    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True)
        self.head = nn.Linear(4, 2)
        kernel, recurrent, bias, dense, offset = w
        put(self.lstm.weight_ih_l0, kernel.T)
        put(self.lstm.weight_hh_l0, recurrent.T)
        put(self.lstm.bias_ih_l0, bias)
        put(self.lstm.bias_hh_l0, 0 * bias)
        put(self.head.weight, dense.T)
        put(self.head.bias, offset)

    def forward(self, x):
        out, (h, c) = self.lstm(x)
        return self.head(out[:, -1])
"""

LOOP = """    def __init__(self):
        super().__init__()
        self.kernel, self.recurrent, self.bias, self.dense, self.offset = (
            nn.Parameter(torch.from_numpy(a)) for a in w)

    def forward(self, x):
        h = c = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            i, f, g, o = (x[:, t] @ self.kernel + h @ self.recurrent + self.bias).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
        return h @ self.dense + self.offset
"""

GRU = """    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 4, batch_first=True)
        kernel, recurrent, bias = w
        order = [*range(4, 8), *range(4), *range(8, 12)]  # Keras has z r n
        put(self.gru.weight_ih_l0, kernel.T[order])
        put(self.gru.weight_hh_l0, recurrent.T[order])
        put(self.gru.bias_ih_l0, bias[0][order])
        put(self.gru.bias_hh_l0, bias[1][order])

    def forward(self, x):
        out, _ = self.gru(x)
        return out
"""

GRU_LOOP = """    def __init__(self):
        super().__init__()
        self.kernel, self.recurrent, self.bias = (nn.Parameter(torch.from_numpy(a)) for a in w)

    def forward(self, x):
        h, out = x.new_zeros(len(x), 4), []
        for t in range(x.shape[1]):
            z, r, n = (x[:, t] @ self.kernel + self.bias[0]).chunk(3, 1)
            zh, rh, nh = (h @ self.recurrent + self.bias[1]).chunk(3, 1)
            z, r = torch.sigmoid(z + zh), torch.sigmoid(r + rh)
            n = torch.tanh(n + r * nh)
            h = z * h + (1 - z) * n
            out.append(h)
        return torch.stack(out, 1)
"""

RNN = """    def __init__(self):
        super().__init__()
        self.rnn = nn.RNN(4, 4, batch_first=True)
        kernel, recurrent, bias = w
        put(self.rnn.weight_ih_l0, kernel.T)
        put(self.rnn.weight_hh_l0, recurrent.T)
        put(self.rnn.bias_ih_l0, bias)
        put(self.rnn.bias_hh_l0, 0 * bias)

    def forward(self, x):
        out, _ = self.rnn(x)
        return out[:, -1]
"""

BOTH = """    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 4, batch_first=True, bidirectional=True)
        forth, back = w[:3], w[3:]
        for end, (kernel, recurrent, bias) in (("", forth), ("_reverse", back)):
            put(getattr(self.lstm, "weight_ih_l0" + end), kernel.T)
            put(getattr(self.lstm, "weight_hh_l0" + end), recurrent.T)
            put(getattr(self.lstm, "bias_ih_l0" + end), bias)
            put(getattr(self.lstm, "bias_hh_l0" + end), 0 * bias)

    def forward(self, x):
        out, (h, _) = self.lstm(x)
        return torch.cat([h[0], h[1]], -1)
"""

MASKED = """    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(9, 3)
        self.cell = nn.RNNCell(3, 4)
        put(self.embed.weight, w[0])
        put(self.cell.weight_ih, w[1].T)
        put(self.cell.weight_hh, w[2].T)
        put(self.cell.bias_ih, w[3])
        put(self.cell.bias_hh, 0 * w[3])

    def forward(self, ids):
        x, keep = self.embed(ids), ids != 0
        h = x.new_zeros(len(x), 4)
        for t in range(x.shape[1]):
            h = torch.where(keep[:, t, None], self.cell(x[:, t], h), h)
        return h
"""


class SmallPort(NamedTuple):
    """A port: its Keras model, its text, what to replace in it, and the cause; "" for a right one.

    Attributes:
        model: key of the Keras model.
        base: the right text.
        edits: (old, new) lines.
        cause: id, as `xlstm.diagnosing.CAUSES` has it.
    """

    model: str
    base: str
    edits: tuple[tuple[str, str], ...] = ()
    cause: str = ""

    def text(self, count: int) -> str:
        """The module, for a Keras model of `count` arrays."""
        body = self.base
        for old, new in self.edits:
            assert body.count(old) == 1, old
            body = body.replace(old, new)
        return HEAD.replace("MODEL", self.model).replace("COUNT", str(count)) + body


def wrong(model: str, base: str, cause: str, *edits: tuple[str, str]) -> SmallPort:
    """A port with one mistake."""
    return SmallPort(model, base, edits, cause)


SWAPPED = "np.concatenate([A[:, :8], A[:, 12:], A[:, 8:12]], 1)"
PORTS = {
    "lstm_native": SmallPort("lstm", LSTM),
    "lstm_last_state": SmallPort("lstm", LSTM, (("out[:, -1]", "h[0]"),)),
    "lstm_loop": SmallPort("lstm", LOOP),
    "gru_native": SmallPort("gru", GRU),
    "gru_loop": SmallPort("gru", GRU_LOOP),
    "rnn_native": SmallPort("rnn", RNN),
    "both_native": SmallPort("both", BOTH),
    "masked_loop": SmallPort("masked", MASKED),
    "lstm_gates": wrong(
        *("lstm", LSTM, "gate-order"),
        ("kernel.T)", SWAPPED.replace("A", "kernel") + ".T)"),
        ("recurrent.T)", SWAPPED.replace("A", "recurrent") + ".T)"),
        ("bias_ih_l0, bias)", f"bias_ih_l0, {SWAPPED.replace('A', 'bias[None]')}[0])"),
    ),
    "lstm_no_bias": wrong(
        *("lstm", LSTM, "lost-bias"),
        ("batch_first=True", "batch_first=True, bias=False"),
        ("        put(self.lstm.bias_ih_l0, bias)\n", ""),
        ("        put(self.lstm.bias_hh_l0, 0 * bias)\n", ""),
    ),
    "lstm_twice": wrong("lstm", LSTM, "doubled-bias", ("0 * bias", "bias")),
    "lstm_not_transposed": wrong(
        "lstm", LSTM, "transposed", ("recurrent.T)", "np.concatenate(np.split(recurrent, 4, 1)))")
    ),
    "lstm_first": wrong("lstm", LSTM, "first-step", ("out[:, -1]", "out[:, 0]")),
    "lstm_time_first": wrong("lstm", LSTM, "batch-first", (", batch_first=True", "")),
    "lstm_forget": wrong(
        "lstm",
        LSTM,
        "forget-bias",
        ("bias_ih_l0, bias)", "bias_ih_l0, bias + np.eye(4)[1].repeat(4))"),
    ),
    "lstm_turned": wrong("lstm", LSTM, "go-backwards", ("self.lstm(x)", "self.lstm(x.flip(1))")),
    "lstm_reshaped": wrong("lstm", LSTM, "reshaped", ("dense.T", "dense.reshape(2, 4)")),
    "lstm_relu": wrong(
        "lstm",
        LSTM,
        "activation",
        ("self.head(out[:, -1])", "torch.relu(self.head(out[:, -1]))"),
    ),
    "lstm_cell_state": wrong("lstm", LSTM, "other-state", ("out[:, -1]", "c[0]")),
    "lstm_dropout": wrong(
        "lstm", LSTM, "not-repeatable", ("out[:, -1])", "F.dropout(out[:, -1], 0.5))")
    ),
    "lstm_scaled": wrong("lstm", LSTM, "other-input", ("self.lstm(x)", "self.lstm(x / 255)")),
    "gru_gates": wrong(
        "gru", GRU, "gate-order", ("[*range(4, 8), *range(4), *range(8, 12)]", "[*range(12)]")
    ),
    "gru_misplaced": wrong(
        *("gru", GRU, "misplaced-bias"),
        ("bias[0][order]", "(bias[0] + bias[1])[order]"),
        ("bias[1][order]", "0 * bias[1][order]"),
    ),
    "gru_before": wrong(
        *("gru", GRU_LOOP, "reset-after"),
        ("n + r * nh", "n + (r * h) @ self.recurrent[:, 8:] + self.bias[1][8:]"),
    ),
    "gru_update": wrong(
        "gru", GRU_LOOP, "update-gate", ("z * h + (1 - z) * n", "z * n + (1 - z) * h")
    ),
    "rnn_relu": wrong(
        "rnn", RNN, "activation", ("batch_first=True", 'batch_first=True, nonlinearity="relu"')
    ),
    "rnn_exchanged": wrong(
        "rnn",
        RNN,
        "swapped-tensors",
        ("kernel, recurrent, bias = w", "recurrent, kernel, bias = w"),
    ),
    "rnn_mean": wrong("rnn", RNN, "pooled-steps", ("out[:, -1]", "out.mean(1)")),
    "both_halves": wrong("both", BOTH, "swapped-halves", ("w[:3], w[3:]", "w[3:], w[:3]")),
    "both_last": wrong(
        "both", BOTH, "last-of-backward", ("torch.cat([h[0], h[1]], -1)", "out[:, -1]")
    ),
    "masked_ignored": wrong("masked", MASKED, "mask-ignored", ("ids != 0", "ids >= 0")),
    "masked_rows": wrong(
        "masked", MASKED, "embedding-offset", ("self.embed(ids)", "self.embed((ids + 1) % 9)")
    ),
}
"""Name -> port."""


def keras_models() -> dict[str, object]:
    """The Keras models, with seeded weights of trained size."""
    import keras
    import numpy as np

    layers = keras.layers
    found = {
        "lstm": [keras.Input((None, 3)), layers.LSTM(4, name="lstm"), layers.Dense(2, name="head")],
        "gru": [keras.Input((None, 3)), layers.GRU(4, return_sequences=True, name="gru")],
        "rnn": [keras.Input((None, 4)), layers.SimpleRNN(4, name="rnn")],
        "both": [keras.Input((None, 3)), layers.Bidirectional(layers.LSTM(4), name="both")],
        "masked": [
            keras.Input((None,)),
            layers.Embedding(9, 3, mask_zero=True, name="embed"),
            layers.SimpleRNN(4, name="rnn"),
        ],
    }
    rng = np.random.default_rng(5)
    models = {name: keras.Sequential(parts, name=name) for name, parts in found.items()}
    for model in models.values():
        model.set_weights([rng.normal(0, 0.6, a.shape) for a in model.get_weights()])
    return models
