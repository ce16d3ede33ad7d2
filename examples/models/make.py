"""Trains the small models that lie beside this file.

    KERAS_BACKEND=tensorflow python examples/models/make.py

every_step.h5   LSTM(10, return_sequences) + TimeDistributed(Dense(1)), whole-model HDF5: predicts
                the next value of a noisy sine at every step
by_hand.keras   LSTM(5) + Dense(1) on 3 features and 4 steps: predicts the next mean of three waves
"""

from pathlib import Path

import keras
import numpy as np
from keras import layers

HERE = Path(__file__).parent


def waves(count: int, steps: int, features: int) -> np.ndarray:
    """Sines of several frequencies with a little noise, (count, steps, features)."""
    rng = np.random.default_rng(0)
    phase = rng.uniform(0, 2 * np.pi, (count, 1, features))
    speed = np.linspace(0.4, 1.0, features)
    time = np.arange(steps)[None, :, None]
    noise = 0.05 * rng.standard_normal((count, steps, features))
    return (np.sin(speed * time + phase) + noise).astype("float32")


def bare(model: keras.Sequential) -> keras.Sequential:
    """The trained model without its optimizer."""
    copy = keras.Sequential.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def fit(model: keras.Sequential, x: np.ndarray, y: np.ndarray) -> keras.Sequential:
    """Trains a model for the mean squared error."""
    model.compile(loss="mse", optimizer=keras.optimizers.RMSprop(0.01))
    history = model.fit(x, y, epochs=60, batch_size=64, verbose=0)
    losses = history.history["loss"]
    print(f"{model.name}: loss {losses[0]:.3f} -> {losses[-1]:.4f}")
    return bare(model)


def main() -> None:
    """Trains and saves both models."""
    keras.utils.set_random_seed(0)
    x = waves(256, 25, 1)
    lstm = layers.LSTM(10, return_sequences=True, name="lstm")
    each = layers.TimeDistributed(layers.Dense(1, name="dense"), name="time_distributed")
    model = keras.Sequential([keras.Input((None, 1)), lstm, each], name="every_step")
    fit(model, x[:, :-1], x[:, 1:]).save(HERE / "every_step.h5")

    x = waves(512, 5, 3)
    model = keras.Sequential(
        [keras.Input((4, 3)), layers.LSTM(5, name="lstm"), layers.Dense(1, name="dense")],
        name="by_hand",
    )
    fit(model, x[:, :4], x[:, 4].mean(axis=-1, keepdims=True)).save(HERE / "by_hand.keras")


if __name__ == "__main__":
    main()
