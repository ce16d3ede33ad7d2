"""Models of Keras with operations between layers, as people write them, and their inputs."""

import keras
import numpy as np

L = keras.layers


def numbers(*shape, seed=0):
    return (1.5 * np.random.default_rng(seed).standard_normal((4, *shape))).astype("float32")


def words():
    return np.array([[1, 2, 0, 0, 0], [3, 0, 4, 5, 0], [6, 1, 2, 3, 4], [0, 0, 0, 0, 2]], "int32")


def masked_mean():
    """The mean of what counts, and scores of what does not far below all others."""
    a, ops = keras.Input((5,), dtype="int32"), keras.ops
    x = L.LSTM(3, return_sequences=True)(L.Embedding(7, 4)(a))
    keep = ops.cast(ops.not_equal(a, 0), "float32")
    mean = ops.sum(x * keep[..., None], axis=1) / ops.clip(
        ops.sum(keep, axis=1, keepdims=True), 1.0, 1e9
    )
    scores = ops.where(ops.equal(a, 0), -1e9, ops.squeeze(L.Dense(1)(x), -1))
    pooled = ops.matmul(ops.expand_dims(ops.softmax(scores), 1), x)
    return keras.Model(a, [mean, pooled]), [words()]


def own_masks():
    """Masks that operations compute."""
    a, ops = keras.Input((5, 3)), keras.ops
    one = ops.any(ops.not_equal(a, 0), axis=-1)
    two = ops.logical_and(one, ops.greater(a[..., 0], -1.0))
    three = ops.less(ops.sum(a, axis=-1), 2.0)
    outputs = [L.LSTM(3)(a, mask=mask) for mask in (one, two, three)]
    outputs.append(L.Bidirectional(L.GRU(2))(a, mask=ops.logical_not(three)))
    x = numbers(5, 3)
    x[0, 3:] = x[2, 0] = 0
    return keras.Model(a, outputs), [x]


def parts():
    """Joined, parted and repeated."""
    a, b, ops = keras.Input((5, 4)), keras.Input((5, 4)), keras.ops
    halves, thirds = ops.split(a, 2, axis=-1), ops.split(b, [1, 3], axis=2)
    steps = ops.unstack(a, axis=1)
    found = [ops.stack([a, b], axis=1), ops.stack([a, b], axis=-1), halves[1] * halves[0]]
    found += [thirds[1], thirds[2] + steps[3][:, None, :1], ops.stack(steps[::-1], axis=1)]
    found += [ops.tile(a, [1, 2, 1]), ops.repeat(b, 3, axis=1), ops.take(a, [3, 0, 3], axis=1)]
    found += [ops.take(a, 1, axis=2), ops.roll(a, 2, axis=1), ops.roll(b, -1, axis=-1)]
    found += [ops.pad(a, [[0, 0], [1, 2], [0, 0]]), ops.pad(b, [[0, 0], [0, 0], [2, 1]])]
    return keras.Model([a, b], found), [numbers(5, 4), numbers(5, 4, seed=1)]


def statistics():
    """Sums so far, places and spreads."""
    a, b, ops = keras.Input((5, 4)), keras.Input((5, 4)), keras.ops
    found = [ops.cumsum(a, axis=1), ops.var(a, axis=-1), ops.std(b, axis=[1, 2], keepdims=True)]
    found += [ops.norm(a, axis=-1), ops.norm(b, ord=1, axis=1, keepdims=True), a / (1 + b * b)]
    found += [ops.one_hot(ops.argmax(a, axis=-1), 4), ops.prod(a, axis=1), ops.sign(a)]
    found += [ops.cast(ops.argmin(b, axis=1, keepdims=True), "float32") * 2, ops.floor(a)]
    found += [ops.round(b), ops.ceil(a), ops.cast(ops.cast(b, "int32"), "float32")]
    found += [ops.maximum(a, -0.5), ops.minimum(a, 0.5), ops.rsqrt(1 + a * a), ops.log1p(a * a)]
    found += [ops.where(a > b, a, 0.0), ops.where(ops.greater_equal(a, 0), 1.0, -2.0)]
    found += [ops.zeros_like(a) + b, ops.ones_like(b) - a]
    return keras.Model([a, b], found), [numbers(5, 4), numbers(5, 4, seed=1)]


def constants():
    """Positions and scales that are arrays."""
    a, ops = keras.Input((5, 4)), keras.ops
    position = np.sin(np.arange(20).reshape(1, 5, 4) / 3).astype("float32")
    found = [L.LSTM(3)(a + position), a * np.arange(4), ops.arange(5)[:, None] - a]
    found += [
        ops.divide(np.float32([1, 2, 4, 8]), 2 + abs(a)),
        ops.greater(a, np.float32([0, 1, -1, 2])),
    ]
    found += [ops.maximum(a, np.float32([[0], [1], [2], [-1], [-2]]))]
    return keras.Model(a, found), [numbers(5, 4)]


OPERATION_MODELS = {
    "operations-masked_mean": masked_mean,
    "operations-masks": own_masks,
    "operations-parts": parts,
    "operations-statistics": statistics,
    "operations-constants": constants,
}
