"""How many parameters has an LSTM? The walk-through for 256 units on 4,096 features, 16 steps."""

from common import end_with_ports, need_frameworks

import xlstm

need_frameworks()

import keras  # noqa: E402  checked above

m, n, steps = 4096, 256, 16

print("One gate: n = 256 neurons, each sees m = 4,096 inputs, n = 256 states and a bias.")
gate = (m + 1) * n + n**2
print(f"  (m + 1) n + n^2 = {m + 1:,} x {n} + {n}^2 = {gate:,}")
print(f"An LSTM has 4 of them (input, forget, output gate, candidate): {4 * gate:,}")

wrong = 4 * (m * steps + m**2) * n
print("\nThe question had n = 4,096 and m = 16 time steps in the formula, times 256 units:")
print(f"  4 (4096 x 16 + 4096^2) 256 = {wrong:,}")
print("  Time steps share their weights and do not count; n is the number of units, which the")
print("  formula counts already; and it is the units, not the features, that are squared.")

print("\nWhy 4, 3 or 1? Keras's own counts for 4 units on 3 features:")
for layer, times in (
    (keras.layers.SimpleRNN(4), "1: one set of 4 x (3 + 4 + 1)"),
    (keras.layers.GRU(4, reset_after=False), "3: two gates and the candidate"),
    (keras.layers.LSTM(4), "4: three gates and the candidate"),
):
    layer.build((None, None, 3))
    print(f"  {layer.name:<10} {layer.count_params():>4}   times {times}")

print()
print(xlstm.explain("SimpleRNN", features=3, units=4))

for length in (16, 100):
    model = keras.Sequential([keras.Input((length, m)), keras.layers.LSTM(n, name="lstm")])
    print(f"LSTM(256) on {length} steps of 4,096 features: {model.count_params():,}")

keras.utils.set_random_seed(0)
model = keras.Sequential([keras.Input((steps, m)), keras.layers.LSTM(n, name="lstm")])
end_with_ports(model)
