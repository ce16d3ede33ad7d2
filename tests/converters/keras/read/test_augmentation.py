"""Layers of Keras that alter images in training: nothing in use, options in ports to Keras."""

import numpy as np
import pytest
from paths import DATA

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.ir.layers import Activation, Augmentation, Crop
from xlstm.ir.layers.elementwise import AUGMENTATIONS

X = (np.random.default_rng(4).normal(size=(2, 5, 6, 3)) * 300).astype("float32")

ARGUMENTS = {
    "RandomCrop": {"height": 5, "width": 6},
    "RandomFlip": {"mode": "horizontal", "seed": 3},
    "RandomRotation": {"factor": (-0.1, 0.3), "fill_mode": "constant", "fill_value": 0.5},
    "RandomZoom": {"height_factor": 0.2, "width_factor": (0.1, 0.3), "interpolation": "nearest"},
    "RandomTranslation": {"height_factor": 0.1, "width_factor": (-0.1, 0.2)},
    "RandomShear": {"x_factor": 0.1, "y_factor": 0.2},
    "RandomColorJitter": {"value_range": (0, 255), "brightness_factor": 0.1, "hue_factor": 0.2},
    "RandomPosterization": {"factor": 4},
    "RandomGaussianBlur": {"factor": 0.5},
    **{key: {"factor": 0.2} for key in ("RandomBrightness", "RandomContrast", "RandomHue")},
    **{key: {"factor": 0.3} for key in ("RandomSaturation", "RandomSharpness")},
    "RandomColorDegeneration": {"factor": 0.3},
}
"""Class -> arguments of its constructor, where it needs some or has some worth a look."""


def model_of(layer, *more, shape=(5, 6, 3)):
    import keras

    return keras.Sequential([keras.Input(shape), layer, *more])


def made(name, **more):
    import keras

    return getattr(keras.layers, name)(**{**ARGUMENTS.get(name, {}), **more})


def options_of(layer):
    """What a layer says of itself, but for what has no meaning."""
    found = {k: v for k, v in layer.get_config().items() if k not in ("name", "seed", "dtype")}
    return {k: list(v) if isinstance(v, (list, tuple)) else v for k, v in found.items()}


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_every_layer_is_the_identity_in_use(name, tmp_path):
    layer = made(name)
    model = model_of(layer)
    # model(X) would be training: these layers say training=True where nobody says otherwise
    np.testing.assert_array_equal(np.asarray(model(X, training=False)), X)
    model.save(tmp_path / "model.keras")
    read = xlstm.load(tmp_path / "model.keras")
    assert [type(node.spec) for node in read.layers] == [Augmentation]
    assert any(f"{name} acts in training only" in note for note in read.source.notes)
    live = xlstm.load(model)
    assert live.nodes == read.nodes
    np.testing.assert_array_equal(xlstm.port(live, "numpy")(X), X)
    again = xlstm.port(live, "keras").layers[-1]
    assert type(again) is type(layer)
    assert options_of(again) == options_of(layer)


def test_every_random_layer_of_keras_is_known():
    import keras

    random = {name for name in dir(keras.layers) if name.startswith("Random")}
    assert random - {"RandomFourierFeatures"} <= {*AUGMENTATIONS}


@pytest.mark.parametrize("framework", ["keras", "torch", "nnx", "linen"])
def test_ports_leave_images_alone(framework):
    import keras

    first = {"data_format": "channels_first"}
    model = model_of(
        made("RandomFlip", **first), keras.layers.Conv2D(2, 2, **first), shape=(3, 5, 6)
    )
    live = xlstm.load(model)
    (spec, *_) = [node.spec for node in live.layers]
    assert "data_format='channels_first'" in spec.options  # its axes are those of the file
    xlstm.reconcile(live, [framework]).check()


def test_a_crop_that_is_more_than_nothing_is_refused():
    """Keras 3.15 leaves larger images as they are, and says that they are smaller."""
    layer = made("RandomCrop", height=3)
    model = model_of(layer)
    assert np.asarray(model(X, training=False)).shape == X.shape
    with pytest.raises(UnsupportedError, match=r"images of the size \(3, 6\)"):
        xlstm.load(model)


def test_layers_that_keras_3_has_not():
    """A file of tf_keras 2.21, with RandomHeight and RandomWidth."""
    kept = np.load(DATA / "tfk221" / "augmented.npz")
    model = xlstm.load(DATA / "tfk221" / "augmented.h5")
    kinds = [type(node.spec) for node in model.layers]
    assert (kinds.count(Augmentation), kinds.count(Activation)) == (7, 2)
    assert Crop not in kinds
    got = xlstm.port(model, "numpy", dtype="float64")(kept["x"])
    np.testing.assert_allclose(got, kept["y"], rtol=1e-5, atol=0)
    assert xlstm.port(model, "keras").layers[-1].name.startswith("global_average")


BAD = {
    "layer": ("RandomEverything", ()),
    "name": ("RandomFlip", ("open=1",)),
    "code": ("RandomFlip", ("mode=print(1)",)),
    "call": ("RandomFlip", ("mode='a', x=print(1)",)),
    "word": ("RandomFlip", ("mode='somewhere'",)),
    "spaces": ("RandomFlip", ("mode= 'vertical'",)),
    "number": ("RandomFlip", ("factor=1e999",)),
    "bytes": ("RandomFlip", ("mode=b'vertical'",)),
    "nested": ("RandomFlip", ("factor=((1, 2), 3)",)),
    "deep": ("RandomFlip", ("factor=" + "(" * 70,)),
    "long": ("RandomFlip", ("factor=" + "1" * 90,)),
    "no text": ("RandomFlip", (3,)),
}


@pytest.mark.parametrize("case", BAD)
def test_options_that_are_no_plain_ones_are_refused(case):
    with pytest.raises(xlstm.errors.XlstmError, match="Augmentation"):
        Augmentation(*BAD[case])
