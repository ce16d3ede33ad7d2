"""Why do my outputs differ? A trained Keras model, and somebody's port of it to PyTorch by hand."""

import numpy as np
import torch
from common import MODELS, need_frameworks
from torch import nn

import xlstm

need_frameworks()

import keras  # noqa: E402  checked above

file = MODELS / "by_hand.keras"  # an LSTM of 5 units over 3 features, then a Dense of 1
W, U, b, Wout, bout = keras.models.load_model(file).get_weights()


class ByHand(nn.Module):
    """The port: it runs, its shapes are right, and its outputs are not."""

    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(3, 5, batch_first=True)
        self.head = nn.Linear(5, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, 0])  # the first step, not the last one


def other_order(array):
    """Keras's i f c o, put in the order i f o c: it was read in some other framework's table."""
    i, f, c, o = np.split(array, 4, axis=-1)
    return np.concatenate([i, f, o, c], axis=-1)


port = ByHand()
arrays = {
    "lstm.weight_ih_l0": other_order(W).T,
    "lstm.weight_hh_l0": other_order(U).T,
    "lstm.bias_ih_l0": b,  # the bias was left as it is ...
    "lstm.bias_hh_l0": b,  # ... and PyTorch adds two
    "head.weight": Wout.T,
    "head.bias": bout,
}
port.load_state_dict({name: torch.from_numpy(array.copy()) for name, array in arrays.items()})

print(xlstm.diagnose(file, port))

# the same arrays alone, without any code
print()
print(xlstm.diagnose(file, arrays))
