"""Trains the model that ships with xlstm: LSTM(20, relu) + Dense(20) memorising 0, 20, ..., 380.

    KERAS_BACKEND=tensorflow python examples/train_memorise.py [FILE]

Writes the trained model to FILE (xlstm/demo.keras if not given).
"""

import sys
from pathlib import Path

import keras
import numpy as np

STEPS = 20
UPDATES = 4000
SEQUENCE = np.arange(0, STEPS * STEPS, STEPS, dtype="float32")


def train() -> keras.Sequential:
    """The trained model; its input and its target are the sequence itself."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((STEPS, 1), name="sequence"),
            keras.layers.LSTM(STEPS, activation="relu", name="lstm"),
            keras.layers.Dense(STEPS, name="dense"),
        ],
        name="memorise",
    )
    rate = keras.optimizers.schedules.CosineDecay(0.01, UPDATES)
    model.compile(loss="mse", optimizer=keras.optimizers.Adam(rate, clipnorm=1.0))
    # one epoch over many copies: the same updates as many epochs over one, without their overhead
    copies = np.tile(SEQUENCE, (UPDATES, 1))
    model.fit(copies[..., None], copies, batch_size=1, verbose=0)
    return model


def main() -> None:
    """Trains, shows what was memorised, and saves without the optimizer's state."""
    default = Path(__file__).parents[1] / "xlstm" / "demo.keras"
    file = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    model = train()
    predicted = model.predict(SEQUENCE.reshape(1, STEPS, 1), verbose=0)[0]
    print("memorised:", np.round(predicted, 2).tolist())
    print("largest error:", float(np.abs(predicted - SEQUENCE).max()))
    # without the optimizer: the weights are all we need
    bare = keras.Sequential.from_config(model.get_config())
    bare.set_weights(model.get_weights())
    bare.save(file)
    print("saved:", file)


if __name__ == "__main__":
    main()
