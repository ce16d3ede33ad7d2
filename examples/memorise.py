"""Twenty numbers memorised: what LSTM(20) and Dense(20) consist of, and where it goes.

Trains the model of the question with real Keras, takes W, U and b apart by gate, and ports it.
"""

import numpy as np
from common import end_with_ports, need_frameworks

import xlstm

need_frameworks()

from train_memorise import SEQUENCE, STEPS, train  # noqa: E402  needs Keras

model = train()
x = SEQUENCE.reshape(1, STEPS, 1)
print("Keras remembers:", *np.round(np.abs(model.predict(x, verbose=0)[0])).astype(int))

W, U, b = model.layers[0].get_weights()
print(f"\nW {W.shape}: {W.size}   U {U.shape}: {U.size}   b {b.shape}: {b.size}")
print(f"LSTM: {W.size} + {U.size:,} + {b.size} = {W.size + U.size + b.size:,}")

# Keras keeps the gates side by side: input, forget, candidate, output
for gate, part in zip(("i", "f", "c", "o"), np.split(np.arange(4 * STEPS), 4), strict=True):
    sizes = [W[:, part].size, U[:, part].size, b[part].size]
    print(f"  gate {gate}: W_{gate} {sizes[0]}, U_{gate} {sizes[1]}, b_{gate} {sizes[2]}")

dense = model.layers[1].count_params()
print(f"Dense: 20 x 20 + 20 = {dense}; together {model.count_params():,}")

module = xlstm.port(model, "torch")
print("\nPyTorch, gate i of weight_ih_l0 is W_i transposed:", end=" ")
print(np.array_equal(module.lstm.weight_ih_l0.detach().numpy()[:STEPS], W[:, :STEPS].T))
for name, answer in xlstm.demo.recall(("torch", "nnx", "linen"), model).items():
    print(f"{name} remembers:", *np.round(np.abs(answer)).astype(int))

end_with_ports(model)
