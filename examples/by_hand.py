"""An LSTM computed by hand from `get_weights()`: 3 features, 5 units, 1 output, look-back 4."""

import numpy as np
from common import MODELS, end_with_ports, need_frameworks

import xlstm

need_frameworks()

import keras  # noqa: E402  checked above

file = MODELS / "by_hand.keras"  # trained by examples/models/make.py
model = keras.models.load_model(file)
W, U, b, Wout, bout = model.get_weights()
print("W", W.shape, "U", U.shape, "b", b.shape, "Wout", Wout.shape, "bout", bout.shape)

n = 5
Wi, Wf, Wc, Wo = (W[:, k * n : (k + 1) * n] for k in range(4))
Ui, Uf, Uc, Uo = (U[:, k * n : (k + 1) * n] for k in range(4))
bi, bf, bc, bo = (b[k * n : (k + 1) * n] for k in range(4))


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


Xt = np.random.default_rng(0).standard_normal((4, 3)).astype("float32")
c = h = np.zeros(n)
for x in Xt:
    i = sigmoid(x @ Wi + h @ Ui + bi)
    f = sigmoid(x @ Wf + h @ Uf + bf)
    candidate = np.tanh(x @ Wc + h @ Uc + bc)
    o = sigmoid(x @ Wo + h @ Uo + bo)
    c = f * c + i * candidate
    h = np.tanh(c) * o
Yt = h @ Wout + bout

print(f"\nby hand          {Yt[0]:.6f}")
print(f"model.predict    {model.predict(Xt[None], verbose=0)[0, 0]:.6f}")
for name, answer in xlstm.demo.recall(("torch", "nnx", "linen"), file, Xt).items():
    print(f"{name:<16} {answer[0]:.6f}")
    assert abs(answer[0] - Yt[0]) < 1e-5

end_with_ports(file)
