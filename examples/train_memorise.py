"""Trains the model that ships with xlstm: LSTM(20, relu) + Dense(20) memorising 0, 20, ..., 380.

    KERAS_BACKEND=tensorflow python examples/train_memorise.py [FILE]

Writes the trained model to FILE (xlstm/demo.keras if not given).
"""

import json
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np

STEPS = 20
UPDATES = 4000
NEW = ("input_axes", "output_axes", "quantization_config")
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


def drop_new_options(file: Path) -> None:
    """Rewrites a .keras file without unset options that Keras 3.13 does not know, to open there."""
    with zipfile.ZipFile(file) as archive:
        contents = {info: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(file, "w") as archive:
        for info, content in contents.items():
            if info.filename == "config.json":
                content = json.dumps(without(json.loads(content))).encode()
            archive.writestr(info, content)


def without(config: object) -> object:
    """Returns a configuration without the options of NEW that are None."""
    if isinstance(config, dict):
        kept = {k: v for k, v in config.items() if not (k in NEW and v is None)}
        return {key: without(value) for key, value in kept.items()}
    return [without(part) for part in config] if isinstance(config, list) else config


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
    drop_new_options(file)
    print("saved:", file)


if __name__ == "__main__":
    main()
