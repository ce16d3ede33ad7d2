"""Properties of the slot engine, ports, counts and diagnoses, for models that hypothesis draws."""

import dataclasses
import tempfile

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

import xlstm
from xlstm.errors import UnsupportedError
from xlstm.frameworks import registry
from xlstm.frameworks.model_tensors import pack_model, unpack_model
from xlstm.ir.graph import Builder, Model
from xlstm.ir.layers import Input
from xlstm.ir.source import Source
from xlstm.reference import run
from xlstm.slots import pack, shape, unpack
from xlstm.testing import assert_parity, strategies
from xlstm.testing.trained_weights import trained_weights


def examples(number):
    """The same examples in every run, as many as take some seconds, and no deadline for one."""
    return settings(derandomize=True, deadline=None, max_examples=number, database=None)


FRAMEWORKS = registry.frameworks()


def tables_of(framework):
    """Every table of a framework, with its name."""
    return st.sampled_from(sorted(registry.adapter(framework).tables.items()))


AXES = st.fixed_dictionaries(dict.fromkeys("ihjoabcmvqeknd", st.integers(1, 3)))
"""Sizes of all axes that a kind may have."""


def numbered(shapes, first=0):
    """Arrays of these shapes; element number k of all of them is k + 1."""
    found = {}
    for name, size in shapes.items():
        count = int(np.prod(size))
        found[name] = np.arange(first + 1, first + count + 1, dtype=np.float64).reshape(size)
        first += count
    return found


def canonical_shapes(table, sizes):
    """Canonical tensor -> its shape, of those that a table has slots for."""
    axes = {**table.kind.axis_sizes(sizes), "s": table.bias_sides}
    used = {slot.tensor for slot in table.slots}
    return {n: [axes[a] for a in letters] for n, letters in table.kind.tensors.items() if n in used}


def numbers(arrays):
    """All numbers of some arrays, sorted."""
    return np.sort(np.concatenate([np.ravel(array) for array in arrays.values()]))


@pytest.mark.parametrize("framework", FRAMEWORKS)
@examples(40)
@given(data=st.data(), sizes=AXES)
def test_packing_and_unpacking_use_every_number_once(framework, data, sizes):
    _, table = data.draw(tables_of(framework))
    shapes = canonical_shapes(table, sizes)
    absent = frozenset(table.kind.tensors) - frozenset(shapes)
    slots = {slot.name: shape(slot, table.kind, sizes) for slot in table.present_slots(absent)}
    # every slot is filled, and read, by numbers of its own
    source = numbered(slots)
    canonical = unpack(table, source, sizes, absent)
    read = numbers(canonical)
    np.testing.assert_array_equal(read[read > 0], numbers(source))
    # and back: nothing is lost, doubled, or in another place
    np.testing.assert_equal(pack(table, canonical, sizes, absent), source)


@pytest.mark.parametrize("framework", FRAMEWORKS)
@examples(25)
@given(model=strategies.models())
def test_tensors_of_a_framework_are_read_back_bit_for_bit(framework, model):
    adapter = registry.adapter(framework)
    try:
        packed = pack_model(model, adapter)
    except UnsupportedError:
        reject()
    back = dataclasses.replace(model, weights=unpack_model(model, adapter, packed))
    np.testing.assert_equal(pack_model(back, adapter), packed)
    assert_parity(model, back)


def test_a_table_with_two_gates_exchanged_is_found():
    spec = strategies.L.LSTM(2, 3)
    table = registry.table("torch.LSTM")
    slots = tuple(
        dataclasses.replace(slot, gates="igfo") if slot.gates else slot for slot in table.slots
    )
    wrong = dataclasses.replace(table, slots=slots)
    drawn = trained_weights(spec, np.random.default_rng(0))
    back = unpack(wrong, pack(table, drawn, spec.sizes()), spec.sizes())
    assert not np.array_equal(back["kernel"], drawn["kernel"])


@examples(8)
@given(model=strategies.models(), framework=st.sampled_from(FRAMEWORKS))
def test_saved_ports_are_the_model(model, framework):
    with tempfile.TemporaryDirectory() as folder:
        try:
            xlstm.save(model, f"{folder}/port", framework)
        except UnsupportedError:
            reject()
        assert_parity(model, f"{folder}/port")
        ported, own = (xlstm.count(one, [framework]) for one in (f"{folder}/port", model))
        assert ported.total(framework) == own.total(framework)


@pytest.mark.parametrize(("framework", "number"), [("torch", 20), ("keras", 4), ("nnx", 4)])
def test_ports_compute_the_model_and_have_its_number_of_parameters(framework, number):
    adapter = registry.adapter(framework)

    @examples(number)
    @given(model=strategies.models(most_layers=3))
    def check(model):
        try:
            ported = xlstm.port(model, framework)
        except UnsupportedError:
            reject()
        assert_parity(model, ported)
        own = adapter.live().count(ported)
        assert own == xlstm.count(model, [framework]).total(framework)

    check()


@examples(40)
@given(model=strategies.models())
def test_a_model_has_no_finding_against_itself(model):
    found = xlstm.diagnose(model, model)
    assert found.ok, str(found)
    assert (found.findings, found.notes, found.tried) == ((), (), 0)


@examples(20)
@given(data=st.data())
def test_a_tensor_with_the_other_sign_is_found_where_it_acts(data):
    model = data.draw(strategies.models(most_layers=2))
    owners = [name for name in model.weights if not name.startswith("batchnorm")]
    if not owners:
        reject()
    layer = data.draw(st.sampled_from(owners))
    tensor = data.draw(st.sampled_from(sorted(model.weights[layer])))
    changed = {**model.weights[layer], tensor: -model.weights[layer][tensor]}
    other = dataclasses.replace(model, weights={**model.weights, layer: changed})
    inputs = data.draw(strategies.inputs(model))
    acts = not np.allclose(run(model, inputs)[0], run(other, inputs)[0], atol=1e-3)
    if acts:
        with pytest.raises(AssertionError, match=r"^Different: ") as raised:
            assert_parity(model, other, inputs=inputs, effort=0)
        assert raised.value.result.ratio > 1


@examples(40)
@given(data=st.data(), spec=strategies.recurrent_specs(features=2), mask=strategies.masks(3, 5))
def test_numbers_at_masked_steps_have_no_effect(data, spec, mask):
    graph = Builder()
    x, keep = graph.add("x", Input((None, 2))), graph.add("keep", Input((None,), "bool"))
    y = graph.add("layer", spec, [x], mask=keep)
    weights = {"layer": data.draw(strategies.weights(spec))}
    model = Model("masked", graph.nodes, ("x", "keep"), (y,), weights, Source("drawn"))
    (values, _) = data.draw(strategies.inputs(model, st.just(3)))
    values = np.resize(values, (3, 5, 2))
    other = np.where(mask[..., None], values, values + 7)
    one, two = (run(model, [x, mask])[0] for x in (values, other))
    np.testing.assert_array_equal(one, two)
