"""Models of a user's own class: read where the graph is all they compute, refused where not."""

import keras
import pytest
from refusing import refused
from trained_keras import check_ported, drawn, trained

import xlstm
from xlstm.errors import UnsupportedError

L = keras.layers


class Trains(keras.Model):
    def train_step(self, data):
        return {}


class Configured(keras.Model):
    """What its graph does not use: an option, a variable and a layer."""

    def __init__(self, inputs, outputs, extra=1, **options):
        super().__init__(inputs, outputs, **options)
        self.extra, self.more = extra, L.Dense(3)
        self.more.build((None, 3))
        self.scale = self.add_weight(shape=(3,), name="scale")

    def get_config(self):
        return {"extra": self.extra}


class Chain(keras.Sequential):
    def get_config(self):
        return {}


class Doubles(keras.Model):
    def call(self, x):
        return super().call(x) * 2


class LSTM(L.LSTM):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        return super().call(sequences) * 2


def ends():
    x = keras.Input((5, 3))
    return x, L.Dense(3, name="d")(L.LSTM(4, return_sequences=True, name="l")(x))


def nested(n):
    x = keras.Input((5, 3))
    y = n(x)
    steps = L.TimeDistributed(Chain([keras.Input((3,)), L.Dense(2)]))(y)
    return keras.Model(x, [y, n(y), steps])


def deep():
    x = keras.Input((5, 3))
    return nested(Configured(x, Trains(*ends())(x)))


MODELS = {
    "trains": lambda: Trains(*ends()),
    "configured": lambda: Configured(*ends()),
    "sequential": lambda: Chain([keras.Input((5, 3)), L.LSTM(3)]),
    "nested": lambda: nested(Trains(*ends())),
    "nested deep": deep,
}


@pytest.mark.parametrize("name", MODELS)
def test_a_graph_that_is_all_a_model_computes(name):
    model = trained(MODELS[name]())
    check_ported(model, model, drawn(model))
    notes = " ".join(xlstm.load(model).source.notes)
    assert ("scale" in notes) == (name in ("configured", "nested deep"))


def test_against_the_original_in_float64():
    xlstm.reconcile(trained(deep()), ["keras"]).check()


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("end", ["keras", "h5"])
def test_files_do_not_say_what_a_class_computes(end, tmp_path):
    path = tmp_path / f"model.{end}"
    Trains(*ends()).save(path)
    words = ("a class of your own", "custom_objects", "live model")
    refused(UnsupportedError, lambda: xlstm.load(path), "Trains", *words)
    live = keras.models.load_model(path, custom_objects={"Trains": Trains})
    assert xlstm.load(live).outputs


def test_a_call_of_the_users_own_is_refused(tmp_path):
    model = Doubles(*ends())
    error = refused(UnsupportedError, lambda: xlstm.load(model), "call()", 'get_layer("l")')
    assert "InputLayer" not in str(error)
    inner = nested(model)
    refused(UnsupportedError, lambda: xlstm.load(inner), "Doubles (doubles")


def test_a_class_of_the_main_program_that_is_named_as_one_of_keras(tmp_path, monkeypatch):
    monkeypatch.setattr(LSTM, "__module__", "__main__")
    x = keras.Input((5, 3))
    model = keras.Model(x, LSTM(4, name="l")(x))
    model.save(tmp_path / "model.keras")
    for source in (model, tmp_path / "model.keras"):
        refused(UnsupportedError, lambda source=source: xlstm.load(source), "LSTM (l)")
