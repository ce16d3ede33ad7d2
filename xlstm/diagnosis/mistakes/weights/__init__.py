"""Mistakes in tensors: gates in another order, biases, transposed or reordered numbers."""
