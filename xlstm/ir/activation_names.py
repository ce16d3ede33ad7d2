"""Names of the activations that layers may have.

Their formulas are in `xlstm.reference.activations`.
"""

from __future__ import annotations

ACTIVATIONS: tuple[str, ...] = (
    "linear",
    "tanh",
    "sigmoid",
    "relu",
    "softmax",
    "hard_sigmoid",
    "hard_sigmoid_keras2",
    "elu",
    "selu",
    "celu",
    "softplus",
    "softsign",
    "silu",
    "gelu",
    "gelu_tanh",
    "mish",
    "exponential",
    "leaky_relu",
    "leaky_relu_01",
    "relu6",
    "hard_tanh",
    "hard_silu",
    "log_sigmoid",
    "log_softmax",
    "tanh_shrink",
    "soft_shrink",
    "hard_shrink",
    "squareplus",
    "sparse_plus",
    "sparse_sigmoid",
)
"""Canonical activations: one name for one function, with every parameter fixed.

    hard_sigmoid         clip(x/6 + 1/2, 0, 1): Keras 3, PyTorch, JAX
    hard_sigmoid_keras2  clip(x/5 + 1/2, 0, 1): "hard_sigmoid" in files of Keras 1 and 2
    silu                 x sigmoid(x), which files also call "swish"
    hard_silu            x hard_sigmoid(x), also "hard_swish"
    gelu                 x times the normal distribution function, by erf: Keras, PyTorch
    gelu_tanh            its approximation by tanh: the default of JAX
    leaky_relu           slope 0.2 below zero: Keras's activation of that name (its layer has 0.3)
    leaky_relu_01        slope 0.01 below zero: the default of PyTorch and JAX
    elu, celu            alpha 1, where both are the same function
    soft_shrink          lambda 1/2, as hard_shrink
    squareplus           (x + sqrt(x^2 + 4)) / 2
    softmax, log_softmax over the last axis; all others are elementwise

Left out: `glu`, which halves its input's last axis; `threshold`, which has no defaults; and
`sparsemax`. Keras up to 3.15 computes another function under that name (its results do not sum to
1), and a file does not show if it was trained with that function or with the later one.
"""
