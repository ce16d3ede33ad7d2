"""LSTM(10, return_sequences=True) and TimeDistributed(Dense(1)) on one feature: 480, not 120."""

from common import MODELS, end_with_ports, need_frameworks

import xlstm

need_frameworks()

file = MODELS / "every_step.h5"  # trained by examples/models/make.py
ledger = xlstm.count(file)
lstm, dense = (layer.params["keras"] for layer in ledger.layers)
print(f"LSTM {lstm}, TimeDistributed(Dense(1)) {dense}, together {ledger.total('keras')}")

unit = 4 * ((1 + 1) * 1 + 1**2)
print(f"\nRead per unit, with output_size = 1, the formula gives {unit} for each of 10 units:")
print(f"  10 x 4 ((1 + 1) 1 + 1^2) = {10 * unit}: ten LSTMs of one unit that do not see each other")
layer = 4 * ((1 + 1) * 10 + 10**2)
print("Read for the whole layer, with output_size = 10, every unit sees all ten states:")
print(f"  4 ((1 + 1) 10 + 10^2) = {layer}")
print(f"The {layer - 10 * unit} more are in U: 4 x 10 x 10 = 400 weights instead of 4 x 10 = 40")
print("\nTimeDistributed(Dense(1)) is one Dense for all steps: 10 weights and a bias, 11.")

end_with_ports(file)
