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


def products():
    """Sums of products, by name and by letters."""
    a, b, heads, v = (keras.Input(shape) for shape in ((5, 4), (3, 4), (2, 5, 4), (4,)))
    ops, x = keras.ops, np.float32([[1, 2], [-1, 3], [0, 1], [2, 0]])
    scores = ops.softmax(ops.einsum("bqd,bkd->bqk", a, b) / 2.0)
    found = [ops.einsum("bqk,bkd->bqd", scores, b), ops.einsum("...ij,...kj->...ki", heads, heads)]
    found += [ops.einsum("bhij,bij->bih", heads, a), ops.einsum("bhij->bji", heads)]
    found += [ops.einsum("btd,dk->btk", a, x), ops.einsum("bij,bkj,bj->bki", a, b, v)]
    found += [heads @ ops.swapaxes(heads, -1, -2), heads[:, :1] @ ops.swapaxes(heads, 2, 3), a @ x]
    found += [ops.matmul(x.T, ops.swapaxes(a, 1, 2)), v @ x, ops.dot(heads, x), ops.dot(a, x[:, 0])]
    found += [ops.cumprod(a, axis=1)]
    inputs = [numbers(*shape, seed=n) for n, shape in enumerate(((5, 4), (3, 4), (2, 5, 4), (4,)))]
    return keras.Model([a, b, heads, v], found), inputs


def over_samples():
    """Numbers of the whole batch, which every sample of it is combined with."""
    a, v, ops = keras.Input((5, 4)), keras.Input((4,)), keras.ops
    spread = (a - ops.mean(a, axis=0, keepdims=True)) / (1 + ops.std(a, axis=(0, 1)))
    found = [spread, a / ops.max(ops.abs(a)), ops.where(a > ops.mean(a), a, 0.0)]
    found += [v - ops.mean(v, axis=0), v * ops.sqrt(ops.sum(a * a, axis=[0, 1]) + 1.0)]
    found += [v + ops.cast(ops.any(v > 1.0), "float32"), v * ops.min(a, axis=[0, 1])]
    return keras.Model([a, v], found), [numbers(5, 4), numbers(4, seed=1)]


def held():
    """Constants as parts, choices and states; padding."""
    a, v, ops = keras.Input((5, 4)), keras.Input((4,)), keras.ops
    before, lower = np.repeat(np.float32([[[0.5, -1, 2, 0]]]), 4, 0), np.tril(np.ones((5, 4), bool))
    found = [ops.concatenate([before, a], axis=1), ops.stack([v, before[:, 0]], axis=1)]
    found += [ops.where(a > 0, a, np.float32([1, 2, 3, 4])), ops.where(lower, a, -1e9)]
    found += [ops.where(ops.logical_or(a > 1, lower), a, -1.0)]
    found += [ops.pad(a, [[0, 0], [1, 2], [0, 0]], mode="reflect")]
    found += [ops.pad(a, [[0, 0], [5, 0], [1, 2]], mode="symmetric")]
    found += [ops.pad(a, [[0, 0], [1, 0], [0, 2]], constant_values=-2.5)]
    found += [L.LSTM(3)(a, initial_state=[before[:1, 0, :3], L.Dense(3)(v)])]
    both = L.Bidirectional(L.GRU(3))
    found += [both(a, initial_state=[before[:1, 0, :3], ops.ones((1, 3))])]
    return keras.Model([a, v], found), [numbers(5, 4), numbers(4, seed=1)]


OPERATION_MODELS = {
    "operations-masked_mean": masked_mean,
    "operations-masks": own_masks,
    "operations-parts": parts,
    "operations-statistics": statistics,
    "operations-constants": constants,
    "operations-products": products,
    "operations-over_samples": over_samples,
    "operations-held": held,
}
