"""What Keras calls activations in each era, and the layers that stand for some."""

import numpy as np
import pytest
from xlstm.converters.keras.activations import FROM_KERAS, NAMES, REFUSED, stock_form

from xlstm.ir.activation_names import ACTIVATIONS


def test_names_of_keras_3():
    import keras
    from keras.src.activations import ALL_OBJECTS_DICT

    read = FROM_KERAS[3]
    assert {*read, *REFUSED} == set(ALL_OBJECTS_DICT)
    for written, name in read.items():
        known = NAMES[name]
        assert keras.activations.get(written) is keras.activations.get(known)


ERAS = {
    (1, "hard_sigmoid"): "hard_sigmoid_keras2",
    (2, "hard_sigmoid"): "hard_sigmoid_keras2",
    (3, "hard_sigmoid"): "hard_sigmoid",
    (1, "swish"): None,
    (2, "swish"): "silu",
    (3, "swish"): "silu",
    (1, "gelu"): None,
    (2, "gelu"): "gelu",
    (2, "leaky_relu"): "leaky_relu",
    (2, "hard_silu"): None,
    (3, "hard_swish"): "hard_silu",
    (2, "softmax_v2"): "softmax",
    (3, "softmax_v2"): None,
}


@pytest.mark.parametrize(("era", "written"), ERAS)
def test_names_of_an_era(era, written):
    assert FROM_KERAS[era].get(written) == ERAS[era, written]


def test_every_era_reads_activations_that_exist():
    for names in FROM_KERAS.values():
        assert set(names.values()) <= set(ACTIVATIONS)


RELU = {"class_name": "ReLU", "config": {"name": "a", "max_value": 6, "threshold": 0.0}}
GRAPH = {"input_layers": ["a", 0, 0], "output_layers": [["a", 0, 0]], "layers": []}
OTHERS = {
    "slope": {"class_name": "LeakyReLU", "config": {"negative_slope": 0.3}},
    "unknown-option": {"class_name": "ReLU", "config": {"max_value": 6.0, "new": 1}},
    "custom": {**RELU, "registered_name": "my>ReLU"},
    "custom-module": {**RELU, "module": "my_layers"},
    "custom-inside": {
        "class_name": "Sequential",
        "config": {"layers": [{**RELU, "module": "my_layers"}]},
    },
    "layer": {"class_name": "Dense", "config": {"units": 3}},
    "nested": {
        "class_name": "Sequential",
        "config": {"layers": [{"class_name": "Sequential", "config": {"layers": [RELU]}}]},
    },
    "many": {"class_name": "Sequential", "config": {"layers": [RELU] * 9}},
    "empty-graph": {"class_name": "Functional", "config": GRAPH},
    "two-outputs": {
        "class_name": "Functional",
        "config": {**GRAPH, "output_layers": [["a", 0, 0], ["a", 0, 0]]},
    },
    "no-output": {"class_name": "Functional", "config": {**GRAPH, "output_layers": []}},
    "name-of-a-formula": {"class_name": "LeakyReLU[negative_slope=0.2]", "config": {}},
    "option-of-a-formula": {
        "class_name": "Sequential",
        "config": [
            {"class_name": "Rescaling", "config": {"offset=0.5, scale": 0.2}},
            {"class_name": "ReLU", "config": {"max_value": 1.0}},
        ],
    },
    "no-config": {"class_name": "ReLU"},
    "list": {"class_name": "ReLU", "config": {"max_value": [6.0]}},
    "text": {"class_name": "Sequential", "config": "layers"},
    "nothing": {},
}


def test_layers_as_activations():
    assert stock_form(RELU) == "relu6"
    rounded = {"class_name": "LeakyReLU", "config": {"alpha": float(np.float32(0.01))}}
    assert stock_form(rounded) == "leaky_relu_01"
    for sequential in ([RELU], {"layers": [RELU]}):
        config = {"class_name": "Sequential", "config": sequential}
        assert stock_form(config) == "relu6"


@pytest.mark.parametrize("config", OTHERS.values(), ids=OTHERS)
def test_other_layers_are_no_activations(config):
    assert stock_form(config) == ""
