"""Mistakes in layers: options, activations, attention, layers left out or in another order."""
