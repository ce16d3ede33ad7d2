"""Stacked runs of several models give the inputs and bounds of each one alone."""

from dataclasses import replace

import numpy as np
import pytest
from cases import model

from xlstm.ir.layers import GRU, LSTM, Activation, Bidirectional, Dense, Masking
from xlstm.verification import inputs as generated
from xlstm.verification.bounds import EPS, bounds_in, bounds_of_each
from xlstm.verification.inputs import Recipe, best_of, best_of_each
from xlstm.verification.reconcile import decidable_inputs, decidable_inputs_of_each

UNITS = {dtype: EPS[dtype] for dtype in ("float32", "float64", "bfloat16")}

CHAINS = {
    "relu": [LSTM(3, 5, "relu", "hard_sigmoid", return_sequences=True), Activation("relu")],
    "masked": [Masking(0.0), Bidirectional(LSTM(3, 4), LSTM(3, 4, go_backwards=True))],
    "two": [GRU(3, 5, return_sequences=True, reset_after=True), LSTM(5, 4), Dense(4, 2)],
}


def several(kind):
    """Models of one graph with other weights; activations of some are hardly reached."""
    return [model(CHAINS[kind], (None, 3), gain=gain, seed=n) for n, gain in enumerate((1, 0.1, 9))]


@pytest.mark.parametrize("kind", CHAINS)
@pytest.mark.parametrize("room", [None, 1], ids=["together", "no-room"])
def test_inputs_and_bounds(kind, room):
    models = several(kind)
    found = best_of_each(models, Recipe(), room=room)
    allowed = bounds_of_each(models, [arrays for arrays, _, _ in found], UNITS, room)
    for one, (arrays, left, made), mine in zip(models, found, allowed, strict=True):
        own, own_left, own_made = best_of(one, Recipe())
        assert (left, made) == (own_left, own_made)
        for a, b in zip(arrays, own, strict=True):
            np.testing.assert_array_equal(a, b)
        wanted = bounds_in(one, own, UNITS)
        for dtype, every in wanted.items():
            for a, b in zip(mine[dtype], every, strict=True):
                np.testing.assert_allclose(a.y, b.y, rtol=1e-12)
                np.testing.assert_allclose(a.step, b.step, rtol=1e-6)
                np.testing.assert_array_equal(a.sharp, b.sharp)


def test_models_of_one_recipe_share_their_inputs():
    models = several("two")
    found = best_of_each([*models, models[0]], Recipe())
    assert found[0][0][0] is found[3][0][0]


def test_names_of_layers_may_differ():
    models = several("relu")[:2]
    other = models[1]
    names = {node.name: f"{node.name}_7" for node in other.nodes}

    def edge(one):
        return one._replace(node=names[one.node])

    nodes = tuple(
        replace(n, name=names[n.name], inputs=tuple(map(edge, n.inputs))) for n in other.nodes
    )
    renamed = replace(
        other,
        nodes=nodes,
        inputs=tuple(names[name] for name in other.inputs),
        outputs=tuple(map(edge, other.outputs)),
        weights={names[name]: own for name, own in other.weights.items()},
    )
    small = Recipe(scale=1e-3)
    (_, first, _), (_, lines, _) = best_of_each([models[0], renamed], small, (1.0,))
    assert lines == best_of(renamed, small, (1.0,))[1]
    assert lines
    assert all("_7" in line for line in lines)
    assert not any("_7" in line for line in first)


def test_draws_are_those_of_a_model_alone_without_room_for_them():
    models = several("two")
    arrays = generated.make(models[0])
    wanted = [bounds_in(one, arrays, UNITS)["float64"][0].step for one in models]
    for room in (600, 1200, 2400):  # for none, some and all of the random numbers
        found = bounds_of_each(models, [arrays] * 3, UNITS, room)
        for mine, step in zip(found, wanted, strict=True):
            np.testing.assert_allclose(mine["float64"][0].step, step, rtol=1e-6)


def test_each_gets_as_many_steps_as_can_be_decided():
    models = several("masked")
    found = decidable_inputs_of_each(models, Recipe(), ("float32", "float64"), 2**25)
    for one, ((arrays, left, made), _) in zip(models, found, strict=True):
        (own, own_left, own_made), _ = decidable_inputs(
            one, Recipe(), ("float32", "float64"), 2**25
        )
        assert (left, made) == (own_left, own_made)
        assert [a.shape for a in arrays] == [a.shape for a in own]
