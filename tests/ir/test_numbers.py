"""Numbers in specs: finite ones go through a ported folder as they are, others are refused."""

import contextlib
import dataclasses
import json
import math
import typing

import keras
import pytest
import yaml
from make_files import make
from refusing import refused
from test_injection import RICHEST
from test_weights_alone import BARE, LSTM, config_of

import xlstm
from xlstm.errors import FileError, UsageError, XlstmError
from xlstm.ir.layers import Masking, Where
from xlstm.ir.serialize import spec_from_json, spec_to_json

FLOATS = [float, float | None, tuple[float, ...]]
FIELDS = [
    (kind, name)
    for kind, spec in sorted(RICHEST.items())
    for name, hint in typing.get_type_hints(type(spec)).items()
    if hint in FLOATS
]
"""Every field of every spec that holds numbers."""

ODD = [math.nan, math.inf, -math.inf]
ENDS = [0.1, -0.0, 1 / 3, 5e-324, 1.7e308, -1e300, 3, -(10**300), 10**400, True]


def changed(kind, name, number):
    spec = RICHEST[kind]
    if kind == "Where":  # one case at least is an input
        spec = Where()
    now = getattr(spec, name)
    return dataclasses.replace(spec, **{name: (number, *now[1:]) if type(now) is tuple else number})


def test_the_fields_are_found():
    assert {("Masking", "value"), ("Relu", "top"), ("Constant", "values")} <= {*FIELDS}
    assert len(FIELDS) > 20


@pytest.mark.parametrize("number", ODD)
@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_what_is_no_finite_number_is_refused_by_name(kind, name, number):
    refused(UsageError, lambda: changed(kind, name, number), f"{kind}.{name}", str(number))


@pytest.mark.parametrize(("kind", "name"), FIELDS)
def test_a_number_goes_through_json_as_it_is(kind, name):
    taken = 0
    for number in ENDS:
        with contextlib.suppress(XlstmError):
            spec = changed(kind, name, number)
            text = json.dumps(spec_to_json(spec), allow_nan=False)
            assert repr(spec_from_json(json.loads(text), "file")) == repr(spec)  # -0.0 included
            taken += 1
    assert taken


@pytest.mark.parametrize("number", [1e39, -1e300, 10**300])
def test_masks_that_are_infinite_in_float32(number):
    refused(UsageError, lambda: Masking(number), "Masking.value", "float32")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # JSON has no such number, and YAML is read as JSON
        (".nan", ["architecture.yaml", ".nan"]),
        (".inf", ["architecture.yaml", ".inf"]),
        ("-.inf", ["architecture.yaml", "-.inf"]),
        ("1.0e+300", ["layer mask", "Masking.value"]),
    ],
)
def test_an_architecture_with_such_a_mask(text, words, tmp_path):
    data = {**config_of(LSTM), "keras_version": "2.2.4", "backend": "tensorflow"}
    masking = {"class_name": "Masking", "config": {"name": "mask", "mask_value": "MASK"}}
    layers = data["config"]["layers"]
    masking["config"]["batch_input_shape"] = layers[0]["config"]["batch_input_shape"]
    layers.insert(0, masking)
    path = tmp_path / "architecture.yaml"
    path.write_text(yaml.safe_dump(data).replace("MASK", text))
    refused(FileError, lambda: xlstm.load(BARE, architecture=path), *words)


@pytest.mark.parametrize("kind", ["keras", "h5"])
def test_such_a_number_in_json(kind, tmp_path):
    path = make(kind, tmp_path, config=lambda c: c["config"].update(note=math.nan))
    refused(FileError, lambda: xlstm.load(path), "NaN")


def test_a_live_model_with_such_a_mask():
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, keras.layers.Masking(math.nan)(inputs))
    with pytest.raises(XlstmError, match=r"masking.*nan"):
        xlstm.load(model)
