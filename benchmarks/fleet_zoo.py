"""Makes a zoo: many files of 20 architectures, each with weights of its own.

Eight architectures are genuine files of Keras 2 (tests/data), twelve are built once by Keras 3.
Each file is a copy of its template, in which the bytes of every tensor are replaced: nothing is
built again, so a thousand files take seconds.

    files = make_zoo(Path("zoo"), 2000)
"""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"

KERAS_2 = (
    *("k224/gru.h5", "k224/lstm.h5", "k224/lstm_sig.h5", "k212/bicudnn.h5", "k212/cudnn_twin.h5"),
    *("mask_k212/bi_seq.h5", "tfk221/gru_none.h5", "tfk221/stack_mask.h5"),
)
"""Files that genuine versions of Keras 2 have written."""

WEIGHTS = "model.weights.h5"
"""Member of a `.keras` file with the weights."""


def _keras_3() -> dict[str, Callable[[], Any]]:
    """File name of each architecture that Keras 3 builds -> the function that builds it."""
    import keras
    from keras import layers as k

    def chain(shape: tuple[int | None, ...], *parts: Any) -> Any:
        return keras.Sequential([keras.Input(shape), *parts])

    def two_inputs() -> Any:
        a, b = keras.Input((16, 3), name="a"), keras.Input((16, 2), name="b")
        joined = k.Concatenate()([k.LSTM(8)(a), k.GRU(8)(b)])
        return keras.Model([a, b], k.Dense(2, "tanh")(joined))

    def encoder() -> Any:
        x = keras.Input((None, 4))
        y, h, c = k.LSTM(12, return_state=True)(x)
        again = k.LSTM(12)(k.RepeatVector(6)(y), initial_state=[h, c])
        return keras.Model(x, k.Dense(3)(again))

    words = (keras.Input((None,), dtype="int32"), k.Embedding(50, 8, mask_zero=True))
    return {
        "lstm.keras": lambda: chain((24, 3), k.LSTM(16), k.Dense(1)),
        "gru.keras": lambda: chain((24, 3), k.GRU(16), k.Dense(1)),
        "gru_before.keras": lambda: chain((None, 4), k.GRU(12, reset_after=False), k.Dense(2)),
        "bidirectional.keras": lambda: chain((20, 4), k.Bidirectional(k.LSTM(10)), k.Dense(2)),
        "stacked.keras": lambda: chain(
            (None, 5), k.LSTM(16, return_sequences=True), k.Dropout(0.2), k.LSTM(8), k.Dense(1)
        ),
        "masked.keras": lambda: chain((None, 3), k.Masking(0.0), k.LSTM(12), k.Dense(2)),
        "words.keras": lambda: keras.Sequential([*words, k.LSTM(12), k.Dense(1, "sigmoid")]),
        "convolution.keras": lambda: chain(
            (32, 4), k.Conv1D(8, 3, activation="relu"), k.MaxPooling1D(2), k.LSTM(8), k.Dense(1)
        ),
        "two_inputs.keras": two_inputs,
        "encoder.h5": encoder,
        "every_step.h5": lambda: chain(
            (None, 3), k.Bidirectional(k.GRU(8, return_sequences=True)), k.Dense(2)
        ),
        "normalized.h5": lambda: chain(
            (20, 4), k.LSTM(12, return_sequences=True), k.BatchNormalization(), k.GRU(8), k.Dense(1)
        ),
    }


class Template(NamedTuple):
    """A file whose numbers are replaced.

    Attributes:
        suffix: of its name.
        members: other members of a zip, by name; empty for HDF5.
        data: bytes of the HDF5 file with the weights.
        places: offset and numbers of each tensor in them.
    """

    suffix: str
    members: dict[str, bytes]
    data: bytes
    places: list[tuple[int, Any]]

    def copy(self, path: Path, rng: np.random.Generator) -> None:
        """Writes a file with other numbers of the same scale; biases are not zero."""
        data = bytearray(self.data)
        for offset, old in self.places:
            new = old * np.exp(0.1 * rng.standard_normal(old.shape))
            if not (old > 0).all():  # a variance stays above zero
                new = new + 0.05 * rng.standard_normal(old.shape)
            new = np.ascontiguousarray(new, old.dtype)
            data[offset : offset + new.nbytes] = new.tobytes()
        if not self.members:
            path.write_bytes(data)
            return
        with zipfile.ZipFile(path, "w") as file:
            for name, content in {**self.members, WEIGHTS: bytes(data)}.items():
                file.writestr(name, content)


def _template(data: bytes, suffix: str, members: dict[str, bytes]) -> Template:
    import h5py

    places = []
    with h5py.File(io.BytesIO(data), "r") as file:

        def visit(name: str, item: Any) -> None:
            numbers = isinstance(item, h5py.Dataset) and item.dtype.kind == "f"
            if numbers and not name.startswith("optimizer"):
                places.append((item.id.get_offset(), np.asarray(item)))

        file.visititems(visit)
    return Template(suffix, members, data, places)


def keras_2_templates() -> Iterator[tuple[str, Template]]:
    """Yields the name of each genuine file of Keras 2, and its template."""
    for file in KERAS_2:
        name = file.removesuffix(".h5").replace("/", "_")
        yield name, _template((DATA / file).read_bytes(), ".h5", {})


def keras_3_templates(work: Path) -> Iterator[tuple[str, Template]]:
    """Yields the name of each architecture of Keras 3, and its template.

    Args:
        work: folder for the files that Keras writes.
    """
    import keras

    for number, (file, build) in enumerate(_keras_3().items()):
        keras.utils.set_random_seed(number)
        keras.backend.clear_session()
        path = work / file
        build().save(path)
        if path.suffix == ".h5":
            yield path.stem, _template(path.read_bytes(), ".h5", {})
            continue
        with zipfile.ZipFile(path) as found:
            members = {name: found.read(name) for name in found.namelist()}
        yield path.stem, _template(members.pop(WEIGHTS), ".keras", members)


def make_zoo(folder: Path, count: int, seed: int = 0, most: int = 20) -> list[Path]:
    """Writes `count` files into `folder`, the architectures in turn; returns their paths.

    Args:
        folder: a new folder.
        count: number of files.
        seed: of the weights.
        most: number of architectures, at most 20, those of Keras 3 first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        every = [*keras_2_templates(), *keras_3_templates(Path(work))][-most:]
    rng, files = np.random.default_rng(seed), []
    for number in range(count):
        name, template = every[number % len(every)]
        path = folder / f"{name}_{number:05}{template.suffix}"
        template.copy(path, rng)
        files.append(path)
    return files
