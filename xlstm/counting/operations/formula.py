"""The registry of formulas: spec of a layer -> the operations of one call of it.

Rules of counting, for all layers:

- a multiply-add of a product of matrices or of a convolution counts one, and zeros of padding count
  as any number;
- an addition, a multiplication, a comparison, a select, a maximum, a clip count one a number;
- a function that is not made of these, such as tanh, counts one call a number, by its name;
- work on weights alone is left out, as it does not grow with the data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from xlstm.counting.operations.polynomial import ZERO, Polynomial, Sizes, product
from xlstm.ir import layers as L

OPERATIONS = L.LayerFunctions()
"""Layer -> its formula: (spec, call) to an `OperationCount`."""


@dataclass(frozen=True)
class OperationCount:
    """The operations of one call of a layer, for a whole batch of whole sequences.

    Attributes:
        products: multiply-adds of matrix products and convolutions.
        elementwise: additions, multiplications, comparisons and the like.
        calls: name of a transcendental function -> the numbers that it is computed of.
        bias: prefix of a recurrent part's tensors -> how often each of its biases' numbers is
            added. The number of them is the framework's; `elementwise` has those of other layers.
    """

    products: Polynomial = ZERO
    elementwise: Polynomial = ZERO
    calls: Mapping[str, Polynomial] = field(default_factory=dict)
    bias: Mapping[str, Polynomial] = field(default_factory=dict)

    def __add__(self, other: OperationCount) -> OperationCount:
        return OperationCount(
            self.products + other.products,
            self.elementwise + other.elementwise,
            _sums(self.calls, other.calls),
            _sums(self.bias, other.bias),
        )


def _sums(
    first: Mapping[str, Polynomial], second: Mapping[str, Polynomial]
) -> dict[str, Polynomial]:
    return {name: first.get(name, ZERO) + second.get(name, ZERO) for name in {**first, **second}}


@dataclass(frozen=True)
class ShapedCall:
    """One call of a layer.

    Attributes:
        inputs: sizes of every input, the batch first.
        outputs: sizes of every output, the batch first.
        mask: True if it is called with a mask.
    """

    inputs: tuple[Sizes, ...]
    outputs: tuple[Sizes, ...]
    mask: bool = False

    @property
    def x(self) -> Polynomial:
        """Numbers of the first input."""
        return product(self.inputs[0])

    @property
    def y(self) -> Polynomial:
        """Numbers of the first output."""
        return product(self.outputs[0])


def elementwise(count: Polynomial) -> OperationCount:
    """So many elementwise operations and nothing else."""
    return OperationCount(elementwise=count)


def called(name: str, count: Polynomial) -> OperationCount:
    """So many calls of a function and nothing else."""
    return OperationCount(calls={name: count})


def sum_over(x: Polynomial, y: Polynomial) -> OperationCount:
    """Additions, or comparisons, of a reduction of x numbers to y."""
    return elementwise(x - y)
