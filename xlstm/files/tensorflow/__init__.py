"""TensorFlow's SavedModel folders and checkpoints, read without TensorFlow.

In: a folder. Out: variables by name, and Keras's own metadata. Read `saved_model` first, then
`checkpoint` (the tables of a TensorBundle) and `protobuf`.
"""
