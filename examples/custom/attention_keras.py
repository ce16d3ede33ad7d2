"""Attention with context, as it stands in many Keras models: the class that a file names."""

import keras


@keras.saving.register_keras_serializable(package="examples")
class AttentionWithContext(keras.layers.Layer):
    """Weighs the steps of a sequence by what they say: (batch, time, n) -> (batch, n)."""

    def build(self, input_shape):
        """Makes the weights."""
        n = input_shape[-1]
        start = keras.initializers.RandomNormal(stddev=0.5)
        self.W = self.add_weight(name="W", shape=(n, n), initializer=start)
        self.b = self.add_weight(name="b", shape=(n,), initializer="zeros")
        self.u = self.add_weight(name="u", shape=(n,), initializer=start)

    def call(self, x):
        """The weighted mean of the steps."""
        says = keras.ops.tanh(keras.ops.matmul(x, self.W) + self.b)
        weights = keras.ops.softmax(keras.ops.sum(says * self.u, axis=-1), axis=-1)
        return keras.ops.sum(weights[..., None] * x, axis=1)

    def compute_output_shape(self, input_shape):
        """One step for all."""
        return (input_shape[0], input_shape[-1])
