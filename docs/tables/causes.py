"""Prints the causes that `diagnose` names, each with a line of wrong code.

In: `xlstm.diagnosing.CAUSES`, and the lines below. Out: Markdown.
"""

import sys

from xlstm.diagnosing import CAUSES

WRONG = {
    "Weights": {
        "gate-order": "i, f, o, g = np.split(W, 4, axis=1)",
        "transposed": "linear.weight = nn.Parameter(W)",
        "reshaped": "weight = W.reshape(4 * n, m)",
        "swapped-tensors": "U, W, b = layer.get_weights()",
        "swapped-layers": "x = self.lower(self.upper(x))",
        "swapped-halves": "lstm.weight_ih_l0 = backward_kernel",
        "flipped-kernel": "conv.weight = kernel.flip(-1)",
        "negated-weights": "W = -W",
        "scaled-weights": "W = W / 2",
        "lost-weights": "weight[:, 0] = 0",
        "reordered-weights": "W = np.flipud(W)",
        "rounded-weights": 'W = W.astype("float16")',
        "other-weights": "W = W + 0.1",
        "float32": "x = x.float().double()",
    },
    "Biases": {
        "lost-bias": "nn.LSTM(m, n, bias=False)",
        "doubled-bias": "lstm.bias_ih_l0 = lstm.bias_hh_l0 = b",
        "misplaced-bias": "gru.bias_hh_l0 = input_bias",
        "forget-bias": "b[n : 2 * n] += 1",
    },
    "The function of a layer": {
        "hard-sigmoid": "gate = F.hardsigmoid",
        "gate-activation": "gate = torch.tanh",
        "activation": 'nn.LSTM(m, n)  # Keras: activation="relu"',
        "softmax-axis": "F.softmax(x, dim=0)",
        "activation-outside": "out = torch.relu(self.lstm(x)[0])",
        "extra-activation": "torch.relu(self.dense(x))",
        "activation-place": "self.dense(torch.relu(x))",
        "gelu": 'F.gelu(x, approximate="tanh")',
        "slope": "F.leaky_relu(x)  # 0.01; Keras 3: 0.3",
        "reset-after": "n = torch.tanh(x + U(r * h))",
        "update-gate": "h = z * n + (1 - z) * h",
        "cell-formula": "c = i * g  # no f * c",
        "softmax-scale": "F.softmax(x / 2, dim=-1)",
        "norm-formula": "y = (x - mean) / variance",
        "epsilon": "nn.LayerNorm(n)  # 1e-5; Keras: 1e-3",
        "momentum": "nn.BatchNorm1d(n, momentum=0.99)",
        "batchnorm-mode": "model.train()",
        "dropout-on": "F.dropout(x, 0.5)",
        "dropout-scale": "x = x / (1 - rate)",
        "not-repeatable": "x = x + torch.randn_like(x)",
        "option": "nn.Conv1d(m, n, 3, dilation=2)",
    },
    "Sequences": {
        "go-backwards": "out, _ = self.lstm(x.flip(1))",
        "unturned-backward": "back, _ = self.back(x.flip(1))",
        "swapped-outputs": "torch.cat([back, forth], -1)",
        "last-of-backward": "last = out[:, -1]  # bidirectional",
        "merge-mode": "out = forth + back  # Keras: concat",
        "first-step": "y = out[:, 0]",
        "other-step": "y = out[:, -2]",
        "missing-input": "y = self.a(x)  # + x",
        "repeated-input": "torch.cat([a, a], -1)",
        "lost-step": "self.lstm(x[:, 1:])",
        "other-state": "out, (_, last) = self.lstm(x)",
        "pooled-steps": "y = out.mean(1)",
        "mixed-samples": "x.view(time, batch, -1)",
        "shifted-output": "out = out.roll(1, dims=1)",
        "state-lost": "for x in steps: y, _ = self.cell(x)",
        "batch-first": "nn.LSTM(m, n)  # batch_first=False",
        "stateful": "LSTM(n)  # stateful=True",
        "initial-state": "self.lstm(x, (c, h))",
        "mask-ignored": "out, _ = self.lstm(self.embed(ids))",
        "mask-zeroed": "out = out * mask[..., None]",
        "other-mask": "mask = ids != 1",
    },
    "Around the layers": {
        "other-input": "x = x / 255",
        "attention": "self.attend(value, query)",
        "norm-order": "self.norm(self.lstm(x)[0])",
        "norm-axis": "(x - x.mean(1, keepdim=True)) / s",
        "causal": "nn.Conv1d(m, n, 3, padding=1)",
        "padding": 'nn.Conv1d(m, n, 3, padding_mode="circular")',
        "channels-order": "x = self.conv(x).flatten(1)",
        "embedding-offset": "self.embed(ids + 1)",
        "embedding-rows": "nn.Embedding(v, n, max_norm=1.0)",
        "missing-layer": "return self.head(x)  # no self.norm",
        "scaled-output": "y = 2 * self.dense(x)",
        "repeated-layer": "self.norm(self.norm(x))",
        "other-repeat": "x[:, :1] = vector",
    },
    "What can be compared": {
        "inputs": "def forward(self, x, mask): ...",
        "outputs": "return y, h",
        "shape": "return out  # not out[:, -1]",
        "weight-shape": "lstm.weight_ih_l0.data = W",
        "nan": "y = torch.log(x)",
        "failed": "raise NotImplementedError",
    },
}
"""Heading -> cause -> a line of code with that mistake.

The code is PyTorch; `W` and `b` are Keras arrays, `out` is the output of a recurrent layer.
"""


def section(title: str) -> str:
    """The table of one heading."""
    rows = [f"| `{cause}` | {CAUSES[cause]} | `{code}` |" for cause, code in WRONG[title].items()]
    return "\n".join(
        [f"### {title}", "", "| cause | mistake | wrong code |", "|---|---|---|", *rows]
    )


if __name__ == "__main__":
    sys.stdout.write("\n\n".join(map(section, WRONG)) + "\n")
