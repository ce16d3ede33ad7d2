"""A toy framework: layers are callables on numpy arrays; gates lie in the order o f i g."""

import numpy as np


def sigmoid(x):
    """1 / (1 + e^-x)."""
    return 1 / (1 + np.exp(-x))


class LSTM:
    """Keeps `w` (4 units, features), `u` (4 units, units) and `b` (4 units)."""

    def __init__(self, w, u, b):
        self.w, self.u, self.b = w, u, b

    def __call__(self, x):
        """(batch, time, features) -> (batch, time, units)."""
        h = c = np.zeros((len(x), self.u.shape[1]), x.dtype)
        outputs = []
        for step in x.swapaxes(0, 1):
            o, f, i, g = np.split(step @ self.w.T + h @ self.u.T + self.b, 4, axis=-1)
            c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
            h = sigmoid(o) * np.tanh(c)
            outputs.append(h)
        return np.stack(outputs, axis=1)
