"""Arrays that count the operations that numpy does with them.

In: a model and the length of its sequences. Out: the operations of a run of the float64 reference,
counted where they happen. No formula is used here.
"""

from __future__ import annotations

import math
from collections import Counter
from types import SimpleNamespace

import numpy as np

from xlstm.ir.graph import row_numbers
from xlstm.reference import activations, convolution, elementwise, merge, recurrent
from xlstm.reference.run import run

ARITHMETIC = set(
    "add subtract multiply divide absolute negative maximum minimum clip square power reciprocal "
    "greater greater_equal less less_equal equal not_equal sign floor ceil rint trunc".split()
)
"""numpy's functions of a few instructions: one elementwise operation. Any other is a call."""

ON_MASKS = {"logical_and", "logical_or", "bitwise_and", "bitwise_or", "isfinite"}
"""Functions of truth values, which are not counted."""

IDLE = {np.add: 0, np.multiply: 1}
"""Function -> the number that it does nothing with: a bias or a scale that a layer lacks."""


class Tally:
    """The operations so far."""

    def __init__(self):
        self.products = self.elementwise = 0
        self.calls = Counter()

    def ufunc(self, ufunc, method, x, found, axis):
        """Counts one call of a ufunc, of which x is the first argument."""
        if ufunc is np.matmul:
            self.products += found.size * x.shape[-1]
        elif method == "reduce":
            self.elementwise += x.size - np.size(found)
        elif method == "accumulate":
            self.elementwise += x.size - x.size // x.shape[axis]
        elif ufunc.__name__ in ARITHMETIC:
            self.elementwise += found.size
        elif ufunc.__name__ not in ON_MASKS:
            self.calls[ufunc.__name__] += found.size


class CountedArray(np.ndarray):
    """An array with the tally that counts.

    Attributes:
        tally: the one that counts.
        weight: True for what is made of weights alone.
        blank: True for zeros that the reference made and for views of them.
    """

    tally = None
    weight = blank = False

    def __array_finalize__(self, obj):
        self.tally, self.weight = getattr(obj, "tally", None), getattr(obj, "weight", False)
        self.blank = getattr(obj, "blank", False)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        if out is not None:
            options["out"] = tuple(map(plain, out))
        found = getattr(ufunc, method)(*map(plain, inputs), **options)
        weight = all(getattr(x, "weight", not isinstance(x, np.ndarray)) for x in inputs)
        adds_nothing = any(_is_idle(ufunc, x) for x in inputs)
        # numbers are added in place where a product is summed up: its multiply-adds have that
        if not weight and not adds_nothing and (out is None or ufunc is not np.add):
            self.tally.ufunc(ufunc, method, plain(inputs[0]), found, options.get("axis"))
        return counted(found, self.tally, weight) if isinstance(found, np.ndarray) else found

    def __array_function__(self, func, types, args, kwargs):
        if func is np.where:
            found = np.where(*map(plain, args))
            one = not any(np.asarray(args[0]).strides)  # one answer for all: nothing is masked
            self.tally.elementwise += 0 if one else found.size
            return counted(found, self.tally)
        if func in (np.dot, np.tensordot, np.einsum):
            arrays = [plain(x) for x in args]
            found = func(*arrays, **kwargs)
            self.tally.products += _terms(func, arrays, found)
            return counted(found, self.tally)
        if func is np.pad:
            return counted(np.pad(plain(args[0]), *args[1:], **kwargs), self.tally)
        found = super().__array_function__(func, types, args, kwargs)
        return counted(found, self.tally) if type(found) is np.ndarray else found


def _is_idle(ufunc, x):
    """True if an argument changes nothing: a number, or zeros in the place of a tensor.

    Zeros that were filled since are none. Zeros of a weight or of a result count as work.
    """
    idle = IDLE.get(ufunc)
    if np.isscalar(x):
        return x == idle
    return idle == 0 and getattr(x, "blank", False) and not plain(x).any()


def _terms(func, args, found):
    """Multiply-adds of a product: each number of it is a sum of so many."""
    if func is np.einsum:
        letters, _, _kept = args[0].partition("->")
        terms = letters.split(",")
        sizes = {
            c: n
            for t, x in zip(terms, args[1:], strict=True)
            for c, n in zip(t, x.shape, strict=True)
        }
        return math.prod(sizes.values())
    if func is np.dot:
        return found.size * args[0].shape[-1]
    axes = args[2] if len(args) > 2 else 2
    first = (
        args[0].shape[args[0].ndim - axes :] if isinstance(axes, int) else [args[0].shape[axes[0]]]
    )
    return found.size * math.prod(first)


def plain(x):
    """The same numbers, which nobody counts."""
    return x.view(np.ndarray) if isinstance(x, CountedArray) else x


def counted(x, tally, weight=False):
    """The same numbers, counted from now on."""
    view = np.asarray(x).view(CountedArray)
    view.tally, view.weight, view.blank = tally, weight, False
    return view


def _zeros(tally):
    """numpy's function of this name; its arrays are counted, and blank until they are filled."""

    def zeros(*args, **options):
        found = counted(np.zeros(*args, **options), tally)
        found.blank = True
        return found

    return zeros


def _one_clip(clip):
    """The reference's clip, a maximum and a minimum: one operation a number by the formulas' rule.

    The rule is in `xlstm.counting.operations.formula`, and numpy.clip does the same in one call.
    """

    def one_clip(x, low, high):
        own = Tally()
        found = clip(counted(plain(x), own), low, high)
        assert (own.elementwise, own.products, own.calls) == (2 * x.size, 0, {})
        x.tally.elementwise += x.size
        return counted(plain(found), x.tally)

    return one_clip


def _whole(tally, function, name):
    """An activation that counts as one call a number if it calls any function of numpy's."""

    def activation(x):
        own = Tally()
        found = function(counted(plain(x), own))
        assert not own.products
        if own.calls:
            tally.calls[name] += x.size
        else:
            tally.elementwise += own.elementwise
        return counted(plain(found), tally)

    return activation


def counted_activation(name, size, monkeypatch):
    """The tally of an activation of so many numbers, by the reference's formula."""
    tally, names = Tally(), {**vars(np), "asarray": np.asanyarray}
    monkeypatch.setattr(activations, "np", SimpleNamespace(**names))
    monkeypatch.setattr(activations, "_clip", _one_clip(activations._clip))
    _whole(tally, activations.FUNCTIONS[name], name)(counted(np.linspace(-2, 2, size), tally))
    return tally


def counted_run(model, inputs, monkeypatch):
    """The tally of a run of the reference; inputs that are masks are not counted."""
    tally = Tally()

    def empty(*args, **options):
        return counted(np.empty(*args, **options), tally)

    # arrays that the reference makes and fills are counted like those that it computes
    names = {**vars(np), "zeros": _zeros(tally), "empty": empty}
    for module in (recurrent, convolution):
        monkeypatch.setattr(module, "np", SimpleNamespace(**names))
    monkeypatch.setattr(activations, "_clip", _one_clip(activations._clip))
    for name, function in [*activations.FUNCTIONS.items()]:
        monkeypatch.setitem(activations.FUNCTIONS, name, _whole(tally, function, name))
    softmax = _whole(tally, activations.softmax, "softmax")
    monkeypatch.setattr(merge, "softmax", softmax)
    monkeypatch.setattr(elementwise, "softmax_last", softmax)
    forward = run.__globals__["forward"]

    def counted_outputs(*args):  # rows of a table are no weights, but what a layer computes
        return [y if y.dtype == bool else counted(plain(y), tally) for y in forward(*args)]

    monkeypatch.setitem(run.__globals__, "forward", counted_outputs)
    weights = {
        owner: {name: counted(array, tally, weight=True) for name, array in own.items()}
        for owner, own in model.weights.items()
    }
    found = type(model)(
        model.name, model.nodes, model.inputs, model.outputs, weights, model.source, keys=model.keys
    )
    fixed = row_numbers(model)  # an Embedding's arithmetic of rows is no arithmetic of the layer
    pairs = zip(model.inputs, inputs, strict=True)
    arrays = [x if x.dtype == bool or name in fixed else counted(x, tally) for name, x in pairs]
    run(found, arrays)
    return tally
