"""A Keras model with a layer of its own, attention with weights, in PyTorch and Flax."""

import tempfile
from pathlib import Path

import numpy as np
from common import FRAMEWORKS, end_with_ports, need_frameworks

import xlstm

need_frameworks()

import keras  # noqa: E402  checked above
from custom.attention_keras import AttentionWithContext  # noqa: E402

# what is the largest of ten numbers?
keras.utils.set_random_seed(1)
x = np.random.default_rng(1).uniform(0, 1, (512, 10, 1)).astype("float32")
model = keras.Sequential(
    [
        keras.Input((None, 1)),
        keras.layers.LSTM(8, return_sequences=True, name="lstm"),
        AttentionWithContext(name="attention"),
        keras.layers.Dense(1, name="dense"),
    ]
)
model.compile(optimizer=keras.optimizers.Adam(0.02), loss="mse")
model.fit(x, x.max(axis=1), epochs=10, verbose=0)

with tempfile.TemporaryDirectory() as folder:
    file = Path(folder, "largest.keras")
    model.save(file)
    try:
        xlstm.load(file)
    except xlstm.errors.UnsupportedError as error:
        print(error)

    import custom.attention  # noqa: F401  it calls xlstm.register_layer

    ledger = xlstm.count(file)
    print("\nattention:", *(f"{t.name} {t.shape}" for t in ledger.layers[1].tensors["torch"]))
    print("parameters:", *(f"{name} {ledger.total(name)}" for name in FRAMEWORKS))

    xlstm.save(file, Path(folder, "ported"), "torch")
    text = Path(folder, "ported", "model.py").read_text("utf-8")
    made = next(line for line in text.splitlines() if "self.attention =" in line)
    print("in the PyTorch module:", made.strip())

    end_with_ports(file)
