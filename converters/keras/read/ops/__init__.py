"""Reads calls of `keras.ops`, of backends and of TensorFlow into specs; `call` first."""
