"""The derivation with symbols: per gate W, U and b; N_LSTM = 1,760 and N_DENSE = 21."""

from common import end_with_ports, need_frameworks

need_frameworks()

import keras  # noqa: E402  checked above

n_features, n_units = 1, 20

print("With x_t of n_features values and h_t of n_units values, every gate needs")
print("  W: n_units x n_features,  U: n_units x n_units,  b: n_units x 1")
total = 0
for gate, name in (
    ("i", "input gate"),
    ("f", "forget gate"),
    ("c", "candidate cell state"),
    ("o", "output gate"),
):
    parts = (n_units * n_features, n_units * n_units, n_units * 1)
    total += sum(parts)
    print(f"  W_{gate}, U_{gate}, b_{gate} for the {name}: {parts[0]} + {parts[1]} + {parts[2]}")
print("N_LSTM = 4 (n_units n_features + n_units n_units + n_units)")
print(f"       = 4 x ({n_units} + {n_units**2} + {n_units}) = {total:,}")
dense = n_units * n_features + n_features
print(f"N_DENSE = n_units n_features + n_features = {n_units} x {n_features} + 1 = {dense}")

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((None, n_features)),
        keras.layers.LSTM(n_units, bias_initializer="random_normal", name="lstm"),
        keras.layers.Dense(1, bias_initializer="random_normal", name="dense"),
    ],
    name="derivation",
)
print("Keras counts", *(layer.count_params() for layer in model.layers))

end_with_ports(model)
